//! One account's pages: opens them in the shared browser, maps what they deliver, and tells the account's task.
//!
//! The only place where platform and browser meet. Knows nothing of windows, the stream or the broker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use snapfleet_protocol::{AccountId, UnixMs};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::account::Sighting;
use crate::browser::SharedBrowser;
use crate::capture::{CaptureRule, Captured, HostPattern, PageReport, PathPattern, Source};
use crate::pages::{AccountPlan, Desk, DriveError, LoginPlan, PagePlan, ScrollPlan, drive_account};
use crate::platform::{AccountView, CaptureSource, CaptureSpec, LoginSpec, PageSpec, Platform, Request};
use crate::roster::now;
use crate::session::SessionExchange;
use crate::steering::Steering;

/// Captured bodies that wait for the mapping, at most; beyond that the browser side waits.
const REPORTS_MAX: usize = 64;
const RETRY_PAUSE_MIN: Duration = Duration::from_millis(500);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(30);
/// Pages that were driven for this long were well: the next failure is retried at once.
const WELL_AFTER: Duration = Duration::from_secs(60);
/// Refused rows of one body that are logged one by one; the others are only counted.
const REFUSED_LOGGED_MAX: usize = 5;

/// What is driven for one account, checked before anything starts.
#[derive(Debug, Clone)]
pub struct Plan {
    platform: Arc<Platform>,
    account: AccountView,
    pages: Vec<PagePlan>,
    login: Option<LoginPlan>,
    rules: Arc<Vec<CaptureRule>>,
    session: SessionExchange,
    steering: Steering,
    desk: Desk,
    versions: Option<Versions>,
}

/// Where newer versions of a platform come from.
pub type Versions = watch::Receiver<Arc<Platform>>;

impl Plan {
    /// Fits a platform to an account's settings.
    ///
    /// # Errors
    /// One line that names the account and the setting or pattern that does not fit.
    pub fn new(
        platform: &Arc<Platform>,
        account: &AccountId,
        settings: &BTreeMap<String, String>,
    ) -> anyhow::Result<Self> {
        let named = |error: &dyn std::fmt::Display| anyhow::anyhow!("account {account}: {error}");
        let pages = platform.pages(settings).map_err(|error| named(&error))?;
        let login = platform.login(settings).map_err(|error| named(&error))?;
        let rules: Result<Vec<_>, _> = platform.captures().iter().map(rule).collect();
        Ok(Self {
            platform: platform.clone(),
            account: AccountView { id: account.clone(), settings: settings.clone() },
            pages: pages.into_iter().map(page).collect(),
            login: login.map(login_plan),
            rules: Arc::new(rules.map_err(|error| named(&error))?),
            session: SessionExchange::default(),
            steering: Steering::free(),
            desk: Desk::default(),
            versions: None,
        })
    }

    /// The same, with sessions to try before logging in, and somebody who keeps what is left of them.
    #[must_use]
    pub fn with_session(self, session: SessionExchange) -> Self {
        Self { session, ..self }
    }

    /// The same, driven only while the account is held.
    #[must_use]
    pub fn with_steering(self, steering: Steering) -> Self {
        Self { steering, ..self }
    }

    /// The same, with a desk at which its login page is asked for.
    #[must_use]
    pub fn with_desk(self, desk: Desk) -> Self {
        Self { desk, ..self }
    }

    /// The same, following the versions of its platform.
    #[must_use]
    pub fn with_versions(self, versions: Versions) -> Self {
        Self { versions: Some(versions), ..self }
    }

    /// The same for another version of its platform.
    fn on(&self, platform: &Arc<Platform>, versions: Versions) -> anyhow::Result<Self> {
        let Self { session, steering, desk, .. } = self.clone();
        let plan = Self::new(platform, &self.account.id, &self.account.settings)?;
        Ok(Self { session, steering, desk, versions: Some(versions), ..plan })
    }

    /// What is driven of it.
    pub(crate) fn account_plan(&self) -> AccountPlan {
        AccountPlan {
            account: self.account.id.clone(),
            pages: self.pages.clone(),
            login: self.login.clone(),
            rules: self.rules.clone(),
            session: self.session.clone(),
            steering: self.steering.clone(),
            desk: self.desk.clone(),
        }
    }

    /// How many tabs it takes.
    #[must_use]
    pub fn page_count(&self) -> usize {
        self.pages.len()
    }
}

fn page(spec: PageSpec) -> PagePlan {
    let scroll = spec.scroll.map(|scroll| ScrollPlan {
        selector: scroll.selector,
        steps_max: scroll.steps_max,
        pause: scroll.pause,
        until: scroll.until,
    });
    PagePlan {
        name: spec.name,
        url: spec.url.to_string(),
        refresh: spec.refresh,
        refresh_jitter: spec.refresh_jitter,
        scroll,
    }
}

fn login_plan(spec: LoginSpec) -> LoginPlan {
    let fill = spec.fill.into_iter().map(|field| (field.selector, field.value)).collect();
    LoginPlan {
        logged_in: spec.logged_in,
        logged_out: spec.logged_out,
        submit: spec.submit,
        fill,
        code: spec.code,
    }
}

pub(crate) fn rule(spec: &CaptureSpec) -> anyhow::Result<CaptureRule> {
    let source = match spec.source {
        CaptureSource::Response => Source::Response,
        CaptureSource::EventSource => Source::EventSource,
        CaptureSource::Websocket => Source::WebSocket,
        CaptureSource::PageState => Source::PageState,
    };
    let path = match source {
        Source::PageState => PathPattern::any(),
        _ => PathPattern::parse(&spec.path)?,
    };
    Ok(CaptureRule {
        host: spec.host.as_deref().map(HostPattern::parse).transpose()?,
        methods: spec.methods.clone(),
        status: spec.status.clone(),
        content_type: spec.content_type.clone(),
        script: spec.script.as_deref().map(Arc::from),
        pages: spec.pages.clone(),
        every: spec.every,
        ..CaptureRule::new(&spec.name, source, path)
    })
}

/// Drives the account's pages until `stop`, in a new browser or context after each failure, and anew for each version
/// of its platform that calls for other pages or rules.
pub async fn run(
    mut plan: Plan,
    browser: SharedBrowser,
    sightings: mpsc::Sender<Sighting>,
    stop: CancellationToken,
) {
    while let Some(next) = drive_version(&plan, &browser, &sightings, &stop).await {
        tracing::info!(account.id = %plan.account.id, "the platform's file was changed: the pages begin anew");
        plan = next;
        let _ = sightings.send(Sighting::Replanned { pages: plan.page_count() }).await;
    }
}

/// Drives one version of the platform until `stop`, or until another one calls for other pages or rules: the plan for
/// that one. A body is mapped by the version whose rules took it.
async fn drive_version(
    plan: &Plan,
    browser: &SharedBrowser,
    sightings: &mpsc::Sender<Sighting>,
    stop: &CancellationToken,
) -> Option<Plan> {
    let (reports_in, reports) = mpsc::channel(REPORTS_MAX);
    let (filters, mapped_by) = watch::channel(plan.platform.clone());
    let mapping = tokio::spawn(map_reports(plan.clone(), mapped_by, reports, sightings.clone()));
    let over = stop.child_token();
    let next = {
        let driving = drive_until(plan, browser, reports_in, sightings, &over);
        tokio::pin!(driving);
        tokio::select! {
            () = &mut driving => None,
            next = other_pages(plan, &filters, sightings) => {
                over.cancel();
                driving.await;
                Some(next)
            }
        }
    };
    if let Err(error) = mapping.await {
        tracing::error!(account.id = %plan.account.id, %error, "the mapping task died");
    }
    next.filter(|_| !stop.is_cancelled())
}

/// Waits for a version of the platform with other pages or rules. Changed filters alone are used from the next body on;
/// a version that the account's settings do not fit is told, and the last one stays in use.
async fn other_pages(
    plan: &Plan,
    filters: &watch::Sender<Arc<Platform>>,
    sightings: &mpsc::Sender<Sighting>,
) -> Plan {
    let Some(mut versions) = plan.versions.clone() else { return std::future::pending().await };
    loop {
        if versions.changed().await.is_err() {
            return std::future::pending().await;
        }
        let platform = versions.borrow_and_update().clone();
        let misfit = if platform.same_pages(&plan.platform) {
            tracing::info!(account.id = %plan.account.id, "changed filters are used from now on");
            filters.send_replace(platform);
            None
        } else {
            match plan.on(&platform, versions.clone()) {
                Ok(next) => {
                    // Whoever logs in by hand keeps the page; a version that comes meanwhile counts in place of this one.
                    if plan.desk.undisturbed().await {
                        tracing::info!(account.id = %plan.account.id,
                            "the platform's changed file has waited for a login by hand to be over");
                    }
                    if versions.has_changed().unwrap_or(false) {
                        continue;
                    }
                    return next;
                }
                Err(error) => Some(format!("the platform's changed file is not used: {error}")),
            }
        };
        if let Some(reason) = &misfit {
            tracing::warn!(account.id = %plan.account.id, reason, "the platform's last version stays in use");
        }
        let _ = sightings.send(Sighting::PlatformMisfit(misfit)).await;
    }
}

async fn drive_until(
    plan: &Plan,
    browser: &SharedBrowser,
    reports_in: mpsc::Sender<PageReport>,
    sightings: &mpsc::Sender<Sighting>,
    stop: &CancellationToken,
) {
    let mut pause = RETRY_PAUSE_MIN;
    // Without anybody who maps, driving is in vain: ending tells the account's task, which shows it.
    while !stop.is_cancelled() && !reports_in.is_closed() {
        let started = tokio::time::Instant::now();
        let driven = drive_once(plan, browser, reports_in.clone(), stop).await;
        let Err(error) = driven else { break };
        let account = &plan.account.id;
        tracing::warn!(account.id = %account, %error, retry_ms = pause.as_millis() as u64, "pages are not driven; trying again");
        let told = sightings.send(Sighting::Failing(error.to_string())).await;
        if told.is_err() {
            break;
        }
        if started.elapsed() > WELL_AFTER {
            pause = RETRY_PAUSE_MIN;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => break,
        }
        pause = (pause * 2).min(RETRY_PAUSE_MAX);
    }
}

async fn drive_once(
    plan: &Plan,
    browser: &SharedBrowser,
    reports: mpsc::Sender<PageReport>,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let browser = tokio::select! {
        browser = browser.acquire() => browser?,
        () = stop.cancelled() => return Ok(()),
    };
    let driven: Result<(), DriveError> =
        drive_account(browser, plan.account_plan(), reports, stop.clone()).await;
    Ok(driven?)
}

/// Maps what the pages deliver, in order, off the runtime's threads.
async fn map_reports(
    plan: Plan,
    filters: watch::Receiver<Arc<Platform>>,
    mut reports: mpsc::Receiver<PageReport>,
    sightings: mpsc::Sender<Sighting>,
) {
    let plan = Arc::new(plan);
    while let Some(report) = reports.recv().await {
        let account = &plan.account.id;
        let sighting = match report {
            PageReport::Captured(captured) => {
                let platform = filters.borrow().clone();
                map(plan.clone(), platform, captured).await
            }
            PageReport::CaptureFailed { rule, url, reason } => {
                let rule = rule.and_then(|rule| plan.rules.get(rule)).map(|rule| rule.name.as_str());
                tracing::warn!(account.id = %account, rule, path = path_of(&url), %reason, "capture failed");
                vec![Sighting::CaptureFailed]
            }
            // Logged when it was told first.
            PageReport::FailedAgain { .. } => vec![Sighting::CaptureFailed],
            PageReport::Unchanged { at_ms, .. } => vec![Sighting::Alive(UnixMs(at_ms))],
            PageReport::LoggedIn => vec![Sighting::LoggedIn],
            PageReport::PageLoaded { page } => {
                tracing::debug!(account.id = %account, %page, "page loaded");
                vec![Sighting::PageLoaded { page, without_login: plan.login.is_none() }]
            }
            PageReport::LoggedOut { reason } => vec![Sighting::LoggedOut(reason)],
            PageReport::PageFailed { page, reason } => vec![Sighting::PageFailed { page, reason }],
        };
        for sighting in sighting {
            if sightings.send(sighting).await.is_err() {
                let lost = 1 + reports.len();
                tracing::warn!(account.id = %account, lost, "the account takes nothing more; captures are lost");
                return;
            }
        }
    }
}

/// Maps one body, and tells of every row that it refuses.
async fn map(plan: Arc<Plan>, platform: Arc<Platform>, captured: Captured) -> Vec<Sighting> {
    let at = UnixMs(captured.captured_at_ms);
    let (account, path) = (plan.account.id.clone(), path_of(&captured.url).to_owned());
    let rule = plan.rules.get(captured.rule).map_or_else(String::new, |rule| rule.name.clone());
    let mapping = tokio::task::spawn_blocking(move || {
        let request = Request {
            url: captured.url,
            event: captured.event,
            method: captured.method,
            status: captured.status,
            page: captured.page,
        };
        platform.map(captured.rule, &request, &plan.account, &captured.body, now())
    });
    let mapped = match mapping.await {
        Ok(mapped) => mapped,
        Err(error) => {
            tracing::error!(account.id = %account, rule, path, %error, "mapping a body panicked; it is left out");
            return vec![Sighting::CaptureFailed];
        }
    };
    report_refused(&account, &rule, &path, &mapped);
    let mut sightings = Vec::new();
    if mapped.error.is_some() {
        sightings.push(Sighting::CaptureFailed);
    }
    let refused = mapped.refused.len() as u64;
    // A body that could not be read at all is no sign of life.
    if mapped.error.is_none() || !mapped.records.is_empty() {
        sightings.push(Sighting::Records { records: mapped.records, refused, at });
    }
    if !mapped.complete.is_empty() {
        sightings.push(Sighting::Complete { lists: mapped.complete, at });
    }
    sightings
}

fn report_refused(account: &AccountId, rule: &str, path: &str, mapped: &crate::platform::Mapped) {
    if let Some(error) = &mapped.error {
        tracing::warn!(account.id = %account, rule, path, %error, "a body does not map");
    }
    for refused in mapped.refused.iter().take(REFUSED_LOGGED_MAX) {
        tracing::warn!(account.id = %account, rule, path, row = refused.row, reason = %refused.reason, "row refused");
    }
    if mapped.refused.len() > REFUSED_LOGGED_MAX {
        tracing::warn!(account.id = %account, rule, path, refused = mapped.refused.len(), "more rows refused");
    }
    if mapped.unknown_times + mapped.cut > 0 {
        tracing::warn!(account.id = %account, rule, path, unknown_times = mapped.unknown_times, cut = mapped.cut,
            "values that are not told as they came");
    }
}

/// The part of a URL that may be logged: without its query, which may hold secrets.
fn path_of(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or(url)
}
