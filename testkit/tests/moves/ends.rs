//! Paused, resumed, removed and erased, with real pages: what closes, what is given back, what stays and what goes.

use std::time::Duration;

use snapfleet_broker::{Broker, Outgoing, Stored, publish};
use snapfleet_protocol::stream::{LEASES_PREFIX, LEASES_STREAM};
use snapfleet_testkit::system::{Setup, System};
use snapfleet_testkit::{TestBroker, eventually};

use super::{
    STATE_WITHIN, STORED_WITHIN, as_worker, master_refuses, master_says, messages, reached, sealed_sessions,
    snapshots, wait_for_session, wait_for_state,
};

const PAUSED: &str = "demo.shop-a";
const ERASED: &str = "demo.shop-b";

/// Waits until no page of an account listens any more and nobody has its lease.
async fn wait_until_let_go(system: &System, broker: &Broker, account: &str) {
    eventually(STATE_WITHIN, "its pages are closed and its lease is given back", async || {
        let name = account.strip_prefix("demo.")?;
        let lease = messages(broker, LEASES_STREAM, &format!("{LEASES_PREFIX}{account}")).await;
        let given_back = lease.last().is_none_or(Stored::is_gone);
        (given_back && reached(system, name).await == 0).then_some(())
    })
    .await;
}

/// Publishes a message of an account once more, as a worker would that knows nothing of the account's end; waits
/// until the master has looked at it.
async fn publish_late(system: &System, broker: &Broker, account: &str, early: &Stored) {
    let message = Outgoing {
        subject: format!("snapshot.{account}"),
        payload: early.payload.clone(),
        message_id: Some(format!("late-{account}")),
        expected_last: None,
        ttl_s: None,
        headers: Vec::new(),
    };
    let ack = publish(broker, &message).await.unwrap();
    eventually(STATE_WITHIN, "the master has read it", async || {
        (system.try_api("status").await?["sync"]["position"].as_u64()? >= ack.seq).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_is_paused_resumed_removed_and_another_erased() {
    let setup = Setup { workers: vec![vec!["shop-a", "shop-b"]], events_per_minute: 0.0, ..Setup::default() };
    let system = System::start(TestBroker::start(), setup).await;
    let broker = as_worker(&system).await;
    system.wait_for_equality(STORED_WITHIN).await;
    for account in [PAUSED, ERASED] {
        wait_for_session(&broker, account).await;
    }

    let stored = system.store(PAUSED).await;
    master_says(&system, &["accounts", "pause", PAUSED]).await;
    wait_for_state(&system, PAUSED, "paused", None).await;
    wait_until_let_go(&system, &broker, PAUSED).await;
    assert!(reached(&system, "shop-b").await > 0, "the other account's page is still open");
    // Not all that was served: a message that reached a page while it closed is fetched once it is open again.
    let paused = system.store(PAUSED).await;
    assert!(stored.keys().all(|key| paused.contains_key(key)), "what was stored stays");
    assert!(!sealed_sessions(&broker, PAUSED).await.is_empty(), "its session is kept");
    let pushed = system.control("shop-a/push?kind=message").await;
    let unseen = ("direct_message".to_owned(), pushed["id"].as_str().unwrap().to_owned());
    master_says(&system, &["accounts", "resume", PAUSED]).await;
    wait_for_state(&system, PAUSED, "capturing", Some(0)).await;
    eventually(STORED_WITHIN, "what came meanwhile is fetched", async || {
        system.store(PAUSED).await.contains_key(&unseen).then_some(())
    })
    .await;
    system.wait_for_equality(STORED_WITHIN).await;
    assert_eq!(system.site_control().logins("shop-a").await.len(), 1, "it was logged in anew");

    remove(&system, &broker).await;
    erase(&system, &broker).await;
    assert!(system.browser_processes(0) > 0, "the worker goes on");

    // Added again it begins anew: a new login, and all that its page shows.
    let settings = system.demo_settings("shop-b", "demo-secret");
    system.add_account(ERASED, 0, settings).await;
    wait_for_state(&system, ERASED, "capturing", Some(0)).await;
    eventually(STORED_WITHIN, "what the page shows is stored again", async || {
        let (store, truth) = (system.store(ERASED).await, system.truth("shop-b").await);
        (store == truth && truth.len() > 100).then_some(())
    })
    .await;
    assert_eq!(system.site_control().logins("shop-b").await.len(), 2, "its session was erased as well");
}

/// Removed: nobody captures it, its session is gone, its rows stay, and nothing late is taken in.
async fn remove(system: &System, broker: &Broker) {
    let stored = system.store(PAUSED).await;
    let early = snapshots(broker, PAUSED).await.pop().expect("a snapshot");
    let said = master_says(system, &["accounts", "remove", PAUSED]).await;
    assert!(said.contains("stays readable"), "{said}");
    wait_for_state(system, PAUSED, "removed", None).await;
    wait_until_let_go(system, broker, PAUSED).await;
    eventually(STATE_WITHIN, "its session is deleted", async || {
        sealed_sessions(broker, PAUSED).await.is_empty().then_some(())
    })
    .await;
    publish_late(system, broker, PAUSED, &early).await;
    assert_eq!(stored_removed(system, PAUSED).await, stored.len(), "what is stored stays as it is");
    master_refuses(system, &["sync", PAUSED], &["was not captured", "removed"]).await;
}

/// How many records the master shows of an account, whether it was removed or not.
async fn stored_removed(system: &System, account: &str) -> usize {
    let shown = system.api(&format!("accounts/{account}")).await;
    let records = shown["records"].as_object().expect("counts of records");
    records.values().filter_map(serde_json::Value::as_u64).sum::<u64>() as usize
}

/// Erased: rows, changes, dead letters, the stream's messages, the session and the worker's outbox are gone, and
/// nothing late brings anything back.
async fn erase(system: &System, broker: &Broker) {
    let early = snapshots(broker, ERASED).await;
    let early = early.into_iter().max_by_key(|one| one.payload.len()).expect("a snapshot");
    let rows = stored_removed(system, ERASED).await;
    assert!(rows > 100);
    master_refuses(system, &["accounts", "erase", ERASED], &[ERASED, &rows.to_string(), "--yes-erase"]).await;
    assert_eq!(stored_removed(system, ERASED).await, rows, "it was erased without a yes");
    let said = master_says(system, &["accounts", "erase", ERASED, "--yes-erase", ERASED]).await;
    assert!(said.contains("deleted"), "{said}");
    wait_until_let_go(system, broker, ERASED).await;
    let outbox = system.state_dir(0).join(format!("outbox/{ERASED}.outbox"));
    eventually(STATE_WITHIN, "session, messages and outbox are deleted", async || {
        let gone =
            sealed_sessions(broker, ERASED).await.is_empty() && snapshots(broker, ERASED).await.is_empty();
        (gone && !outbox.exists()).then_some(())
    })
    .await;
    nothing_is_left(system).await;
    publish_late(system, broker, ERASED, &early).await;
    nothing_is_left(system).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    nothing_is_left(system).await;
}

async fn nothing_is_left(system: &System) {
    wait_for_state(system, ERASED, "erased", None).await;
    assert_eq!(stored_removed(system, ERASED).await, 0);
    for list in ["contents", "comments", "notifications"] {
        let rows = system.rows(&format!("{list}?account={ERASED}")).await;
        assert!(rows.is_empty(), "{list}: {rows:?}");
    }
    let changes = system.rows("changes").await;
    let of_account = changes.iter().find(|change| change["account"] == ERASED && !change["record"].is_null());
    assert!(of_account.is_none(), "{of_account:?}");
    let letters = system.api("dead-letters?limit=50").await;
    let of_account = letters["items"]
        .as_array()
        .expect("a list")
        .iter()
        .find(|letter| letter["subject"] == format!("snapshot.{ERASED}"));
    assert!(of_account.is_none(), "{of_account:?}");
}
