//! The same equality after everything that can die has died: `kill -9` of the master, a worker and the broker,
//! connections cut in the middle, acks lost on the wire.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use snapfleet_testkit::system::{Key, Records, Setup, SiteControl, System, Truths};
use snapfleet_testkit::{Proxy, TestBroker, eventually};

const MASTER_KILLS: usize = 50;
/// The accounts of the pages that are served everything only once, a worker for each.
const ONCE: [&str; 2] = ["shop-a", "shop-b"];
/// Time between two pushes.
const PUSH_EVERY: Duration = Duration::from_millis(50);
/// A page that is never fetched again within a test, in seconds.
const NEVER_S: u32 = 3_600;

/// Pseudo-random pauses, the same in every run.
struct Pauses(u64);

impl Pauses {
    fn next(&mut self, from_ms: u64, to_ms: u64) -> Duration {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Duration::from_millis(from_ms + (self.0 >> 33) % (to_ms - from_ms))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_cuts_and_lost_acks_change_nothing() {
    let broker = TestBroker::start();
    let master_wire = Proxy::start(&broker.address()).await;
    let worker_wire = Proxy::start(&broker.address()).await;
    let setup = Setup {
        events_per_minute: 120.0,
        master_broker_url: Some(master_wire.url()),
        worker_broker_url: Some(worker_wire.url()),
        ..Setup::default()
    };
    let mut system = System::start(broker, setup).await;
    eventually(Duration::from_secs(60), "the first snapshots are stored", async || {
        (system.try_api("status").await?["sync"]["received"].as_u64()? > 5).then_some(())
    })
    .await;
    let mut pauses = Pauses(7);
    for kill in 1..=MASTER_KILLS {
        tokio::time::sleep(pauses.next(50, 900)).await;
        if let Some(master) = &mut system.master {
            master.kill();
        }
        system.start_master();
        match kill {
            10 => system.restart_worker(0),
            20 => system.broker.restart(),
            30 => lose_acks(&worker_wire).await,
            _ if kill % 7 == 0 => {
                // In the middle of a fetch, if one is under way: the master has only just come back.
                tokio::time::sleep(pauses.next(50, 400)).await;
                master_wire.cut();
            }
            _ => {}
        }
    }
    system.wait_for_master().await;
    system.broker.restart();
    lose_acks(&worker_wire).await;
    system.control("pause").await;
    let records = system.wait_for_equality(Duration::from_secs(120)).await;
    let changes = system.check_change_log().await;
    assert!(records > 500, "only {records} records were compared");
    assert!(changes >= records);
    let status = system.api("status").await;
    assert_eq!(status["sync"]["rejected"], 0, "{status}");
    assert_eq!(status["sync"]["fenced"], 0, "a healthy worker was fenced: {status}");
}

/// The broker stores what the workers publish, but its acks never arrive.
async fn lose_acks(wire: &Proxy) {
    wire.lose_answers(true);
    tokio::time::sleep(Duration::from_secs(2)).await;
    wire.lose_answers(false);
    wire.cut();
}

/// Nothing may be left waiting for a time-out of minutes: ingest goes on soon after the broker is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ingest_goes_on_soon_after_the_broker_returns() {
    let setup = Setup { events_per_minute: 0.0, workers: vec![vec!["shop-a"]], ..Setup::default() };
    let mut system = System::start(TestBroker::start(), setup).await;
    system.wait_for_equality(Duration::from_secs(60)).await;
    system.broker.kill();
    let pushed = system.control("shop-a/push?kind=message").await;
    assert!(pushed["id"].is_string(), "{pushed}");
    eventually(Duration::from_secs(20), "status says that the broker is gone", async || {
        let status = system.try_api("status").await?;
        let told = status["problems"].as_array().is_some_and(|problems| !problems.is_empty());
        (status["broker"]["connected"] == false && told).then_some(())
    })
    .await;
    system.broker.restart();
    eventually(Duration::from_secs(30), "the message of the outage arrives", async || {
        let truth = system.truth("shop-a").await;
        let store = system.store("demo.shop-a").await;
        (store.len() == truth.len()).then_some(())
    })
    .await;
    system.wait_for_equality(Duration::from_secs(60)).await;
}

/// What a page was pushed and never shows again is only in the worker until the broker has acked it: here nothing
/// heals what a worker loses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_served_only_once_is_stored_whatever_dies() {
    let broker = TestBroker::start();
    let wire = Proxy::start(&broker.address()).await;
    let setup = Setup {
        workers: ONCE.iter().map(|account| vec![*account]).collect(),
        events_per_minute: 0.0,
        worker_broker_url: Some(wire.url()),
        poll_s: NEVER_S,
        refresh_s: Some(NEVER_S),
        ..Setup::default()
    };
    let mut system = System::start(broker, setup).await;
    let loaded = wait_until_loaded(&system).await;
    let site = system.site_control();
    for account in ONCE {
        // Counters are not pushed: a page that is fetched again in spite of all shows by them.
        site.post(&format!("{account}/push?kind=counter")).await;
    }
    let mut pushed = push_during(&site, lose_acks(&wire)).await;
    let refused = async {
        wire.refuse(true);
        tokio::time::sleep(Duration::from_secs(6)).await;
        wire.refuse(false);
    };
    pushed.extend(push_during(&site, refused).await);
    let dead = async {
        system.broker.kill();
        tokio::time::sleep(Duration::from_secs(2)).await;
        system.broker.restart();
    };
    pushed.extend(push_during(&site, dead).await);
    system.wait_for_equality(Duration::from_secs(60)).await;

    wire.refuse(true);
    let last = push_during(&site, tokio::time::sleep(Duration::from_secs(3))).await;
    let served = system.truths().await;
    let unsent = of_account(&last, ONCE[0], &served);
    wait_until_on_disk(&system, &unsent).await;
    system.workers[0].kill();
    // From here on no page can be fetched: what arrives comes from the workers alone.
    system.site.signal("STOP");
    let stored = system.store(&format!("demo.{}", ONCE[0])).await;
    let early = unsent.iter().filter(|(key, record)| stored.get(*key) == Some(*record)).count();
    assert_eq!(early, 0, "of {} records were stored though the wire was cut", unsent.len());
    restart_often(&mut system, &wire).await;
    system.wait_until_equal(Duration::from_secs(90), async || served.clone()).await;

    pushed.extend(last);
    for account in ONCE {
        let count = pushed.iter().filter(|push| push.account == account).count();
        assert!(count > 50, "only {count} pushes to {account}");
        assert_eq!(works(&served[account]), works(&loaded[account]), "{account} was served again");
    }
    assert!(pushed.iter().all(|push| push.reached > 0), "a page did not listen");
    system.site.signal("CONT");
    system.wait_for_equality(Duration::from_secs(120)).await;
    system.check_change_log().await;
    let status = system.api("status").await;
    assert_eq!(status["sync"]["rejected"], 0, "{status}");
    assert_eq!(status["sync"]["fenced"], 0, "a healthy worker was fenced: {status}");
}

/// Something that was pushed once.
struct Pushed {
    account: &'static str,
    key: Key,
    /// How many open pages took it.
    reached: u64,
}

/// Waits until the pages have fetched all there is; from then on they are only pushed to.
async fn wait_until_loaded(system: &System) -> Truths {
    eventually(Duration::from_secs(60), "the pages have fetched all there is", async || {
        system.wait_for_equality(Duration::from_secs(60)).await;
        let before = system.truths().await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        (system.truths().await == before).then_some(before)
    })
    .await
}

/// Pushes messages at a steady pace, with edits of recent messages and comments among them, until `fault` is over.
async fn push_during(site: &SiteControl, fault: impl Future<Output = ()>) -> Vec<Pushed> {
    let over = AtomicBool::new(false);
    let pushing = async {
        let (mut pushed, mut pace) = (Vec::new(), tokio::time::interval(PUSH_EVERY));
        let kinds = ["message", "message", "message", "edit"].into_iter().cycle();
        for (kind, account) in kinds.flat_map(|kind| ONCE.map(|account| (kind, account))) {
            if over.load(Ordering::SeqCst) {
                break;
            }
            pace.tick().await;
            let answer = site.post(&format!("{account}/push?kind={kind}")).await;
            let text = |name: &str| answer[name].as_str().expect("text").to_owned();
            let reached = answer["reached"].as_u64().expect("a count");
            pushed.push(Pushed { account, key: (text("record"), text("id")), reached });
        }
        pushed
    };
    let fault = async {
        fault.await;
        over.store(true, Ordering::SeqCst);
    };
    tokio::join!(pushing, fault).0
}

/// The records of these pushes to one account, as they were served last.
fn of_account(pushed: &[Pushed], account: &str, served: &Truths) -> Records {
    let keys = pushed.iter().filter(|push| push.account == account).map(|push| &push.key);
    keys.map(|key| (key.clone(), served[account][key].clone())).collect()
}

/// Waits until the first worker has all of these on its disk, so that none is still on its way from the page.
async fn wait_until_on_disk(system: &System, records: &Records) {
    let path = system.dir().join(format!("worker-0/outbox/demo.{}.outbox", ONCE[0]));
    eventually(Duration::from_secs(20), "all that was pushed is in the outbox", async || {
        let bytes = std::fs::read(&path).unwrap_or_default();
        let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        let told = records.iter().flat_map(|((_, id), record)| [Some(id.as_str()), record["text"].as_str()]);
        told.flatten().all(holds).then_some(())
    })
    .await;
}

/// Lets the wire work again and starts the first worker, which dies while it claims and publishes, again and
/// again; at last the broker's acks are lost.
async fn restart_often(system: &mut System, wire: &Proxy) {
    let mut pauses = Pauses(11);
    wire.refuse(false);
    for _ in 0..5 {
        system.restart_worker(0);
        tokio::time::sleep(pauses.next(50, 500)).await;
    }
    system.restart_worker(0);
    tokio::time::sleep(pauses.next(50, 300)).await;
    lose_acks(wire).await;
}

/// The works among an account's records.
fn works(records: &Records) -> BTreeMap<&Key, &serde_json::Value> {
    records.iter().filter(|((kind, _), _)| kind == "content").collect()
}
