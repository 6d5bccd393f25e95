//! Reading a stream back by direct get: no consumer, so no right to create one is needed.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::Message;
use async_nats::header::HeaderMap;
use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::connection::Broker;

/// The longest wait for the next message of an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// What one request may bring.
const PAGE_MESSAGES: usize = 512;
const PAGE_BYTES: usize = 8 * 1024 * 1024;
/// The most subjects that one request of [`last_per_subject`] tells: the server's own limit.
const SUBJECTS_MAX: usize = 1_024;

const STATUS_END_OF_BATCH: u16 = 204;
const STATUS_NOT_FOUND: u16 = 404;
const STATUS_TOO_MANY: u16 = 413;

/// A message as the stream keeps it.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its subject.
    pub subject: String,
    /// Its stream sequence.
    pub seq: u64,
    /// Its headers, and those that the answer adds.
    pub headers: HeaderMap,
    /// Its bytes.
    pub payload: Bytes,
}

/// Why a stream could not be read back whole.
#[derive(Debug, thiserror::Error)]
pub enum DirectGetError {
    /// No answer, or it broke off.
    #[error("reading stream {stream} back broke off after {messages} messages: {reason}")]
    Cut {
        /// Which stream.
        stream: String,
        /// How many had come.
        messages: usize,
        /// What happened.
        reason: String,
    },
    /// The server refused.
    #[error("the broker refuses to read stream {stream} back: {status} {description}")]
    Refused {
        /// Which stream.
        stream: String,
        /// Its status.
        status: u16,
        /// Its words.
        description: String,
    },
}

struct Answer {
    messages: Vec<Stored>,
    pending: u64,
}

/// The last message on each subject that `filter` takes: as of one moment, or, where there are more than the 1,024 that
/// one answer can tell, page by page. What is written meanwhile is then told as it was or as it is.
///
/// # Errors
/// [`DirectGetError`] where the broker does not answer or refuses.
pub async fn last_per_subject(
    broker: &Broker,
    stream: &str,
    filter: &str,
) -> Result<Vec<Stored>, DirectGetError> {
    let request = json!({ "multi_last": [filter], "batch": SUBJECTS_MAX });
    match direct_get(broker, stream, &request).await {
        Ok(answer) if answer.pending == 0 => Ok(answer.messages),
        Ok(_) | Err(DirectGetError::Refused { status: STATUS_TOO_MANY, .. }) => {
            last_by_pages(broker, stream, filter).await
        }
        Err(error) => Err(error),
    }
}

async fn last_by_pages(broker: &Broker, stream: &str, filter: &str) -> Result<Vec<Stored>, DirectGetError> {
    let (mut last, mut from) = (BTreeMap::new(), 1);
    loop {
        let (messages, pending) = read_subject(broker, stream, filter, from).await?;
        let done = pending == 0 || messages.is_empty();
        for message in messages {
            from = message.seq + 1;
            last.insert(message.subject.clone(), message);
        }
        if done {
            return Ok(last.into_values().collect());
        }
    }
}

/// One page of the messages on one subject from sequence `from` on, in order, and how many follow it.
///
/// A page is bounded by messages and bytes; the caller goes on from the last sequence + 1 until none follow.
///
/// # Errors
/// [`DirectGetError`]; a page that breaks off is an error, never a short page.
pub async fn read_subject(
    broker: &Broker,
    stream: &str,
    subject: &str,
    from: u64,
) -> Result<(Vec<Stored>, u64), DirectGetError> {
    let request = json!({ "seq": from.max(1), "next_by_subj": subject, "batch": PAGE_MESSAGES, "max_bytes": PAGE_BYTES });
    let answer = direct_get(broker, stream, &request).await?;
    Ok((answer.messages, answer.pending))
}

async fn direct_get(broker: &Broker, stream: &str, request: &Value) -> Result<Answer, DirectGetError> {
    let cut =
        |messages: usize, reason: String| DirectGetError::Cut { stream: stream.to_owned(), messages, reason };
    let client = broker.client();
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.map_err(|error| cut(0, error.to_string()))?;
    let sent = client.publish_with_reply(
        format!("$JS.API.DIRECT.GET.{stream}"),
        inbox,
        Bytes::from(request.to_string()),
    );
    sent.await.map_err(|error| cut(0, error.to_string()))?;
    let mut messages = Vec::new();
    loop {
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, answers.next()).await;
        let answer = match answer {
            Ok(Some(answer)) => answer,
            Ok(None) => return Err(cut(messages.len(), "the connection closed".to_owned())),
            Err(_) => return Err(cut(messages.len(), format!("no answer for {ANSWER_TIMEOUT:?}"))),
        };
        match answer.status.map(|status| status.as_u16()) {
            Some(STATUS_END_OF_BATCH) => {
                // Taken for 0 it would make the rest of the stream disappear.
                let pending = pending(&answer)
                    .ok_or_else(|| cut(messages.len(), "the end does not say how many follow".to_owned()))?;
                return Ok(Answer { messages, pending });
            }
            Some(STATUS_NOT_FOUND) if messages.is_empty() => return Ok(Answer { messages, pending: 0 }),
            Some(status) => {
                return Err(DirectGetError::Refused {
                    stream: stream.to_owned(),
                    status,
                    description: answer.description.unwrap_or_default(),
                });
            }
            None => match stored(answer) {
                Some(message) => messages.push(message),
                None => return Err(cut(messages.len(), "an answer without sequence".to_owned())),
            },
        }
    }
}

fn pending(answer: &Message) -> Option<u64> {
    answer.headers.as_ref()?.get("Nats-Num-Pending")?.as_str().parse().ok()
}

fn stored(answer: Message) -> Option<Stored> {
    let headers = answer.headers?;
    let seq = headers.get("Nats-Sequence")?.as_str().parse().ok()?;
    let subject = headers.get("Nats-Subject")?.as_str().to_owned();
    Some(Stored { subject, seq, headers, payload: answer.payload })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_that_does_not_say_how_many_follow_is_not_taken_for_the_last() {
        let end = |headers| Message {
            subject: "_INBOX_worker.1".into(),
            reply: None,
            payload: Bytes::new(),
            headers,
            status: None,
            description: None,
            length: 0,
        };
        let says = |count: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Num-Pending", count);
            pending(&end(Some(headers)))
        };
        assert_eq!((says("0"), says("7")), (Some(0), Some(7)));
        assert_eq!((says(""), says("-1"), says("many")), (None, None, None));
        assert_eq!((pending(&end(None)), pending(&end(Some(HeaderMap::new())))), (None, None));
    }
}
