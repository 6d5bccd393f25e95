//! A cluster of three: any one node may die while somebody publishes, and nothing that was acked is lost.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use snapfleet_broker::{Broker, BrokerConfig, Outgoing, PublishError, ensure_streams, publish, read_subject};
use snapfleet_protocol::stream::{ACCOUNTS_STREAM, HEADER_MESSAGE_ID, SNAPSHOTS};
use snapfleet_testkit::{Cluster, TestBroker, eventually};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const NODES: usize = 3;
const SUBJECT: &str = "snapshot.demo.shop-a";
/// How many messages are published with a node dead, and again while it catches up.
const MEANWHILE: usize = 50;
/// Sooner than the library gives up: what a dying node took is sent again at once.
const ACK_SOON: Duration = Duration::from_secs(1);
/// How long publishing may stand still when a node dies: an election, and the client's way to another node.
const PAUSE_MAX: Duration = Duration::from_secs(30);

async fn connect(urls: String, user: &str) -> Broker {
    let config = BrokerConfig {
        url: urls,
        user: user.to_owned(),
        password: TestBroker::password(user).to_owned(),
        name: "cluster-test".to_owned(),
    };
    Broker::connect(&config, &CancellationToken::new()).await.unwrap()
}

/// What is acked, and the longest time between two acks since it was asked for last.
#[derive(Default, Clone)]
struct Told {
    acked: Vec<(u64, String)>,
    pause: Duration,
}

/// Publishes one message after the other, each expecting the one before, until told to stop.
async fn publish_on(broker: Broker, told: watch::Sender<Told>, stop: CancellationToken) {
    let (mut last, mut number, mut since) = (0, 0, Instant::now());
    while !stop.is_cancelled() {
        let id = format!("message-{number}");
        let message = Outgoing {
            subject: SUBJECT.to_owned(),
            payload: Bytes::from(id.clone()),
            message_id: Some(id.clone()),
            expected_last: Some(last),
            ttl_s: None,
            headers: Vec::new(),
        };
        let stored = match tokio::time::timeout(ACK_SOON, publish(&broker, &message)).await {
            Ok(Ok(ack)) => Some(ack.seq),
            Ok(Err(PublishError::Conflict(_))) => stored_as(&broker, last, &id).await,
            Ok(Err(_)) | Err(_) => None,
        };
        if let Some(seq) = stored {
            (last, number) = (seq, number + 1);
            told.send_modify(|told| {
                told.acked.push((seq, id));
                told.pause = told.pause.max(since.elapsed());
            });
            since = Instant::now();
        }
    }
}

/// The sequence of our own message, where its ack was lost.
async fn stored_as(broker: &Broker, after: u64, id: &str) -> Option<u64> {
    let (messages, _) = read_subject(broker, SNAPSHOTS, SUBJECT, after + 1).await.ok()?;
    let own = |name: &str| name == id;
    messages
        .iter()
        .find(|one| one.headers.get(HEADER_MESSAGE_ID).is_some_and(|name| own(name.as_str())))
        .map(|one| one.seq)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_node_may_die_while_somebody_publishes() {
    let mut cluster = Cluster::start(NODES).await;
    ensure_streams(&connect(cluster.urls(), "master").await, NODES).await.unwrap();
    let (tell, mut told) = watch::channel(Told::default());
    let stop = CancellationToken::new();
    let publisher = connect(cluster.urls(), "worker").await;
    let publishing = tokio::spawn(publish_on(publisher, tell.clone(), stop.clone()));
    let first = cluster.leader_of(SNAPSHOTS).await.expect("the stream has a leader");
    for node in (0..NODES).map(|step| (first + step) % NODES) {
        cluster.wait_until_healthy().await;
        let leads = cluster.leader_of(SNAPSHOTS).await == Some(node);
        tell.send_modify(|told| told.pause = Duration::ZERO);
        cluster.kill(node);
        wait_for_more(&mut told).await;
        cluster.restart(node);
        wait_for_more(&mut told).await;
        let pause = told.borrow().pause;
        eprintln!("node {node} killed (leader: {leads}): publishing stood still for at most {pause:?}");
        assert!(pause < PAUSE_MAX, "{pause:?}");
    }
    stop.cancel();
    publishing.await.unwrap();
    cluster.wait_until_healthy().await;
    let acked = told.borrow().acked.clone();
    assert_eq!(all_stored(&cluster).await, acked, "the stream does not hold what was acked");
    let leader = cluster.leader_of(ACCOUNTS_STREAM).await;
    assert!(leader.is_some(), "the buckets have no leader");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_is_made_later_has_the_copies_of_the_others() {
    let cluster = Cluster::start(NODES).await;
    let master = connect(cluster.urls(), "master").await;
    assert!(master.cluster().is_some());
    // Started without the number: told, and then with it.
    assert_eq!(ensure_streams(&master, 1).await.unwrap(), 1);
    assert_eq!(ensure_streams(&master, NODES).await.unwrap(), NODES);
    master.jetstream().delete_stream(ACCOUNTS_STREAM).await.unwrap();
    assert_eq!(ensure_streams(&master, 1).await.unwrap(), NODES);
    for stream in [SNAPSHOTS, ACCOUNTS_STREAM] {
        let made = master.jetstream().get_stream(stream).await.unwrap();
        assert_eq!(made.cached_info().config.num_replicas, NODES, "{stream}");
    }
    let single = TestBroker::start();
    assert_eq!(connect(single.url(), "master").await.cluster(), None);
}

async fn wait_for_more(told: &mut watch::Receiver<Told>) {
    let wanted = told.borrow().acked.len() + MEANWHILE;
    let more = told.wait_for(|told| told.acked.len() >= wanted);
    tokio::time::timeout(PAUSE_MAX * 2, more).await.expect("publishing goes on").unwrap();
}

/// What the stream holds, as each message's sequence and text.
async fn all_stored(cluster: &Cluster) -> Vec<(u64, String)> {
    let broker = connect(cluster.urls(), "master").await;
    eventually(Duration::from_secs(20), "the stream is read whole", async || {
        let (mut all, mut next) = (Vec::new(), 1);
        loop {
            let (messages, pending) = read_subject(&broker, SNAPSHOTS, SUBJECT, next).await.ok()?;
            next = messages.last()?.seq + 1;
            all.extend(
                messages.iter().map(|one| (one.seq, String::from_utf8_lossy(&one.payload).into_owned())),
            );
            if pending == 0 {
                return Some(all);
            }
        }
    })
    .await
}
