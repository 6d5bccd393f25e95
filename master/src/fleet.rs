//! The running workers, as their heartbeats tell: read from the broker each second, kept nowhere. Who comes and who
//! goes is logged here.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use snapfleet_broker::{Broker, last_per_subject};
use snapfleet_protocol::stream::{HEARTBEAT_EVERY_MS, HEARTBEAT_TTL_S, WORKERS_PREFIX, WORKERS_STREAM};
use snapfleet_protocol::{Heartbeat, HeldAccounts, InstanceId};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often the heartbeats are read.
const READ_EVERY: Duration = Duration::from_secs(1);

/// How long after a connection began every running worker's heartbeat has come: who is not seen by then does not
/// run. A heartbeat's life, the time between two, and as much again for workers that reconnect and for our reading.
pub(crate) const HEARTBEATS_DUE: Duration =
    Duration::from_millis(HEARTBEAT_TTL_S * 1_000 + 2 * HEARTBEAT_EVERY_MS);

/// What the subject of the accounts that an instance holds ends with.
const HELD_ACCOUNTS_END: &str = ".accounts";

/// Accounts that a log line names.
const ACCOUNTS_LOGGED_MAX: usize = 20;

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

/// Reads the heartbeats each second, until `shutdown`. Set `fleet` up with `watch::channel(Fleet::default())`; it is
/// emptied when the connection is lost, and holds what was read since it came back.
pub async fn run(broker: Broker, fleet: watch::Sender<Fleet>, shutdown: CancellationToken) {
    let mut connections = broker.connections();
    let mut reader = Reader { broker: broker.clone(), reported: HashSet::new(), failing: false };
    let mut roll = Roll::default();
    let mut ticks = tokio::time::interval(READ_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut began = Instant::now();
    loop {
        let read = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            // What is being read is of the connection before.
            Ok(()) = connections.changed() => None,
            read = async {
                ticks.tick().await;
                if broker.is_connected() { Some(reader.read().await) } else { None }
            } => read,
        };
        match read {
            Some(Ok((workers, unreadable))) => {
                roll.call(&workers, began.elapsed() >= HEARTBEATS_DUE);
                fleet.send_replace(Fleet { workers, unreadable, problem: None });
            }
            Some(Err(problem)) => fleet.send_modify(|fleet| fleet.problem = Some(problem)),
            None => {
                began = Instant::now();
                fleet.send_replace(Fleet::default());
            }
        }
    }
}

/// The workers that were told to be online, each as its last heartbeat says.
#[derive(Default)]
struct Roll(BTreeMap<InstanceId, Heartbeat>);

impl Roll {
    /// Logs who has come, and, where all heartbeats are `complete`, who has gone; returns their numbers.
    fn call(&mut self, workers: &[Heartbeat], complete: bool) -> (usize, usize) {
        let (mut come, mut gone) = (0, 0);
        for worker in workers {
            if self.0.insert(worker.instance.clone(), worker.clone()).is_none() {
                come += 1;
                tracing::info!(
                    worker.instance = %worker.instance,
                    worker.host = worker.host,
                    accounts = accounts_of(worker),
                    "worker online"
                );
            }
        }
        if complete {
            self.0.retain(|instance, worker| {
                let here = workers.iter().any(|worker| worker.instance == *instance);
                if !here {
                    gone += 1;
                    tracing::warn!(
                        worker.instance = %instance,
                        worker.host = worker.host,
                        accounts = accounts_of(worker),
                        "worker gone"
                    );
                }
                here
            });
        }
        (come, gone)
    }
}

/// The accounts that a worker holds, by name, up to a number.
fn accounts_of(worker: &Heartbeat) -> String {
    let names = worker.accounts.iter().take(ACCOUNTS_LOGGED_MAX).map(|health| health.account.to_string());
    let mut names: Vec<String> = names.collect();
    if worker.accounts.len() > names.len() {
        names.push(format!("and {} more", worker.accounts.len() - names.len()));
    }
    names.join(" ")
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
        let mut held = HashMap::new();
        for message in stored.iter().filter(|message| !message.is_gone()) {
            let is_held = message.subject.ends_with(HELD_ACCOUNTS_END);
            let read = if is_held {
                serde_json::from_slice::<HeldAccounts>(&message.payload)
                    .map(|read| drop(held.insert(read.instance, read.accounts)))
            } else {
                serde_json::from_slice::<Heartbeat>(&message.payload).map(|heartbeat| workers.push(heartbeat))
            };
            if let Err(error) = read {
                if !self.reported.contains(&message.seq) {
                    tracing::warn!(subject = %message.subject, %error, "a heartbeat cannot be read");
                }
                unreadable.insert(message.seq);
            }
        }
        for worker in &mut workers {
            worker.accounts = held.remove(&worker.instance).unwrap_or_default();
        }
        workers.sort_by(|a, b| a.instance.cmp(&b.instance));
        let count = unreadable.len() as u64;
        self.reported = unreadable;
        Ok((workers, count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use snapfleet_protocol::WorkerId;

    fn worker(instance: &str) -> Heartbeat {
        Heartbeat {
            host: "host-1".to_owned(),
            ..Heartbeat::new(InstanceId::parse(instance).unwrap(), WorkerId::parse("w").unwrap())
        }
    }

    #[test]
    fn who_is_missing_has_gone_only_once_all_heartbeats_have_come() {
        let mut roll = Roll::default();
        assert_eq!(roll.call(&[worker("w1"), worker("w2")], false), (2, 0));
        assert_eq!(roll.call(&[worker("w1")], false), (0, 0));
        assert_eq!(roll.call(&[worker("w1"), worker("w2")], true), (0, 0));
        assert_eq!(roll.call(&[worker("w1")], true), (0, 1));
        assert_eq!(roll.call(&[], true), (0, 1));
        assert_eq!(roll.call(&[worker("w3")], true), (1, 0));
    }
}
