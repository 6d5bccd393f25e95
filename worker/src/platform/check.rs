//! `platform check`: a platform's folder without a browser. Each fixture is a body with the records it must give.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use snapfleet_protocol::UnixMs;

use super::{AccountView, Mapped, Platform, PlatformError, Request};

/// The largest fixture, in bytes.
const FIXTURE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// The most differences told of one fixture.
const DIFFERENCES_MAX: usize = 20;
/// The longest value shown in a difference.
const VALUE_CHARS_MAX: usize = 120;

/// What [`check`] found in a platform that loads.
#[derive(Debug)]
pub struct CheckReport {
    /// The platform's name.
    pub platform: String,
    /// How many fixtures were run.
    pub fixtures: usize,
    /// How many records they gave.
    pub records: usize,
    /// The fixtures that gave something else than they say.
    pub failures: Vec<Failure>,
    /// What is probably not meant: a rule without a fixture, a file that nothing uses.
    pub warnings: Vec<String>,
}

/// A fixture that gave something else than it says.
#[derive(Debug)]
pub struct Failure {
    /// The fixture's file.
    pub fixture: PathBuf,
    /// What differs, a line each.
    pub differences: Vec<String>,
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
            for difference in &failure.differences {
                writeln!(f, "  {difference}")?;
            }
        }
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        let (ok, all) = (self.fixtures - self.failures.len(), self.fixtures);
        write!(f, "platform {}: {ok} of {all} fixtures as expected, {} records", self.platform, self.records)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fixture {
    rule: String,
    request: Request,
    account: AccountView,
    now_ms: i64,
    body: Box<RawValue>,
    expected: Expected,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    /// As the protocol writes them; what is unknown is left out.
    records: Vec<Value>,
    #[serde(default)]
    refused: Vec<ExpectedRefusal>,
    #[serde(default)]
    unknown_times: usize,
    #[serde(default)]
    cut: usize,
    /// A part of the error; absent: none.
    error: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectedRefusal {
    row: usize,
    /// A part of the reason.
    reason: String,
}

/// A body that is no JSON, given as text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TextBody {
    text: String,
}

/// Loads the platform in `dir` and runs every `fixtures/*.json` of it.
///
/// # Errors
/// [`PlatformError`] where the platform or a fixture cannot be read at all.
pub fn check(dir: &Path) -> Result<CheckReport, PlatformError> {
    let platform = Platform::load(dir)?;
    let mut report = CheckReport {
        platform: platform.name().to_string(),
        fixtures: 0,
        records: 0,
        failures: Vec::new(),
        warnings: Vec::new(),
    };
    let mut used = BTreeSet::new();
    for path in files(&dir.join("fixtures"))? {
        if path.extension().is_none_or(|extension| extension != "json") {
            report.warnings.push(format!("{} is no .json file and was not run", path.display()));
            continue;
        }
        let fixture = read(&path)?;
        used.insert(fixture.rule.clone());
        let (records, differences) = run(&platform, &fixture);
        report.fixtures += 1;
        report.records += records;
        if !differences.is_empty() {
            report.failures.push(Failure { fixture: path, differences });
        }
    }
    for rule in platform.captures().iter().filter(|rule| !used.contains(&rule.name)) {
        report.warnings.push(format!("capture {} has no fixture: record one in fixtures/", rule.name));
    }
    Ok(report)
}

/// The files of a folder in order; none where there is no folder.
fn files(dir: &Path) -> Result<Vec<PathBuf>, PlatformError> {
    let failed = |error| PlatformError::Read { path: dir.to_owned(), error };
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        files.push(entry.map_err(failed)?.path());
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<Fixture, PlatformError> {
    let failed = |error| PlatformError::Read { path: path.to_owned(), error };
    let broken = |line, message| PlatformError::File { path: path.to_owned(), line, message };
    let bytes = std::fs::metadata(path).map_err(failed)?.len();
    if bytes > FIXTURE_BYTES_MAX {
        return Err(broken(1, format!("fixture of {bytes} bytes is too large: at most {FIXTURE_BYTES_MAX}")));
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    serde_json::from_str(&text).map_err(|error| broken(error.line(), error.to_string()))
}

fn run(platform: &Platform, fixture: &Fixture) -> (usize, Vec<String>) {
    let Some(rule) = platform.captures().iter().position(|rule| rule.name == fixture.rule) else {
        let known: Vec<_> = platform.captures().iter().map(|rule| rule.name.as_str()).collect();
        return (
            0,
            vec![format!("rule {:?} is not in platform.toml, which has {}", fixture.rule, known.join(", "))],
        );
    };
    if fixture.account.id.platform != *platform.name() {
        return (
            0,
            vec![format!("account {} is of another platform than {}", fixture.account.id, platform.name())],
        );
    }
    let text = serde_json::from_str::<TextBody>(fixture.body.get()).map(|body| body.text);
    let body = text.as_deref().unwrap_or(fixture.body.get());
    let mapped =
        platform.map(rule, &fixture.request, &fixture.account, body.as_bytes(), UnixMs(fixture.now_ms));
    let mut differences = differences(&fixture.expected, &mapped);
    if differences.len() > DIFFERENCES_MAX {
        let more = differences.len() - DIFFERENCES_MAX;
        differences.truncate(DIFFERENCES_MAX);
        differences.push(format!("and {more} differences more"));
    }
    (mapped.records.len(), differences)
}

fn differences(expected: &Expected, mapped: &Mapped) -> Vec<String> {
    let mut found = Vec::new();
    let records: Vec<Value> =
        mapped.records.iter().map(|record| serde_json::to_value(record).unwrap_or_default()).collect();
    for at in 0..records.len().max(expected.records.len()) {
        match (expected.records.get(at), records.get(at)) {
            (Some(expected), Some(record)) => record_differences(at, expected, record, &mut found),
            (Some(missing), None) => found.push(format!("records[{at}]: missing: {}", shown(missing))),
            (None, Some(extra)) => found.push(format!("records[{at}]: not expected: {}", shown(extra))),
            (None, None) => {}
        }
    }
    for refusal in &expected.refused {
        match mapped.refused.iter().find(|refused| refused.row == refusal.row) {
            Some(refused) if refused.reason.contains(&refusal.reason) => {}
            Some(refused) => found.push(format!(
                "refused row {}: expected a reason with {:?}, got {:?}",
                refusal.row, refusal.reason, refused.reason
            )),
            None => found.push(format!("refused row {}: expected, but it was not refused", refusal.row)),
        }
    }
    for refused in &mapped.refused {
        if !expected.refused.iter().any(|refusal| refusal.row == refused.row) {
            found.push(format!("refused row {}: {}", refused.row, refused.reason));
        }
    }
    for (what, expected, got) in
        [("unknown_times", expected.unknown_times, mapped.unknown_times), ("cut", expected.cut, mapped.cut)]
    {
        if expected != got {
            found.push(format!("{what}: expected {expected}, got {got}"));
        }
    }
    match (&expected.error, &mapped.error) {
        (None, None) => {}
        (Some(expected), Some(error)) if error.contains(expected) => {}
        (expected, error) => {
            found.push(format!("error: expected {}, got {}", or_none(expected), or_none(error)))
        }
    }
    found
}

fn or_none(error: &Option<String>) -> String {
    error.as_ref().map_or_else(|| "none".into(), |error| format!("{error:?}"))
}

fn record_differences(at: usize, expected: &Value, record: &Value, found: &mut Vec<String>) {
    let (Value::Object(expected), Value::Object(record)) = (expected, record) else {
        found.push(format!("records[{at}]: expected {}, got {}", shown(expected), shown(record)));
        return;
    };
    let fields: BTreeSet<_> = expected.keys().chain(record.keys()).collect();
    for field in fields {
        let (expected, got) = (expected.get(field), record.get(field));
        if expected != got {
            let show = |value: Option<&Value>| value.map_or_else(|| "nothing".into(), shown);
            found.push(format!("records[{at}].{field}: expected {}, got {}", show(expected), show(got)));
        }
    }
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
