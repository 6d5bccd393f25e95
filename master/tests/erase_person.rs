//! Erased persons in the store alone: what they wrote goes wherever it is, stays away whatever is replayed, and newer
//! things of theirs are taken in.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/batches.rs"]
#[allow(dead_code, reason = "shared by several tests, each of which needs a part")]
mod batches;
#[path = "support/rawscan.rs"]
mod rawscan;

use std::time::Duration;

use batches::{Contents, STREAM, batch, contents, delivery, garbage};
use snapfleet_master::store::{
    Batch, DataStore, Delivery, DeliveryOutcome, Edit, Operation, Position, StoreOptions,
};
use snapfleet_protocol::{
    AccountId, Comment, Conversation, DirectMessage, Direction, Erasure, Notification, PersonHash, Record,
    RecordKind, Snapshot, UnixMs,
};
use snapfleet_testkit::eventually;
use snapfleet_testkit::sample::{self, BASE, account, content, id};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(20);

fn a() -> AccountId {
    account("demo.a")
}

fn time(after: i64) -> Option<UnixMs> {
    Some(UnixMs(BASE.0 + after))
}

/// Everything of Ann's up to 100 ms after the samples begin.
fn ann() -> Erasure {
    Erasure { person: PersonHash::of(&a(), &id("ann-person")), at: UnixMs(BASE.0 + 100) }
}

fn snapshot(seq: u64, records: impl IntoIterator<Item = Record>) -> Snapshot {
    let mut made = sample::snapshot(&a(), 2, seq);
    records.into_iter().for_each(|record| made.push(record));
    made
}

fn comment(name: &str, author: &str, text: &str, at: i64) -> Record {
    let new = Comment::new(id(name), id("w1"), Direction::Inbound);
    Record::Comment(Comment {
        author_id: Some(id(author)),
        author_name: Some(format!("{author} by name")),
        text: Some(text.to_owned()),
        created_at: time(at),
        ..new
    })
}

fn message(name: &str, conversation: &str, sender: &str, text: &str, at: i64) -> Record {
    let direction = if sender == "owner" { Direction::Outbound } else { Direction::Inbound };
    Record::DirectMessage(DirectMessage {
        sender_id: Some(id(sender)),
        text: Some(text.to_owned()),
        raw: Some(format!("{{\"card\":\"{text}\"}}")),
        sent_at: time(at),
        ..DirectMessage::new(id(name), id(conversation), direction)
    })
}

fn talk(name: &str, counterpart: &str, text: &str, at: i64) -> Record {
    Record::Conversation(Conversation {
        counterpart_id: Some(id(counterpart)),
        name: Some(format!("{counterpart} by name")),
        last_message_text: Some(text.to_owned()),
        last_message_at: time(at),
        ..Conversation::new(id(name))
    })
}

fn notice(name: &str, actor: &str, text: &str, at: i64) -> Record {
    let text = Some(text.to_owned());
    let (actor_id, created_at) = (Some(id(actor)), time(at));
    Record::Notification(Notification { actor_id, text, created_at, ..Notification::new(id(name)) })
}

/// What everybody said: Ann "ANNTEXT", Bob "bobtext".
fn said() -> Vec<Record> {
    vec![
        Record::Content(content(1)),
        comment("c1", "bob-person", "bobtext", 10),
        comment("c2", "ann-person", "ANNTEXT", 20),
        talk("v-ann", "ann-person", "ANNTEXT", 30),
        talk("v-bob", "bob-person", "bobtext", 30),
        message("m1", "v-ann", "ann-person", "ANNTEXT", 25),
        message("m2", "v-ann", "owner", "answer to ANNTEXT", 30),
        message("m3", "v-bob", "bob-person", "bobtext", 30),
        notice("n1", "ann-person", "ANNTEXT", 40),
        notice("n2", "bob-person", "bobtext", 40),
    ]
}

fn open(dir: &TempDir) -> DataStore {
    let options = StoreOptions { erase_step_rows: 2, ..StoreOptions::default() };
    DataStore::open(&dir.path().join("master.redb"), options).unwrap()
}

async fn erase(store: &DataStore) {
    store.edit(vec![Edit::Person(a(), ann())]).await.unwrap();
    settled(store).await;
}

async fn settled(store: &DataStore) {
    let done = async || store.read(|query| query.is_person_erased(&a(), ann())).await.unwrap().then_some(());
    eventually(SOON, "the person's rows are gone", done).await;
}

async fn read(store: &DataStore) -> Contents {
    store.read(contents).await.unwrap()
}

fn ids(found: &Contents) -> Vec<&str> {
    found.records.iter().map(|row| row.record.id().as_str()).collect()
}

/// How many records of a delivery were dropped.
async fn apply(store: &DataStore, batch: Batch) -> u64 {
    let applied = store.apply(batch).await.unwrap();
    let erased = applied.deliveries.iter().map(|delivery| match &delivery.outcome {
        DeliveryOutcome::Applied(snapshot) => snapshot.erased,
        other => panic!("{other:?}"),
    });
    erased.sum()
}

#[tokio::test]
async fn what_a_person_said_goes_wherever_it_is_and_the_rest_is_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let of = |seq, records| delivery(seq, &snapshot(seq, records));
    let mut unreadable = garbage(3, "snapshot.demo.a");
    unreadable.payload = "\u{ff}ANNTEXT".into();
    let mut fenced = snapshot(4, [comment("c9", "ann-person", "ANNTEXT", 5)]);
    fenced.epoch = 1;
    let mut fenced_bob = snapshot(5, [comment("c8", "bob-person", "bobtext", 5)]);
    fenced_bob.epoch = 1;
    // An edit, so that the log knows the comment twice; and another account with the same person.
    let edited = vec![comment("c2", "ann-person", "ANNTEXT edited", 20)];
    let mut other = sample::snapshot(&account("demo.b"), 1, 1);
    said().into_iter().for_each(|record| other.push(record));
    let stream = vec![
        of(1, said()),
        of(2, edited),
        unreadable,
        delivery(4, &fenced),
        delivery(5, &fenced_bob),
        garbage(6, "snapshot.demo.b"),
    ];
    store.apply(batch(0, stream)).await.unwrap();
    let before = read(&store).await;
    assert_eq!(before.records.len(), 10);
    erase(&store).await;
    let after = read(&store).await;
    assert_eq!(ids(&after), ["w1", "c1", "v-bob", "m3", "n2"]);
    let kept = before.records.iter().filter(|row| ids(&after).contains(&row.record.id().as_str()));
    assert!(kept.eq(&after.records), "others' records were touched");
    let counts = after.accounts[0].records;
    assert_eq!((counts.as_array(), counts), ([1, 1, 1, 1, 1], after.totals.records));
    let threads: Vec<_> = after.threads.iter().map(|row| (row.id.as_str(), row.count)).collect();
    assert_eq!(threads, [("v-bob", 1), ("w1", 1)]);
    assert_eq!(after.threads[1].last_text.as_deref(), Some("bobtext"));
    let letters: Vec<_> = after.dead_letters.iter().map(|letter| letter.stream.seq).collect();
    assert_eq!((letters, after.totals.dead_letters), (vec![5, 6], 2));
    // Nobody who reads the feed is sent away; the person is told of by hash, and so is the conversation.
    let bounds = store.read(|query| query.change_bounds()).await.unwrap();
    assert_eq!((bounds.oldest, bounds.newest), (1, before.totals.changes + 2));
    let told: Vec<_> = after.changes.iter().filter(|row| row.record.is_none()).collect();
    let person = |name| Operation::PersonErased(Erasure { person: PersonHash::of(&a(), &id(name)), ..ann() });
    assert_eq!(told.len(), 2);
    for operation in [person("ann-person"), person("v-ann")] {
        assert!(told.iter().any(|row| row.operation == operation && row.account == a()), "{told:?}");
    }
    assert_eq!(after.changes.len(), 5 + 2);
    let purges = store.read(|query| query.purges()).await.unwrap();
    assert_eq!(purges.len(), 1);
    assert_eq!((&purges[0].account, purges[0].upto), (&a(), Position { incarnation: STREAM, seq: 6 }));
    assert_eq!(purges[0].since, ann().at);
    store.close().await;
    let path = dir.path().join("master.redb");
    for gone in ["ann-person", "ANNTEXT", "v-ann", "m1", "m2", "c2"] {
        assert!(!rawscan::holds(&path, gone), "{gone} is in the file");
    }
    assert!(rawscan::holds(&path, "bob-person"));
    // Persons are of one account: the other one's Ann is as before.
    let store = open(&dir);
    assert_eq!(apply(&store, batch(6, vec![delivery(7, &other)])).await, 0);
    assert_eq!(read(&store).await.records.len(), 15);
}

#[tokio::test]
async fn replays_and_late_news_do_not_bring_a_person_back_and_newer_things_are_taken_in() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let of = |seq, records| delivery(seq, &snapshot(seq, records));
    store.apply(batch(0, vec![of(1, said())])).await.unwrap();
    erase(&store).await;
    let kept = read(&store).await.records;
    // The same again, and with more of the same that was never seen before.
    let late = vec![
        message("m10", "v-ann", "owner", "ANNTEXT late", 60),
        message("m11", "v-ann", "ann-person", "ANNTEXT late", 100),
        comment("c10", "ann-person", "ANNTEXT late", 100),
    ];
    assert_eq!(apply(&store, batch(1, vec![of(2, said())])).await, 5);
    assert_eq!(apply(&store, batch(2, vec![of(3, late)])).await, 3);
    // A record that went, told of without saying whose and when it is.
    let nameless = Comment {
        text: Some("ANNTEXT nameless".to_owned()),
        ..Comment::new(id("c2"), id("w1"), Direction::Inbound)
    };
    assert_eq!(apply(&store, batch(3, vec![of(4, vec![Record::Comment(nameless)])])).await, 1);
    settled(&store).await;
    assert_eq!(read(&store).await.records, kept);
    // What she writes after it is taken in, and an old message beside it is not.
    let newer = vec![
        talk("v-ann", "ann-person", "new", 101),
        message("m1", "v-ann", "ann-person", "ANNTEXT", 25),
        message("m12", "v-ann", "ann-person", "new", 101),
        comment("c12", "ann-person", "new", 101),
    ];
    assert_eq!(apply(&store, batch(4, vec![of(5, newer)])).await, 1);
    settled(&store).await;
    let found = read(&store).await;
    assert_eq!(ids(&found), ["w1", "c1", "c12", "v-bob", "v-ann", "m12", "m3", "n2"]);
    assert_eq!(found.totals.records, found.accounts[0].records);
    assert_eq!(found.totals.records.as_array(), [1, 2, 2, 2, 1]);
    assert_eq!(store.read(|query| query.purges()).await.unwrap()[0].upto.seq, 5);
    // What must not be applied anyway is set aside without what she said.
    let mut fenced = snapshot(6, [comment("c13", "ann-person", "ANNTEXT", 5)]);
    fenced.epoch = 1;
    store.apply(batch(5, vec![delivery(6, &fenced)])).await.unwrap();
    let letter = read(&store).await.dead_letters.pop().unwrap();
    assert!(letter.bytes.is_empty() && letter.error.contains("erased person"), "{letter:?}");
    store.close().await;
    assert!(!rawscan::holds(&dir.path().join("master.redb"), "ANNTEXT"));
}

#[tokio::test]
async fn a_record_whose_author_is_told_only_later_goes_with_its_changes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let of = |seq, records| delivery(seq, &snapshot(seq, records));
    erase(&store).await;
    let nameless =
        Comment { text: Some("ANNTEXT".to_owned()), ..Comment::new(id("c1"), id("w1"), Direction::Inbound) };
    let sent = message("m1", "v-ann", "owner", "ANNTEXT", 10);
    assert_eq!(apply(&store, batch(0, vec![of(1, vec![Record::Comment(nameless), sent])])).await, 0);
    assert_eq!(read(&store).await.records.len(), 2);
    let told = vec![talk("v-ann", "ann-person", "ANNTEXT", 10), comment("c1", "ann-person", "ANNTEXT", 20)];
    assert_eq!(apply(&store, batch(1, vec![of(2, told)])).await, 2);
    settled(&store).await;
    let found = read(&store).await;
    assert_eq!((found.records, found.threads), (vec![], vec![]));
    assert_eq!((found.totals.records.sum(), found.accounts[0].records.sum()), (0, 0));
    store.close().await;
    assert!(!rawscan::holds(&dir.path().join("master.redb"), "ANNTEXT"));
}

/// Whenever a store hears of an erasure, it ends with the same rows: a replica is like its master.
#[tokio::test]
async fn when_the_erasure_is_heard_of_makes_no_difference() {
    let of = |seq, records| delivery(seq, &snapshot(seq, records));
    let nameless = Comment { like_count: Some(5), ..Comment::new(id("c2"), id("w1"), Direction::Inbound) };
    let first = message("m0", "v-ann", "owner", "before anything is known", 1);
    let stream: Vec<Delivery> = vec![
        of(1, vec![first]),
        of(2, said()),
        of(3, vec![Record::Comment(nameless)]),
        of(4, vec![message("m4", "v-ann", "owner", "after", 200), comment("c4", "ann-person", "after", 200)]),
        of(5, said()),
    ];
    let mut ends = Vec::new();
    for heard_after in 0..=stream.len() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir);
        for (at, delivery) in stream.iter().enumerate() {
            if at == heard_after {
                store.edit(vec![Edit::Person(a(), ann())]).await.unwrap();
            }
            store.apply(batch(at as u64, vec![delivery.clone()])).await.unwrap();
        }
        erase(&store).await;
        let found = read(&store).await;
        assert_eq!(found.totals.records, found.accounts[0].records);
        for kind in RecordKind::ALL {
            let number = found.records.iter().filter(|row| row.record.kind() == kind).count();
            assert_eq!(found.totals.records.get(kind), number as u64, "{kind}");
        }
        let records: Vec<_> = found.records.into_iter().map(|row| row.record).collect();
        ends.push((records, found.threads));
        store.close().await;
    }
    assert!(ends.iter().any(|(records, _)| records.len() == 7), "{ends:?}");
    for (at, end) in ends.iter().enumerate() {
        assert_eq!(end, &ends[0], "heard of after {at}");
    }
}
