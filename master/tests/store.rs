//! The store by itself: what is written, what is not, how it is read, and which files it refuses.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/batches.rs"]
#[allow(dead_code, reason = "shared by several tests, each of which needs a part")]
mod batches;

use std::time::Duration;

use batches::{STREAM, batch, contents, delivery, garbage, open, records_of};
use redb::{Database, TableDefinition};
use snapfleet_master::store::{
    DataStore, DeliveryOutcome, Operation, Query, RecordQuery, StoreError, StoreOptions, ThreadKind,
};
use snapfleet_protocol::{RecordKind, Snapshot, SnapshotKind, UnixMs};
use snapfleet_testkit::sample::{
    BASE, account, comment, content, conversation, direct_message, id, snapshot,
};
use tempfile::TempDir;

fn dir() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn with_messages(seq: u64, messages: impl IntoIterator<Item = (u64, u64, &'static str)>) -> Snapshot {
    let mut snapshot = snapshot(&account("demo.a"), 1, seq);
    for (conversation, number, text) in messages {
        snapshot.direct_messages.push(direct_message(conversation, number, text));
    }
    snapshot
}

#[tokio::test]
async fn what_is_applied_is_read_back_after_reopening() {
    let dir = dir();
    let store = open(dir.path());
    let mut first = snapshot(&account("demo.a"), 1, 1);
    first.contents.push(content(1));
    first.comments.push(comment(1, 1, "nice"));
    first.conversations.push(conversation(1));
    first.direct_messages.push(direct_message(1, 1, "hello"));
    let applied = store.apply(batch(0, vec![delivery(1, &first)])).await.unwrap();
    let DeliveryOutcome::Applied(outcome) = &applied.deliveries[0].outcome else { panic!("{applied:?}") };
    assert_eq!((outcome.added, outcome.updated, outcome.unchanged), (4, 0, 0));
    assert_eq!((applied.changes_before, applied.changes_after), (0, 4));
    let before = store.read(contents).await.unwrap();
    store.close().await;

    let at_rest = Query::open_at_rest(&dir.path().join("master.redb")).unwrap();
    assert_eq!(contents(&at_rest).unwrap(), before);
    assert_eq!(before.records.len(), 4);
    let row = at_rest.record(&account("demo.a"), RecordKind::Comment, &id("c1")).unwrap().unwrap();
    assert_eq!(row.record, snapfleet_protocol::Record::Comment(comment(1, 1, "nice")));
    assert_eq!((row.first_seen, row.updated), (UnixMs(BASE.0 + 1), UnixMs(BASE.0 + 1)));
    assert_eq!(at_rest.record(&account("demo.b"), RecordKind::Comment, &id("c1")).unwrap(), None);
}

#[tokio::test]
async fn an_unchanged_snapshot_writes_no_change() {
    let dir = dir();
    let store = open(dir.path());
    store.apply(batch(0, vec![delivery(1, &with_messages(1, [(1, 1, "hello")]))])).await.unwrap();
    // The same record again, and again with less known of it.
    let mut partial = with_messages(3, [(1, 1, "hello")]);
    partial.direct_messages[0].text = None;
    partial.direct_messages[0].sent_at = None;
    let again = vec![delivery(2, &with_messages(2, [(1, 1, "hello")])), delivery(3, &partial)];
    let applied = store.apply(batch(1, again)).await.unwrap();
    assert_eq!((applied.changes_before, applied.changes_after), (1, 1));
    let after = store.read(contents).await.unwrap();
    assert_eq!((after.totals.unchanged, after.totals.changes, after.changes.len()), (2, 1, 1));
    assert_eq!(after.records[0].updated, UnixMs(BASE.0 + 1));
    assert_eq!(after.totals.position.unwrap().seq, 3);
}

#[tokio::test]
async fn a_changed_record_is_merged_moved_and_logged_with_its_fields() {
    let dir = dir();
    let store = open(dir.path());
    let mut recalled = with_messages(2, [(1, 1, "hello")]);
    recalled.direct_messages[0].recalled = true;
    recalled.direct_messages[0].sent_at = Some(UnixMs(BASE.0 + 500));
    // Later news without the flag do not take the recall back; another conversation moves the message.
    let moved = with_messages(3, [(2, 1, "hello")]);
    let deliveries = vec![
        delivery(1, &with_messages(1, [(1, 1, "hello"), (1, 2, "second")])),
        delivery(2, &recalled),
        delivery(3, &moved),
    ];
    store.apply(batch(0, deliveries)).await.unwrap();
    let after = store.read(contents).await.unwrap();
    let changes: Vec<_> =
        after.changes.iter().map(|change| (change.n, change.operation, change.changed.join(" "))).collect();
    assert_eq!(
        changes,
        [
            (1, Operation::Added, String::new()),
            (2, Operation::Added, String::new()),
            (3, Operation::Updated, "sent_at recalled".to_owned()),
            (4, Operation::Updated, "conversation_id sent_at".to_owned()),
        ]
    );
    assert_eq!(after.records.len(), 2);
    let Some(snapfleet_protocol::Record::DirectMessage(message)) = &after.changes[3].record else { panic!() };
    assert!(message.recalled);
    // Neither conversation is known as such; both threads show all the same, and what was recalled does not.
    let threads: Vec<_> = after
        .threads
        .iter()
        .map(|thread| (thread.id.as_str(), thread.kind, thread.count, thread.last_text.as_deref()))
        .collect();
    assert_eq!(
        threads,
        [("v1", ThreadKind::Conversation, 1, Some("second")), ("v2", ThreadKind::Conversation, 1, None)]
    );
    assert!(after.accounts[0].records.get(RecordKind::Conversation) == 0);
}

#[tokio::test]
async fn a_thread_takes_its_title_from_its_parent_and_its_place_from_the_newest() {
    let dir = dir();
    let store = open(dir.path());
    let mut first = with_messages(1, [(1, 10, "old"), (2, 20, "new")]);
    first.comments.push(comment(5, 30, "below an unknown work"));
    store.apply(batch(0, vec![delivery(1, &first)])).await.unwrap();
    let mut second = snapshot(&account("demo.a"), 1, 2);
    second.contents.push(content(5));
    let mut listed = conversation(1);
    listed.last_message_at = Some(UnixMs(BASE.0 + 99));
    listed.last_message_text = Some("listed only".to_owned());
    second.conversations.push(listed);
    store.apply(batch(1, vec![delivery(2, &second)])).await.unwrap();
    let threads = store.read(contents).await.unwrap().threads;
    let shown: Vec<_> = threads
        .iter()
        .map(|thread| {
            (thread.id.as_str(), thread.title.as_deref(), thread.last_text.as_deref(), thread.count)
        })
        .collect();
    assert_eq!(
        shown,
        [
            ("v1", Some("counterpart 1"), Some("listed only"), 1),
            ("w5", Some("work 5"), Some("below an unknown work"), 1),
            ("v2", None, Some("new"), 1),
        ]
    );
}

#[tokio::test]
async fn pages_go_through_a_thread_in_both_directions_without_loss() {
    let dir = dir();
    let store = open(dir.path());
    let mut snapshot = with_messages(1, (1..=10).map(|number| (1, number, "text")));
    snapshot.direct_messages.push(direct_message(11, 5, "of a conversation whose id begins like the other"));
    snapshot.direct_messages[3].sent_at = None;
    store.apply(batch(0, vec![delivery(1, &snapshot)])).await.unwrap();
    let read = move |query: &Query| {
        let mut both = Vec::new();
        for newest_first in [false, true] {
            let (mut ids, mut after) = (Vec::new(), None);
            loop {
                let page = query.records(&RecordQuery {
                    account: account("demo.a"),
                    kind: RecordKind::DirectMessage,
                    thread: Some(id("v1")),
                    newest_first,
                    after: after.map(|cursor: String| cursor.parse().unwrap()),
                    limit: 4,
                })?;
                ids.extend(page.items.iter().map(|row| row.record.id().to_string()));
                after = page.next.map(|cursor| cursor.to_string());
                if after.is_none() {
                    break;
                }
            }
            both.push(ids);
        }
        Ok(both)
    };
    let mut both = store.read(read).await.unwrap();
    // The fifth went to the other conversation with the last message; the fourth has no time.
    assert_eq!(both[0], ["m4", "m1", "m2", "m3", "m6", "m7", "m8", "m9", "m10"]);
    both[1].reverse();
    assert_eq!(both[0], both[1]);
    let foreign = store
        .read(|query| {
            let page = query.threads(&account("demo.a"), None, 1)?;
            query.records(&RecordQuery {
                account: account("demo.a"),
                kind: RecordKind::DirectMessage,
                thread: None,
                newest_first: false,
                after: page.next,
                limit: 4,
            })
        })
        .await;
    assert!(matches!(foreign, Err(StoreError::BadCursor(_))), "{foreign:?}");
}

#[tokio::test]
async fn what_cannot_be_applied_is_a_dead_letter_and_holds_up_nothing() {
    let dir = dir();
    let store = open(dir.path());
    let of = |epoch, seq| {
        let mut snapshot = with_messages(seq, [(1, epoch * 100 + seq, "text")]);
        snapshot.epoch = epoch;
        snapshot
    };
    let mut claim = snapshot(&account("demo.a"), 7, 1);
    claim.kind = SnapshotKind::Claim;
    let mut astray = delivery(5, &of(7, 3));
    astray.subject = "snapshot.demo.b".to_owned();
    let deliveries = vec![
        delivery(1, &of(3, 5)),
        delivery(2, &claim),
        delivery(3, &of(3, 6)),
        garbage(4, "snapshot.demo.a"),
        astray,
        delivery(6, &of(7, 2)),
        delivery(7, &of(7, 2)),
        delivery(8, &of(7, 4)),
    ];
    let payload = deliveries[2].payload.to_vec();
    let applied = store.apply(batch(0, deliveries)).await.unwrap();
    let rejected: Vec<_> = applied
        .deliveries
        .iter()
        .filter_map(|delivery| match &delivery.outcome {
            DeliveryOutcome::Rejected { fenced, .. } => Some((delivery.seq, *fenced)),
            DeliveryOutcome::Applied(_) | DeliveryOutcome::Discarded { .. } => None,
        })
        .collect();
    assert_eq!(rejected, [(3, true), (4, false), (5, false), (7, false)]);
    let after = store.read(contents).await.unwrap();
    let totals = &after.totals;
    assert_eq!((totals.received, totals.applied, totals.rejected, totals.fenced), (8, 4, 3, 1));
    assert_eq!((totals.dead_letters, totals.accounts), (4, 1));
    let ids: Vec<_> = after.records.iter().map(|row| row.record.id().as_str()).collect();
    assert_eq!(ids, ["m305", "m702", "m704"]);
    assert_eq!((after.accounts[0].epoch, after.accounts[0].seq), (7, 4));
    let letter = &after.dead_letters[0];
    assert_eq!((letter.stream.incarnation, letter.stream.seq, &letter.bytes), (STREAM, 3, &payload));
    assert!(letter.error.contains("epoch 3") && letter.headers.contains("sample.3.6"), "{letter:?}");
    assert!(after.dead_letters[2].error.contains("another subject"));
}

#[tokio::test]
async fn the_change_log_is_trimmed_in_small_steps_and_says_what_it_holds() {
    let dir = dir();
    let options =
        StoreOptions { changes_max: 10, changes_age_max: Duration::from_secs(60), ..Default::default() };
    let store = DataStore::open(&dir.path().join("master.redb"), options).unwrap();
    let many = with_messages(1, (1..=400).map(|number| (1, number, "text")));
    let mut late = batch(1, vec![delivery(2, &with_messages(2, [(1, 1, "edited")]))]);
    late.committed_at = UnixMs(BASE.0 + 30_000);
    store.apply(batch(0, vec![delivery(1, &many)])).await.unwrap();
    store.apply(late).await.unwrap();
    let bounds = store.read(|query| query.change_bounds()).await.unwrap();
    assert_eq!((bounds.oldest, bounds.newest), (392, 401));
    // A minute later only the edit is young enough; and later still nothing is.
    for (seq, at, oldest) in [(3, 61_000, 401), (4, 91_000, 402)] {
        let mut quiet = batch(seq - 1, vec![delivery(seq, &with_messages(seq, []))]);
        quiet.committed_at = UnixMs(BASE.0 + at);
        store.apply(quiet).await.unwrap();
        let bounds = store.read(|query| query.change_bounds()).await.unwrap();
        assert_eq!((bounds.oldest, bounds.newest), (oldest, 401));
    }
    let mut over = batch(4, vec![delivery(5, &with_messages(5, [(1, 1, "edited again")]))]);
    over.committed_at = UnixMs(BASE.0 + 91_000);
    assert_eq!(store.apply(over).await.unwrap().changes_after, 402);
    let changes = store.read(|query| query.changes(401, 10)).await.unwrap();
    assert_eq!((changes.len(), changes[0].n), (1, 402));
}

#[tokio::test]
async fn each_commit_is_announced_and_a_closed_store_says_so() {
    let dir = dir();
    let store = open(dir.path());
    let mut commits = store.commits();
    assert_eq!(*commits.borrow_and_update(), 0);
    store.apply(batch(0, vec![delivery(1, &with_messages(1, [(1, 1, "a"), (1, 2, "b")]))])).await.unwrap();
    assert!(commits.has_changed().unwrap());
    assert_eq!(*commits.borrow_and_update(), 2);
    store.apply(batch(1, vec![delivery(2, &with_messages(2, []))])).await.unwrap();
    assert!(commits.has_changed().unwrap());
    commits.mark_unchanged();
    let other = store.clone();
    store.close().await;
    assert!(commits.changed().await.is_err());
    let refused = other.apply(batch(2, vec![delivery(3, &with_messages(3, []))])).await;
    assert!(matches!(refused, Err(StoreError::Closed)), "{refused:?}");
    assert!(matches!(other.read(|query| query.totals()).await, Err(StoreError::Closed)));
    // The file is free although `other` lives.
    open(dir.path()).close().await;
}

#[tokio::test]
async fn batches_that_contradict_themselves_change_nothing() {
    let dir = dir();
    let store = open(dir.path());
    let one = || delivery(1, &with_messages(1, [(1, 1, "a")]));
    let two = || delivery(2, &with_messages(2, [(1, 2, "b")]));
    let mut beyond = batch(0, vec![one()]);
    beyond.through = 2;
    let mut nowhere = batch(0, vec![one()]);
    nowhere.incarnation = 0;
    for bad in [batch(0, vec![two(), one()]), batch(0, vec![one(), one()]), batch(0, vec![]), beyond, nowhere]
    {
        let refused = store.apply(bad).await;
        assert!(matches!(refused, Err(StoreError::BadBatch(_))), "{refused:?}");
    }
    let refused = store.apply(batch(1, vec![two()])).await;
    assert!(matches!(refused, Err(StoreError::UnknownIncarnation { found: 1, .. })), "{refused:?}");
    assert_eq!(store.read(|query| query.totals()).await.unwrap().received, 0);
    assert!(store.apply(batch(0, vec![one(), two()])).await.is_ok());
    assert_eq!(store.failure(), None);
}

#[tokio::test]
async fn files_that_are_not_ours_are_refused_by_name_and_left_alone() {
    let dir = dir();
    let text = dir.path().join("notes.txt");
    std::fs::write(&text, "not a database, but longer than its magic bytes").unwrap();
    let foreign = dir.path().join("foreign.redb");
    let database = Database::create(&foreign).unwrap();
    let txn = database.begin_write().unwrap();
    txn.open_table(TableDefinition::<u64, u64>::new("theirs")).unwrap().insert(1, 2).unwrap();
    txn.commit().unwrap();
    database.close().unwrap();
    let newer = dir.path().join("newer.redb");
    DataStore::open(&newer, StoreOptions::default()).unwrap().close().await;
    let database = Database::open(&newer).unwrap();
    let txn = database.begin_write().unwrap();
    txn.open_table(TableDefinition::<&str, &str>::new("meta-1")).unwrap().insert("format", "99").unwrap();
    txn.commit().unwrap();
    database.close().unwrap();
    let open = |path: &std::path::Path| match DataStore::open(path, StoreOptions::default()) {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(error) => {
            assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
            error
        }
    };
    let at_rest = |path: &std::path::Path| Query::open_at_rest(path).err().expect("it is not to be opened");
    let before: Vec<_> = [&text, &foreign].map(|path| std::fs::read(path).unwrap()).into();
    assert!(matches!(open(&text), StoreError::NotADatabase { .. }));
    assert!(matches!(open(&foreign), StoreError::Foreign { .. }));
    assert!(matches!(open(&newer), StoreError::NewerFormat { found: 99, .. }));
    assert!(matches!(open(dir.path()), StoreError::Open { .. }));
    assert!(matches!(at_rest(&text), StoreError::NotADatabase { .. }));
    assert!(matches!(at_rest(&foreign), StoreError::Foreign { .. }));
    assert!(matches!(at_rest(&dir.path().join("none.redb")), StoreError::Missing { .. }));
    let after: Vec<_> = [&text, &foreign].map(|path| std::fs::read(path).unwrap()).into();
    assert!(before == after, "a refused file was written to");
}

#[tokio::test]
async fn a_store_in_use_is_refused_and_a_killed_creation_is_made_again() {
    let dir = dir();
    let path = dir.path().join("master.redb");
    std::fs::write(dir.path().join("master.redb.new"), "half").unwrap();
    let store = open(dir.path());
    let second = DataStore::open(&path, StoreOptions::default()).err().expect("it is in use");
    assert!(matches!(second, StoreError::Locked { .. }), "{second}");
    let reader = Query::open_at_rest(&path).err().expect("it is in use");
    assert!(matches!(reader, StoreError::Locked { .. }), "{reader}");
    let feed = store.read(|query| query.totals()).await.unwrap().feed;
    store.close().await;
    let again = open(dir.path());
    assert_eq!(again.read(|query| query.totals()).await.unwrap().feed, feed);
    assert!(
        again
            .read(|query| records_of(query, &account("demo.a"), RecordKind::Comment))
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn a_writer_that_failed_says_so_to_every_later_batch_and_reading_goes_on() {
    let dir = dir();
    let store = open(dir.path());
    store.apply(batch(0, vec![delivery(1, &with_messages(1, [(1, 1, "a")]))])).await.unwrap();
    store.close().await;
    let database = Database::open(dir.path().join("master.redb")).unwrap();
    let txn = database.begin_write().unwrap();
    txn.open_table(TableDefinition::<u32, &[u8]>::new("accounts-1")).unwrap().insert(1, &b"x"[..]).unwrap();
    txn.commit().unwrap();
    database.close().unwrap();
    let store = open(dir.path());
    for seq in [2, 2] {
        let failed = store.apply(batch(1, vec![delivery(seq, &with_messages(seq, [(1, 2, "b")]))])).await;
        let Err(StoreError::WriterFailed(reason)) = failed else { panic!("{failed:?}") };
        assert!(reason.contains("accounts-1"), "{reason}");
        assert_eq!(store.failure(), Some(reason));
    }
    assert_eq!(store.read(|query| query.totals()).await.unwrap().received, 1);
}
