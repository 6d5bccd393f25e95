//! One account's pages in its own browser context: opened, kept loaded, logged in and listened to until told to stop.
//!
//! Plans come in from the platform's file, reports go out. It must not know what a captured body means, nor
//! where reports go.

mod attempts;
mod carried;
mod desk;
mod login;
mod page;
mod pending;
mod scroll;
mod state;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use snapfleet_protocol::AccountId;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::browser::{Browser, CallError, Context};
pub use crate::capture::{CaptureRule, Captured, PageReport};
use crate::capture::{Reporter, ReportsClosed};
use crate::session::{SessionExchange, SessionState};
use crate::steering::Steering;
use carried::Carried;
pub(crate) use carried::state_of;
pub use desk::Desk;
pub(crate) use desk::{Bell, LoginWish, desk};
use login::Login;

/// How long the pages of an account may take to deliver their last captures when it is let go.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// One tab of an account.
#[derive(Debug, Clone, PartialEq)]
pub struct PagePlan {
    /// Its name in the platform's file.
    pub name: String,
    /// Where it goes.
    pub url: String,
    /// Time between two loads; loaded only once (and after failures) if absent.
    pub refresh: Option<Duration>,
    /// How far that is varied, as a part of it.
    pub refresh_jitter: f64,
    /// Scrolled after each load, so that it fetches more.
    pub scroll: Option<ScrollPlan>,
}

/// How a page is scrolled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScrollPlan {
    /// The element that scrolls; the window if absent.
    pub selector: Option<String>,
    /// The most steps after one load, each about a screen.
    pub steps_max: u32,
    /// The pause after each step.
    pub pause: Duration,
    /// Scrolling ends once an element matches this; otherwise when the end no longer moves, too.
    pub until: Option<String>,
}

/// How it is seen whether an account is logged in, and how its login form is filled in.
#[derive(Clone, PartialEq, Eq)]
pub struct LoginPlan {
    /// Logged in once an element matches this.
    pub logged_in: String,
    /// Logged out once an element matches this and none the other; if absent, when after a load the other one does
    /// not appear in time.
    pub logged_out: Option<String>,
    /// Clicked after filling; if absent, the account cannot be logged in by a form.
    pub submit: Option<String>,
    /// Fields and what is typed into them, in order.
    pub fill: Vec<(String, String)>,
    /// The element with the code to scan.
    pub code: Option<String>,
}

impl fmt::Debug for LoginPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields: Vec<&str> = self.fill.iter().map(|(selector, _)| selector.as_str()).collect();
        f.debug_struct("LoginPlan")
            .field("logged_in", &self.logged_in)
            .field("logged_out", &self.logged_out)
            .field("submit", &self.submit)
            .field("fill", &fields)
            .finish()
    }
}

/// Why an account is no longer driven although nobody asked for it to end.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// The browser died: acquire another one and drive the account there.
    #[error("the browser died")]
    BrowserDied,
    /// The browser takes too much memory and is being replaced: acquire the other one and drive the account there.
    #[error("the browser takes too much memory and is being replaced")]
    BrowserRetired,
    /// No context for the account.
    #[error("no browser context for {account}: {reason}")]
    NoContext {
        /// Which account.
        account: AccountId,
        /// What the browser said.
        reason: String,
    },
    /// Nobody takes the reports.
    #[error("nobody takes the reports of {account}'s pages any more")]
    ReportsClosed {
        /// Which account.
        account: AccountId,
    },
    /// A task ended in a panic: a fault of this program.
    #[error("a page of {account} failed inside: {reason}")]
    Inside {
        /// Which account.
        account: AccountId,
        /// What is known of it.
        reason: String,
    },
}

/// What is driven for one account.
#[derive(Debug, Clone)]
pub struct AccountPlan {
    /// Which account.
    pub account: AccountId,
    /// Its tabs.
    pub pages: Vec<PagePlan>,
    /// How its login is seen and done; none where it needs none, and then it has no session either.
    pub login: Option<LoginPlan>,
    /// What is captured.
    pub rules: Arc<Vec<CaptureRule>>,
    /// Where its session comes from and goes to.
    pub session: SessionExchange,
    /// Whether it may be driven.
    pub steering: Steering,
    /// Where its login page is asked for.
    pub desk: Desk,
}

/// What the pages of one account share, in one context.
#[derive(Debug)]
struct Drive {
    context: Arc<Context>,
    carried: Carried,
    rules: Arc<Vec<CaptureRule>>,
    reporter: Arc<Reporter>,
    login: Option<Login>,
    steering: Steering,
    /// The login desk, and the page that serves there.
    desk: Option<(String, Desk)>,
    stop: CancellationToken,
}

/// Drives an account's pages in an isolated context until `shutdown`; the context, with its cookies, is disposed at
/// the end. Failures of a page are reported and tried again with a growing pause.
///
/// The context is filled with the newest session of the plan's exchange. If it turns out to be logged out, another
/// context is filled with the one before, and so on; only when all have failed is the login form filled in. While
/// logged in, the session is left in the exchange: after the login, when it changed, and at the end.
///
/// `reports` is to be read until this returns: after `shutdown`, each page still delivers what it had captured by
/// then, for at most 3 s. In which order reports come is told at [`PageReport`]; each call begins with a login of
/// which nothing is known, and tells its state again.
///
/// # Errors
/// [`DriveError`]; above all [`DriveError::BrowserDied`], at once when the browser dies.
pub async fn drive_account(
    browser: Arc<Browser>,
    plan: AccountPlan,
    reports: mpsc::Sender<PageReport>,
    shutdown: CancellationToken,
) -> Result<(), DriveError> {
    let reporter = Arc::new(Reporter::new(plan.account.clone(), reports));
    let mut offers = plan.session.offers();
    loop {
        offers.borrow_and_update();
        let restored = plan.session.candidate().filter(|_| plan.login.is_some());
        let driving =
            drive_context(&browser, &plan, restored.as_deref(), &reporter, (&shutdown, &mut offers));
        match driving.await {
            Ok(()) => return Ok(()),
            Err(End::SessionOffered) => {
                tracing::info!(account.id = %plan.account, "another session was stored for the account; going on with it");
            }
            Err(End::Error(error)) => return Err(error),
            // Each session is tried once, so this ends.
            Err(End::SessionRefused) => {
                tracing::warn!(account.id = %plan.account, "a stored session is logged out; trying what is left");
                restored.iter().for_each(|refused| plan.session.refuse(refused));
            }
        }
    }
}

/// How driving one context ended although nobody asked for it.
enum End {
    Error(DriveError),
    /// The session with which the context was filled is logged out.
    SessionRefused,
    /// While it was logged out, another session was found.
    SessionOffered,
}

async fn drive_context(
    browser: &Arc<Browser>,
    plan: &AccountPlan,
    restored: Option<&SessionState>,
    reporter: &Arc<Reporter>,
    (shutdown, offers): (&CancellationToken, &mut watch::Receiver<u64>),
) -> Result<(), End> {
    let account = &plan.account;
    let opened = tokio::select! {
        biased;
        () = shutdown.cancelled() => return Ok(()),
        opened = open_context(browser, plan, restored) => opened,
    };
    let (context, carried) = opened.map_err(|error| {
        End::Error(match error {
            CallError::Died => DriveError::BrowserDied,
            error => DriveError::NoContext { account: account.clone(), reason: error.to_string() },
        })
    })?;
    if plan.login.is_none() {
        // Where nobody logs in, no other session is looked for, whatever an earlier version of its platform said.
        plan.session.note_login(true);
    }
    // A stored session that cannot be read forbids the form only where no other one is there to be tried.
    let no_form = plan.session.problem().filter(|_| restored.is_none()).map(str::to_owned);
    let login = plan.login.clone().map(|login| {
        let (steering, session) = (plan.steering.clone(), plan.session.clone());
        Login::new(login, restored.is_some(), no_form, steering, session, &plan.desk)
    });
    let drive = Arc::new(Drive {
        context: Arc::new(context),
        carried,
        rules: Arc::clone(&plan.rules),
        reporter: Arc::clone(reporter),
        login,
        steering: plan.steering.clone(),
        desk: plan.pages.first().map(|page| (page.name.clone(), plan.desk.clone())),
        stop: CancellationToken::new(),
    });
    let mut tasks = JoinSet::new();
    for page in &plan.pages {
        tasks.spawn(page::drive_page(Arc::clone(&drive), page.clone()));
    }
    let outcome = tokio::select! {
        biased;
        () = shutdown.cancelled() => Ok(()),
        () = browser.died() => Err(End::Error(DriveError::BrowserDied)),
        () = offered(offers, plan) => Err(End::SessionOffered),
        () = browser.retired() => Err(End::Error(DriveError::BrowserRetired)),
        () = drive.reporter.closed() => Err(End::Error(DriveError::ReportsClosed { account: account.clone() })),
        outcome = first_end(&mut tasks, account) => Err(outcome),
    };
    drive.stop.cancel();
    let context = Arc::clone(&drive.context);
    drop(drive);
    wind_up(tasks, context, matches!(outcome, Err(End::Error(DriveError::BrowserDied))), account).await;
    outcome
}

/// Waits for a session that is worth beginning anew for: the account is still logged out, and nobody logs in by hand.
async fn offered(offers: &mut watch::Receiver<u64>, plan: &AccountPlan) {
    loop {
        if offers.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        plan.desk.undisturbed().await;
        if plan.session.is_logged_out() {
            return;
        }
    }
}

async fn open_context(
    browser: &Arc<Browser>,
    plan: &AccountPlan,
    restored: Option<&SessionState>,
) -> Result<(Context, Carried), CallError> {
    let context = browser.new_context().await?;
    let carried = Carried::begin(plan.session.clone(), &context, restored, &plan.account).await?;
    Ok((context, carried))
}

/// A page's task ends on its own only with the browser or the consumer; an account without pages waits.
async fn first_end(tasks: &mut JoinSet<Result<(), PageEnd>>, account: &AccountId) -> End {
    let account = account.clone();
    while let Some(ended) = tasks.join_next().await {
        return End::Error(match ended {
            Ok(Ok(())) => continue,
            Ok(Err(PageEnd::SessionRefused)) => return End::SessionRefused,
            Ok(Err(PageEnd::BrowserDied)) => DriveError::BrowserDied,
            Ok(Err(PageEnd::ReportsClosed)) => DriveError::ReportsClosed { account },
            Err(error) => DriveError::Inside { account, reason: error.to_string() },
        });
    }
    std::future::pending().await
}

async fn wind_up(
    mut tasks: JoinSet<Result<(), PageEnd>>,
    context: Arc<Context>,
    browser_died: bool,
    account: &AccountId,
) {
    if browser_died {
        tasks.shutdown().await;
        return;
    }
    let all = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_TIMEOUT, all).await.is_err() {
        tracing::warn!(account.id = %account, "pages did not end in time, dropping them");
        tasks.shutdown().await;
    }
    match Arc::into_inner(context) {
        Some(context) => context.dispose().await,
        // Unreachable once every task is gone; the last owner disposes of it then.
        None => tracing::warn!(account.id = %account, "browser context still in use"),
    }
}

/// Why a page's task ended although it was not stopped.
#[derive(Debug, Clone, Copy)]
enum PageEnd {
    BrowserDied,
    ReportsClosed,
    SessionRefused,
}

impl From<ReportsClosed> for PageEnd {
    fn from(_: ReportsClosed) -> Self {
        Self::ReportsClosed
    }
}
