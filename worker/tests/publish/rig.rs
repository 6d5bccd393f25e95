//! An account's task on a real broker, driven by hand, and what the stream holds of it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use snapfleet_broker::{Broker, BrokerConfig, ensure_streams, read_subject};
use snapfleet_protocol::stream::SNAPSHOTS;
use snapfleet_protocol::{
    AccountId, Comment, Erasures, InstanceId, Record, Snapshot, SnapshotKind, Topic, decode_snapshot,
};
use snapfleet_testkit::{TestBroker, eventually, sample};
use snapfleet_worker::account::{self, AccountTask, Ask, Ended, Sighting};
use snapfleet_worker::fleet::gate::Gate;
use snapfleet_worker::publish::Grant;
use snapfleet_worker::roster::{Roster, now};
use snapfleet_worker::steering::{Helm, Steering};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) async fn connect(url: &str, user: &str) -> Broker {
    let config = BrokerConfig {
        url: url.to_owned(),
        user: user.to_owned(),
        password: TestBroker::password(user).to_owned(),
        name: format!("test {user}"),
    };
    Broker::connect(&config, &CancellationToken::new()).await.unwrap()
}

/// A broker with our streams, and the master's connection to look into them.
pub(crate) async fn broker() -> (TestBroker, Broker) {
    let server = TestBroker::start();
    let master = connect(&server.url(), "master").await;
    ensure_streams(&master, 1).await.unwrap();
    (server, master)
}

pub(crate) struct Running {
    pub(crate) sightings: mpsc::Sender<Sighting>,
    pub(crate) grants: watch::Sender<Option<Grant>>,
    pub(crate) steering: Steering,
    pub(crate) roster: Roster,
    pub(crate) stop: CancellationToken,
    pub(crate) released: CancellationToken,
    pub(crate) task: JoinHandle<Ended>,
    _asks: mpsc::Sender<Ask>,
    pub(crate) erasures: watch::Sender<Arc<Erasures>>,
}

pub(crate) fn grant(lease_seq: u64, gate: &Gate) -> Grant {
    Grant { lease_seq, term: gate.term(), gate: gate.clone() }
}

impl Running {
    pub(crate) async fn start(url: &str, account: &AccountId, instance: &str, dir: &Path) -> Self {
        Self::with_grant(url, account, instance, dir, grant(1, &Gate::always_open())).await
    }

    pub(crate) async fn with_grant(
        url: &str,
        account: &AccountId,
        instance: &str,
        dir: &Path,
        grant: Grant,
    ) -> Self {
        let (sender, sightings) = mpsc::channel(16);
        let (asks_in, asks) = mpsc::channel(4);
        let (roster, stop, released) =
            (Roster::default(), CancellationToken::new(), CancellationToken::new());
        let helm = Helm::new(grant.gate.clone());
        let (grants_in, grants) = watch::channel(Some(grant));
        let (erasures_in, erasures) = watch::channel(Arc::new(Erasures::new(account.clone())));
        let steering = helm.steering();
        roster.add(account);
        let task = AccountTask {
            broker: connect(url, "worker").await,
            account: account.clone(),
            interval: Duration::from_secs(1),
            instance: InstanceId::parse(instance).unwrap(),
            outbox_dir: dir.to_owned(),
            roster: roster.clone(),
            grants,
            sightings,
            pages: 1,
            lanes: Arc::default(),
            asks,
            erasures,
            helm,
            stop: stop.clone(),
            released: released.clone(),
        };
        let task = tokio::spawn(account::run(task));
        let running = Self {
            sightings: sender,
            grants: grants_in,
            steering,
            roster,
            stop,
            released,
            task,
            _asks: asks_in,
            erasures: erasures_in,
        };
        tokio::time::timeout(DEADLINE, running.steering.may_drive()).await.expect("claimed");
        running
    }

    pub(crate) async fn see(&self, records: Vec<Record>) {
        self.sightings.send(Sighting::Records { records, refused: 0, at: now() }).await.unwrap();
    }

    pub(crate) async fn stop(self) -> Ended {
        self.stop.cancel();
        self.ended().await
    }

    /// Waits for its end, as its pages do: they end once they are released.
    pub(crate) async fn ended(self) -> Ended {
        tokio::time::timeout(DEADLINE, self.released.cancelled()).await.expect("its pages are released");
        drop(self.sightings);
        tokio::time::timeout(DEADLINE, self.task).await.expect("it ends").unwrap()
    }
}

pub(crate) fn comment(number: u64) -> Record {
    Record::Comment(sample::comment(1, number, "text"))
}

/// All snapshots on the account's subject, with their stream sequences.
///
/// A read that the broker's death cuts off is made again.
pub(crate) async fn stored(broker: &Broker, account: &AccountId) -> Vec<(u64, Snapshot)> {
    let (mut snapshots, mut from) = (Vec::new(), 1);
    loop {
        let subject = Topic::Snapshot.subject(account);
        let read = async || read_subject(broker, SNAPSHOTS, &subject, from).await.ok();
        let (page, pending) = eventually(DEADLINE, "the subject is read back", read).await;
        for message in page {
            from = message.seq + 1;
            snapshots.push((message.seq, decode_snapshot(&message.payload).unwrap()));
        }
        if pending == 0 {
            return snapshots;
        }
    }
}

pub(crate) fn comments(snapshots: &[(u64, Snapshot)], kind: SnapshotKind) -> Vec<String> {
    let of_kind = snapshots.iter().filter(|(_, snapshot)| snapshot.kind == kind);
    of_kind
        .flat_map(|(_, snapshot)| snapshot.comments.iter().map(|Comment { id, .. }| id.to_string()))
        .collect()
}

/// Comments in the order in which the stream first told of them, in a delta or a full: which of the two it is
/// depends on where the interval falls.
pub(crate) fn told(snapshots: &[(u64, Snapshot)]) -> Vec<String> {
    let mut told = Vec::new();
    for comment in snapshots.iter().flat_map(|(_, snapshot)| &snapshot.comments) {
        if !told.contains(&comment.id.to_string()) {
            told.push(comment.id.to_string());
        }
    }
    told
}

pub(crate) async fn wait_until_told(broker: &Broker, account: &AccountId, ids: &[&str]) {
    let what = format!("the stream tells of {ids:?}");
    eventually(DEADLINE, &what, async || (told(&stored(broker, account).await) == ids).then_some(())).await;
}

/// No delta repeats what a delta told.
pub(crate) fn assert_nothing_twice(snapshots: &[(u64, Snapshot)]) {
    let mut ids = comments(snapshots, SnapshotKind::Delta);
    ids.sort();
    let all = ids.len();
    ids.dedup();
    assert_eq!(ids.len(), all, "a delta repeats what another told: {ids:?}");
}

pub(crate) async fn wait_for(broker: &Broker, account: &AccountId, kind: SnapshotKind, ids: &[&str]) {
    let what = format!("{kind:?} with {ids:?}");
    eventually(DEADLINE, &what, async || {
        (comments(&stored(broker, account).await, kind) == ids).then_some(())
    })
    .await;
}
