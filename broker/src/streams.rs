//! Creates or checks what the broker keeps for us. The master does this at each start; workers have no right to.

use std::time::Duration;

use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use snapfleet_protocol::Topic;
use snapfleet_protocol::stream::{SNAPSHOTS, WORKERS_BUCKET, WORKERS_PREFIX, WORKERS_STREAM};

use crate::connection::{Broker, is_denial};

/// Why a stream is not there as it must be.
#[derive(Debug, thiserror::Error)]
#[error(
    "stream {stream} can be neither created nor checked ({reason}): does the broker's user have the rights of \
     `master` in nats.conf, and is there room in its store?"
)]
pub struct StreamError {
    /// Which one.
    pub stream: &'static str,
    /// What the broker said.
    pub reason: String,
}

/// Creates the streams and buckets, or brings those that exist to our settings, keeping their messages.
///
/// # Errors
/// [`StreamError`] naming the stream, where the broker refuses or does not answer.
pub async fn ensure_streams(broker: &Broker) -> Result<(), StreamError> {
    ensure(broker, SNAPSHOTS, snapshots()).await?;
    ensure(broker, WORKERS_STREAM, workers()).await
}

async fn ensure(broker: &Broker, stream: &'static str, config: Config) -> Result<(), StreamError> {
    let made = broker.jetstream().create_or_update_stream(config).await;
    made.map(|_| ()).map_err(|error| {
        // A denied request is never answered; what denied it came as a fault of the connection.
        let denied = broker.problems().into_iter().rev().find(|problem| is_denial(problem));
        StreamError { stream, reason: denied.unwrap_or_else(|| error.to_string()) }
    })
}

/// Keeps every snapshot until compaction. When it is full a publish fails; nothing is dropped in silence.
fn snapshots() -> Config {
    Config {
        name: SNAPSHOTS.to_owned(),
        description: Some("MessagePack snapshots of each account, worker to master".to_owned()),
        subjects: vec![Topic::Snapshot.filter()],
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::New,
        storage: StorageType::File,
        allow_direct: true,
        allow_atomic_publish: true,
        ..Config::default()
    }
}

/// A key-value bucket in the broker's own layout, so that `nats kv` reads it: one heartbeat a key, newest only.
fn workers() -> Config {
    Config {
        name: WORKERS_STREAM.to_owned(),
        description: Some("heartbeats of the running workers".to_owned()),
        subjects: vec![format!("{WORKERS_PREFIX}>")],
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::New,
        storage: StorageType::File,
        max_messages_per_subject: 1,
        max_bytes: -1,
        allow_rollup: true,
        allow_direct: true,
        allow_message_ttl: true,
        deny_delete: true,
        subject_delete_marker_ttl: Some(Duration::from_secs(60)),
        metadata: [("snapfleet.bucket".to_owned(), WORKERS_BUCKET.to_owned())].into(),
        ..Config::default()
    }
}
