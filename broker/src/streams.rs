//! Creates or checks what the broker keeps for us. The master does this at each start; workers have no right to.

use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{CreateStreamErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use snapfleet_protocol::Topic;
use snapfleet_protocol::stream::{
    ACCOUNTS_BUCKET, ACCOUNTS_HISTORY, ACCOUNTS_STREAM, ERASURES_BUCKET, ERASURES_STREAM, LEASES_BUCKET,
    LEASES_STREAM, READERS_BUCKET, READERS_STREAM, SESSIONS_BUCKET, SESSIONS_STREAM, SNAPSHOTS,
    WORKERS_BUCKET, WORKERS_STREAM,
};

use crate::connection::{Broker, is_denial};

/// How often a stream is asked for that the broker does not answer for: each waits five seconds.
const TRIES: u32 = 4;

/// Why a stream is not there as it must be.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The broker refuses, or does not answer.
    #[error(
        "stream {stream} can be neither created nor checked ({reason}): does the broker's user have the rights of \
         `master` in nats.conf, and is there room in its store?"
    )]
    Refused {
        /// Which one.
        stream: &'static str,
        /// What the broker said.
        reason: String,
    },
    /// It is there, made by somebody else with settings that cannot be changed to ours.
    #[error(
        "stream {stream} has settings that cannot be changed to what is needed ({reason}): if nothing in it is \
         needed, delete it (nats stream rm {stream}) and start the master again, which makes it anew"
    )]
    Settings {
        /// Which one.
        stream: &'static str,
        /// What the broker said.
        reason: String,
    },
}

/// Copies that survive the death of any one node of a cluster.
pub const COPIES_SAFE: usize = 3;

/// Creates the streams and buckets with `replicas` copies each (1, or 3 in a cluster), or brings those that exist to
/// our settings, keeping their messages. One that has more copies keeps them, and no bucket has fewer than the stream
/// of snapshots: a master that is started without the number must not make a cluster forget. Returns the copies of the
/// stream of snapshots, which is what has the fewest.
///
/// # Errors
/// [`StreamError`] naming the stream, where the broker refuses or does not answer.
pub async fn ensure_streams(broker: &Broker, replicas: usize) -> Result<usize, StreamError> {
    let copies = ensure(broker, SNAPSHOTS, snapshots(replicas)).await?;
    for bucket in buckets() {
        ensure(broker, bucket.stream, bucket.config(copies)).await?;
    }
    Ok(copies)
}

/// How many copies it has then. A cluster that is electing a leader is asked again; a denied request, which is never
/// answered either, is not.
async fn ensure(broker: &Broker, stream: &'static str, config: Config) -> Result<usize, StreamError> {
    let mut left = TRIES;
    loop {
        left -= 1;
        let (reason, is_verdict) = match try_to_ensure(broker, stream, config.clone()).await {
            Ok(copies) => return Ok(copies),
            Err(refusal) => refusal,
        };
        let denied = broker.problems().into_iter().rev().find(|problem| is_denial(problem));
        match denied {
            Some(reason) => return Err(StreamError::Refused { stream, reason }),
            None if is_verdict => return Err(StreamError::Settings { stream, reason }),
            None if left == 0 || !broker.is_connected() => {
                return Err(StreamError::Refused { stream, reason });
            }
            None => tracing::warn!(stream, reason, "stream cannot be checked yet; asking again"),
        }
    }
}

/// One try; where it fails, why, and whether that is the broker's verdict on the settings of a stream that exists.
async fn try_to_ensure(
    broker: &Broker,
    stream: &'static str,
    mut config: Config,
) -> Result<usize, (String, bool)> {
    let known = match broker.jetstream().get_stream(stream).await {
        Ok(known) => Some(known),
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => None,
            // Taken for missing, it would be given fewer copies than it has.
            _ => return Err((error.to_string(), false)),
        },
    };
    let copies = known.as_ref().map_or(0, |known| known.cached_info().config.num_replicas);
    if copies > config.num_replicas {
        tracing::info!(stream, copies, asked = config.num_replicas, "stream keeps its copies");
        config.num_replicas = copies;
    }
    let copies = config.num_replicas;
    let made = broker.jetstream().create_or_update_stream(config).await;
    made.map(|_| copies).map_err(|error| {
        let is_verdict = known.is_some() && matches!(error.kind(), CreateStreamErrorKind::JetStream(_));
        (error.to_string(), is_verdict)
    })
}

/// Keeps every snapshot until compaction. When it is full a publish fails; nothing is dropped in silence.
fn snapshots(replicas: usize) -> Config {
    Config {
        name: SNAPSHOTS.to_owned(),
        description: Some("MessagePack snapshots of each account, worker to master".to_owned()),
        subjects: vec![Topic::Snapshot.filter()],
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::New,
        storage: StorageType::File,
        num_replicas: replicas,
        allow_direct: true,
        allow_atomic_publish: true,
        ..Config::default()
    }
}

/// A key-value bucket.
struct Bucket {
    name: &'static str,
    stream: &'static str,
    description: &'static str,
    /// How many values of a key are kept.
    history: i64,
    /// Keys may have a time to live of their own.
    expires: bool,
}

fn buckets() -> [Bucket; 6] {
    let bucket =
        |name, stream, description, history| Bucket { name, stream, description, history, expires: false };
    [
        Bucket {
            expires: true,
            ..bucket(WORKERS_BUCKET, WORKERS_STREAM, "heartbeats of the running workers", 1)
        },
        bucket(ACCOUNTS_BUCKET, ACCOUNTS_STREAM, "configuration of the accounts", ACCOUNTS_HISTORY),
        bucket(LEASES_BUCKET, LEASES_STREAM, "who holds which account", 1),
        bucket(SESSIONS_BUCKET, SESSIONS_STREAM, "sealed browser sessions of the accounts", 3),
        bucket(READERS_BUCKET, READERS_STREAM, "how far each replica has read the snapshots", 1),
        bucket(ERASURES_BUCKET, ERASURES_STREAM, "persons whose records were erased, by hash", 1),
    ]
}

impl Bucket {
    /// In the broker's own layout, so that `nats kv` reads it.
    fn config(&self, replicas: usize) -> Config {
        Config {
            name: self.stream.to_owned(),
            description: Some(self.description.to_owned()),
            subjects: vec![format!("$KV.{}.>", self.name)],
            retention: RetentionPolicy::Limits,
            discard: DiscardPolicy::New,
            storage: StorageType::File,
            num_replicas: replicas,
            max_messages_per_subject: self.history,
            max_bytes: -1,
            allow_rollup: true,
            allow_direct: true,
            allow_message_ttl: self.expires,
            deny_delete: true,
            subject_delete_marker_ttl: self.expires.then_some(Duration::from_secs(60)),
            metadata: [("snapfleet.bucket".to_owned(), self.name.to_owned())].into(),
            ..Config::default()
        }
    }
}
