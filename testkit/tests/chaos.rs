//! The same equality after everything that can die has died: `kill -9` of the master, a worker and the broker,
//! connections cut in the middle, acks lost on the wire.

use std::time::Duration;

use snapfleet_testkit::system::{Setup, System};
use snapfleet_testkit::{Proxy, TestBroker, eventually};

const MASTER_KILLS: usize = 50;

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
