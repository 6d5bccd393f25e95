//! The worker's half of the line: `capture` (page to bodies) > `map` (bodies to records) > `diff` (records to
//! what is new) > `encode` > `publish` > the broker's stream.
//!
//! [`run`] holds one browser and the accounts that the fleet gives to this worker, until told to stop.

pub mod account;
pub mod browser;
pub mod capture;
pub mod commands;
pub mod config;
mod control;
pub mod drive;
mod escapes;
pub mod fleet;
mod glob;
pub mod har;
pub mod login_cli;
pub mod lone;
pub mod normalise;
pub mod outbox;
pub mod pages;
pub mod platform;
pub mod publish;
pub mod record;
pub mod roster;
pub mod session;
pub mod simulate;
pub mod steering;
pub mod window;

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use snapfleet_broker::{Broker, BrokerConfig, check_access};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::browser::{BrowserConfig, SharedBrowser, find_chromium};
use crate::config::{FleetArgs, RunArgs, SimulateArgs};
use crate::fleet::gate::Gate;
use crate::fleet::heartbeat::{self, Told};
use crate::fleet::tenure::{Crew, Source};
use crate::fleet::{FleetTask, Identity};
use crate::platform::Shelf;
use crate::roster::Roster;
use crate::session::FleetKey;

/// How long everything together may take to stop; what is left then is cut off.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// A worker's settings, checked: nothing has started yet.
pub struct Worker {
    broker: BrokerConfig,
    identity: Identity,
    state_dir: PathBuf,
    source: Source,
    key: Option<Arc<FleetKey>>,
    /// Held for as long as the worker lives: two workers must not share a state_dir.
    _lock: File,
}

impl Worker {
    /// Reads the platforms and their filters, and finds the browser.
    ///
    /// # Errors
    /// One line that names the thing and the remedy.
    pub fn new(args: &RunArgs) -> anyhow::Result<Self> {
        let shelf = Shelf::load(&platform::find_folder(args.platforms.as_deref())?)?;
        let executable = match &args.chrome {
            Some(path) if path.is_file() => path.clone(),
            Some(path) => {
                anyhow::bail!("CHROME {} is not a program: correct it, or leave it out", path.display())
            }
            None => find_chromium()?,
        };
        let key = args.key.load()?;
        if key.is_none() {
            tracing::warn!(
                "no key of the fleet is given (--session-key-file): sessions are not kept, so an account that moves is logged in anew, and sealed settings cannot be read"
            );
        }
        let worker = Self::with(&args.fleet, |state_dir| {
            let mut browser = BrowserConfig::new(executable, state_dir.join("browser"));
            browser.headless = !args.headed;
            // Chromium's sandbox does not work as root; see the README for what that means.
            browser.sandbox = !rustix::process::geteuid().is_root();
            browser.page_bytes_max = args.page_memory_mib * 1024 * 1024;
            browser.browser_bytes_max = args.browser_memory_mib.map(|mib| mib * 1024 * 1024);
            Source::Browser { shelf, browser: SharedBrowser::new(browser) }
        })?;
        Ok(Self { key: key.map(Arc::new), ..worker })
    }

    /// A worker with a generator in place of the browser.
    ///
    /// # Errors
    /// One line that names the thing and the remedy.
    pub fn simulated(args: &SimulateArgs) -> anyhow::Result<Self> {
        let simulation = Arc::new(args.simulation.clone());
        Self::with(&args.fleet, |_| Source::Simulation(simulation))
    }

    fn with(args: &FleetArgs, source: impl FnOnce(&Path) -> Source) -> anyhow::Result<Self> {
        let (broker, labels, state_dir) = (args.broker.config()?, args.labels()?, args.state_dir.clone());
        std::fs::create_dir_all(&state_dir)
            .with_context(|| format!("state_dir {} cannot be made", state_dir.display()))?;
        let lock = lock(&state_dir)?;
        let identity = Identity::new(&state_dir, args.worker_id.clone())?;
        let identity = Identity { max_accounts: args.max_accounts, labels, ..identity };
        let source = source(&state_dir);
        Ok(Self { broker, identity, state_dir, source, key: None, _lock: lock })
    }
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

/// Holds accounts until `shutdown`, then publishes what is left, gives them back and closes the browser.
///
/// # Errors
/// Where the broker refuses us, or another running worker has our id; one line that names the remedy.
pub async fn run(worker: Worker, shutdown: CancellationToken) -> anyhow::Result<()> {
    let Worker { broker: config, identity, state_dir, source, key, _lock } = worker;
    let browser = match &source {
        Source::Browser { browser, .. } => Some(browser.clone()),
        Source::Simulation(_) => None,
    };
    // Beside connecting: after an outage of the broker, who is ready late has lost its accounts to the others. And before
    // anything is taken: a worker without a browser must not take accounts from one that has it.
    let launching = async {
        match &browser {
            Some(browser) => Ok(browser.acquire().await.map(drop)?),
            None => Ok(()),
        }
    };
    let connecting = async {
        let broker = Broker::connect(&config, &shutdown).await?;
        check_access(&broker, &shutdown).await?;
        anyhow::Ok(broker)
    };
    let both = tokio::select! {
        both = async { tokio::try_join!(connecting, launching) } => both,
        () = shutdown.cancelled() => return Ok(()),
    };
    let (broker, ()) = both?;
    identity.wait_for_twin(&broker, &shutdown).await?;
    tracing::info!(worker.id = %identity.worker, worker.instance = %identity.instance,
        max_accounts = identity.max_accounts, "worker starts");
    let (roster, gate) = (Roster::default(), Gate::new());
    let _following = match &source {
        Source::Browser { shelf, .. } => Some(AbortOnDropHandle::new(tokio::spawn(platform::follow(
            shelf.clone(),
            |_| {},
            shutdown.clone(),
        )))),
        Source::Simulation(_) => None,
    };
    let crew = Arc::new(Crew {
        broker: broker.clone(),
        instance: identity.instance.clone(),
        roster: roster.clone(),
        gate: gate.clone(),
        outbox_dir: state_dir.join("outbox"),
        source,
        lanes: Arc::default(),
        key,
    });
    let (told_in, told) = watch::channel(Told { platforms: crew.source.platforms(), ..Told::default() });
    let heart = CancellationToken::new();
    let beating = heartbeat::start(config, identity.clone(), (roster.clone(), gate), told, heart.clone())
        .context("no thread for the heartbeat")?;
    let serving = tokio::spawn(control::serve(broker, identity.clone(), roster.clone(), heart.clone()));
    let task = FleetTask { identity, crew, told: told_in, stop: shutdown.clone() };
    let fleet = tokio::spawn(fleet::run(task));
    let result = tokio::select! {
        result = fleet => result.map_err(|error| anyhow::anyhow!("the fleet's task died ({error}): restart the worker")),
        () = overdue(&shutdown) => {
            tracing::warn!(limit_s = STOP_TIMEOUT.as_secs(), "not everything stopped in time and is cut off");
            Ok(Ok(()))
        }
    };
    tracing::info!("worker stops");
    if let Some(browser) = browser {
        browser.close().await;
    }
    heart.cancel();
    if let Err(error) = serving.await {
        tracing::error!(%error, "the micro service's task died");
    }
    match tokio::task::spawn_blocking(move || beating.join()).await {
        Ok(Ok(())) => {}
        _ => tracing::error!("the heartbeat's thread died"),
    }
    tracing::info!("worker stopped; what the broker has not acked is kept for its next start");
    Ok(result??)
}

/// Returns once the time to stop is over.
async fn overdue(shutdown: &CancellationToken) {
    shutdown.cancelled().await;
    tokio::time::sleep(STOP_TIMEOUT).await;
}
