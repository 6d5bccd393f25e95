//! The master's half of the line up to the store: deliver, decode, apply. It reads the stream on from the
//! store's position, which is the only truth, and may only write to the store.
//!
//! Nothing is acked, refused or terminated: the consumer keeps no state that matters and is made anew from the
//! position after every reconnect, gap or error. While one batch commits, the next is decoded and the one
//! after that fetched.

mod consumer;
mod decode;
mod state;
mod watch;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use snapfleet_broker::Broker;
use snapfleet_protocol::{SnapshotKind, UnixMs};
use tokio::sync::{mpsc, watch as channel};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::store::{Applied, Batch, DataStore, DeliveryOutcome, StoreError};

use consumer::Reading;
use decode::Decoded;

pub use state::{IngestState, IngestStatus};

/// The shortest and the longest pause before reading starts anew.
const RETRY_PAUSE_MIN: Duration = Duration::from_millis(50);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(2);
/// How long opening a consumer may take.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Decoded batches that wait while one is being applied.
const QUEUE_LEN: usize = 1;

/// What one batch may hold.
#[derive(Debug, Clone, Copy)]
pub struct IngestLimits {
    /// The most messages.
    pub batch_messages: usize,
    /// The bytes of messages, as they travel, at which a batch is full.
    pub batch_bytes: usize,
}

impl Default for IngestLimits {
    /// 256 messages or 8 MiB.
    fn default() -> Self {
        Self { batch_messages: 256, batch_bytes: 8 * 1024 * 1024 }
    }
}

/// Why reading stopped.
enum End {
    Shutdown,
    /// The connection was lost and is back.
    Reconnected,
    /// Something that leaves in doubt what came; read on from the position.
    Doubt(String),
    /// The store cannot go on.
    Store(StoreError),
}

/// Reads the stream into the store until `shutdown`; the batches at hand are finished first.
///
/// # Errors
/// [`StoreError`] where the store cannot go on: the process should end, and say so. Whatever the broker does
/// is no error: it is logged, shown in `state`, and tried again.
pub async fn run(
    store: DataStore,
    broker: Broker,
    limits: IngestLimits,
    shutdown: CancellationToken,
    state: Arc<IngestState>,
) -> Result<(), StoreError> {
    let stop = shutdown.child_token();
    let ingest = Ingest { store, broker, limits, shutdown: stop.clone(), state };
    let reading = async {
        let result = ingest.read_on().await;
        stop.cancel();
        result
    };
    let (result, ()) = tokio::join!(reading, watch::run(&ingest.broker, &ingest.store, &ingest.state, &stop));
    result
}

struct Ingest {
    store: DataStore,
    broker: Broker,
    limits: IngestLimits,
    shutdown: CancellationToken,
    state: Arc<IngestState>,
}

impl Ingest {
    /// Reads, and starts again from the position whenever reading ends.
    async fn read_on(&self) -> Result<(), StoreError> {
        let mut connections = self.broker.connections();
        let mut pause = RETRY_PAUSE_MIN;
        let mut logged = String::new();
        loop {
            connections.borrow_and_update();
            let (end, progress) = self.read(&mut connections).await;
            self.state.update(|status| status.reading = false);
            if progress {
                pause = RETRY_PAUSE_MIN;
                logged.clear();
            }
            let reason = match end {
                End::Shutdown => return Ok(()),
                End::Reconnected => {
                    tracing::info!("connection is back; reading on from the store's position");
                    self.state.update(|status| status.restarts += 1);
                    pause = RETRY_PAUSE_MIN;
                    continue;
                }
                End::Store(error) => {
                    tracing::error!(%error, "ingest ends because the store cannot go on");
                    self.state.update(|status| status.problem = Some(error.to_string()));
                    return Err(error);
                }
                End::Doubt(reason) => reason,
            };
            // The same fault again and again is told once, and shown until it is over.
            if reason != logged {
                tracing::warn!(reason, retry_ms = pause.as_millis() as u64, "reading the stream starts anew");
                logged.clone_from(&reason);
            }
            self.state.update(|status| {
                status.restarts += 1;
                status.last_error = Some((now(), reason.clone()));
                status.problem = Some(reason);
            });
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(RETRY_PAUSE_MAX),
                Ok(()) = connections.changed() => pause = RETRY_PAUSE_MIN,
                () = self.shutdown.cancelled() => return Ok(()),
            }
        }
    }

    /// One consumer's life, and whether anything was applied in it.
    async fn read(&self, connections: &mut channel::Receiver<u64>) -> (End, bool) {
        let position = match self.store.read(|query| query.totals()).await {
            Ok(totals) => totals.position,
            Err(error) => return (End::Store(error), false),
        };
        let open = tokio::time::timeout(OPEN_TIMEOUT, Reading::open(&self.broker, position));
        let opened = tokio::select! {
            biased;
            () = self.shutdown.cancelled() => return (End::Shutdown, false),
            end = reconnected(connections) => return (end, false),
            opened = open => opened,
        };
        let reading = match opened {
            Ok(Ok(reading)) => reading,
            Ok(Err(reason)) => return (End::Doubt(reason), false),
            Err(_) => return (End::Doubt("the broker does not answer".to_owned()), false),
        };
        self.state.update(|status| (status.reading, status.problem) = (true, None));
        let (incarnation, after) = (reading.incarnation(), reading.after());
        let (queue, decoded) = mpsc::channel(QUEUE_LEN);
        let mut progress = false;
        let fetching = self.fetch(reading, queue, connections);
        let applying = self.apply_all(decoded, incarnation, after, &mut progress);
        // When one side ends, the other does: the queue between them closes.
        let (fetched, applied) = tokio::join!(fetching, applying);
        (applied.err().unwrap_or(fetched), progress)
    }

    /// Fetches batches and has them decoded, until something ends it.
    async fn fetch(
        &self,
        mut reading: Reading,
        queue: mpsc::Sender<JoinHandle<Decoded>>,
        connections: &mut channel::Receiver<u64>,
    ) -> End {
        loop {
            let batch = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return End::Shutdown,
                () = queue.closed() => return End::Doubt("applying stopped".to_owned()),
                end = reconnected(connections) => return end,
                batch = reading.next_batch(self.limits) => batch,
            };
            let batch = match batch {
                Ok(batch) => batch,
                Err(reason) => return End::Doubt(reason),
            };
            let decoding = tokio::task::spawn_blocking(move || decode::decode(batch));
            if queue.send(decoding).await.is_err() {
                return End::Doubt("applying stopped".to_owned());
            }
        }
    }

    /// Applies what was decoded, in order.
    async fn apply_all(
        &self,
        mut queue: mpsc::Receiver<JoinHandle<Decoded>>,
        incarnation: u64,
        mut after: u64,
        progress: &mut bool,
    ) -> Result<(), End> {
        while let Some(mut decoding) = queue.recv().await {
            loop {
                let decoded =
                    decoding.await.map_err(|error| End::Doubt(format!("decoding ended early: {error}")))?;
                let Some(through) = decoded.deliveries.last().map(|delivery| delivery.seq) else { break };
                let deliveries = decoded.deliveries;
                let batch = Batch { incarnation, after, through, committed_at: now(), deliveries };
                let applied = self.store.apply(batch).await.map_err(|error| match error {
                    StoreError::OutOfOrder { .. }
                    | StoreError::UnknownIncarnation { .. }
                    | StoreError::BadBatch(_) => End::Doubt(error.to_string()),
                    fatal => End::Store(fatal),
                })?;
                log(&applied);
                after = through;
                *progress = true;
                // A batch that is large when unpacked is decoded and applied in pieces.
                if decoded.rest.is_empty() {
                    break;
                }
                decoding = tokio::task::spawn_blocking(move || decode::decode(decoded.rest));
            }
        }
        Ok(())
    }
}

/// Returns when the connection was lost and is back, or is gone for good.
async fn reconnected(connections: &mut channel::Receiver<u64>) -> End {
    match connections.changed().await {
        Ok(()) => End::Reconnected,
        Err(_) => End::Doubt("the connection to the broker was closed".to_owned()),
    }
}

/// One line for each delivery.
fn log(applied: &Applied) {
    for delivery in &applied.deliveries {
        let stream_seq = delivery.seq;
        match &delivery.outcome {
            DeliveryOutcome::Applied(snapshot) => tracing::info!(
                account.id = %snapshot.account,
                kind = kind_word(snapshot.kind),
                records = %snapshot.records,
                added = snapshot.added,
                updated = snapshot.updated,
                unchanged = snapshot.unchanged,
                erased = snapshot.erased,
                stream.seq = stream_seq,
                "applied"
            ),
            DeliveryOutcome::Discarded { account, reason } => tracing::warn!(
                account.id = %account,
                reason,
                stream.seq = stream_seq,
                "a message of what was erased came late; nothing of it is kept"
            ),
            DeliveryOutcome::Rejected { subject, error, fenced: true } => tracing::error!(
                subject,
                error,
                stream.seq = stream_seq,
                "a holder whose term is over has published; its snapshot is among the dead letters"
            ),
            DeliveryOutcome::Rejected { subject, error, fenced: false } => tracing::warn!(
                subject,
                error,
                stream.seq = stream_seq,
                "a message cannot be applied; it is among the dead letters"
            ),
        }
    }
}

/// The kind as the worker's log has it.
fn kind_word(kind: SnapshotKind) -> &'static str {
    match kind {
        SnapshotKind::Claim => "claim",
        SnapshotKind::Delta => "delta",
        SnapshotKind::Full => "full",
    }
}

/// The time by this machine's clock.
fn now() -> UnixMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMs(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
