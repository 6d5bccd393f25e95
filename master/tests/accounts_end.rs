//! Ends of accounts and erasures over HTTP, with a real broker: what the buckets keep, how far an erasure is told to be,
//! and what keeps it from being done.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/peer.rs"]
#[allow(dead_code, reason = "shared by several tests, each of which needs a part")]
mod peer;
#[path = "support/running.rs"]
#[allow(dead_code, reason = "shared by several tests, each of which needs a part")]
mod running;

use peer::{PATIENCE, Rig, heartbeat};
use reqwest::Method;
use serde_json::{Value, json};
use snapfleet_broker::{ensure_streams, read_subject};
use snapfleet_protocol::stream::{ACCOUNTS_PREFIX, ACCOUNTS_STREAM, ERASURES_STREAM};
use snapfleet_protocol::{AccountEntry, AccountState, UnixMs};
use snapfleet_testkit::{eventually, sample};

fn problem<'a>(status: &'a Value, code: &str) -> &'a Value {
    let mut problems = status["problems"].as_array().unwrap().iter();
    problems.find(|problem| problem["code"] == code).unwrap_or(&Value::Null)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bucket_keeps_no_settings_of_ended_accounts_and_no_secret_that_was_replaced() {
    let rig = Rig::start().await;
    let history = async || {
        let subject = format!("{ACCOUNTS_PREFIX}demo.a");
        let (stored, _) = read_subject(&rig.as_master().await, ACCOUNTS_STREAM, &subject, 1).await.unwrap();
        stored.iter().map(|stored| String::from_utf8(stored.payload.to_vec()).unwrap()).collect::<Vec<_>>()
    };
    let settings = json!({ "user": "someone", "password": "hunter2" });
    let new = json!({ "account": "demo.a", "settings": settings, "plain_secrets": true });
    assert_eq!(rig.post("accounts", new).await.0, 201);
    rig.post("accounts/demo.a/pause", json!({})).await;
    let (_, now) = rig.post("accounts/demo.a/resume", json!({})).await;
    assert!(history().await.len() == 3 && history().await[0].contains("hunter2"));
    let sealed = json!({ "revision": now["revision"],
        "settings": { "user": "someone", "password": "sealed:abc" } });
    let (status, set) = rig.send(Method::PUT, "accounts/demo.a", sealed).await;
    assert_eq!(status, 200, "{set}");
    assert!(history().await.len() == 1 && history().await[0].contains("sealed:abc"));
    // What replaces no secret keeps its history.
    let other = json!({ "revision": set["revision"],
        "settings": { "user": "another", "password": "sealed:***" } });
    assert_eq!(rig.send(Method::PUT, "accounts/demo.a", other).await.0, 200);
    assert_eq!(history().await.len(), 2);
    let (status, erased) = rig.post("accounts/demo.a/erase", json!({ "confirm": "demo.a" })).await;
    assert_eq!((status, &erased["done"]), (200, &json!(true)), "{erased}");
    let left = history().await;
    assert!(left.len() == 1 && !left[0].contains("someone") && !left[0].contains("another"), "{left:?}");
    // Added again it carries the mark, and so does its next end.
    let (_, again) = rig.post("accounts", json!({ "account": "demo.a" })).await;
    let at = again["config"]["erased"]["at"].as_i64().unwrap();
    rig.send(Method::DELETE, "accounts/demo.a", json!({})).await;
    let Some(AccountEntry::Removed(ended)) = rig.entry("demo.a").await else { panic!("it is not removed") };
    assert_eq!((ended.erased.unwrap().at.0, ended.upto.unwrap().seq), (at, 0));
    rig.post("accounts/demo.a/erase", json!({ "confirm": "demo.a" })).await;
    assert!(rig.entry("demo.a").await.unwrap().erased_at().unwrap().0 > at);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_is_erased_although_the_platforms_clock_is_ahead() {
    let rig = Rig::start().await;
    let _beating = rig.beats(heartbeat("w1")).await;
    rig.holds("w1", "demo.a", AccountState::Capturing, None).await;
    let mut snapshot = sample::snapshot(&sample::account("demo.a"), 1, 1);
    let mut ahead = sample::comment(1, 1, "hello");
    ahead.created_at = Some(UnixMs(9_000_000_000_000));
    snapshot.comments = vec![ahead];
    rig.publish(&snapshot).await;
    rig.until("accounts/demo.a", |account| {
        account["records"]["comments"] == 1 && account["state"] == "capturing"
    })
    .await;
    let body = json!({ "person": "reader", "confirm": "reader" });
    let (status, erased) = rig.post("accounts/demo.a/persons/erase", body).await;
    assert_eq!((status, &erased["done"]), (200, &json!(true)), "{erased}");
    rig.until("accounts/demo.a", |account| account["records"]["comments"] == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn erasures_that_cannot_be_followed_are_told_by_status_and_health() {
    let rig = Rig::start().await;
    let healthy = async || rig.http.get(format!("{}/healthz", rig.master.url)).send().await.unwrap().status();
    eventually(PATIENCE, "all is well", async || (healthy().await == 200).then_some(())).await;
    let master = rig.as_master().await;
    master.jetstream().delete_stream(ERASURES_STREAM).await.unwrap();
    let status = rig.until("status", |status| problem(status, "erasure_failed")["since"].is_i64()).await;
    let told = problem(&status, "erasure_failed");
    assert!(told["remedy"].as_str().unwrap().contains("restart the writing master"), "{told}");
    assert_eq!(healthy().await, 503);
    // More looks, with whatever text, are one failure.
    let since = told["since"].clone();
    let later =
        rig.until("status", |status| status["now"].as_i64() > since.as_i64().map(|at| at + 12_000)).await;
    assert_eq!(problem(&later, "erasure_failed")["since"], since);
    let log = rig.log();
    assert_eq!(log.matches("removals and erasures cannot be followed").count(), 1, "{log}");
    ensure_streams(&master, 1).await.unwrap();
    eventually(PATIENCE, "all is well again", async || (healthy().await == 200).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erasure_that_waits_in_the_broker_says_so() {
    let rig = Rig::start().await;
    let _beating = rig.beats(heartbeat("w1")).await;
    let mut snapshot = sample::snapshot(&sample::account("demo.a"), 1, 1);
    snapshot.comments = vec![sample::comment(1, 1, "hello")];
    rig.publish(&snapshot).await;
    rig.until("accounts/demo.a", |account| account["records"]["comments"] == 1).await;
    let body = json!({ "person": "reader", "confirm": "reader" });
    let (status, erased) = rig.post("accounts/demo.a/persons/erase", body).await;
    assert_eq!((status, &erased["done"]), (200, &json!(false)), "{erased}");
    let text = erased["text"].as_str().unwrap();
    assert!(text.contains("deleted here; still in the broker until a worker holds the account"), "{text}");
    let waits = |status: &Value| problem(status, "erasure_pending")["account"] == "demo.a";
    let status = rig.until("status", waits).await;
    assert!(problem(&status, "erasure_pending")["since"].is_i64(), "{status}");
    // Erased as a whole it waits for nobody.
    let (_, erased) = rig.post("accounts/demo.a/erase", json!({ "confirm": "demo.a" })).await;
    assert_eq!(erased["done"], true, "{erased}");
    rig.until("status", |status| problem(status, "erasure_pending").is_null()).await;
}
