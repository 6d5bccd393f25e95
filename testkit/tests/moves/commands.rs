//! `snapfleet-master sync`: captured and published now, with where to find it, or why not.

use std::time::{Duration, Instant};

use serde_json::Value;
use snapfleet_broker::Broker;
use snapfleet_protocol::{SnapshotKind, decode_snapshot};
use snapfleet_testkit::system::{Setup, System};
use snapfleet_testkit::{TestBroker, eventually};

use super::{STORED_WITHIN, as_worker, master_refuses, master_says, snapshots, wait_for_state};

const ACCOUNT: &str = "demo.shop-a";
const NEVER_S: u32 = 3_600;
/// Longer than a publish interval: nothing is about to be published then.
const QUIET_FOR: Duration = Duration::from_secs(5);

/// Waits until nothing more is published for the account; the last sequence.
async fn wait_until_quiet(broker: &Broker) -> u64 {
    let (mut last, mut since) = (0, Instant::now());
    eventually(STORED_WITHIN, "nothing more is published", async || {
        let now = snapshots(broker, ACCOUNT).await.last()?.seq;
        if now != last {
            (last, since) = (now, Instant::now());
        }
        (since.elapsed() > QUIET_FOR).then_some(last)
    })
    .await
}

async fn sync(system: &System) -> Value {
    let said = master_says(system, &["sync", ACCOUNT, "--json"]).await;
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sync_answers_with_what_it_brought_and_where_that_is_or_why_not() {
    let setup =
        Setup { workers: vec![vec!["shop-a"]], events_per_minute: 0.0, poll_s: NEVER_S, ..Setup::default() };
    let mut system = System::start(TestBroker::start(), setup).await;
    let broker = as_worker(&system).await;
    system.wait_for_equality(STORED_WITHIN).await;
    let before = wait_until_quiet(&broker).await;
    // Not pushed: only a page that loads anew shows it.
    let changed = system.control("shop-a/push?kind=counter").await;
    let synced = sync(&system).await;
    let records = synced["records"].as_u64().unwrap();
    assert!(records > 0 && synced["captured"].as_u64() > Some(0), "{synced}");
    let status = system.api("status").await;
    assert_eq!(synced["instance"], status["workers"]["list"][0]["instance"]);
    let stored = snapshots(&broker, ACCOUNT).await;
    let news: Vec<_> = stored.iter().filter(|one| one.seq > before).collect();
    assert_eq!(synced["stream_seq"], news.last().expect("something was published").seq, "{synced}");
    let (mut brought, mut found) = (0, false);
    for one in news {
        let snapshot = decode_snapshot(&one.payload).unwrap();
        let ids = serde_json::to_string(&snapshot).unwrap();
        found |= ids.contains(changed["id"].as_str().unwrap());
        brought += if snapshot.kind == SnapshotKind::Delta { snapshot.record_count() as u64 } else { 0 };
    }
    assert!(found, "what was published does not hold {changed}");
    assert_eq!(brought, records, "{synced}");
    system.wait_for_equality(Duration::from_secs(5)).await;

    let last = wait_until_quiet(&broker).await;
    let again = sync(&system).await;
    assert_eq!((&again["records"], &again["stream_seq"]), (&0.into(), &last.into()), "{again}");
    assert!(again["captured"].as_u64() > Some(0), "{again}");
    let said = master_says(&system, &["sync", ACCOUNT]).await;
    assert!(said.starts_with(ACCOUNT) && said.contains("nothing new"), "{said}");
    assert!(said.contains(&format!("sequence {last}")), "{said}");
    says_why_not(&mut system).await;
}

async fn says_why_not(system: &mut System) {
    // One who logs in as somebody with a wrong password.
    system.add_account("demo.stranger", 0, system.demo_settings("shop-a", "wrong")).await;
    wait_for_state(system, "demo.stranger", "logged_out", Some(0)).await;
    let why = ["demo.stranger was not captured", "3 login attempts failed", "credentials"];
    master_refuses(system, &["sync", "demo.stranger"], &why).await;
    master_says(system, &["accounts", "pause", ACCOUNT]).await;
    wait_for_state(system, ACCOUNT, "paused", None).await;
    eventually(Duration::from_secs(15), "its worker has let go of it", async || {
        let shown = system.try_api(&format!("accounts/{ACCOUNT}")).await?;
        (shown["worker"].is_null() && shown["lease"].is_null()).then_some(())
    })
    .await;
    let why = ["demo.shop-a was not captured", "no worker", "paused"];
    master_refuses(system, &["sync", ACCOUNT], &why).await;
    master_refuses(system, &["sync", ACCOUNT, "--json"], &why).await;
    master_refuses(system, &["sync", "demo.nobody"], &["demo.nobody"]).await;
    let why = ["no online worker knows platform dmeo", "known are demo, "];
    master_refuses(system, &["accounts", "add", "dmeo.shop-a"], &why).await;
    system.workers[0].kill();
    master_refuses(system, &["sync", "demo.stranger"], &["demo.stranger was not captured", "no worker"])
        .await;
}
