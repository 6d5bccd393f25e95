//! One worker process: spawned so that it ends when the master does, however the master ends; told to stop, reaped,
//! and killed with what it started. It knows nothing of restarts.
//!
//! `setpriv --pdeathsig TERM` ties its life to the *thread* that spawned it, so that thread is one of its own, which
//! waits for the process and ends with it. The process leads a group of its own: a Ctrl-C in the terminal reaches
//! the master alone, which then stops its workers in order.

use std::fs::File;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getpgid, kill_process, kill_process_group, waitid,
};
use tokio::sync::{oneshot, watch};

use super::config::WorkersConfig;

/// Does not start the worker if the master died before the tie was made: then nobody would end it.
const STILL_TIED: &str = r#"[ "$PPID" = "$0" ] && exec "$@""#;

/// Everything of the environment that could hold a password of the broker's users begins with this.
const SECRETS_PREFIX: &str = "SNAPFLEET_NATS_";

/// A running worker, killed with what it started when this is dropped.
#[derive(Debug)]
pub(super) struct Process {
    pid: Pid,
    reaped: Arc<Mutex<bool>>,
    exited: watch::Receiver<Option<ExitStatus>>,
}

impl Process {
    /// Starts worker `name`, whose state is kept in `state_dir`, with its output in `log`.
    ///
    /// # Errors
    /// Where the process cannot be made. That its program cannot be run shows as an exit with 126 or 127.
    pub(super) async fn start(
        config: &WorkersConfig,
        name: &str,
        state_dir: &Path,
        log: File,
    ) -> io::Result<Self> {
        let mut command = command(config, name, state_dir, log)?;
        let (sender, receiver) = oneshot::channel();
        let (exit, exited) = watch::channel(None);
        let reaped = Arc::new(Mutex::new(false));
        let thread_reaped = Arc::clone(&reaped);
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let mut child = match command.spawn() {
                Ok(child) => child,
                Err(error) => return drop(sender.send(Err(error))),
            };
            let pid = Pid::from_child(&child);
            if sender.send(Ok(pid)).is_err() {
                // Nobody waits for it any more.
                kill_group(pid);
            }
            // First seen dead, then the rest of its group killed, and only then reaped: until that its id is its own.
            while let Err(rustix::io::Errno::INTR) =
                waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
            {}
            kill_group(pid);
            let mut reaped = thread_reaped.lock().unwrap_or_else(PoisonError::into_inner);
            let status = child.wait().unwrap_or_default();
            *reaped = true;
            exit.send_replace(Some(status));
        })?;
        let pid = receiver.await.map_err(|_| io::Error::other("the thread that spawns it ended early"))??;
        Ok(Self { pid, reaped, exited })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Returns once the process is gone and reaped. May be dropped while it waits.
    pub(super) async fn exited(&mut self) -> ExitStatus {
        match self.exited.wait_for(Option::is_some).await {
            Ok(status) => status.unwrap_or_default(),
            // The thread cannot end without having said so.
            Err(_) => ExitStatus::default(),
        }
    }

    /// Tells it to stop in order.
    pub(super) fn terminate(&self) {
        self.while_its_own(|pid| {
            // It fails only when the process is gone, which is what is wanted.
            let _ = kill_process(pid, Signal::TERM);
        });
    }

    /// Kills the process and its group.
    pub(super) fn kill(&self) {
        self.while_its_own(kill_group);
    }

    /// Under the lock the process cannot be reaped, so its id cannot belong to another one meanwhile.
    fn while_its_own(&self, act: impl FnOnce(Pid)) {
        let reaped = self.reaped.lock().unwrap_or_else(PoisonError::into_inner);
        if !*reaped {
            act(self.pid);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Kills a process that is none of ours, with its group if it leads one.
pub(super) fn kill_found(pid: u32) {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return };
    if getpgid(Some(pid)) == Ok(pid) {
        return kill_group(pid);
    }
    // It fails only when the process is gone, which is what is wanted.
    let _ = kill_process(pid, Signal::KILL);
}

fn kill_group(pid: Pid) {
    // It fails only when the group is gone, which is what is wanted.
    let _ = kill_process_group(pid, Signal::KILL);
}

fn command(config: &WorkersConfig, name: &str, state_dir: &Path, log: File) -> io::Result<Command> {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--", "sh", "-c", STILL_TIED]).arg(std::process::id().to_string());
    command.arg(&config.program).arg("run").arg("--state-dir").arg(state_dir);
    command.args(["--worker-id", &config.worker_id(name)]).args(&config.args);
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with(SECRETS_PREFIX) {
            command.env_remove(variable);
        }
    }
    command
        .env("NATS_URL", &config.nats_url)
        .env("SNAPFLEET_NATS_USER", "worker")
        .env("SNAPFLEET_NATS_PASSWORD", &config.nats_password)
        .env_remove(super::config::PASSWORD_VARIABLE)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0);
    Ok(command)
}

/// How a process ended, in words.
pub(super) fn in_words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "unknown end".to_owned(),
    }
}
