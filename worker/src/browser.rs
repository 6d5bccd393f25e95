//! The one Chromium of a worker: launched on first use, launched again after it died, closed without a trace.
//!
//! Owns the process, its profile folder and the connection to it. It must not know accounts, platforms or what
//! is captured: [`crate::pages`] drives pages in it, [`crate::capture`] listens to them.

mod backoff;
mod connection;
mod find;
mod hand;
mod memory;
mod process;
mod profile;
mod storage;
mod tab;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(crate) use backoff::Backoff;
pub use connection::Browser;
pub(crate) use connection::{CallError, Context};
pub use find::find_chromium;
pub(crate) use hand::Picture;
pub(crate) use memory::over_page_limit;
pub use memory::{BROWSER_BYTES, BROWSER_BYTES_PER_ACCOUNT, PAGE_BYTES_MAX};
pub(crate) use storage::Storage;
pub(crate) use tab::Tab;

use profile::Profile;

/// What a tracing filter must hold so that the protocol library does not flood the log: it warns once for each
/// request that a current Chromium describes in a newer form, and below that it prints raw traffic, cookies
/// included. What matters of it is logged by this crate.
pub const LOG_DIRECTIVE: &str = "chromiumoxide=off";

/// The first pause before a browser that died young is launched again; it doubles up to [`RELAUNCH_PAUSE_MAX`].
const RELAUNCH_PAUSE_MIN: Duration = Duration::from_millis(500);
const RELAUNCH_PAUSE_MAX: Duration = Duration::from_secs(30);
/// A browser that lived this long did not die of its launch: the next launch is immediate.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);

/// How the worker's Chromium is launched.
#[derive(Debug, Clone)]
pub struct BrowserConfig {
    /// The Chromium binary, see [`find_chromium`].
    pub executable: PathBuf,
    /// A folder of this worker's own for temporary profiles: each launch gets a fresh one below it, removed at
    /// the end. What a killed worker left there is removed at the first launch.
    pub user_data_dir: PathBuf,
    /// Without a window.
    pub headless: bool,
    /// Chromium's sandbox. Off only where it cannot work: as root, or in a container without user namespaces.
    pub sandbox: bool,
    /// The limit of each single call to the browser.
    pub call_timeout: Duration,
    /// A page whose scripts take more memory gets a new tab, in bytes.
    pub page_bytes_max: u64,
    /// A browser whose processes take more memory together is closed and another one launched, in bytes; `None` for
    /// [`BROWSER_BYTES`] and [`BROWSER_BYTES_PER_ACCOUNT`] for each account that is open in it.
    pub browser_bytes_max: Option<u64>,
    /// More command line switches, each with its leading dashes.
    pub extra_args: Vec<String>,
}

impl BrowserConfig {
    /// The usual settings: headless, sandboxed, 20 s for each call, the usual limits of memory.
    #[must_use]
    pub fn new(executable: PathBuf, user_data_dir: PathBuf) -> Self {
        Self {
            executable,
            user_data_dir,
            headless: true,
            sandbox: true,
            call_timeout: Duration::from_secs(20),
            page_bytes_max: PAGE_BYTES_MAX,
            browser_bytes_max: None,
            extra_args: Vec::new(),
        }
    }
}

/// Why there is no browser.
#[derive(Debug, thiserror::Error)]
pub enum BrowserError {
    /// No Chromium binary.
    #[error(
        "chromium not found ({looked}): install it (apt-get install chromium) or set CHROME to its binary"
    )]
    NotFound {
        /// Where it was looked for.
        looked: String,
    },
    /// No `setpriv`, without which a killed worker would leave its Chromium behind.
    #[error("setpriv not found on PATH: install util-linux (apt-get install util-linux)")]
    SetprivNotFound,
    /// The profile folder cannot be made.
    #[error("profile folder below {folder}: {reason}")]
    Profile {
        /// The folder for profiles.
        folder: String,
        /// What the operating system said.
        reason: String,
    },
    /// Chromium did not start.
    #[error("chromium did not start: {reason}")]
    Launch {
        /// What it printed, or what went wrong.
        reason: String,
    },
    /// [`SharedBrowser::close`] was called.
    #[error("the browser is closed: the worker is stopping")]
    Closed,
}

/// One Chromium for the whole worker, cloned freely.
#[derive(Debug, Clone)]
pub struct SharedBrowser {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: BrowserConfig,
    closed: CancellationToken,
    slot: Mutex<Slot>,
    /// What the browser's processes took when last looked at.
    memory_bytes: AtomicU64,
}

#[derive(Debug)]
struct Slot {
    browser: Option<Arc<Browser>>,
    backoff: Backoff,
    swept: bool,
    /// When a browser was last replaced because of its memory.
    recycled_at: Option<Instant>,
}

impl SharedBrowser {
    /// Nothing is launched yet.
    #[must_use]
    pub fn new(config: BrowserConfig) -> Self {
        let slot = Slot {
            browser: None,
            backoff: Backoff::new(RELAUNCH_PAUSE_MIN, RELAUNCH_PAUSE_MAX, HEALTHY_AFTER),
            swept: false,
            recycled_at: None,
        };
        let (closed, slot, memory_bytes) = (CancellationToken::new(), Mutex::new(slot), AtomicU64::new(0));
        Self { inner: Arc::new(Inner { config, closed, slot, memory_bytes }) }
    }

    /// The running browser; launches one if there is none or it died. Launches are at most one for each
    /// back-off pause (0.5 s, doubling to 30 s), which this waits for.
    ///
    /// # Errors
    /// [`BrowserError`]; the next call tries again, except after [`SharedBrowser::close`].
    pub async fn acquire(&self) -> Result<Arc<Browser>, BrowserError> {
        tokio::select! {
            biased;
            () = self.inner.closed.cancelled() => Err(BrowserError::Closed),
            acquired = self.acquire_open() => acquired,
        }
    }

    async fn acquire_open(&self) -> Result<Arc<Browser>, BrowserError> {
        let mut slot = self.inner.slot.lock().await;
        if let Some(browser) = &slot.browser
            && browser.is_alive()
        {
            return Ok(Arc::clone(browser));
        }
        if let Some(dead) = slot.browser.take() {
            tracing::warn!(browser.pid = dead.pid(), "browser died, launching another");
        }
        let config = &self.inner.config;
        if !slot.swept {
            profile::sweep(&config.user_data_dir).await;
            slot.swept = true;
        }
        slot.backoff.wait().await;
        let folder = config.user_data_dir.clone();
        let profile = Profile::create(&folder).map_err(|error| BrowserError::Profile {
            folder: folder.display().to_string(),
            reason: error.to_string(),
        })?;
        let browser = Arc::new(Browser::launch(config, profile).await?);
        connection::watch_health(&browser);
        tokio::spawn(memory::watch(Arc::downgrade(&self.inner), Arc::downgrade(&browser)));
        slot.browser = Some(Arc::clone(&browser));
        Ok(browser)
    }

    /// Memory of the browser's processes together when last looked at, at most 10 s ago, in bytes; 0 where that is not
    /// known.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.inner.memory_bytes.load(Ordering::Relaxed)
    }

    /// Closes the browser, waits for its end (at most about 15 s, then it is killed) and removes its profile.
    /// Every later [`SharedBrowser::acquire`] fails.
    pub async fn close(&self) {
        self.inner.closed.cancel();
        let browser = self.inner.slot.lock().await.browser.take();
        if let Some(browser) = browser {
            browser.close().await;
        }
        self.inner.memory_bytes.store(0, Ordering::Relaxed);
    }
}
