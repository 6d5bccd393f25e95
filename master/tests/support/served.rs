//! The API called in-process over a real store that was filled as ingest fills it.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode, header};
use axum::response::Response;
use serde_json::Value;
use snapfleet_master::accounts::Configured;
use snapfleet_master::api::{ApiSettings, ApiState, Live, router};
use snapfleet_master::store::{DataStore, Delivery};
use snapfleet_protocol::{AccountConfig, AccountEntry, Snapshot};
use snapfleet_testkit::sample;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::batches;

/// A store, the API over it, and what the API is told of the moment.
pub(crate) struct Served {
    pub(crate) router: Router,
    pub(crate) store: DataStore,
    pub(crate) live: Live,
    pub(crate) shutdown: CancellationToken,
    pub(crate) applied: u64,
    _dir: TempDir,
}

impl Served {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = batches::open(dir.path());
        let (live, shutdown) = (Live::default(), CancellationToken::new());
        let settings = ApiSettings {
            started_at: sample::BASE,
            broker_url: "nats://broker.test:4222".to_owned(),
            loopback_only: true,
        };
        let router = router(ApiState::new(store.clone(), live.clone(), settings, shutdown.clone()));
        live.note(|moment| (moment.broker.connected, moment.workers.settled) = (true, true));
        Self { router, store, live, shutdown, applied: 0, _dir: dir }
    }

    pub(crate) async fn apply(&mut self, snapshot: &Snapshot) {
        self.deliver(batches::delivery(self.applied + 1, snapshot)).await;
    }

    pub(crate) async fn deliver(&mut self, delivery: Delivery) {
        self.store.apply(batches::batch(self.applied, vec![delivery])).await.unwrap();
        self.applied += 1;
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Response {
        self.router.clone().oneshot(request).await.unwrap()
    }

    pub(crate) async fn ask(&self, path: &str) -> (StatusCode, Value) {
        let response = self.send(request(path)).await;
        let status = response.status();
        let kind = response.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned();
        let is_problem = !status.is_success() && status != StatusCode::SERVICE_UNAVAILABLE;
        assert_eq!(kind, if is_problem { "application/problem+json" } else { "application/json" }, "{path}");
        (status, serde_json::from_slice(&body(response).await).unwrap())
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, answer) = self.ask(path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
        answer
    }

    /// All items of a list, turned page by page, each with the ids in their order.
    pub(crate) async fn walk(&self, path: &str) -> Vec<Value> {
        let mut items = Vec::new();
        let mut after = String::new();
        loop {
            let page = self.get(&format!("{path}{after}")).await;
            items.extend(page["items"].as_array().unwrap().iter().cloned());
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => return items,
            }
            assert!(items.len() < 10_000, "{path} does not end");
        }
    }
}

pub(crate) fn request(path: &str) -> Request<Body> {
    Request::get(path).header(header::HOST, "127.0.0.1:7070").body(Body::empty()).unwrap()
}

pub(crate) async fn body(response: Response) -> Bytes {
    axum::body::to_bytes(response.into_body(), 16 * 1024 * 1024).await.unwrap()
}

/// Two works, 25 comments, 3 conversations, and 23 messages in one of them.
pub(crate) fn inbox(account: &str) -> Snapshot {
    let mut snapshot = sample::snapshot(&sample::account(account), 1, 1);
    snapshot.contents = vec![sample::content(1), sample::content(2)];
    snapshot.comments = (1..=25).map(|n| sample::comment(1 + n % 2, n, &format!("comment {n}"))).collect();
    snapshot.conversations = (1..=3).map(sample::conversation).collect();
    snapshot.direct_messages =
        (1..=23).map(|n| sample::direct_message(1, n, &format!("message {n}"))).collect();
    snapshot
}

/// Puts an account among those that are to be captured, without a broker.
pub(crate) fn configure(served: &Served, account: &str, config: AccountConfig) {
    let entry = AccountEntry::Active(config);
    let configured = Configured { revision: 1, changed_at: Some(sample::BASE), entry };
    served.live.note(|moment| {
        moment.accounts.note(sample::account(account), configured);
        moment.accounts.note_complete();
    });
}

/// Served with two accounts of the same content.
pub(crate) async fn filled() -> Served {
    let mut served = Served::start();
    served.apply(&inbox("demo.a")).await;
    served.apply(&inbox("demo.b")).await;
    for account in ["demo.a", "demo.b"] {
        configure(&served, account, AccountConfig::default());
    }
    served
}
