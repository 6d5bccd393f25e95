//! Ingest against a real broker that is killed, cut off and fed with what is no snapshot: everything that the
//! broker acked is in the store, once.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/batches.rs"]
#[allow(dead_code, reason = "shared by several tests, each of which needs a part")]
mod batches;

use std::sync::Arc;
use std::time::{Duration, Instant};

use batches::{Contents, batch, contents, delivery, open};
use snapfleet_broker::{Broker, BrokerConfig, Outgoing, PublishError, ensure_streams, publish};
use snapfleet_master::fleet::{self, Fleet};
use snapfleet_master::ingest::{self, IngestLimits, IngestState};
use snapfleet_master::store::{Batch, DataStore, StoreError};
use snapfleet_protocol::stream::{SNAPSHOTS, WORKERS_PREFIX};
use snapfleet_protocol::{
    Heartbeat, InstanceId, RecordKind, Snapshot, Topic, WireVersion, WorkerId, encode_snapshot,
};
use snapfleet_testkit::sample::{account, direct_message, snapshot};
use snapfleet_testkit::{Proxy, TestBroker, eventually};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(20);

async fn connect(url: String, user: &str) -> Broker {
    let password = TestBroker::password(user).to_owned();
    let config = BrokerConfig { url, user: user.to_owned(), password, name: format!("test-{user}") };
    Broker::connect(&config, &CancellationToken::new()).await.unwrap()
}

/// An ingest at work on a store of its own.
struct Running {
    store: DataStore,
    state: Arc<IngestState>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), StoreError>>,
    _dir: TempDir,
}

fn ingest_into(dir: TempDir, broker: &Broker) -> Running {
    let store = open(dir.path());
    let (state, stop) = (Arc::new(IngestState::default()), CancellationToken::new());
    let limits = IngestLimits::default();
    let task = tokio::spawn(ingest::run(store.clone(), broker.clone(), limits, stop.clone(), state.clone()));
    Running { store, state, stop, task, _dir: dir }
}

fn start_ingest(broker: &Broker) -> Running {
    ingest_into(tempfile::tempdir().unwrap(), broker)
}

impl Running {
    async fn position(&self) -> u64 {
        self.store.read(|query| query.totals()).await.unwrap().position.map_or(0, |position| position.seq)
    }

    async fn reaches(&self, seq: u64) {
        eventually(SOON, &format!("sequence {seq} is applied"), async || {
            (self.position().await >= seq).then_some(())
        })
        .await;
    }

    async fn finish(self) -> Contents {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
        let found = self.store.read(contents).await.unwrap();
        self.store.close().await;
        found
    }
}

fn outgoing(snapshot: &Snapshot) -> Outgoing {
    Outgoing {
        subject: Topic::Snapshot.subject(&snapshot.account_id()),
        payload: encode_snapshot(snapshot).unwrap().into(),
        message_id: Some(snapshot.id().to_string()),
        expected_last: None,
        ttl_s: None,
        headers: vec![(WireVersion::HEADER, WireVersion::CURRENT.as_str().to_owned())],
    }
}

/// Publishes until the broker says that it is stored; the message id makes a second try harmless.
async fn publish_surely(worker: &Broker, message: &Outgoing) -> u64 {
    let started = Instant::now();
    loop {
        match publish(worker, message).await {
            Ok(ack) => return ack.seq,
            Err(PublishError::Unanswered | PublishError::Failed(_) | PublishError::NoStream) => {
                assert!(started.elapsed() < Duration::from_secs(60), "not stored within a minute");
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn nth(number: u64, text: &str) -> Snapshot {
    let mut made = snapshot(&account("demo.a"), 1, number);
    made.direct_messages.push(direct_message(1, number, text));
    made
}

/// Each of the messages 1 to `number` is there, and was added once; `empty` more snapshots held none.
fn check_messages(found: &Contents, number: u64, empty: u64) {
    assert_eq!(found.dead_letters, []);
    assert_eq!(
        found.records.iter().filter(|row| row.record.kind() == RecordKind::DirectMessage).count() as u64,
        number
    );
    let added: Vec<_> =
        found.changes.iter().map(|change| change.record.as_ref().unwrap().id().to_string()).collect();
    assert_eq!(added, (1..=number).map(|number| format!("m{number}")).collect::<Vec<_>>());
    assert_eq!((found.totals.received, found.totals.applied), (number + empty, number + empty));
}

/// Publishes one message after the other until told to stop; returns how many.
async fn publish_on(worker: Broker, stop: CancellationToken) -> u64 {
    let mut number = 0;
    while !stop.is_cancelled() {
        number += 1;
        publish_surely(&worker, &outgoing(&nth(number, "text"))).await;
        // Slowly, so that all of it is soon read once the master is back.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    number
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_broker_was_killed_ingest_goes_on_within_two_seconds_and_nothing_is_lost_or_doubled() {
    let mut server = TestBroker::start();
    let wire = Proxy::start(&server.address()).await;
    let (master, worker) = (connect(wire.url(), "master").await, connect(server.url(), "worker").await);
    ensure_streams(&master, 1).await.unwrap();
    let running = start_ingest(&master);
    let enough = CancellationToken::new();
    let publishing = tokio::spawn(publish_on(worker.clone(), enough.clone()));
    let mut connections = master.connections();
    for kill in 1..=3 {
        running.reaches(running.position().await + 20).await;
        server.kill();
        wire.refuse(true);
        connections.borrow_and_update();
        server.restart();
        // While the master is still cut off, an empty snapshot of another account is stored.
        let mut empty = snapshot(&account("demo.b"), 1, kill);
        empty.instance = InstanceId::parse("another").unwrap();
        let seq = publish_surely(&worker, &outgoing(&empty)).await;
        assert!(!master.is_connected() && running.position().await < seq, "the master was not cut off");
        let returned = tokio::spawn({
            let mut connections = connections.clone();
            async move { connections.changed().await.map(|()| Instant::now()) }
        });
        wire.refuse(false);
        let returned = returned.await.unwrap().unwrap();
        running.reaches(seq).await;
        let took = returned.elapsed();
        assert!(took <= Duration::from_secs(2), "ingest went on only {took:?} after the connection's return");
    }
    enough.cancel();
    let published = publishing.await.unwrap();
    running.reaches(published + 3).await;
    let status = running.state.status();
    assert!(status.restarts >= 3 && status.problem.is_none(), "{status:?}");
    check_messages(&running.finish().await, published, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_cut_in_the_middle_of_a_fetch_loses_nothing() {
    let server = TestBroker::start();
    let worker = connect(server.url(), "worker").await;
    let proxy = Proxy::start(&server.address()).await;
    let master = connect(proxy.url(), "master").await;
    ensure_streams(&master, 1).await.unwrap();
    // Texts that hardly compress, so that one pull's answers take many packets.
    let number_of = 200;
    for number in 1..=number_of {
        let mixed = |at: u64| format!("{:016x}", (number * 100_000 + at).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        publish_surely(&worker, &outgoing(&nth(number, &(0..8_000).map(mixed).collect::<String>()))).await;
    }
    let running = start_ingest(&master);
    for _ in 0..4 {
        // Once a megabyte more has come, the rest of at least thirteen is under way or not yet asked for.
        let (start, deadline) = (proxy.answer_bytes(), Instant::now() + SOON);
        while proxy.answer_bytes() < start + 1_000_000 && running.position().await < number_of {
            assert!(Instant::now() < deadline, "no fetch came under way");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        proxy.cut();
    }
    running.reaches(number_of).await;
    assert!(running.state.status().restarts > 0, "no cut was noticed");
    check_messages(&running.finish().await, number_of, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_snapshot_is_set_aside_and_the_rest_goes_on() {
    let server = TestBroker::start();
    let (master, worker) = (connect(server.url(), "master").await, connect(server.url(), "worker").await);
    ensure_streams(&master, 1).await.unwrap();
    let running = start_ingest(&master);
    let of = |subject: &str, payload: &[u8], version: Option<&str>| Outgoing {
        subject: subject.to_owned(),
        payload: payload.to_vec().into(),
        message_id: None,
        expected_last: None,
        ttl_s: None,
        headers: version.map(|version| (WireVersion::HEADER, version.to_owned())).into_iter().collect(),
    };
    let good = encode_snapshot(&nth(1, "text")).unwrap();
    let bad = [
        of("snapshot.demo.a", b"\xffgarbage", Some("1")),
        of("snapshot.demo.a", b"", Some("1")),
        of("snapshot.demo.a", &good, None),
        of("snapshot.demo.a", &good, Some("99")),
        of("snapshot.demo.b", &good, Some("1")),
        of("snapshot.demo.undefined", &good, Some("1")),
    ];
    for message in &bad {
        publish_surely(&worker, message).await;
    }
    let last = publish_surely(&worker, &outgoing(&nth(1, "text"))).await;
    running.reaches(last).await;
    let found = running.finish().await;
    assert_eq!((found.totals.received, found.totals.applied, found.totals.rejected), (7, 1, 6));
    let errors: Vec<_> = found.dead_letters.iter().map(|letter| letter.error.as_str()).collect();
    for (error, part) in errors.iter().zip([
        "not a snapshot",
        "not a snapshot",
        "no header Snapfleet-Version",
        "version \"99\"",
        "another subject",
        "missing value",
    ]) {
        assert!(error.contains(part), "{error:?} does not say {part:?}");
    }
    assert_eq!(found.dead_letters[3].bytes, good);
    assert_eq!(found.dead_letters[3].headers, "Snapfleet-Version: 99\n");
    assert_eq!(found.accounts.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recreated_stream_is_read_from_its_beginning() {
    let server = TestBroker::start();
    let (master, worker) = (connect(server.url(), "master").await, connect(server.url(), "worker").await);
    ensure_streams(&master, 1).await.unwrap();
    let running = start_ingest(&master);
    for number in 1..=3 {
        publish_surely(&worker, &outgoing(&nth(number, "text"))).await;
    }
    running.reaches(3).await;
    let before = running.store.read(|query| query.totals()).await.unwrap().position.unwrap();
    master.jetstream().delete_stream(SNAPSHOTS).await.unwrap();
    eventually(SOON, "the missing stream is shown", async || {
        running.state.problems().iter().any(|problem| problem.contains(SNAPSHOTS)).then_some(())
    })
    .await;
    ensure_streams(&master, 1).await.unwrap();
    for number in 1..=2 {
        let mut made = nth(number, "text");
        made.direct_messages.push(direct_message(1, number + 3, "new"));
        publish_surely(&worker, &Outgoing { message_id: None, ..outgoing(&made) }).await;
    }
    eventually(SOON, "the new stream is applied", async || {
        let position = running.store.read(|query| query.totals()).await.unwrap().position.unwrap();
        (position.incarnation != before.incarnation && position.seq == 2).then_some(())
    })
    .await;
    eventually(SOON, "nothing is wrong any more", async || running.state.problems().is_empty().then_some(()))
        .await;
    let found = running.finish().await;
    assert_eq!(found.dead_letters, []);
    assert_eq!((found.totals.changes, found.totals.unchanged), (5, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_ends_before_the_position_is_shown_and_nothing_is_applied() {
    let server = TestBroker::start();
    let (master, worker) = (connect(server.url(), "master").await, connect(server.url(), "worker").await);
    ensure_streams(&master, 1).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let stream = master.jetstream().get_stream(SNAPSHOTS).await.unwrap();
    let created = stream.cached_info().created.unix_timestamp_nanos();
    let ahead = Batch { incarnation: created as u64, ..batch(0, vec![delivery(1_000, &nth(1, "text"))]) };
    store.apply(ahead).await.unwrap();
    store.close().await;
    publish_surely(&worker, &outgoing(&nth(2, "text"))).await;
    let running = ingest_into(dir, &master);
    eventually(SOON, "the restored stream is shown", async || {
        let problem = running.state.status().problem.unwrap_or_default();
        (problem.contains("ends at sequence 1") && problem.contains("1000")).then_some(())
    })
    .await;
    assert_eq!(running.finish().await.totals.received, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fleet_is_who_sends_heartbeats() {
    let server = TestBroker::start();
    let (master, worker) = (connect(server.url(), "master").await, connect(server.url(), "worker").await);
    ensure_streams(&master, 1).await.unwrap();
    let (sender, mut fleet) = watch::channel(Fleet::default());
    let stop = CancellationToken::new();
    let task = tokio::spawn(fleet::run(master, sender, stop.clone()));
    let (instance, worker_id) = (InstanceId::parse("i1").unwrap(), WorkerId::parse("w1").unwrap());
    let heartbeat = Heartbeat { host: "host".to_owned(), pages: 3, ..Heartbeat::new(instance, worker_id) };
    let of = |key: &str, payload: Vec<u8>| Outgoing {
        subject: format!("{WORKERS_PREFIX}{key}"),
        payload: payload.into(),
        message_id: None,
        expected_last: None,
        ttl_s: Some(2),
        headers: Vec::new(),
    };
    publish_surely(&worker, &of("i1", serde_json::to_vec(&heartbeat).unwrap())).await;
    publish_surely(&worker, &of("i2", b"not a heartbeat".to_vec())).await;
    let seen = fleet.wait_for(|fleet| fleet.unreadable == 1).await.unwrap().clone();
    assert_eq!(seen, Fleet { workers: vec![heartbeat], unreadable: 1, problem: None });
    // The keys expire, and the marks that they leave are no workers.
    let gone =
        tokio::time::timeout(SOON, fleet.wait_for(|fleet| fleet.workers.is_empty() && fleet.unreadable == 0));
    assert_eq!(*gone.await.unwrap().unwrap(), Fleet::default());
    stop.cancel();
    task.await.unwrap();
}
