//! `status`: the state of the whole, in the same order and words as the page.

use std::io::{self, Write};
use std::process::ExitCode;

use snapfleet_protocol::UnixMs;

use super::CliError;
use super::source::{self, Source};
use super::text::{ago, cut, lasted, plain, when, write_json};
use crate::api::status::{StatusView, at_rest};
use crate::api::{Condition, ProblemCode, state_words};
use crate::config::ReadArgs;

/// Accounts that the sentence names; the list of problems names all.
const NAMED_MAX: usize = 3;
/// Characters of a reason in the sentence; the list of problems has it whole.
const REASON_CHARS_MAX: usize = 80;

pub(crate) async fn run(args: &ReadArgs, out: &mut impl Write) -> Result<ExitCode, CliError> {
    let status: StatusView = match source::open(args).await? {
        Source::Master(master) => master.get("/api/v1/status").await?,
        Source::File(query) => at_rest(&query.totals()?),
    };
    if args.json {
        write_json(out, &status, true)?
    } else {
        print(out, &status)?
    }
    Ok(ExitCode::SUCCESS)
}

fn print(out: &mut impl Write, status: &StatusView) -> io::Result<()> {
    writeln!(out, "{}", plain(&sentence(status)))?;
    for problem in &status.problems {
        let since = problem.since.map(|since| format!(" (since {})", when(Some(since), status.now)));
        writeln!(out, "\n! {}{}", plain(&problem.text), since.unwrap_or_default())?;
        writeln!(out, "  {}", plain(&problem.remedy))?;
    }
    let (store, sync) = (&status.store, &status.sync);
    let online = status.workers.as_ref().and_then(|workers| workers.online).map(|online| online.to_string());
    let unknown = || "unknown".to_owned();
    let records = &store.records;
    let rows: [(&str, String); 18] = [
        ("online workers", online.unwrap_or_else(unknown)),
        ("accounts", store.accounts.to_string()),
        ("contents", records.contents.to_string()),
        ("comments", records.comments.to_string()),
        ("conversations", records.conversations.to_string()),
        ("direct messages", records.direct_messages.to_string()),
        ("notifications", records.notifications.to_string()),
        ("last update", when(store.last_update, status.now)),
        ("", String::new()),
        ("received", sync.received.to_string()),
        ("last received", when(sync.last_received, status.now)),
        ("applied", sync.applied.to_string()),
        ("unchanged records", sync.unchanged.to_string()),
        ("rejected", sync.rejected.to_string()),
        ("fenced", sync.fenced.to_string()),
        ("lag", sync.lag.map_or_else(unknown, |lag| format!("{lag} messages"))),
        ("dead letters", store.dead_letters.to_string()),
        ("changes", store.changes.to_string()),
    ];
    writeln!(out)?;
    for (name, value) in rows {
        if name.is_empty() { writeln!(out)? } else { writeln!(out, "{name:<18} {value}")? }
    }
    if let Some(replicas) = status.replicas.as_ref().filter(|replicas| !replicas.list.is_empty()) {
        writeln!(out)?;
        super::replica::print(out, replicas)?;
    }
    print_workers(out, status)
}

fn print_workers(out: &mut impl Write, status: &StatusView) -> io::Result<()> {
    let Some(workers) = &status.workers else { return Ok(()) };
    for worker in &workers.list {
        writeln!(
            out,
            "\nworker {} {}: version {}, process {}, {} accounts, {} pages, {} MiB, browser {} MiB, last heartbeat {}",
            plain(&worker.host),
            worker.instance,
            plain(&worker.version),
            worker.pid,
            worker.accounts.len(),
            worker.pages,
            worker.memory_bytes / (1024 * 1024),
            worker.browser_bytes / (1024 * 1024),
            ago(worker.at, status.now)
        )?;
        for account in &worker.accounts {
            let ago = |at: Option<UnixMs>| at.map_or_else(|| "never".to_owned(), |at| ago(at, status.now));
            writeln!(
                out,
                "  {:<24} {:<11} captured {}, published {} ({} in all, {} pending), {} rows refused",
                account.account.to_string(),
                account.state.as_str().replace('_', " "),
                ago(account.captured_at),
                ago(account.published_at),
                account.published,
                account.pending,
                account.refused
            )?;
        }
    }
    Ok(())
}

/// The one sentence that is true.
#[must_use]
pub fn sentence(status: &StatusView) -> String {
    let last = status
        .sync
        .last_received
        .map_or_else(|| "no snapshot yet".to_owned(), |at| format!("last snapshot {}", ago(at, status.now)));
    let (Some(broker), Some(capture)) = (&status.broker, &status.capture) else {
        return format!("No master is running; this is what its store holds; {last}.");
    };
    if !broker.connected {
        let since = broker.since.map(|since| format!(" for {}", lasted(since, status.now)));
        return format!(
            "No connection to the broker{}: nothing new arrives; {last}.",
            since.unwrap_or_default()
        );
    }
    match status.workers.as_ref().and_then(|workers| workers.online) {
        Some(0) => return format!("No worker is online: nothing is being captured; {last}."),
        None if status.problems.iter().any(|problem| problem.code == ProblemCode::WorkersUnknown) => {
            return format!("It cannot be told which workers are online; {last}.");
        }
        None => {
            return format!(
                "The broker has just been connected to: waiting for the workers' heartbeats; {last}."
            );
        }
        Some(_) => {}
    }
    let all = capture.accounts;
    if all == 0 {
        return "No account yet: add one with snapfleet-master accounts add.".to_owned();
    }
    let paused = capture.paused;
    if paused == all {
        return match all {
            1 => format!("The account is paused; {last}."),
            _ => format!("All {all} accounts are paused; {last}."),
        };
    }
    let all = all.saturating_sub(paused);
    let last = if paused > 0 { format!("{last}; {paused} paused") } else { last };
    let ill = capture.unwell + capture.unassigned;
    if ill == 0 && capture.starting == 0 && capture.unknown == 0 {
        return match all {
            1 => format!("The account is being captured; {last}."),
            _ => format!("All {all} accounts are being captured; {last}."),
        };
    }
    if ill == 0 {
        let starting = (capture.starting > 0).then(|| format!(", {} starting", capture.starting));
        let waiting =
            (capture.unknown > 0).then(|| format!(", {} waiting for a worker's heartbeat", capture.unknown));
        return format!(
            "{} of {all} accounts are being captured{}{}; {last}.",
            capture.capturing,
            starting.unwrap_or_default(),
            waiting.unwrap_or_default()
        );
    }
    format!("{ill} of {all} accounts {} not being captured: {}; {last}.", is_or_are(ill), named(status, ill))
}

fn is_or_are(number: u64) -> &'static str {
    if number == 1 { "is" } else { "are" }
}

/// The accounts that are not being captured, in words.
fn named(status: &StatusView, ill: u64) -> String {
    let of_accounts = status.problems.iter().filter(|problem| problem.account.is_some()).filter(|problem| {
        match problem.code {
            ProblemCode::AccountUnwell | ProblemCode::AccountUnassigned => true,
            // Held, it is told of as any other.
            ProblemCode::AccountUnconfigured => problem.state == Some(Condition::Unassigned),
            _ => false,
        }
    });
    let mut named: Vec<String> = Vec::new();
    for problem in of_accounts.take(NAMED_MAX) {
        let account = problem.account.as_ref().map(ToString::to_string).unwrap_or_default();
        let is = state_words(problem.state);
        let since = problem.since.map(|since| format!(" for {}", lasted(since, status.now)));
        let detail = problem.detail.as_ref().map(|detail| format!(" ({})", cut(detail, REASON_CHARS_MAX)));
        named.push(format!("{account} {is}{}{}", since.unwrap_or_default(), detail.unwrap_or_default()));
    }
    let rest = ill.saturating_sub(named.len() as u64);
    if rest > 0 {
        named.push(format!("{rest} more"));
    }
    named.join("; ")
}
