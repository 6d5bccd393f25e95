//! One worker's life: started, watched, started again or given up; orders by hand; the end.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::config::WorkersConfig;
use super::history::{HEALTHY, History, START, Verdict};
use super::log::Log;
use super::process::{Process, in_words, kill_found};
use super::{Action, LastExit, Order, Supervised, SupervisedState};
use crate::api::{Live, now};

/// How long one that was killed may take to be gone: the kernel's work alone.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a running worker is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked whether the worker of a master that was killed has ended.
const FORERUNNER_EVERY: Duration = Duration::from_millis(250);

/// What comes next in its life.
enum Next {
    Start,
    Wait(Duration),
    Rest(SupervisedState),
    End,
}

/// One worker of ours.
pub(super) struct Worker {
    config: Arc<WorkersConfig>,
    state_dir: PathBuf,
    log: Log,
    history: History,
    shown: Supervised,
    live: Live,
    orders: mpsc::Receiver<Order>,
    shutdown: CancellationToken,
}

impl Worker {
    pub(super) fn new(
        name: String,
        config: Arc<WorkersConfig>,
        live: Live,
        orders: mpsc::Receiver<Order>,
        shutdown: CancellationToken,
    ) -> io::Result<Self> {
        let state_dir = config.dir.join(&name);
        // What is kept there is not for others.
        DirBuilder::new().recursive(true).mode(0o700).create(&state_dir)?;
        let path = state_dir.join("worker.log");
        let log = Log::rotated(path.clone())?;
        let shown = Supervised {
            name,
            state: SupervisedState::Waiting,
            since: now(),
            pid: None,
            restart_at: None,
            restarts: 0,
            failed_starts: 0,
            last_exit: None,
            log: path,
        };
        let history = History::default();
        let worker = Self { config, state_dir, log, history, shown, live, orders, shutdown };
        worker.tell();
        Ok(worker)
    }

    /// Keeps it going until told to shut down, and stops it then.
    pub(super) async fn run(mut self) {
        let mut next = self.outlive_forerunner().await;
        loop {
            next = match next {
                Next::Start => self.live().await,
                Next::Wait(pause) => self.wait(pause).await,
                Next::Rest(state) => self.rest(state).await,
                Next::End => return,
            };
        }
    }

    /// A master that was killed leaves workers that are still stopping in order. Starting beside them would fail. One
    /// that takes longer than a worker may is killed: nobody else would ever end it.
    async fn outlive_forerunner(&mut self) -> Next {
        let (worker, limit) = (self.shown.name.clone(), self.config.stop_timeout);
        let began = Instant::now();
        let mut killed = false;
        while let Some(pid) = self.forerunner(killed).await {
            if self.shown.pid != Some(pid) {
                tracing::info!(worker, pid, "waiting for the worker of a master before to end");
                self.shown.pid = Some(pid);
                self.tell();
            }
            if began.elapsed() >= limit + KILL_TIMEOUT {
                tracing::error!(
                    worker,
                    pid,
                    "a worker in this folder does not end; another is started all the same"
                );
                break;
            }
            if began.elapsed() >= limit && !killed {
                let limit_s = limit.as_secs();
                tracing::warn!(
                    worker,
                    pid,
                    limit_s,
                    "the worker of a master before did not stop in time; it is killed, unless somebody else started it"
                );
                killed = true;
            }
            tokio::select! {
                () = sleep(FORERUNNER_EVERY) => {}
                () = self.shutdown.cancelled() => return Next::End,
            }
        }
        self.shown.pid = None;
        self.tell();
        Next::Start
    }

    /// The process that a master before started for this worker; with `kill` it is killed as soon as it is found.
    async fn forerunner(&self, kill: bool) -> Option<u32> {
        let (dir, id) = (self.state_dir.clone(), self.config.worker_id(&self.shown.name));
        let found = tokio::task::spawn_blocking(move || {
            let pid = forerunner(&dir)?;
            // Somebody's own worker in this folder is waited for, and left alone.
            if kill && carries(pid, b"--worker-id", id.as_bytes()) {
                kill_found(pid);
            }
            Some(pid)
        });
        found.await.ok().flatten()
    }

    /// From a start to its end.
    async fn live(&mut self) -> Next {
        let log = match self.log.open() {
            Ok(log) => log,
            Err(error) => return self.died(format!("its log cannot be written: {error}"), Duration::ZERO),
        };
        let started = Instant::now();
        let mut process = match Process::start(&self.config, &self.shown.name, &self.state_dir, log).await {
            Ok(process) => process,
            Err(error) => return self.died(format!("it cannot be started: {error}"), Duration::ZERO),
        };
        let pid = process.pid();
        tracing::info!(worker = self.shown.name, pid, log = %self.shown.log.display(), "worker started");
        self.shown.pid = Some(pid);
        self.show(SupervisedState::Starting);
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let order = tokio::select! {
                status = process.exited() => return self.died(in_words(status), started.elapsed()),
                () = self.shutdown.cancelled() => {
                    self.end(process).await;
                    return Next::End;
                }
                _ = looks.tick() => {
                    self.look(started.elapsed());
                    continue;
                }
                Some(order) = self.orders.recv() => order,
            };
            let before = self.shown.state;
            if order.is_wanted() && order.action != Action::Start {
                self.show(SupervisedState::Stopping);
            }
            let action = match order.take() {
                Some(action @ (Action::Stop | Action::Restart)) => action,
                Some(Action::Start) | None => {
                    self.show(before);
                    continue;
                }
            };
            self.end(process).await;
            return match action {
                Action::Stop => Next::Rest(SupervisedState::Stopped),
                Action::Start | Action::Restart => Next::Start,
            };
        }
    }

    /// What shows while it runs.
    fn look(&mut self, lived: Duration) {
        if lived >= START && self.shown.state == SupervisedState::Starting {
            self.show(SupervisedState::Running);
        }
        if lived >= HEALTHY && self.history.failed_starts() > 0 {
            self.history.proven();
            self.shown.failed_starts = 0;
            self.tell();
        }
        if let Err(error) = self.log.bound() {
            tracing::debug!(worker = self.shown.name, %error, "its log cannot be looked at");
        }
    }

    /// It ended by itself, or did not even start.
    fn died(&mut self, how: String, lived: Duration) -> Next {
        let last_line = self.log.last_line();
        let verdict = self.history.died(lived);
        let worker = self.shown.name.as_str();
        let (lived_ms, said) = (lived.as_millis() as u64, last_line.as_deref().unwrap_or_default());
        match verdict {
            Verdict::Restart(pause) => {
                let pause_ms = pause.as_millis() as u64;
                tracing::warn!(worker, how, lived_ms, said, pause_ms, "worker died and is started again");
            }
            Verdict::GiveUp => {
                let deaths = self.history.failed_starts();
                tracing::error!(worker, how, lived_ms, said, deaths, "worker died at start and is given up");
            }
        }
        self.shown.pid = None;
        self.shown.failed_starts = self.history.failed_starts();
        self.shown.last_exit = Some(LastExit { at: now(), how, lived_ms, last_line });
        match verdict {
            Verdict::Restart(pause) => Next::Wait(pause),
            Verdict::GiveUp => Next::Rest(SupervisedState::GivenUp),
        }
    }

    /// Until its pause is over.
    async fn wait(&mut self, pause: Duration) -> Next {
        let at = now().0.saturating_add(i64::try_from(pause.as_millis()).unwrap_or(i64::MAX));
        self.shown.restart_at = Some(snapfleet_protocol::UnixMs(at));
        self.show(SupervisedState::Waiting);
        let ended = tokio::select! {
            () = sleep(pause) => {
                self.shown.restarts += 1;
                Next::Start
            }
            next = ordered(&mut self.orders, &self.shutdown) => next,
        };
        self.shown.restart_at = None;
        ended
    }

    /// Until somebody starts it.
    async fn rest(&mut self, state: SupervisedState) -> Next {
        self.shown.pid = None;
        self.show(state);
        loop {
            match ordered(&mut self.orders, &self.shutdown).await {
                // What is not running stays so; one that was given up is still shown as that.
                Next::Rest(_) => {}
                next => return next,
            }
        }
    }

    /// Stops it in order, or kills it.
    async fn end(&mut self, mut process: Process) {
        self.show(SupervisedState::Stopping);
        process.terminate();
        let limit = self.config.stop_timeout;
        if timeout(limit, process.exited()).await.is_err() {
            let (worker, limit_s) = (self.shown.name.as_str(), limit.as_secs());
            tracing::warn!(worker, pid = process.pid(), limit_s, "worker did not stop in time and is killed");
            process.kill();
            if timeout(KILL_TIMEOUT, process.exited()).await.is_err() {
                tracing::error!(worker, pid = process.pid(), "worker cannot be killed");
            }
        }
        tracing::info!(worker = self.shown.name, "worker stopped");
        self.shown.pid = None;
        self.show(SupervisedState::Stopped);
    }

    fn show(&mut self, state: SupervisedState) {
        if self.shown.state != state {
            (self.shown.state, self.shown.since) = (state, now());
        }
        self.tell();
    }

    fn tell(&self) {
        let shown = self.shown.clone();
        self.live.note(|moment| drop(moment.supervised.insert(shown.name.clone(), shown)));
    }
}

/// What an order makes of a worker that does not run.
async fn ordered(orders: &mut mpsc::Receiver<Order>, shutdown: &CancellationToken) -> Next {
    loop {
        let order = tokio::select! {
            () = shutdown.cancelled() => return Next::End,
            Some(order) = orders.recv() => order,
        };
        match order.take() {
            Some(Action::Start | Action::Restart) => return Next::Start,
            Some(Action::Stop) => return Next::Rest(SupervisedState::Stopped),
            None => {}
        }
    }
}

/// A process that was started for this folder, by its command line.
fn forerunner(state_dir: &Path) -> Option<u32> {
    let asked = state_dir.as_os_str().as_encoded_bytes();
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let mut processes = processes.filter_map(|process| process.file_name().to_str()?.parse::<u32>().ok());
    processes.find(|pid| carries(*pid, b"--state-dir", asked))
}

/// Whether a process was started with this flag and value.
fn carries(pid: u32, flag: &[u8], value: &[u8]) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let arguments: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
    arguments.windows(2).any(|pair| pair == [flag, value])
}
