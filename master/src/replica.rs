//! Readers of the snapshots beside the writing master: how far each has come is a key of its own in the bucket
//! `readers`, which holds back what the master may remove from the stream.
//!
//! A replica is a master that reads the stream into a store of its own and writes nothing but this key
//! (`report::run`). Masters and replicas alike read all keys for `status` ([`watch`]). The store and the API know
//! nothing of it but what is noted in [`Live`].

pub(crate) mod report;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use snapfleet_broker::{
    Broker, DirectGetError, PublishError, Stored, delete_key, last_at_leader, last_per_subject,
};
use snapfleet_protocol::stream::{READERS_PREFIX, READERS_STREAM};
use snapfleet_protocol::{ReaderName, ReaderPosition, UnixMs};
use tokio_util::sync::CancellationToken;

use crate::api::{Live, now};

/// How often the readers' positions are read.
const READ_EVERY: Duration = Duration::from_secs(1);
/// A replica that has not written its position for this long is not running: three times its longest pause.
const SILENT: Duration = Duration::from_secs(30);

/// A replica, as its last position says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// Its name.
    pub name: ReaderName,
    /// What it last wrote.
    pub said: ReaderPosition,
    /// When that was: by our clock where we saw it change, else by the broker's.
    pub last_seen: UnixMs,
    /// Nothing was heard of it for half a minute by our own clock, whatever the clocks of others say.
    pub silent: bool,
}

/// What is known of the replicas at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replicas {
    /// All that are registered, by name.
    pub list: Vec<Replica>,
    /// Why they could not be read at the last look; `list` is then as of the look before.
    pub read_problem: Option<String>,
    /// Why this replica's own position could not be written.
    pub write_problem: Option<String>,
}

/// Reads the positions each second, until `shutdown`, and keeps them in `live`.
pub async fn watch(broker: Broker, live: Live, shutdown: CancellationToken) {
    let mut seen = Seen::default();
    let mut ticks = tokio::time::interval(READ_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let filter = format!("{READERS_PREFIX}>");
    let mut failing = false;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.cancelled() => return,
        }
        if !broker.is_connected() {
            continue;
        }
        let read = tokio::select! {
            read = last_per_subject(&broker, READERS_STREAM, &filter) => read,
            () = shutdown.cancelled() => return,
        };
        match read {
            Ok(stored) => {
                failing = false;
                let list = seen.call(&stored, Instant::now(), now());
                live.note(|moment| (moment.replicas.list, moment.replicas.read_problem) = (list, None));
            }
            Err(error) => {
                let problem = unreadable(&error);
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "positions of the replicas cannot be read");
                }
                live.note(|moment| moment.replicas.read_problem = Some(problem));
            }
        }
    }
}

fn unreadable(error: &DirectGetError) -> String {
    format!("positions of the replicas cannot be read: {error}")
}

/// The last write of each replica, and when we saw it.
#[derive(Default)]
struct Seen(HashMap<ReaderName, (u64, Instant, UnixMs)>);

impl Seen {
    /// Takes a look's messages; `at` and `now` are the same moment by the steady and by the wall clock.
    fn call(&mut self, stored: &[Stored], at: Instant, now: UnixMs) -> Vec<Replica> {
        let mut before = std::mem::take(&mut self.0);
        let mut list = Vec::new();
        for message in stored.iter().filter(|message| !message.is_gone()) {
            let name = message.key(READERS_PREFIX).and_then(|key| ReaderName::parse(key).ok());
            let said = serde_json::from_slice::<ReaderPosition>(&message.payload);
            let (Some(name), Ok(said)) = (name, said) else {
                tracing::debug!(subject = %message.subject, "a replica's position cannot be read");
                continue;
            };
            let (_, since, last_seen) = match before.remove(&name) {
                Some(known) if known.0 == message.seq => known,
                Some(_) => (message.seq, at, now),
                None => (message.seq, at, stored_at(message).unwrap_or(now)),
            };
            self.0.insert(name.clone(), (message.seq, since, last_seen));
            list.push(Replica { name, said, last_seen, silent: at.duration_since(since) >= SILENT });
        }
        list.sort_by(|a, b| a.name.cmp(&b.name));
        list
    }
}

/// When the broker stored a message, by its clock.
fn stored_at(message: &Stored) -> Option<UnixMs> {
    let text = message.headers.get("Nats-Time-Stamp")?.as_str();
    text.parse::<jiff::Timestamp>().ok().map(|at| UnixMs(at.as_millisecond()))
}

/// Why a replica was not dropped.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// No such replica.
    #[error("no replica {0} is registered: see them with snapfleet-master replica list")]
    Unknown(ReaderName),
    /// It has just written its position.
    #[error("replica {0} has just written its position: stop it first")]
    Runs(ReaderName),
    /// There is no connection to the broker yet.
    #[error("the master has not reached the broker yet: try again once it has")]
    NotConnected,
    /// The broker refuses or does not answer.
    #[error("replica {name} cannot be dropped: {error}")]
    Broker {
        /// Which one.
        name: ReaderName,
        /// What the broker said.
        error: PublishError,
    },
}

/// Drops replicas that are not coming back. Clones share the connection that is given later.
#[derive(Clone, Default)]
pub struct Registry {
    broker: Arc<OnceLock<Broker>>,
}

impl Registry {
    /// Gives it the connection; the first stays.
    pub fn reached(&self, broker: &Broker) {
        let _ = self.broker.set(broker.clone());
    }

    /// Drops a replica: it holds nothing back any more. One that runs registers itself again.
    ///
    /// # Errors
    /// [`RemoveError`].
    pub async fn remove(&self, name: &ReaderName) -> Result<(), RemoveError> {
        let broker = self.broker.get().ok_or(RemoveError::NotConnected)?;
        let failed = |error| RemoveError::Broker { name: name.clone(), error };
        let subject = format!("{READERS_PREFIX}{name}");
        let last = last_at_leader(broker, READERS_STREAM, &subject).await.map_err(failed)?;
        let Some(last) = last.filter(|last| !last.is_gone()) else {
            return Err(RemoveError::Unknown(name.clone()));
        };
        match delete_key(broker, subject, Some(last.seq)).await {
            Ok(_) => {
                tracing::info!(replica = %name, "replica removed");
                Ok(())
            }
            Err(PublishError::Conflict(_)) => Err(RemoveError::Runs(name.clone())),
            Err(error) => Err(failed(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(name: &str, seq: u64, broker_time: &str) -> Stored {
        let said = ReaderPosition { host: "h".to_owned(), position: None, at: UnixMs(1) };
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Nats-Time-Stamp", broker_time);
        let payload = serde_json::to_vec(&said).unwrap().into();
        Stored { subject: format!("{READERS_PREFIX}{name}"), seq, headers, payload }
    }

    #[test]
    fn who_is_silent_is_told_by_our_own_clock_alone() {
        let (mut seen, start, second) = (Seen::default(), Instant::now(), Duration::from_secs(1));
        // The broker's clock is years behind ours.
        let list = seen.call(&[written("a", 1, "2020-01-01T00:00:00Z")], start, UnixMs(9_000));
        assert_eq!((list[0].last_seen, list[0].silent), (UnixMs(1_577_836_800_000), false));
        let again = seen.call(&[written("a", 1, "2020-01-01T00:00:00Z")], start + 29 * second, UnixMs(9_029));
        assert!(!again[0].silent);
        let later = seen.call(&[written("a", 1, "2020-01-01T00:00:00Z")], start + 30 * second, UnixMs(9_030));
        assert!(later[0].silent);
        let back = seen.call(&[written("a", 2, "2020-01-01T00:00:31Z")], start + 31 * second, UnixMs(9_031));
        assert_eq!((back[0].last_seen, back[0].silent), (UnixMs(9_031), false));
        let mut gone = written("a", 3, "2020-01-01T00:00:32Z");
        gone.headers.insert("KV-Operation", "DEL");
        assert!(seen.call(&[gone], start, UnixMs(9_032)).is_empty());
    }
}
