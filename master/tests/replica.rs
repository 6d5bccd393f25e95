//! A replica on the real broker: it follows the writing master's stream, goes on from where it stood, tells how far
//! it is, and changes nothing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/running.rs"]
#[allow(dead_code, reason = "shared by several tests, each of which needs a part")]
mod running;

use std::time::Duration;

use running::Running;
use serde_json::Value;
use snapfleet_broker::{Broker, BrokerConfig, Outgoing, publish};
use snapfleet_protocol::{Topic, WireVersion, encode_snapshot};
use snapfleet_testkit::sample::{account, direct_message, snapshot};
use snapfleet_testkit::{TestBroker, eventually};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(20);

fn master(broker: &TestBroker, dir: &TempDir) -> Running {
    Running::start(dir.path(), |command| {
        command.env("NATS_URL", broker.url()).env("SNAPFLEET_NATS_PASSWORD", TestBroker::password("master"));
    })
}

fn replica(broker: &TestBroker, dir: &TempDir, name: &str) -> Running {
    Running::start(dir.path(), |command| {
        command.args(["--replica", name]);
        command.env("NATS_URL", broker.url()).env("SNAPFLEET_NATS_PASSWORD", TestBroker::password("replica"));
    })
}

async fn worker(broker: &TestBroker) -> Broker {
    let config = BrokerConfig {
        url: broker.url(),
        user: "worker".to_owned(),
        password: TestBroker::password("worker").to_owned(),
        name: "test-worker".to_owned(),
    };
    Broker::connect(&config, &CancellationToken::new()).await.unwrap()
}

/// Publishes one message for each of the numbers.
async fn publish_all(broker: &Broker, numbers: std::ops::RangeInclusive<u64>) {
    for n in numbers {
        let mut snapshot = snapshot(&account("demo.a"), 1, n);
        snapshot.direct_messages = vec![direct_message(1, n, &format!("message {n}"))];
        let message = Outgoing {
            subject: Topic::Snapshot.subject(&snapshot.account_id()),
            payload: encode_snapshot(&snapshot).unwrap().into(),
            message_id: Some(snapshot.id().to_string()),
            expected_last: None,
            ttl_s: None,
            headers: vec![(WireVersion::HEADER, WireVersion::CURRENT.as_str().to_owned())],
        };
        publish(broker, &message).await.unwrap();
    }
}

impl Running {
    async fn status(&self) -> Value {
        eventually(SOON, "the status is answered", async || self.get("status").await).await
    }

    /// Waits until nothing is wrong with what it may ask the broker for: a denial shows for minutes.
    async fn is_well(&self) {
        let wrong = ["broker_fault", "intake_failed", "workers_unknown", "replica_fault"];
        eventually(SOON, "the broker denies nothing", async || {
            let status = self.get("status").await?;
            let mut problems = status["problems"].as_array()?.iter();
            problems.all(|problem| !wrong.contains(&problem["code"].as_str().unwrap())).then_some(())
        })
        .await;
    }

    /// Waits until everything up to `position` is in its store.
    async fn applied(&self, position: u64) -> Value {
        eventually(SOON, &format!("sequence {position} is applied"), async || {
            self.get("status").await.filter(|status| status["sync"]["position"] == position)
        })
        .await
    }

    /// Waits until a replica shows here with what `wanted` takes.
    async fn shows(&self, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually(SOON, &format!("replica {name} shows {what}"), async || {
            let status = self.get("status").await?;
            let mut list = status["replicas"]["list"].as_array()?.iter();
            list.find(|replica| replica["name"] == name && wanted(replica))?;
            Some(status["replicas"].clone())
        })
        .await
    }
}

#[tokio::test]
async fn a_replica_follows_goes_on_where_it_stood_and_shows_how_far_it_is() {
    let broker = TestBroker::start();
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // First of all, before the streams are there: only the master makes them.
    let follower = replica(&broker, &there, "site-b");
    let early = follower.status().await;
    assert_eq!((&early["replica"], &early["sync"]["position"]), (&"site-b".into(), &Value::Null));
    let master = master(&broker, &here);
    let status = master.status().await;
    assert!(status["replica"].is_null());
    eventually(SOON, "the master has the streams", async || {
        master.get("status").await.filter(|status| status["sync"]["stream_last"] == 0)
    })
    .await;
    let hands = worker(&broker).await;
    publish_all(&hands, 1..=5).await;
    let mine = master.applied(5).await;
    let theirs = follower.applied(5).await;
    assert_eq!(mine["store"]["direct_messages"], 5);
    for number in ["accounts", "direct_messages", "conversations", "changes"] {
        assert_eq!(mine["store"][number], theirs["store"][number], "{number}");
    }
    let replicas = master.shows("site-b", "up to date", |replica| replica["behind"] == 0).await;
    assert_eq!((&replicas["list"][0]["position"], &replicas["furthest_behind"]), (&5.into(), &Value::Null));
    assert!(!replicas["list"][0]["host"].as_str().unwrap().is_empty());
    follower.is_well().await;

    // Stopped, its lag shows where the master is.
    follower.process.signal("TERM");
    let mut follower = follower;
    eventually(SOON, "the replica ends", async || follower.process.exit_code()).await;
    publish_all(&hands, 6..=9).await;
    master.applied(9).await;
    let replicas = master.shows("site-b", "4 behind", |replica| replica["behind"] == 4).await;
    assert_eq!(replicas["furthest_behind"], "site-b");
    assert!(master.says(&["status"]).contains("replica site-b on "));
    let listed = master.says(&["replica", "list"]);
    assert!(
        listed.contains("replica site-b on ") && listed.contains("4 messages behind (furthest)"),
        "{listed}"
    );

    // Started again it reads on from its position, not from the beginning.
    let follower = replica(&broker, &there, "site-b");
    follower.applied(9).await;
    let log = follower.process.log();
    let began: Vec<&str> = log.lines().filter(|line| line.contains("reading the stream on")).collect();
    assert!(began.last().unwrap().contains("stream.seq=5 "), "{began:?}");
    master.shows("site-b", "up to date", |replica| replica["behind"] == 0).await;
    follower.is_well().await;
    drop(follower);

    let removed = master.says(&["replica", "remove", "site-b"]);
    assert!(removed.contains("site-b is dropped"), "{removed}");
    eventually(SOON, "the replica is gone from the list", async || {
        let status = master.get("status").await?;
        status["replicas"]["list"].as_array().is_some_and(Vec::is_empty).then_some(())
    })
    .await;
    let unknown = master.cli(&["replica", "remove", "site-b"]);
    let said = String::from_utf8(unknown.stderr).unwrap();
    assert!(!unknown.status.success() && said.contains("no replica site-b is registered"), "{said}");
}

#[tokio::test]
async fn a_replica_changes_nothing_and_says_which_it_is() {
    let broker = TestBroker::start();
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (master, follower) = (master(&broker, &here), replica(&broker, &there, "site-b"));
    master.shows("site-b", "itself", |_| true).await;
    follower.status().await;
    let http = reqwest::Client::new();
    for (method, path) in [
        (reqwest::Method::POST, "workers/worker-1/start"),
        (reqwest::Method::DELETE, "replicas/site-b"),
        (reqwest::Method::PUT, "accounts/demo.a"),
        (reqwest::Method::DELETE, "accounts/demo.a"),
        // Looking holds the pages back, so it is a change as well.
        (reqwest::Method::GET, "accounts/demo.a/login"),
        (reqwest::Method::POST, "accounts/demo.a/login"),
        (reqwest::Method::DELETE, "accounts/demo.a/login"),
    ] {
        let url = format!("{}/api/v1/{path}", follower.url);
        let answer = http.request(method, url).send().await.unwrap();
        assert_eq!(answer.status(), 403, "{path}");
        assert!(answer.text().await.unwrap().contains("site-b"), "{path}");
    }
    master.shows("site-b", "still", |_| true).await;
}

#[tokio::test]
async fn two_replicas_of_one_name_are_told_of_each_other() {
    let broker = TestBroker::start();
    let dirs = [0, 1, 2].map(|_| tempfile::tempdir().unwrap());
    let (master, first) = (master(&broker, &dirs[0]), replica(&broker, &dirs[1], "twin"));
    master.shows("twin", "itself", |_| true).await;
    let _second = replica(&broker, &dirs[2], "twin");
    eventually(SOON, "the first is told", async || {
        let status = first.get("status").await?;
        let mut problems = status["problems"].as_array()?.iter();
        problems
            .find(|problem| {
                problem["code"] == "replica_fault"
                    && problem["text"].as_str().is_some_and(|text| text.contains("of the same name"))
            })
            .map(|_| ())
    })
    .await;
}
