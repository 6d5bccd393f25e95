//! `accounts import`: a file is checked whole before anything is sent; then each line is one request.

mod table;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use reqwest::Method;
use serde::Serialize;
use serde_json::json;
use snapfleet_protocol::fleet::INTERVAL_S_DEFAULT;
use snapfleet_protocol::{AccountConfig, AccountId};

use super::CliError;
use super::accounts::{NewAccount, all, path, replace};
use super::source::Master;
use super::text::{plain, write_json};
use crate::accounts::{check, check_platform};
use crate::api::Condition;
use crate::api::status::StatusView;
use crate::api::view::{AccountDetailView, AccountView, ConfigView};
use crate::config::accounts::ImportArgs;
use table::{BadLine, Row};

/// The largest file.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Requests at once: each waits for the broker's disk, not for the master.
const AT_ONCE: usize = 8;
/// How often a long import says how far it is.
const SAID_EVERY: Duration = Duration::from_secs(2);
/// Bad lines that are printed one by one.
const PRINTED_MAX: usize = 100;

/// What was done, or would be.
#[derive(Debug, Default, Serialize)]
struct Summary {
    dry_run: bool,
    added: u64,
    updated: u64,
    unchanged: u64,
    /// They exist already.
    skipped: u64,
    /// The master refused them.
    failed: Vec<BadLine>,
    /// Not as they must be.
    bad: Vec<BadLine>,
}

enum Outcome {
    Added,
    Updated,
    Unchanged,
    Skipped,
}

/// Imports a file.
pub(super) async fn run(
    master: &Master,
    args: &ImportArgs,
    out: &mut impl Write,
) -> Result<ExitCode, CliError> {
    let refused = |reason: String| CliError::File { path: args.file.clone(), reason };
    let (mut rows, bad) = table::read(&read_file(&args.file).map_err(refused)?).map_err(refused)?;
    let mut summary = Summary { dry_run: args.dry_run, bad, ..Summary::default() };
    let status: StatusView = master.get("/api/v1/status").await?;
    let workers = status.workers.map(|workers| workers.list).unwrap_or_default();
    let known = by_name(all(master, true).await?);
    rows.retain(|row| {
        let (labels, settings) = (given(&row.labels), given(&row.settings));
        let interval_s = row.interval_s.unwrap_or(INTERVAL_S_DEFAULT);
        let config = AccountConfig { interval_s, labels, settings, erased: None };
        let checked = check(&config, None, args.plain_secrets).and_then(|()| {
            if exists(&known, &row.id) { Ok(None) } else { check_platform(&row.id.platform, &workers) }
        });
        let bad = checked.err().map(|error| BadLine { line: row.line, error: error.to_string() });
        let good = bad.is_none();
        summary.bad.extend(bad);
        good
    });
    summary.bad.sort_by_key(|bad| bad.line);
    let held_back = !summary.bad.is_empty() && !args.skip_bad;
    if !held_back {
        import(master, args, &rows, &known, &mut summary).await?;
    }
    if args.json {
        write_json(out, &summary, true)?;
    } else {
        print(out, &summary, held_back)?;
    }
    let whole = !held_back && summary.failed.is_empty();
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("it is larger than {FILE_BYTES_MAX} bytes: split it"));
    }
    Ok(bytes)
}

fn by_name(accounts: Vec<AccountView>) -> BTreeMap<AccountId, AccountView> {
    accounts.into_iter().map(|account| (account.account.clone(), account)).collect()
}

/// Whether it is configured and has not ended.
fn exists(known: &BTreeMap<AccountId, AccountView>, id: &AccountId) -> bool {
    let ended = |state| matches!(state, Some(Condition::Removed | Condition::Erased));
    known.get(id).is_some_and(|account| account.configured && !ended(account.state))
}

fn given(cells: &BTreeMap<String, Option<String>>) -> BTreeMap<String, String> {
    cells.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?))).collect()
}

async fn import(
    master: &Master,
    args: &ImportArgs,
    rows: &[Row],
    known: &BTreeMap<AccountId, AccountView>,
    summary: &mut Summary,
) -> Result<(), CliError> {
    let requests = rows.iter().map(|row| async move {
        let exists = exists(known, &row.id);
        let done = match (exists, args.update) {
            (true, false) => Ok(Outcome::Skipped),
            (true, true) if args.dry_run => Ok(Outcome::Updated),
            (true, true) => update(master, row, args.plain_secrets).await,
            (false, _) if args.dry_run => Ok(Outcome::Added),
            (false, _) => add(master, row, args.plain_secrets).await,
        };
        (row.line, done)
    });
    let mut done = futures_util::stream::iter(requests).buffer_unordered(AT_ONCE);
    let (mut count, mut said) = (0_usize, Instant::now());
    while let Some((line, outcome)) = done.next().await {
        count += 1;
        match outcome {
            Ok(Outcome::Added) => summary.added += 1,
            Ok(Outcome::Updated) => summary.updated += 1,
            Ok(Outcome::Unchanged) => summary.unchanged += 1,
            Ok(Outcome::Skipped) => summary.skipped += 1,
            Err(CliError::Refused { detail, .. }) => summary.failed.push(BadLine { line, error: detail }),
            // Nobody answers any more: what is left would fail in the same way.
            Err(error) => {
                return Err(CliError::Broken { done: count - 1, of: rows.len(), why: error.to_string() });
            }
        }
        if said.elapsed() >= SAID_EVERY {
            said = Instant::now();
            // Whether anybody reads it does not matter.
            let _ = writeln!(std::io::stderr(), "{count} of {} accounts", rows.len());
        }
    }
    summary.failed.sort_by_key(|failed| failed.line);
    Ok(())
}

async fn add(master: &Master, row: &Row, plain_secrets: bool) -> Result<Outcome, CliError> {
    let new = NewAccount {
        account: &row.id,
        interval_s: row.interval_s.unwrap_or(INTERVAL_S_DEFAULT),
        labels: given(&row.labels),
        settings: given(&row.settings),
        paused: row.paused.unwrap_or(false),
        plain_secrets,
    };
    let _: AccountDetailView = master.change(Method::POST, "/api/v1/accounts", &new).await?;
    Ok(Outcome::Added)
}

/// Brings an account to what the file's columns say; what they do not name stays, an empty cell takes away.
async fn update(master: &Master, row: &Row, plain_secrets: bool) -> Result<Outcome, CliError> {
    let before: AccountDetailView = master.get(&path(&row.id, "")).await?;
    let Some((revision, mut config)) = before.revision.zip(before.config) else {
        return add(master, row, plain_secrets).await;
    };
    let ConfigView { interval_s, labels, settings, .. } = &mut config;
    *interval_s = row.interval_s.unwrap_or(*interval_s);
    for (cells, values) in [(&row.labels, labels), (&row.settings, settings)] {
        for (name, cell) in cells {
            match cell {
                Some(value) => drop(values.insert(name.clone(), value.clone())),
                None => drop(values.remove(name)),
            }
        }
    }
    let mut after = replace(master, &row.id, revision, config, plain_secrets).await?;
    let paused = before.account.state == Some(Condition::Paused);
    if let Some(wanted) = row.paused.filter(|wanted| *wanted != paused) {
        let verb = if wanted { "/pause" } else { "/resume" };
        after = master.change(Method::POST, &path(&row.id, verb), &json!({})).await?;
    }
    Ok(if after.revision == Some(revision) { Outcome::Unchanged } else { Outcome::Updated })
}

fn print(out: &mut impl Write, summary: &Summary, held_back: bool) -> Result<(), CliError> {
    for (lines, what) in [(&summary.bad, "bad"), (&summary.failed, "refused by the master")] {
        for bad in lines.iter().take(PRINTED_MAX) {
            writeln!(out, "line {}: {}", bad.line, plain(&bad.error))?;
        }
        if lines.len() > PRINTED_MAX {
            writeln!(out, "and {} more lines that are {what}", lines.len() - PRINTED_MAX)?;
        }
    }
    if held_back {
        writeln!(out, "nothing imported: {} bad lines; mend them, or give --skip-bad", summary.bad.len())?;
        return Ok(());
    }
    let would = if summary.dry_run { "would be " } else { "" };
    write!(
        out,
        "{} added, {} updated, {} unchanged, {} skipped",
        format_args!("{would}{}", summary.added),
        summary.updated,
        summary.unchanged,
        summary.skipped
    )?;
    let exist = if summary.skipped > 0 { " (they exist; --update changes them)" } else { "" };
    writeln!(out, "{exist}, {} bad, {} failed", summary.bad.len(), summary.failed.len())?;
    Ok(())
}
