//! Workers that die, stop, and come back: who publishes for their accounts then, how soon, and that nothing is lost,
//! there twice, or published by one whose term is over. Simulated accounts; everything behind them is real.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/simulation.rs"]
mod simulation;

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use simulation::{STORED_WITHIN, end_of};
use snapfleet_broker::{Broker, BrokerConfig, read_subject};
use snapfleet_protocol::stream::SNAPSHOTS;
use snapfleet_protocol::{Snapshot, SnapshotKind, decode_snapshot};
use snapfleet_testkit::fleet::{Fleet, Simulated};
use snapfleet_testkit::{TestBroker, eventually};
use snapfleet_worker::normalise::time;
use snapfleet_worker::roster::now;
use tokio_util::sync::CancellationToken;

const TAKEN_WITHIN: Duration = Duration::from_secs(60);
/// A dead worker's accounts are published from elsewhere within this.
const TAKEN_OVER_WITHIN_MS: i64 = 10_000;

fn is_long() -> bool {
    std::env::var_os("SNAPFLEET_TEST_LONG").is_some()
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// A broker, a master and workers on this machine.
struct Here {
    fleet: Fleet,
    broker: TestBroker,
    stream: Broker,
}

/// A snapshot as the stream has it, and when the broker stored it, in milliseconds since 1970.
struct Stored {
    at_ms: i64,
    snapshot: Snapshot,
}

impl Here {
    async fn start(simulated: Simulated, workers: &[&str]) -> Self {
        let broker = TestBroker::start();
        let mut fleet = Fleet::new(simulated);
        let master = || Command::new(Fleet::program("snapfleet-master"));
        fleet.start_master(master(), &broker.url(), &[]);
        let config = BrokerConfig {
            url: broker.url(),
            user: "worker".to_owned(),
            password: TestBroker::password("worker").to_owned(),
            name: "test".to_owned(),
        };
        let stream = Broker::connect(&config, &CancellationToken::new()).await.unwrap();
        fleet.import_accounts(master);
        let mut here = Self { fleet, broker, stream };
        for id in workers {
            here.start_worker(id);
        }
        here
    }

    fn start_worker(&mut self, id: &str) {
        let command = Command::new(Fleet::program("snapfleet-worker"));
        self.fleet.start_worker(id, command, &self.broker.url());
    }

    fn worker(&mut self, id: &str) -> &mut snapfleet_testkit::process::Process {
        self.fleet.workers.get_mut(id).unwrap()
    }

    /// Waits until all accounts are captured by these workers alone, each having some.
    async fn wait_for_holders(&self, workers: &[&str]) -> BTreeMap<String, String> {
        let instances = eventually(TAKEN_WITHIN, "these workers alone are online", async || {
            let status = self.fleet.api("status").await?;
            let list = status["workers"]["list"].as_array()?.clone();
            let pair = |worker: &serde_json::Value| {
                Some((worker["instance"].as_str()?.to_owned(), worker["worker"].as_str()?.to_owned()))
            };
            let online: BTreeMap<String, String> = list.iter().filter_map(pair).collect();
            let same =
                online.len() == workers.len() && workers.iter().all(|id| online.values().any(|on| on == id));
            same.then_some(online)
        })
        .await;
        let all_hold = |holders: &BTreeMap<String, String>| {
            let holds = |worker: &&str| {
                holders.values().any(|instance| instances.get(instance).map(String::as_str) == Some(worker))
            };
            workers.iter().all(holds) && holders.values().all(|instance| instances.contains_key(instance))
        };
        let holders = self.fleet.wait_for_holders(TAKEN_WITHIN, all_hold).await;
        holders.into_iter().map(|(account, instance)| (account, instances[&instance].clone())).collect()
    }

    /// Everything that the stream holds of an account, in its order.
    async fn stored(&self, account: &str) -> Vec<Stored> {
        let (mut all, mut from) = (Vec::new(), 1);
        loop {
            let page = read_subject(&self.stream, SNAPSHOTS, &format!("snapshot.{account}"), from).await;
            let (messages, pending) = page.unwrap();
            for message in messages {
                from = message.seq + 1;
                let at = message.headers.get("Nats-Time-Stamp").unwrap().as_str();
                let at_ms = time::parse(&format!("{at:?}"), now()).unwrap().0;
                all.push(Stored { at_ms, snapshot: decode_snapshot(&message.payload).unwrap() });
            }
            if pending == 0 {
                return all;
            }
        }
    }

    /// No term's message stands behind one of a later term: the broker has refused every publish of a holder after
    /// the next one's claim.
    async fn assert_terms_in_order(&self) {
        for account in self.fleet.accounts() {
            let terms: Vec<_> = self
                .stored(&account)
                .await
                .iter()
                .map(|one| (one.snapshot.epoch, one.snapshot.seq))
                .collect();
            assert!(terms.is_sorted_by(|a, b| a < b), "{account}: {terms:?}");
        }
    }

    async fn assert_whole(&self, simulated: Simulated) {
        let deadline = STORED_WITHIN + Duration::from_secs(simulated.steps);
        self.fleet.wait_until_stored(deadline, &end_of(&self.fleet, simulated)).await;
        self.assert_terms_in_order().await;
        let status = self.fleet.api("status").await.unwrap();
        assert_eq!(
            (&status["sync"]["fenced"], &status["store"]["dead_letters"]),
            (&0.into(), &0.into()),
            "{status}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_workers_accounts_are_published_from_elsewhere_within_ten_seconds() {
    let rounds = if is_long() { 20 } else { 3 };
    let steps = rounds as u64 * 25;
    let simulated = Simulated { accounts: 30, records: 50, change_rate: 0.05, seed: 3, steps };
    let mut here = Here::start(simulated, &["w1", "w2", "w3"]).await;
    let mut holders = here.wait_for_holders(&["w1", "w2", "w3"]).await;
    let (mut claims, mut news) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let victim = ["w1", "w2", "w3"][round % 3];
        let theirs: Vec<String> = holders
            .iter()
            .filter(|(_, worker)| *worker == victim)
            .map(|(account, _)| account.clone())
            .collect();
        let killed_ms = now_ms();
        here.worker(victim).kill();
        let left: Vec<&str> = ["w1", "w2", "w3"].into_iter().filter(|id| *id != victim).collect();
        here.wait_for_holders(&left).await;
        for account in &theirs {
            // Of a new term; when the kill was, the account was held. A lease is taken some time before the claim is stored.
            let after = eventually(STORED_WITHIN, "the account is claimed", async || {
                let stored = here.stored(account).await;
                let before =
                    stored.iter().filter(|one| one.at_ms < killed_ms).map(|one| one.snapshot.epoch).max();
                let after = stored.into_iter().filter(|one| Some(one.snapshot.epoch) > before);
                Some(after.collect::<Vec<Stored>>()).filter(|after| !after.is_empty())
            })
            .await;
            let claim = &after[0];
            claims.push(claim.at_ms - killed_ms);
            let first = after.iter().find(|one| one.snapshot.kind != SnapshotKind::Claim);
            news.extend(first.map(|one| one.at_ms - killed_ms));
        }
        here.start_worker(victim);
        holders = here.wait_for_holders(&["w1", "w2", "w3"]).await;
    }
    claims.sort_unstable();
    news.sort_unstable();
    eprintln!("from a worker's death to the next holder's claim, {}", distribution(&claims));
    eprintln!("from a worker's death to the next holder's first records, {}", distribution(&news));
    assert!(claims.last().unwrap() < &TAKEN_OVER_WITHIN_MS, "{claims:?}");
    here.assert_whole(simulated).await;
}

fn distribution(sorted: &[i64]) -> String {
    let at = |part: usize| sorted[(sorted.len() - 1) * part / 100];
    let (min, p50, p90, max) = (at(0), at(50), at(90), at(100));
    format!("{} accounts: min {min} ms, p50 {p50}, p90 {p90}, max {max}", sorted.len())
}

/// Nothing that a stopped worker had under way gets in once others hold its accounts, and it lets them go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_was_stopped_for_long_lets_go_what_others_hold() {
    let stopped_s = if is_long() { 60 } else { 12 };
    let simulated = Simulated { accounts: 12, records: 50, change_rate: 0.1, seed: 4, steps: stopped_s + 40 };
    let mut here = Here::start(simulated, &["w1", "w2"]).await;
    let before = here.wait_for_holders(&["w1", "w2"]).await;
    let theirs: Vec<&String> =
        before.iter().filter(|(_, worker)| *worker == "w1").map(|(account, _)| account).collect();
    here.worker("w1").signal("STOP");
    here.wait_for_holders(&["w2"]).await;
    tokio::time::sleep(Duration::from_secs(stopped_s)).await;
    here.worker("w1").signal("CONT");
    eventually(Duration::from_secs(20), "it lets go what the other holds", async || {
        let log = here.fleet.workers["w1"].log();
        let let_go = |account: &&&String| {
            log.contains(&format!("another worker holds the account now; what was not published stays on disk account.id={account}"))
        };
        (theirs.iter().filter(let_go).count() == theirs.len()).then_some(())
    })
    .await;
    here.wait_for_holders(&["w1", "w2"]).await;
    here.assert_whole(simulated).await;
}

/// Heartbeats expire while the broker is away, for all workers alike: those that come back first must not take all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_outage_of_the_broker_each_worker_goes_on_with_its_own_accounts() {
    let away_s = if is_long() { 600 } else { 15 };
    let simulated = Simulated { accounts: 12, records: 50, change_rate: 0.1, seed: 6, steps: away_s + 40 };
    let mut here = Here::start(simulated, &["w1", "w2", "w3"]).await;
    let before = here.wait_for_holders(&["w1", "w2", "w3"]).await;
    here.broker.kill();
    tokio::time::sleep(Duration::from_secs(away_s / 2)).await;
    // One of them is killed and started again meanwhile: its accounts are its own all the same.
    here.worker("w2").kill();
    here.start_worker("w2");
    tokio::time::sleep(Duration::from_secs(away_s / 2)).await;
    here.broker.restart();
    let after = here.wait_for_holders(&["w1", "w2", "w3"]).await;
    assert_eq!(before, after, "an outage moves nothing");
    here.assert_whole(simulated).await;
}

/// A worker that joins gets its share, and nothing else moves; one that is told to stop gives its accounts back at
/// once; a steady fleet moves nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_joins_and_leaves_and_only_what_must_moves() {
    let simulated = Simulated { accounts: 24, records: 20, change_rate: 0.05, seed: 7, steps: 40 };
    let mut here = Here::start(simulated, &["w1", "w2"]).await;
    let before = here.wait_for_holders(&["w1", "w2"]).await;
    here.start_worker("w3");
    let joined = eventually(TAKEN_WITHIN, "the third has its share", async || {
        let holders = here.wait_for_holders(&["w1", "w2", "w3"]).await;
        let of = |id: &str| holders.values().filter(|worker| *worker == id).count();
        ([of("w1"), of("w2"), of("w3")] == [8, 8, 8]).then_some(holders)
    })
    .await;
    let moved: Vec<_> = joined.iter().filter(|(account, worker)| before[*account] != **worker).collect();
    assert!(moved.iter().all(|(_, worker)| *worker == "w3") && moved.len() == 8, "{moved:?}");
    let leases = async || here.lease_sequences().await;
    let steady = leases().await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(leases().await, steady, "a steady fleet writes no lease");
    let told_ms = now_ms();
    here.worker("w3").signal("TERM");
    let left = here.wait_for_holders(&["w1", "w2"]).await;
    let back_ms = now_ms() - told_ms;
    eprintln!("8 accounts are captured elsewhere {back_ms} ms after their worker was told to stop");
    let kept = before.iter().filter(|(account, worker)| joined[*account] == **worker);
    for (account, worker) in kept {
        assert_eq!(left[account], *worker, "{account} moved though its worker stayed");
    }
    here.assert_whole(simulated).await;
}

/// Sequences begin anew in a bucket that was deleted: those who hold accounts acquire them again, and nobody is robbed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_of_leases_that_was_made_anew_is_filled_by_those_who_hold() {
    let simulated = Simulated { accounts: 12, records: 20, change_rate: 0.1, seed: 8, steps: 40 };
    let mut here = Here::start(simulated, &["w1", "w2"]).await;
    here.wait_for_holders(&["w1", "w2"]).await;
    // So that sequences are high, and one holder's are higher than others'.
    here.start_worker("w3");
    let before = eventually(TAKEN_WITHIN, "the third has its share", async || {
        let holders = here.wait_for_holders(&["w1", "w2", "w3"]).await;
        (holders.values().filter(|worker| *worker == "w3").count() == 4).then_some(holders)
    })
    .await;
    let config = BrokerConfig {
        url: here.broker.url(),
        user: "master".to_owned(),
        password: TestBroker::password("master").to_owned(),
        name: "test".to_owned(),
    };
    let master = Broker::connect(&config, &CancellationToken::new()).await.unwrap();
    master.jetstream().delete_stream(snapfleet_protocol::stream::LEASES_STREAM).await.unwrap();
    snapfleet_broker::ensure_streams(&master, 1).await.unwrap();
    eventually(TAKEN_WITHIN, "every account has a lease again", async || {
        (here.lease_sequences().await.len() == 12).then_some(())
    })
    .await;
    assert_eq!(here.wait_for_holders(&["w1", "w2", "w3"]).await, before, "accounts have moved");
    here.assert_whole(simulated).await;
}

/// What waits in the connection once delayed the heartbeat's ack until all was given up, again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn much_to_publish_and_to_read_back_does_not_cost_the_leases() {
    let simulated = Simulated { accounts: 100, records: 2_000, change_rate: 0.001, seed: 9, steps: 30 };
    let mut here = Here::start(simulated, &["w1"]).await;
    here.wait_for_holders(&["w1"]).await;
    here.broker.kill();
    tokio::time::sleep(Duration::from_secs(7)).await;
    here.broker.restart();
    here.wait_for_holders(&["w1"]).await;
    let doubts = |here: &Here| here.fleet.workers["w1"].log().matches("the lease is in doubt").count();
    // Both starts of the worker are in one log.
    let by_outage = doubts(&here);
    here.worker("w1").kill();
    here.start_worker("w1");
    here.wait_for_holders(&["w1"]).await;
    here.assert_whole(simulated).await;
    assert_eq!((by_outage, doubts(&here)), (100, 100), "leases were lost by the worker's own traffic");
}

impl Here {
    /// Under which sequence the lease of each account was last written.
    async fn lease_sequences(&self) -> BTreeMap<String, u64> {
        let (mut sequences, mut from) = (BTreeMap::new(), 1);
        loop {
            let page =
                read_subject(&self.stream, snapfleet_protocol::stream::LEASES_STREAM, "$KV.leases.>", from)
                    .await;
            let (messages, pending) = page.unwrap();
            for message in messages {
                from = message.seq + 1;
                sequences.insert(message.subject, message.seq);
            }
            if pending == 0 {
                return sequences;
            }
        }
    }
}
