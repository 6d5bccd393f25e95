//! The durable store: one redb file with the records, the change log and the stream position, which change
//! together or not at all. The position in it is the only truth about what has been taken from the stream.
//!
//! Writing goes through one thread (`writer`), reading through snapshots of the file ([`Query`]) that never
//! wait for it. The store knows neither the broker nor HTTP: `ingest` only writes to it, `api` only reads.

mod apply;
mod batch;
mod changes;
mod codec;
mod error;
mod merge;
mod open;
mod persons;
pub mod query;
mod rows;
mod standing;
mod sweep;
mod tables;
mod threads;
mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use redb::{Database, ReadableDatabase};
use tokio::sync::{Semaphore, watch};

pub use batch::{
    Applied, AppliedDelivery, AppliedSnapshot, Batch, Delivery, DeliveryOutcome, Incoming, KindCounts,
};
pub use error::StoreError;
pub use query::Query;
pub use rows::{
    AccountRow, ChangeBounds, ChangeRow, DeadLetterRow, FeedId, Operation, PAGE_ROWS_MAX, Page, PageCursor,
    Position, PurgeRow, RecordQuery, RecordRow, ThreadKind, ThreadRow, Totals,
};
pub use standing::{Edit, ErasedMark, Standing};

/// Reads that may run at once; more wait their turn.
const READERS_MAX: usize = 32;
/// How long closing waits for readers.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// What an operator may set about the store.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// The most changes that the log keeps, in rows.
    pub changes_max: u64,
    /// The oldest change that the log keeps.
    pub changes_age_max: Duration,
    /// Memory for pages of the file, in bytes.
    pub cache_bytes: usize,
    /// Rows that one transaction looks through for what was erased, at most; batches are applied in between.
    pub erase_step_rows: usize,
}

impl Default for StoreOptions {
    /// 10 million changes or 30 days, 256 MiB of pages, and steps of 5,000 rows.
    fn default() -> Self {
        Self {
            changes_max: 10_000_000,
            changes_age_max: Duration::from_secs(30 * 24 * 3600),
            cache_bytes: 256 * 1024 * 1024,
            erase_step_rows: 5_000,
        }
    }
}

/// The open store. Clones share it.
#[derive(Clone)]
pub struct DataStore {
    shared: Arc<Shared>,
}

struct Shared {
    database: Mutex<Option<Arc<Database>>>,
    writer: writer::Writer,
    failure: Arc<OnceLock<String>>,
    commits: watch::Receiver<u64>,
    readers: Arc<Semaphore>,
}

impl DataStore {
    /// Opens the store at `path`, or creates it, and starts its writer.
    ///
    /// # Errors
    /// [`StoreError`] naming the path and the remedy, where the file is locked, not ours, newer than this
    /// build, or not to be opened. A file of somebody else is left as it was.
    pub fn open(path: &Path, options: StoreOptions) -> Result<Self, StoreError> {
        let database = Arc::new(open::open(path, options.cache_bytes)?);
        let newest = Query::new(database.begin_read()?).totals()?.changes;
        let (committed, commits) = watch::channel(newest);
        let failure = Arc::new(OnceLock::new());
        let writer = writer::Writer::start(database.clone(), options, committed, failure.clone())
            .map_err(|error| StoreError::Open { path: path.to_owned(), reason: error.to_string() })?;
        let readers = Arc::new(Semaphore::new(READERS_MAX));
        let database = Mutex::new(Some(database));
        Ok(Self { shared: Arc::new(Shared { database, writer, failure, commits, readers }) })
    }

    /// Applies a batch in one durable transaction, and returns when it is on disk.
    ///
    /// # Errors
    /// [`StoreError::OutOfOrder`] or [`StoreError::UnknownIncarnation`] where the batch does not start at the
    /// stored position: nothing was written. [`StoreError::WriterFailed`] after a failure of the file, from
    /// then on for every batch.
    pub async fn apply(&self, batch: Batch) -> Result<Applied, StoreError> {
        match self.shared.writer.apply(batch).await {
            Some(result) => result,
            None => Err(self.gone()),
        }
    }

    /// Notes how accounts stand, which persons are erased, and what was purged, all in one durable transaction; returns
    /// when that is on disk. What is known already costs no write. Rows that are to go are deleted after it, in steps, a
    /// restart notwithstanding: [`Query::is_erased`] and [`Query::is_person_erased`] say when all are gone, and
    /// [`DataStore::commits`] tells of each step.
    ///
    /// # Errors
    /// [`StoreError::WriterFailed`] after a failure of the file; [`StoreError::Closed`].
    pub async fn edit(&self, edits: Vec<Edit>) -> Result<(), StoreError> {
        match self.shared.writer.edit(edits).await {
            Some(result) => result,
            None => Err(self.gone()),
        }
    }

    /// Runs `read` beside the async threads, on one unchanging view of the store.
    ///
    /// # Errors
    /// What `read` returns; [`StoreError::Closed`] after [`DataStore::close`].
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Query) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = self.shared.readers.clone().acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let database = self.database().ok_or(StoreError::Closed)?;
        let task = tokio::task::spawn_blocking(move || {
            let result = read(&Query::new(database.begin_read()?));
            drop(database);
            drop(permit);
            result
        });
        task.await.map_err(|error| StoreError::Database(format!("a read ended early: {error}")))?
    }

    /// The number of the newest committed change. It is set anew after each commit, also where the commit
    /// brought no change, and closes when the writer ends.
    #[must_use]
    pub fn commits(&self) -> watch::Receiver<u64> {
        self.shared.commits.clone()
    }

    /// Why the writer stopped for good, if it did.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.shared.failure.get().cloned()
    }

    /// Finishes the batch at hand, ends the writer and closes the file. Other clones answer
    /// [`StoreError::Closed`] from then on.
    pub async fn close(self) {
        self.shared.writer.stop().await;
        let database = self.shared.database.lock().unwrap_or_else(PoisonError::into_inner).take();
        // All permits back means that no reader is left to hold the file open.
        let permits = u32::try_from(READERS_MAX).unwrap_or(u32::MAX);
        let readers = tokio::time::timeout(CLOSE_WAIT, self.shared.readers.acquire_many(permits)).await;
        self.shared.readers.close();
        if readers.is_err() {
            tracing::warn!("store closes while it is still being read");
        }
        let Some(database) = database.and_then(Arc::into_inner) else { return };
        let closed = tokio::task::spawn_blocking(move || database.close()).await;
        if let Ok(Err(error)) = closed {
            tracing::error!(%error, "closing the store's file failed");
        }
    }

    fn database(&self) -> Option<Arc<Database>> {
        self.shared.database.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn gone(&self) -> StoreError {
        match self.failure() {
            Some(reason) => StoreError::WriterFailed(reason),
            None => StoreError::Closed,
        }
    }
}
