//! The master's half of the line: deliver, decode, apply, query, render. [`run`] is the whole of it.
//!
//! `ingest` only writes to the store, `api` and `cli` only read from it, and the store knows none of them. HTTP is
//! served from the first moment on, so that an operator sees why nothing arrives; reading the stream starts
//! once the broker is reached.

pub mod accounts;
pub mod api;
pub mod cli;
pub mod config;
pub mod erase;
pub mod fleet;
pub mod ingest;
mod observe;
pub mod replica;
mod rival;
pub mod store;
pub mod supervise;

use std::net::SocketAddr;
use std::sync::Arc;

use snapfleet_broker::{Broker, COPIES_SAFE, ConnectError, StreamError, ensure_streams};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use accounts::Accounts;
use api::{ApiSettings, ApiState, Live};
use config::Config;
use erase::Follower;
use fleet::Fleet;
use ingest::{IngestLimits, IngestState};
use replica::Registry;
use store::{DataStore, StoreError};
use supervise::{Supervisor, WorkersConfigError};

/// Why the master did not start or had to stop. Each is one line that names the thing and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The address to serve on cannot be had.
    #[error("cannot serve on {address} ({reason}): stop what listens there, or give another --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        reason: String,
    },
    /// The store cannot be opened or cannot go on.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The broker refuses us.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The broker's streams are not as they must be.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The workers of this host cannot be started.
    #[error(transparent)]
    Workers(#[from] WorkersConfigError),
    /// The password of the broker's user is empty.
    #[error("SNAPFLEET_NATS_PASSWORD is not set: give the password of the broker's user")]
    NoPassword,
    /// Serving broke down.
    #[error("serving on {address} broke down ({reason}): restart the master")]
    Serve {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        reason: String,
    },
}

impl RunError {
    /// The process's exit code: 64 for a setting that cannot be, else 1.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            RunError::NoPassword | RunError::Workers(_) | RunError::Connect(ConnectError::Address { .. }) => {
                64
            }
            _ => 1,
        }
    }
}

/// Binds, opens the store, and keeps going until `shutdown`.
///
/// # Errors
/// [`RunError`]: what is wrong with address or store is found before anything starts.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), RunError> {
    Master::bind(config).await?.run(shutdown).await
}

/// A master that has its address and its store, and does nothing yet.
pub struct Master {
    config: Config,
    listener: TcpListener,
    address: SocketAddr,
    store: DataStore,
}

impl Master {
    /// Checks how the broker is to be reached, takes the address, and opens or creates the store.
    ///
    /// # Errors
    /// [`RunError::Connect`] for a broker's address with a user or password in it, which would be logged and shown;
    /// [`RunError::NoPassword`], [`RunError::Listen`] or [`RunError::Store`].
    pub async fn bind(config: Config) -> Result<Self, RunError> {
        config.broker.check_address()?;
        if config.broker.password.is_empty() {
            return Err(RunError::NoPassword);
        }
        let failed =
            |error: std::io::Error| RunError::Listen { address: config.listen, reason: error.to_string() };
        let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (path, options) = (config.store.clone(), config.store_options.clone());
        let opened = tokio::task::spawn_blocking(move || {
            if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
                let made = std::fs::create_dir_all(dir);
                made.map_err(|error| StoreError::Open { path: path.clone(), reason: error.to_string() })?;
            }
            DataStore::open(&path, options)
        });
        let store = opened.await.map_err(|error| StoreError::Database(error.to_string()))??;
        tracing::info!(store.path = %config.store.display(), "store is open");
        Ok(Self { config, listener, address, store })
    }

    /// Where it serves; with port 0 in the settings, the port that was taken.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves, reads the stream, and stops in order: first the stream, then HTTP, then the store.
    ///
    /// # Errors
    /// [`RunError`] for what waiting does not mend.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), RunError> {
        let Self { config, listener, address, store } = self;
        let live = Live::default();
        let accounts = Accounts::new(live.moment().accounts);
        live.note(|moment| moment.broker.since = Some(api::now()));
        let settings = ApiSettings {
            started_at: api::now(),
            broker_url: config.broker.url.clone(),
            loopback_only: address.ip().is_loopback(),
        };
        let stop_serving = CancellationToken::new();
        let (registry, stop_workers) = (Registry::default(), shutdown.child_token());
        let workers = config.workers.clone();
        let supervisor =
            workers.map(|workers| Supervisor::start(workers, &live, &stop_workers)).transpose()?;
        let state = ApiState::new(store.clone(), live.clone(), settings, stop_serving.clone())
            .with_accounts(accounts.clone())
            .with_registry(registry.clone())
            .with_supervisor(supervisor.clone())
            .as_replica(config.replica.clone());
        let router = api::router(state);
        let graceful = stop_serving.clone();
        let mut serving = tokio::spawn(async move {
            axum::serve(listener, router).with_graceful_shutdown(graceful.cancelled_owned()).await
        });
        tracing::info!(url = %format!("http://{address}"), "serving");
        let served = |ended: Result<std::io::Result<()>, tokio::task::JoinError>| match ended {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(RunError::Serve { address, reason: error.to_string() }),
            Err(error) => Err(RunError::Serve { address, reason: error.to_string() }),
        };
        let stop_reading = shutdown.child_token();
        let mut ended = tokio::select! {
            ended = read_stream(&config, &store, &live, &accounts, &registry, &stop_reading) => ended,
            ended = &mut serving => served(ended),
        };
        tracing::info!("stopping");
        stop_reading.cancel();
        stop_workers.cancel();
        stop_serving.cancel();
        if !serving.is_finished() {
            match tokio::time::timeout(config.grace, &mut serving).await {
                Ok(stopped) => ended = ended.and(served(stopped)),
                Err(_) => {
                    tracing::warn!("clients did not leave in time; their connections are cut");
                    serving.abort();
                }
            }
        }
        if let Some(supervisor) = supervisor {
            supervisor.ended().await;
        }
        if tokio::time::timeout(config.grace, store.close()).await.is_err() {
            tracing::warn!("the store did not close in time; its file is repaired at the next start");
        }
        tracing::info!("stopped");
        ended
    }
}

/// Connects, and applies what the stream holds until `shutdown`.
async fn read_stream(
    config: &Config,
    store: &DataStore,
    live: &Live,
    accounts: &Accounts,
    registry: &Registry,
    shutdown: &CancellationToken,
) -> Result<(), RunError> {
    let broker = match Broker::connect(&config.broker, shutdown).await {
        Ok(broker) => broker,
        Err(ConnectError::Stopped { .. }) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    // A replica has no right to make them: its ingest waits until the master has.
    if config.replica.is_none() && !streams_stand(&broker, config.stream_copies, live, shutdown).await? {
        return Ok(());
    }
    let ingest_state = Arc::new(IngestState::default());
    let (fleet, seen) = watch::channel(Fleet::default());
    let beside = TaskTracker::new();
    beside.spawn(fleet::run(broker.clone(), fleet, shutdown.clone()));
    let writes = config.replica.is_none();
    if writes {
        accounts.reached(broker.clone());
        beside.spawn(rival::run(broker.clone(), live.clone(), shutdown.clone()));
    }
    beside.spawn(accounts.clone().follow(broker.clone(), seen.clone(), writes, shutdown.clone()));
    let observing = observe::run(broker.clone(), seen, ingest_state.clone(), live.clone(), shutdown.clone());
    beside.spawn(observing);
    registry.reached(&broker);
    beside.spawn(replica::watch(broker.clone(), live.clone(), shutdown.clone()));
    if let Some(name) = &config.replica {
        let (broker, store, live) = (broker.clone(), store.clone(), live.clone());
        beside.spawn(replica::report::run(name.clone(), broker, store, live, shutdown.clone()));
    }
    let mut follower = Follower::new(broker.clone(), store.clone(), live.clone(), writes);
    // Nothing is taken from the stream before it is known what must not be.
    if !follower.first_look(shutdown).await {
        return Ok(());
    }
    beside.spawn(follower.run(shutdown.clone()));
    beside.close();
    let limits = IngestLimits::default();
    let overdue = async {
        shutdown.cancelled().await;
        tokio::time::sleep(config.grace).await;
    };
    let ended = tokio::select! {
        ended = ingest::run(store.clone(), broker, limits, shutdown.clone(), ingest_state) => ended,
        () = overdue => {
            tracing::warn!("the batch at hand was not finished in time; it is read again at the next start");
            Ok(())
        }
    };
    shutdown.cancel();
    if tokio::time::timeout(config.grace, beside.wait()).await.is_err() {
        tracing::warn!("watching broker and workers did not end in time");
    }
    ended.map_err(RunError::Store)
}

/// Creates or checks the streams; false when told to stop. A refusal ends the start, while a connection that
/// was lost meanwhile is waited for.
async fn streams_stand(
    broker: &Broker,
    copies: usize,
    live: &Live,
    shutdown: &CancellationToken,
) -> Result<bool, StreamError> {
    let mut connections = broker.connections();
    loop {
        connections.borrow_and_update();
        let made = tokio::select! {
            made = ensure_streams(broker, copies) => made,
            () = shutdown.cancelled() => return Ok(false),
        };
        let lost = !broker.is_connected() || connections.has_changed().unwrap_or(false);
        match made {
            Ok(copies) => {
                note_copies(broker, copies, live);
                return Ok(true);
            }
            Err(error) if !lost => return Err(error),
            Err(error) => tracing::warn!(%error, "the connection was lost while the streams were checked"),
        }
        if !broker.is_connected() {
            tokio::select! {
                changed = connections.changed() => if changed.is_err() { return Ok(false) },
                () = shutdown.cancelled() => return Ok(false),
            }
        }
    }
}

/// In a cluster that keeps too few copies, the death of the wrong node stops everything, or loses what was acked.
fn note_copies(broker: &Broker, copies: usize, live: &Live) {
    let Some(cluster) = broker.cluster().filter(|_| copies < COPIES_SAFE) else { return };
    tracing::warn!(cluster, copies, "the cluster keeps too few copies: start the master with --replicas 3");
    live.note(|moment| moment.broker.copies_few = Some(copies));
}

/// This host's name; empty where it has none.
pub(crate) fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}
