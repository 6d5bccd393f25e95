//! A whole fleet without browsers: real processes of broker, master and workers, whose accounts are simulated.
//!
//! Measures how fast accounts find workers, what the broker writes while nothing changes, and what goes through while
//! something does. Everything shares the machine, this measurement included. `scripts/fleet-bench` runs it.

#![allow(clippy::print_stdout, missing_docs, reason = "a benchmark prints its table")]

#[path = "fleet/lag.rs"]
mod lag;
#[path = "fleet/observe.rs"]
mod observe;
#[path = "fleet/rig.rs"]
mod rig;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use lag::Lags;
use observe::{Part, Streams, Usage, Wire, usage};
use rig::{Options, Rig};

/// What is measured while nothing changes takes this long.
const QUIET: Duration = Duration::from_secs(20);
/// How long any one thing may take to settle.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(900);
const LOOK_EVERY: Duration = Duration::from_millis(500);

#[tokio::main]
async fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("fleet: {error}");
            return ExitCode::from(64);
        }
    };
    println!("{options}");
    let mut rig = Rig::start(options).await;
    let took = rig.import();
    println!("accounts imported                {:>10.1} s", took.as_secs_f64());

    rig.start_workers(0.0);
    settle(&rig, "first start").await;
    wait_until_stored(&rig).await;
    wait_until_quiet(&rig).await;
    quiet(&rig).await;

    let stopping = Instant::now();
    rig.stop_workers().await;
    println!("\nall workers stopped in order     {:>10.1} s", stopping.elapsed().as_secs_f64());
    wait_until_free(&rig).await;
    rig.start_workers(rig.options.change_rate);
    settle(&rig, "next start, windows read back").await;
    // Each account has had its first round with what differs from before.
    tokio::time::sleep(Duration::from_secs(rig.options.interval_s)).await;
    changing(&rig).await;
    ExitCode::SUCCESS
}

/// Waits until every account is held and delivers; prints when.
async fn settle(rig: &Rig, what: &str) {
    let (started, all) = (Instant::now(), rig.options.accounts);
    let mut held = None;
    loop {
        if let Some(status) = rig.status().await {
            let count = |name: &str| status["capture"][name].as_u64().unwrap_or(0);
            if held.is_none() && count("capturing") + count("starting") + count("unwell") >= all {
                held = Some(started.elapsed());
            }
            if count("capturing") >= all {
                break;
            }
            assert!(started.elapsed() < SETTLE_TIMEOUT, "{what}: {}\n{}", status["capture"], rig.logs());
        }
        assert!(started.elapsed() < SETTLE_TIMEOUT, "{what}: the master does not answer\n{}", rig.logs());
        tokio::time::sleep(LOOK_EVERY).await;
    }
    println!("\n{what}");
    println!("all accounts assigned            {:>10.1} s", held.unwrap_or_default().as_secs_f64());
    println!("all accounts capturing           {:>10.1} s", started.elapsed().as_secs_f64());
}

/// Waits until the master knows of no worker any more.
async fn wait_until_free(rig: &Rig) {
    let started = Instant::now();
    while rig.status().await.is_none_or(|status| status["workers"]["online"] != 0) {
        assert!(started.elapsed() < SETTLE_TIMEOUT, "workers are still online\n{}", rig.logs());
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Waits until the master has everything that the accounts begin with.
async fn wait_until_stored(rig: &Rig) {
    let (started, all) = (Instant::now(), rig.options.accounts * rig.options.records);
    loop {
        let stored = rig.status().await.map_or(0, |status| rig::stored(&status));
        if stored >= all {
            let rate = all as f64 / started.elapsed().as_secs_f64();
            println!(
                "{all} records stored after      {:>10.1} s more ({rate:.0} records/s)",
                started.elapsed().as_secs_f64()
            );
            return;
        }
        assert!(started.elapsed() < SETTLE_TIMEOUT, "{stored} of {all} records stored\n{}", rig.logs());
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Waits until no snapshot has come for longer than an interval: fulls follow the first deltas.
async fn wait_until_quiet(rig: &Rig) {
    let (started, long) = (Instant::now(), Duration::from_secs(rig.options.interval_s + 5));
    let (mut last, mut since) = (0, Instant::now());
    while since.elapsed() < long {
        let now = rig.streams().await.last_seq("SNAPSHOTS");
        if now != last {
            (last, since) = (now, Instant::now());
        }
        assert!(started.elapsed() < SETTLE_TIMEOUT, "snapshots still come\n{}", rig.logs());
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What the broker writes while nothing changes.
async fn quiet(rig: &Rig) {
    let wire = listen(rig).await;
    let before = Sample::take(rig, &wire).await;
    tokio::time::sleep(QUIET).await;
    let after = Sample::take(rig, &wire).await;
    println!("\nnothing changes, {} s", QUIET.as_secs());
    print_streams(&before, &after);
    print_parts(&before, &after);
}

/// What goes through while accounts change at the asked rate.
async fn changing(rig: &Rig) {
    let (wire, mut lags) = (listen(rig).await, Lags::listen(rig).await);
    let before = Sample::take(rig, &wire).await;
    let until = Instant::now() + Duration::from_secs(rig.options.measure_s);
    let mut behind = Vec::new();
    while Instant::now() < until {
        if let Some(status) = rig.status().await {
            behind.extend(status["sync"]["lag"].as_u64());
        }
        lags.poll(rig).await;
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let after = Sample::take(rig, &wire).await;
    let (seconds, asked) = (after.seconds_since(&before), rig.options.asked_changes());
    println!("\n{} of the records change in each interval, {seconds:.0} s", rig.options.change_rate);
    let publishes = after.streams.last_seq("SNAPSHOTS") - before.streams.last_seq("SNAPSHOTS");
    println!("publishes                        {:>10.1} /s", publishes as f64 / seconds);
    let changes = after.changes.saturating_sub(before.changes) as f64;
    println!("changes stored                   {:>10.1} /s (asked for: {asked:.1})", changes / seconds);
    let [inbound, others] = lags.summaries();
    println!("capture to store, inbound        {inbound}");
    println!("capture to store, at intervals   {others}");
    println!("messages not applied yet         {}", summary(&mut behind, "messages"));
    print_streams(&before, &after);
    print_parts(&before, &after);
}

async fn listen(rig: &Rig) -> Wire {
    Wire::listen(rig.client("operator").await, rig.client("master").await).await
}

/// Everything at one moment.
struct Sample {
    at: Instant,
    streams: Streams,
    bytes: BTreeMap<&'static str, u64>,
    parts: Vec<(Part, Usage)>,
    changes: u64,
}

impl Sample {
    async fn take(rig: &Rig, wire: &Wire) -> Self {
        let changes = rig.status().await.map_or(0, |status| status["store"]["changes"].as_u64().unwrap_or(0));
        let parts = rig.parts().into_iter().map(|(part, pid)| (part, usage(pid))).collect();
        Self { streams: rig.streams().await, bytes: wire.bytes(), parts, changes, at: Instant::now() }
    }

    fn seconds_since(&self, before: &Self) -> f64 {
        (self.at - before.at).as_secs_f64()
    }
}

fn print_streams(before: &Sample, after: &Sample) {
    let seconds = after.seconds_since(before);
    println!("{:<32} {:>10} {:>12}", "stream", "messages/s", "bytes/s");
    let mut total = (0.0, 0.0);
    for name in after.streams.names() {
        let written = (after.streams.last_seq(name) - before.streams.last_seq(name)) as f64 / seconds;
        let heard = |sample: &Sample| sample.bytes.get(name).copied().unwrap_or(0);
        let bytes = (heard(after) - heard(before)) as f64 / seconds;
        total = (total.0 + written, total.1 + bytes);
        println!("{name:<32} {written:>10.1} {bytes:>12.0}");
    }
    println!("{:<32} {:>10.1} {:>12.0}", "all", total.0, total.1);
}

fn print_parts(before: &Sample, after: &Sample) {
    let seconds = after.seconds_since(before);
    println!("{:<32} {:>10} {:>12} {:>12}", "part", "CPU %", "PSS MB", "disk B/s");
    for part in [Part::Broker, Part::Master, Part::Worker] {
        let sum = |sample: &Sample| {
            let of_part = sample.parts.iter().filter(|(other, _)| *other == part);
            of_part.fold(Usage::default(), |sum, (_, usage)| sum + *usage)
        };
        let (then, now) = (sum(before), sum(after));
        let count = after.parts.iter().filter(|(other, _)| *other == part).count();
        println!(
            "{:<32} {:>10.1} {:>12.1} {:>12.0}",
            format!("{} x {count}", part.name()),
            (now.cpu_s - then.cpu_s) / seconds * 100.0,
            now.pss_bytes as f64 / 1e6,
            now.written_bytes.saturating_sub(then.written_bytes) as f64 / seconds,
        );
    }
}

/// Median, 99th percentile and largest.
fn summary(values: &mut [u64], unit: &str) -> String {
    values.sort_unstable();
    let Some(last) = values.len().checked_sub(1) else { return "not measured".to_owned() };
    let at = |part: f64| values[(last as f64 * part).round() as usize];
    let (half, most, largest) = (at(0.5), at(0.99), values[last]);
    format!("p50 {half}, p99 {most}, max {largest} {unit} (of {})", values.len())
}
