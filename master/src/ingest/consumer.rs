//! Reading the stream on from the store's position: a consumer that lives no longer than one connection, and
//! the check that nothing is missing between two messages.

use std::time::Duration;

use async_nats::jetstream::consumer::pull::{Config, Stream};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy};
use async_nats::jetstream::stream::Info;
use futures_util::{FutureExt, StreamExt};
use snapfleet_broker::Broker;
use snapfleet_protocol::stream::SNAPSHOTS;
use snapfleet_protocol::{Topic, UnixMs};

use crate::store::Position;

use super::IngestLimits;

/// The server drops a consumer that nobody has pulled from for this long; so one that was left costs nothing.
const CONSUMER_IDLE_MAX: Duration = Duration::from_secs(60);
/// How long one pull waits for messages.
const PULL_EXPIRES: Duration = Duration::from_secs(30);
/// A consumer that sends neither messages nor this sign of life for twice as long is dead.
const PULL_HEARTBEAT: Duration = Duration::from_secs(2);
/// What one pull asks for, in messages.
const PULL_MESSAGES: usize = 512;
/// And in bytes: several of the largest messages, as a pull too small for a message never brings it.
const PULL_BYTES_LEAST: usize = 16 * 1024 * 1024;

/// A message as it arrived.
pub(super) struct Raw {
    /// Its stream sequence.
    pub(super) seq: u64,
    /// When the broker stored it.
    pub(super) stored_at: UnixMs,
    /// Itself.
    pub(super) message: async_nats::Message,
}

/// An open consumer.
pub(super) struct Reading {
    messages: Stream,
    incarnation: u64,
    after: u64,
    /// The stream sequence of the last message taken.
    last: u64,
    /// How many messages were taken: the consumer's own sequence of the last one.
    taken: u64,
    /// What came behind a batch that is still whole.
    fault: Option<String>,
}

impl Reading {
    /// Opens a consumer that starts right behind `position`, or at the beginning of a stream that is new.
    pub(super) async fn open(broker: &Broker, position: Option<Position>) -> Result<Self, String> {
        let stream = broker.jetstream().get_stream(SNAPSHOTS).await;
        let stream = stream.map_err(|error| {
            format!("stream {SNAPSHOTS} cannot be read ({error}): was it deleted? a restart of the master creates it")
        })?;
        let info = stream.cached_info();
        let incarnation = incarnation(info)?;
        let after = start_after(info, incarnation, position)?;
        let consumer = stream
            .create_consumer(Config {
                description: Some(format!("{}, reading on from its store's position", broker.user())),
                deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: after + 1 },
                ack_policy: AckPolicy::None,
                filter_subject: Topic::Snapshot.filter(),
                inactive_threshold: CONSUMER_IDLE_MAX,
                memory_storage: true,
                num_replicas: 1,
                ..Config::default()
            })
            .await
            .map_err(|error| format!("no consumer can be made on stream {SNAPSHOTS}: {error}"))?;
        let messages = consumer
            .stream()
            .max_messages_per_batch(PULL_MESSAGES)
            .max_bytes_per_batch(PULL_BYTES_LEAST.max(2 * broker.max_payload()))
            .expires(PULL_EXPIRES)
            .heartbeat(PULL_HEARTBEAT)
            .messages()
            .await
            .map_err(|error| format!("stream {SNAPSHOTS} cannot be pulled from: {error}"))?;
        tracing::info!(stream.seq = after, stream.last = info.state.last_sequence, "reading the stream on");
        Ok(Self { messages, incarnation, after, last: after, taken: 0, fault: None })
    }

    /// The stream's creation time in nanoseconds since 1970.
    pub(super) fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// The sequence that the first message follows.
    pub(super) fn after(&self) -> u64 {
        self.after
    }

    /// Waits for a message, and takes with it what else is there already, within the limits.
    ///
    /// May be dropped while it waits: nothing is lost, because it waits for the first message only.
    pub(super) async fn next_batch(&mut self, limits: IngestLimits) -> Result<Vec<Raw>, String> {
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        let first = self.messages.next().await;
        let mut batch = vec![self.take(first)?];
        let mut bytes = batch[0].message.length;
        while batch.len() < limits.batch_messages && bytes < limits.batch_bytes {
            // Not subject to the runtime's budget, which would cut batches short.
            let Some(next) = tokio::task::unconstrained(self.messages.next()).now_or_never() else { break };
            match self.take(next) {
                Ok(raw) => {
                    bytes += raw.message.length;
                    batch.push(raw);
                }
                Err(fault) => {
                    self.fault = Some(fault);
                    break;
                }
            }
        }
        Ok(batch)
    }

    /// Checks that a message follows the last one without a gap.
    fn take<E: std::fmt::Display>(
        &mut self,
        next: Option<Result<async_nats::jetstream::Message, E>>,
    ) -> Result<Raw, String> {
        let message = match next {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Err(format!("the consumer broke off: {error}")),
            None => return Err("the consumer ended".to_owned()),
        };
        let info = message.info().map_err(|error| format!("a delivery without sequences: {error}"))?;
        let (seq, consumer_seq) = (info.stream_sequence, info.consumer_sequence);
        if consumer_seq != self.taken + 1 || seq <= self.last {
            return Err(format!(
                "a gap: after delivery {} (sequence {}) came delivery {consumer_seq} (sequence {seq})",
                self.taken, self.last
            ));
        }
        let stored_at = UnixMs(millis(info.published.unix_timestamp_nanos()));
        (self.taken, self.last) = (consumer_seq, seq);
        Ok(Raw { seq, stored_at, message: message.split().0 })
    }
}

/// The stream's creation time in nanoseconds since 1970, which tells it from another of the same name.
pub(super) fn incarnation(info: &Info) -> Result<u64, String> {
    let created = u64::try_from(info.created.unix_timestamp_nanos()).ok().filter(|created| *created > 0);
    created.ok_or_else(|| format!("stream {SNAPSHOTS} was created at no valid time: {}", info.created))
}

/// The sequence to start behind.
pub(super) fn start_after(info: &Info, incarnation: u64, position: Option<Position>) -> Result<u64, String> {
    let (first, last) = (info.state.first_sequence, info.state.last_sequence);
    let after = match position {
        Some(position) if position.incarnation == incarnation => position.seq,
        Some(position) => {
            tracing::warn!(
                stream.seq = position.seq,
                stream.last = last,
                "the stream was created anew since the store's last batch; reading it from its beginning"
            );
            0
        }
        None => 0,
    };
    if after > last {
        return Err(format!(
            "stream {SNAPSHOTS} ends at sequence {last}, but the store has applied {after}: was the broker's \
             store restored from an older backup? restore a newer one, or delete the stream and restart the master"
        ));
    }
    if first > after + 1 && position.is_some_and(|position| position.incarnation == incarnation) {
        tracing::error!(
            stream.seq = after,
            stream.first = first,
            "messages were removed from the stream before the store had them"
        );
    }
    Ok(after)
}

fn millis(nanos: i128) -> i64 {
    i64::try_from(nanos.div_euclid(1_000_000)).unwrap_or_default()
}
