//! Whether an account is logged in, seen by the markers of its platform, and its login form filled in if it is not.
//!
//! The pages of an account share one session, so they share this: one attempt at a time, whichever page it is on.
//! A refused login is tried [`ATTEMPTS_MAX`] times, then not for an hour ([`Attempts`]): platforms lock accounts.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use snapfleet_protocol::{LoginScene, UnixMs};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::LoginPlan;
use super::attempts::Attempts;
use super::desk::Desk;
use super::pending::Pending;
use crate::browser::{CallError, Tab};
use crate::capture::{PageReport, Reporter, ReportsClosed};
use crate::roster::now;
use crate::session::SessionExchange;
use crate::steering::Steering;

/// Attempts to log in, one after another.
pub(super) const ATTEMPTS_MAX: u32 = 3;
/// The pause after the first refused attempt; it doubles.
const ATTEMPT_PAUSE: Duration = Duration::from_secs(1);
/// How long after a load one of the markers may take to appear.
const MARKER_TIMEOUT: Duration = Duration::from_secs(15);
/// How long after a click on the submit button the page may take to say that it is logged in.
const SUBMIT_TIMEOUT: Duration = Duration::from_secs(15);
/// A new document that still shows the form for this long has refused the login.
const REFUSED_AFTER: Duration = Duration::from_millis(500);
const POLL: Duration = Duration::from_millis(100);

/// What the markers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Marker {
    /// Logged in.
    In,
    /// Logged out.
    Out,
    /// Neither marker is there.
    Neither,
}

#[derive(Debug, Deserialize)]
struct View {
    marker: Marker,
    /// Differs from one document to the next.
    document: f64,
    ready: bool,
}

/// What came of a look at the markers after a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Logged in, and the page is as it was loaded.
    In,
    /// Logged in on this page since it was loaded: it may show something else now.
    JustIn,
    /// Another page logged in since this one was loaded, and it still shows the form.
    Elsewhere,
    /// Logged out, and nothing to be done about it now.
    Out,
    /// Neither marker appeared.
    Unclear,
}

/// Why a look came to no end.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoginError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Closed(#[from] ReportsClosed),
    /// The session that the context was filled with is not logged in.
    #[error("the restored session is logged out")]
    SessionRefused,
}

/// The login of one account.
#[derive(Debug)]
pub(super) struct Login {
    plan: LoginPlan,
    /// The context was filled with a session: if it turns out to be logged out, another is to be tried, not the form.
    restored: bool,
    /// Why the form is left alone.
    no_form: Option<String>,
    /// Nothing is typed while the account is not held.
    steering: Steering,
    /// Told whether the account is logged in: while it is not, another session is looked for.
    session: SessionExchange,
    /// Whether somebody is logging in by hand: then nothing may disturb them.
    pending: Pending,
    attempts: Attempts,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    known: Option<bool>,
    /// Since when, and why it is logged out.
    since: Option<UnixMs>,
    reason: Option<String>,
    /// Counts logins, so that a page loaded before one knows that it is out of date.
    logins: u64,
}

impl Login {
    pub(super) fn new(
        plan: LoginPlan,
        restored: bool,
        no_form: Option<String>,
        steering: Steering,
        session: SessionExchange,
        desk: &Desk,
    ) -> Self {
        let (pending, attempts) = (desk.pending().clone(), desk.attempts().clone());
        // Of a page that is gone.
        pending.end();
        attempts.on(&plan);
        Self { plan, restored, no_form, steering, session, pending, attempts, state: Mutex::default() }
    }

    /// Somebody looks at the login page or types into it: for a while nothing loads, scrolls or fills it in.
    pub(super) async fn pend(&self) {
        // Also where neither marker is there: a wall that somebody is to get past by hand.
        if self.state.lock().await.known != Some(true) {
            self.pending.renew();
        }
    }

    /// Whether somebody is logging in by hand.
    pub(super) fn pending(&self) -> &Pending {
        &self.pending
    }

    /// CSS of the code to scan.
    pub(super) fn code(&self) -> Option<&str> {
        self.plan.code.as_deref()
    }

    /// How the login stands, without a picture.
    pub(super) async fn scene(&self, page: &str) -> LoginScene {
        let state = self.state.lock().await;
        LoginScene {
            logged_in: state.known == Some(true),
            since: state.since,
            reason: state.reason.clone(),
            page: page.to_owned(),
            pending_until: self.pending.until(),
            has_code: false,
            picture: None,
        }
    }

    /// The number of the login that stands; `None` while the account is not known to be logged in.
    pub(super) async fn standing(&self) -> Option<u64> {
        let state = self.state.lock().await;
        (state.known == Some(true)).then_some(state.logins)
    }

    /// Whether the tab shows a logged-in account right now.
    pub(super) async fn is_in(&self, tab: &Tab) -> Result<bool, CallError> {
        Ok(self.view(tab).await?.marker == Marker::In)
    }

    /// How many logins there were: to be asked before a load and handed to [`Login::settle`] after it.
    pub(super) async fn logins(&self) -> u64 {
        self.state.lock().await.logins
    }

    /// Waits for a marker after a load, and logs in if it is the one of the login form.
    pub(super) async fn settle(
        &self,
        tab: &Tab,
        reporter: &Reporter,
        logins_before_load: u64,
    ) -> Result<Standing, LoginError> {
        match self.wait_for_marker(tab).await? {
            Marker::In => {
                self.note_in(&mut *self.state.lock().await, reporter).await?;
                Ok(Standing::In)
            }
            Marker::Neither if self.plan.logged_out.is_some() => Ok(Standing::Unclear),
            Marker::Neither | Marker::Out => self.log_in(tab, reporter, logins_before_load).await,
        }
    }

    /// Looks once, while a page stands; logs in if it was logged out meanwhile, or if another try is due.
    pub(super) async fn look(
        &self,
        tab: &Tab,
        reporter: &Reporter,
        logins_before_load: u64,
    ) -> Result<Standing, LoginError> {
        match self.view(tab).await?.marker {
            Marker::In => {
                let mut state = self.state.lock().await;
                let was_out = state.known == Some(false);
                self.note_in(&mut state, reporter).await?;
                // By hand: the page went on from there to wherever the site leads.
                Ok(if was_out { Standing::JustIn } else { Standing::In })
            }
            Marker::Neither => Ok(Standing::Unclear),
            Marker::Out => self.log_in(tab, reporter, logins_before_load).await,
        }
    }

    async fn log_in(
        &self,
        tab: &Tab,
        reporter: &Reporter,
        logins_before_load: u64,
    ) -> Result<Standing, LoginError> {
        let mut state = self.state.lock().await;
        if state.logins != logins_before_load {
            return Ok(Standing::Elsewhere);
        }
        let restored = self.restored && state.known.is_none();
        if restored || state.known == Some(true) {
            // A page may show its form for a moment before its script knows better.
            tokio::time::sleep(REFUSED_AFTER).await;
            if self.is_in(tab).await? {
                self.note_in(&mut state, reporter).await?;
                return Ok(Standing::In);
            }
        }
        if restored {
            return Err(LoginError::SessionRefused);
        }
        if state.known == Some(true) {
            self.note_out(&mut state, reporter, "the session has ended: the login form is shown").await?;
        }
        let submit = match (&self.no_form, &self.plan.submit) {
            (None, Some(submit)) => Ok(submit.clone()),
            (Some(reason), _) => Err(reason.as_str()),
            (None, None) => {
                Err("its login page is shown, and there is nothing to fill it in with: log in by hand")
            }
        };
        let submit = match submit {
            Ok(submit) => submit,
            Err(reason) => {
                if state.known != Some(false) {
                    self.note_out(&mut state, reporter, reason).await?;
                }
                return Ok(Standing::Out);
            }
        };
        if self.pending.until().is_some() {
            if state.known != Some(false) {
                self.note_out(&mut state, reporter, "somebody is logging in by hand").await?;
            }
            return Ok(Standing::Out);
        }
        if let Some(reason) = self.attempts.why_not() {
            if state.known != Some(false) || state.reason.as_ref() != Some(&reason) {
                self.note_out(&mut state, reporter, &reason).await?;
            }
            return Ok(Standing::Out);
        }
        let mut reason = String::new();
        for attempt in 1..=ATTEMPTS_MAX {
            self.steering.may_drive().await;
            match self.attempt(tab, &submit).await {
                Ok(filled) => {
                    state.logins += 1;
                    if filled {
                        self.attempts.succeeded();
                    }
                    self.note_in(&mut state, reporter).await?;
                    return Ok(Standing::JustIn);
                }
                Err(Refusal::Call(CallError::Died)) => return Err(CallError::Died.into()),
                Err(refusal) => reason = refusal.to_string(),
            }
            tracing::warn!(account.id = %reporter.account(), attempt, reason, "login attempt failed");
            if attempt < ATTEMPTS_MAX {
                tokio::time::sleep(ATTEMPT_PAUSE * 2_u32.pow(attempt - 1)).await;
            }
        }
        let reason = format!("{ATTEMPTS_MAX} login attempts failed, the last one because {reason}");
        self.attempts.refused(&reason);
        self.note_out(&mut state, reporter, &reason).await?;
        Ok(Standing::Out)
    }

    /// Fills the form in; tells whether it had to be.
    async fn attempt(&self, tab: &Tab, submit: &str) -> Result<bool, Refusal> {
        let before = self.view(tab).await?;
        if before.marker == Marker::In {
            return Ok(false);
        }
        for (selector, value) in &self.plan.fill {
            tab.fill(selector, value).await?;
        }
        tab.click(submit).await?;
        let deadline = Instant::now() + SUBMIT_TIMEOUT;
        let mut refused_at = None;
        while Instant::now() < deadline {
            tokio::time::sleep(POLL).await;
            let view = match self.view(tab).await {
                Ok(view) => view,
                // The document is being replaced.
                Err(CallError::Refused { .. }) => continue,
                Err(error) => return Err(error.into()),
            };
            let replaced = (view.document - before.document).abs() > f64::EPSILON;
            match view.marker {
                Marker::In => return Ok(true),
                Marker::Out if replaced && view.ready => {
                    let since = *refused_at.get_or_insert_with(Instant::now);
                    if since.elapsed() >= REFUSED_AFTER {
                        return Err(Refusal::FormAgain);
                    }
                }
                Marker::Out | Marker::Neither => refused_at = None,
            }
        }
        Err(Refusal::NothingHappened)
    }

    async fn wait_for_marker(&self, tab: &Tab) -> Result<Marker, CallError> {
        let deadline = Instant::now() + MARKER_TIMEOUT;
        loop {
            let view = self.view(tab).await?;
            if view.marker != Marker::Neither || Instant::now() >= deadline {
                return Ok(view.marker);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn view(&self, tab: &Tab) -> Result<View, CallError> {
        let script = format!(
            "({{
                marker: document.querySelector({logged_in}) ? 'in'
                    : ({logged_out} && document.querySelector({logged_out})) ? 'out' : 'neither',
                document: performance.timeOrigin,
                ready: document.readyState === 'complete',
            }})",
            logged_in = json!(self.plan.logged_in),
            logged_out = json!(self.plan.logged_out),
        );
        tab.evaluate("look for the login markers", script).await
    }

    async fn note_in(&self, state: &mut State, reporter: &Reporter) -> Result<(), ReportsClosed> {
        self.attempts.forgive();
        let before = state.known.replace(true);
        if before == Some(true) {
            return Ok(());
        }
        if before == Some(false) {
            state.logins += 1;
        }
        (state.since, state.reason) = (Some(now()), None);
        self.pending.end();
        self.session.note_login(true);
        tracing::info!(account.id = %reporter.account(), "account is logged in");
        reporter.send(PageReport::LoggedIn).await
    }

    async fn note_out(
        &self,
        state: &mut State,
        reporter: &Reporter,
        reason: &str,
    ) -> Result<(), ReportsClosed> {
        if state.known.replace(false) != Some(false) {
            state.since = Some(now());
        }
        state.reason = Some(reason.to_owned());
        self.session.note_login(false);
        tracing::warn!(account.id = %reporter.account(), reason, "account is logged out");
        reporter.send(PageReport::LoggedOut { reason: reason.to_owned() }).await
    }
}

/// Why one attempt did not log in.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{0}")]
    Call(#[from] CallError),
    #[error("the site showed the login form again: check the account's credentials")]
    FormAgain,
    #[error("neither a login nor a refusal was seen within {} s", SUBMIT_TIMEOUT.as_secs())]
    NothingHappened,
}
