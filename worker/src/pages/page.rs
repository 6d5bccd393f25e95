//! One page of an account: a tab that is loaded, looked after, and replaced when it hangs.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::Instant;

use super::desk::{Counter, LoginAsk};
use super::login::{LoginError, Standing};
use super::{Drive, PageEnd, PagePlan, scroll, state};
use crate::browser::{Backoff, CallError, Tab, over_page_limit};
use crate::capture::{PageReport, ReportsClosed, Tap};

/// How long a page may take to its load event; then it is used as far as it came.
const LOAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a standing page is asked whether it lives and is logged in.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// Pauses between tries of a page that fails.
const RETRY_PAUSE_MIN: Duration = Duration::from_millis(500);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(60);
/// A page that stood this long is healthy: its next failure is its first.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);
/// Failures of the page in a row after which it is tried in another tab.
const TAB_FAILURES_MAX: u32 = 3;
/// The least time between two loads, whatever the plan says.
const REFRESH_MIN: Duration = Duration::from_secs(1);
/// Loads in a row because another page logged in, after which it is left at that.
const RELOADS_MAX: u32 = 3;
/// How long the session may take to be read when the account is let go.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a visit to the page ended before its time.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    /// The page's fault: the same tab is tried again.
    #[error("{0}")]
    Page(String),
    /// The tab does not answer: another one is opened.
    #[error("{0}")]
    Tab(String),
    #[error("the browser died")]
    BrowserDied,
    #[error("the restored session is logged out")]
    SessionRefused,
    #[error(transparent)]
    Closed(#[from] ReportsClosed),
}

impl From<CallError> for Trouble {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Died => Self::BrowserDied,
            CallError::Timeout { .. } | CallError::Gone { .. } => Self::Tab(error.to_string()),
            CallError::Refused { .. } => Self::Page(error.to_string()),
        }
    }
}

impl From<LoginError> for Trouble {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::Call(error) => error.into(),
            LoginError::Closed(error) => error.into(),
            LoginError::SessionRefused => Self::SessionRefused,
        }
    }
}

/// Keeps the page loaded until the account is let go.
pub(super) async fn drive_page(drive: Arc<Drive>, plan: PagePlan) -> Result<(), PageEnd> {
    let mut backoff = Backoff::new(RETRY_PAUSE_MIN, RETRY_PAUSE_MAX, HEALTHY_AFTER);
    loop {
        let trouble = match live_tab(&drive, &plan, &mut backoff).await {
            Ok(()) => return Ok(()),
            Err(trouble) => trouble,
        };
        match trouble {
            Trouble::BrowserDied => return Err(PageEnd::BrowserDied),
            Trouble::SessionRefused => return Err(PageEnd::SessionRefused),
            Trouble::Closed(closed) => return Err(closed.into()),
            Trouble::Page(reason) | Trouble::Tab(reason) => drive.failed(&plan, reason).await?,
        }
    }
}

/// One tab from its opening to its end; `Ok` means told to stop.
async fn live_tab(drive: &Drive, plan: &PagePlan, backoff: &mut Backoff) -> Result<(), Trouble> {
    let opened = tokio::select! {
        biased;
        () = drive.stop.cancelled() => return Ok(()),
        opened = open(drive, plan, backoff) => opened,
    };
    // What the browser refuses here is the tab's fault, never the page's.
    let (tab, tap) = opened.map_err(|error| match error {
        CallError::Died => Trouble::BrowserDied,
        error => Trouble::Tab(error.to_string()),
    })?;
    let outcome = tokio::select! {
        biased;
        () = drive.stop.cancelled() => Ok(()),
        outcome = visits(drive, plan, &tab, backoff) => outcome,
        closed = state::read(&tab, plan, &drive.rules, &drive.reporter) => Err(closed.into()),
    };
    tokio::join!(tap.finish(), leave_session(drive, plan, &tab, &outcome));
    tab.close().await;
    outcome
}

/// Leaves the session as it is when the account is let go.
async fn leave_session(drive: &Drive, plan: &PagePlan, tab: &Tab, outcome: &Result<(), Trouble>) {
    if outcome.is_err() {
        return;
    }
    let error = match tokio::time::timeout(LEAVE_TIMEOUT, drive.keep_session(plan, tab, true)).await {
        Ok(Ok(()) | Err(CallError::Died)) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", LEAVE_TIMEOUT.as_secs()),
    };
    tracing::warn!(account.id = %drive.reporter.account(), page.name = plan.name, error, "the session's last state is not known");
}

async fn open(drive: &Drive, plan: &PagePlan, backoff: &mut Backoff) -> Result<(Tab, Tap), CallError> {
    backoff.wait().await;
    let tab = Tab::open(&drive.context).await?;
    match drive.carried.fill_tab(&tab, &plan.name).await {
        Ok(()) => {}
        Err(error @ CallError::Refused { .. }) => {
            tracing::warn!(account.id = %drive.reporter.account(), page.name = plan.name, %error, "session storage is not restored");
        }
        Err(error) => {
            tab.close().await;
            return Err(error);
        }
    }
    match Tap::start(&tab, &plan.name, Arc::clone(&drive.rules), Arc::clone(&drive.reporter)).await {
        Ok(tap) => Ok((tab, tap)),
        Err(error) => {
            tab.close().await;
            Err(error)
        }
    }
}

/// Visit after visit in one tab, until the tab itself is in trouble.
async fn visits(drive: &Drive, plan: &PagePlan, tab: &Tab, backoff: &mut Backoff) -> Result<(), Trouble> {
    let mut crashes = tab.crashes();
    let mut failures = 0;
    let mut too_large = std::pin::pin!(undisturbed(drive, over_page_limit(tab)));
    loop {
        let ended = tokio::select! {
            biased;
            () = crash(&mut crashes) => Err(Trouble::Page("its renderer crashed".into())),
            bytes = &mut too_large => Err(Trouble::Tab(format!(
                "its scripts take {} MiB of memory, more than they may; it gets a new tab", bytes >> 20
            ))),
            ended = visit(drive, plan, tab) => ended,
        };
        if ended.is_err() {
            lost(drive, plan);
        }
        match ended {
            Ok(()) => failures = 0,
            Err(Trouble::Page(reason)) if failures < TAB_FAILURES_MAX => {
                failures += 1;
                drive.failed(plan, reason).await?;
                backoff.wait().await;
            }
            Err(trouble) => return Err(trouble),
        }
    }
}

/// Waits for what would cost the page, and then until nobody logs in on it by hand.
async fn undisturbed<T>(drive: &Drive, cause: impl Future<Output = T>) -> T {
    let caused = cause.await;
    if let Some(login) = &drive.login {
        login.pending().over().await;
    }
    caused
}

async fn crash(crashes: &mut watch::Receiver<u64>) {
    if crashes.changed().await.is_err() {
        // Nobody watches the tab any more; its calls tell.
        std::future::pending::<()>().await;
    }
}

/// One load of the page, and then whatever happens until the next one is due.
async fn visit(drive: &Drive, plan: &PagePlan, tab: &Tab) -> Result<(), Trouble> {
    // What is asked for from here on wants a later load than this one.
    let mut asked = drive.steering.from_now_on();
    let (mut logins, mut told) = load_logged_in(drive, plan, tab).await?;
    drive.keep_session(plan, tab, false).await?;
    let mut unscrolled = true;
    scroll_logged_in(drive, plan, tab, &mut unscrolled).await?;
    let due = plan.refresh.map(|refresh| {
        Instant::now()
            + refresh.max(REFRESH_MIN).mul_f64(1.0 + plan.refresh_jitter * (2.0 * fastrand::f64() - 1.0))
    });
    let mut look_at = Instant::now() + LOOK_INTERVAL;
    loop {
        // Whoever logs in by hand must not have the page taken away: a code would be another one each time.
        let pending = is_pending(drive);
        let due = due.filter(|_| !pending);
        let woken = tokio::select! {
            () = tokio::time::sleep_until(due.map_or(look_at, |due| due.min(look_at))) => Woken::Look,
            () = asked.refresh() => Woken::Refresh,
            ask = ask(drive, plan) => Woken::Ask(ask),
        };
        match woken {
            Woken::Ask(ask) => {
                // A picture that is asked for every second must not put off the look at whether it is logged in.
                if !serve(drive, plan, tab, ask).await? && Instant::now() < look_at {
                    continue;
                }
            }
            Woken::Refresh if !pending => return Ok(()),
            Woken::Look if due.is_some_and(|due| due <= Instant::now()) => return Ok(()),
            Woken::Refresh | Woken::Look => {}
        }
        look_at = Instant::now() + LOOK_INTERVAL;
        let Some(login) = &drive.login else {
            tab.evaluate::<bool>("ask whether the page lives", "true".into()).await?;
            continue;
        };
        let standing = match login.look(tab, &drive.reporter, logins).await {
            // The document is being replaced, by whoever logs in on it: that is no reason to load it anew.
            Err(LoginError::Call(CallError::Refused { .. })) if pending => continue,
            looked => looked?,
        };
        if standing == Standing::Elsewhere {
            return Ok(());
        }
        if standing == Standing::JustIn {
            logins = login.logins().await;
            if !shows(tab, plan).await? {
                return Ok(());
            }
        }
        if !told && standing != Standing::Unclear {
            drive.loaded(plan).await?;
            told = true;
        }
        drive.keep_session(plan, tab, false).await?;
        scroll_logged_in(drive, plan, tab, &mut unscrolled).await?;
    }
}

/// Scrolls as the plan says, once after each load, while the page is logged in: a login page has nothing to scroll, and
/// whoever logs in on it would wait until that is given up.
async fn scroll_logged_in(
    drive: &Drive,
    plan: &PagePlan,
    tab: &Tab,
    unscrolled: &mut bool,
) -> Result<(), Trouble> {
    let logged_in = match &drive.login {
        Some(login) => login.standing().await.is_some(),
        None => true,
    };
    let Some(scroll_plan) = plan.scroll.as_ref().filter(|_| logged_in && *unscrolled) else {
        return Ok(());
    };
    let account = drive.reporter.account();
    let mut scrolled = std::pin::pin!(scroll::scroll(tab, scroll_plan, &drive.steering, account, &plan.name));
    let mut gone = std::pin::pin!(marker_gone(drive, tab));
    loop {
        tokio::select! {
            scrolled = &mut scrolled => {
                *unscrolled = false;
                return Ok(scrolled?);
            }
            // A session that ends meanwhile is noticed as soon as on a page that stands.
            gone = &mut gone => return Ok(gone?),
            // Whoever has just logged in is told so, however much there is to scroll.
            ask = ask(drive, plan) => {
                serve(drive, plan, tab, ask).await?;
            }
        };
    }
}

/// Waits until the page does not show any more that it is logged in.
async fn marker_gone(drive: &Drive, tab: &Tab) -> Result<(), CallError> {
    let Some(login) = &drive.login else { return std::future::pending().await };
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        if !login.is_in(tab).await? {
            return Ok(());
        }
    }
}

/// Serves at the login desk; tells whether something was done on the page.
async fn serve(drive: &Drive, plan: &PagePlan, tab: &Tab, ask: LoginAsk) -> Result<bool, CallError> {
    let counter = Counter { login: drive.login.as_ref(), steering: &drive.steering, tab, page: &plan.name };
    counter.serve(ask).await
}

fn is_pending(drive: &Drive) -> bool {
    drive.login.as_ref().is_some_and(|login| login.pending().until().is_some())
}

/// Nobody can go on with what they saw of a page that is lost: it is loaded anew without waiting for them.
fn lost(drive: &Drive, plan: &PagePlan) {
    if let (Some(login), Some((page, _))) = (&drive.login, &drive.desk)
        && *page == plan.name
    {
        login.pending().end();
    }
}

/// Why a standing page is looked at.
enum Woken {
    Look,
    Refresh,
    Ask(LoginAsk),
}

/// What is asked of the login page, on the page that serves it.
async fn ask(drive: &Drive, plan: &PagePlan) -> LoginAsk {
    match &drive.desk {
        Some((page, desk)) if *page == plan.name => desk.next().await,
        _ => std::future::pending().await,
    }
}

/// Loads the page, logging in where needed, and tells that it is loaded once the login's state is known; returns how
/// many logins there were by then, and whether it was told.
async fn load_logged_in(drive: &Drive, plan: &PagePlan, tab: &Tab) -> Result<(u64, bool), Trouble> {
    let Some(login) = &drive.login else {
        load(drive, plan, tab).await?;
        drive.loaded(plan).await?;
        return Ok((0, true));
    };
    let mut logins = 0;
    for _ in 0..RELOADS_MAX {
        logins = login.logins().await;
        load(drive, plan, tab).await?;
        match login.settle(tab, &drive.reporter, logins).await? {
            Standing::In | Standing::Out => break,
            Standing::Elsewhere => {}
            Standing::Unclear => {
                drive.failed(plan, "neither login marker appeared".into()).await?;
                return Ok((logins, false));
            }
            Standing::JustIn => {
                logins = login.logins().await;
                if shows(tab, plan).await? {
                    break;
                }
            }
        }
    }
    drive.loaded(plan).await?;
    Ok((logins, true))
}

/// What the page says of its load.
#[derive(Debug, Deserialize)]
struct Loaded {
    ready: bool,
    status: u16,
    url: String,
}

async fn look_at_load(tab: &Tab) -> Result<Loaded, CallError> {
    let script = "({
        ready: document.readyState !== 'loading',
        status: performance.getEntriesByType('navigation')[0]?.responseStatus ?? 0,
        url: location.href,
    })";
    tab.evaluate("look at the load", script.into()).await
}

async fn load(drive: &Drive, plan: &PagePlan, tab: &Tab) -> Result<(), Trouble> {
    // Both at this instant: each wait is long enough for the other to be over.
    loop {
        drive.steering.may_drive().await;
        let Some(login) = drive.login.as_ref().filter(|login| login.pending().until().is_some()) else {
            break;
        };
        login.pending().over().await;
    }
    let slow = match tab.goto(&plan.url, LOAD_TIMEOUT).await {
        Ok(()) => false,
        Err(CallError::Timeout { .. }) => true,
        Err(error) => return Err(error.into()),
    };
    let loaded = look_at_load(tab).await?;
    if slow && (!loaded.ready || loaded.url == "about:blank") {
        return Err(Trouble::Tab(format!("not loaded after {} s", LOAD_TIMEOUT.as_secs())));
    }
    if loaded.status >= 400 {
        return Err(Trouble::Page(format!("the site answered with status {}", loaded.status)));
    }
    if slow {
        tracing::warn!(account.id = %drive.reporter.account(), page.name = plan.name, "page loads slowly");
    }
    Ok(())
}

/// Whether the tab still shows what the plan says, apart from a fragment.
async fn shows(tab: &Tab, plan: &PagePlan) -> Result<bool, Trouble> {
    let shown = look_at_load(tab).await?.url;
    let bare = |text: &str| {
        url::Url::parse(text).ok().map(|mut url| {
            url.set_fragment(None);
            url
        })
    };
    Ok(bare(&shown).is_some() && bare(&shown) == bare(&plan.url))
}

impl Drive {
    /// Leaves what the tab shows of the session, where it is time; what the page refuses is asked again later.
    async fn keep_session(&self, plan: &PagePlan, tab: &Tab, last: bool) -> Result<(), CallError> {
        let Some(login) = &self.login else { return Ok(()) };
        let (context, account) = (&self.context, self.reporter.account());
        match self.carried.gather((context, tab, &plan.name), login, account, last).await {
            Err(error @ CallError::Refused { .. }) => {
                tracing::warn!(account.id = %account, page.name = plan.name, %error, "the session cannot be read now");
                Ok(())
            }
            gathered => gathered,
        }
    }

    async fn loaded(&self, plan: &PagePlan) -> Result<(), ReportsClosed> {
        self.reporter.send(PageReport::PageLoaded { page: plan.name.clone() }).await
    }

    async fn failed(&self, plan: &PagePlan, reason: String) -> Result<(), ReportsClosed> {
        tracing::warn!(account.id = %self.reporter.account(), page.name = plan.name, reason, "page failed");
        self.reporter.send(PageReport::PageFailed { page: plan.name.clone(), reason }).await
    }
}
