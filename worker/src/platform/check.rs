//! `platform check`: a platform's folder without a browser. Each fixture is a body with the records it must give; a
//! HAR file is a whole visit of a site.
//!
//! Nothing here knows jaq or the browser: a body goes through [`Platform::map`], as a captured one does, and what a
//! rule takes is asked of the rules that the browser's side uses.

mod accept;
mod addresses;
mod command;
mod diff;
mod fixture;
mod groups;
mod lint;
mod outcome;
mod table;
mod traffic;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

pub(crate) use self::command::run;
pub use self::diff::Difference;
pub use self::groups::Group;
pub use self::outcome::{HarReport, HarRow, RuleCount};
pub use self::traffic::{HarCheck, Listed, Progress, check_har};

use self::addresses::Addresses;
use self::fixture::{Loaded, Outcome};
use super::{Platform, PlatformError, Refused};
use crate::normalise::UNREADABLE;

/// The folder of fixtures in a platform's folder.
const FIXTURES: &str = "fixtures";

/// What [`check`] found in a platform that loads.
#[derive(Debug, Serialize)]
pub struct CheckReport {
    /// The platform's name.
    pub platform: String,
    /// How many fixtures were run.
    pub fixtures: usize,
    /// How many records they gave.
    pub records: usize,
    /// How many rows were refused.
    pub refused: usize,
    /// The fixtures that gave something else than they say.
    pub failures: Vec<Failure>,
    /// The fixtures into which [`accept`] has written what they gave.
    pub accepted: Vec<Accepted>,
    /// What is probably not meant: a rule without a fixture, a file that nothing uses.
    pub warnings: Vec<String>,
}

/// A fixture into which was written what it gave.
#[derive(Debug, Serialize)]
pub struct Accepted {
    /// The fixture's file.
    pub fixture: PathBuf,
    /// How many records it expected before; `None` where it expected nothing yet.
    pub records_before: Option<usize>,
    /// How many it gave.
    pub records: usize,
    /// How many refused rows it expected before.
    pub refused_before: usize,
    /// How many rows were refused.
    pub refused: usize,
}

impl fmt::Display for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "accepted: {}", self.fixture.display())?;
        if let Some(before) = self.records_before.filter(|before| *before != self.records) {
            write!(f, ": {before} -> {} records", self.records)?;
        }
        if self.refused != self.refused_before {
            write!(f, "; refused rows: {} -> {}", self.refused_before, self.refused)?;
        }
        Ok(())
    }
}

/// A fixture that gave something else than it says.
#[derive(Debug, Serialize)]
pub struct Failure {
    /// The fixture's file.
    pub fixture: PathBuf,
    /// Why it could not be run, or what it gave was not accepted.
    pub problem: Option<String>,
    /// What differs.
    pub differences: Vec<Difference>,
}

impl CheckReport {
    /// Whether every fixture gave what it says. Warnings do not count.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.failures.is_empty()
    }
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for failure in &self.failures {
            writeln!(f, "{}", failure.fixture.display())?;
            if let Some(problem) = &failure.problem {
                writeln!(f, "  {problem}")?;
            }
            diff::write(f, &failure.differences)?;
        }
        for accepted in &self.accepted {
            writeln!(f, "{accepted}")?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        let (ok, all) = (self.fixtures - self.failures.len(), self.fixtures);
        write!(
            f,
            "platform {}: {ok} of {all} fixtures as expected, {} records",
            self.platform, self.records
        )?;
        match self.refused {
            0 => Ok(()),
            1 => write!(f, ", 1 row refused"),
            refused => write!(f, ", {refused} rows refused"),
        }
    }
}

/// Loads the platform in `dir` and runs every `fixtures/*.json` of it.
///
/// # Errors
/// [`PlatformError`] where the platform or a fixture cannot be read at all.
pub fn check(dir: &Path) -> Result<CheckReport, PlatformError> {
    examine(dir, false)
}

/// The same, and writes into each fixture that gives something else than it says what it gives. A run that ends in an
/// error, or in which the filter fails on an element, is written only where the fixture expected that before.
///
/// # Errors
/// [`PlatformError`] where the platform or a fixture cannot be read at all; then none is written.
pub fn accept(dir: &Path) -> Result<CheckReport, PlatformError> {
    examine(dir, true)
}

fn examine(dir: &Path, accepts: bool) -> Result<CheckReport, PlatformError> {
    let platform = Platform::load(dir)?;
    let folder = fixture::read_folder(&dir.join(FIXTURES))?;
    let mut report = CheckReport {
        platform: platform.name().to_string(),
        fixtures: folder.fixtures.len(),
        records: 0,
        refused: 0,
        failures: Vec::new(),
        accepted: Vec::new(),
        warnings: lint::warnings(&platform, dir, &folder)?,
    };
    let mut addresses = Addresses::default();
    for loaded in &folder.fixtures {
        let failed = |problem, differences| Failure { fixture: loaded.path.clone(), problem, differences };
        let outcome = match fixture::run(&platform, loaded) {
            Ok(outcome) => outcome,
            Err(problem) => {
                report.failures.push(failed(Some(problem), Vec::new()));
                continue;
            }
        };
        report.records += outcome.records.len();
        report.refused += outcome.refused.len();
        outcome.records.iter().for_each(|record| addresses.look_at(record));
        let differences = diff::differences(loaded.expected.as_ref(), &outcome);
        let problem = if accepts {
            match settle(loaded, &outcome, differences.is_empty())? {
                Settled::Same => continue,
                Settled::Written => {
                    report.accepted.push(Accepted {
                        fixture: loaded.path.clone(),
                        records_before: loaded.expected.as_ref().map(|expected| expected.records.len()),
                        records: outcome.records.len(),
                        refused_before: loaded.expected.as_ref().map_or(0, |expected| expected.refused.len()),
                        refused: outcome.refused.len(),
                    });
                    continue;
                }
                Settled::Refused(reason) => Some(reason),
            }
        } else if loaded.expected.is_none() {
            Some("it expects nothing yet: look at what it gives, and write that into it with --accept".into())
        } else if differences.is_empty() {
            continue;
        } else {
            None
        };
        report.failures.push(failed(problem, differences));
    }
    report.warnings.extend(addresses.warning());
    Ok(report)
}

enum Settled {
    Same,
    Written,
    Refused(String),
}

fn settle(loaded: &Loaded, outcome: &Outcome, is_same: bool) -> Result<Settled, PlatformError> {
    if is_same && loaded.expected.is_some() {
        return Ok(Settled::Same);
    }
    let expects_error = loaded.expected.as_ref().is_some_and(|expected| expected.error.is_some());
    if let (Some(error), false) = (&outcome.error, expects_error) {
        return Ok(Settled::Refused(format!(
            "not accepted, for the run ended in an error: {error}; mend the filter or, if that is meant, write \
             \"error\" into its expected"
        )));
    }
    let is_expected = |refused: &&Refused| {
        let mut known = loaded.expected.iter().flat_map(|expected| &expected.refused);
        known.any(|refusal| refusal.row == refused.row && refused.reason.contains(&refusal.reason))
    };
    let failed: Vec<_> = outcome
        .refused
        .iter()
        .filter(|refused| refused.reason.starts_with(UNREADABLE) && !is_expected(refused))
        .collect();
    if let Some(first) = failed.first() {
        return Ok(Settled::Refused(format!(
            "not accepted: {} rows on which the filter fails, the first of them row {}: {}; mend the filter or, if that \
             is meant, write these rows into its expected, under \"refused\"",
            failed.len(),
            first.row,
            first.reason
        )));
    }
    let text = accept::rewritten(loaded, outcome);
    accept::replace(&loaded.path, &text).map_err(|error| PlatformError::File {
        path: loaded.path.clone(),
        line: 1,
        message: format!("fixture cannot be written: {error}"),
    })?;
    Ok(Settled::Written)
}
