//! `snapfleet-worker platform record`: what an account's pages fetch, written to a HAR file without secrets.
//!
//! The pages are driven as a worker drives them, with rules that take everything; `scribe` writes what comes. Nothing
//! is published, and no session is stored.

mod lexical;
mod redact;
mod scribe;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::capture::{CaptureRule, PathPattern, Source};
use crate::commands::{Failed, failed, usage};
use crate::config::RecordArgs;
use crate::har::write::HarWriter;
use crate::lone::{Fleet, Lone, OwnBrowser, account_of};
use crate::pages::{AccountPlan, DriveError, PageReport, drive_account};
use crate::session::{Exported, SessionState, store};

pub(crate) use lexical::indented;
pub use redact::{NAMES, REMOVED, Redactor};
use scribe::{Notes, Scribe};

/// Captures that wait to be written, at most; beyond that the browser's side waits.
const REPORTS_MAX: usize = 64;
/// Lines for the person that wait to be shown, at most; more are left out.
const LINES_MAX: usize = 64;
/// How often it is told how far the recording is.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// A value that is shorter stands in much that is no secret.
const SHORT_SECRET_CHARS: usize = 6;

/// Records until told to stop, until the time is over, the file is full or the browser is closed.
///
/// # Errors
/// [`Failed`]: for what was given wrongly, nothing was begun; otherwise the file holds what came before.
pub async fn run(
    args: &RecordArgs,
    out: &mut (dyn Write + Send),
    stop: CancellationToken,
) -> Result<ExitCode, Failed> {
    let lone = look_up(args, &stop).await?;
    let (plan, exported) = lone.plan().map_err(usage)?;
    let headless = args.lone.headless || !args.lone.has_screen();
    let by_hand = plan.login.is_some() && lone.lacks_secret();
    if by_hand && headless && lone.sessions().is_empty() {
        return Err(usage(anyhow::anyhow!(
            "a secret setting of {} is not given and there is no window to log in by hand: give it with --setting, or run this at a desktop without --headless",
            lone.account
        )));
    }
    let mut redactor = Redactor::new(&args.redact).map_err(usage)?;
    lone.secrets().for_each(|value| redactor.add_literal(value));
    let path = args.out.clone().unwrap_or_else(|| {
        PathBuf::from(format!("{}-{}.har", args.name, Timestamp::now().strftime("%Y%m%d-%H%M%S")))
    });
    let writer = HarWriter::create(&path, args.file_mib * 1024 * 1024)
        .with_context(|| format!("{} cannot be made: give another file with --out", path.display()))
        .map_err(usage)?;
    let browser = match OwnBrowser::launch(&args.lone, headless).await {
        Ok(browser) => browser,
        Err(error) => {
            // Nothing is in it; what cannot be removed is seen when it is to be made again.
            let _ = std::fs::remove_file(&path);
            return Err(failed(error));
        }
    };
    announce(args, &lone, &path, (headless, by_hand), out)?;
    let plan = match_all(plan);
    let sessions = lone.sessions().to_vec();
    let recording = Recording { plan, exported, sessions, writer, redactor, minutes: args.minutes };
    let notes = recording.run(&browser, out, &stop).await;
    browser.close().await;
    let notes = notes?;
    tell(out, &summary(&notes, args, &path))?;
    Ok(if notes.entries > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn announce(
    args: &RecordArgs,
    lone: &Lone,
    path: &Path,
    (headless, by_hand): (bool, bool),
    out: &mut (dyn Write + Send),
) -> Result<(), Failed> {
    let window = if headless { "a browser without a window" } else { "a browser window" };
    let until = args.minutes.map_or_else(
        || "until Ctrl-C".to_owned(),
        |minutes| format!("for {minutes} minutes, or until Ctrl-C"),
    );
    tell(out, &format!("recording {} in {window} to {}, {until}", lone.account, path.display()))?;
    if lone.secrets().any(|value| value.chars().count() < SHORT_SECRET_CHARS) {
        tell(
            out,
            "a secret setting of the account is very short: wherever its letters stand, they are removed",
        )?;
    }
    if by_hand && !headless {
        tell(out, "a secret setting is not given: log in by hand, in the window")?;
    }
    Ok(())
}

async fn look_up(args: &RecordArgs, stop: &CancellationToken) -> Result<Lone, Failed> {
    let account = account_of(&args.name, &args.account).map_err(usage)?;
    let lone = Lone::new(&args.lone, account).map_err(usage)?;
    if !args.settings.is_empty() {
        let key = args.lone.key.load().map_err(usage)?;
        return lone.with_settings(&args.settings, key.as_ref()).map_err(usage);
    }
    let or_given = |error: anyhow::Error| {
        usage(anyhow::anyhow!(
            "{error:#}; or give the account's settings with --setting: then the fleet is not asked"
        ))
    };
    let fleet = Fleet::connect(&args.lone, stop).await.map_err(or_given)?;
    let settings = fleet.settings(&lone.account).await.map_err(usage)?;
    let kept = fleet.sessions(&lone.account).await.map_err(failed)?;
    let opened = store::open_all(&fleet.key, &lone.account, &kept);
    for problem in &opened.problems {
        tracing::warn!(account.id = %lone.account, reason = problem, "a stored session cannot be used");
    }
    Ok(lone.with_entry(&settings, &fleet.key).map_err(usage)?.with_sessions(opened.candidates))
}

/// The plan with rules that take everything that its pages get, and its page-state rules.
fn match_all(mut plan: AccountPlan) -> AccountPlan {
    let rule = |source| CaptureRule::new("", source, PathPattern::any());
    let mut responses = rule(Source::Response);
    // What has a body: no redirection, and neither 204 nor 205.
    responses.status = (200..=599).filter(|status| !matches!(status, 204 | 205 | 300..=399)).collect();
    let mut rules = vec![responses, rule(Source::EventSource), rule(Source::WebSocket)];
    rules.extend(plan.rules.iter().filter(|rule| rule.source == Source::PageState).cloned());
    plan.rules = Arc::new(rules);
    plan
}

struct Recording {
    plan: AccountPlan,
    exported: Exported,
    sessions: Vec<SessionState>,
    writer: HarWriter,
    redactor: Redactor,
    minutes: Option<u64>,
}

impl Recording {
    async fn run(
        self,
        browser: &OwnBrowser,
        out: &mut (dyn Write + Send),
        stop: &CancellationToken,
    ) -> Result<Notes, Failed> {
        let Self { plan, exported, sessions, writer, redactor, minutes } = self;
        let (reports_in, reports) = mpsc::channel::<PageReport>(REPORTS_MAX);
        let (lines_in, mut lines) = mpsc::channel(LINES_MAX);
        let over = stop.child_token();
        let read = (plan.rules.clone(), exported);
        let scribe = Scribe::new((writer, redactor), read, &sessions, lines_in, over.clone());
        let progress = scribe.progress();
        let writing = tokio::task::spawn_blocking(move || scribe.write_all(reports));
        let driving = drive_account(browser.browser.clone(), plan, reports_in, over.clone());
        tokio::pin!(driving);
        let ends_at = minutes.map(|minutes| Instant::now() + Duration::from_secs(60 * minutes));
        let mut every = tokio::time::interval_at(Instant::now() + TELL_EVERY, TELL_EVERY);
        let mut told = (0, 0);
        let ended = loop {
            tokio::select! {
                ended = &mut driving => break ended,
                Some(line) = lines.recv() => tell(out, &line)?,
                () = at(ends_at), if !over.is_cancelled() => over.cancel(),
                _ = every.tick() => {
                    let now = *progress.borrow();
                    if now != told {
                        told = now;
                        tell(out, &format!("{} entries, {}", now.0, size(now.1)))?;
                    }
                }
            }
        };
        let written = writing.await.context("the task that writes the file died").map_err(failed)?;
        while let Ok(line) = lines.try_recv() {
            tell(out, &line)?;
        }
        let notes = written.context("the file cannot be written").map_err(failed)?;
        match ended {
            Ok(()) => {}
            Err(DriveError::BrowserDied) => tell(out, "the browser was closed: the recording ends")?,
            Err(error) => tell(out, &format!("the recording ends: {error}"))?,
        }
        Ok(notes)
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn summary(notes: &Notes, args: &RecordArgs, path: &Path) -> String {
    let Notes { entries, bytes, left_out, withheld, unreadable, .. } = notes;
    let mut text = format!("{entries} entries, {} in {}\n", size(*bytes), path.display());
    for (count, what) in [
        (left_out, "bodies are left out, because they are neither JSON nor plain text"),
        (withheld, "entries are withheld, because a secret of the account's settings stood in them"),
        (unreadable, "answers could not be read"),
    ] {
        if *count > 0 {
            text += &format!("{count} {what}\n");
        }
    }
    let dir = args.lone.platforms.clone().unwrap_or_else(|| "platforms".into()).join(&args.name);
    text + "secrets were removed by their names and looks; what people wrote is still in it. Look through it before \
           you give it to anybody.\nnext:\n"
        + &format!("  snapfleet-worker platform check {} --har {}", dir.display(), path.display())
}

/// Bytes for people.
fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} bytes"),
        10_000..10_000_000 => format!("{} kB", bytes / 1_000),
        _ => format!("{} MB", bytes / 1_000_000),
    }
}

fn tell(out: &mut (dyn Write + Send), line: &str) -> Result<(), Failed> {
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(failed)
}
