//! Whether the broker lets this user do a worker's work, found at start rather than by silence later.
//!
//! The broker drops what a user may not send and reports it apart from the request, which is then never answered.

use std::time::Duration;

use bytes::Bytes;
use snapfleet_protocol::stream::{SNAPSHOTS, WORKERS_PREFIX};
use tokio_util::sync::CancellationToken;

use crate::connection::{Broker, is_denial};
use crate::publish::{Outgoing, publish};
use crate::read::last_per_subject;

/// How long the check may take: a broker that does not answer is not this check's business.
const CHECK_TIMEOUT: Duration = Duration::from_secs(12);
/// Last token of the subjects that are asked for; it is nobody's.
const PROBE: &str = "probe";
/// A sequence that no message has, so that what asks for it is refused: nothing is stored.
const SEQUENCE_OF_NONE: u64 = i64::MAX as u64;

/// The user may not do what a worker must.
#[derive(Debug, thiserror::Error)]
#[error(
    "user {user:?} may not use {subject} on broker {url} ({reason}): see the user's permissions in nats.conf"
)]
pub struct AccessError {
    /// Where.
    pub url: String,
    /// Who.
    pub user: String,
    /// What: the subject of a request, or of the inbox for its answer.
    pub subject: String,
    /// The broker's words.
    pub reason: String,
}

/// Asks for a snapshot and for a heartbeat's refusal, as a worker does, and changes nothing.
///
/// Streams that do not exist yet, a broker that does not answer and `shutdown` are no error: who needs an answer
/// finds out. It takes at most twelve seconds.
///
/// # Errors
/// [`AccessError`] as soon as the broker reports that it denied one of the two.
pub async fn check_access(broker: &Broker, shutdown: &CancellationToken) -> Result<(), AccessError> {
    let inbox = format!("_INBOX_{}.", broker.user());
    let subjects =
        [format!("$JS.API.DIRECT.GET.{SNAPSHOTS}"), format!("{WORKERS_PREFIX}{PROBE}"), format!("{inbox}>")];
    let about =
        |problem: &str, subject: &str| problem.contains(&format!("\"{}", subject.trim_end_matches('>')));
    let denied = broker
        .problem(|problem| is_denial(problem) && subjects.iter().any(|subject| about(problem, subject)));
    tokio::select! {
        () = async { tokio::join!(read_snapshot(broker), write_heartbeat(broker)); } => Ok(()),
        reason = denied => {
            let subject = subjects.iter().find(|subject| about(&reason, subject)).cloned().unwrap_or_default();
            let (url, user) = (broker.url().to_owned(), broker.user().to_owned());
            Err(AccessError { url, user, subject, reason })
        }
        () = tokio::time::sleep(CHECK_TIMEOUT) => Ok(()),
        () = shutdown.cancelled() => Ok(()),
    }
}

async fn read_snapshot(broker: &Broker) {
    let subject = format!("snapshot.{PROBE}.{PROBE}");
    if let Err(error) = last_per_subject(broker, SNAPSHOTS, &subject).await {
        tracing::debug!(%error, "whether snapshots may be read is not known yet");
    }
}

async fn write_heartbeat(broker: &Broker) {
    let probe = Outgoing {
        subject: format!("{WORKERS_PREFIX}{PROBE}"),
        payload: Bytes::new(),
        message_id: None,
        expected_last: Some(SEQUENCE_OF_NONE),
        ttl_s: None,
        headers: Vec::new(),
    };
    if let Err(error) = publish(broker, &probe).await {
        tracing::debug!(%error, "the heartbeat's probe is refused, as it should be, or not answered");
    }
}
