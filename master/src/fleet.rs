//! The running workers, as their heartbeats tell: read from the broker each second, kept nowhere.

use std::collections::HashSet;
use std::time::Duration;

use snapfleet_broker::{Broker, Stored, last_per_subject};
use snapfleet_protocol::Heartbeat;
use snapfleet_protocol::stream::{WORKERS_PREFIX, WORKERS_STREAM};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often the heartbeats are read.
const READ_EVERY: Duration = Duration::from_secs(1);

/// Headers of messages that say that a key is gone rather than what it holds.
const HEADERS_GONE: [&str; 2] = ["KV-Operation", "Nats-Marker-Reason"];

/// What is known of the fleet at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fleet {
    /// One heartbeat for each running worker, by instance.
    pub workers: Vec<Heartbeat>,
    /// Heartbeats at the last look that could not be read.
    pub unreadable: u64,
    /// Why the heartbeats could not be read at the last look; `workers` is then as of the look before.
    pub problem: Option<String>,
}

/// Reads the heartbeats each second, until `shutdown`. Set `fleet` up with `watch::channel(Fleet::default())`.
pub async fn run(broker: Broker, fleet: watch::Sender<Fleet>, shutdown: CancellationToken) {
    let mut reader = Reader { broker, reported: HashSet::new(), failing: false };
    let mut ticks = tokio::time::interval(READ_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.cancelled() => return,
        }
        let read = tokio::select! {
            read = reader.read() => read,
            () = shutdown.cancelled() => return,
        };
        match read {
            Ok((workers, unreadable)) => {
                fleet.send_replace(Fleet { workers, unreadable, problem: None });
            }
            Err(problem) => {
                fleet.send_modify(|fleet| fleet.problem = Some(problem));
            }
        }
    }
}

struct Reader {
    broker: Broker,
    /// Messages that were logged as unreadable, so that each is logged once.
    reported: HashSet<u64>,
    failing: bool,
}

impl Reader {
    async fn read(&mut self) -> Result<(Vec<Heartbeat>, u64), String> {
        let filter = format!("{WORKERS_PREFIX}>");
        let stored = match last_per_subject(&self.broker, WORKERS_STREAM, &filter).await {
            Ok(stored) => stored,
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(%error, "heartbeats of the workers cannot be read");
                }
                return Err(format!("heartbeats of the workers cannot be read: {error}"));
            }
        };
        self.failing = false;
        let mut workers = Vec::new();
        let mut unreadable = HashSet::new();
        for message in stored.iter().filter(|message| !is_gone(message)) {
            match serde_json::from_slice::<Heartbeat>(&message.payload) {
                Ok(heartbeat) => workers.push(heartbeat),
                Err(error) => {
                    if !self.reported.contains(&message.seq) {
                        tracing::warn!(subject = %message.subject, %error, "a heartbeat cannot be read");
                    }
                    unreadable.insert(message.seq);
                }
            }
        }
        workers.sort_by(|a, b| a.instance.cmp(&b.instance));
        let count = unreadable.len() as u64;
        self.reported = unreadable;
        Ok((workers, count))
    }
}

/// Whether a message only marks that its key was deleted or has expired.
fn is_gone(message: &Stored) -> bool {
    HEADERS_GONE.iter().any(|name| message.headers.get(*name).is_some())
}
