//! The bucket `sessions`: who may write on top of what, and what is done with what does not open.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use snapfleet_broker::{Broker, BrokerConfig, ensure_streams, purge_key, put_key};
use snapfleet_protocol::AccountId;
use snapfleet_testkit::{TestBroker, eventually};
use snapfleet_worker::fleet::gate::Gate;
use snapfleet_worker::session::key::new_key;
use snapfleet_worker::session::seal::{open_session, seal_session};
use snapfleet_worker::session::store::{Saved, load, save};
use snapfleet_worker::session::{self, FleetKey, SessionState, SessionTask};
use snapfleet_worker::steering::Helm;
use tokio_util::sync::CancellationToken;

const DEADLINE: Duration = Duration::from_secs(20);
const SUBJECT: &str = "$KV.sessions.demo.ann";

struct Rig {
    _server: TestBroker,
    broker: Broker,
    account: AccountId,
    key: Arc<FleetKey>,
}

impl Rig {
    async fn start() -> Self {
        let server = TestBroker::start();
        ensure_streams(&connect(&server.url(), "master").await, 1).await.unwrap();
        let broker = connect(&server.url(), "worker").await;
        Self { _server: server, broker, account: "demo.ann".parse().unwrap(), key: key() }
    }

    fn sealed(&self, epoch: u64, name: &str) -> Bytes {
        seal_session(&self.key, &self.account, epoch, &state(name)).unwrap()
    }

    async fn save(&self, epoch: u64, sealed: &Bytes, expected: u64) -> Saved {
        save(&self.broker, &self.key, &self.account, epoch, sealed, expected).await.unwrap()
    }

    async fn put(&self, sealed: &Bytes) -> u64 {
        put_key(&self.broker, SUBJECT.into(), sealed.clone(), None).await.unwrap().seq
    }

    /// What is kept, newest first, with its epoch; `None` for what does not open.
    async fn kept(&self) -> Vec<Option<(u64, SessionState)>> {
        let kept = load(&self.broker, &self.account).await.unwrap();
        kept.versions.iter().map(|(_, sealed)| open_session(&self.key, &self.account, sealed).ok()).collect()
    }

    fn task(&self, key: &Arc<FleetKey>, helm: &Helm) -> SessionTask {
        SessionTask {
            broker: self.broker.clone(),
            key: Arc::clone(key),
            account: self.account.clone(),
            steering: helm.steering(),
            stop: CancellationToken::new(),
        }
    }
}

async fn connect(url: &str, user: &str) -> Broker {
    let config = BrokerConfig {
        url: url.to_owned(),
        user: user.to_owned(),
        password: TestBroker::password(user).to_owned(),
        name: format!("test {user}"),
    };
    Broker::connect(&config, &CancellationToken::new()).await.unwrap()
}

fn key() -> Arc<FleetKey> {
    Arc::new(FleetKey::parse(&new_key().unwrap(), "the test's").unwrap())
}

fn state(name: &str) -> SessionState {
    let mut state = SessionState::default();
    state.local.insert("https://a.example".into(), format!("[[\"name\",\"{name}\"]]"));
    state
}

fn helm(epoch: Option<u64>) -> Helm {
    let helm = Helm::new(Gate::always_open());
    helm.held(epoch.map(|epoch| (epoch, 1)));
    helm
}

#[tokio::test]
async fn three_sessions_are_kept_newest_first() {
    let rig = Rig::start().await;
    assert_eq!(load(&rig.broker, &rig.account).await.unwrap().last_seq, 0);
    let mut last = 0;
    for name in ["a", "b", "c", "d"] {
        match rig.save(3, &rig.sealed(3, name), last).await {
            Saved::Stored(seq) => last = seq,
            other => panic!("{other:?}"),
        }
    }
    let expected = ["d", "c", "b"].map(|name| Some((3, state(name))));
    assert_eq!(rig.kept().await, expected);
    assert_eq!(load(&rig.broker, &rig.account).await.unwrap().last_seq, last);
}

#[tokio::test]
async fn a_stale_worker_does_not_overwrite_a_later_session() {
    let rig = Rig::start().await;
    let first = rig.put(&rig.sealed(5, "old")).await;
    rig.put(&rig.sealed(7, "new")).await;
    assert_eq!(rig.save(5, &rig.sealed(5, "late"), first).await, Saved::Stale { epoch: 7 });
    assert_eq!(rig.kept().await[0], Some((7, state("new"))));
    // The later one writes on top of what an older holder wrote last.
    assert!(matches!(rig.save(8, &rig.sealed(8, "newest"), first).await, Saved::Stored(_)));
    assert_eq!(rig.kept().await[0], Some((8, state("newest"))));
}

#[tokio::test]
async fn a_save_whose_ack_was_lost_is_found_stored() {
    let rig = Rig::start().await;
    let sealed = rig.sealed(5, "a");
    let seq = rig.put(&sealed).await;
    assert_eq!(rig.save(5, &sealed, 0).await, Saved::Stored(seq));
    assert_eq!(rig.kept().await.len(), 1, "it was not stored twice");
}

#[tokio::test]
async fn a_deleted_session_does_not_come_back_in_the_same_tenure() {
    let rig = Rig::start().await;
    let seq = rig.put(&rig.sealed(5, "a")).await;
    purge_key(&rig.broker, SUBJECT.into(), None).await.unwrap();
    assert_eq!(rig.save(5, &rig.sealed(5, "b"), seq).await, Saved::Deleted);
    assert!(rig.kept().await.is_empty());
    // A later tenure has seen the deletion, and begins anew.
    let last = load(&rig.broker, &rig.account).await.unwrap().last_seq;
    assert!(matches!(rig.save(9, &rig.sealed(9, "c"), last).await, Saved::Stored(_)));
    assert_eq!(rig.kept().await, [Some((9, state("c")))]);
}

#[tokio::test]
async fn a_session_under_another_key_is_told_and_left_alone() {
    let rig = Rig::start().await;
    rig.put(&rig.sealed(5, "a")).await;
    let mistyped = key();
    let helm = helm(Some(6));
    let (exchange, keeper) = session::open(rig.task(&mistyped, &helm)).await.unwrap();
    assert_eq!(exchange.candidate(), None);
    let problem = exchange.problem().unwrap();
    assert!(problem.contains("demo.ann") && problem.contains(&mistyped.id().to_string()), "{problem}");
    exchange.export(state("b"));
    drop(exchange);
    keeper.run().await;
    assert_eq!(rig.kept().await, [Some((5, state("a")))]);
    // Nor when it appears later.
    let sealed = seal_session(&mistyped, &rig.account, 6, &state("b")).unwrap();
    let saved = save(&rig.broker, &mistyped, &rig.account, 6, &sealed, 0).await.unwrap();
    assert_eq!(saved, Saved::OtherKey(rig.key.id()));
    assert_eq!(rig.kept().await, [Some((5, state("a")))]);
}

#[tokio::test]
async fn a_corrupt_session_is_told_and_kept_and_the_one_before_is_tried() {
    let rig = Rig::start().await;
    rig.put(&rig.sealed(5, "a")).await;
    let mut broken = rig.sealed(6, "b").to_vec();
    *broken.last_mut().unwrap() ^= 1;
    rig.put(&broken.clone().into()).await;
    let helm = helm(Some(7));
    let (exchange, keeper) = session::open(rig.task(&rig.key, &helm)).await.unwrap();
    assert_eq!(*exchange.candidate().unwrap(), state("a"));
    let problem = exchange.problem().unwrap();
    assert!(problem.contains("corrupt") && problem.contains("remove it and add it again"), "{problem}");
    exchange.export(state("c"));
    drop(exchange);
    keeper.run().await;
    let kept = load(&rig.broker, &rig.account).await.unwrap();
    assert_eq!(kept.versions[1].1, broken, "it stays in the key's history");
    assert_eq!(rig.kept().await[0], Some((7, state("c"))));
}

#[tokio::test]
async fn what_the_pages_leave_is_stored_while_the_account_is_held() {
    let rig = Rig::start().await;
    let helm = helm(None);
    let (exchange, keeper) = session::open(rig.task(&rig.key, &helm)).await.unwrap();
    assert_eq!((exchange.candidate(), exchange.problem()), (None, None));
    let running = tokio::spawn(keeper.run());
    exchange.export(state("a"));
    // Long enough for two tries: nothing goes out while the account is not held.
    assert!(
        tokio::time::timeout(Duration::from_secs(2), async {
            while rig.kept().await.is_empty() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        })
        .await
        .is_err()
    );
    helm.held(Some((4, 1)));
    let stored = async |expected: Option<(u64, SessionState)>| {
        eventually(DEADLINE, "the state is stored", async || {
            (rig.kept().await.first() == Some(&expected)).then_some(())
        })
        .await;
    };
    stored(Some((4, state("a")))).await;
    exchange.export(state("b"));
    stored(Some((4, state("b")))).await;
    // A later holder wrote; ours is left out, until the account is ours again.
    rig.put(&rig.sealed(6, "theirs")).await;
    exchange.export(state("late"));
    tokio::task::yield_now().await;
    helm.held(Some((8, 1)));
    exchange.export(state("ours again"));
    stored(Some((8, state("ours again")))).await;
    // The last state is stored after the account was let go.
    exchange.export(state("last"));
    drop(exchange);
    helm.held(None);
    tokio::time::timeout(DEADLINE, running).await.unwrap().unwrap();
    assert_eq!(rig.kept().await[0], Some((8, state("last"))));
}

#[tokio::test]
async fn a_session_that_we_stored_on_top_of_is_offered_once_ours_has_ended() {
    let rig = Rig::start().await;
    let helm = helm(Some(4));
    let (exchange, keeper) = session::open(rig.task(&rig.key, &helm)).await.unwrap();
    let running = tokio::spawn(keeper.run());
    let offers = exchange.offers();
    let stored = async |name: &str| {
        eventually(DEADLINE, "the state is stored", async || {
            (rig.kept().await.first() == Some(&Some((4, state(name))))).then_some(())
        })
        .await;
    };
    exchange.note_login(true);
    exchange.export(state("a"));
    stored("a").await;
    // Somebody logs the account in elsewhere, which the pages have not noticed yet.
    rig.put(&rig.sealed(4, "by hand")).await;
    exchange.export(state("b"));
    stored("b").await;
    exchange.note_login(false);
    eventually(DEADLINE, "what was stored by hand is offered", async || {
        offers.has_changed().unwrap().then_some(())
    })
    .await;
    assert_eq!(*exchange.candidate().unwrap(), state("by hand"));
    // Nothing else was stored, so nothing is offered again.
    let again = async {
        while *offers.borrow() < 2 {
            tokio::time::sleep(Duration::from_millis(100)).await
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(12), again).await.is_err());
    drop(exchange);
    running.await.unwrap();
}
