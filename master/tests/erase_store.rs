//! Accounts that end and persons that are erased, in the store alone: nothing stays, nothing comes back, and the rest is
//! as it was.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/batches.rs"]
#[allow(dead_code, reason = "shared by several tests, each of which needs a part")]
mod batches;
#[path = "support/rawscan.rs"]
mod rawscan;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use batches::{Contents, STREAM, batch, contents, delivery, garbage, open};
use redb::{Database, ReadableDatabase, TableDefinition};
use snapfleet_master::store::{
    Batch, DataStore, Delivery, DeliveryOutcome, Edit, ErasedMark, Operation, Position, PurgeRow, Query,
    Standing, StoreOptions,
};
use snapfleet_protocol::{AccountId, RecordKind, Snapshot, UnixMs};
use snapfleet_testkit::eventually;
use snapfleet_testkit::sample::{BASE, account, comment, content, conversation, direct_message, snapshot};

const SOON: Duration = Duration::from_secs(20);
const ERASED: Standing = Standing::Erased { at: BASE };

fn file(dir: &Path) -> PathBuf {
    dir.join("master.redb")
}

/// Opens the store so that erasing takes many transactions.
fn open_in_small_steps(dir: &Path, erase_step_rows: usize) -> DataStore {
    let options = StoreOptions { erase_step_rows, ..StoreOptions::default() };
    DataStore::open(&file(dir), options).unwrap()
}

/// A work, two comments, a conversation and two messages, all with `text`.
fn filled(name: &str, seq: u64, text: &str) -> Snapshot {
    let mut made = snapshot(&account(name), 1, seq);
    made.contents.push(content(seq));
    made.comments.extend([comment(seq, 10 * seq, text), comment(seq, 10 * seq + 1, text)]);
    made.conversations.push(conversation(seq));
    made.direct_messages
        .extend([direct_message(seq, 10 * seq, text), direct_message(seq, 10 * seq + 1, text)]);
    made
}

async fn set(store: &DataStore, id: &AccountId, standing: Standing) {
    store.edit(vec![Edit::Standing(id.clone(), standing)]).await.unwrap();
}

async fn is_erased(store: &DataStore, id: &AccountId) -> bool {
    let id = id.clone();
    store.read(move |query| query.is_erased(&id, BASE)).await.unwrap()
}

async fn until_erased(store: &DataStore, id: &AccountId) {
    eventually(SOON, "the account's rows are gone", async || is_erased(store, id).await.then_some(())).await;
}

fn at_seq(seq: u64) -> Position {
    Position { incarnation: STREAM, seq }
}

/// The same stream again, as another incarnation of it.
fn again(deliveries: Vec<Delivery>) -> Batch {
    Batch { incarnation: STREAM + 1, ..batch(0, deliveries) }
}

/// What is kept of one account.
fn of(found: &Contents, id: &AccountId) -> (usize, usize, usize) {
    (
        found.records.iter().filter(|row| row.account == *id).count(),
        found.threads.iter().filter(|row| row.account == *id).count(),
        found.changes.iter().filter(|row| row.account == *id && row.record.is_some()).count(),
    )
}

#[tokio::test]
async fn nothing_of_an_erased_account_stays_or_is_brought_back_by_a_replay() {
    let (dir, a, b) = (tempfile::tempdir().unwrap(), account("demo.a"), account("demo.b"));
    let store = open_in_small_steps(dir.path(), 3);
    let mut astray = delivery(5, &filled("demo.a", 4, "secret"));
    astray.subject = "snapshot.demo.elsewhere".to_owned();
    let stream = vec![
        delivery(1, &filled("demo.a", 1, "secret")),
        delivery(2, &filled("demo.b", 1, "public")),
        delivery(3, &filled("demo.a", 2, "secret")),
        garbage(4, "snapshot.demo.a"),
        astray,
        garbage(6, "snapshot.demo.b"),
    ];
    store.apply(batch(0, stream.clone())).await.unwrap();
    let before = store.read(contents).await.unwrap();
    assert_eq!((of(&before, &a).0, before.dead_letters.len()), (12, 3));
    set(&store, &a, ERASED).await;
    // At once, before the last row is gone, nothing of it is found any more.
    let meanwhile = store.read(contents).await.unwrap();
    assert_eq!(meanwhile.accounts.len(), 1);
    assert!(
        meanwhile.changes.iter().all(|row| row.account == b || row.operation == Operation::AccountErased)
    );
    until_erased(&store, &a).await;
    let after = store.read(contents).await.unwrap();
    assert_eq!(of(&after, &a), (0, 0, 0));
    assert_eq!(of(&after, &b), of(&before, &b));
    assert_eq!((after.totals.accounts, after.totals.records), (1, after.accounts[0].records));
    assert_eq!(after.totals.records.sum(), 6);
    assert_eq!((after.dead_letters.len(), after.totals.dead_letters), (1, 1));
    assert_eq!(after.dead_letters[0].subject, "snapshot.demo.b");
    // The feed goes on from any cursor, and says what happened.
    let bounds = store.read(|query| query.change_bounds()).await.unwrap();
    assert_eq!((bounds.oldest, bounds.newest), (1, before.totals.changes + 1));
    let last = after.changes.last().unwrap();
    assert_eq!((&last.account, last.operation, &last.record), (&a, Operation::AccountErased, &None));
    assert!(after.changes.is_sorted_by_key(|row| row.n));

    let applied = store.apply(again(stream)).await.unwrap();
    let discarded = applied.deliveries.iter().filter(
        |delivery| matches!(&delivery.outcome, DeliveryOutcome::Discarded { account, .. } if *account == a),
    );
    assert_eq!(discarded.count(), 4);
    let replayed = store.read(contents).await.unwrap();
    assert_eq!((replayed.records, replayed.threads), (after.records, after.threads));
    assert_eq!(
        (replayed.totals.discarded, replayed.totals.dead_letters, replayed.totals.accounts),
        (4, 2, 1)
    );
    store.close().await;
    for needle in ["secret", "v2", "c20"] {
        assert!(!rawscan::holds(&file(dir.path()), needle), "{needle} is in the file");
    }
    assert!(rawscan::holds(&file(dir.path()), "public"));
}

/// Tells the test's second start that it is the one to be killed, and where its store is.
const CHILD_STORE: &str = "SNAPFLEET_TEST_ERASE_STORE";
const READY: &str = "the account is being erased";

#[tokio::test]
async fn erasing_goes_on_after_the_store_was_killed_in_the_middle() {
    if let Ok(dir) = std::env::var(CHILD_STORE) {
        return erase_until_killed(Path::new(&dir)).await;
    }
    let (dir, a, b) = (tempfile::tempdir().unwrap(), account("demo.a"), account("demo.b"));
    let store = open(dir.path());
    let mut many = snapshot(&a, 1, 1);
    many.direct_messages = (1..=3_000).map(|number| direct_message(number % 7, number, "secret")).collect();
    let deliveries = vec![delivery(1, &many), delivery(2, &filled("demo.b", 1, "public"))];
    store.apply(batch(0, deliveries)).await.unwrap();
    store.close().await;
    for kill in 0..3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["erasing_goes_on_after_the_store_was_killed_in_the_middle", "--exact", "--nocapture"])
            .env(CHILD_STORE, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains(READY) {
            line.clear();
            assert!(output.read_line(&mut line).unwrap() > 0, "the child did not start");
        }
        std::thread::park_timeout(Duration::from_millis(20 * kill));
        child.kill().unwrap();
        child.wait().unwrap();
        let query = Query::open_at_rest(&file(dir.path())).unwrap();
        assert!(!query.is_erased(&a, BASE).unwrap(), "it was over before the kill");
        assert_eq!(query.standing(&a).unwrap(), ERASED);
        let found = contents(&query).unwrap();
        assert_eq!((of(&found, &a), found.totals.records.sum()), ((0, 0, 0), 6));
    }
    assert!(rawscan::holds(&file(dir.path()), "secret"));
    let store = open(dir.path());
    until_erased(&store, &a).await;
    let found = store.read(contents).await.unwrap();
    assert_eq!((of(&found, &b).0, found.totals.accounts), (6, 1));
    assert_eq!(found.changes.iter().filter(|row| row.operation == Operation::AccountErased).count(), 1);
    store.close().await;
    assert!(!rawscan::holds(&file(dir.path()), "secret"));
}

#[allow(clippy::print_stdout, reason = "the parent waits for this line")]
async fn erase_until_killed(dir: &Path) {
    let store = open_in_small_steps(dir, 1);
    set(&store, &account("demo.a"), ERASED).await;
    println!("{READY}");
    until_erased(&store, &account("demo.a")).await;
}

#[tokio::test]
async fn rows_of_a_removed_account_stay_and_what_is_late_is_set_aside() {
    let (dir, a) = (tempfile::tempdir().unwrap(), account("demo.a"));
    let store = open(dir.path());
    store.apply(batch(0, vec![delivery(1, &filled("demo.a", 1, "kept"))])).await.unwrap();
    // The stream ended with the second then, which had not come yet; no clock has a say.
    let removed = |at| Standing::Removed { at: UnixMs(at), upto: Some(at_seq(2)), erased: None };
    set(&store, &a, removed(i64::MIN)).await;
    let late = filled("demo.a", 3, "late");
    let rest = vec![delivery(2, &filled("demo.a", 2, "kept")), delivery(3, &late)];
    let applied = store.apply(batch(1, rest)).await.unwrap();
    assert!(matches!(applied.deliveries[0].outcome, DeliveryOutcome::Applied(_)), "{applied:?}");
    let found = store.read(contents).await.unwrap();
    assert_eq!((of(&found, &a).0, found.accounts[0].standing), (12, removed(i64::MIN)));
    assert!(found.dead_letters[0].error.contains("was removed"), "{:?}", found.dead_letters[0]);
    assert_eq!((found.dead_letters[0].stream.seq, found.dead_letters[0].bytes.is_empty()), (3, false));
    // Added again, everything is taken in that comes, and by a store that comes later all.
    set(&store, &a, Standing::default()).await;
    let rest = vec![delivery(4, &filled("demo.a", 4, "between")), delivery(5, &filled("demo.a", 5, "new"))];
    store.apply(batch(3, rest)).await.unwrap();
    let found = store.read(contents).await.unwrap();
    assert_eq!((of(&found, &a).0, found.totals.discarded, found.totals.dead_letters), (24, 0, 1));
    // Another life of the stream has nothing from before the end.
    set(&store, &a, removed(i64::MAX)).await;
    let applied = store.apply(again(vec![delivery(1, &filled("demo.a", 6, "late"))])).await.unwrap();
    assert!(matches!(applied.deliveries[0].outcome, DeliveryOutcome::Rejected { .. }), "{applied:?}");
    // The account's rows are what it had and what is new.
    store.close().await;
    assert!(rawscan::holds(&file(dir.path()), "between") && rawscan::holds(&file(dir.path()), "kept"));
}

#[tokio::test]
async fn an_erasure_that_is_seen_only_as_a_mark_is_carried_out_first() {
    for later in [
        |erased| Standing::Active { erased },
        |erased| Standing::Removed { at: UnixMs(BASE.0 + 1), upto: Some(at_seq(3)), erased },
    ] {
        let (dir, a) = (tempfile::tempdir().unwrap(), account("demo.a"));
        let store = open_in_small_steps(dir.path(), 2);
        store.apply(batch(0, vec![delivery(1, &filled("demo.a", 1, "secret"))])).await.unwrap();
        let mark = |at: UnixMs, seq| Some(ErasedMark { at, upto: at_seq(seq) });
        set(&store, &a, later(mark(BASE, 2))).await;
        until_erased(&store, &a).await;
        let rest =
            vec![delivery(2, &filled("demo.a", 2, "secret")), delivery(3, &filled("demo.a", 1, "new"))];
        let applied = store.apply(batch(1, rest)).await.unwrap();
        assert!(matches!(applied.deliveries[0].outcome, DeliveryOutcome::Discarded { .. }), "{applied:?}");
        let found = store.read(contents).await.unwrap();
        assert_eq!((of(&found, &a), found.totals.discarded), ((6, 2, 6), 1));
        assert_eq!(found.accounts[0].standing, later(mark(BASE, 2)));
        let due = store.read(|query| query.purges()).await.unwrap();
        assert_eq!((due[0].upto, due[0].since), (at_seq(2), BASE));
        // The same mark again does nothing; an entry without it does not take it away; a later one erases again.
        set(&store, &a, later(mark(BASE, 2))).await;
        set(&store, &a, later(None)).await;
        let found = store.read(contents).await.unwrap();
        assert_eq!((of(&found, &a).0, found.accounts[0].standing), (6, later(mark(BASE, 2))));
        let then = UnixMs(BASE.0 + 2);
        set(&store, &a, later(mark(then, 3))).await;
        let asked = a.clone();
        eventually(SOON, "it is erased again", async || {
            let asked = asked.clone();
            store.read(move |query| query.is_erased(&asked, then)).await.unwrap().then_some(())
        })
        .await;
        assert_eq!(store.read(contents).await.unwrap().records, []);
        store.close().await;
        assert!(!rawscan::holds(&file(dir.path()), "secret"));
    }
}

#[tokio::test]
async fn what_knows_nothing_of_an_erasure_does_not_undo_it() {
    let (dir, a) = (tempfile::tempdir().unwrap(), account("demo.a"));
    let store = open(dir.path());
    set(&store, &a, ERASED).await;
    let older = Some(ErasedMark { at: UnixMs(BASE.0 - 1), upto: at_seq(1) });
    for standing in [
        Standing::default(),
        Standing::Active { erased: older },
        Standing::Removed { at: UnixMs(i64::MAX), upto: Some(at_seq(9)), erased: None },
    ] {
        set(&store, &a, standing).await;
        let asked = a.clone();
        assert_eq!(store.read(move |query| query.standing(&asked)).await.unwrap(), ERASED);
    }
    let applied = store.apply(batch(0, vec![delivery(1, &filled("demo.a", 1, "secret"))])).await.unwrap();
    assert!(matches!(applied.deliveries[0].outcome, DeliveryOutcome::Discarded { .. }), "{applied:?}");
}

#[tokio::test]
async fn what_is_due_in_a_former_life_of_the_stream_stays_due_in_the_next() {
    let (dir, a) = (tempfile::tempdir().unwrap(), account("demo.a"));
    let store = open(dir.path());
    store.apply(batch(0, vec![delivery(1, &filled("demo.a", 1, "old"))])).await.unwrap();
    set(&store, &a, ERASED).await;
    let next = Position { incarnation: STREAM + 1, seq: 0 };
    let due = async |next| {
        store.edit(vec![Edit::Purged(account("demo.a"), next)]).await.unwrap();
        store.read(|query| query.purges()).await.unwrap().first().map(|row| row.upto)
    };
    assert_eq!(due(next).await, Some(at_seq(1)));
    store.apply(again(vec![delivery(7, &filled("demo.b", 1, "other"))])).await.unwrap();
    assert_eq!(due(next).await, Some(Position { seq: 7, ..next }));
    assert_eq!(due(Position { seq: 7, ..next }).await, None);
}

#[tokio::test]
async fn an_erased_account_that_is_added_again_begins_anew() {
    let (dir, a) = (tempfile::tempdir().unwrap(), account("demo.a"));
    let store = open(dir.path());
    let old = vec![delivery(1, &filled("demo.a", 7, "old")), delivery(2, &filled("demo.a", 8, "old"))];
    store.apply(batch(0, old.clone())).await.unwrap();
    set(&store, &a, ERASED).await;
    set(&store, &a, ERASED).await;
    store.apply(batch(2, vec![delivery(3, &filled("demo.a", 9, "old"))])).await.unwrap();
    let purges = store.read(|query| query.purges()).await.unwrap();
    assert_eq!(purges, [PurgeRow { account: a.clone(), upto: at_seq(3), since: BASE }]);
    until_erased(&store, &a).await;
    let erased = Some(ErasedMark { at: BASE, upto: at_seq(4) });
    set(&store, &a, Standing::Active { erased }).await;
    let rest = vec![delivery(4, &filled("demo.a", 10, "old")), delivery(5, &filled("demo.a", 1, "new"))];
    store.apply(batch(3, rest)).await.unwrap();
    let found = store.read(contents).await.unwrap();
    assert_eq!((of(&found, &a), found.totals.accounts, found.totals.discarded), ((6, 2, 6), 1, 2));
    assert_eq!((found.totals.records, found.totals.dead_letters), (found.accounts[0].records, 0));
    // What was late belongs to what was erased, and what is due is due until it was done that far.
    let done = |seq| vec![Edit::Purged(a.clone(), Position { incarnation: STREAM, seq })];
    store.edit(done(3)).await.unwrap();
    assert_eq!(store.read(|query| query.purges()).await.unwrap()[0].upto.seq, 4);
    store.edit(done(4)).await.unwrap();
    assert_eq!(store.read(|query| query.purges()).await.unwrap(), []);
    store.close().await;
    assert!(!rawscan::holds(&file(dir.path()), "old") && rawscan::holds(&file(dir.path()), "new"));
}

#[tokio::test]
async fn an_account_of_which_nothing_is_stored_can_be_erased_with_its_dead_letters() {
    let (dir, a) = (tempfile::tempdir().unwrap(), account("demo.a"));
    let store = open(dir.path());
    store.apply(batch(0, vec![garbage(1, "snapshot.demo.a")])).await.unwrap();
    set(&store, &a, ERASED).await;
    until_erased(&store, &a).await;
    let found = store.read(contents).await.unwrap();
    assert_eq!((found.dead_letters.len(), found.totals.dead_letters, found.changes.len()), (0, 0, 0));
    assert_eq!(found.totals.accounts, 0);
}

#[tokio::test]
async fn a_store_of_the_first_format_is_taken_over_with_its_trimmed_log() {
    const META: TableDefinition<'static, &str, &str> = TableDefinition::new("meta-1");
    let (dir, a) = (tempfile::tempdir().unwrap(), account("demo.a"));
    let store = open(dir.path());
    let both = vec![delivery(1, &filled("demo.a", 1, "old")), delivery(2, &filled("demo.b", 1, "old"))];
    store.apply(batch(0, both)).await.unwrap();
    store.close().await;
    let database = Database::open(file(dir.path())).unwrap();
    let txn = database.begin_write().unwrap();
    txn.open_table(META).unwrap().insert("format", "1").unwrap();
    // As an earlier build leaves it: two changes trimmed, none of the later tables.
    let mut changes =
        txn.open_table(TableDefinition::<u64, (i64, u32, u8, u8, &str, &[u8])>::new("changes-1")).unwrap();
    changes.remove(1).unwrap();
    changes.remove(2).unwrap();
    drop(changes);
    txn.delete_table(TableDefinition::<&str, (u8, i64, u64, u64, i64, u64, u64)>::new("standings-1"))
        .unwrap();
    txn.delete_table(TableDefinition::<(u32, &str), ()>::new("erasing-1")).unwrap();
    txn.delete_table(TableDefinition::<(&str, u128), (i64, bool)>::new("erasures-1")).unwrap();
    txn.commit().unwrap();
    database.close().unwrap();
    let at_rest = Query::open_at_rest(&file(dir.path())).unwrap();
    assert_eq!(contents(&at_rest).unwrap().records.len(), 12);
    assert_eq!(
        (at_rest.standing(&a).unwrap(), at_rest.is_erased(&a, BASE).unwrap()),
        (Standing::default(), false)
    );
    drop(at_rest);
    let store = open(dir.path());
    assert_eq!(store.read(|query| query.change_bounds()).await.unwrap().oldest, 3);
    set(&store, &a, ERASED).await;
    until_erased(&store, &a).await;
    // Where the oldest rows were erased, a cursor before them still goes on; one before what was trimmed does not.
    let bounds = store.read(|query| query.change_bounds()).await.unwrap();
    assert_eq!((bounds.oldest, bounds.newest), (3, 13));
    let found = store.read(contents).await.unwrap();
    assert_eq!(found.changes.first().unwrap().n, 7);
    assert_eq!(found.accounts[0].records.get(RecordKind::Comment), 2);
    store.close().await;
    let database = Database::open(file(dir.path())).unwrap();
    let meta = database.begin_read().unwrap().open_table(META).unwrap();
    assert_eq!(meta.get("format").unwrap().unwrap().value(), "2");
}
