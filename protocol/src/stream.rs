//! Names and limits of the broker's streams and buckets: the one place where they are written.

/// The stream that keeps the snapshots.
pub const SNAPSHOTS: &str = "SNAPSHOTS";
/// The bucket of heartbeats: one key for each running worker instance.
pub const WORKERS_BUCKET: &str = "workers";
/// The stream behind [`WORKERS_BUCKET`], as the broker names it.
pub const WORKERS_STREAM: &str = "KV_workers";
/// What the subjects of [`WORKERS_BUCKET`] begin with.
pub const WORKERS_PREFIX: &str = "$KV.workers.";

/// The bucket of account configuration: [`crate::AccountEntry`], one key for each account.
pub const ACCOUNTS_BUCKET: &str = "accounts";
/// The stream behind [`ACCOUNTS_BUCKET`].
pub const ACCOUNTS_STREAM: &str = "KV_accounts";
/// What the subjects of [`ACCOUNTS_BUCKET`] begin with.
pub const ACCOUNTS_PREFIX: &str = "$KV.accounts.";
/// How many writes of an account's entry its bucket keeps.
pub const ACCOUNTS_HISTORY: i64 = 5;
/// The bucket of leases: [`crate::Lease`], one key for each account that was ever held.
pub const LEASES_BUCKET: &str = "leases";
/// The stream behind [`LEASES_BUCKET`].
pub const LEASES_STREAM: &str = "KV_leases";
/// What the subjects of [`LEASES_BUCKET`] begin with.
pub const LEASES_PREFIX: &str = "$KV.leases.";
/// The bucket of sealed session states, one key for each account.
pub const SESSIONS_BUCKET: &str = "sessions";
/// The stream behind [`SESSIONS_BUCKET`].
pub const SESSIONS_STREAM: &str = "KV_sessions";
/// What the subjects of [`SESSIONS_BUCKET`] begin with.
pub const SESSIONS_PREFIX: &str = "$KV.sessions.";
/// The bucket of readers of the snapshots: [`crate::ReaderPosition`], one key for each replica.
pub const READERS_BUCKET: &str = "readers";
/// The stream behind [`READERS_BUCKET`].
pub const READERS_STREAM: &str = "KV_readers";
/// What the subjects of [`READERS_BUCKET`] begin with.
pub const READERS_PREFIX: &str = "$KV.readers.";
/// The bucket of erased persons, one key for each: `<platform>.<account>.<hash>`.
pub const ERASURES_BUCKET: &str = "erasures";
/// The stream behind [`ERASURES_BUCKET`].
pub const ERASURES_STREAM: &str = "KV_erasures";
/// What the subjects of [`ERASURES_BUCKET`] begin with.
pub const ERASURES_PREFIX: &str = "$KV.erasures.";

/// The last token of the key, below a worker's instance, with the accounts that it holds.
pub const HELD_ACCOUNTS_KEY: &str = "accounts";

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
