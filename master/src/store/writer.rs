//! The one thread that writes. Batches reach it through a short queue and are answered after their commit, so
//! an answer means "on disk". What fails in it fails every later batch by name; it never dies in silence.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};

use redb::Database;
use tokio::sync::{mpsc, oneshot, watch};

use super::StoreOptions;
use super::apply;
use super::batch::{Applied, Batch};
use super::error::StoreError;
use super::standing::{self, Edit};
use super::sweep::Sweeps;

/// Batches that may wait for the writer; whoever brings more waits itself.
const QUEUE_LEN: usize = 4;

enum Request {
    Apply { batch: Box<Batch>, answer: oneshot::Sender<Result<Applied, StoreError>> },
    Edit { edits: Vec<Edit>, answer: oneshot::Sender<Result<(), StoreError>> },
    Stop { answer: oneshot::Sender<()> },
}

/// The writer's end that others hold.
pub(crate) struct Writer {
    requests: mpsc::Sender<Request>,
}

impl Writer {
    pub(crate) fn start(
        database: Arc<Database>,
        options: StoreOptions,
        committed: watch::Sender<u64>,
        failure: Arc<OnceLock<String>>,
    ) -> std::io::Result<Self> {
        let (requests, queue) = mpsc::channel(QUEUE_LEN);
        let work = Work { database, options, committed, failure, sweeps: Sweeps::default() };
        std::thread::Builder::new().name("store-writer".to_owned()).spawn(move || work.run(queue))?;
        Ok(Self { requests })
    }

    /// Has a batch applied; `None` where the writer is gone.
    pub(crate) async fn apply(&self, batch: Batch) -> Option<Result<Applied, StoreError>> {
        let (answer, applied) = oneshot::channel();
        self.requests.send(Request::Apply { batch: Box::new(batch), answer }).await.ok()?;
        applied.await.ok()
    }

    /// Has something noted; `None` where the writer is gone.
    pub(crate) async fn edit(&self, edits: Vec<Edit>) -> Option<Result<(), StoreError>> {
        let (answer, edited) = oneshot::channel();
        self.requests.send(Request::Edit { edits, answer }).await.ok()?;
        edited.await.ok()
    }

    /// Ends the writer after the batches that wait already.
    pub(crate) async fn stop(&self) {
        let (answer, stopped) = oneshot::channel();
        if self.requests.send(Request::Stop { answer }).await.is_ok() {
            // An error means that the thread is gone, which is what was wanted.
            let _ = stopped.await;
        }
    }
}

struct Work {
    database: Arc<Database>,
    options: StoreOptions,
    committed: watch::Sender<u64>,
    failure: Arc<OnceLock<String>>,
    sweeps: Sweeps,
}

impl Work {
    fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        // What fails is kept as the writer's failure, which every request is answered with.
        if let Ok(left) = self.guarded("sweep", |work| Sweeps::left(&work.database)) {
            self.sweeps = left;
        }
        while let Some(request) = self.next(&mut queue) {
            match request {
                Request::Apply { batch, answer } => {
                    // Nobody waiting for the answer changes nothing: the batch is applied all the same.
                    let _ = answer.send(self.apply(*batch));
                }
                Request::Edit { edits, answer } => {
                    let _ = answer.send(self.edit(&edits));
                }
                Request::Stop { answer } => {
                    drop(self);
                    let _ = answer.send(());
                    return;
                }
            }
        }
    }

    /// The next request; while there is none, what was erased is deleted, and one step of that after each request: a
    /// busy stream does not put it off.
    fn next(&mut self, queue: &mut mpsc::Receiver<Request>) -> Option<Request> {
        loop {
            if self.sweeps.is_empty() || self.failure.get().is_some() {
                return queue.blocking_recv();
            }
            let rows = self.options.erase_step_rows.max(1);
            if let Ok(Some(newest)) = self.guarded("erase", |work| work.sweeps.step(&work.database, rows)) {
                self.committed.send_replace(newest);
            }
            match queue.try_recv() {
                Ok(request) => return Some(request),
                Err(mpsc::error::TryRecvError::Empty) => {}
                Err(mpsc::error::TryRecvError::Disconnected) => return None,
            }
        }
    }

    fn edit(&mut self, edits: &[Edit]) -> Result<(), StoreError> {
        let newest = self.guarded("edit", |work| {
            let newest = standing::edit(&work.database, edits)?;
            let persons = edits.iter().filter_map(|edit| match edit {
                Edit::Person(account, _) => Some(account),
                Edit::Standing(..) | Edit::Purged(..) => None,
            });
            work.sweeps.refresh(&work.database, &persons.collect::<Vec<_>>())?;
            Ok(newest)
        })?;
        self.committed.send_replace(newest);
        Ok(())
    }

    fn apply(&mut self, batch: Batch) -> Result<Applied, StoreError> {
        let applied = self.guarded("apply", |work| {
            let (applied, pending) = apply::apply(&work.database, &work.options, batch)?;
            if !pending.is_empty() {
                work.sweeps.refresh(&work.database, &pending.iter().collect::<Vec<_>>())?;
            }
            Ok(applied)
        })?;
        self.committed.send_replace(applied.changes_after);
        Ok(applied)
    }

    /// Does `work`, unless something failed before; what fails in it is the writer's failure from then on.
    fn guarded<T>(
        &mut self,
        what: &'static str,
        work: impl FnOnce(&mut Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if let Some(reason) = self.failure.get() {
            return Err(StoreError::WriterFailed(reason.clone()));
        }
        // A transaction that unwinds is dropped, which aborts it; nothing is done in this thread after that.
        let result = catch_unwind(AssertUnwindSafe(|| work(self)));
        let reason = match result {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(error)) if is_refusal(&error) => return Err(error),
            Ok(Err(error)) => error.to_string(),
            Err(panic) => format!("panicked: {}", panic_text(panic.as_ref())),
        };
        tracing::error!(what, reason, "the store's writer stopped; nothing more is applied");
        Err(StoreError::WriterFailed(self.failure.get_or_init(|| reason).clone()))
    }
}

/// Whether the batch was at fault and the store is as it was.
fn is_refusal(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::OutOfOrder { .. } | StoreError::UnknownIncarnation { .. } | StoreError::BadBatch(_)
    )
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given")
}
