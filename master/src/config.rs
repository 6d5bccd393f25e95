//! Every setting of the master: flags and environment, read once at start and checked before anything starts.

pub mod accounts;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::ArgPredicate;
use clap::{Args, Parser, Subcommand};
use snapfleet_broker::BrokerConfig;
use snapfleet_protocol::ReaderName;
use tracing_subscriber::EnvFilter;

use crate::store::StoreOptions;
use crate::supervise::{WorkersArgs, WorkersConfig, WorkersConfigError};

/// How long the parts get to stop once they are told.
const GRACE: Duration = Duration::from_secs(10);

/// Keeps what the workers capture, and serves it.
#[derive(Debug, Parser)]
#[command(name = "snapfleet-master", version, about)]
pub struct Cli {
    /// What is logged, as tracing directives such as `info` or `snapfleet_master=debug`; RUST_LOG is read too.
    #[arg(long, global = true, env = "SNAPFLEET_LOG")]
    pub log: Option<String>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the binary does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Reads the stream into the store and serves it, until told to stop.
    Run(RunArgs),
    /// Prints the state of the whole: what is stored, who is online, what is wrong.
    Status(ReadArgs),
    /// Prints what was added or changed, oldest first.
    Changes(ChangesArgs),
    /// Prints what could not be applied, and why.
    DeadLetters(DeadLettersArgs),
    /// Adds, changes, ends and shows accounts.
    Accounts(accounts::AccountsCommand),
    /// Has an account captured and published now, and prints what that brought.
    Sync(accounts::SyncArgs),
    /// Deletes what is stored of one person.
    Person(accounts::PersonCommand),
    /// Prints the workers that this master starts and those that are online, or starts and stops one.
    Workers(WorkersCommand),
    /// Lists the replicas that follow the stream, or drops one.
    #[command(subcommand)]
    Replica(ReplicaCommand),
    /// Turns one snapshot's bytes on standard input into JSON, such as for `nats sub --translate`.
    Decode,
}

/// Settings of a running master.
#[derive(Args, Clone)]
pub struct RunArgs {
    /// The store's file; created if it does not exist.
    #[arg(long, env = "SNAPFLEET_STORE", default_value = DEFAULT_STORE)]
    pub store: PathBuf,
    /// Where it serves; a port of this machine's loopback.
    #[arg(long, env = "SNAPFLEET_LISTEN", default_value = "127.0.0.1:7070")]
    pub listen: String,
    /// The broker's address.
    #[arg(long, env = "NATS_URL", default_value = "nats://127.0.0.1:4222", hide_env_values = true)]
    pub nats_url: String,
    /// The broker's user.
    #[arg(long, env = "SNAPFLEET_NATS_USER", default_value = "master")]
    #[arg(default_value_if("replica", ArgPredicate::IsPresent, "replica"))]
    pub nats_user: String,
    /// The user's password; better given in the environment.
    #[arg(long, env = "SNAPFLEET_NATS_PASSWORD", hide_env_values = true, default_value = "")]
    pub nats_password: String,
    /// Copies that the broker keeps of each stream: 1, or 3 in a cluster.
    #[arg(long, env = "SNAPFLEET_REPLICAS", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=5))]
    pub replicas: u8,
    /// Follows another master's stream under this name, which no other replica has, and only serves it.
    #[arg(long, env = "SNAPFLEET_REPLICA", conflicts_with = "workers")]
    pub replica: Option<ReaderName>,
    /// Workers on this host.
    #[command(flatten)]
    pub workers: WorkersArgs,
}

/// The store's file where nothing else is said.
pub const DEFAULT_STORE: &str = "data/master.redb";
/// The running master's address where nothing else is said.
pub const DEFAULT_URL: &str = "http://127.0.0.1:7070";

/// Where the commands that read look: at a running master, or else at a file that no master has open.
#[derive(Debug, Args, Clone)]
pub struct ReadArgs {
    /// The running master's address; http://127.0.0.1:7070 if not given.
    #[arg(long, env = "SNAPFLEET_URL")]
    pub url: Option<String>,
    /// The store's file; read where no master answers, or first if given without --url.
    #[arg(long, env = "SNAPFLEET_STORE")]
    pub store: Option<PathBuf>,
    /// Prints the API's JSON.
    #[arg(long)]
    pub json: bool,
}

/// What `changes` prints.
#[derive(Debug, Args, Clone)]
pub struct ChangesArgs {
    /// Where to read.
    #[command(flatten)]
    pub read: ReadArgs,
    /// Only what follows this cursor; from the oldest kept if not given.
    #[arg(long)]
    pub after: Option<String>,
    /// How many at most; all if not given.
    #[arg(long)]
    pub limit: Option<u64>,
    /// The newest instead of the oldest: the last --limit changes, still oldest first; with --follow goes on from
    /// there.
    #[arg(long, requires = "limit", conflicts_with = "after")]
    pub newest: bool,
    /// Goes on with what comes, until interrupted.
    #[arg(long)]
    pub follow: bool,
}

/// What `dead-letters` prints.
#[derive(Debug, Args, Clone)]
pub struct DeadLettersArgs {
    /// Where to read.
    #[command(flatten)]
    pub read: ReadArgs,
    /// Only those with a higher number.
    #[arg(long, default_value_t = 0)]
    pub after: u64,
    /// How many at most; all if not given.
    #[arg(long)]
    pub limit: Option<u64>,
}

/// What `workers` does.
#[derive(Debug, Args, Clone)]
pub struct WorkersCommand {
    /// The running master.
    #[command(flatten)]
    pub at: MasterArgs,
    /// Prints the API's JSON.
    #[arg(long, global = true)]
    pub json: bool,
    /// Prints them if not given.
    #[command(subcommand)]
    pub action: Option<WorkerAction>,
}

/// What can be done with a worker that the master starts.
#[derive(Debug, Subcommand, Clone)]
pub enum WorkerAction {
    /// Starts one that was stopped or given up.
    Start {
        /// Which one, such as worker-1.
        name: String,
    },
    /// Stops one in order; it stays so until it is started, or the master is.
    Stop {
        /// Which one.
        name: String,
    },
    /// Stops one in order and starts it.
    Restart {
        /// Which one.
        name: String,
    },
}

/// What can be done with replicas.
#[derive(Debug, Subcommand, Clone)]
pub enum ReplicaCommand {
    /// Prints each with how far it has come.
    List {
        /// The running master.
        #[command(flatten)]
        at: MasterArgs,
        /// Prints the API's JSON.
        #[arg(long)]
        json: bool,
    },
    /// Drops one that is not coming back, so that it holds back nothing any more. Stop it first.
    Remove {
        /// The running master.
        #[command(flatten)]
        at: MasterArgs,
        /// Which one.
        name: ReaderName,
    },
}

/// Where the running master is that a command needs.
#[derive(Debug, Args, Clone)]
pub struct MasterArgs {
    /// The running master's address.
    #[arg(long, global = true, env = "SNAPFLEET_URL", default_value = DEFAULT_URL)]
    pub url: String,
}

/// A setting that cannot be: the text names it and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The address to serve on is none.
    #[error("--listen {0:?} is not an address: write it as 127.0.0.1:7070")]
    Listen(String),
    /// The address to serve on is open to others.
    #[error(
        "--listen {0} would be open to other machines, and there is no sign-in yet: use 127.0.0.1 or [::1]"
    )]
    Open(SocketAddr),
    /// The broker's user cannot be part of a subject.
    #[error("--nats-user {0:?} is not valid: use the characters A-Z, a-z, 0-9, '_' and '-'")]
    User(String),
    /// The workers of this host cannot be started.
    #[error(transparent)]
    Workers(#[from] WorkersConfigError),
    /// The log directives cannot be read.
    #[error("--log {text:?} is not valid ({reason}): write it as info or snapfleet_master=debug")]
    Log {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// The settings of a running master, checked.
#[derive(Clone)]
pub struct Config {
    /// The store's file.
    pub store: PathBuf,
    /// What the store keeps.
    pub store_options: StoreOptions,
    /// Where it serves. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// How to reach the broker.
    pub broker: BrokerConfig,
    /// Copies that the broker keeps of each stream.
    pub stream_copies: usize,
    /// The name under which it follows another master's stream; `None` for the one that writes.
    pub replica: Option<ReaderName>,
    /// Workers that it starts on its own host.
    pub workers: Option<WorkersConfig>,
    /// How long the parts get to stop once they are told.
    pub grace: Duration,
}

impl RunArgs {
    /// Checks the settings; what the broker's address and password must be is checked when the master is bound.
    ///
    /// # Errors
    /// [`ConfigError`] for the first that cannot be.
    pub fn into_config(self) -> Result<Config, ConfigError> {
        let text = self.listen.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
        let listen: SocketAddr = text
            .unwrap_or_else(|| self.listen.clone())
            .parse()
            .map_err(|_| ConfigError::Listen(self.listen))?;
        if !listen.ip().is_loopback() {
            return Err(ConfigError::Open(listen));
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if self.nats_user.is_empty() || !self.nats_user.bytes().all(plain) {
            return Err(ConfigError::User(self.nats_user));
        }
        let workers = self.workers.into_config(&self.nats_url)?;
        let broker = BrokerConfig {
            url: self.nats_url,
            user: self.nats_user,
            password: self.nats_password,
            name: "snapfleet-master".to_owned(),
        };
        Ok(Config {
            store: self.store,
            store_options: StoreOptions::default(),
            listen,
            broker,
            stream_copies: self.replicas.into(),
            replica: self.replica,
            workers,
            grace: GRACE,
        })
    }
}

/// What the client library traces of each message, whatever is asked for: all that it holds, and the broker's password.
const NEVER_LOGGED: &str = "async_nats::connection=off";

/// What is logged. What the client library says of the connection, the broker crate says better.
///
/// # Errors
/// [`ConfigError::Log`] where the directives cannot be read.
pub fn log_filter(cli: &Cli) -> Result<EnvFilter, ConfigError> {
    let default = if matches!(cli.command, Command::Run(_)) { "info" } else { "warn" };
    let asked = cli.log.clone().or_else(|| std::env::var("RUST_LOG").ok().filter(|text| !text.is_empty()));
    let text = asked.unwrap_or_else(|| format!("{default},async_nats=off"));
    let filter = EnvFilter::try_new(format!("{text},{NEVER_LOGGED}"));
    filter.map_err(|error| ConfigError::Log { text, reason: error.to_string() })
}

/// What is wrong with the arguments, on one line and without the usage.
#[must_use]
pub fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let lines = text.trim_start_matches("error: ").lines().take_while(|line| !line.trim().is_empty());
    lines.map(str::trim).collect::<Vec<_>>().join(" ") + " (see --help)"
}

impl fmt::Debug for RunArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunArgs")
            .field("store", &self.store)
            .field("listen", &self.listen)
            .field("nats_user", &self.nats_user)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(listen: &str, url: &str, user: &str) -> RunArgs {
        RunArgs {
            store: DEFAULT_STORE.into(),
            listen: listen.to_owned(),
            nats_url: url.to_owned(),
            nats_user: user.to_owned(),
            nats_password: "secret".to_owned(),
            replicas: 1,
            replica: None,
            workers: WorkersArgs::default(),
        }
    }

    #[test]
    fn settings_that_cannot_be_are_refused_and_named() {
        let good = "nats://127.0.0.1:4222";
        for (listen, url, user, named) in [
            ("7070", good, "master", "\"7070\""),
            ("0.0.0.0:7070", good, "master", "0.0.0.0:7070"),
            ("192.168.1.2:7070", good, "master", "no sign-in yet"),
            ("127.0.0.1:7070", good, "a.b", "\"a.b\""),
        ] {
            let error = args(listen, url, user).into_config().err().unwrap().to_string();
            assert!(error.contains(named), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
        for listen in ["127.0.0.1:0", "localhost:7070", "[::1]:7070"] {
            assert!(args(listen, good, "master").into_config().is_ok(), "{listen}");
        }
        assert!(!format!("{:?}", args("127.0.0.1:0", good, "master")).contains("secret"));
    }
}
