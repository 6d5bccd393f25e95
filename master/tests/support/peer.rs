//! A running master with a broker of its own, and what a worker would write there: heartbeats, what it holds, leases.

use std::time::Duration;

use serde_json::{Value, json};
use snapfleet_broker::{Broker, BrokerConfig, Outgoing, last_at_leader, publish, put_key};
use snapfleet_protocol::stream::{
    ACCOUNTS_PREFIX, ACCOUNTS_STREAM, HEARTBEAT_TTL_S, HELD_ACCOUNTS_KEY, LEASES_PREFIX, WORKERS_PREFIX,
};
use snapfleet_protocol::{
    AccountEntry, AccountHealth, AccountState, Heartbeat, HeldAccounts, InstanceId, Lease, PlatformName,
    Snapshot, Topic, UnixMs, WireVersion, WorkerId, encode_snapshot,
};
use snapfleet_testkit::{TestBroker, eventually, sample};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::running::Running;

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Rig {
    pub(crate) master: Running,
    pub(crate) worker: Broker,
    pub(crate) dir: TempDir,
    pub(crate) broker: TestBroker,
    pub(crate) http: reqwest::Client,
}

async fn connect(broker: &TestBroker, user: &str) -> Broker {
    let config = BrokerConfig {
        url: broker.url(),
        user: user.to_owned(),
        password: TestBroker::password(user).to_owned(),
        name: format!("test-{user}"),
    };
    Broker::connect(&config, &CancellationToken::new()).await.unwrap()
}

impl Rig {
    /// With the master connected, and no worker online.
    pub(crate) async fn start() -> Self {
        Self::logging("debug,async_nats=off").await
    }

    /// As [`Rig::start`], with what the master is to log.
    pub(crate) async fn logging(what: &str) -> Self {
        let broker = TestBroker::start();
        let dir = tempfile::tempdir().unwrap();
        let master = Running::start(dir.path(), |command| {
            command.args(["--nats-url", &broker.url(), "--log", what]);
            command.env("SNAPFLEET_NATS_PASSWORD", TestBroker::password("master"));
        });
        let worker = connect(&broker, "worker").await;
        let rig = Self { master, worker, dir, broker, http: reqwest::Client::new() };
        let ready = eventually(PATIENCE, "the master reaches the broker", async || {
            let ready = rig.post("accounts/demo.none/pause", json!({})).await.0 == 404;
            ready.then_some(())
        });
        ready.await;
        rig
    }

    pub(crate) async fn as_master(&self) -> Broker {
        connect(&self.broker, "master").await
    }

    /// Asks the master until its answer is as `wanted`.
    pub(crate) async fn until(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let last = std::sync::Mutex::new(None);
        let looking = eventually(PATIENCE, path, async || {
            let answer = self.master.get(path).await;
            last.lock().unwrap().clone_from(&answer);
            answer.filter(&wanted)
        });
        let outer = PATIENCE - std::time::Duration::from_secs(1);
        match tokio::time::timeout(outer, looking).await {
            Ok(answer) => answer,
            Err(_) => panic!("{path} is not as wanted: {last:?}; log: {}", self.log()),
        }
    }

    /// Publishes a snapshot as a worker does; its stream sequence.
    pub(crate) async fn publish(&self, snapshot: &Snapshot) -> u64 {
        let outgoing = Outgoing {
            subject: Topic::Snapshot.subject(&snapshot.account_id()),
            payload: encode_snapshot(snapshot).unwrap().into(),
            message_id: Some(snapshot.id().to_string()),
            expected_last: None,
            ttl_s: None,
            headers: vec![(WireVersion::HEADER, WireVersion::CURRENT.as_str().to_owned())],
        };
        publish(&self.worker, &outgoing).await.unwrap().seq
    }

    /// Sends a changing request; the status and the answer.
    pub(crate) async fn send(&self, method: reqwest::Method, path: &str, body: Value) -> (u16, Value) {
        let url = format!("{}/api/v1/{path}", self.master.url);
        let answer = self.http.request(method, url).json(&body).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.send(reqwest::Method::POST, path, body).await
    }

    /// What the bucket says of an account.
    pub(crate) async fn entry(&self, account: &str) -> Option<AccountEntry> {
        let (master, key) = (self.as_master().await, format!("{ACCOUNTS_PREFIX}{account}"));
        last_at_leader(&master, ACCOUNTS_STREAM, &key)
            .await
            .unwrap()
            .map(|stored| serde_json::from_slice(&stored.payload).unwrap())
    }

    /// The master's log up to now.
    pub(crate) fn log(&self) -> String {
        self.master.process.log()
    }

    /// Keeps a heartbeat alive until the handle is dropped, and has waited for the master to see it.
    pub(crate) async fn beats(&self, heartbeat: Heartbeat) -> AbortOnDropHandle<()> {
        let (worker, beat) = (self.worker.clone(), heartbeat.clone());
        let beating = tokio::spawn(async move {
            loop {
                let key = format!("{WORKERS_PREFIX}{}", beat.instance);
                write(&worker, key, serde_json::to_vec(&beat).unwrap()).await;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let seen = |status: &Value| {
            let mut list = status["workers"]["list"].as_array().unwrap().iter();
            list.any(|worker| {
                worker["instance"] == json!(heartbeat.instance)
                    && worker["holding"] == json!(heartbeat.holding)
            })
        };
        self.until("status", seen).await;
        AbortOnDropHandle::new(beating)
    }

    /// Says once that an instance holds an account which fares so.
    pub(crate) async fn holds(
        &self,
        instance: &str,
        account: &str,
        state: AccountState,
        reason: Option<&str>,
    ) {
        let health = AccountHealth {
            account: sample::account(account),
            state,
            since: UnixMs(5),
            reason: reason.map(str::to_owned),
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
        };
        let instance = InstanceId::parse(instance).unwrap();
        let held = HeldAccounts { instance: instance.clone(), at: UnixMs(6), accounts: vec![health] };
        let key = format!("{WORKERS_PREFIX}{instance}.{HELD_ACCOUNTS_KEY}");
        write(&self.worker, key, serde_json::to_vec(&held).unwrap()).await;
    }

    pub(crate) async fn leases(&self, instance: &str, account: &str) {
        let lease = Lease {
            instance: InstanceId::parse(instance).unwrap(),
            worker: WorkerId::parse("w").unwrap(),
            at: UnixMs(7),
        };
        let json = serde_json::to_vec(&lease).unwrap();
        put_key(&self.worker, format!("{LEASES_PREFIX}{account}"), json.into(), None).await.unwrap();
    }
}

async fn write(worker: &Broker, subject: String, payload: Vec<u8>) {
    let outgoing = Outgoing {
        subject,
        payload: payload.into(),
        message_id: None,
        expected_last: None,
        ttl_s: Some(HEARTBEAT_TTL_S),
        headers: Vec::new(),
    };
    publish(worker, &outgoing).await.unwrap();
}

/// A worker that knows platform demo and has room for two.
pub(crate) fn heartbeat(instance: &str) -> Heartbeat {
    Heartbeat {
        host: "host-1".to_owned(),
        platforms: vec![PlatformName::parse("demo").unwrap()],
        max_accounts: 2,
        ..Heartbeat::new(InstanceId::parse(instance).unwrap(), WorkerId::parse("w").unwrap())
    }
}
