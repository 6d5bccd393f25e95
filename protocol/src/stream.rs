//! Names and limits of the broker's streams and buckets: the one place where they are written.

/// The stream that keeps the snapshots.
pub const SNAPSHOTS: &str = "SNAPSHOTS";
/// The bucket of heartbeats: one key for each running worker instance.
pub const WORKERS_BUCKET: &str = "workers";
/// The stream behind [`WORKERS_BUCKET`], as the broker names it.
pub const WORKERS_STREAM: &str = "KV_workers";
/// What the subjects of [`WORKERS_BUCKET`] begin with.
pub const WORKERS_PREFIX: &str = "$KV.workers.";

/// How long a heartbeat lives, in seconds: a worker silent for longer is gone.
pub const HEARTBEAT_TTL_S: u64 = 5;
/// Time between a worker's heartbeats, in milliseconds.
pub const HEARTBEAT_EVERY_MS: u64 = 1_500;

/// The least broker: batches, per-message TTL and batched direct get as they are relied upon.
pub const SERVER_LEAST: (i64, i64, i64) = (2, 14, 0);

/// The most messages in one atomic batch (the server's own limit).
pub const BATCH_MESSAGES_MAX: usize = 1_000;
/// The most bytes in one atomic batch: what is sent well within the server's ten seconds.
pub const BATCH_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The header with the broker's message id.
pub const HEADER_MESSAGE_ID: &str = "Nats-Msg-Id";
/// The header that makes a publish conditional on the last sequence of its subject.
pub const HEADER_EXPECTED_LAST_SUBJECT_SEQUENCE: &str = "Nats-Expected-Last-Subject-Sequence";
/// The header with a message's time to live.
pub const HEADER_TTL: &str = "Nats-TTL";
