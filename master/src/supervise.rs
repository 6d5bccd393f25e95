//! Workers on the master's own host: started, started again when they die, given up when they only die, and stopped
//! when the master stops.
//!
//! It knows of a worker that it is a program with a folder of its own; what workers do it does not know, and it
//! speaks with none. How each fares goes to [`Live`].

pub(crate) mod config;
mod history;
mod log;
mod process;
mod worker;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use snapfleet_protocol::UnixMs;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::Live;

pub use config::{WORKERS_MAX, WorkersArgs, WorkersConfig, WorkersConfigError};
pub use history::FAILED_STARTS_MAX;

/// Orders that wait for one worker.
const ORDERS_MAX: usize = 4;
/// How long an order may wait until it is taken up: a worker that stops takes none meanwhile.
const ORDER_TIMEOUT: Duration = Duration::from_secs(2);

/// How a worker of ours fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SupervisedState {
    /// Its process runs since a moment.
    Starting,
    /// Its process runs.
    Running,
    /// It is started when its pause is over, or its forerunner has ended.
    Waiting,
    /// It was told to stop and has not yet.
    Stopping,
    /// It was stopped by hand.
    Stopped,
    /// It died at start time after time, and is started by hand only.
    GivenUp,
}

/// A worker of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Supervised {
    /// What it is called here, such as `worker-1`.
    pub name: String,
    /// How it fares.
    pub state: SupervisedState,
    /// Since when.
    pub since: UnixMs,
    /// Its process, while it has one; while it waits, its forerunner that has not ended yet.
    pub pid: Option<u32>,
    /// When it is started again.
    pub restart_at: Option<UnixMs>,
    /// How often it was started again because it had died.
    pub restarts: u64,
    /// Deaths at start since it was last proven to be healthy.
    pub failed_starts: u32,
    /// How it last ended by itself.
    pub last_exit: Option<LastExit>,
    /// Where its output is.
    pub log: PathBuf,
}

/// An end that nobody ordered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastExit {
    /// When.
    pub at: UnixMs,
    /// How, such as `exit code 1` or `signal 9`.
    pub how: String,
    /// How long it had lived, in milliseconds.
    pub lived_ms: u64,
    /// The last line that it wrote.
    pub last_line: Option<String>,
}

impl LastExit {
    /// How, after how long, and with which words.
    #[must_use]
    pub fn in_words(&self) -> String {
        let said = self.last_line.as_ref().map(|line| format!("; it last said: {line}"));
        let seconds = self.lived_ms as f64 / 1_000.0;
        format!("{} after {seconds:.1} s{}", self.how, said.unwrap_or_default())
    }
}

/// What can be asked of a worker by hand. What is so already is left as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Run.
    Start,
    /// Stop in order, and stay so.
    Stop,
    /// Stop in order if it runs, then run.
    Restart,
}

/// An action and whom to tell that it was taken up.
struct Order {
    action: Action,
    taken: oneshot::Sender<()>,
}

impl Order {
    /// Whether somebody still waits for it. One whose asker was told to try again must not be carried out later.
    fn is_wanted(&self) -> bool {
        !self.taken.is_closed()
    }

    /// Tells that it is taken up; `None` where nobody waits for that any more.
    fn take(self) -> Option<Action> {
        self.taken.send(()).ok().map(|()| self.action)
    }
}

/// Why an order was not taken up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// There is no such worker here.
    #[error("no worker {name:?} is started by this master{}", named(.known))]
    Unknown {
        /// What was asked for.
        name: String,
        /// Those that are.
        known: Vec<String>,
    },
    /// It is stopping, or the master is.
    #[error("{0} is about to stop: try again in a moment")]
    Busy(String),
}

fn named(known: &[String]) -> String {
    if known.is_empty() {
        return ": start it with --workers N".to_owned();
    }
    format!("; there are: {}", known.join(", "))
}

/// Gives orders to the workers that [`Supervisor::start`] started. Clones give to the same.
#[derive(Clone)]
pub struct Supervisor {
    orders: Arc<BTreeMap<String, mpsc::Sender<Order>>>,
    tasks: TaskTracker,
    /// Held for as long as this lives: two masters must not share the folder.
    _lock: Arc<File>,
}

impl Supervisor {
    /// Starts the workers, and keeps them going until `shutdown`. How each fares is kept in `live`.
    ///
    /// # Errors
    /// [`WorkersConfigError::Dir`] where their folder cannot be used or another master has it.
    pub fn start(
        mut config: WorkersConfig,
        live: &Live,
        shutdown: &CancellationToken,
    ) -> Result<Self, WorkersConfigError> {
        let dir = config.dir.clone();
        let failed = |reason: String| WorkersConfigError::Dir { dir: dir.clone(), reason };
        std::fs::create_dir_all(&dir).map_err(|error| failed(error.to_string()))?;
        config.dir = dir.canonicalize().map_err(|error| failed(error.to_string()))?;
        let path = config.dir.join("lock");
        let lock = File::options().write(true).create(true).truncate(false).open(path);
        let lock = lock.map_err(|error| failed(error.to_string()))?;
        if lock.try_lock().is_err() {
            return Err(failed("another master uses it: give each its own".to_owned()));
        }
        let config = Arc::new(config);
        let tasks = TaskTracker::new();
        let mut orders = BTreeMap::new();
        for number in 1..=config.count {
            let name = format!("worker-{number}");
            let (sender, receiver) = mpsc::channel(ORDERS_MAX);
            let worker =
                worker::Worker::new(name.clone(), config.clone(), live.clone(), receiver, shutdown.clone())
                    .map_err(|error| failed(error.to_string()))?;
            tasks.spawn(worker.run());
            orders.insert(name, sender);
        }
        tasks.close();
        Ok(Self { orders: Arc::new(orders), tasks, _lock: Arc::new(lock) })
    }

    /// Returns once every worker has ended after `shutdown`; that takes little more than
    /// [`WorkersConfig::stop_timeout`] at most.
    pub async fn ended(&self) {
        self.tasks.wait().await;
    }

    /// Orders a worker to do something; returns once that is taken up.
    ///
    /// # Errors
    /// [`OrderError`].
    pub async fn order(&self, name: &str, action: Action) -> Result<(), OrderError> {
        let Some(worker) = self.orders.get(name) else {
            let known = self.orders.keys().cloned().collect();
            return Err(OrderError::Unknown { name: name.chars().take(80).collect(), known });
        };
        let busy = || OrderError::Busy(name.to_owned());
        let (taken, mut told) = oneshot::channel();
        worker.try_send(Order { action, taken }).map_err(|_| busy())?;
        if let Ok(taken) = tokio::time::timeout(ORDER_TIMEOUT, &mut told).await {
            return taken.map_err(|_| busy());
        }
        // It may have been taken up in this very moment; from here on it cannot be any more.
        told.close();
        told.try_recv().map_err(|_| busy())
    }
}
