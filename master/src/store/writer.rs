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

/// Batches that may wait for the writer; whoever brings more waits itself.
const QUEUE_LEN: usize = 4;

enum Request {
    Apply { batch: Box<Batch>, answer: oneshot::Sender<Result<Applied, StoreError>> },
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
        let work = Work { database, options, committed, failure };
        std::thread::Builder::new().name("store-writer".to_owned()).spawn(move || work.run(queue))?;
        Ok(Self { requests })
    }

    /// Has a batch applied; `None` where the writer is gone.
    pub(crate) async fn apply(&self, batch: Batch) -> Option<Result<Applied, StoreError>> {
        let (answer, applied) = oneshot::channel();
        self.requests.send(Request::Apply { batch: Box::new(batch), answer }).await.ok()?;
        applied.await.ok()
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
}

impl Work {
    fn run(self, mut queue: mpsc::Receiver<Request>) {
        while let Some(request) = queue.blocking_recv() {
            match request {
                Request::Apply { batch, answer } => {
                    // Nobody waiting for the answer changes nothing: the batch is applied all the same.
                    let _ = answer.send(self.apply(*batch));
                }
                Request::Stop { answer } => {
                    drop(self);
                    let _ = answer.send(());
                    return;
                }
            }
        }
    }

    fn apply(&self, batch: Batch) -> Result<Applied, StoreError> {
        if let Some(reason) = self.failure.get() {
            return Err(StoreError::WriterFailed(reason.clone()));
        }
        let through = batch.through;
        // A transaction that unwinds is dropped, which aborts it; nothing half-done is kept in this thread.
        let result = catch_unwind(AssertUnwindSafe(|| apply::apply(&self.database, &self.options, batch)));
        let reason = match result {
            Ok(Ok(applied)) => {
                self.committed.send_replace(applied.changes_after);
                return Ok(applied);
            }
            Ok(Err(error)) if is_refusal(&error) => return Err(error),
            Ok(Err(error)) => error.to_string(),
            Err(panic) => format!("panicked: {}", panic_text(panic.as_ref())),
        };
        tracing::error!(stream.seq = through, reason, "the store's writer stopped; nothing more is applied");
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
