//! A worker dies, and its accounts go on elsewhere in the sessions that they had; what happens where such a session
//! cannot be read.

use std::time::Duration;

use serde_json::Value;
use snapfleet_broker::{Broker, put_key};
use snapfleet_protocol::stream::SESSIONS_PREFIX;
use snapfleet_testkit::system::{FLEET_KEY, Setup, System};
use snapfleet_testkit::{TestBroker, eventually};

use super::{
    STATE_WITHIN, STORED_WITHIN, as_worker, holder, requests, sealed_sessions, wait_for_session,
    wait_for_state,
};

const ACCOUNT: &str = "demo.shop-a";
/// Revisions that the bucket of sessions keeps of a key.
const HISTORY: usize = 3;

/// What the site knows of the only login of an account: the session with the device and the tab that it was seen with.
async fn only_login(system: &System, account: &str) -> [Value; 3] {
    let logins = system.site_control().logins(account).await;
    assert_eq!(logins.len(), 1, "{account} was logged in anew: {logins:?}");
    assert_eq!(logins[0]["open"], true, "{logins:?}");
    ["session", "devices", "tabs"].map(|name| logins[0][name].clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_workers_accounts_go_on_elsewhere_in_the_same_sessions() {
    let accounts = ["shop-a", "shop-b", "shop-c", "shop-d"];
    let workers = vec![accounts[..2].to_vec(), accounts[2..].to_vec()];
    let mut system =
        System::start(TestBroker::start(), Setup { workers, pinned: false, ..Setup::default() }).await;
    let broker = as_worker(&system).await;
    let mut theirs = Vec::new();
    for name in accounts {
        let shown = wait_for_state(&system, &format!("demo.{name}"), "capturing", None).await;
        wait_for_session(&broker, &format!("demo.{name}")).await;
        if holder(&system, &shown).await == Some(0) {
            theirs.push(name);
        }
    }
    assert_eq!(theirs.len(), 2, "two accounts each: {theirs:?}");
    assert!(system.browser_processes(0) > 0);
    let mut logins = Vec::new();
    for name in accounts {
        logins.push(only_login(&system, name).await);
    }
    system.workers[0].kill();
    eventually(Duration::from_secs(10), "no browser outlives its worker", async || {
        (system.browser_processes(0) == 0).then_some(())
    })
    .await;
    for name in &theirs {
        let before = requests(&system, name).await;
        wait_for_state(&system, &format!("demo.{name}"), "capturing", Some(1)).await;
        eventually(STATE_WITHIN, "the session is used again", async || {
            (requests(&system, name).await > before).then_some(())
        })
        .await;
    }
    system.control("pause").await;
    let records = system.wait_for_equality(STORED_WITHIN).await;
    let changes = system.check_change_log().await;
    assert!(records > 500 && changes >= records, "{changes} changes, {records} records");
    for (name, login) in accounts.into_iter().zip(&logins) {
        assert_eq!(only_login(&system, name).await, *login, "{name} goes on as another device or tab");
    }
}

/// One account at the first of two workers, of which the second has a key made of `key`.
async fn one_account(key: u8) -> (System, Broker) {
    let setup =
        Setup { workers: vec![vec!["shop-a"]], pinned: false, events_per_minute: 0.0, ..Setup::default() };
    let mut system = System::start(TestBroker::start(), setup).await;
    let broker = as_worker(&system).await;
    system.wait_for_equality(STORED_WITHIN).await;
    wait_for_session(&broker, ACCOUNT).await;
    system.add_worker(key);
    wait_until_online(&system, 2).await;
    (system, broker)
}

async fn wait_until_online(system: &System, workers: u64) {
    eventually(STATE_WITHIN, "that many workers are online", async || {
        (system.try_api("status").await?["workers"]["online"] == workers).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_with_another_key_shows_the_account_as_logged_out_and_leaves_its_session_alone() {
    let (mut system, broker) = one_account(0x5b).await;
    let login = only_login(&system, "shop-a").await;
    let sealed = sealed_sessions(&broker, ACCOUNT).await;
    system.workers[0].kill();
    let shown = wait_for_state(&system, ACCOUNT, "logged_out", Some(1)).await;
    let reason = shown["reason"].as_str().unwrap();
    assert!(reason.contains("sealed with key") && reason.contains("give it the key"), "{reason}");
    assert!(!reason.contains("5b5b") && !system.workers[1].log().contains("5b5b"), "a key is shown");
    // The page stands with its login form and is looked at every two seconds.
    let before = requests(&system, "shop-a").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    wait_for_state(&system, ACCOUNT, "logged_out", Some(1)).await;
    assert_eq!(requests(&system, "shop-a").await, before, "somebody is logged in");
    assert_eq!(only_login(&system, "shop-a").await, login);
    assert_eq!(sealed_sessions(&broker, ACCOUNT).await, sealed, "the session was overwritten");
    // With the fleet's key the session is as good as before.
    system.restart_worker(0);
    wait_until_online(&system, 2).await;
    system.workers[1].kill();
    wait_for_state(&system, ACCOUNT, "capturing", Some(0)).await;
    system.wait_for_equality(STORED_WITHIN).await;
    assert_eq!(only_login(&system, "shop-a").await, login);
}

/// Writes something that no worker has sealed on top of the account's sessions.
async fn spoil(broker: &Broker, rubbish: &'static [u8]) {
    let last = sealed_sessions(broker, ACCOUNT).await.last().unwrap().0;
    let subject = format!("{SESSIONS_PREFIX}{ACCOUNT}");
    put_key(broker, subject, rubbish.into(), Some(last)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_corrupt_session_the_one_before_is_used_and_without_one_nobody_logs_in() {
    let (mut system, broker) = one_account(FLEET_KEY).await;
    let login = only_login(&system, "shop-a").await;
    spoil(&broker, b"rubbish").await;
    system.workers[0].kill();
    let shown = wait_for_state(&system, ACCOUNT, "capturing", Some(1)).await;
    let problems = shown["problems"].to_string();
    assert!(problems.contains("session") && problems.contains("corrupt"), "{shown}");
    assert_eq!(only_login(&system, "shop-a").await, login, "the session before the corrupt one");
    let kept = sealed_sessions(&broker, ACCOUNT).await;
    assert!(kept.iter().any(|(_, bytes)| bytes == b"rubbish"), "the corrupt one is kept");

    system.restart_worker(0);
    wait_until_online(&system, 2).await;
    for _ in 0..HISTORY {
        spoil(&broker, b"nothing but rubbish").await;
    }
    let spoilt = sealed_sessions(&broker, ACCOUNT).await;
    system.workers[1].kill();
    let shown = wait_for_state(&system, ACCOUNT, "logged_out", Some(0)).await;
    let reason = shown["reason"].as_str().unwrap();
    let newest = spoilt.last().unwrap().0;
    assert!(reason.contains("corrupt") && reason.contains(&format!("sequence {newest} ")), "{reason}");
    assert_eq!(only_login(&system, "shop-a").await, login, "the login form was filled in");
    assert_eq!(sealed_sessions(&broker, ACCOUNT).await, spoilt, "the corrupt ones are kept");
    assert_eq!(spoilt.len(), HISTORY);
}
