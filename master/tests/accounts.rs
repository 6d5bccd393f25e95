//! Accounts over HTTP, with a real broker: changed without losing a change, told as they fare, ended for good.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/peer.rs"]
#[allow(dead_code, reason = "shared by several tests, each of which needs a part")]
mod peer;
#[path = "support/running.rs"]
#[allow(dead_code, reason = "shared by several tests, each of which needs a part")]
mod running;

use futures_util::StreamExt;
use peer::{PATIENCE, Rig, heartbeat};
use reqwest::Method;
use running::Running;
use serde_json::{Value, json};
use snapfleet_broker::{delete_key, ensure_streams, last_at_leader, put_key};
use snapfleet_protocol::stream::{
    ACCOUNTS_PREFIX, ACCOUNTS_STREAM, LEASES_PREFIX, LEASES_STREAM, SESSIONS_PREFIX, SESSIONS_STREAM,
};
use snapfleet_protocol::{
    AccountEntry, AccountState, Command, CommandAnswer, Heartbeat, InstanceId, Snapshot, Topic,
};
use snapfleet_testkit::{TestBroker, eventually, sample};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_update_is_refused_and_nothing_of_the_other_is_overwritten() {
    let rig = Rig::start().await;
    let new = json!({ "account": "demo.a", "settings": { "user": "first", "password": "sealed:abc" } });
    let (status, added) = rig.post("accounts", new.clone()).await;
    assert_eq!((status, &added["config"]["interval_s"]), (201, &json!(30)), "{added}");
    assert!(added["warnings"][0].as_str().unwrap().contains("no worker is online"), "{added}");
    let (status, again) = rig.post("accounts", new).await;
    assert_eq!(status, 409, "{again}");

    // Two read the same revision, and both write.
    let revision = added["revision"].as_u64().unwrap();
    let hers = json!({ "revision": revision, "interval_s": 60,
        "settings": { "user": "hers", "password": "sealed:***" } });
    let his = json!({ "revision": revision, "interval_s": 90,
        "settings": { "user": "his", "password": "sealed:***" } });
    let (status, written) = rig.send(Method::PUT, "accounts/demo.a", hers).await;
    assert_eq!(status, 200, "{written}");
    let (status, refused) = rig.send(Method::PUT, "accounts/demo.a", his).await;
    assert_eq!((status, &refused["revision"]), (412, &written["revision"]), "{refused}");
    assert_eq!(refused["type"], "urn:snapfleet:problem:stale");
    let (status, _) = rig.send(Method::PUT, "accounts/demo.a", json!({ "interval_s": 90 })).await;
    assert_eq!(status, 428);

    // What was hidden is stored as it was, and pausing carries no old settings.
    let (status, paused) = rig.post("accounts/demo.a/pause", json!({})).await;
    assert_eq!((status, &paused["state"]), (200, &json!("paused")));
    let Some(AccountEntry::Paused(config)) = rig.entry("demo.a").await else { panic!("it is not paused") };
    assert_eq!((config.interval_s, config.settings["user"].as_str()), (60, "hers"));
    assert_eq!(config.settings["password"], "sealed:abc");
    let (status, resumed) = rig.post("accounts/demo.a/resume", json!({})).await;
    assert_eq!(status, 200, "{resumed}");
    rig.until("accounts/demo.a", |account| account["state"] == "unassigned").await;
    let tag = rig.http.get(format!("{}/api/v1/accounts/demo.a", rig.master.url)).send().await.unwrap();
    assert_eq!(tag.headers()["etag"], format!("\"{}\"", resumed["revision"]));

    // What another program writes to the bucket is followed, and its revision counts.
    let entry = serde_json::to_vec(&AccountEntry::Active(config)).unwrap();
    let other =
        put_key(&rig.as_master().await, "$KV.accounts.demo.a".to_owned(), entry.into(), None).await.unwrap();
    rig.until("accounts/demo.a", |account| account["revision"] == other.seq).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_nobody_has_says_why() {
    let rig = Rig::start().await;
    for (account, labels) in
        [("demo.a", json!({})), ("demo.b", json!({ "region": "eu" })), ("other.c", json!({}))]
    {
        let (status, added) = rig.post("accounts", json!({ "account": account, "labels": labels })).await;
        assert_eq!(status, 201, "{added}");
    }
    let because = |account: &'static str, reason: &'static str| {
        let rig = &rig;
        async move {
            let path = format!("accounts/{account}");
            let told = |view: &Value| view["state"] == "unassigned" && view["reason"] == reason;
            rig.until(&path, told).await
        }
    };
    because("demo.a", "no worker is online").await;
    let full = rig.beats(Heartbeat { holding: 2, ..heartbeat("w1") }).await;
    because("demo.a", "the one eligible worker is full (2 of 2 accounts)").await;
    because("demo.b", "the online worker that knows platform demo does not carry region=eu").await;
    because("other.c", "no online worker knows platform other").await;
    let (status, refused) = rig.post("accounts", json!({ "account": "dmeo.d" })).await;
    let detail = refused["detail"].as_str().unwrap();
    assert!(status == 400 && detail.contains("dmeo") && detail.contains("known are demo"), "{refused}");
    let (_, warned) = rig.post("accounts", json!({ "account": "demo.d" })).await;
    assert!(warned["warnings"][0].as_str().unwrap().contains("full"), "{warned}");

    let status = rig.until("status", |status| status["capture"]["unassigned"] == 4).await;
    let problem =
        status["problems"].as_array().unwrap().iter().find(|problem| problem["account"] == "demo.a");
    assert_eq!(problem.unwrap()["code"], "account_unassigned");
    assert!(problem.unwrap()["since"].as_i64().unwrap() > 1_600_000_000_000, "{problem:?}");

    // Leased, then held, then lost with its worker.
    rig.leases("w1", "demo.a").await;
    let starting = rig.until("accounts/demo.a", |account| account["state"] == "starting").await;
    assert_eq!((&starting["worker"], &starting["lease"]["alive"]), (&json!("w1"), &json!(true)));
    rig.holds("w1", "demo.a", AccountState::LoggedOut, Some("shows the login form")).await;
    let held = rig.until("accounts/demo.a", |account| account["state"] == "logged_out").await;
    assert_eq!((&held["reason"], &held["since"]), (&json!("shows the login form"), &json!(5)));
    rig.until("status", |status| status["problems"][0]["state"] == "logged_out").await;
    drop(full);
    let lost = because("demo.a", "no worker is online").await;
    assert_eq!(lost["lease"]["alive"], false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sync_is_answered_by_the_holder_or_says_why_not() {
    let rig = Rig::start().await;
    rig.post("accounts", json!({ "account": "demo.a", "paused": true })).await;
    let (status, refused) = rig.post("accounts/demo.a/sync", json!({})).await;
    let detail = refused["detail"].as_str().unwrap();
    assert!(status == 409 && detail.contains("no worker holds it; it is paused"), "{refused}");
    assert_eq!(rig.post("accounts/demo.z/sync", json!({})).await.0, 404);
    let failed = rig.master.cli(&["sync", "demo.a"]);
    assert_eq!(failed.status.code(), Some(1));

    let worker = rig.worker.client().clone();
    let mut commands = worker.subscribe(Topic::Command.subject(&sample::account("demo.a"))).await.unwrap();
    worker.flush().await.unwrap();
    let holder = tokio::spawn(async move {
        let instance = InstanceId::parse("w1").unwrap();
        let synced = CommandAnswer::Synced { instance, records: 3, stream_seq: 42, captured: 5 };
        for answer in [synced, CommandAnswer::Refused { reason: "it is logged out".to_owned() }] {
            let asked = commands.next().await.unwrap();
            assert_eq!(serde_json::from_slice::<Command>(&asked.payload).unwrap(), Command::Sync {});
            worker.publish(asked.reply.unwrap(), serde_json::to_vec(&answer).unwrap().into()).await.unwrap();
        }
        worker.flush().await.unwrap();
    });
    let synced: Value = serde_json::from_str(&rig.master.says(&["sync", "demo.a", "--json"])).unwrap();
    assert_eq!(
        (&synced["records"], &synced["stream_seq"], &synced["instance"]),
        (&3.into(), &42.into(), &"w1".into())
    );
    let (status, refused) = rig.post("accounts/demo.a/sync", json!({})).await;
    assert!(status == 409 && refused["detail"].as_str().unwrap().contains("it is logged out"), "{refused}");
    tokio::time::timeout(PATIENCE, holder).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_removed_leaves_its_lease_and_session_and_is_added_again_from_there_on() {
    let rig = Rig::start().await;
    let beating = rig.beats(heartbeat("w1")).await;
    rig.post("accounts", json!({ "account": "demo.a" })).await;
    let mut snapshot = sample::snapshot(&sample::account("demo.a"), 1, 1);
    snapshot.comments = vec![sample::comment(1, 1, "hello")];
    rig.publish(&snapshot).await;
    rig.until("accounts/demo.a", |account| account["records"]["comments"] == 1).await;
    rig.leases("w1", "demo.a").await;
    put_key(&rig.worker, format!("{SESSIONS_PREFIX}demo.a"), "blob".into(), None).await.unwrap();
    rig.until("accounts/demo.a", |account| account["lease"]["instance"] == "w1").await;

    let (status, removed) = rig.send(Method::DELETE, "accounts/demo.a", json!({})).await;
    assert_eq!((status, &removed["done"]), (200, &json!(true)), "{removed}");
    assert_eq!(rig.master.get("accounts").await.unwrap()["items"], json!([]));
    let ended = rig.master.get("accounts?removed=true").await.unwrap();
    assert_eq!(
        (&ended["items"][0]["state"], &ended["items"][0]["records"]["comments"]),
        (&json!("removed"), &json!(1))
    );
    assert_eq!(rig.post("accounts/demo.a/resume", json!({})).await.0, 409);
    // While its worker lives the lease is that worker's to give back.
    let gone = async |stream: &str, prefix: &str| {
        let last = last_at_leader(&rig.as_master().await, stream, &format!("{prefix}demo.a")).await.unwrap();
        last.is_none_or(|last| last.is_gone())
    };
    assert!(!gone(LEASES_STREAM, LEASES_PREFIX).await);
    drop(beating);
    rig.until("status", |status| status["workers"]["online"] == 0).await;
    eventually(PATIENCE, "lease and session are deleted", async || {
        let both = gone(LEASES_STREAM, LEASES_PREFIX).await && gone(SESSIONS_STREAM, SESSIONS_PREFIX).await;
        both.then_some(())
    })
    .await;

    // What comes after the end is set aside; added again, nothing of what was there is refused.
    rig.publish(&Snapshot { seq: 2, ..snapshot.clone() }).await;
    rig.until("status", |status| status["store"]["dead_letters"] == 1).await;
    let (status, again) = rig.post("accounts", json!({ "account": "demo.a" })).await;
    assert_eq!((status, &again["config"]["erased"]), (201, &Value::Null), "{again}");
    let seq = std::sync::atomic::AtomicU64::new(3);
    eventually(PATIENCE, "what comes is taken in", async || {
        let seq = seq.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        rig.publish(&Snapshot { seq, ..snapshot.clone() }).await;
        let account = rig.master.get("accounts/demo.a").await?;
        (account["received"].as_u64()? >= 2).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erased_account_is_gone_and_one_that_is_not_configured_is_told_of() {
    let rig = Rig::start().await;
    let _beating = rig.beats(heartbeat("w1")).await;
    let mut snapshot = sample::snapshot(&sample::account("demo.stray"), 1, 1);
    snapshot.comments = vec![sample::comment(1, 1, "hello")];
    rig.publish(&snapshot).await;
    let stray = rig.until("accounts/demo.stray", |account| account["state"] == "unassigned").await;
    assert_eq!((&stray["configured"], &stray["revision"]), (&json!(false), &Value::Null));
    let coded = |status: &Value| status["problems"][0]["code"] == "account_unconfigured";
    rig.until("status", coded).await;

    let (status, refused) = rig.post("accounts/demo.stray/erase", json!({ "confirm": "demo.other" })).await;
    assert_eq!(status, 400, "{refused}");
    let told = rig.master.cli(&["accounts", "erase", "demo.stray"]);
    let told = (told.status.code(), String::from_utf8(told.stderr).unwrap());
    assert!(
        told.0 == Some(1) && told.1.contains("deletes its 1 records") && told.1.contains("cannot be undone"),
        "{told:?}"
    );
    let person = rig.master.says(&["person", "erase", "demo.stray", "reader", "--yes-erase", "reader"]);
    assert!(person.contains("deleted"), "{person}");
    let erased = rig.master.says(&["accounts", "erase", "demo.stray", "--yes-erase", "demo.stray"]);
    assert!(erased.contains("is deleted"), "{erased}");
    assert!(matches!(rig.entry("demo.stray").await, Some(AccountEntry::Erased(_))));
    let (status, _) = rig.send(Method::DELETE, "accounts/demo.stray", json!({})).await;
    assert_eq!(status, 409);
    let left = rig.master.get("accounts?removed=true").await.unwrap();
    assert_eq!(
        (&left["items"][0]["state"], &left["items"][0]["records"]["comments"]),
        (&json!("erased"), &json!(0))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_cannot_be_read_is_told_of_until_it_is_deleted() {
    let rig = Rig::start().await;
    let (master, keys) = (rig.as_master().await, ["demo.a", "nonsense"]);
    for key in keys {
        put_key(&master, format!("{ACCOUNTS_PREFIX}{key}"), "{".into(), None).await.unwrap();
    }
    let unreadable = |status: &Value| {
        let problems = status["problems"].as_array().unwrap().iter();
        problems.filter(|problem| problem["code"] == "accounts_unreadable").count()
    };
    rig.until("status", |status| unreadable(status) == keys.len()).await;
    for key in keys {
        delete_key(&master, format!("{ACCOUNTS_PREFIX}{key}"), None).await.unwrap();
    }
    rig.until("status", |status| unreadable(status) == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_is_paused_since_it_was_paused_and_not_since_it_was_last_changed() {
    let rig = Rig::start().await;
    rig.post("accounts", json!({ "account": "demo.a", "paused": true })).await;
    let added = rig.until("accounts/demo.a", |account| account["state"] == "paused").await;
    let mut revision = added["revision"].clone();
    for interval_s in [40, 50] {
        let config = json!({ "revision": revision, "interval_s": interval_s });
        let (status, set) = rig.send(Method::PUT, "accounts/demo.a", config).await;
        assert_eq!((status, &set["since"]), (200, &added["since"]), "{set}");
        revision = set["revision"].clone();
    }
    assert!(added["since"].as_i64().unwrap() > 1_600_000_000_000);
    // A master that reads what the bucket has of it finds the same write, told by the broker's clock.
    let dir = tempfile::tempdir().unwrap();
    let replica = Running::start(dir.path(), |command| {
        command.args(["--nats-url", &rig.broker.url(), "--replica", "r"]);
        command.env("SNAPFLEET_NATS_PASSWORD", TestBroker::password("replica"));
    });
    let read = eventually(PATIENCE, "the replica has read the bucket", async || {
        replica.get("accounts/demo.a").await.filter(|account| account["revision"] == revision)
    })
    .await;
    let (since, changed) = (read["since"].as_i64().unwrap(), read["changed_at"].as_i64().unwrap());
    assert!(since < changed && since.abs_diff(added["since"].as_i64().unwrap()) < 1_000, "{read} {added}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_masters_on_one_broker_are_told_of_each_other() {
    let rig = Rig::start().await;
    let dir = tempfile::tempdir().unwrap();
    let second = Running::start(dir.path(), |command| {
        command.args(["--nats-url", &rig.broker.url()]);
        command.env("SNAPFLEET_NATS_PASSWORD", TestBroker::password("master"));
    });
    let told = |status: &Value| {
        let mut problems = status["problems"].as_array().unwrap().iter();
        problems.any(|problem| {
            problem["code"] == "other_master" && problem["remedy"].to_string().contains("--replica")
        })
    };
    rig.until("status", told).await;
    eventually(PATIENCE, "the second is told as well", async || second.get("status").await.filter(told))
        .await;
    drop(second);
    rig.until("status", |status| !told(status)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_is_made_anew_is_read_anew() {
    let rig = Rig::start().await;
    rig.post("accounts", json!({ "account": "demo.a" })).await;
    rig.post("accounts", json!({ "account": "demo.b" })).await;
    rig.until("accounts", |page| page["items"].as_array().unwrap().len() == 2).await;
    let master = rig.as_master().await;
    master.jetstream().delete_stream(ACCOUNTS_STREAM).await.unwrap();
    ensure_streams(&master, 1).await.unwrap();
    rig.until("accounts", |page| page["items"] == json!([])).await;
    assert_eq!(rig.post("accounts", json!({ "account": "demo.b" })).await.0, 201);
    rig.until("accounts", |page| page["items"][0]["account"] == "demo.b").await;
}
