//! Push to visible: from the moment the demo site pushes a message into a real browser page to the moment the
//! master's HTTP API shows it, as a whole distribution.
//!
//! Chromium, worker, nats-server, master and this measurement share the machine. The API is asked in a loop, so
//! the figures hold up to one round trip too much, never too little. `scripts/bench` runs it.

#![allow(clippy::print_stdout, missing_docs, reason = "a benchmark prints its table")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use snapfleet_testkit::TestBroker;
use snapfleet_testkit::system::{Setup, System};

const PUSHES: usize = 200;
const VISIBLE_WITHIN: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() {
    let accounts = ["shop-a", "shop-b", "shop-c", "shop-d", "shop-e"];
    let setup = Setup { events_per_minute: 0.0, interval_s: 30, ..Setup::default() };
    let system = System::start(TestBroker::start(), setup).await;
    system.wait_for_equality(Duration::from_secs(120)).await;
    println!(
        "push to visible through the HTTP API: {PUSHES} direct messages, one after the other, to 5 accounts on 2 workers"
    );
    let mut millis = Vec::with_capacity(PUSHES);
    for number in 0..PUSHES {
        let account = accounts[number % accounts.len()];
        let after = newest(&system).await;
        let pushed = system.control(&format!("{account}/push?kind=message")).await;
        let id = pushed["id"].as_str().expect("the pushed message's id").to_owned();
        let pushed_at = pushed["pushed_at_ms"].as_i64().expect("when it was pushed");
        let asked = Instant::now();
        loop {
            let changes = system.api(&format!("changes?after={after}&limit=100")).await;
            let items = changes["items"].as_array().expect("a list");
            if items.iter().any(|change| change["id"] == id.as_str()) {
                break;
            }
            assert!(asked.elapsed() < VISIBLE_WITHIN, "message {id} never came\n{}", system.logs());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let now =
            SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_millis() as i64;
        millis.push(now - pushed_at);
        // Spread over the debounce, so that no two pushes meet it at the same place.
        tokio::time::sleep(Duration::from_millis(150 + (number as u64 * 37) % 200)).await;
    }
    millis.sort_unstable();
    let at = |part: f64| millis[((millis.len() - 1) as f64 * part).round() as usize];
    println!(
        "{:>6} {:>6} {:>6} {:>6} {:>6} {:>6} {:>6}   ms",
        "min", "p25", "p50", "p75", "p90", "p99", "max"
    );
    println!(
        "{:>6} {:>6} {:>6} {:>6} {:>6} {:>6} {:>6}",
        at(0.0),
        at(0.25),
        at(0.5),
        at(0.75),
        at(0.9),
        at(0.99),
        at(1.0)
    );
    println!("of which the worker waits 200 ms on purpose, so that what comes together travels together");
}

/// The change log's newest cursor.
async fn newest(system: &System) -> String {
    let changes = system.rows("changes").await;
    changes.last().expect("a change")["cursor"].as_str().expect("a cursor").to_owned()
}
