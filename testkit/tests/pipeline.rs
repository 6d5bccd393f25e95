//! From real browser pages to the store, as an operator runs it: every part a process, nothing stood in for.

use std::time::{Duration, Instant};

use snapfleet_testkit::system::{Setup, System};
use snapfleet_testkit::{TestBroker, eventually};

/// How soon after its processes were started the whole works.
const PROMISED: Duration = Duration::from_secs(45);

/// How long the pages push: a minute with `scripts/test --long`.
fn run_time() -> Duration {
    Duration::from_secs(if std::env::var_os("SNAPFLEET_TEST_LONG").is_some() { 60 } else { 20 })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_equals_what_the_site_served_to_five_accounts() {
    let mut system = System::start(TestBroker::start(), Setup::default()).await;
    tokio::time::sleep(run_time()).await;
    system.control("pause").await;
    let records = system.wait_for_equality(Duration::from_secs(90)).await;
    assert!(records > 500, "only {records} records were compared");
    let changes = system.check_change_log().await;
    let log = system.workers[0].log() + &system.master.as_ref().unwrap().log();
    assert!(log.contains("published") && log.contains("applied"), "each publish and each apply is logged");
    assert!(changes >= records, "{changes} changes cannot have made {records} records");
    let pushed: u64 = updated(&system).await;
    assert!(pushed > 0, "edits, recalls or counters changed nothing");
    for worker in &mut system.workers {
        worker.signal("TERM");
    }
    eventually(Duration::from_secs(20), "the workers stop", async || {
        system.workers.iter_mut().all(|worker| worker.exit_code() == Some(0)).then_some(())
    })
    .await;
    for index in 0..system.workers.len() {
        assert_eq!(system.browser_processes(index), 0, "a browser outlived its worker");
    }
}

/// How many changes were updates.
async fn updated(system: &System) -> u64 {
    let changes = system.rows("changes").await;
    changes.iter().filter(|change| change["operation"] == "updated").count() as u64
}

/// What the system that this one replaces never passed: it looked healthy while its store stayed empty.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn within_45_seconds_status_shows_workers_accounts_and_data_and_received_counts_up() {
    let setup = Setup { events_per_minute: 0.0, workers: vec![vec!["shop-a"]], ..Setup::default() };
    let started = Instant::now();
    let system = System::start(TestBroker::start(), setup).await;
    let left = PROMISED.saturating_sub(started.elapsed());
    eventually(left, "status shows a working system", async || {
        let status = system.try_api("status").await?;
        let above = |area: &str, name: &str| status[area][name].as_i64().is_some_and(|value| value > 0);
        (above("workers", "online")
            && above("store", "accounts")
            && above("sync", "received")
            && above("sync", "last_received"))
        .then_some(())
    })
    .await;
    let took = started.elapsed();
    assert!(took <= PROMISED, "the system worked only {took:?} after the start of its processes");
    system.wait_for_equality(Duration::from_secs(60)).await;
    let received = async || system.api("status").await["sync"]["received"].as_u64().expect("a count");
    // The full that follows the first deltas is through once nothing comes for a few intervals.
    let mut before = received().await;
    eventually(Duration::from_secs(60), "received rests while nothing happens", async || {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let now = received().await;
        let rests = now == before;
        before = now;
        rests.then_some(())
    })
    .await;
    for step in 1..=3 {
        system.control("shop-a/push?kind=message").await;
        eventually(Duration::from_secs(10), "received counts up", async || {
            (received().await >= before + step).then_some(())
        })
        .await;
    }
}
