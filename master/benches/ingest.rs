//! Durable ingest: snapshots from their wire bytes to a committed redb transaction, in records a second, with all,
//! 1 % and none of the records changed; beside raw redb writing the same rows in the same transaction sizes.
//!
//! `scripts/bench` runs it. Each line states what a transaction holds; every transaction is durable before the
//! next begins, on the disk of the folder that is named.

#![allow(clippy::print_stdout, missing_docs, reason = "a benchmark prints its table")]

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use redb::{Database, TableDefinition};
use snapfleet_master::store::{Batch, DataStore, Delivery, Incoming, StoreOptions};
use snapfleet_protocol::{Snapshot, Topic, UnixMs, decode_snapshot, encode_snapshot};
use snapfleet_testkit::sample;

const RECORDS_PER_SNAPSHOT: u64 = 200;
const SNAPSHOTS: u64 = 512;
const ACCOUNTS: u64 = 8;
const ROWS: TableDefinition<(u32, &str), &[u8]> = TableDefinition::new("rows");

/// The snapshots of one pass; in pass n every record whose number is divisible by `changed_one_in` differs.
fn snapshots(pass: u64, changed_one_in: Option<u64>) -> Vec<(String, Bytes)> {
    let mut seqs = [pass * SNAPSHOTS; ACCOUNTS as usize];
    let encoded = (0..SNAPSHOTS).map(|number| {
        let account = sample::account(&format!("bench.a{}", number % ACCOUNTS));
        seqs[(number % ACCOUNTS) as usize] += 1;
        let mut snapshot = sample::snapshot(&account, 1, seqs[(number % ACCOUNTS) as usize]);
        for record in 0..RECORDS_PER_SNAPSHOT {
            let id = number * RECORDS_PER_SNAPSHOT + record;
            let version = changed_one_in.filter(|one_in| id.is_multiple_of(*one_in)).map_or(0, |_| pass);
            let text =
                format!("comment {id} in version {version}, as long as people write: {}", "很好".repeat(12));
            snapshot.comments.push(sample::comment(number / ACCOUNTS, id, &text));
        }
        let payload = encode_snapshot(&snapshot).expect("a snapshot within the limits");
        (Topic::Snapshot.subject(&account), Bytes::from(payload))
    });
    encoded.collect()
}

fn delivery(seq: u64, subject: &str, payload: &Bytes) -> Delivery {
    let snapshot = decode_snapshot(payload).expect("our own bytes");
    Delivery {
        seq,
        subject: subject.to_owned(),
        stored_at: UnixMs(sample::BASE.0 + seq as i64),
        headers: String::new(),
        payload: payload.clone(),
        outcome: Incoming::new(snapshot).map_err(|error| error.to_string()),
    }
}

/// Applies one pass in transactions of `batch` snapshots; returns the time from wire bytes to the last commit.
async fn ingest(store: &DataStore, from: u64, pass: &[(String, Bytes)], batch: usize) -> Duration {
    let started = Instant::now();
    let mut after = from;
    for chunk in pass.chunks(batch) {
        let deliveries: Vec<Delivery> = chunk
            .iter()
            .zip(after + 1..)
            .map(|((subject, payload), seq)| delivery(seq, subject, payload))
            .collect();
        let through = after + chunk.len() as u64;
        let batch =
            Batch { incarnation: 1, after, through, committed_at: UnixMs(sample::BASE.0 + 1), deliveries };
        store.apply(batch).await.expect("the batch is applied");
        after = through;
    }
    started.elapsed()
}

/// Writes the same rows with nothing around them.
fn raw(path: &Path, pass: &[(String, Bytes)], batch: usize) -> Duration {
    let rows: Vec<Vec<(u32, String, Vec<u8>)>> = pass.iter().map(|(_, payload)| raw_rows(payload)).collect();
    let database = Database::create(path).expect("a new file");
    let started = Instant::now();
    for chunk in rows.chunks(batch) {
        let transaction = database.begin_write().expect("a transaction");
        {
            let mut table = transaction.open_table(ROWS).expect("the table");
            for (account, id, bytes) in chunk.iter().flatten() {
                table.insert((*account, id.as_str()), bytes.as_slice()).expect("the row is written");
            }
        }
        transaction.commit().expect("the transaction commits");
    }
    started.elapsed()
}

fn raw_rows(payload: &Bytes) -> Vec<(u32, String, Vec<u8>)> {
    let snapshot: Snapshot = decode_snapshot(payload).expect("our own bytes");
    let account = snapshot.account.as_str().trim_start_matches('a').parse().unwrap_or(0);
    let rows = snapshot.comments.iter();
    rows.map(|row| (account, row.id.to_string(), rmp_serde::to_vec_named(row).expect("a record"))).collect()
}

#[tokio::main]
async fn main() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let records = SNAPSHOTS * RECORDS_PER_SNAPSHOT;
    let rate = |time: Duration| format!("{:>9.0}", records as f64 / time.as_secs_f64());
    let first = snapshots(0, None);
    let bytes: usize = first.iter().map(|(_, payload)| payload.len()).sum();
    println!(
        "durable ingest: {records} comments in {SNAPSHOTS} snapshots of {RECORDS_PER_SNAPSHOT}, {bytes} bytes on the wire, \
         {ACCOUNTS} accounts, store in {}",
        dir.path().display()
    );
    println!("records/s, from wire bytes to the durable commit; raw redb: rows made before the clock starts");
    println!(
        "{:>22} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "records/transaction", "all new", "all chg", "1 % chg", "none chg", "raw redb"
    );
    for batch in [1_usize, 32, 256] {
        let store = DataStore::open(&dir.path().join(format!("store-{batch}.redb")), StoreOptions::default())
            .expect("a new store");
        let all_new = ingest(&store, 0, &first, batch).await;
        let all_changed = ingest(&store, SNAPSHOTS, &snapshots(1, Some(1)), batch).await;
        let same_again = snapshots(1, Some(1)).into_iter();
        let none = ingest(&store, 2 * SNAPSHOTS, &later(same_again, 2), batch).await;
        let one_percent = ingest(&store, 3 * SNAPSHOTS, &one_percent(3), batch).await;
        store.close().await;
        let raw = raw(&dir.path().join(format!("raw-{batch}.redb")), &first, batch);
        println!(
            "{:>22} {} {} {} {} {}",
            batch as u64 * RECORDS_PER_SNAPSHOT,
            rate(all_new),
            rate(all_changed),
            rate(one_percent),
            rate(none),
            rate(raw)
        );
    }
}

/// The same records under later seqs.
fn later(pass: impl Iterator<Item = (String, Bytes)>, number: u64) -> Vec<(String, Bytes)> {
    let renumbered = pass.map(|(subject, payload)| {
        let mut snapshot = decode_snapshot(&payload).expect("our own bytes");
        snapshot.seq += (number - 1) * SNAPSHOTS;
        (subject, Bytes::from(encode_snapshot(&snapshot).expect("within the limits")))
    });
    renumbered.collect()
}

/// The records of pass 1, of which each hundredth changes once more.
fn one_percent(number: u64) -> Vec<(String, Bytes)> {
    let mut pass = later(snapshots(1, Some(1)).into_iter(), number);
    for (_, payload) in &mut pass {
        let mut snapshot = decode_snapshot(payload).expect("our own bytes");
        for comment in snapshot.comments.iter_mut().step_by(100) {
            comment.text = Some(format!("changed once more in pass {number}"));
        }
        *payload = Bytes::from(encode_snapshot(&snapshot).expect("within the limits"));
    }
    pass
}
