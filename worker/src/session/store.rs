//! The bucket `sessions`: reading an account's sealed sessions back, and adding one on condition.
//!
//! Moves sealed bytes and looks into them only to decide whether something may be written on top. Knows no browser.

use std::time::Duration;

use bytes::Bytes;
use snapfleet_broker::{Broker, DirectGetError, PublishError, put_key, read_subject};
use snapfleet_protocol::AccountId;
use snapfleet_protocol::stream::{SESSIONS_PREFIX, SESSIONS_STREAM};

use super::key::{FleetKey, KeyId};
use super::seal::{OpenError, open_session};
use super::state::SessionState;

/// Tries of one save, each after somebody else wrote in between.
const SAVE_TRIES_MAX: u32 = 5;
/// The pause before the bucket is read again, where a copy of it lags behind.
const LAG_PAUSE: Duration = Duration::from_millis(200);

/// What the bucket holds for an account.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    /// Sealed sessions with their sequences, newest first, none from before a deletion.
    pub versions: Vec<(u64, Bytes)>,
    /// The sequence of the key's last message, a deletion included; 0 if there is none.
    pub last_seq: u64,
}

/// Reads what is kept of an account's sessions.
///
/// # Errors
/// [`DirectGetError`] where the broker does not answer or refuses: then nothing is known, which is not the same as
/// that nothing is kept.
pub async fn load(broker: &Broker, account: &AccountId) -> Result<Kept, DirectGetError> {
    let (subject, mut kept) = (subject(account), Kept::default());
    loop {
        let (messages, pending) = read_subject(broker, SESSIONS_STREAM, &subject, kept.last_seq + 1).await?;
        let done = pending == 0 || messages.is_empty();
        for message in messages {
            kept.last_seq = message.seq;
            if message.is_gone() {
                kept.versions.clear();
            } else {
                kept.versions.insert(0, (message.seq, message.payload));
            }
        }
        if done {
            return Ok(kept);
        }
    }
}

/// What can be used of it.
#[derive(Debug, Default)]
pub struct Opened {
    /// Sessions, newest first.
    pub candidates: Vec<SessionState>,
    /// Why each of the others cannot be used, with its sequence and the remedy.
    pub problems: Vec<String>,
    /// Why the newest cannot be used, if so.
    pub newest: Option<OpenError>,
    /// The highest epoch of those that open; 0 if none does.
    pub epoch: u64,
}

/// Opens what is kept. Nothing that does not open is deleted.
#[must_use]
pub fn open_all(key: &FleetKey, account: &AccountId, kept: &Kept) -> Opened {
    let mut opened = Opened::default();
    for (index, (seq, sealed)) in kept.versions.iter().enumerate() {
        match open_session(key, account, sealed) {
            Ok((epoch, state)) => {
                opened.epoch = opened.epoch.max(epoch);
                opened.candidates.push(state);
            }
            Err(error) => {
                opened.problems.push(problem(account, *seq, &error));
                if index == 0 {
                    opened.newest = Some(error);
                }
            }
        }
    }
    opened
}

/// One line for people on a session that does not open.
fn problem(account: &AccountId, seq: u64, error: &OpenError) -> String {
    let remedy = match error {
        OpenError::WrongKey { .. } => "",
        OpenError::Corrupt(_) => "; to have the account log in anew, remove it and add it again",
    };
    format!(
        "the stored session of {account} (sequence {seq} of {SESSIONS_STREAM}) cannot be used: {error}{remedy}"
    )
}

/// What came of a save.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Saved {
    /// It is the newest now, under this sequence.
    Stored(u64),
    /// A later holder's session is there: ours is stale and not stored.
    Stale {
        /// The later epoch.
        epoch: u64,
    },
    /// A session under another key is there, which is left alone.
    OtherKey(KeyId),
    /// The session was deleted meanwhile: the account was removed or erased.
    Deleted,
}

/// Stores a sealed session of `epoch` on top of the message with sequence `expected`, or of whatever is there
/// instead if that is no later and opens with our key or with none.
///
/// # Errors
/// [`PublishError`]; after one the session may be stored all the same, and the same bytes can be saved again.
pub async fn save(
    broker: &Broker,
    key: &FleetKey,
    account: &AccountId,
    epoch: u64,
    sealed: &Bytes,
    mut expected: u64,
) -> Result<Saved, PublishError> {
    let mut conflict = String::new();
    for _ in 0..SAVE_TRIES_MAX {
        match put_key(broker, subject(account), sealed.clone(), Some(expected)).await {
            Ok(ack) => return Ok(Saved::Stored(ack.seq)),
            Err(PublishError::Conflict(reason)) => conflict = reason,
            Err(error) => return Err(error),
        }
        let kept = load(broker, account).await.map_err(|error| PublishError::Failed(error.to_string()))?;
        let Some((seq, there)) = kept.versions.first() else {
            if kept.last_seq != 0 {
                return Ok(Saved::Deleted);
            }
            // The bucket was made anew.
            expected = 0;
            continue;
        };
        if there == sealed {
            // An earlier try was stored and its ack lost.
            return Ok(Saved::Stored(*seq));
        }
        match open_session(key, account, there) {
            Ok((later, _)) if later > epoch => return Ok(Saved::Stale { epoch: later }),
            Err(OpenError::WrongKey { sealed, .. }) => return Ok(Saved::OtherKey(sealed)),
            // Corrupt as it is, it stays in the key's history.
            Ok(_) | Err(OpenError::Corrupt(_)) => {}
        }
        if kept.last_seq == expected {
            tokio::time::sleep(LAG_PAUSE).await;
        }
        expected = kept.last_seq;
    }
    Err(PublishError::Conflict(conflict))
}

fn subject(account: &AccountId) -> String {
    format!("{SESSIONS_PREFIX}{account}")
}
