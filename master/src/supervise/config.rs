//! What the master is told of the workers that it starts itself: how many, which program, where their state is kept.
//!
//! Everything else of their settings is theirs: they have it from the environment, which is given on to them except
//! for the passwords of the broker's users, or from `--worker-arg`.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

/// The most workers that one master starts: each has a browser.
pub const WORKERS_MAX: usize = 64;
/// How long a worker gets to stop in order.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// The variable with the password of the workers' user, which becomes theirs under the usual name.
pub(super) const PASSWORD_VARIABLE: &str = "SNAPFLEET_WORKER_NATS_PASSWORD";
/// The workers' program beside the master's own.
const PROGRAM: &str = "snapfleet-worker";
/// The longest host's name that becomes part of a worker id.
const HOST_BYTES_MAX: usize = 48;

/// Workers that the master starts on its own host.
#[derive(Args, Clone, Default)]
pub struct WorkersArgs {
    /// Starts so many workers on this host, and starts again what dies.
    #[arg(long, env = "SNAPFLEET_WORKERS", default_value_t = 0)]
    pub workers: usize,
    /// Their program; `snapfleet-worker` beside this one if not given.
    #[arg(long)]
    pub worker_program: Option<PathBuf>,
    /// The folder of their state and logs: worker-1, worker-2 and so on in it.
    #[arg(long, env = "SNAPFLEET_WORKERS_DIR", default_value = "data/workers")]
    pub workers_dir: PathBuf,
    /// A further argument of each of them, such as --worker-arg=--platforms=platforms; may be repeated.
    #[arg(long = "worker-arg", allow_hyphen_values = true)]
    pub worker_args: Vec<String>,
    /// The password of the broker's user `worker`; better given in the environment.
    #[arg(long, env = PASSWORD_VARIABLE, hide_env_values = true, default_value = "")]
    pub worker_nats_password: String,
}

/// A setting of the workers that cannot be: the text names it and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorkersConfigError {
    /// Too many.
    #[error("--workers {0} is too many: at most {WORKERS_MAX} run on one host; start further ones elsewhere")]
    TooMany(usize),
    /// No program.
    #[error("there is no worker program {0}: build it, or give its path with --worker-program")]
    Program(PathBuf),
    /// No password.
    #[error("{PASSWORD_VARIABLE} is not set: give the password of the broker's user for the workers")]
    NoPassword,
    /// The folder cannot be used.
    #[error("--workers-dir {dir} cannot be used ({reason})")]
    Dir {
        /// The folder.
        dir: PathBuf,
        /// Why.
        reason: String,
    },
}

/// The workers' settings, checked.
#[derive(Clone)]
pub struct WorkersConfig {
    /// How many.
    pub count: usize,
    /// Their program.
    pub program: PathBuf,
    /// The folder of their state and logs.
    pub dir: PathBuf,
    /// Further arguments of each.
    pub args: Vec<String>,
    /// This host's name.
    pub host: String,
    /// The broker's address.
    pub nats_url: String,
    /// The password of the broker's user `worker`.
    pub nats_password: String,
    /// How long a worker gets to stop in order before it is killed.
    pub stop_timeout: Duration,
}

impl fmt::Debug for WorkersConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkersConfig")
            .field("count", &self.count)
            .field("program", &self.program)
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

impl WorkersArgs {
    /// Checks the settings; `None` where no worker is to be started.
    ///
    /// # Errors
    /// [`WorkersConfigError`] for the first that cannot be.
    pub fn into_config(self, nats_url: &str) -> Result<Option<WorkersConfig>, WorkersConfigError> {
        if self.workers == 0 {
            return Ok(None);
        }
        if self.workers > WORKERS_MAX {
            return Err(WorkersConfigError::TooMany(self.workers));
        }
        let beside = || std::env::current_exe().unwrap_or_default().with_file_name(PROGRAM);
        let program = self.worker_program.unwrap_or_else(beside);
        // Absolute: the name alone would be looked for on PATH.
        let program = std::path::absolute(&program).unwrap_or(program);
        if !program.is_file() {
            return Err(WorkersConfigError::Program(program));
        }
        if self.worker_nats_password.is_empty() {
            return Err(WorkersConfigError::NoPassword);
        }
        Ok(Some(WorkersConfig {
            count: self.workers,
            program,
            dir: self.workers_dir,
            args: self.worker_args,
            host: crate::host_name(),
            nats_url: nats_url.to_owned(),
            nats_password: self.worker_nats_password,
            stop_timeout: STOP_TIMEOUT,
        }))
    }
}

impl WorkersConfig {
    /// The worker id of the worker called `name` here: told apart from those of other hosts.
    #[must_use]
    pub fn worker_id(&self, name: &str) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
        let host: String = self.host.chars().map(plain).take(HOST_BYTES_MAX).collect();
        format!("{host}-{}", name.trim_start_matches("worker-"))
    }
}
