//! However the stream is cut into batches, and whatever comes twice, the store ends the same; and it ends as a
//! naive model says, which knows nothing of hashes, keys or transactions.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/batches.rs"]
#[allow(dead_code, reason = "shared by several tests, each of which needs a part")]
mod batches;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use batches::{Contents, STREAM, batch, contents, delivery, garbage, open};
use proptest::prelude::*;
use snapfleet_master::store::{Batch, DataStore, Delivery, Operation, Position, StoreError, ThreadKind};
use snapfleet_protocol::{
    AccountId, Comment, Content, Conversation, DirectMessage, Direction, Metrics, Record, RecordId,
    RecordKind, Snapshot, SnapshotKind, UnixMs,
};
use snapfleet_testkit::sample::{BASE, account, id, snapshot};

/// What happens on the stream.
#[derive(Debug, Clone)]
enum Event {
    Upserts {
        account: usize,
        records: Vec<Upsert>,
    },
    Claim {
        account: usize,
    },
    /// A publish of a former holder.
    Stale {
        account: usize,
        record: Upsert,
    },
    /// A publish that was stored before, stored again.
    Repeated {
        account: usize,
    },
    Astray {
        account: usize,
        record: Upsert,
    },
    Garbage {
        account: usize,
    },
}

/// A record of few possible ones, so that they meet again and change.
#[derive(Debug, Clone)]
struct Upsert {
    kind: u8,
    number: u8,
    thread: u8,
    text: Option<u8>,
    time: Option<u8>,
    gone: bool,
}

impl Upsert {
    /// One figure of two, or none.
    fn metrics(&self) -> Metrics {
        let mut metrics = Metrics::default();
        if let Some(figure) = self.time {
            metrics.insert(format!("figure {}", figure % 2), f64::from(figure) / 4.0).unwrap();
        }
        metrics
    }

    fn record(&self) -> Record {
        let text = self.text.map(|text| format!("text {text}"));
        let time = self.time.map(|time| UnixMs(BASE.0 + i64::from(time)));
        let key = id(&format!("r{}", self.number));
        let thread = id(&format!("r{}", self.thread));
        match self.kind {
            0 => Record::Content(Content {
                title: text,
                metrics: self.metrics(),
                published_at: time,
                deleted: self.gone,
                ..Content::new(key)
            }),
            1 => Record::Conversation(Conversation {
                name: text,
                last_message_at: time,
                ..Conversation::new(key)
            }),
            2 => Record::Comment(Comment {
                text,
                created_at: time,
                deleted: self.gone,
                ..Comment::new(key, thread, Direction::Inbound)
            }),
            _ => Record::DirectMessage(DirectMessage {
                raw: text.clone(),
                text,
                sent_at: time,
                recalled: self.gone,
                ..DirectMessage::new(key, thread, Direction::Outbound)
            }),
        }
    }
}

fn upsert() -> impl Strategy<Value = Upsert> {
    let text = proptest::option::of(0..3_u8);
    (0..4_u8, 0..4_u8, 0..3_u8, text, proptest::option::of(0..6_u8), proptest::bool::weighted(0.1)).prop_map(
        |(kind, number, thread, text, time, gone)| Upsert { kind, number, thread, text, time, gone },
    )
}

fn event() -> impl Strategy<Value = Event> {
    let account = 0..3_usize;
    prop_oneof![
        8 => (account.clone(), proptest::collection::vec(upsert(), 0..6))
            .prop_map(|(account, records)| Event::Upserts { account, records }),
        1 => account.clone().prop_map(|account| Event::Claim { account }),
        1 => (account.clone(), upsert()).prop_map(|(account, record)| Event::Stale { account, record }),
        1 => account.clone().prop_map(|account| Event::Repeated { account }),
        1 => (account.clone(), upsert()).prop_map(|(account, record)| Event::Astray { account, record }),
        1 => account.prop_map(|account| Event::Garbage { account }),
    ]
}

const ACCOUNTS: [&str; 3] = ["demo.a", "demo.b", "other.a"];

/// The events as deliveries. Sequences have gaps, as after a purge.
fn deliveries(events: &[Event]) -> Vec<Delivery> {
    let mut terms = [(1, 0); ACCOUNTS.len()];
    let mut last: [Option<Snapshot>; ACCOUNTS.len()] = [const { None }; ACCOUNTS.len()];
    let mut deliveries = Vec::new();
    for (at, event) in events.iter().enumerate() {
        let seq = 2 * at as u64 + 1;
        let mut next = |account_at: usize, kind| {
            let term: &mut (u64, u64) = &mut terms[account_at];
            *term = if kind == SnapshotKind::Claim { (term.0 + 2, 1) } else { (term.0, term.1 + 1) };
            Snapshot { kind, ..snapshot(&account(ACCOUNTS[account_at]), term.0, term.1) }
        };
        deliveries.push(match event {
            Event::Upserts { account, records } => {
                let mut made = next(*account, SnapshotKind::Delta);
                records.iter().for_each(|upsert| made.push(upsert.record()));
                last[*account] = Some(made.clone());
                delivery(seq, &made)
            }
            Event::Claim { account } => {
                let made = next(*account, SnapshotKind::Claim);
                last[*account] = Some(made.clone());
                delivery(seq, &made)
            }
            Event::Stale { account: at, record } => {
                let mut made = snapshot(&account(ACCOUNTS[*at]), 1, 1_000);
                made.epoch = terms[*at].0.saturating_sub(1).max(1);
                // With the first term still running it is only out of turn, which no holder is.
                made.seq = if made.epoch == terms[*at].0 { terms[*at].1.max(1) } else { made.seq };
                made.push(record.record());
                delivery(seq, &made)
            }
            Event::Repeated { account: at } => match &last[*at] {
                Some(made) => delivery(seq, made),
                None => garbage(seq, &format!("snapshot.{}", ACCOUNTS[*at])),
            },
            Event::Astray { account: at, record } => {
                let mut made = snapshot(&account(ACCOUNTS[*at]), 1_000, 1);
                made.push(record.record());
                Delivery { subject: "snapshot.demo.elsewhere".to_owned(), ..delivery(seq, &made) }
            }
            Event::Garbage { account } => garbage(seq, &format!("snapshot.{}", ACCOUNTS[*account])),
        });
    }
    deliveries
}

type Key = (AccountId, RecordKind, RecordId);
type Change = (Key, Operation, Vec<&'static str>, Record);

/// The naive model.
#[derive(Default)]
struct Model {
    terms: HashMap<AccountId, (u64, u64)>,
    records: BTreeMap<Key, Record>,
    changes: Vec<Change>,
    dead: Vec<u64>,
}

impl Model {
    fn take(&mut self, delivery: &Delivery) {
        let Ok(_) = &delivery.outcome else { return self.dead.push(delivery.seq) };
        let made = snapfleet_protocol::decode_snapshot(&delivery.payload).unwrap();
        let account = made.account_id();
        let term = self.terms.get(&account).copied().unwrap_or_default();
        if delivery.subject != format!("snapshot.{account}") || (made.epoch, made.seq) <= term {
            return self.dead.push(delivery.seq);
        }
        self.terms.insert(account.clone(), (made.epoch, made.seq));
        for record in made.into_records() {
            let key = (account.clone(), record.kind(), record.id().clone());
            let Some(old) = self.records.get(&key) else {
                self.changes.push((key.clone(), Operation::Added, Vec::new(), record.clone()));
                self.records.insert(key, record);
                continue;
            };
            let mut new = old.clone();
            new.merge(record);
            if new != *old {
                self.changes.push((key.clone(), Operation::Updated, new.changed_fields(old), new.clone()));
                self.records.insert(key, new);
            }
        }
    }

    fn compare(&self, store: &Contents) {
        assert_eq!(store.records.len(), self.records.len());
        for row in &store.records {
            let key = (row.account.clone(), row.record.kind(), row.record.id().clone());
            assert_eq!(Some(&row.record), self.records.get(&key), "{key:?}");
        }
        let changes: Vec<_> = store
            .changes
            .iter()
            .map(|row| {
                let record = row.record.clone().unwrap();
                let key = (row.account.clone(), record.kind(), record.id().clone());
                (key, row.operation, row.changed.iter().map(String::as_str).collect::<Vec<_>>(), record)
            })
            .collect();
        assert_eq!(changes, self.changes);
        assert!(store.changes.iter().map(|row| row.n).eq(1..=self.changes.len() as u64));
        assert_eq!(store.dead_letters.iter().map(|row| row.stream.seq).collect::<Vec<_>>(), self.dead);
        assert_eq!(store.totals.dead_letters, self.dead.len() as u64);
        assert_eq!(store.totals.accounts, self.terms.len() as u64);
        for row in &store.accounts {
            assert_eq!(Some(&(row.epoch, row.seq)), self.terms.get(&row.id));
            for kind in RecordKind::ALL {
                let number = self.records.keys().filter(|key| key.0 == row.id && key.1 == kind).count();
                assert_eq!(row.records.get(kind), number as u64, "{} {kind}", row.id);
            }
        }
        self.compare_threads(store);
    }

    fn compare_threads(&self, store: &Contents) {
        let mut expected = BTreeSet::new();
        for (key, record) in &self.records {
            if let Some(kind) = ThreadKind::of(key.1) {
                expected.insert((key.0.clone(), kind, record.thread_id().unwrap_or(&key.2).clone()));
            }
        }
        let found: BTreeSet<_> =
            store.threads.iter().map(|row| (row.account.clone(), row.kind, row.id.clone())).collect();
        assert_eq!(found, expected);
        assert_eq!(found.len(), store.threads.len());
        for row in &store.threads {
            let members = self.records.iter().filter(|(key, record)| {
                key.0 == row.account && key.1 == row.kind.member() && record.thread_id() == Some(&row.id)
            });
            let newest = members.clone().max_by_key(|(key, record)| (record.time(), key.2.clone()));
            assert_eq!(row.count, members.count() as u64, "{row:?}");
            let parent = self.records.get(&(row.account.clone(), row.kind.parent(), row.id.clone()));
            let newest_at = newest.and_then(|(_, record)| record.time());
            let own_at = parent.and_then(Record::time);
            let last_at = match row.kind {
                ThreadKind::Content => newest_at.or(own_at),
                ThreadKind::Conversation => newest_at.max(own_at),
            };
            assert_eq!(row.last_at, last_at, "{row:?}");
        }
        for pair in store.threads.windows(2).filter(|pair| pair[0].account == pair[1].account) {
            assert!(pair[0].last_at >= pair[1].last_at, "{pair:?}");
        }
    }
}

/// What a run does between two batches.
#[derive(Debug, Clone, Copy)]
enum Between {
    Nothing,
    Reopen,
    Duplicate,
    Skip,
}

fn between() -> impl Strategy<Value = Between> {
    prop_oneof![
        3 => Just(Between::Nothing),
        1 => Just(Between::Reopen),
        2 => Just(Between::Duplicate),
        1 => Just(Between::Skip),
    ]
}

async fn apply_in_pieces(all: &[Delivery], pieces: &[(usize, Between)]) -> Contents {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let (mut after, mut rest) = (0, all);
    let mut pieces = pieces.iter().cycle();
    while !rest.is_empty() {
        let (len, between) = *pieces.next().unwrap();
        let (piece, remainder) = rest.split_at(len.min(rest.len()));
        let made = batch(after, piece.to_vec());
        store.apply(made.clone()).await.unwrap();
        (after, rest) = (made.through, remainder);
        match between {
            Between::Nothing => {}
            Between::Reopen => {
                store.close().await;
                store = open(dir.path());
            }
            Between::Duplicate => refused(&store, made).await,
            Between::Skip if !rest.is_empty() => refused(&store, batch(after + 1, rest.to_vec())).await,
            Between::Skip => {}
        }
    }
    let found = store.read(contents).await.unwrap();
    store.close().await;
    found
}

async fn refused(store: &DataStore, batch: Batch) {
    let before = store.read(contents).await.unwrap();
    let refused = store.apply(batch).await;
    assert!(matches!(refused, Err(StoreError::OutOfOrder { .. })), "{refused:?}");
    assert_eq!(store.read(contents).await.unwrap(), before);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_cutting_duplication_and_reopening_ends_as_one_clean_pass(
        events in proptest::collection::vec(event(), 1..40),
        pieces in proptest::collection::vec((1..9_usize, between()), 1..6),
    ) {
        let all = deliveries(&events);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let clean = runtime.block_on(apply_in_pieces(&all, &[(usize::MAX, Between::Nothing)]));
        let cut = runtime.block_on(apply_in_pieces(&all, &pieces));
        prop_assert_eq!(&clean, &cut);
        let mut model = Model::default();
        all.iter().for_each(|delivery| model.take(delivery));
        model.compare(&clean);
    }
}

#[tokio::test]
async fn a_recreated_stream_goes_on_from_its_beginning_and_terms_start_anew() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let with = |epoch, seq, number| {
        let mut made = snapshot(&account("demo.a"), epoch, seq);
        made.direct_messages.push(snapfleet_testkit::sample::direct_message(1, number, "text"));
        made
    };
    store.apply(batch(0, vec![delivery(1, &with(9, 1, 1)), delivery(2, &with(9, 2, 2))])).await.unwrap();
    let other = |batch: Batch| Batch { incarnation: STREAM + 1, ..batch };
    let early = store.apply(other(batch(2, vec![delivery(3, &with(9, 3, 3))]))).await;
    assert!(matches!(early, Err(StoreError::UnknownIncarnation { .. })), "{early:?}");
    let again = vec![delivery(1, &with(1, 1, 2)), delivery(2, &with(1, 2, 3)), delivery(3, &with(1, 2, 4))];
    store.apply(other(batch(0, again.clone()))).await.unwrap();
    let twice = store.apply(other(batch(0, again))).await;
    assert!(matches!(twice, Err(StoreError::OutOfOrder { expected: 3, found: 0 })), "{twice:?}");
    let found = store.read(contents).await.unwrap();
    assert_eq!(found.totals.position, Some(Position { incarnation: STREAM + 1, seq: 3 }));
    // What both streams tell is one record and one change; what was out of sequence is a dead letter.
    let ids: Vec<_> =
        found.changes.iter().map(|change| change.record.as_ref().unwrap().id().as_str()).collect();
    assert_eq!(ids, ["m1", "m2", "m3"]);
    assert_eq!((found.accounts[0].epoch, found.accounts[0].seq), (1, 2));
    assert_eq!((found.totals.rejected, found.totals.fenced), (1, 0));
    store.close().await;
}
