//! What jq costs: a platform's mapping from a body's bytes to records, beside the same mapping written by hand in Rust
//! with serde, and beside what only reads the JSON. Also what a body costs however small it is.
//!
//! `scripts/bench` runs it. Before anything is timed, both mappings have given the same records. One body is mapped at
//! a time, by one thread.

#![allow(clippy::print_stdout, missing_docs, reason = "a benchmark prints its table")]

#[path = "mapping/bodies.rs"]
mod bodies;
#[path = "mapping/hand.rs"]
mod hand;

use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;
use snapfleet_protocol::Record;

use self::bodies::{Case, Size};

/// How long a contender runs on one body, and how often at least and at most.
const MEASURE: Duration = Duration::from_secs(2);
const RUNS_MIN: usize = 20;
const RUNS_MAX: usize = 5000;
/// The stack of the thread that each run of a filter gets.
const STACK_BYTES: usize = 64 * 1024 * 1024;

type ByHand = fn(&Case, &[u8]) -> Result<Vec<Record>, String>;
type Contender<'c> = (&'static str, Box<dyn Fn() -> usize + 'c>);

fn main() {
    let cases: [(&str, Case, ByHand); 3] = [
        ("douyin works", Case::read("douyin", "works", bodies::work), hand::douyin_works),
        ("douyin comments", Case::read("douyin", "comments", bodies::comment), hand::douyin_comments),
        ("demo comments", Case::read("demo", "comments", bodies::comment), hand::demo_comments),
    ];
    println!(
        "mapping: a body's bytes to records, one body at a time; MB are 10^6 bytes of JSON without spaces"
    );
    println!(
        "min, p50 and p99 by the wall clock; cpu, the median processor time, is what MB/s, rows/s and x are of:"
    );
    println!("what one core does. x is the time in times of the mapping by hand");
    let sizes = [Size::Rows(20), Size::Bytes(1_000_000), Size::Bytes(10_000_000)];
    for (name, case, by_hand) in &cases {
        for size in sizes {
            let body = case.body(size);
            let records = same_records(case, *by_hand, &body);
            measure(name, &body, records.len(), &contenders(case, *by_hand, &body, &records));
        }
    }
    let (_, case, by_hand) = &cases[2];
    let empty = case.body(Size::Rows(0));
    let mut all = contenders(case, *by_hand, &empty, &[]);
    all.push(("a thread that does nothing", Box::new(idle_thread)));
    measure("demo comments, none: a body's fixed cost", &empty, 0, &all);
}

/// Both mappings' records, which are the same.
fn same_records(case: &Case, by_hand: ByHand, body: &[u8]) -> Vec<Record> {
    let mapped = case.platform.map(case.rule, &case.request, &case.account, body, case.now);
    assert_eq!((mapped.error, mapped.refused.first()), (None, None), "the body maps whole");
    let records = by_hand(case, body).expect("the body maps by hand");
    for (one, other) in mapped.records.iter().zip(&records) {
        assert_eq!(one, other, "the filter's record, and the one by hand");
    }
    assert_eq!(mapped.records.len(), records.len());
    records
}

fn contenders<'c>(case: &'c Case, by_hand: ByHand, body: &'c [u8], records: &[Record]) -> Vec<Contender<'c>> {
    let rows: Vec<String> =
        records.iter().map(|record| serde_json::to_string(record).expect("a record")).collect();
    vec![
        (
            "by the jq filter",
            Box::new(|| {
                case.platform.map(case.rule, &case.request, &case.account, body, case.now).records.len()
            }),
        ),
        ("by hand", Box::new(move || by_hand(case, body).map_or(0, |records| records.len()))),
        (
            "only rows' text to records",
            Box::new(move || {
                rows.iter().filter(|row| snapfleet_worker::normalise::row(row, case.now).is_ok()).count()
            }),
        ),
        (
            "only read by serde_json",
            Box::new(|| {
                usize::from(serde_json::from_slice::<Value>(body).is_ok_and(|body| body.is_object()))
            }),
        ),
        ("only read by jaq", Box::new(|| usize::from(jaq_json::read::parse_single(body).is_ok()))),
    ]
}

fn idle_thread() -> usize {
    let thread = thread::Builder::new().stack_size(STACK_BYTES).spawn(|| black_box(0));
    thread.expect("a thread").join().expect("it ends well")
}

fn measure(name: &str, body: &[u8], rows: usize, contenders: &[Contender<'_>]) {
    let times: Vec<_> = contenders.iter().map(|(_, run)| timed(run)).collect();
    println!("\n{name}: {} bytes, {rows} rows", body.len());
    println!(
        "{:<28} {:>5} {:>9} {:>9} {:>9} {:>9} {:>9} {:>10} {:>7}",
        "", "runs", "min ms", "p50 ms", "p99 ms", "cpu ms", "MB/s", "rows/s", "x"
    );
    let by_hand = at(&times[1].cpu, 0.5);
    for ((name, _), times) in contenders.iter().zip(&times) {
        let cpu = at(&times.cpu, 0.5);
        println!(
            "{name:<28} {:>5} {:>9.4} {:>9.4} {:>9.4} {:>9.4} {:>9.1} {:>10.0} {:>7.2}",
            times.wall.len(),
            at(&times.wall, 0.0) * 1e3,
            at(&times.wall, 0.5) * 1e3,
            at(&times.wall, 0.99) * 1e3,
            cpu * 1e3,
            body.len() as f64 / 1e6 / cpu,
            rows as f64 / cpu,
            cpu / by_hand,
        );
    }
}

/// How long each run took, sorted: by the wall clock, and in processor time, which other processes do not add to.
#[derive(Default)]
struct Times {
    wall: Vec<Duration>,
    cpu: Vec<Duration>,
}

/// Runs it again and again, after a run that is not counted.
fn timed(run: &dyn Fn() -> usize) -> Times {
    black_box(run());
    let mut times = Times::default();
    let began = Instant::now();
    while times.wall.len() < RUNS_MIN || (began.elapsed() < MEASURE && times.wall.len() < RUNS_MAX) {
        let (started, cpu) = (Instant::now(), processor_time());
        black_box(run());
        times.cpu.push(processor_time().saturating_sub(cpu));
        times.wall.push(started.elapsed());
    }
    times.wall.sort_unstable();
    times.cpu.sort_unstable();
    times
}

/// What this process has computed so far, the filter's thread included.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// The time in seconds that this part of the sorted runs took at most.
fn at(times: &[Duration], part: f64) -> f64 {
    times[((times.len() - 1) as f64 * part).round() as usize].as_secs_f64()
}
