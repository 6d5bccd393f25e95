//! Removals and erasures as the buckets tell them, with a real broker: they reach the store and the stream, whatever
//! comes late, and whoever is started anew in between.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/batches.rs"]
#[allow(dead_code, reason = "shared by several tests, each of which needs a part")]
mod batches;

use std::sync::Arc;
use std::time::Duration;

use batches::{Contents, contents, open};
use snapfleet_broker::{
    Broker, BrokerConfig, Outgoing, ensure_streams, last_at_leader, publish, put_key, read_subject,
};
use snapfleet_master::api::{HeldBack, Live};
use snapfleet_master::erase::Follower;
use snapfleet_master::ingest::{self, IngestLimits, IngestState};
use snapfleet_master::store::{DataStore, ErasedMark, Position, Standing};
use snapfleet_protocol::stream::{
    ACCOUNTS_PREFIX, ACCOUNTS_STREAM, ERASURES_PREFIX, ERASURES_STREAM, LEASES_PREFIX, LEASES_STREAM,
    READERS_PREFIX, SESSIONS_PREFIX, SESSIONS_STREAM, SNAPSHOTS,
};
use snapfleet_protocol::{
    AccountConfig, AccountEntry, AccountHealth, AccountId, AccountState, Ended, Erased, Erasure, Heartbeat,
    InstanceId, PersonHash, ReaderPosition, Snapshot, StreamPoint, Topic, UnixMs, WireVersion, WorkerId,
    encode_snapshot,
};
use snapfleet_testkit::sample::{BASE, account, comment, direct_message, id, snapshot};
use snapfleet_testkit::{TestBroker, eventually};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const SOON: Duration = Duration::from_secs(20);

async fn connect(server: &TestBroker, user: &str) -> Broker {
    let password = TestBroker::password(user).to_owned();
    let config =
        BrokerConfig { url: server.url(), user: user.to_owned(), password, name: format!("test-{user}") };
    Broker::connect(&config, &CancellationToken::new()).await.unwrap()
}

/// A broker with a worker's and a master's connection.
struct Fleet {
    _server: TestBroker,
    worker: Broker,
    master: Broker,
}

impl Fleet {
    async fn start() -> Self {
        let server = TestBroker::start();
        let (worker, master) = (connect(&server, "worker").await, connect(&server, "master").await);
        ensure_streams(&master, 1).await.unwrap();
        Self { _server: server, worker, master }
    }

    async fn publish(&self, snapshot: &Snapshot) -> u64 {
        let message = Outgoing {
            subject: Topic::Snapshot.subject(&snapshot.account_id()),
            payload: encode_snapshot(snapshot).unwrap().into(),
            message_id: Some(snapshot.id().to_string()),
            expected_last: None,
            ttl_s: None,
            headers: vec![(WireVersion::HEADER, WireVersion::CURRENT.as_str().to_owned())],
        };
        publish(&self.worker, &message).await.unwrap().seq
    }

    async fn enter(&self, id: &AccountId, entry: &AccountEntry) {
        let json = serde_json::to_vec(entry).unwrap();
        put_key(&self.master, format!("{ACCOUNTS_PREFIX}{id}"), json.into(), None).await.unwrap();
    }

    /// The sequences of the messages on an account's subject.
    async fn kept(&self, id: &AccountId) -> Vec<u64> {
        let subject = Topic::Snapshot.subject(id);
        let (messages, _) = read_subject(&self.master, SNAPSHOTS, &subject, 1).await.unwrap();
        messages.iter().map(|stored| stored.seq).collect()
    }

    async fn is_key(&self, stream: &str, subject: String) -> bool {
        let last = last_at_leader(&self.master, stream, &subject).await.unwrap();
        last.is_some_and(|last| !last.is_gone())
    }

    async fn point(&self, seq: u64) -> StreamPoint {
        let stream = self.master.jetstream().get_stream(SNAPSHOTS).await.unwrap();
        let created = stream.cached_info().created.unix_timestamp_nanos();
        StreamPoint { incarnation: u64::try_from(created).unwrap(), seq }
    }
}

/// A master's reading part, as `run` starts it.
struct Reading {
    store: DataStore,
    live: Live,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Reading {
    async fn start(dir: &TempDir, broker: &Broker) -> Self {
        let (store, stop, tasks) = (open(dir.path()), CancellationToken::new(), TaskTracker::new());
        let live = Live::default();
        live.note(|moment| {
            (moment.broker.connected, moment.workers.settled) = (true, true);
        });
        let mut follower = Follower::new(broker.clone(), store.clone(), live.clone(), true);
        assert!(follower.first_look(&stop).await);
        tasks.spawn(follower.run(stop.clone()));
        let (state, limits) = (Arc::new(IngestState::default()), IngestLimits::default());
        let ingest = ingest::run(store.clone(), broker.clone(), limits, stop.clone(), state);
        tasks.spawn(async move { ingest.await.unwrap() });
        tasks.close();
        Self { store, live, stop, tasks }
    }

    async fn reaches(&self, seq: u64) {
        eventually(SOON, &format!("sequence {seq} is applied"), async || {
            let position = self.store.read(|query| query.totals()).await.unwrap().position;
            position.is_some_and(|position| position.seq >= seq).then_some(())
        })
        .await;
    }

    /// A worker says that it holds the account.
    fn held(&self, id: &AccountId) {
        let (instance, worker) = (InstanceId::parse("w1").unwrap(), WorkerId::parse("w1").unwrap());
        let mut heartbeat = Heartbeat::new(instance, worker);
        heartbeat.accounts.push(AccountHealth {
            account: id.clone(),
            state: AccountState::Capturing,
            since: BASE,
            reason: None,
            epoch: 1,
            captured_at: None,
            published_at: None,
            published: 0,
            captured: 0,
            refused: 0,
            capture_errors: 0,
            pending: 0,
            window: 0,
            problems: Vec::new(),
        });
        self.live.note(|moment| moment.workers.heartbeats.push(heartbeat));
    }

    async fn is_erased(&self, id: &AccountId, at: UnixMs) {
        eventually(SOON, "the account's rows are gone", async || {
            let asked = id.clone();
            self.store.read(move |query| query.is_erased(&asked, at)).await.unwrap().then_some(())
        })
        .await;
    }

    async fn contents(&self) -> Contents {
        self.store.read(contents).await.unwrap()
    }

    async fn stop(self) {
        self.stop.cancel();
        self.tasks.wait().await;
        self.store.close().await;
    }
}

fn filled(name: &str, seq: u64) -> Snapshot {
    let mut made = snapshot(&account(name), 1, seq);
    made.direct_messages.push(direct_message(seq, seq, "text"));
    made.comments.push(comment(1, seq, "text"));
    made
}

fn erased() -> AccountEntry {
    AccountEntry::Erased(Ended { at: BASE, upto: None, erased: None })
}

fn added_again(upto: StreamPoint) -> AccountEntry {
    let erased = Some(Erased { at: BASE, upto });
    AccountEntry::Active(AccountConfig { erased, ..AccountConfig::default() })
}

fn position(point: StreamPoint) -> Position {
    Position { incarnation: point.incarnation, seq: point.seq }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erased_account_leaves_store_stream_session_and_lease_and_stays_away() {
    let (fleet, dir) = (Fleet::start().await, tempfile::tempdir().unwrap());
    let (a, b) = (account("demo.a"), account("demo.b"));
    let reading = Reading::start(&dir, &fleet.master).await;
    fleet.publish(&filled("demo.a", 1)).await;
    let of_b = fleet.publish(&filled("demo.b", 1)).await;
    reading.reaches(fleet.publish(&filled("demo.a", 2)).await).await;
    let keys =
        [(SESSIONS_STREAM, format!("{SESSIONS_PREFIX}{a}")), (LEASES_STREAM, format!("{LEASES_PREFIX}{a}"))];
    let hold = async || {
        for (_, subject) in &keys {
            put_key(&fleet.worker, subject.clone(), "held".into(), None).await.unwrap();
        }
    };
    let gone = async || {
        let mut left = !fleet.kept(&a).await.is_empty();
        for (stream, subject) in &keys {
            left |= fleet.is_key(stream, subject.clone()).await;
        }
        (!left).then_some(())
    };
    hold().await;
    fleet.enter(&a, &erased()).await;
    eventually(SOON, "the account leaves the broker", gone).await;
    reading.is_erased(&a, BASE).await;
    // A worker that has not heard of it publishes once more.
    hold().await;
    let late = fleet.publish(&filled("demo.a", 3)).await;
    reading.reaches(late).await;
    eventually(SOON, "what came late leaves the broker", gone).await;
    let found = reading.contents().await;
    assert_eq!((found.totals.discarded, found.totals.dead_letters, found.records.len()), (1, 0, 2));
    assert_eq!((found.accounts.len(), fleet.kept(&b).await), (1, vec![of_b]));
    // A store that is made anew has nothing of it either; and the account can begin again.
    reading.stop().await;
    fleet.enter(&a, &added_again(fleet.point(late).await)).await;
    for dir in [dir, tempfile::tempdir().unwrap()] {
        let reading = Reading::start(&dir, &fleet.master).await;
        let mut new = filled("demo.a", 1);
        new.epoch = 2 + fleet.kept(&a).await.len() as u64;
        reading.reaches(fleet.publish(&new).await).await;
        let found = reading.contents().await;
        assert!(found.records.iter().any(|row| row.account == a), "the new data is not in");
        assert!(found.records.iter().all(|row| !["m2", "m3"].contains(&row.record.id().as_str())));
        reading.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_starts_hears_of_the_end_before_it_reads_the_stream() {
    let (fleet, dir) = (Fleet::start().await, tempfile::tempdir().unwrap());
    let (a, c) = (account("demo.a"), account("demo.c"));
    fleet.publish(&filled("demo.a", 1)).await;
    fleet.publish(&filled("demo.c", 1)).await;
    let last = fleet.publish(&filled("demo.b", 1)).await;
    fleet.enter(&a, &erased()).await;
    // Removed after the broker had its snapshot, which therefore stays readable, whatever the master's clock was.
    let (at, upto) = (UnixMs(1), fleet.point(last).await);
    fleet.enter(&c, &AccountEntry::Removed(Ended { at, upto: Some(upto), erased: None })).await;
    put_key(&fleet.master, format!("{ACCOUNTS_PREFIX}demo.x"), "nonsense".into(), None).await.unwrap();
    let reading = Reading::start(&dir, &fleet.master).await;
    reading.reaches(last).await;
    let found = reading.contents().await;
    let accounts: Vec<_> = found.accounts.iter().map(|row| (row.id.to_string(), row.standing)).collect();
    assert_eq!(
        accounts,
        [
            ("demo.b".to_owned(), Standing::default()),
            ("demo.c".to_owned(), Standing::Removed { at, upto: Some(position(upto)), erased: None })
        ]
    );
    assert_eq!((found.totals.discarded, found.totals.dead_letters), (1, 0));
    // The bucket is made anew, and goes on telling.
    fleet.master.jetstream().delete_stream(ACCOUNTS_STREAM).await.unwrap();
    ensure_streams(&fleet.master, 1).await.unwrap();
    fleet.enter(&c, &erased()).await;
    reading.is_erased(&c, BASE).await;
    reading.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erased_person_leaves_the_stream_once_every_replica_has_read_it() {
    let (fleet, dir) = (Fleet::start().await, tempfile::tempdir().unwrap());
    let (a, b) = (account("demo.a"), account("demo.b"));
    let reading = Reading::start(&dir, &fleet.master).await;
    let first = fleet.publish(&filled("demo.a", 1)).await;
    let second = fleet.publish(&filled("demo.a", 2)).await;
    let of_b = fleet.publish(&filled("demo.b", 1)).await;
    reading.reaches(of_b).await;
    let report = async |seq| {
        let position = Some(fleet.point(seq).await);
        let said = ReaderPosition { host: "elsewhere".to_owned(), position, at: BASE };
        let json = serde_json::to_vec(&said).unwrap();
        put_key(&fleet.master, format!("{READERS_PREFIX}replica-1"), json.into(), None).await.unwrap();
    };
    report(first).await;
    reading.held(&a);
    let person = PersonHash::of(&a, &id("reader"));
    let erasure = Erasure { person, at: UnixMs(BASE.0 + 1_000) };
    let json = serde_json::to_vec(&erasure).unwrap();
    put_key(&fleet.master, format!("{ERASURES_PREFIX}{}", erasure.key(&a)), json.into(), None).await.unwrap();
    eventually(SOON, "the replica has read the first", async || {
        (fleet.kept(&a).await == [second]).then_some(())
    })
    .await;
    eventually(SOON, "it is told what it waits for", async || {
        let pending = reading.live.look(|moment| moment.endings.pending.clone());
        let pending = pending.first()?;
        let waits = pending.held_by == Some(HeldBack::Replica("replica-1".to_owned()));
        (waits && pending.account == a && pending.since == erasure.at).then_some(())
    })
    .await;
    let asked = a.clone();
    eventually(SOON, "the person's rows are gone", async || {
        let asked = asked.clone();
        reading.store.read(move |query| query.is_person_erased(&asked, erasure)).await.unwrap().then_some(())
    })
    .await;
    let ids = |found: &Contents| {
        let rows = found.records.iter().filter(|row| row.account == a);
        rows.map(|row| row.record.id().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&reading.contents().await), ["m1", "m2"]);
    // What a worker publishes that has not heard of it goes as well, and what is due is done by whoever is started next.
    let third = fleet.publish(&filled("demo.a", 3)).await;
    reading.reaches(third).await;
    reading.stop().await;
    assert_eq!(fleet.kept(&a).await, [second, third]);
    report(third).await;
    let reading = Reading::start(&dir, &fleet.master).await;
    // With nobody to publish again what else is in these messages they stay.
    eventually(SOON, "it waits for a holder", async || {
        let pending = reading.live.look(|moment| moment.endings.pending.clone());
        (pending.first()?.held_by == Some(HeldBack::Unheld)).then_some(())
    })
    .await;
    assert_eq!(fleet.kept(&a).await, [second, third]);
    reading.held(&a);
    eventually(SOON, "the rest has gone", async || fleet.kept(&a).await.is_empty().then_some(())).await;
    eventually(SOON, "nothing more is due", async || {
        reading.store.read(|query| query.purges()).await.unwrap().is_empty().then_some(())
    })
    .await;
    let found = reading.contents().await;
    assert_eq!(
        (ids(&found), fleet.kept(&b).await),
        (vec!["m1".into(), "m2".into(), "m3".into()], vec![of_b])
    );
    // A newer comment is taken in, and kept where it is.
    let mut newer = filled("demo.a", 4);
    newer.comments[0].created_at = Some(UnixMs(BASE.0 + 1_001));
    let fourth = fleet.publish(&newer).await;
    reading.reaches(fourth).await;
    assert_eq!(reading.store.read(|query| query.purges()).await.unwrap(), []);
    assert_eq!((fleet.kept(&a).await, ids(&reading.contents().await).len()), (vec![fourth], 5));
    reading.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erasure_is_carried_out_although_the_account_was_added_again_before_anybody_looked() {
    let fleet = Fleet::start().await;
    let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let a = account("demo.a");
    let first = fleet.publish(&filled("demo.a", 1)).await;
    // Two have it: one is stopped, as a replica or a copy of a store may be, and one runs on.
    for dir in &dirs[..2] {
        let reading = Reading::start(dir, &fleet.master).await;
        reading.reaches(first).await;
        assert_eq!(reading.contents().await.records.len(), 2);
        reading.stop().await;
    }
    let running = Reading::start(&dirs[0], &fleet.master).await;
    let last = fleet.publish(&filled("demo.a", 2)).await;
    let mark = ErasedMark { at: BASE, upto: position(fleet.point(last).await) };
    fleet.enter(&a, &erased()).await;
    fleet.enter(&a, &added_again(fleet.point(last).await)).await;
    running.is_erased(&a, BASE).await;
    let mut new = filled("demo.a", 3);
    new.epoch = 2;
    let kept = fleet.publish(&new).await;
    running.reaches(kept).await;
    let check = async |reading: Reading| {
        let found = reading.contents().await;
        let ids: Vec<_> = found.records.iter().map(|row| row.record.id().to_string()).collect();
        assert_eq!(ids, ["c3", "m3"]);
        assert_eq!(found.accounts[0].standing, Standing::Active { erased: Some(mark) });
        reading.stop().await;
    };
    eventually(SOON, "the rest leaves the stream", async || (fleet.kept(&a).await == [kept]).then_some(()))
        .await;
    check(running).await;
    for dir in &dirs[1..] {
        let reading = Reading::start(dir, &fleet.master).await;
        reading.is_erased(&a, BASE).await;
        reading.reaches(kept).await;
        check(reading).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_cannot_be_read_is_told_of_and_keeps_the_other_from_nothing() {
    let (fleet, dir) = (Fleet::start().await, tempfile::tempdir().unwrap());
    let a = account("demo.a");
    let reading = Reading::start(&dir, &fleet.master).await;
    reading.reaches(fleet.publish(&filled("demo.a", 1)).await).await;
    fleet.master.jetstream().delete_stream(ERASURES_STREAM).await.unwrap();
    let problems = || reading.live.look(|moment| moment.endings.problems.clone());
    let told = eventually(SOON, "it is told", async || problems().first().cloned()).await;
    assert!(told.0.contains("bucket erasures"), "{told:?}");
    fleet.enter(&a, &erased()).await;
    reading.is_erased(&a, BASE).await;
    eventually(SOON, "the account leaves the stream", async || fleet.kept(&a).await.is_empty().then_some(()))
        .await;
    assert_eq!(problems().first().map(|(_, since)| *since), Some(told.1));
    // Who starts now takes nothing in before it knows what not to.
    let (late, live, stop) = (tempfile::tempdir().unwrap(), Live::default(), CancellationToken::new());
    let store = open(late.path());
    let mut follower = Follower::new(fleet.master.clone(), store, live.clone(), true);
    let first = tokio::spawn(async move { follower.first_look(&stop).await });
    eventually(SOON, "the one that starts tells it", async || {
        live.look(|moment| moment.endings.holds_intake && !moment.endings.problems.is_empty()).then_some(())
    })
    .await;
    assert!(!first.is_finished());
    ensure_streams(&fleet.master, 1).await.unwrap();
    assert!(first.await.unwrap());
    assert!(!live.look(|moment| moment.endings.holds_intake));
    eventually(SOON, "nothing is wrong any more", async || problems().is_empty().then_some(())).await;
    reading.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_knows_nothing_of_the_erasure_is_told_of_and_does_not_undo_it() {
    let (fleet, dir) = (Fleet::start().await, tempfile::tempdir().unwrap());
    let a = account("demo.a");
    let reading = Reading::start(&dir, &fleet.master).await;
    fleet.enter(&a, &erased()).await;
    reading.is_erased(&a, BASE).await;
    fleet.enter(&a, &AccountEntry::Active(AccountConfig::default())).await;
    let told = || reading.live.look(|moment| moment.endings.contradicted.contains_key(&a));
    eventually(SOON, "it is told", async || told().then_some(())).await;
    let last = fleet.publish(&filled("demo.a", 1)).await;
    reading.reaches(last).await;
    assert_eq!(reading.contents().await.records, []);
    fleet.enter(&a, &added_again(fleet.point(last).await)).await;
    eventually(SOON, "it is over", async || (!told()).then_some(())).await;
    reading.stop().await;
}
