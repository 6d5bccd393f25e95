//! The worker's half of the line: `capture` (page to bodies) > `map` (bodies to records) > `diff` (records to
//! what is new) > `encode` > `publish` > the broker's stream.
//!
//! [`run`] holds one browser and one task for each account until told to stop.

pub mod account;
pub mod browser;
pub mod capture;
pub mod config;
pub mod drive;
pub mod fleet;
pub mod normalise;
pub mod outbox;
pub mod pages;
pub mod platform;
pub mod publish;
pub mod roster;
pub mod window;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use snapfleet_broker::{Broker, BrokerConfig, check_access};
use snapfleet_protocol::{AccountId, AccountState, PlatformName};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::account::AccountTask;
use crate::browser::{BrowserConfig, SharedBrowser, find_chromium};
use crate::config::{AccountConfig, RunArgs, WorkerFile};
use crate::drive::Plan;
use crate::fleet::Identity;
use crate::platform::Platform;
use crate::roster::Roster;

/// Sightings that wait for an account's task, at most; beyond that the mapping waits.
const SIGHTINGS_MAX: usize = 64;
/// How long everything together may take to stop; what is left then is cut off.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// A worker's settings, checked: nothing has started yet.
#[derive(Debug)]
pub struct Worker {
    broker: BrokerConfig,
    browser: BrowserConfig,
    state_dir: PathBuf,
    accounts: Vec<(AccountConfig, Plan)>,
    /// Held for as long as the worker lives: two workers must not share a state_dir.
    _lock: File,
}

impl Worker {
    /// Reads the accounts, their platforms and filters, and finds the browser.
    ///
    /// # Errors
    /// One line that names the thing and the remedy.
    pub fn new(args: &RunArgs) -> anyhow::Result<Self> {
        let file = WorkerFile::load(&args.config)?;
        let mut platforms = BTreeMap::new();
        let mut accounts = Vec::new();
        for account in file.accounts {
            let platform = load_platform(&mut platforms, &file.platforms, &account.id.platform)?;
            let plan = Plan::new(&platform, &account)?;
            accounts.push((account, plan));
        }
        let executable = match &args.chrome {
            Some(path) if path.is_file() => path.clone(),
            Some(path) => {
                anyhow::bail!("CHROME {} is not a program: correct it, or leave it out", path.display())
            }
            None => find_chromium()?,
        };
        anyhow::ensure!(
            !args.nats_password.is_empty(),
            "SNAPFLEET_NATS_PASSWORD is not set: give the password of the broker's user {:?}",
            args.nats_user
        );
        std::fs::create_dir_all(&file.state_dir)
            .with_context(|| format!("state_dir {} cannot be made", file.state_dir.display()))?;
        let lock = lock(&file.state_dir)?;
        let mut browser = BrowserConfig::new(executable, file.state_dir.join("browser"));
        browser.headless = !args.headed;
        // Chromium's sandbox does not work as root; see the README for what that means.
        browser.sandbox = !rustix::process::geteuid().is_root();
        let broker = BrokerConfig {
            url: args.nats_url.clone(),
            user: args.nats_user.clone(),
            password: args.nats_password.clone(),
            name: "snapfleet-worker".to_owned(),
        };
        broker.check_address()?;
        Ok(Self { broker, browser, state_dir: file.state_dir, accounts, _lock: lock })
    }
}

fn load_platform(
    loaded: &mut BTreeMap<PlatformName, Arc<Platform>>,
    dir: &Path,
    name: &PlatformName,
) -> anyhow::Result<Arc<Platform>> {
    if let Some(platform) = loaded.get(name) {
        return Ok(platform.clone());
    }
    let folder = dir.join(name.as_str());
    if !folder.is_dir() {
        let there = platforms_in(dir);
        anyhow::bail!(
            "there is no platform {name:?} in {} (there are: {there}): correct the account's id or `platforms`",
            dir.display(),
            name = name.as_str()
        );
    }
    let platform = Arc::new(Platform::load(&folder)?);
    loaded.insert(name.clone(), platform.clone());
    Ok(platform)
}

/// The names of the folders with a platform, for a message.
fn platforms_in(dir: &Path) -> String {
    let folders = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let with_platform = folders.filter(|folder| folder.path().join("platform.toml").is_file());
    let mut names: Vec<String> =
        with_platform.map(|folder| folder.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// Takes the folder for this worker alone, as long as the file lives.
fn lock(state_dir: &Path) -> anyhow::Result<File> {
    let path = state_dir.join("lock");
    let options = File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = options.with_context(|| format!("{} cannot be opened", path.display()))?;
    if file.try_lock().is_err() {
        let mut holder = String::new();
        let _ = file.read_to_string(&mut holder);
        anyhow::bail!(
            "state_dir {} is in use by the worker with process id {}: give each worker its own",
            state_dir.display(),
            holder.trim()
        );
    }
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .context("the lock cannot be written")?;
    Ok(file)
}

/// Captures and publishes until `shutdown`, then publishes what is left and closes the browser.
///
/// # Errors
/// Where the broker refuses us; one line that names the remedy.
pub async fn run(worker: Worker, shutdown: CancellationToken) -> anyhow::Result<()> {
    let broker = Broker::connect(&worker.broker, &shutdown).await?;
    check_access(&broker, &shutdown).await?;
    let browser = SharedBrowser::new(worker.browser.clone());
    // Before anything is claimed: a worker without a browser must not take accounts from one that has it.
    tokio::select! {
        launched = browser.acquire() => drop(launched?),
        () = shutdown.cancelled() => return Ok(()),
    }
    let identity = Identity::new()?;
    let roster = Roster::default();
    let pages = worker.accounts.iter().map(|(_, plan)| plan.page_count()).sum::<usize>();
    tracing::info!(worker.instance = %identity.instance, accounts = worker.accounts.len(), pages, "worker starts");
    let mut tasks = JoinSet::new();
    for (account, plan) in worker.accounts {
        roster.add(&account.id);
        let (sightings_in, sightings) = mpsc::channel(SIGHTINGS_MAX);
        let (claimed, released) = (CancellationToken::new(), CancellationToken::new());
        let id = account.id.clone();
        let task = AccountTask {
            broker: broker.clone(),
            interval: account.interval(),
            account: account.id,
            instance: identity.instance.clone(),
            outbox_dir: worker.state_dir.join("outbox"),
            roster: roster.clone(),
            sightings,
            stop: shutdown.clone(),
            claimed: claimed.clone(),
            released: released.clone(),
        };
        watched(&mut tasks, &id, account::run(task));
        let browser = browser.clone();
        watched(&mut tasks, &id, async move {
            tokio::select! {
                () = claimed.cancelled() => drive::run(plan, browser, sightings_in, released).await,
                () = released.cancelled() => {}
            }
        });
    }
    let heart = CancellationToken::new();
    let pages = u32::try_from(pages).unwrap_or(u32::MAX);
    let beating = tokio::spawn(fleet::beat(broker, identity, roster.clone(), pages, heart.clone()));
    tokio::select! {
        () = shutdown.cancelled() => {}
        // All accounts have ended by themselves, each having said why: stay, and show it.
        () = watch_tasks(&mut tasks, &roster) => shutdown.cancelled().await,
    }
    tracing::info!("worker stops");
    let stopped = tokio::time::timeout(STOP_TIMEOUT, async {
        watch_tasks(&mut tasks, &roster).await;
        browser.close().await;
        heart.cancel();
        if let Err(error) = beating.await {
            tracing::error!(%error, "the heartbeat task died");
        }
    });
    if stopped.await.is_err() {
        tracing::warn!(limit_s = STOP_TIMEOUT.as_secs(), "not everything stopped in time and is cut off");
    }
    let pending: u64 = roster.all().iter().map(|account| account.pending).sum();
    tracing::info!(pending, "worker stopped; what is pending is kept for its next start");
    Ok(())
}

type Ended = (AccountId, Result<(), JoinError>);

/// Runs a part of an account so that its death is known to be that account's.
fn watched(tasks: &mut JoinSet<Ended>, account: &AccountId, part: impl Future<Output = ()> + Send + 'static) {
    let account = account.clone();
    tasks.spawn(async move { (account, tokio::spawn(part).await) });
}

/// Waits for all parts to end, and shows at once which of them died.
async fn watch_tasks(tasks: &mut JoinSet<Ended>, roster: &Roster) {
    while let Some(ended) = tasks.join_next().await {
        if let Ok((account, Err(error))) = ended {
            tracing::error!(account.id = %account, %error, "a part of an account died");
            let reason = format!("a part of it died ({error}): restart the worker");
            roster.set_state(&account, AccountState::Failing, Some(reason));
        }
    }
}
