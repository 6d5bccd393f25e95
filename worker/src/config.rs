//! Every setting of the worker: flags and environment for the process, a TOML file for the accounts it holds.
//!
//! All of it is read and checked once, before anything starts; a mistake is one line that names it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use serde::Deserialize;
use snapfleet_protocol::AccountId;

/// The shortest and longest publish interval of an account, in seconds.
const INTERVAL_S: std::ops::RangeInclusive<u64> = 1..=3_600;
/// The most accounts that one worker holds.
const ACCOUNTS_MAX: usize = 1_000;

/// Holds the accounts' browser sessions, captures what their pages fetch, and publishes it.
#[derive(Debug, Parser)]
#[command(name = "snapfleet-worker", version, about)]
pub struct Cli {
    /// What is logged, as tracing directives such as `info` or `snapfleet_worker=debug`.
    #[arg(long, global = true, env = "SNAPFLEET_LOG", default_value = "info")]
    pub log: String,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the binary does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Captures and publishes until told to stop.
    Run(RunArgs),
    /// Works on platform folders without a browser.
    #[command(subcommand)]
    Platform(PlatformCommand),
}

/// What can be done with a platform folder.
#[derive(Debug, Subcommand)]
pub enum PlatformCommand {
    /// Checks the folder's settings and filters, and compares its fixtures with their expected records.
    Check {
        /// The folder, such as `platforms/demo`.
        dir: PathBuf,
    },
}

/// Settings of a running worker.
#[derive(Args)]
pub struct RunArgs {
    /// The file with the worker's accounts (TOML).
    #[arg(long, env = "SNAPFLEET_WORKER_CONFIG")]
    pub config: PathBuf,
    /// The broker's address.
    #[arg(long, env = "NATS_URL", default_value = "nats://127.0.0.1:4222")]
    pub nats_url: String,
    /// The broker's user.
    #[arg(long, env = "SNAPFLEET_NATS_USER", default_value = "worker")]
    pub nats_user: String,
    /// The user's password; better given in the environment.
    #[arg(long, env = "SNAPFLEET_NATS_PASSWORD", hide_env_values = true, default_value = "")]
    pub nats_password: String,
    /// Chromium's executable; looked for where it is usually installed if not given.
    #[arg(long, env = "CHROME")]
    pub chrome: Option<PathBuf>,
    /// Shows the browser's windows.
    #[arg(long, env = "SNAPFLEET_HEADED")]
    pub headed: bool,
}

impl fmt::Debug for RunArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunArgs")
            .field("config", &self.config)
            .field("nats_url", &self.nats_url)
            .field("nats_user", &self.nats_user)
            .finish_non_exhaustive()
    }
}

/// The worker's file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerFile {
    /// Folder with one folder for each platform; relative to the file's own.
    #[serde(default = "default_platforms")]
    pub platforms: PathBuf,
    /// Folder for what must outlive a restart (records not acked yet) and for the browser's profile; relative
    /// to the file's own.
    #[serde(default = "default_state_dir")]
    pub state_dir: PathBuf,
    /// The accounts that this worker holds.
    #[serde(default, rename = "account")]
    pub accounts: Vec<AccountConfig>,
}

/// One account.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountConfig {
    /// Who it is, as `<platform>.<account>`.
    pub id: AccountId,
    /// Time between two publishes of what changed, in seconds, 1 to 3,600; something inbound goes at once.
    #[serde(default = "default_interval_s")]
    pub interval_s: u64,
    /// What the platform asks of its accounts, such as an address and a password.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
}

impl AccountConfig {
    /// Time between two publishes.
    #[must_use]
    pub fn interval(&self) -> Duration {
        Duration::from_secs(self.interval_s)
    }
}

impl fmt::Debug for AccountConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccountConfig").field("id", &self.id).finish_non_exhaustive()
    }
}

fn default_platforms() -> PathBuf {
    "platforms".into()
}

fn default_state_dir() -> PathBuf {
    "state".into()
}

fn default_interval_s() -> u64 {
    30
}

/// Why the worker's file was refused. Each names the file, the place and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("worker file {path}: {error}; give it with --config")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It is not what it should be.
    #[error("worker file {path}: {error}")]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        error: String,
    },
}

impl WorkerFile {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// [`ConfigError`], naming file, line and key.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let invalid = |error: String| ConfigError::Invalid { path: path.to_owned(), error };
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::Unreadable { path: path.to_owned(), error })?;
        let mut file: Self = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
            invalid(format!("line {line}: {}", error.message().replace('\n', " ")))
        })?;
        if file.accounts.is_empty() || file.accounts.len() > ACCOUNTS_MAX {
            let count = file.accounts.len();
            return Err(invalid(format!("{count} accounts: give 1 to {ACCOUNTS_MAX} as [[account]]")));
        }
        let mut seen = std::collections::BTreeSet::new();
        for account in &file.accounts {
            if !seen.insert(&account.id) {
                return Err(invalid(format!("account {} stands twice: remove one", account.id)));
            }
            if !INTERVAL_S.contains(&account.interval_s) {
                let (id, given) = (&account.id, account.interval_s);
                return Err(invalid(format!("account {id}: interval_s = {given} is not within 1 to 3600")));
            }
        }
        let dir = path.parent().unwrap_or(Path::new("."));
        file.platforms = dir.join(&file.platforms);
        file.state_dir = dir.join(&file.state_dir);
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<WorkerFile, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("worker.toml");
        std::fs::write(&path, text).unwrap();
        WorkerFile::load(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn each_mistake_is_named() {
        for (text, named) in [
            ("", "give 1 to 1000"),
            ("[[account]]\nid = \"demo.a b\"", "a b"),
            ("[[account]]\nid = \"demo.a\"\nintervall_s = 3", "intervall_s"),
            ("[[account]]\nid = \"demo.a\"\ninterval_s = 0", "interval_s = 0"),
            ("[[account]]\nid = \"demo.a\"\n[[account]]\nid = \"demo.a\"", "stands twice"),
            ("[[account]]\nid = \"demo.a\"\nsettings = 3", "line 3"),
        ] {
            let error = load(text).unwrap_err();
            assert!(
                error.contains(named) && error.contains("worker.toml"),
                "{error:?} does not name {named:?}"
            );
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let file = load("[[account]]\nid = \"demo.a\"\nsettings = { password = \"hunter2\" }").unwrap();
        assert_eq!(file.accounts[0].settings["password"], "hunter2");
        assert!(!format!("{file:?}").contains("hunter2"));
    }
}
