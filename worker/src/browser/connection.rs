//! The connection to a running Chromium: polled by its own task, each call bounded, its death seen at once.
//!
//! The library's event stream never ends when the browser dies and its calls then hang for 30 s. So the end is
//! told by the process itself or by the first socket error, and every call races against it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use chromiumoxide::cdp::browser_protocol::browser::{BrowserContextId, CloseParams};
use chromiumoxide::cdp::browser_protocol::target::{CreateBrowserContextParams, DisposeBrowserContextParams};
use chromiumoxide::error::CdpError;
use chromiumoxide::handler::{Handler, HandlerConfig};
use futures_util::StreamExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::memory::Counted;
use super::process::Process;
use super::profile::Profile;
use super::{BrowserConfig, BrowserError};
use crate::capture::Clock;

/// How long a browser that was asked to close may take before it is killed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a killed process may take to be gone; beyond it, only the operating system can say more.
const KILLED_TIMEOUT: Duration = Duration::from_secs(5);
/// A browser that lives but answers nothing is killed after so many unanswered questions.
const HEALTH_INTERVAL: Duration = Duration::from_secs(10);
const HEALTH_FAILURES_MAX: u32 = 2;
/// Errors in a row after which the connection is given up: each one alone is no reason.
const HANDLER_ERRORS_MAX: u32 = 100;

/// Why a call to the browser gave nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The browser died.
    #[error("the browser died")]
    Died,
    /// No answer in time: the page or the browser hangs, or the machine is very slow.
    #[error("{what}: no answer after {after_ms} ms")]
    Timeout { what: &'static str, after_ms: u128 },
    /// The tab is gone.
    #[error("{what}: the tab is gone")]
    Gone { what: &'static str },
    /// The browser refused.
    #[error("{what}: {reason}")]
    Refused { what: &'static str, reason: String },
}

/// A running Chromium. Closed by [`super::SharedBrowser::close`]; killed when it is dropped.
#[derive(Debug)]
pub struct Browser {
    cdp: chromiumoxide::Browser,
    process: Process,
    died: CancellationToken,
    cleaned: CancellationToken,
    /// Cancelled when it is to be replaced: its users let go of it.
    retired: CancellationToken,
    /// How many contexts are open.
    contexts: watch::Sender<usize>,
    call_timeout: Duration,
    page_bytes_max: u64,
    clock: Clock,
}

impl Browser {
    pub(super) async fn launch(config: &BrowserConfig, mut profile: Profile) -> Result<Self, BrowserError> {
        let (process, address) = super::process::start(config, profile.folder()).await?;
        profile.note_socket_folder();
        let handler_config = HandlerConfig {
            ignore_https_errors: false,
            viewport: None,
            request_timeout: config.call_timeout,
            ..HandlerConfig::default()
        };
        let connect = chromiumoxide::Browser::connect_with_config(address, handler_config);
        let failed = |reason: String| BrowserError::Launch { reason };
        let (cdp, handler) = tokio::time::timeout(config.call_timeout, connect)
            .await
            .map_err(|_| failed("its debugging port does not answer".into()))?
            .map_err(|error| failed(format!("its debugging port: {error}")))?;

        let died = CancellationToken::new();
        let cleaned = CancellationToken::new();
        tokio::spawn(poll_handler(handler, died.clone()));
        tokio::spawn(clean_up(process.exited().clone(), died.clone(), cleaned.clone(), profile));
        let browser = Self {
            cdp,
            process,
            died,
            cleaned,
            retired: CancellationToken::new(),
            contexts: watch::Sender::new(0),
            call_timeout: config.call_timeout,
            page_bytes_max: config.page_bytes_max,
            clock: Clock::default(),
        };
        match browser.call("browser version", browser.cdp.version()).await {
            Ok(version) => {
                tracing::info!(
                    browser.pid = browser.pid(),
                    browser.product = version.product,
                    "browser launched"
                );
                Ok(browser)
            }
            Err(error) => Err(failed(error.to_string())),
        }
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Whether it is known not to have died.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !self.died.is_cancelled()
    }

    /// Waits until the browser dies.
    pub async fn died(&self) {
        self.died.cancelled().await;
    }

    /// Waits until the browser is to be replaced: whoever uses it is to let go of it.
    pub async fn retired(&self) {
        self.retired.cancelled().await;
    }

    pub(super) fn retire(&self) {
        self.retired.cancel();
    }

    pub(super) fn death(&self) -> &CancellationToken {
        &self.died
    }

    /// How many contexts are open in it.
    pub(super) fn contexts(&self) -> usize {
        *self.contexts.borrow()
    }

    /// Waits until no context is open in it.
    pub(super) async fn unused(&self) {
        // The sender is ours, so this does not fail.
        let _ = self.contexts.subscribe().wait_for(|count| *count == 0).await;
    }

    /// The most memory that a page may take, in bytes.
    pub(super) fn page_bytes_max(&self) -> u64 {
        self.page_bytes_max
    }

    pub(crate) fn call_timeout(&self) -> Duration {
        self.call_timeout
    }

    /// The time of its events.
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) fn cdp(&self) -> &chromiumoxide::Browser {
        &self.cdp
    }

    /// Runs one call with the limit for calls; the browser's death ends it at once.
    pub(crate) async fn call<T>(
        &self,
        what: &'static str,
        call: impl Future<Output = Result<T, CdpError>>,
    ) -> Result<T, CallError> {
        self.call_within(what, self.call_timeout, call).await
    }

    pub(crate) async fn call_within<T>(
        &self,
        what: &'static str,
        limit: Duration,
        call: impl Future<Output = Result<T, CdpError>>,
    ) -> Result<T, CallError> {
        let timeout = || CallError::Timeout { what, after_ms: limit.as_millis() };
        tokio::select! {
            biased;
            () = self.died.cancelled() => Err(CallError::Died),
            answer = tokio::time::timeout(limit, call) => match answer {
                Ok(Ok(value)) => Ok(value),
                Ok(Err(CdpError::Ws(_))) => Err(CallError::Died),
                Ok(Err(CdpError::Timeout)) | Err(_) => Err(timeout()),
                Ok(Err(CdpError::ChannelSendError(_))) => Err(CallError::Gone { what }),
                Ok(Err(error)) => Err(CallError::Refused { what, reason: error.to_string() }),
            }
        }
    }

    /// A new isolated context: its cookies, storage and cache are its own.
    pub(crate) async fn new_context(self: &Arc<Self>) -> Result<Context, CallError> {
        let params = CreateBrowserContextParams::builder().dispose_on_detach(true).build();
        let id = self.call("new browser context", self.cdp.create_browser_context(params)).await?;
        Ok(Context {
            browser: Arc::clone(self),
            id: Some(id),
            has_service_worker: CancellationToken::new(),
            _counted: Counted::new(&self.contexts),
        })
    }

    /// Asks it to close, kills it if it does not, and waits until it and its profile are gone.
    pub(super) async fn close(&self) {
        let asked = self.call_within("close", CLOSE_TIMEOUT, self.cdp.execute(CloseParams::default())).await;
        let exited = tokio::time::timeout(CLOSE_TIMEOUT, self.process.exited().cancelled()).await;
        if exited.is_err() {
            tracing::warn!(browser.pid = self.pid(), asked = ?asked.err(), "browser does not close, killing it");
            self.process.kill();
        }
        if tokio::time::timeout(KILLED_TIMEOUT, self.cleaned.cancelled()).await.is_err() {
            tracing::error!(browser.pid = self.pid(), "browser is still there after a kill");
        }
    }
}

/// Drives the connection until it breaks. The guard covers a panic inside the library, too.
async fn poll_handler(mut handler: Handler, died: CancellationToken) {
    let _died = died.drop_guard();
    let mut errors = 0;
    while let Some(event) = handler.next().await {
        match event {
            Ok(()) => errors = 0,
            Err(CdpError::Ws(error)) => {
                tracing::debug!(%error, "browser connection ended");
                return;
            }
            Err(error) => {
                errors += 1;
                if errors > HANDLER_ERRORS_MAX {
                    tracing::error!(%error, "browser connection given up");
                    return;
                }
                tracing::warn!(%error, "browser connection error");
            }
        }
    }
}

/// Turns the end of the process into the death of the browser, and removes the profile when the process is gone.
async fn clean_up(
    exited: CancellationToken,
    died: CancellationToken,
    cleaned: CancellationToken,
    profile: Profile,
) {
    let _cleaned = cleaned.drop_guard();
    exited.cancelled().await;
    died.cancel();
    profile.remove().await;
}

/// Kills a browser whose connection broke or that answers nothing, so that its users see it dead and the next one
/// can be launched. Holds no reference while it waits.
pub(super) fn watch_health(browser: &Arc<Browser>) {
    let died = browser.died.clone();
    let browser = Arc::downgrade(browser);
    tokio::spawn(async move {
        let mut failures = 0;
        loop {
            let broken = tokio::time::timeout(HEALTH_INTERVAL, died.cancelled()).await.is_ok();
            let Some(browser) = browser.upgrade() else { return };
            if broken {
                browser.process.kill();
                return;
            }
            match browser.call("browser version", browser.cdp.version()).await {
                Ok(_) => failures = 0,
                Err(error) => {
                    failures += 1;
                    tracing::warn!(browser.pid = browser.pid(), failures, %error, "browser does not answer");
                }
            }
            if failures >= HEALTH_FAILURES_MAX {
                tracing::error!(browser.pid = browser.pid(), "browser hangs, killing it");
                browser.process.kill();
            }
        }
    });
}

/// An isolated browser context, disposed with all its pages by [`Context::dispose`] or when dropped.
#[derive(Debug)]
pub(crate) struct Context {
    browser: Arc<Browser>,
    id: Option<BrowserContextId>,
    has_service_worker: CancellationToken,
    _counted: Counted,
}

impl Context {
    pub(crate) fn browser(&self) -> &Arc<Browser> {
        &self.browser
    }

    pub(crate) fn id(&self) -> Option<&BrowserContextId> {
        self.id.as_ref()
    }

    /// Cancelled for good once a service worker was registered in it.
    pub(crate) fn has_service_worker(&self) -> &CancellationToken {
        &self.has_service_worker
    }

    /// Closes its pages and forgets its cookies and storage.
    pub(crate) async fn dispose(mut self) {
        if let Some(id) = self.id.take() {
            dispose(&self.browser, id).await;
        }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // Only when the task that owns it is dropped half way.
        let (Some(id), Ok(runtime)) = (self.id.take(), tokio::runtime::Handle::try_current()) else { return };
        let browser = Arc::clone(&self.browser);
        runtime.spawn(async move { dispose(&browser, id).await });
    }
}

async fn dispose(browser: &Browser, id: BrowserContextId) {
    let call = browser.cdp.execute(DisposeBrowserContextParams::new(id));
    match browser.call("dispose browser context", call).await {
        Ok(_) | Err(CallError::Died) => {}
        Err(error) => tracing::warn!(%error, "browser context not disposed"),
    }
}
