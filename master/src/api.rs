//! What other programs and people read: JSON under `/api/v1`, live changes, and the inbox page.
//!
//! It reads from the store through one query per request, and from [`Live`] what is known of the moment; it changes
//! accounts by way of [`Accounts`], never the store. It knows neither the broker nor the stream, and owns no
//! listener: [`router`] is called in-process by tests.

mod accounts;
mod ask;
mod body;
mod changes;
mod condition;
mod configure;
mod dead_letters;
mod erasures;
mod error;
mod events;
mod guard;
mod health;
mod live;
mod login;
mod page;
mod params;
mod problems;
mod records;
pub mod replicas;
pub mod status;
pub mod view;
pub mod workers;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{delete, get, post};
use snapfleet_protocol::fleet::{PAIRS_MAX, VALUE_BYTES_MAX};
use snapfleet_protocol::{ReaderName, UnixMs};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::accounts::Accounts;
use crate::replica::Registry;
use crate::store::DataStore;
use crate::supervise::Supervisor;

pub(crate) use changes::page as change_page;
pub use condition::Condition;
pub(crate) use dead_letters::{LIMIT_MAX as DEAD_LETTERS_PAGE_MAX, hex, page as dead_letter_page};
pub use error::ApiError;
pub use live::{BrokerLink, Endings, HeldBack, Intake, Live, Moment, PendingPurge, Workers};
pub(crate) use problems::state_words;
pub use problems::{ProblemCode, ProblemView};

/// Live clients at once; each costs at most one read and one page of changes of memory.
const EVENT_CLIENTS_MAX: usize = 256;
/// Most that is asked here has no body to speak of.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// An account with as many labels and settings as it may have, each character of which may be written as two.
const ACCOUNT_BYTES_MAX: usize = 2 * 2 * PAIRS_MAX * (VALUE_BYTES_MAX + 128);

/// What the handlers share. Clones share it.
#[derive(Clone)]
pub struct ApiState {
    store: DataStore,
    live: Live,
    settings: Arc<ApiSettings>,
    event_clients: Arc<Semaphore>,
    shutdown: CancellationToken,
    accounts: Accounts,
    supervisor: Option<Supervisor>,
    registry: Registry,
    replica: Option<ReaderName>,
}

/// What does not change while the master runs.
#[derive(Debug, Clone)]
pub struct ApiSettings {
    /// When the master started.
    pub started_at: UnixMs,
    /// The broker's address.
    pub broker_url: String,
    /// Whether only this machine can connect: then only its own names are answered.
    pub loopback_only: bool,
}

impl ApiState {
    /// `shutdown` ends the streams of live clients.
    #[must_use]
    pub fn new(store: DataStore, live: Live, settings: ApiSettings, shutdown: CancellationToken) -> Self {
        let event_clients = Arc::new(Semaphore::new(EVENT_CLIENTS_MAX));
        Self {
            store,
            live,
            settings: Arc::new(settings),
            event_clients,
            shutdown,
            accounts: Accounts::default(),
            supervisor: None,
            registry: Registry::default(),
            replica: None,
        }
    }

    /// Changes accounts by way of `accounts`, whose view must be the one of `live`.
    #[must_use]
    pub fn with_accounts(self, accounts: Accounts) -> Self {
        Self { accounts, ..self }
    }

    /// Gives orders to the workers that this master starts, where it starts any.
    #[must_use]
    pub fn with_supervisor(self, supervisor: Option<Supervisor>) -> Self {
        Self { supervisor, ..self }
    }

    /// Drops replicas by way of `registry`.
    #[must_use]
    pub fn with_registry(self, registry: Registry) -> Self {
        Self { registry, ..self }
    }

    /// Where there is a name, this is that replica and answers reading requests only.
    #[must_use]
    pub fn as_replica(self, replica: Option<ReaderName>) -> Self {
        Self { replica, ..self }
    }

    fn loopback_only(&self) -> bool {
        self.settings.loopback_only
    }
}

/// All routes.
pub fn router(state: ApiState) -> Router {
    let settings = || DefaultBodyLimit::max(ACCOUNT_BYTES_MAX);
    let v1 = Router::new()
        .route("/healthz", get(health::healthz))
        .route("/status", get(status::get_status))
        .route("/accounts", get(accounts::list).post(configure::add).layer(settings()))
        .route(
            "/accounts/{account}",
            get(accounts::show).put(configure::set).delete(configure::remove).layer(settings()),
        )
        .route("/accounts/{account}/pause", post(configure::pause))
        .route("/accounts/{account}/resume", post(configure::resume))
        .route("/accounts/{account}/erase", post(configure::erase))
        .route("/accounts/{account}/persons/erase", post(configure::erase_person))
        .route("/accounts/{account}/sync", post(configure::sync))
        .route("/accounts/{account}/login", get(login::look).post(login::input).delete(login::end))
        .route("/accounts/{account}/conversations", get(records::conversations))
        .route("/accounts/{account}/threads", get(accounts::threads))
        .route("/conversations/{conversation}", get(records::conversation))
        .route("/conversations/{conversation}/messages", get(records::messages))
        .route("/contents", get(records::contents))
        .route("/contents/{content}", get(records::content))
        .route("/comments", get(records::comments))
        .route("/notifications", get(records::notifications))
        .route("/changes", get(changes::list))
        .route("/events", get(events::stream))
        .route("/dead-letters", get(dead_letters::list))
        .route("/workers", get(workers::list))
        .route("/workers/{name}/{action}", post(workers::act))
        .route("/replicas", get(replicas::list))
        .route("/replicas/{name}", delete(replicas::remove));
    Router::new()
        .nest("/api/v1", v1)
        .route("/healthz", get(health::healthz))
        .merge(page::routes())
        .fallback(async |uri: axum::http::Uri| {
            ApiError::NotFound(format!("nothing at {}", uri.path().chars().take(200).collect::<String>()))
        })
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(state.clone(), replicas::read_only))
        .layer(from_fn_with_state(state.clone(), guard::guard))
        .with_state(state)
}

/// The time by this machine's clock.
pub(crate) fn now() -> UnixMs {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    UnixMs(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
