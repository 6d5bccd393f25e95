//! This worker's sign of life: a small key with a time to live, and beside it the accounts it holds, written when
//! that changes.
//!
//! Both are raw publishes: the client's key-value calls would drop the time to live on an update.

use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use snapfleet_broker::{Broker, BrokerConfig, Outgoing, PublishError, publish, withdraw_key};
use snapfleet_protocol::stream::{HEARTBEAT_EVERY_MS, HEARTBEAT_TTL_S, HELD_ACCOUNTS_KEY, WORKERS_PREFIX};
use snapfleet_protocol::{AccountHealth, Heartbeat, HeldAccounts, InstanceId, PlatformName};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Identity;
use super::gate::{Gate, Moment};
use crate::roster::{Roster, now};

/// A heartbeat without an answer for this long is sent again: two more fit before the gate closes.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(1_200);
/// The pause before a heartbeat that failed is sent again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// How long what is told of the held accounts lives; only read beside a living heartbeat.
const HELD_TTL_S: u64 = 120;
/// How long the mark of a worker that has left lives: long enough to be seen by all.
const WITHDRAWN_TTL_S: u64 = 60;
/// What did not change is told again after this.
const HELD_AGAIN_AFTER: Duration = Duration::from_secs(40);
/// What is told of the held accounts takes at most this many bytes a second of the broker, whatever their number;
/// and where only times and counts of captures have changed, this many.
const HELD_BYTES_PER_S: usize = 20_000;
const QUIET_BYTES_PER_S: usize = 2_000;
/// Times and counts of captures are told at most this often.
const QUIET_EVERY: Duration = Duration::from_secs(10);

/// What the heartbeat tells beside the roster.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told {
    pub(crate) leaving: bool,
    pub(crate) pages: u32,
    pub(crate) browser_bytes: u64,
    pub(crate) left_behind: Vec<snapfleet_protocol::LeftBehind>,
    pub(crate) problems: Vec<String>,
    pub(crate) platforms: Vec<PlatformName>,
}

/// Publishes heartbeats until `stop`, on a thread and a connection of their own: behind the snapshots of a thousand
/// accounts, or a runtime that is busy with them, an ack would come too late, and all accounts be given up for it.
///
/// # Errors
/// Where the system gives no thread.
pub(crate) fn start(
    config: BrokerConfig,
    identity: Identity,
    (roster, gate): (Roster, Gate),
    told: watch::Receiver<Told>,
    stop: CancellationToken,
) -> std::io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let beat = async move {
        let config = BrokerConfig { name: format!("{} heartbeat", config.name), ..config };
        match Broker::connect(&config, &stop).await {
            Ok(broker) => beat(broker, identity, roster, gate, told, stop).await,
            Err(_) if stop.is_cancelled() => {}
            Err(error) => tracing::error!(%error, "no heartbeats: this worker takes no accounts; restart it"),
        }
    };
    std::thread::Builder::new().name("heartbeat".to_owned()).spawn(move || runtime.block_on(beat))
}

/// Publishes heartbeats until `stop`, then withdraws the key, so that the worker is gone at once.
async fn beat(
    broker: Broker,
    identity: Identity,
    roster: Roster,
    gate: Gate,
    told: watch::Receiver<Told>,
    stop: CancellationToken,
) {
    let mut every = tokio::time::interval(Duration::from_millis(HEARTBEAT_EVERY_MS));
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut failing = false;
    let mut held = Held::default();
    loop {
        tokio::select! {
            _ = every.tick() => {}
            () = stop.cancelled() => break,
        }
        let beat = heartbeat(&broker, &identity, &roster, &told.borrow());
        let sent_at = Moment::now();
        let sent = tokio::select! {
            sent = send(&broker, &identity.instance, &beat) => sent,
            () = stop.cancelled() => break,
        };
        match &sent {
            Ok(()) => gate.renewed(sent_at),
            Err(error) if failing => tracing::debug!(%error, "heartbeat is not stored"),
            Err(error) => {
                tracing::warn!(%error, "heartbeat is not stored: others will take this worker's accounts");
            }
        }
        if failing && sent.is_ok() {
            tracing::info!("heartbeats are stored again");
        }
        failing = sent.is_err();
        if failing {
            every.reset_after(RETRY_PAUSE);
            continue;
        }
        held.tell(&broker, &identity.instance, roster.all()).await;
    }
    gate.shut();
    for key in [format!("{WORKERS_PREFIX}{}.{HELD_ACCOUNTS_KEY}", identity.instance), key(&identity.instance)]
    {
        let withdrawn =
            tokio::time::timeout(ANSWER_TIMEOUT, withdraw_key(&broker, key, WITHDRAWN_TTL_S)).await;
        if !matches!(withdrawn, Ok(Ok(_))) {
            tracing::warn!("the heartbeat is not withdrawn: it expires by itself");
        }
    }
}

fn key(instance: &InstanceId) -> String {
    format!("{WORKERS_PREFIX}{instance}")
}

fn heartbeat(broker: &Broker, identity: &Identity, roster: &Roster, told: &Told) -> Heartbeat {
    let (holding, published_at) = roster.summary();
    let mut problems = broker.problems();
    problems.extend(told.problems.iter().cloned());
    Heartbeat {
        host: identity.host.clone(),
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: identity.started_at,
        at: now(),
        max_accounts: identity.max_accounts,
        labels: identity.labels.clone(),
        platforms: told.platforms.clone(),
        leaving: told.leaving,
        holding,
        pages: told.pages,
        memory_bytes: resident_bytes().unwrap_or(0),
        browser_bytes: told.browser_bytes,
        published_at,
        problems,
        left_behind: told.left_behind.clone(),
        ..Heartbeat::new(identity.instance.clone(), identity.worker.clone())
    }
}

async fn send(broker: &Broker, instance: &InstanceId, beat: &Heartbeat) -> Result<(), PublishError> {
    let payload = serde_json::to_vec(beat).map_err(|error| PublishError::Failed(error.to_string()))?;
    put(broker, key(instance), payload, HEARTBEAT_TTL_S).await
}

async fn put(broker: &Broker, subject: String, payload: Vec<u8>, ttl_s: u64) -> Result<(), PublishError> {
    let message = Outgoing {
        subject,
        payload: Bytes::from(payload),
        message_id: None,
        expected_last: None,
        ttl_s: Some(ttl_s),
        headers: Vec::new(),
    };
    let published = tokio::time::timeout(ANSWER_TIMEOUT, publish(broker, &message)).await;
    published.map_err(|_| PublishError::Unanswered)?.map(|_| ())
}

/// What was last told of the held accounts.
#[derive(Default)]
struct Held {
    told: Vec<AccountHealth>,
    told_at: Option<Instant>,
    bytes: usize,
    failing: bool,
}

impl Held {
    async fn tell(&mut self, broker: &Broker, instance: &InstanceId, accounts: Vec<AccountHealth>) {
        let elapsed = self.told_at.map(|at| at.elapsed());
        let pause = |bytes_per_s: usize| Duration::from_millis((self.bytes * 1_000 / bytes_per_s) as u64);
        let due_after = match differ(&self.told, &accounts) {
            Differ::Much => pause(HELD_BYTES_PER_S),
            Differ::InCaptures => pause(QUIET_BYTES_PER_S).clamp(QUIET_EVERY, HELD_AGAIN_AFTER),
            Differ::Not => HELD_AGAIN_AFTER,
        };
        if elapsed.is_some_and(|elapsed| elapsed < due_after) {
            return;
        }
        let held = HeldAccounts { instance: instance.clone(), at: now(), accounts };
        let subject = format!("{WORKERS_PREFIX}{instance}.{HELD_ACCOUNTS_KEY}");
        let encoded = serde_json::to_vec(&held).map_err(|error| PublishError::Failed(error.to_string()));
        let bytes = encoded.as_ref().map_or(0, Vec::len);
        let sent = match encoded {
            Ok(payload) => put(broker, subject, payload, HELD_TTL_S).await,
            Err(error) => Err(error),
        };
        let failed = sent.is_err();
        match sent {
            Ok(()) => {
                self.told = held.accounts;
                self.told_at = Some(Instant::now());
                self.bytes = bytes;
            }
            Err(error) if !self.failing => {
                tracing::warn!(%error, "what is held is not told: status shows it as it was");
            }
            Err(_) => {}
        }
        self.failing = failed;
    }
}

/// How far what somebody would see differs from what was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Differ {
    Not,
    InCaptures,
    Much,
}

fn differ(told: &[AccountHealth], now: &[AccountHealth]) -> Differ {
    if told.len() != now.len() {
        return Differ::Much;
    }
    let one = |(told, now): (&AccountHealth, &AccountHealth)| {
        if told == now {
            return Differ::Not;
        }
        let captures_alone =
            AccountHealth { captured_at: now.captured_at, captured: now.captured, ..told.clone() } == *now;
        if captures_alone { Differ::InCaptures } else { Differ::Much }
    };
    told.iter().zip(now).map(one).max().unwrap_or(Differ::Not)
}

/// Resident memory of this process, from the second field of /proc/self/statm (proc(5)), in pages.
fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages = statm.split_whitespace().nth(1)?.parse::<u64>().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}
