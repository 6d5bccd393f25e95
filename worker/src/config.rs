//! Every setting of the worker: flags and environment, read and checked once, before anything starts. Which accounts
//! it holds is not among them: that comes from the fleet.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use snapfleet_broker::BrokerConfig;
use snapfleet_protocol::{AccountId, RecordKind, WorkerId, fleet::check_pairs};

use crate::session::FleetKey;
use crate::simulate::Simulation;

/// The most accounts that one worker can be told to take.
const ACCOUNTS_MAX: i64 = 10_000;
/// The longest time that a recording or a login by hand can be given, in minutes.
const MINUTES_MAX: u64 = 24 * 60;

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
    /// Takes its part of the fleet's accounts, captures and publishes, until told to stop.
    Run(RunArgs),
    /// The same with a generator in place of the browser, to put everything behind it under load.
    Simulate(SimulateArgs),
    /// Works on platform folders without a browser.
    #[command(subcommand)]
    Platform(PlatformCommand),
    /// The fleet's key, which seals sessions and secret settings.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Reads a secret value of an account's setting from standard input and prints it sealed, to be given to
    /// `snapfleet-master accounts add`: only workers with the fleet's key can read it.
    Seal(SealArgs),
    /// Opens an account's page in a browser window, waits until somebody has logged in there, and stores the session
    /// for the worker that holds the account. Needs a screen.
    Login(LoginArgs),
}

/// What can be done with a platform folder.
#[derive(Debug, Subcommand)]
pub enum PlatformCommand {
    /// Checks the folder's settings and filters, and compares its fixtures with their expected records.
    Check(CheckArgs),
    /// Proposes a folder for a platform from what a browser's developer tools have exported: shows what its JSON holds,
    /// and writes a `platform.toml` with a filter and a fixture for each address that seems to matter.
    New(NewArgs),
    /// Opens an account's pages in a browser of its own and writes what they fetch to a HAR file, without secrets.
    Record(Box<RecordArgs>),
    /// Prints the JSON Schema of `platform.toml`, from which editors complete it.
    Schema,
}

/// What is checked.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The folder, such as `platforms/demo`.
    pub dir: PathBuf,
    /// Writes into each fixture that gives something else than it says what it gives: look at the changes afterwards.
    #[arg(long, conflicts_with = "har")]
    pub accept: bool,
    /// Prints the result for programs.
    #[arg(long)]
    pub json: bool,
    /// In place of the fixtures, maps what the platform's rules take of this HAR file and prints what they make of it.
    #[arg(long, value_name = "FILE")]
    pub har: Option<PathBuf>,
    /// With --har: prints each record as one line of JSON, of this kind alone if one is named, and each refused row with
    /// its reason.
    #[arg(long, requires = "har", value_name = "KIND", value_parser = record_kind)]
    pub rows: Option<Option<RecordKind>>,
    /// The account that the filters are told, such as demo.shop-a, or shop-a alone.
    #[arg(long, requires = "har", default_value = "har")]
    pub account: String,
    /// A setting of that account; several times.
    #[arg(long = "setting", requires = "har", value_name = "NAME=VALUE")]
    pub settings: Vec<SettingArg>,
}

fn record_kind(text: &str) -> Result<RecordKind, String> {
    let kinds = || RecordKind::ALL.into_iter();
    kinds().find(|kind| kind.as_str() == text).ok_or_else(|| {
        let known = kinds().map(RecordKind::as_str).collect::<Vec<_>>().join(", ");
        format!("there is no such kind: use one of {known}")
    })
}

/// Which platform is proposed.
#[derive(Debug, Args)]
pub struct NewArgs {
    /// Its name, which becomes the folder's.
    pub name: String,
    /// The HAR file.
    #[arg(long, value_name = "FILE")]
    pub har: PathBuf,
    /// The folder in which the platform's folder is made.
    #[arg(long, value_name = "DIR", default_value = "platforms")]
    pub into: PathBuf,
    /// More names whose values are secret, with `*` for any characters: of fields, URL parameters and form fields.
    #[arg(long, value_name = "PATTERN")]
    pub redact: Vec<String>,
}

/// What one account outside of the fleet is opened with.
#[derive(Debug, Args)]
pub struct LoneArgs {
    /// Folder with one folder for each platform; looked for where it usually is if not given: `./platforms`, beside the
    /// executable, in the user's configuration, in /etc/snapfleet.
    #[arg(long, env = "SNAPFLEET_PLATFORMS")]
    pub platforms: Option<PathBuf>,
    /// How to reach the broker.
    #[command(flatten)]
    pub broker: BrokerArgs,
    /// The fleet's key.
    #[command(flatten)]
    pub key: KeyArgs,
    /// Chromium's executable; looked for where it is usually installed if not given.
    #[arg(long, env = "CHROME")]
    pub chrome: Option<PathBuf>,
    /// Without a window.
    #[arg(long)]
    pub headless: bool,
    /// Where windows are shown.
    #[arg(long, env = "DISPLAY", hide = true)]
    pub display: Option<String>,
    /// The same of Wayland.
    #[arg(long, env = "WAYLAND_DISPLAY", hide = true)]
    pub wayland_display: Option<String>,
}

impl LoneArgs {
    /// Whether there is a screen on which windows can be shown.
    #[must_use]
    pub fn has_screen(&self) -> bool {
        [&self.display, &self.wayland_display].into_iter().flatten().any(|name| !name.is_empty())
    }
}

/// What is recorded.
#[derive(Debug, Args)]
pub struct RecordArgs {
    /// The platform's name.
    pub name: String,
    /// The account, such as demo.shop-a, or shop-a alone.
    #[arg(long)]
    pub account: String,
    /// A setting of the account; several times. With any given, the fleet is not asked: they are all there are, and no
    /// stored session is used.
    #[arg(long = "setting", value_name = "NAME=VALUE")]
    pub settings: Vec<SettingArg>,
    /// How long, in minutes; until Ctrl-C if not given.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=MINUTES_MAX))]
    pub minutes: Option<u64>,
    /// The file, which must not exist yet; `NAME-<time>.har` in this folder if not given.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// The largest file that is written, in MiB; the recording ends there.
    #[arg(long, default_value_t = 2048, value_parser = clap::value_parser!(u64).range(1..))]
    pub file_mib: u64,
    /// More names whose values are secret, with `*` for any characters: of fields, URL parameters and form fields.
    #[arg(long, value_name = "PATTERN")]
    pub redact: Vec<String>,
    /// The account's browser.
    #[command(flatten)]
    pub lone: LoneArgs,
}

/// Who logs in.
#[derive(Debug, Args)]
pub struct LoginArgs {
    /// The account, such as demo.shop-a.
    pub account: AccountId,
    /// How long is waited for the login, in minutes.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=MINUTES_MAX))]
    pub minutes: u64,
    /// The account's browser.
    #[command(flatten)]
    pub lone: LoneArgs,
}

/// A setting as it is given on the command line. Its value may be a secret and is not shown.
#[derive(Clone)]
pub struct SettingArg {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl fmt::Debug for SettingArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SettingArg").field("name", &self.name).finish_non_exhaustive()
    }
}

impl std::str::FromStr for SettingArg {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
        Ok(Self { name: name.to_owned(), value: value.to_owned() })
    }
}

/// What can be done with the fleet's key.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Prints a new random key. Keep it in a file that only the worker's user can read, the same on all hosts.
    New,
}

/// Which value is sealed.
#[derive(Debug, Args)]
pub struct SealArgs {
    /// The account, such as demo.shop-a.
    pub account: AccountId,
    /// The setting's name, such as password.
    pub setting: String,
    /// The fleet's key.
    #[command(flatten)]
    pub key: KeyArgs,
}

/// Where the fleet's key is.
#[derive(Args)]
pub struct KeyArgs {
    /// The file with the fleet's key, readable by nobody else.
    #[arg(long, env = "SNAPFLEET_SESSION_KEY_FILE")]
    pub session_key_file: Option<PathBuf>,
    /// The fleet's key itself; to be given in the environment.
    #[arg(long, env = "SNAPFLEET_SESSION_KEY", hide_env_values = true, hide = true)]
    pub session_key: Option<String>,
}

impl fmt::Debug for KeyArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyArgs").field("session_key_file", &self.session_key_file).finish_non_exhaustive()
    }
}

impl KeyArgs {
    /// The fleet's key, if one is given.
    ///
    /// # Errors
    /// One line that says what is wrong with it, and never shows it.
    pub fn load(&self) -> anyhow::Result<Option<FleetKey>> {
        let given = self.session_key.as_deref().filter(|text| !text.is_empty());
        match (&self.session_key_file, given) {
            (Some(path), _) => Ok(Some(FleetKey::read(path)?)),
            (None, Some(text)) => Ok(Some(FleetKey::parse(text, "SNAPFLEET_SESSION_KEY")?)),
            (None, None) => Ok(None),
        }
    }
}

/// How to reach the broker.
#[derive(Args)]
pub struct BrokerArgs {
    /// The broker's address; several of a cluster separated by commas.
    #[arg(long, env = "NATS_URL", default_value = "nats://127.0.0.1:4222")]
    pub nats_url: String,
    /// The broker's user.
    #[arg(long, env = "SNAPFLEET_NATS_USER", default_value = "worker")]
    pub nats_user: String,
    /// The user's password; better given in the environment.
    #[arg(long, env = "SNAPFLEET_NATS_PASSWORD", hide_env_values = true, default_value = "")]
    pub nats_password: String,
}

impl fmt::Debug for BrokerArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerArgs")
            .field("nats_url", &self.nats_url)
            .field("nats_user", &self.nats_user)
            .finish_non_exhaustive()
    }
}

impl BrokerArgs {
    /// How to reach the broker, checked as far as that goes without it.
    ///
    /// # Errors
    /// One line that names the setting.
    pub fn config(&self) -> anyhow::Result<BrokerConfig> {
        anyhow::ensure!(
            !self.nats_password.is_empty(),
            "SNAPFLEET_NATS_PASSWORD is not set: give the password of the broker's user {:?}",
            self.nats_user
        );
        let broker = BrokerConfig {
            url: self.nats_url.clone(),
            user: self.nats_user.clone(),
            password: self.nats_password.clone(),
            name: "snapfleet-worker".to_owned(),
        };
        broker.check_address()?;
        Ok(broker)
    }
}

/// This worker among the others.
#[derive(Debug, Args)]
pub struct FleetArgs {
    /// Folder for what must outlive a restart: records that the broker has not acked, and this worker's id. Each worker
    /// its own.
    #[arg(long, env = "SNAPFLEET_STATE_DIR", default_value = "state")]
    pub state_dir: PathBuf,
    /// The most accounts that it takes. A browser needs about 61 MB for each, more for large pages.
    #[arg(long, env = "SNAPFLEET_MAX_ACCOUNTS", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=ACCOUNTS_MAX))]
    pub max_accounts: u32,
    /// What it offers to accounts that ask for labels, such as region=eu; several times, or separated by commas.
    #[arg(long = "label", env = "SNAPFLEET_LABELS", value_delimiter = ',', value_name = "NAME=VALUE")]
    pub labels: Vec<String>,
    /// Its name through all its starts; made of the host's name and kept in the state_dir if not given.
    #[arg(long, env = "SNAPFLEET_WORKER_ID")]
    pub worker_id: Option<WorkerId>,
    /// How to reach the broker.
    #[command(flatten)]
    pub broker: BrokerArgs,
}

impl FleetArgs {
    /// The labels, read.
    ///
    /// # Errors
    /// One line that names the label.
    pub fn labels(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let mut labels = BTreeMap::new();
        for text in self.labels.iter().filter(|text| !text.is_empty()) {
            let (name, value) = text
                .split_once('=')
                .ok_or_else(|| anyhow::anyhow!("--label {text:?} is not valid: write it as name=value"))?;
            anyhow::ensure!(
                labels.insert(name.to_owned(), value.to_owned()).is_none(),
                "--label {name:?} is given twice"
            );
        }
        check_pairs("label", &labels)?;
        Ok(labels)
    }
}

/// Settings of a running worker.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// This worker among the others.
    #[command(flatten)]
    pub fleet: FleetArgs,
    /// Folder with one folder for each platform; looked for where it usually is if not given: `./platforms`, beside the
    /// executable, in the user's configuration, in /etc/snapfleet.
    #[arg(long, env = "SNAPFLEET_PLATFORMS")]
    pub platforms: Option<PathBuf>,
    /// The fleet's key. Without one no session is kept: an account that moves has to be logged in anew.
    #[command(flatten)]
    pub key: KeyArgs,
    /// Chromium's executable; looked for where it is usually installed if not given.
    #[arg(long, env = "CHROME")]
    pub chrome: Option<PathBuf>,
    /// Shows the browser's windows.
    #[arg(long, env = "SNAPFLEET_HEADED")]
    pub headed: bool,
    /// A page whose scripts take more memory gets a new tab, in MiB.
    #[arg(long, env = "SNAPFLEET_PAGE_MEMORY_MIB", default_value_t = 512, value_parser = clap::value_parser!(u64).range(16..))]
    pub page_memory_mib: u64,
    /// A browser whose processes take more memory together is replaced, in MiB; 1024 and 256 for each account if not
    /// given.
    #[arg(long, env = "SNAPFLEET_BROWSER_MEMORY_MIB", value_parser = clap::value_parser!(u64).range(64..))]
    pub browser_memory_mib: Option<u64>,
}

/// Settings of a worker without a browser.
#[derive(Debug, Args)]
pub struct SimulateArgs {
    /// This worker among the others.
    #[command(flatten)]
    pub fleet: FleetArgs,
    /// What is simulated.
    #[command(flatten)]
    pub simulation: Simulation,
    /// How many accounts, sim.a0000 and on, --csv prints.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub accounts: u32,
    /// Prints the accounts as a table for `snapfleet-master accounts import`, and ends.
    #[arg(long)]
    pub csv: bool,
    /// The publish interval that --csv gives to the accounts, in seconds.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub interval_s: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(given: &[&str]) -> Result<BTreeMap<String, String>, String> {
        let mut arguments = vec!["snapfleet-worker", "run"];
        for label in given {
            arguments.extend(["--label", label]);
        }
        let Command::Run(args) = Cli::try_parse_from(arguments).unwrap().command else { unreachable!() };
        args.fleet.labels().map_err(|error| error.to_string())
    }

    #[test]
    fn labels_are_read_and_each_mistake_is_named() {
        let read = labels(&["region=eu,disk=fast", "owner=a=b"]).unwrap();
        let pairs: Vec<_> = read.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("disk", "fast"), ("owner", "a=b"), ("region", "eu")]);
        for (given, named) in [("eu", "\"eu\""), ("a b=c", "a b"), ("=c", "\"\"")] {
            let error = labels(&[given]).unwrap_err();
            assert!(error.contains(named), "{error:?} does not name {named:?}");
        }
        assert!(labels(&["a=1", "a=2"]).unwrap_err().contains("twice"));
    }

    #[test]
    fn secrets_are_not_shown() {
        let arguments = ["snapfleet-worker", "run", "--nats-password", "hunter2", "--session-key", "hunter3"];
        let cli = Cli::try_parse_from(arguments).unwrap();
        let shown = format!("{cli:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("hunter3"), "{shown}");
    }
}
