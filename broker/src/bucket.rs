//! Key-value buckets without a consumer: writing a key on a condition, reading a bucket on from where one stands,
//! and asking the stream's leader for one key.
//!
//! The client's own key-value calls are not used: they drop the time to live on an update, and watching with them
//! needs the right to create consumers.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use async_nats::header::HeaderMap;
use base64::Engine as _;

use crate::connection::Broker;
use crate::publish::{Ack, Outgoing, PublishError, answer_to, publish};
use crate::read::{DirectGetError, Stored, read_subject};

/// Headers of messages that say that a key is gone rather than what it holds.
const HEADERS_GONE: [&str; 2] = ["KV-Operation", "Nats-Marker-Reason"];
/// The code with which the server says that there is no such message.
const CODE_NO_MESSAGE: u64 = 10037;

impl Stored {
    /// Whether it only marks that its key was deleted or has expired.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        HEADERS_GONE.iter().any(|name| self.headers.get(*name).is_some())
    }

    /// The key, where the subject begins with the bucket's `prefix`.
    #[must_use]
    pub fn key(&self, prefix: &str) -> Option<&str> {
        self.subject.strip_prefix(prefix)
    }
}

/// Writes a key, if its last message has the sequence `expected` (0: it must have none); unconditionally if `None`.
///
/// # Errors
/// [`PublishError::Conflict`] where the last message is another; the others as for any publish.
pub async fn put_key(
    broker: &Broker,
    subject: String,
    value: Bytes,
    expected: Option<u64>,
) -> Result<Ack, PublishError> {
    write(broker, subject, value, expected, Vec::new(), None).await
}

/// Writes a key on the same condition, and deletes its history: what it held before is not to be kept.
///
/// # Errors
/// As for [`put_key`].
pub async fn replace_key(
    broker: &Broker,
    subject: String,
    value: Bytes,
    expected: Option<u64>,
) -> Result<Ack, PublishError> {
    write(broker, subject, value, expected, vec![("Nats-Rollup", "sub".to_owned())], None).await
}

/// Marks a key as deleted, on the same condition. What the bucket keeps of it besides stays for its history.
///
/// # Errors
/// As for [`put_key`].
pub async fn delete_key(
    broker: &Broker,
    subject: String,
    expected: Option<u64>,
) -> Result<Ack, PublishError> {
    write(broker, subject, Bytes::new(), expected, vec![("KV-Operation", "DEL".to_owned())], None).await
}

/// Marks a key as deleted in a bucket whose keys expire; the mark expires as well, after `ttl_s` seconds.
///
/// # Errors
/// As for [`put_key`].
pub async fn withdraw_key(broker: &Broker, subject: String, ttl_s: u64) -> Result<Ack, PublishError> {
    write(broker, subject, Bytes::new(), None, vec![("KV-Operation", "DEL".to_owned())], Some(ttl_s)).await
}

/// Marks a key as deleted, on the same condition, and deletes its history.
///
/// # Errors
/// As for [`put_key`].
pub async fn purge_key(broker: &Broker, subject: String, expected: Option<u64>) -> Result<Ack, PublishError> {
    let headers = vec![("KV-Operation", "PURGE".to_owned()), ("Nats-Rollup", "sub".to_owned())];
    write(broker, subject, Bytes::new(), expected, headers, None).await
}

async fn write(
    broker: &Broker,
    subject: String,
    payload: Bytes,
    expected_last: Option<u64>,
    headers: Vec<(&'static str, String)>,
    ttl_s: Option<u64>,
) -> Result<Ack, PublishError> {
    let message = Outgoing { subject, payload, message_id: None, expected_last, ttl_s, headers };
    publish(broker, &message).await
}

/// A bucket, read on from where the reader stands: each call brings what was written since the last one.
#[derive(Debug, Clone)]
pub struct Tail {
    stream: &'static str,
    filter: String,
    seen: u64,
    created: Option<String>,
}

impl Tail {
    /// Of a bucket's stream, from its beginning, on the subjects that `filter` takes.
    #[must_use]
    pub fn new(stream: &'static str, filter: String) -> Self {
        Self { stream, filter, seen: 0, created: None }
    }

    /// Everything that was written since the last call, deletions included, in order. Costs one request where nothing was; an answer that breaks
    /// off is an error, and what had come is read again at the next call.
    ///
    /// # Errors
    /// [`DirectGetError`].
    pub async fn read(&mut self, broker: &Broker) -> Result<Vec<Stored>, DirectGetError> {
        let mut news = Vec::new();
        let mut seen = self.seen;
        loop {
            let (messages, pending) = read_subject(broker, self.stream, &self.filter, seen + 1).await?;
            let done = pending == 0 || messages.is_empty();
            seen = messages.last().map_or(seen, |stored| stored.seq);
            news.extend(messages);
            if done {
                break;
            }
        }
        self.seen = seen;
        Ok(news)
    }

    /// Whether the bucket is still the one that was read before; if it was made anew, [`Tail::read`] begins again.
    /// Costs one request; without it a bucket that was made anew looks as if nothing were written to it.
    ///
    /// # Errors
    /// [`PublishError`] where the broker does not answer or refuses.
    pub async fn is_same(&mut self, broker: &Broker) -> Result<bool, PublishError> {
        let created = stream_created(broker, self.stream).await?;
        let same = self.created.as_ref().is_none_or(|known| *known == created);
        if !same {
            self.seen = 0;
        }
        self.created = Some(created);
        Ok(same)
    }
}

#[derive(Deserialize)]
struct Answer {
    error: Option<ServerError>,
    created: Option<String>,
    message: Option<RawMessage>,
}

#[derive(Deserialize)]
struct ServerError {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

#[derive(Deserialize)]
struct RawMessage {
    subject: String,
    seq: u64,
    #[serde(default)]
    data: String,
    #[serde(default)]
    hdrs: String,
}

/// The creation time of a stream, which tells its lives apart.
async fn stream_created(broker: &Broker, stream: &str) -> Result<String, PublishError> {
    let answer = ask(broker, format!("$JS.API.STREAM.INFO.{stream}"), Bytes::new()).await?;
    match (answer.created, answer.error) {
        (Some(created), _) => Ok(created),
        (None, Some(error)) => {
            Err(PublishError::Refused { code: error.err_code, description: error.description })
        }
        (None, None) => Err(PublishError::Failed(format!("the info of stream {stream} makes no sense"))),
    }
}

/// The last message of a key as the stream's leader has it: a copy elsewhere may lag behind.
///
/// # Errors
/// [`PublishError`] where the broker does not answer or refuses.
pub async fn last_at_leader(
    broker: &Broker,
    stream: &str,
    subject: &str,
) -> Result<Option<Stored>, PublishError> {
    let request = Bytes::from(json!({ "last_by_subj": subject }).to_string());
    let answer = ask(broker, format!("$JS.API.STREAM.MSG.GET.{stream}"), request).await?;
    match (answer.message, answer.error) {
        (Some(raw), _) => stored(raw).map(Some),
        (None, Some(error)) if error.err_code == CODE_NO_MESSAGE => Ok(None),
        (None, Some(error)) => {
            Err(PublishError::Refused { code: error.err_code, description: error.description })
        }
        (None, None) => Err(PublishError::Failed("an answer without message".to_owned())),
    }
}

fn stored(raw: RawMessage) -> Result<Stored, PublishError> {
    let decode = |text: &str| {
        let decoded = base64::engine::general_purpose::STANDARD.decode(text);
        decoded.map_err(|error| PublishError::Failed(format!("a message that is not base64: {error}")))
    };
    let mut headers = HeaderMap::new();
    let lines = String::from_utf8_lossy(&decode(&raw.hdrs)?).into_owned();
    for line in lines.lines().skip(1) {
        if let Some((name, value)) = line.split_once(':') {
            headers.insert(name.trim(), value.trim());
        }
    }
    Ok(Stored { subject: raw.subject, seq: raw.seq, headers, payload: decode(&raw.data)?.into() })
}

async fn ask(broker: &Broker, subject: String, payload: Bytes) -> Result<Answer, PublishError> {
    let answer = answer_to(broker, subject, async_nats::Request::new().payload(payload)).await?;
    serde_json::from_slice(&answer.payload).map_err(|error| PublishError::Failed(error.to_string()))
}
