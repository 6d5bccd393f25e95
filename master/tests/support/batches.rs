//! Batches made by hand, and everything that a store holds, in a form that can be compared.

use bytes::Bytes;
use snapfleet_master::store::{
    AccountRow, Batch, ChangeRow, DataStore, DeadLetterRow, Delivery, Incoming, PageCursor, Query,
    RecordQuery, RecordRow, StoreError, StoreOptions, ThreadRow, Totals,
};
use snapfleet_protocol::{AccountId, RecordKind, Snapshot, Topic, UnixMs, encode_snapshot};
use snapfleet_testkit::sample;

/// The stream's incarnation where a test needs only one.
pub(crate) const STREAM: u64 = 1_700_000_000_000_000_000;

/// A snapshot as it comes from the stream.
pub(crate) fn delivery(seq: u64, snapshot: &Snapshot) -> Delivery {
    Delivery {
        seq,
        subject: Topic::Snapshot.subject(&snapshot.account_id()),
        stored_at: UnixMs(sample::BASE.0 + seq as i64),
        headers: format!("Nats-Msg-Id: {}\n", snapshot.id()),
        payload: Bytes::from(encode_snapshot(snapshot).expect("a sample encodes")),
        outcome: Ok(Incoming::new(snapshot.clone()).expect("a sample encodes")),
    }
}

/// A message that is no snapshot.
pub(crate) fn garbage(seq: u64, subject: &str) -> Delivery {
    Delivery {
        seq,
        subject: subject.to_owned(),
        stored_at: UnixMs(sample::BASE.0 + seq as i64),
        headers: String::new(),
        payload: Bytes::from_static(b"\xffgarbage"),
        outcome: Err("not a snapshot: of all things".to_owned()),
    }
}

/// A batch of deliveries that follow sequence `after`.
pub(crate) fn batch(after: u64, deliveries: Vec<Delivery>) -> Batch {
    let through = deliveries.last().map_or(after, |delivery| delivery.seq);
    Batch { incarnation: STREAM, after, through, committed_at: sample::BASE, deliveries }
}

/// Opens the store in `dir`.
pub(crate) fn open(dir: &std::path::Path) -> DataStore {
    DataStore::open(&dir.join("master.redb"), StoreOptions::default()).expect("the store opens")
}

/// All that a store holds, without the random id of its feed.
#[derive(Debug, PartialEq)]
pub(crate) struct Contents {
    pub(crate) totals: Totals,
    pub(crate) accounts: Vec<AccountRow>,
    pub(crate) records: Vec<RecordRow>,
    pub(crate) threads: Vec<ThreadRow>,
    pub(crate) changes: Vec<ChangeRow>,
    pub(crate) dead_letters: Vec<DeadLetterRow>,
}

/// Reads all that a store holds, page by page.
pub(crate) fn contents(query: &Query) -> Result<Contents, StoreError> {
    let mut totals = query.totals()?;
    totals.feed.0.clear();
    let accounts = query.accounts()?;
    let (mut records, mut threads) = (Vec::new(), Vec::new());
    for account in &accounts {
        for kind in RecordKind::ALL {
            records.extend(records_of(query, &account.id, kind)?);
        }
        let mut after = None;
        loop {
            let page = query.threads(&account.id, after, 3)?;
            threads.extend(page.items);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    let (mut changes, mut dead_letters) = (Vec::new(), Vec::new());
    loop {
        let page = query.changes(changes.last().map_or(0, |change: &ChangeRow| change.n), 1_000)?;
        if page.is_empty() {
            break;
        }
        changes.extend(page);
    }
    loop {
        let page =
            query.dead_letters(dead_letters.last().map_or(0, |letter: &DeadLetterRow| letter.n), 1_000)?;
        if page.is_empty() {
            break;
        }
        dead_letters.extend(page);
    }
    Ok(Contents { totals, accounts, records, threads, changes, dead_letters })
}

/// An account's records of one kind, oldest first, in small pages.
pub(crate) fn records_of(
    query: &Query,
    account: &AccountId,
    kind: RecordKind,
) -> Result<Vec<RecordRow>, StoreError> {
    let mut rows = Vec::new();
    let mut after: Option<PageCursor> = None;
    loop {
        let (account, thread) = (account.clone(), None);
        let page =
            query.records(&RecordQuery { account, kind, thread, newest_first: false, after, limit: 7 })?;
        rows.extend(page.items);
        after = page.next;
        if after.is_none() {
            return Ok(rows);
        }
    }
}
