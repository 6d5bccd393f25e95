//! Publishing with proof: nothing counts as published before the broker has said under which sequence.
//!
//! The ack is read from the wire rather than through the client's own publish, because an atomic batch has no
//! call there and because the answer's error code decides what is to be done.

use std::time::Duration;

use async_nats::{HeaderMap, Request, RequestErrorKind};
use bytes::Bytes;
use serde::Deserialize;
use snapfleet_protocol::stream::{
    BATCH_MESSAGES_MAX, HEADER_EXPECTED_LAST_SUBJECT_SEQUENCE, HEADER_MESSAGE_ID, HEADER_TTL,
};

use crate::connection::Broker;

/// How long an ack may take before the publish counts as unanswered.
pub const ACK_TIMEOUT: Duration = Duration::from_secs(5);

const HEADER_BATCH_ID: &str = "Nats-Batch-Id";
const HEADER_BATCH_SEQUENCE: &str = "Nats-Batch-Sequence";
const HEADER_BATCH_COMMIT: &str = "Nats-Batch-Commit";

/// Error codes of the server that call for something else than trying again (nats-server's errors.json).
const CODE_WRONG_LAST_SEQUENCE: u64 = 10071;
const CODE_WRONG_LAST_SEQUENCE_CONSTANT: u64 = 10164;
const CODE_BATCH_DUPLICATE: u64 = 10201;
const CODES_NO_ROOM: [u64; 4] = [10023, 10047, 10077, 10122];

/// One message to be stored.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Where to.
    pub subject: String,
    /// Its bytes.
    pub payload: Bytes,
    /// Tells it from all others; a retry carries the same.
    pub message_id: Option<String>,
    /// Stored only if this is the sequence of the subject's last message; 0 where it must have none.
    pub expected_last: Option<u64>,
    /// Deleted by the broker after this many seconds.
    pub ttl_s: Option<u64>,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
}

impl Outgoing {
    fn header_map(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(id) = &self.message_id {
            headers.insert(HEADER_MESSAGE_ID, id.as_str());
        }
        if let Some(expected) = self.expected_last {
            headers.insert(HEADER_EXPECTED_LAST_SUBJECT_SEQUENCE, expected.to_string());
        }
        if let Some(ttl) = self.ttl_s {
            headers.insert(HEADER_TTL, format!("{ttl}s"));
        }
        for (name, value) in &self.headers {
            headers.insert(*name, value.as_str());
        }
        headers
    }
}

/// The broker's word that something is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// The stream sequence of the message, or of a batch's last.
    pub seq: u64,
    /// The broker had a message with this id already, stored under `seq`.
    pub duplicate: bool,
}

/// Why something is not known to be stored.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The subject's last message is another than expected, or the batch holds a message that is stored:
    /// either somebody else publishes there, or an earlier try was stored and its ack lost.
    #[error("the subject's last message is another than expected ({0})")]
    Conflict(String),
    /// The stream or the broker's store is full.
    #[error("no room in the stream ({0}): raise max_file in nats.conf or compact")]
    NoRoom(String),
    /// No stream takes the subject.
    #[error("no stream takes the subject: has the master created the streams?")]
    NoStream,
    /// No answer in time: stored or not, nobody knows yet.
    #[error("no ack within {} s: broker unreachable, or a permission denied (see the connection's faults)", ACK_TIMEOUT.as_secs())]
    Unanswered,
    /// Larger than the broker takes.
    #[error("message of {bytes} bytes is over the broker's max_payload of {limit}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Refused for another reason.
    #[error("the broker refuses with code {code}: {description}")]
    Refused {
        /// The server's error code.
        code: u64,
        /// The server's words.
        description: String,
    },
    /// The connection failed, or the answer made no sense.
    #[error("publish failed: {0}")]
    Failed(String),
}

/// Publishes one message and waits for the broker's ack.
///
/// # Errors
/// [`PublishError`]; after [`PublishError::Unanswered`] the message may be stored all the same.
pub async fn publish(broker: &Broker, message: &Outgoing) -> Result<Ack, PublishError> {
    request(broker, message, message.header_map()).await?.ok_or_else(no_ack)
}

/// Publishes up to 1,000 messages as one atomic batch: all are stored, or none.
///
/// `batch_id` must be new for each try. Only the first message may expect a last sequence.
///
/// # Errors
/// [`PublishError`], for the batch as a whole.
pub async fn publish_batch(
    broker: &Broker,
    batch_id: &str,
    messages: &[Outgoing],
) -> Result<Ack, PublishError> {
    if messages.is_empty() || messages.len() > BATCH_MESSAGES_MAX {
        return Err(PublishError::Failed(format!("a batch of {} messages", messages.len())));
    }
    let last = messages.len() - 1;
    for (index, message) in messages.iter().enumerate() {
        let mut headers = message.header_map();
        headers.insert(HEADER_BATCH_ID, batch_id);
        headers.insert(HEADER_BATCH_SEQUENCE, (index + 1).to_string());
        if index == last {
            headers.insert(HEADER_BATCH_COMMIT, "1");
            return request(broker, message, headers).await?.ok_or_else(no_ack);
        }
        if index == 0 {
            // The first is answered (without an ack), so a refusal is known before the rest is sent.
            request(broker, message, headers).await?;
        } else {
            check_size(broker, message)?;
            let sent = broker.client().publish_with_headers(
                message.subject.clone(),
                headers,
                message.payload.clone(),
            );
            let sent = tokio::time::timeout(ACK_TIMEOUT, sent).await.map_err(|_| PublishError::Unanswered)?;
            sent.map_err(|error| PublishError::Failed(error.to_string()))?;
        }
    }
    Err(no_ack())
}

fn no_ack() -> PublishError {
    PublishError::Failed("the broker's answer is not an ack".to_owned())
}

fn check_size(broker: &Broker, message: &Outgoing) -> Result<(), PublishError> {
    let (bytes, limit) = (message.payload.len(), broker.max_payload());
    if bytes > limit { Err(PublishError::TooLarge { bytes, limit }) } else { Ok(()) }
}

async fn request(
    broker: &Broker,
    message: &Outgoing,
    headers: HeaderMap,
) -> Result<Option<Ack>, PublishError> {
    check_size(broker, message)?;
    let request = Request::new().payload(message.payload.clone()).headers(headers);
    let answer = answer_to(broker, message.subject.clone(), request).await?;
    read_ack(&answer.payload)
}

/// Sends a request and waits for its answer, within a bound also while the connection is lost.
pub(crate) async fn answer_to(
    broker: &Broker,
    subject: String,
    request: Request,
) -> Result<async_nats::Message, PublishError> {
    let answer = broker.client().send_request(subject, request.timeout(Some(ACK_TIMEOUT)));
    // The client queues while it is disconnected; the outer limit bounds that as well.
    let answer = tokio::time::timeout(ACK_TIMEOUT * 2, answer).await.map_err(|_| PublishError::Unanswered)?;
    answer.map_err(|error| match error.kind() {
        RequestErrorKind::TimedOut => PublishError::Unanswered,
        RequestErrorKind::NoResponders => PublishError::NoStream,
        _ => PublishError::Failed(error.to_string()),
    })
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    duplicate: bool,
    error: Option<ServerError>,
}

#[derive(Deserialize)]
struct ServerError {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

/// Reads the broker's answer; empty within a batch.
fn read_ack(payload: &[u8]) -> Result<Option<Ack>, PublishError> {
    if payload.is_empty() {
        return Ok(None);
    }
    let answer: Answer =
        serde_json::from_slice(payload).map_err(|error| PublishError::Failed(error.to_string()))?;
    let Some(error) = answer.error else {
        if answer.seq == 0 {
            return Err(no_ack());
        }
        return Ok(Some(Ack { seq: answer.seq, duplicate: answer.duplicate }));
    };
    Err(match error.err_code {
        CODE_WRONG_LAST_SEQUENCE | CODE_WRONG_LAST_SEQUENCE_CONSTANT | CODE_BATCH_DUPLICATE => {
            PublishError::Conflict(error.description)
        }
        code if CODES_NO_ROOM.contains(&code) => PublishError::NoRoom(error.description),
        code => PublishError::Refused { code, description: error.description },
    })
}
