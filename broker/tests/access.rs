//! What a user may do is known at start: with the project's nats.conf and its users, on a real broker.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use snapfleet_broker::{
    Broker, BrokerConfig, ConnectError, check_access, ensure_streams, last_per_subject, read_subject,
};
use snapfleet_protocol::stream::{SNAPSHOTS, WORKERS_PREFIX, WORKERS_STREAM};
use snapfleet_testkit::TestBroker;
use tokio_util::sync::CancellationToken;

/// Less than it takes to find a request unanswered.
const AT_ONCE: Duration = Duration::from_secs(4);

async fn connect(broker: &TestBroker, user: &str) -> Broker {
    let config = BrokerConfig {
        url: broker.url(),
        user: user.to_owned(),
        password: TestBroker::password(user).to_owned(),
        name: "access-test".to_owned(),
    };
    Broker::connect(&config, &CancellationToken::new()).await.unwrap()
}

#[tokio::test]
async fn a_worker_passes_with_and_without_streams_and_leaves_nothing_behind() {
    let server = TestBroker::start();
    let (worker, shutdown) = (connect(&server, "worker").await, CancellationToken::new());
    let started = Instant::now();
    check_access(&worker, &shutdown).await.unwrap();
    let master = connect(&server, "master").await;
    ensure_streams(&master, 1).await.unwrap();
    check_access(&worker, &shutdown).await.unwrap();
    assert!(started.elapsed() < AT_ONCE, "each probe was answered: {:?}", started.elapsed());
    assert_eq!(worker.problems(), Vec::<String>::new());
    let left = last_per_subject(&master, WORKERS_STREAM, &format!("{WORKERS_PREFIX}>")).await.unwrap();
    assert!(left.is_empty(), "{left:?}");
    let (snapshots, pending) = read_subject(&master, SNAPSHOTS, "snapshot.>", 1).await.unwrap();
    assert!(snapshots.is_empty() && pending == 0, "{snapshots:?}");
}

#[tokio::test]
async fn an_operator_is_refused_and_told_what_it_may_not_do() {
    let server = TestBroker::start();
    ensure_streams(&connect(&server, "master").await, 1).await.unwrap();
    let (operator, shutdown) = (connect(&server, "operator").await, CancellationToken::new());
    let error = check_access(&operator, &shutdown).await.unwrap_err();
    let probed = ["$JS.API.DIRECT.GET.SNAPSHOTS", "$KV.workers.probe"];
    assert!(error.user == "operator" && probed.contains(&error.subject.as_str()), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&error.subject) && text.contains("nats.conf") && !text.contains('\n'), "{text}");
}

/// Marks of workers that have left once filled the answer, and the whole fleet stopped assigning.
#[tokio::test]
async fn more_keys_than_one_answer_tells_are_read_page_by_page() {
    use snapfleet_broker::{put_key, withdraw_key};
    let server = TestBroker::start();
    let (master, worker) = (connect(&server, "master").await, connect(&server, "worker").await);
    ensure_streams(&master, 1).await.unwrap();
    for number in 0..1_100 {
        let key = format!("{WORKERS_PREFIX}w{number}");
        put_key(&worker, key, "{}".into(), None).await.unwrap();
    }
    withdraw_key(&worker, format!("{WORKERS_PREFIX}w7"), 1).await.unwrap();
    let all = last_per_subject(&worker, WORKERS_STREAM, &format!("{WORKERS_PREFIX}*")).await.unwrap();
    assert_eq!(all.len(), 1_100);
    let gone: Vec<_> =
        all.iter().filter(|stored| stored.is_gone()).map(|stored| stored.subject.as_str()).collect();
    assert_eq!(gone, ["$KV.workers.w7"]);
    assert_eq!(worker.problems(), Vec::<String>::new());
}

/// A bucket of the right name that somebody else made is not worked around, and what can be mended is.
#[tokio::test]
async fn a_bucket_with_the_wrong_settings_is_mended_or_named() {
    use async_nats::jetstream::stream::{Config, StorageType};
    let server = TestBroker::start();
    let master = connect(&server, "master").await;
    let bucket = |storage, history| Config {
        name: "KV_leases".to_owned(),
        subjects: vec!["$KV.leases.>".to_owned()],
        max_messages_per_subject: history,
        storage,
        ..Config::default()
    };
    let jetstream = master.jetstream();
    jetstream.create_stream(bucket(StorageType::File, 7)).await.unwrap();
    ensure_streams(&master, 1).await.unwrap();
    let info = jetstream.get_stream("KV_leases").await.unwrap().cached_info().config.clone();
    assert!(info.allow_direct && info.max_messages_per_subject == 1, "{info:?}");
    jetstream.delete_stream("KV_leases").await.unwrap();
    jetstream.create_stream(bucket(StorageType::Memory, 1)).await.unwrap();
    let error = ensure_streams(&master, 1).await.unwrap_err().to_string();
    assert!(
        error.contains("KV_leases") && error.contains("nats stream rm") && !error.contains('\n'),
        "{error}"
    );
}

#[tokio::test]
async fn a_master_may_not_write_heartbeats() {
    let server = TestBroker::start();
    let error = check_access(&connect(&server, "master").await, &CancellationToken::new()).await.unwrap_err();
    assert_eq!((error.user.as_str(), error.subject.as_str()), ("master", "$KV.workers.probe"));
}

#[tokio::test]
async fn a_broker_that_is_gone_and_a_stop_are_no_refusal() {
    let mut server = TestBroker::start();
    let (worker, shutdown) = (connect(&server, "worker").await, CancellationToken::new());
    server.kill();
    tokio::time::timeout(Duration::from_secs(13), check_access(&worker, &shutdown)).await.unwrap().unwrap();
    shutdown.cancel();
    tokio::time::timeout(AT_ONCE, check_access(&worker, &shutdown)).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_password_in_an_address_is_refused_before_anything_repeats_it() {
    let server = TestBroker::start();
    for url in [
        format!("nats://worker:s3cret@{}", server.address()),
        format!("{}, nats://worker:s3cret@{}", server.url(), server.address()),
        format!("worker:s3c@s3cret,s3cret/@{}", server.address()),
        format!("nats://s3cret@{}", server.address()),
    ] {
        let config = BrokerConfig {
            url,
            user: "worker".to_owned(),
            password: TestBroker::password("worker").to_owned(),
            name: "access-test".to_owned(),
        };
        assert!(!format!("{config:?}").contains("s3c"), "{config:?}");
        let Err(error) = Broker::connect(&config, &CancellationToken::new()).await else {
            panic!("{} was taken", config.url);
        };
        let text = error.to_string();
        assert!(matches!(error, ConnectError::Address { .. }), "{text}");
        assert!(!text.contains("s3c") && text.contains("SNAPFLEET_NATS_PASSWORD"), "{text}");
    }
}
