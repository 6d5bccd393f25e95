//! A process that applies batches is killed at random moments: what it leaves behind is what the batches up to
//! the stored position make, and each change is in the log once.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/batches.rs"]
#[allow(dead_code, reason = "shared by several tests, each of which needs a part")]
mod batches;

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use batches::{Contents, batch, contents, delivery, open};
use snapfleet_master::store::{Batch, Delivery, Operation, Query};
use snapfleet_protocol::{RecordKind, UnixMs};
use snapfleet_testkit::sample::{BASE, account, comment, content, direct_message, snapshot};

/// Tells the test's second start that it is the one to be killed, and where its store is.
const CHILD_STORE: &str = "SNAPFLEET_TEST_CRASH_STORE";
const KILLS: u64 = 20;
const READY: &str = "the store is open";

/// What the stream holds under a sequence: a new message and comment, a work that changes, and one that does not.
fn nth(seq: u64) -> Delivery {
    let mut made = snapshot(&account(["demo.a", "demo.b", "demo.c"][(seq % 3) as usize]), 1, seq);
    made.direct_messages.push(direct_message(seq % 7, seq, "a message"));
    made.comments.push(comment(1, seq, "a comment"));
    let mut work = content(1);
    work.view_count = Some(seq as i64);
    made.contents.push(work);
    made.contents.push(content(2));
    delivery(seq, &made)
}

/// The batch that follows a sequence: its length and time depend on nothing else.
fn batch_after(after: u64) -> Batch {
    let deliveries = (after + 1..=after + 1 + after % 5).map(nth).collect();
    Batch { committed_at: UnixMs(BASE.0 + after as i64), ..batch(after, deliveries) }
}

#[tokio::test]
async fn killed_at_any_moment_the_store_is_what_its_position_says() {
    if let Ok(dir) = std::env::var(CHILD_STORE) {
        return apply_until_killed(Path::new(&dir)).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let (mut positions, mut feed) = (vec![0], None);
    for kill in 0..KILLS {
        // Some are killed while they open the store, most while they apply.
        let (mut child, _output) = start(dir.path(), kill % 4 > 0);
        std::thread::park_timeout(Duration::from_micros(random(80_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        if !dir.path().join("master.redb").exists() {
            continue;
        }
        let query = Query::open_at_rest(&dir.path().join("master.redb")).unwrap();
        let found = contents(&query).unwrap();
        let position = found.totals.position.map_or(0, |position| position.seq);
        check(&found, position);
        assert!(positions.last() <= Some(&position), "{positions:?} then {position}");
        positions.push(position);
        let this = query.totals().unwrap().feed;
        assert_eq!(feed.get_or_insert_with(|| this.clone()), &this);
    }
    positions.dedup();
    assert!(positions.len() > KILLS as usize / 2, "too few kills met any work: {positions:?}");
    // Opened for writing it goes on, and ends as a store that was never killed.
    let killed = open(dir.path());
    let last = *positions.last().unwrap();
    killed.apply(batch_after(last)).await.unwrap();
    let clean_dir = tempfile::tempdir().unwrap();
    let clean = open(clean_dir.path());
    let mut after = 0;
    while after <= last {
        let next = batch_after(after);
        after = next.through;
        clean.apply(next).await.unwrap();
    }
    let (killed, clean) = (killed.read(contents).await.unwrap(), clean.read(contents).await.unwrap());
    assert!(killed == clean, "a killed store differs from one that was not, at {last}");
}

/// The records are those of the deliveries up to `position`, and each is logged once as added.
fn check(found: &Contents, position: u64) {
    let of = |kind| found.records.iter().filter(|row| row.record.kind() == kind).count() as u64;
    assert_eq!((of(RecordKind::DirectMessage), of(RecordKind::Comment)), (position, position));
    assert_eq!(found.totals.received, position);
    let newest: Vec<_> = found.accounts.iter().map(|row| row.seq).max().into_iter().collect();
    assert!(position == 0 || newest == [position]);
    let mut added = HashSet::new();
    for change in &found.changes {
        let record = change.record.as_ref().unwrap();
        let key = (change.account.clone(), record.kind(), record.id().clone());
        assert!(change.operation == Operation::Updated || added.insert(key), "added twice: {change:?}");
    }
    assert_eq!(added.len(), found.records.len());
    assert!(found.changes.iter().map(|change| change.n).eq(1..=found.totals.changes));
    let works =
        found.changes.iter().filter(|change| change.record.as_ref().unwrap().id().as_str() == "w1").count()
            as u64;
    assert_eq!(works, position, "each change of a work is logged once");
}

/// Starts this test anew as the process to be killed.
fn start(dir: &Path, wait_until_ready: bool) -> (Child, impl BufRead) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["killed_at_any_moment_the_store_is_what_its_position_says", "--exact", "--nocapture"])
        .env(CHILD_STORE, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while wait_until_ready && !line.contains(READY) {
        line.clear();
        assert!(output.read_line(&mut line).unwrap() > 0, "the child did not start");
    }
    (child, output)
}

#[allow(clippy::print_stdout, reason = "the parent waits for this line")]
async fn apply_until_killed(dir: &Path) {
    let store = open(dir);
    println!("{READY}");
    let position = store.read(|query| query.totals()).await.unwrap().position;
    let mut after = position.map_or(0, |position| position.seq);
    // Longer than the parent ever waits, should it die first.
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(20) {
        let next = batch_after(after);
        after = next.through;
        store.apply(next).await.unwrap();
    }
}

fn random(below: u64) -> u64 {
    RandomState::new().hash_one(0) % below
}
