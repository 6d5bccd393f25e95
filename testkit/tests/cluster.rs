//! The whole fleet on a cluster of three: each node in turn is killed while everything runs, and comes back.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/simulation.rs"]
mod simulation;

use std::process::Command;
use std::time::{Duration, Instant};

use simulation::{STORED_WITHIN, end_of};
use snapfleet_testkit::fleet::{Fleet, Simulated};
use snapfleet_testkit::{Cluster, eventually};

const NODES: usize = 3;
const WORKERS: [&str; 2] = ["w1", "w2"];
/// How long the master may receive nothing after a node was killed.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Something of every account changes each second until long after the last kill.
const SIMULATED: Simulated = Simulated { accounts: 12, records: 100, change_rate: 0.02, seed: 5, steps: 110 };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_node_may_die_while_everything_runs() {
    let mut cluster = Cluster::start(NODES).await;
    let mut fleet = Fleet::new(SIMULATED);
    let (master, worker) = (Fleet::program("snapfleet-master"), Fleet::program("snapfleet-worker"));
    fleet.start_master(Command::new(&master), &cluster.urls(), &["--replicas", "3"]);
    for id in WORKERS {
        fleet.start_worker(id, Command::new(&worker), &cluster.urls());
    }
    fleet.import_accounts(|| Command::new(&master));
    let before = fleet.wait_for_holders(Duration::from_secs(60), |_| true).await;
    let first = cluster.leader_of("SNAPSHOTS").await.expect("the stream has a leader");
    for node in (0..NODES).map(|step| (first + step) % NODES) {
        cluster.wait_until_healthy().await;
        let led: Vec<_> = leads(&cluster, node).await;
        cluster.kill(node);
        let pause = pause_after(&fleet).await;
        eprintln!("node {node} killed (leader of {led:?}): the master received nothing for {pause:?}");
        assert!(pause < PAUSE_MAX, "{pause:?}");
        cluster.restart(node);
    }
    cluster.wait_until_healthy().await;
    let after = fleet.wait_for_holders(Duration::from_secs(60), |_| true).await;
    let moved = before.iter().filter(|(account, worker)| after.get(*account) != Some(worker)).count();
    eprintln!("{moved} of {} accounts have another holder than before", before.len());
    let deadline = STORED_WITHIN + Duration::from_secs(SIMULATED.steps);
    fleet.wait_until_stored(deadline, &end_of(&fleet, SIMULATED)).await;
    let status = fleet.api("status").await.expect("the master answers");
    assert_eq!(status["sync"]["rejected"], 0, "{status}");
    assert_eq!(status["store"]["dead_letters"], 0, "{status}");
}

async fn leads(cluster: &Cluster, node: usize) -> Vec<&'static str> {
    let mut led = Vec::new();
    for stream in ["SNAPSHOTS", "KV_workers", "KV_leases"] {
        if cluster.leader_of(stream).await == Some(node) {
            led.push(stream);
        }
    }
    led
}

/// The longest time within the next half minute in which the master received nothing.
async fn pause_after(fleet: &Fleet) -> Duration {
    let received = async || fleet.api("status").await?["sync"]["received"].as_u64();
    let started = Instant::now();
    let (mut last, mut since, mut longest) = (received().await, Instant::now(), Duration::ZERO);
    while started.elapsed() < Duration::from_secs(20) {
        let before = last;
        let next = eventually(PAUSE_MAX * 2, "the master receives more", async || {
            let now = received().await;
            (now > before).then_some(now)
        });
        last = next.await;
        longest = longest.max(since.elapsed());
        since = Instant::now();
    }
    longest
}
