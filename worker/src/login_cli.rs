//! `snapfleet-worker login`: a person logs an account in, in a browser window, and its session goes to the fleet.
//!
//! Nothing is typed or filled in, and no stored session is tried: the window shows what a stranger sees. Only once the
//! platform's marker of a login shows is the session taken out, sealed, and stored as the newest. Whoever holds the
//! account finds it there by itself.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::json;
use snapfleet_protocol::AccountId;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::browser::{CallError, Tab};
use crate::commands::{Failed, failed, usage};
use crate::config::LoginArgs;
use crate::lone::{Fleet, Lone, OwnBrowser};
use crate::pages::state_of;
use crate::session::SessionState;
use crate::session::seal::{OpenError, seal_session};
use crate::session::store::{self, Kept, Saved};

/// How long the page may take to load before its window is left to the person as it is.
const LOAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How often it is looked whether the login is there.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long the marker must stand before the session is taken out: scripts still write what they keep.
const SETTLE: Duration = Duration::from_secs(4);
/// How long the broker may take to take the session.
const STORE_TIMEOUT: Duration = Duration::from_secs(60);
/// The pause before another try to store it.
const STORE_PAUSE: Duration = Duration::from_secs(2);

/// What is waited for.
struct Wanted {
    page: String,
    url: String,
    logged_in: String,
}

/// Opens the account's page, waits for the login, and stores the session.
///
/// # Errors
/// [`Failed`]: nothing was stored then, and the reason says so.
pub async fn run(
    args: &LoginArgs,
    out: &mut (dyn Write + Send),
    stop: CancellationToken,
) -> Result<ExitCode, Failed> {
    let account = &args.account;
    if !args.lone.headless && !args.lone.has_screen() {
        return Err(usage(anyhow::anyhow!(
            "there is no screen to show a window on (DISPLAY and WAYLAND_DISPLAY are not set): run this at a desktop, or use \"Log in\" beside the account on the master's page"
        )));
    }
    let lone = Lone::new(&args.lone, account.clone()).map_err(usage)?.by_hand();
    let fleet = Fleet::connect(&args.lone, &stop).await.map_err(usage)?;
    let settings = fleet.settings(account).await.map_err(usage)?;
    let lone = lone.with_entry(&settings, &fleet.key).map_err(usage)?;
    let wanted = wanted(&lone).map_err(usage)?;
    let kept = fleet.sessions(account).await.map_err(failed)?;
    epoch(&fleet, account, &kept).map_err(usage)?;

    let browser = OwnBrowser::launch(&args.lone, args.lone.headless).await.map_err(failed)?;
    let minutes = args.minutes;
    say(
        out,
        &format!(
            "log {account} in, in the window that has opened with {url}\n\
             waiting for a login for {minutes} minutes: until {marker:?} shows. If the login ends on another page, go to \
             that address again. Ctrl-C gives up, and nothing is stored.",
            url = wanted.url,
            marker = wanted.logged_in,
        ),
    )?;
    let nothing = |reason: String| Err(failed(anyhow::anyhow!("{reason}: nothing is stored")));
    let state = tokio::select! {
        state = wait(&browser, &wanted, out) => state,
        () = browser.browser.died() => Err("the browser was closed".to_owned()),
        () = stop.cancelled() => Err("told to stop".to_owned()),
        () = tokio::time::sleep(Duration::from_secs(60 * minutes)) => Err(format!(
            "nobody logged in within {minutes} minutes"
        )),
    };
    browser.close().await;
    let state = match state {
        Ok(state) => state,
        Err(reason) => return nothing(reason),
    };
    let stored = tokio::select! {
        stored = tokio::time::timeout(STORE_TIMEOUT, keep(&fleet, account, kept, &state)) => stored,
        () = stop.cancelled() => return nothing("told to stop".to_owned()),
    };
    match stored {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return nothing(format!("{error:#}")),
        Err(_) => return nothing(format!("the broker did not take it within {} s", STORE_TIMEOUT.as_secs())),
    }
    say(out, &format!("{account} is logged in and its session is stored: it goes on wherever it is held"))?;
    Ok(ExitCode::SUCCESS)
}

/// The first page, and the marker of a login.
fn wanted(lone: &Lone) -> anyhow::Result<Wanted> {
    let (plan, _) = lone.plan()?;
    let platform = lone.platform.name();
    let login = plan.login.with_context(|| {
        format!("platform {platform} has no [login]: its accounts need none, or its platform.toml does not say how one is seen")
    })?;
    let page = plan.pages.into_iter().next().with_context(|| {
        format!("platform {platform} has no [[page]]: name one to log in on in its platform.toml")
    })?;
    Ok(Wanted { page: page.name, url: page.url, logged_in: login.logged_in })
}

/// What the page says of itself.
#[derive(Deserialize)]
struct View {
    logged_in: bool,
    ready: bool,
}

/// The session of the login that somebody makes in a new context.
async fn wait(
    browser: &OwnBrowser,
    wanted: &Wanted,
    out: &mut (dyn Write + Send),
) -> Result<SessionState, String> {
    let closed = |error: CallError| match error {
        CallError::Died => "the browser was closed".to_owned(),
        CallError::Gone { .. } => "the window was closed".to_owned(),
        error => error.to_string(),
    };
    let context = browser.browser.new_context().await.map_err(closed)?;
    let tab = Tab::open(&context).await.map_err(closed)?;
    match tab.goto(&wanted.url, LOAD_TIMEOUT).await {
        Ok(()) | Err(CallError::Timeout { .. }) => {}
        Err(error) => return Err(format!("{} cannot be opened: {}", wanted.url, closed(error))),
    }
    let script = format!(
        "({{ logged_in: !!document.querySelector({}), ready: document.readyState === 'complete' }})",
        json!(wanted.logged_in)
    );
    let mut since: Option<Instant> = None;
    loop {
        let view = match tab.evaluate::<View>("look for the login", script.clone()).await {
            Ok(view) => view,
            // The document is being replaced, or hangs for a while.
            Err(CallError::Refused { .. } | CallError::Timeout { .. }) => {
                View { logged_in: false, ready: false }
            }
            Err(error) => return Err(closed(error)),
        };
        let stands = view.logged_in && view.ready;
        if stands && since.is_some_and(|since| since.elapsed() >= SETTLE) {
            let state = state_of(&context, &tab, &wanted.page).await.map_err(closed)?;
            // Asked again: a state of a page that has logged out meanwhile must not be stored.
            let still: View = tab.evaluate("look for the login", script.clone()).await.map_err(closed)?;
            if still.logged_in {
                return Ok(state);
            }
        }
        if stands && since.is_none() {
            say(out, "the login is there; taking the session out in a moment")
                .map_err(|told| told.error.to_string())?;
        }
        since = stands.then(|| since.unwrap_or_else(Instant::now));
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The epoch under which a session is stored so that it is the newest.
fn epoch(fleet: &Fleet, account: &AccountId, kept: &Kept) -> anyhow::Result<u64> {
    let opened = store::open_all(&fleet.key, account, kept);
    if matches!(opened.newest, Some(OpenError::WrongKey { .. })) {
        let problem = opened.problems.into_iter().next().unwrap_or_default();
        anyhow::bail!("{problem}");
    }
    Ok(opened.epoch.max(1))
}

/// Stores the state on top of what was kept when the login began, or of what its holder has stored since.
async fn keep(
    fleet: &Fleet,
    account: &AccountId,
    mut kept: Kept,
    state: &SessionState,
) -> anyhow::Result<()> {
    loop {
        let epoch = epoch(fleet, account, &kept)?;
        let sealed = seal_session(&fleet.key, account, epoch, state)?;
        match store::save(&fleet.broker, &fleet.key, account, epoch, &sealed, kept.last_seq).await {
            Ok(Saved::Stored(seq)) => {
                tracing::debug!(account.id = %account, stream.seq = seq, epoch, "session stored");
                return Ok(());
            }
            Ok(Saved::Stale { .. }) => {}
            Ok(Saved::OtherKey(id)) => {
                anyhow::bail!(
                    "a session under another key ({id}) was stored meanwhile: give the key that the workers have"
                )
            }
            Ok(Saved::Deleted) => anyhow::bail!("account {account} was removed meanwhile"),
            Err(error) => {
                tracing::warn!(account.id = %account, %error, "the session is not stored yet; trying again");
                tokio::time::sleep(STORE_PAUSE).await;
            }
        }
        kept = match fleet.sessions(account).await {
            Ok(now) if now.versions.is_empty() && now.last_seq > kept.last_seq => {
                anyhow::bail!("account {account} was removed meanwhile")
            }
            Ok(now) => now,
            Err(error) => {
                tracing::warn!(account.id = %account, error = format!("{error:#}"), "the stored sessions cannot be read; trying again");
                tokio::time::sleep(STORE_PAUSE).await;
                continue;
            }
        };
    }
}

fn say(out: &mut (dyn Write + Send), line: &str) -> Result<(), Failed> {
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(failed)
}
