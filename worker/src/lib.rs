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
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use snapfleet_broker::{Broker, BrokerConfig};
use snapfleet_protocol::PlatformName;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
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
const STOP_TIMEOUT: Duration = Duration::from_secs(25);

/// A worker's settings, checked: nothing has started yet.
#[derive(Debug)]
pub struct Worker {
    broker: BrokerConfig,
    browser: BrowserConfig,
    state_dir: PathBuf,
    accounts: Vec<(AccountConfig, Plan)>,
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
            Some(path) => path.clone(),
            None => find_chromium()?,
        };
        std::fs::create_dir_all(&file.state_dir)
            .with_context(|| format!("state_dir {} cannot be made", file.state_dir.display()))?;
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
        Ok(Self { broker, browser, state_dir: file.state_dir, accounts })
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
    let platform = Arc::new(Platform::load(&dir.join(name.as_str()))?);
    loaded.insert(name.clone(), platform.clone());
    Ok(platform)
}

/// Captures and publishes until `shutdown`, then publishes what is left and closes the browser.
///
/// # Errors
/// Where the broker refuses us; one line that names the remedy.
pub async fn run(worker: Worker, shutdown: CancellationToken) -> anyhow::Result<()> {
    let broker = Broker::connect(&worker.broker, &shutdown).await?;
    let identity = Identity::new()?;
    let roster = Roster::default();
    let browser = SharedBrowser::new(worker.browser.clone());
    let pages = worker.accounts.iter().map(|(_, plan)| plan.page_count()).sum::<usize>();
    tracing::info!(worker.instance = %identity.instance, accounts = worker.accounts.len(), pages, "worker starts");
    let mut accounts = JoinSet::new();
    for (account, plan) in worker.accounts {
        roster.add(&account.id);
        let (sightings_in, sightings) = mpsc::channel(SIGHTINGS_MAX);
        let (claimed, released) = (CancellationToken::new(), shutdown.child_token());
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
        accounts.spawn(account::run(task));
        let browser = browser.clone();
        accounts.spawn(async move {
            tokio::select! {
                () = claimed.cancelled() => drive::run(plan, browser, sightings_in, released).await,
                () = released.cancelled() => {}
            }
        });
    }
    let heart = CancellationToken::new();
    let beating = tokio::spawn(fleet::beat(
        broker,
        identity,
        roster,
        u32::try_from(pages).unwrap_or(u32::MAX),
        heart.clone(),
    ));
    shutdown.cancelled().await;
    tracing::info!("worker stops");
    let stopped = tokio::time::timeout(STOP_TIMEOUT, async {
        while let Some(ended) = accounts.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a task of an account died");
            }
        }
        browser.close().await;
        heart.cancel();
        if let Err(error) = beating.await {
            tracing::error!(%error, "the heartbeat task died");
        }
    });
    if stopped.await.is_err() {
        tracing::warn!(limit_s = STOP_TIMEOUT.as_secs(), "not everything stopped in time and is cut off");
    }
    Ok(())
}
