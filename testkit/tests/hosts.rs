//! Several hosts: what a cut, a slow and a lossy network does to the fleet, in network namespaces of this machine.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/simulation.rs"]
mod simulation;

use std::collections::BTreeMap;
use std::future::Future;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use simulation::{STORED_WITHIN, end_of};
use snapfleet_testkit::broker::{configure, nats_server};
use snapfleet_testkit::fleet::{Fleet, Simulated};
use snapfleet_testkit::process::Process;
use snapfleet_testkit::{Hosts, eventually};

/// How long a connection that is not cut may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const PORT: u16 = 4222;
const WORKERS: [&str; 3] = ["w1", "w2", "w3"];
/// How long the fleet may take until every account is held by one who can be reached.
const TAKEN_WITHIN: Duration = Duration::from_secs(60);
const CUT_FOR: Duration = Duration::from_secs(15);
const SLOW_FOR: Duration = Duration::from_secs(20);
/// Something of every account changes each second until after the last fault.
const SIMULATED: Simulated = Simulated { accounts: 12, records: 100, change_rate: 0.02, seed: 9, steps: 75 };

/// The hosts, or `None` where they cannot be made, which is told.
fn hosts(names: &[&'static str]) -> Option<Hosts> {
    Hosts::new(names).map_err(|reason| eprintln!("skipped: {reason}")).ok()
}

/// How long a host takes to connect to another and to be answered; `None` if it is not.
fn round_trip(hosts: &Hosts, from: &str, to: &str, timeout: Duration) -> Option<Duration> {
    let address: SocketAddr = format!("{}:{PORT}", hosts.address(to)).parse().unwrap();
    hosts.on(from, || {
        let started = Instant::now();
        let mut stream = TcpStream::connect_timeout(&address, timeout).ok()?;
        stream.set_read_timeout(Some(timeout)).unwrap();
        (stream.read(&mut [0]).ok()? == 0).then(|| started.elapsed())
    })
}

#[test]
fn hosts_reach_each_other_unless_cut_and_late_where_that_was_asked_for() {
    let Some(mut hosts) = hosts(&["broker", "w1", "w2"]) else { return };
    let address = format!("{}:{PORT}", hosts.address("broker"));
    let listener = hosts.on("broker", || TcpListener::bind(address).unwrap());
    // Each connection is accepted and closed: the answer is its end.
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let short = Duration::from_secs(1);
    let undisturbed = round_trip(&hosts, "w1", "broker", CONNECT_TIMEOUT).expect("w1 reaches the broker");
    hosts.cut("w1");
    assert_eq!(round_trip(&hosts, "w1", "broker", short), None, "a host that is cut off is not");
    assert!(round_trip(&hosts, "w2", "broker", short).is_some(), "the others are not cut off");
    hosts.heal("w1");
    assert!(round_trip(&hosts, "w1", "broker", CONNECT_TIMEOUT).is_some(), "a healed host is cut off");
    if let Err(reason) = hosts.impair("w1", 80, 20, 0.0) {
        eprintln!("skipped: {reason}");
        return;
    }
    let late = round_trip(&hosts, "w1", "broker", CONNECT_TIMEOUT).expect("a slow host is answered");
    eprintln!("a round trip takes {undisturbed:?}, and {late:?} with 80 ms ± 20 ms each way");
    // A connection and its end: there and back twice, at least 60 ms each time.
    assert!(late >= Duration::from_millis(240), "not slow: {late:?}");
    hosts.impair("w1", 0, 0, 100.0).unwrap();
    assert_eq!(round_trip(&hosts, "w1", "broker", short), None, "a link that loses everything is not lossy");
    hosts.heal("w1");
    assert!(round_trip(&hosts, "w1", "broker", short).unwrap() < late, "a healed link is still slow");
}

/// A fleet on hosts of its own: the broker, the master, a replica of it and three workers.
struct OnHosts {
    // Dropped before the hosts that they run on.
    fleet: Fleet,
    _broker: Process,
    hosts: Hosts,
}

impl OnHosts {
    fn start(hosts: Hosts) -> Self {
        let mut fleet = Fleet::new(SIMULATED);
        let mut broker = hosts.command("broker", nats_server());
        configure(&mut broker, &fleet.dir().join("nats"));
        broker.args(["-a", &hosts.address("broker"), "-p", &PORT.to_string()]);
        let broker = Process::start(&mut broker, &fleet.dir().join("nats.log"));
        let url = format!("nats://{}:{PORT}", hosts.address("broker"));
        let master = || hosts.command("master", Fleet::program("snapfleet-master"));
        fleet.start_master(master(), &url, &[]);
        for id in WORKERS {
            fleet.start_worker(id, hosts.command(id, Fleet::program("snapfleet-worker")), &url);
        }
        fleet.start_replica(hosts.command("replica", Fleet::program("snapfleet-master")), &url);
        fleet.import_accounts(master);
        Self { fleet, _broker: broker, hosts }
    }

    /// Runs something on the master's host, the only one that reaches its page.
    fn ask<T: Send, F: Future<Output = T>>(&self, ask: impl FnOnce() -> F + Send) -> T {
        self.ask_on("master", ask)
    }

    fn ask_on<T: Send, F: Future<Output = T>>(&self, host: &str, ask: impl FnOnce() -> F + Send) -> T {
        self.hosts.on(host, || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(ask())
        })
    }

    /// How long it takes until every account is captured, by each worker of `wanted` its fair share; and by which.
    fn held_by(&self, wanted: &[&str]) -> (Duration, BTreeMap<String, String>) {
        let started = Instant::now();
        let instances = self.ask(|| async {
            eventually(TAKEN_WITHIN, "the workers are online", async || {
                let instances = self.instances().await?;
                wanted.iter().all(|worker| instances.values().any(|id| id == worker)).then_some(instances)
            })
            .await
        });
        let share = SIMULATED.accounts as usize / wanted.len();
        let is_fair = |holders: &BTreeMap<String, String>| {
            let of = |worker: &&str| {
                holders.values().filter(|id| instances.get(*id).is_some_and(|known| known == worker)).count()
            };
            wanted.iter().all(|worker| of(worker) == share)
        };
        let holders = self.ask(|| self.fleet.wait_for_holders(TAKEN_WITHIN, is_fair));
        (started.elapsed(), holders)
    }

    /// The workers' ids by their instances.
    async fn instances(&self) -> Option<BTreeMap<String, String>> {
        let status = self.fleet.api("status").await?;
        let workers = status["workers"]["list"].as_array()?.iter();
        let pair = |worker: &serde_json::Value| {
            Some((worker["instance"].as_str()?.to_owned(), worker["worker"].as_str()?.to_owned()))
        };
        workers.map(pair).collect()
    }
}

/// How many accounts have another holder.
fn moved(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> usize {
    before.iter().filter(|(account, holder)| after.get(*account) != Some(holder)).count()
}

#[test]
fn a_host_is_cut_off_and_another_slow_and_nothing_is_lost_or_there_twice() {
    let Some(hosts) = hosts(&["broker", "master", "replica", "w1", "w2", "w3"]) else { return };
    let mut on = OnHosts::start(hosts);
    let (took, before) = on.held_by(&WORKERS);
    eprintln!("all accounts are held after {took:?}");

    let cut_at = Instant::now();
    on.hosts.cut("w1");
    on.hosts.cut("replica");
    let (took, _) = on.held_by(&["w2", "w3"]);
    eprintln!("w1 is cut off: the others hold its accounts after {took:?}");
    assert!(took < CUT_FOR, "{took:?}");
    std::thread::park_timeout(CUT_FOR.saturating_sub(cut_at.elapsed()));
    on.hosts.heal("w1");
    on.hosts.heal("replica");
    let (took, healed) = on.held_by(&WORKERS);
    eprintln!("w1 is back after {took:?}; {} accounts moved since the beginning", moved(&before, &healed));

    match on.hosts.impair("w2", 80, 20, 1.0) {
        Ok(()) => {
            let slow_until = Instant::now() + SLOW_FOR;
            while Instant::now() < slow_until {
                let (_, slow) = on.held_by(&WORKERS);
                assert_eq!(moved(&healed, &slow), 0, "a slow host lost accounts: {}", on.fleet.logs());
            }
            eprintln!("w2 is slow and loses 1 %: it has kept its accounts for {SLOW_FOR:?}");
            on.hosts.heal("w2");
        }
        Err(reason) => eprintln!("skipped: {reason}"),
    }

    let truth = end_of(&on.fleet, SIMULATED);
    on.ask(|| on.fleet.wait_until_stored(STORED_WITHIN, &truth));
    on.ask_on("replica", || on.fleet.wait_until_replicated(STORED_WITHIN, &truth));
    let status = on.ask(|| async {
        eventually(STORED_WITHIN, "status shows the replica at the end of the stream", async || {
            let status = on.fleet.api("status").await?;
            (status["replicas"]["list"][0]["behind"] == 0).then_some(status)
        })
        .await
    });
    assert_eq!(status["sync"]["rejected"], 0, "{status}");
    assert_eq!(status["store"]["dead_letters"], 0, "{status}");
}
