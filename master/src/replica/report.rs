//! A replica's word of how far it has come: written to its key when it has come further, and at least every ten
//! seconds, so that silence tells.
//!
//! Each write names the one that it replaces. So two replicas that were given one name find out, in place of each
//! holding back only what the other needs.

use std::time::{Duration, Instant};

use bytes::Bytes;
use snapfleet_broker::{Broker, PublishError, last_per_subject, put_key};
use snapfleet_protocol::stream::{READERS_PREFIX, READERS_STREAM};
use snapfleet_protocol::{ReaderName, ReaderPosition, StreamPoint};
use tokio_util::sync::CancellationToken;

use super::SILENT;
use crate::api::{Live, now};
use crate::store::DataStore;

/// How often the position is looked at, and written if it has changed.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long it goes unwritten at most.
const WRITE_AT_LEAST_EVERY: Duration = Duration::from_secs(10);
/// Tries of one write: the second is for a lost ack.
const TRIES: usize = 2;

/// Writes the store's position under `name` until `shutdown`, and once more then.
pub(crate) async fn run(
    name: ReaderName,
    broker: Broker,
    store: DataStore,
    live: Live,
    shutdown: CancellationToken,
) {
    let subject = format!("{READERS_PREFIX}{name}");
    let (acked, tried) = (Bytes::new(), Bytes::new());
    let mut report = Report { broker, subject, last: None, acked, tried, other: None };
    let mut written: Option<(Option<StreamPoint>, Instant)> = None;
    let mut logged = String::new();
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let ends = tokio::select! {
            _ = ticks.tick() => false,
            () = shutdown.cancelled() => true,
        };
        if report.broker.is_connected() {
            let position = match store.read(|query| query.totals()).await {
                Ok(totals) => totals.position,
                // Ingest ends for the same reason, and says so.
                Err(error) => return tracing::debug!(%error, "the store's position cannot be read"),
            };
            let position =
                position.map(|position| StreamPoint { incarnation: position.incarnation, seq: position.seq });
            let fresh = written.is_some_and(|(known, at)| {
                known == position && (ends || at.elapsed() < WRITE_AT_LEAST_EVERY)
            });
            if !fresh {
                let problem = report.write(position).await.err();
                written = problem.is_none().then(|| (position, Instant::now()));
                let text = problem.clone().unwrap_or_default();
                if text != logged {
                    match &problem {
                        Some(problem) => tracing::warn!(replica = %name, problem, "position not written"),
                        None => tracing::info!(replica = %name, "position is written again"),
                    }
                    logged = text;
                }
                live.note(|moment| moment.replicas.write_problem = problem);
            }
        }
        if ends {
            return;
        }
    }
}

struct Report {
    broker: Broker,
    subject: String,
    /// The sequence of the key's last message, where it is known; 0 where it has none.
    last: Option<u64>,
    /// What was last known to be stored by us, and what was last tried.
    acked: Bytes,
    tried: Bytes,
    /// Another's write, when it was found, and what is said of it.
    other: Option<(u64, Instant, String)>,
}

impl Report {
    async fn write(&mut self, position: Option<StreamPoint>) -> Result<(), String> {
        for _ in 0..TRIES {
            let expected = match self.last {
                Some(seq) => seq,
                None => self.look().await?,
            };
            let said = ReaderPosition { host: crate::host_name(), position, at: now() };
            self.tried = serde_json::to_vec(&said).map_err(|error| error.to_string())?.into();
            let (subject, value) = (self.subject.clone(), self.tried.clone());
            match put_key(&self.broker, subject, value, Some(expected)).await {
                Ok(ack) => {
                    (self.last, self.acked) = (Some(ack.seq), self.tried.clone());
                    return Ok(());
                }
                // The ack before was lost, it was removed by hand, or another writes here: a look tells.
                Err(PublishError::Conflict(_)) => self.last = None,
                Err(error) => return Err(format!("its position cannot be written: {error}")),
            }
        }
        Err("its position cannot be written: its key changes all the time".to_owned())
    }

    /// The key's last sequence; an error while another than us writes it.
    async fn look(&mut self) -> Result<u64, String> {
        if let Some((_, found, problem)) = &self.other
            && found.elapsed() < SILENT
        {
            return Err(problem.clone());
        }
        let stored = last_per_subject(&self.broker, READERS_STREAM, &self.subject).await;
        let stored = stored.map_err(|error| format!("its position cannot be read: {error}"))?;
        let Some(stored) = stored.into_iter().next() else {
            self.last = Some(0);
            return Ok(0);
        };
        // Before our first write it is our own of an earlier start, as far as can be told.
        let ours = self.tried.is_empty() || stored.payload == self.acked || stored.payload == self.tried;
        let ended = self.other.as_ref().is_some_and(|(seq, _, _)| *seq == stored.seq);
        if ours || ended || stored.is_gone() {
            (self.last, self.other) = (Some(stored.seq), None);
            return Ok(stored.seq);
        }
        let host = serde_json::from_slice::<ReaderPosition>(&stored.payload).map(|said| said.host);
        let host = host.unwrap_or_else(|_| "an unknown host".to_owned());
        let problem = format!("another replica of the same name runs on {host}: give each a name of its own");
        self.other = Some((stored.seq, Instant::now(), problem.clone()));
        Err(problem)
    }
}
