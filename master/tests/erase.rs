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
use snapfleet_master::erase::Follower;
use snapfleet_master::ingest::{self, IngestLimits, IngestState};
use snapfleet_master::store::{DataStore, Standing};
use snapfleet_protocol::stream::{
    ACCOUNTS_PREFIX, ACCOUNTS_STREAM, ERASURES_PREFIX, LEASES_PREFIX, LEASES_STREAM, READERS_PREFIX,
    SESSIONS_PREFIX, SESSIONS_STREAM, SNAPSHOTS,
};
use snapfleet_protocol::{
    AccountConfig, AccountEntry, AccountId, Ended, Erasure, PersonHash, ReaderPosition, Snapshot,
    StreamPoint, Topic, UnixMs, WireVersion, encode_snapshot,
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
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Reading {
    async fn start(dir: &TempDir, broker: &Broker) -> Self {
        let (store, stop, tasks) = (open(dir.path()), CancellationToken::new(), TaskTracker::new());
        let mut follower = Follower::new(broker.clone(), store.clone(), true);
        assert!(follower.first_look(&stop).await);
        tasks.spawn(follower.run(stop.clone()));
        let (state, limits) = (Arc::new(IngestState::default()), IngestLimits::default());
        let ingest = ingest::run(store.clone(), broker.clone(), limits, stop.clone(), state);
        tasks.spawn(async move { ingest.await.unwrap() });
        tasks.close();
        Self { store, stop, tasks }
    }

    async fn reaches(&self, seq: u64) {
        eventually(SOON, &format!("sequence {seq} is applied"), async || {
            let position = self.store.read(|query| query.totals()).await.unwrap().position;
            position.is_some_and(|position| position.seq >= seq).then_some(())
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
    AccountEntry::Erased(Ended { at: BASE })
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
    eventually(SOON, "the account's rows are gone", async || {
        let asked = a.clone();
        reading.store.read(move |query| query.is_erased(&asked)).await.unwrap().then_some(())
    })
    .await;
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
    let not_before = Some(fleet.point(late).await);
    fleet.enter(&a, &AccountEntry::Active(AccountConfig { not_before, ..AccountConfig::default() })).await;
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
    // Removed after the broker had its snapshot, which therefore stays readable.
    let at = UnixMs(i64::MAX);
    fleet.enter(&c, &AccountEntry::Removed(Ended { at })).await;
    put_key(&fleet.master, format!("{ACCOUNTS_PREFIX}demo.x"), "nonsense".into(), None).await.unwrap();
    let reading = Reading::start(&dir, &fleet.master).await;
    reading.reaches(last).await;
    let found = reading.contents().await;
    let accounts: Vec<_> = found.accounts.iter().map(|row| (row.id.to_string(), row.standing)).collect();
    assert_eq!(
        accounts,
        [("demo.b".to_owned(), Standing::default()), ("demo.c".to_owned(), Standing::Removed { at })]
    );
    assert_eq!((found.totals.discarded, found.totals.dead_letters), (1, 0));
    // The bucket is made anew, and goes on telling.
    fleet.master.jetstream().delete_stream(ACCOUNTS_STREAM).await.unwrap();
    ensure_streams(&fleet.master, 1).await.unwrap();
    fleet.enter(&c, &erased()).await;
    eventually(SOON, "the new bucket is read", async || {
        let asked = c.clone();
        reading.store.read(move |query| query.is_erased(&asked)).await.unwrap().then_some(())
    })
    .await;
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
    let person = PersonHash::of(&a, &id("reader"));
    let erasure = Erasure { person, at: UnixMs(BASE.0 + 1_000) };
    let json = serde_json::to_vec(&erasure).unwrap();
    put_key(&fleet.master, format!("{ERASURES_PREFIX}{}", erasure.key(&a)), json.into(), None).await.unwrap();
    eventually(SOON, "the replica has read the first", async || {
        (fleet.kept(&a).await == [second]).then_some(())
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
