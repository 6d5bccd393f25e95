//! The command `platform check`: what its flags ask for, printed, and the exit code: 0 if all is well, 1 if something
//! differs or was not mapped.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;
use snapfleet_protocol::AccountId;

use super::{HarCheck, Listed, Progress, accept, check, check_har};
use crate::commands::{Failed, failed, usage};
use crate::config::CheckArgs;
use crate::platform::{AccountView, Platform, Settings};
use crate::roster::now;

/// How often somebody who watches is told how far the reading is.
const PROGRESS_PAUSE: Duration = Duration::from_secs(2);

/// Checks, and prints what was found to `out`.
///
/// # Errors
/// [`Failed`] with the code for usage where platform, fixtures or HAR cannot be read at all.
pub(crate) fn run(args: &CheckArgs, out: &mut (dyn Write + Send)) -> Result<ExitCode, Failed> {
    let is_ok = match &args.har {
        Some(path) => {
            let report = over_har(args, path)?;
            print(args, &report, out)?;
            report.is_ok()
        }
        None => {
            let report = if args.accept { accept(&args.dir) } else { check(&args.dir) };
            let report = report.map_err(usage)?;
            print(args, &report, out)?;
            report.is_ok()
        }
    };
    Ok(if is_ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(
    args: &CheckArgs,
    report: &(impl Serialize + std::fmt::Display),
    out: &mut (dyn Write + Send),
) -> Result<(), Failed> {
    if args.json {
        serde_json::to_writer_pretty(&mut *out, report).map_err(failed)?;
        return writeln!(out).map_err(failed);
    }
    writeln!(out, "{report}").map_err(failed)
}

fn over_har(args: &CheckArgs, path: &Path) -> Result<super::HarReport, Failed> {
    let platform = Platform::load(&args.dir).map_err(usage)?;
    let (account, warnings) = account(args, &platform).map_err(usage)?;
    let bytes = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let listed = match args.rows {
        None => Listed::Nothing,
        Some(None) => Listed::All,
        Some(Some(kind)) => Listed::Kind(kind),
    };
    let check = HarCheck { platform: &platform, account: &account, har: path, now: now(), listed };
    let mut report = check_har(&check, &mut teller(bytes)).map_err(usage)?;
    report.warnings.extend(warnings);
    Ok(report)
}

/// The account for which is mapped, and what is missing in it.
fn account(args: &CheckArgs, platform: &Platform) -> anyhow::Result<(AccountView, Vec<String>)> {
    let name = platform.name();
    let text =
        if args.account.contains('.') { args.account.clone() } else { format!("{name}.{}", args.account) };
    let id = AccountId::parse(&text).context("--account")?;
    anyhow::ensure!(id.platform == *name, "--account {id} is of another platform than {name}");
    let settings: Settings =
        args.settings.iter().map(|setting| (setting.name.clone(), setting.value.clone())).collect();
    let is_missing = |setting: &&str| settings.get(*setting).is_none_or(String::is_empty);
    let missing: Vec<_> = platform.manifest.required().filter(is_missing).collect();
    // What is not given is not needed for reading a file; what is given must be known.
    let mut filled = settings.clone();
    filled.extend(missing.iter().map(|setting| ((*setting).to_owned(), "-".to_owned())));
    platform.check_settings(&filled)?;
    let warnings = missing.into_iter().filter(|setting| !platform.manifest.is_secret(setting));
    let warnings = warnings.map(|setting| {
        format!("setting {setting} is not given: filters see null; give it with --setting {setting}=VALUE")
    });
    let warnings = warnings.collect();
    Ok((AccountView { id, settings }, warnings))
}

/// Tells how far the reading is, where somebody watches.
fn teller(bytes: u64) -> impl FnMut(Progress) {
    let is_watched = std::io::stderr().is_terminal();
    let mut told_at = Instant::now();
    move |progress| {
        if !is_watched || told_at.elapsed() < PROGRESS_PAUSE {
            return;
        }
        told_at = Instant::now();
        let (done, all) = (progress.bytes / 1_000_000, bytes / 1_000_000);
        // Nobody has to see it.
        let _ = writeln!(std::io::stderr(), "{done} of {all} MB read, {} requests", progress.entries);
    }
}
