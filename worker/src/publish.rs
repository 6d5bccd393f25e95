//! One account's way to the stream: claims it, publishes one snapshot at a time, and never counts one as
//! published without the broker's word.
//!
//! Every publish expects the subject's last sequence, so that two holders can never both write. When the broker
//! answers that the sequence is another, the subject itself is read: our own message there means that only the
//! ack was lost; a higher epoch means that another has taken over; anything else is folded into the window.

mod claim;
mod history;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use snapfleet_broker::{
    Ack, Broker, DirectGetError, Outgoing, PublishError, Stored, publish, publish_batch, read_subject,
};
use snapfleet_protocol::stream::{BATCH_BYTES_MAX, BATCH_MESSAGES_MAX, HEADER_MESSAGE_ID, SNAPSHOTS};
use snapfleet_protocol::{
    AccountId, InstanceId, Record, Snapshot, SnapshotId, SnapshotKind, Topic, UnixMs, WireVersion,
    decode_snapshot, encode_snapshot,
};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::fleet::gate::Gate;
pub use claim::ClaimError;
use history::{History, read_on};

const RETRY_PAUSE_MIN: Duration = Duration::from_millis(100);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(5);
/// From this many failed tries of one publish on, the account is shown as failing.
const TROUBLE_AFTER_ATTEMPTS: u32 = 3;
/// Room for a message's headers within the broker's limit, in bytes.
const HEADERS_BYTES: usize = 2 * 1024;
/// Windows of a worker's accounts that are read back at once: each takes up to 8 MiB of the connection.
const CLAIMS_AT_ONCE: usize = 8;
/// Snapshots of a worker on their way at once, in KiB; one that is larger goes alone.
const KIB_IN_FLIGHT: u32 = 8 * 1024;
/// The most records in one message, before its size is looked at.
pub const RECORDS_PER_MESSAGE: usize = 4_000;

/// How a publish ended.
#[derive(Debug)]
pub enum Outcome {
    /// The stream holds it, the last part under this sequence.
    Acked {
        /// The stream sequence.
        seq: u64,
    },
    /// Somebody else's messages were on the subject. They are to be folded in, then it is to be tried again.
    Folded(Vec<(Record, UnixMs)>),
    /// The subject is empty though it should not be: the stream was made anew.
    Emptied,
    /// Another holder has a higher epoch.
    Fenced {
        /// Its epoch.
        epoch: u64,
    },
    /// One record alone is larger than the broker takes.
    TooLarge {
        /// Its size, encoded, in bytes.
        bytes: usize,
    },
    /// Told to stop before the broker answered, or the lease came into doubt.
    Stopped,
}

/// The right to publish for an account, as the fleet's lease gave it.
#[derive(Debug, Clone)]
pub struct Grant {
    /// The sequence in the bucket of leases under which it was taken: the least epoch to publish under.
    pub lease_seq: u64,
    /// The term of the gate in which it was taken; void once that is over.
    pub term: u64,
    /// The gate.
    pub gate: Gate,
}

impl Grant {
    /// Whether it holds at this instant.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.gate.is_open_in(self.term)
    }
}

/// How much all accounts of a worker do at once: what waits in the connection delays the heartbeat's ack.
#[derive(Debug)]
pub struct Lanes {
    /// Windows that are being read back.
    claims: Semaphore,
    /// KiB of snapshots that are on their way.
    kib: Semaphore,
}

impl Default for Lanes {
    fn default() -> Self {
        Self { claims: Semaphore::new(CLAIMS_AT_ONCE), kib: Semaphore::new(KIB_IN_FLIGHT as usize) }
    }
}

/// Where an account's subject stood when its holder last published: its last message, and how full it was.
#[derive(Debug, Clone, Copy)]
pub struct Resume {
    last: u64,
    epoch: u64,
    full_bytes: Option<usize>,
    delta_bytes: usize,
}

/// Publishes one account's snapshots within one term.
#[derive(Debug)]
pub struct Publisher {
    lanes: Arc<Lanes>,
    /// Why nothing goes through, once it has not for a few tries.
    trouble: watch::Sender<Option<String>>,
    grant: Grant,
    account: AccountId,
    instance: InstanceId,
    epoch: u64,
    seq: u64,
    /// Stream sequence of the subject's last message that was seen.
    last: u64,
    /// Encoded bytes of the last full, and of the deltas since.
    full_bytes: Option<usize>,
    delta_bytes: usize,
}

impl Publisher {
    /// Tells why nothing goes through, once it has not for a few tries, and when it does again.
    #[must_use]
    pub fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.trouble.subscribe()
    }

    /// The right under which it publishes.
    #[must_use]
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// The stream sequence of the account's last message, as far as it is known.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.last
    }

    /// The term.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether the stream needs a full: it has none, or what came since is more than twice its size.
    #[must_use]
    pub fn full_is_due(&self) -> bool {
        self.full_bytes.is_none_or(|bytes| self.delta_bytes > 2 * bytes)
    }

    fn snapshot_id(&self) -> SnapshotId {
        SnapshotId {
            account: self.account.clone(),
            instance: self.instance.clone(),
            epoch: self.epoch,
            seq: self.seq,
        }
    }

    /// Makes the next message. Its id is never used again, whatever becomes of it.
    fn message(
        &mut self,
        kind: SnapshotKind,
        part: u32,
        parts: u32,
        captured_at: UnixMs,
        records: Vec<Record>,
    ) -> Result<(usize, Outgoing), snapfleet_protocol::EncodeError> {
        self.seq += 1;
        let mut snapshot = Snapshot {
            platform: self.account.platform.clone(),
            account: self.account.account.clone(),
            instance: self.instance.clone(),
            epoch: self.epoch,
            seq: self.seq,
            kind,
            part,
            parts,
            captured_at,
            contents: Vec::new(),
            comments: Vec::new(),
            conversations: Vec::new(),
            direct_messages: Vec::new(),
            notifications: Vec::new(),
        };
        for record in records {
            snapshot.push(record);
        }
        let payload = encode_snapshot(&snapshot)?;
        let message = Outgoing {
            subject: Topic::Snapshot.subject(&self.account),
            message_id: Some(snapshot.id().to_string()),
            expected_last: None,
            ttl_s: None,
            headers: vec![(WireVersion::HEADER, WireVersion::CURRENT.as_str().to_owned())],
            payload: Bytes::from(payload),
        };
        Ok((message.payload.len(), message))
    }

    /// Publishes a delta. It must fit one message: `records` beyond that are left out, and how many went is
    /// returned.
    pub async fn publish_delta(
        &mut self,
        broker: &Broker,
        mut records: Vec<Record>,
        captured_at: UnixMs,
        stop: &CancellationToken,
    ) -> (usize, Outcome) {
        let limit = broker.max_payload().saturating_sub(HEADERS_BYTES);
        loop {
            let count = records.len();
            let bytes = match self.message(SnapshotKind::Delta, 1, 1, captured_at, records.clone()) {
                Ok((bytes, message)) if bytes <= limit => {
                    let outcome = self.send(broker, vec![message], stop).await;
                    if matches!(outcome, Outcome::Acked { .. }) {
                        self.delta_bytes += bytes;
                    }
                    return (count, outcome);
                }
                Ok((bytes, _)) => bytes,
                Err(error) => {
                    tracing::error!(account.id = %self.account, %error, "a snapshot cannot be encoded");
                    usize::MAX
                }
            };
            if count <= 1 {
                return (count, Outcome::TooLarge { bytes });
            }
            records.truncate(count / 2);
        }
    }

    /// Publishes all of the window, in one atomic batch where it does not fit one message.
    pub async fn publish_full(
        &mut self,
        broker: &Broker,
        records: Vec<Record>,
        captured_at: UnixMs,
        stop: &CancellationToken,
    ) -> Outcome {
        let limit = broker.max_payload().saturating_sub(HEADERS_BYTES);
        let mut per_message = RECORDS_PER_MESSAGE;
        loop {
            match self.full_parts(&records, per_message, captured_at) {
                Ok(messages) if messages.iter().all(|message| message.payload.len() <= limit) => {
                    let bytes = messages.iter().map(|message| message.payload.len()).sum();
                    if messages.len() > BATCH_MESSAGES_MAX || bytes > BATCH_BYTES_MAX {
                        return Outcome::TooLarge { bytes };
                    }
                    let outcome = self.send(broker, messages, stop).await;
                    if matches!(outcome, Outcome::Acked { .. }) {
                        (self.full_bytes, self.delta_bytes) = (Some(bytes), 0);
                    }
                    return outcome;
                }
                Ok(messages) if per_message == 1 => {
                    let bytes = messages.iter().map(|message| message.payload.len()).max().unwrap_or(0);
                    return Outcome::TooLarge { bytes };
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(account.id = %self.account, %error, "a full is split further");
                    if per_message == 1 {
                        return Outcome::TooLarge { bytes: usize::MAX };
                    }
                }
            }
            per_message = (per_message / 2).max(1);
        }
    }

    fn full_parts(
        &mut self,
        records: &[Record],
        per_message: usize,
        captured_at: UnixMs,
    ) -> Result<Vec<Outgoing>, snapfleet_protocol::EncodeError> {
        let chunks: Vec<&[Record]> =
            if records.is_empty() { vec![&[]] } else { records.chunks(per_message).collect() };
        let parts = chunks.len() as u32;
        let numbered = chunks.into_iter().zip(1..);
        numbered
            .map(|(chunk, part)| {
                self.message(SnapshotKind::Full, part, parts, captured_at, chunk.to_vec())
                    .map(|(_, message)| message)
            })
            .collect()
    }

    /// Publishes messages that belong together until the broker has answered for good.
    async fn send(
        &mut self,
        broker: &Broker,
        mut messages: Vec<Outgoing>,
        stop: &CancellationToken,
    ) -> Outcome {
        let Some(last_id) = messages.last().and_then(|message| message.message_id.clone()) else {
            return Outcome::Acked { seq: self.last };
        };
        messages[0].expected_last = Some(self.last);
        let bytes: usize = messages.iter().map(|message| message.payload.len()).sum();
        let kib = u32::try_from(bytes / 1024 + 1).unwrap_or(KIB_IN_FLIGHT).min(KIB_IN_FLIGHT);
        let mut pause = RETRY_PAUSE_MIN;
        for attempt in 1_u32.. {
            if !self.grant.holds() {
                return Outcome::Stopped;
            }
            let answer = tokio::select! {
                answer = async {
                    let _lane = self.lanes.kib.acquire_many(kib).await.ok();
                    self.attempt(broker, &messages).await
                } => answer,
                () = stop.cancelled() => return Outcome::Stopped,
            };
            match answer {
                Ok(ack) if !ack.duplicate => {
                    self.last = ack.seq;
                    self.trouble.send_replace(None);
                    return Outcome::Acked { seq: ack.seq };
                }
                Err(PublishError::TooLarge { bytes, .. }) => return Outcome::TooLarge { bytes },
                // "Duplicate" is what the broker thinks; what stands on the subject is what counts.
                answer @ (Ok(_) | Err(PublishError::Conflict(_))) => {
                    match self.resolve(broker, &last_id).await {
                        Ok(outcome) => {
                            if answer.is_ok() && !matches!(outcome, Outcome::Acked { .. }) {
                                tracing::error!(account.id = %self.account, snapshot.id = %last_id,
                                "the broker takes a message for a repeated one that it does not have: ids collide");
                            }
                            self.trouble.send_replace(None);
                            return outcome;
                        }
                        Err(error) => {
                            self.tell_trouble(attempt, &error);
                            tracing::warn!(account.id = %self.account, %error, "a conflict cannot be looked into yet");
                        }
                    }
                }
                Err(error) => {
                    self.tell_trouble(attempt, &error);
                    tracing::warn!(account.id = %self.account, snapshot.id = %last_id, attempt, %error,
                        retry_ms = pause.as_millis() as u64, "publish failed; trying again");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause + pause.mul_f64(fastrand::f64() / 4.0)) => {}
                () = stop.cancelled() => return Outcome::Stopped,
            }
            pause = (pause * 2).min(RETRY_PAUSE_MAX);
        }
        Outcome::Stopped
    }

    fn tell_trouble(&self, attempt: u32, error: &dyn std::fmt::Display) {
        if attempt >= TROUBLE_AFTER_ATTEMPTS {
            self.trouble.send_replace(Some(error.to_string()));
        }
    }

    async fn attempt(&self, broker: &Broker, messages: &[Outgoing]) -> Result<Ack, PublishError> {
        match messages {
            [message] => publish(broker, message).await,
            several => {
                let batch = format!("{:032x}", fastrand::u128(..));
                publish_batch(broker, &batch, several).await
            }
        }
    }

    /// Finds out what stands on the subject since the last message that was seen there.
    async fn resolve(&mut self, broker: &Broker, last_id: &str) -> Result<Outcome, DirectGetError> {
        let subject = Topic::Snapshot.subject(&self.account);
        let (mut folded, mut ours) = (Vec::new(), None);
        let mut seen = self.last;
        loop {
            let (messages, pending) = read_subject(broker, SNAPSHOTS, &subject, seen + 1).await?;
            for stored in &messages {
                seen = stored.seq;
                if message_id(stored) == Some(last_id) {
                    ours = Some(stored.seq);
                    continue;
                }
                let snapshot = match decode_snapshot(&stored.payload) {
                    Ok(snapshot) => snapshot,
                    Err(error) => {
                        tracing::warn!(account.id = %self.account, stream.seq = stored.seq, %error,
                            "a message of somebody else on the account's subject cannot be read");
                        continue;
                    }
                };
                let others = snapshot.instance != self.instance;
                if snapshot.epoch > self.epoch || (others && snapshot.epoch == self.epoch) {
                    return Ok(Outcome::Fenced { epoch: snapshot.epoch });
                }
                if others {
                    let at = snapshot.captured_at;
                    folded.extend(snapshot.into_records().map(|record| (record, at)));
                }
            }
            if pending == 0 || messages.is_empty() {
                break;
            }
        }
        if seen == self.last {
            // Nothing follows, yet the broker expects another sequence: ours is gone from the subject.
            self.last = 0;
            let mut history = History::default();
            read_on(broker, &subject, &mut history, &mut |record, at| folded.push((record, at))).await?;
            if history.epoch > self.epoch {
                return Ok(Outcome::Fenced { epoch: history.epoch });
            }
            (self.last, self.full_bytes, self.delta_bytes) = (history.last, None, 0);
            return Ok(if history.last == 0 { Outcome::Emptied } else { Outcome::Folded(folded) });
        }
        self.last = seen;
        Ok(match ours {
            Some(seq) if folded.is_empty() => Outcome::Acked { seq },
            _ => Outcome::Folded(folded),
        })
    }
}

fn message_id(stored: &Stored) -> Option<&str> {
    stored.headers.get(HEADER_MESSAGE_ID).map(|value| value.as_str())
}
