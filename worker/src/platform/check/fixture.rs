//! A fixture: its file, the body beside it, and what became of that.

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;
use snapfleet_protocol::UnixMs;

use crate::platform::{AccountView, BODY_BYTES_MAX, Platform, PlatformError, Refused, Request};

/// The largest fixture, in bytes.
const FIXTURE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What the name of a body's own file holds, so that it is not taken for a fixture.
const BODY_MARK: &str = ".body.";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FixtureText<'t> {
    rule: String,
    request: Request,
    account: AccountView,
    now_ms: i64,
    /// `null` is a body, too.
    #[serde(borrow, default, deserialize_with = "there")]
    body: Option<&'t RawValue>,
    body_file: Option<String>,
    /// `null` is nothing yet, and stands where it will be written.
    #[serde(borrow, default, deserialize_with = "there")]
    expected: Option<&'t RawValue>,
}

fn there<'t, D: Deserializer<'t>>(value: D) -> Result<Option<&'t RawValue>, D::Error> {
    <&RawValue>::deserialize(value).map(Some)
}

/// What a fixture says that its body gives.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expected {
    /// As the protocol writes them; what is unknown is left out.
    pub(super) records: Vec<Value>,
    #[serde(default)]
    pub(super) complete: Vec<Value>,
    #[serde(default)]
    pub(super) refused: Vec<ExpectedRefusal>,
    #[serde(default)]
    pub(super) unknown_times: usize,
    #[serde(default)]
    pub(super) cut: usize,
    /// A part of the error; absent: none.
    pub(super) error: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExpectedRefusal {
    pub(super) row: usize,
    /// A part of the reason.
    pub(super) reason: String,
}

/// A body that is no JSON, given as text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TextBody {
    text: String,
}

/// A fixture, read.
pub(super) struct Loaded {
    pub(super) path: PathBuf,
    /// The file as it is.
    pub(super) text: String,
    pub(super) rule: String,
    pub(super) request: Request,
    account: AccountView,
    now: UnixMs,
    body: Vec<u8>,
    pub(super) expected: Option<Expected>,
    /// Where in the text the value of `expected` stands.
    pub(super) expected_at: Option<std::ops::Range<usize>>,
}

/// What a fixture's body gave.
pub(super) struct Outcome {
    pub(super) records: Vec<Value>,
    pub(super) complete: Vec<Value>,
    pub(super) refused: Vec<Refused>,
    pub(super) unknown_times: usize,
    pub(super) cut: usize,
    pub(super) error: Option<String>,
}

/// What a folder of fixtures holds.
pub(super) struct Folder {
    pub(super) fixtures: Vec<Loaded>,
    /// Neither a fixture nor the body of one.
    pub(super) unused: Vec<PathBuf>,
}

/// Reads all fixtures; none where there is no folder.
pub(super) fn read_folder(dir: &Path) -> Result<Folder, PlatformError> {
    let mut folder = Folder { fixtures: Vec::new(), unused: Vec::new() };
    let mut bodies = Vec::new();
    for path in super::lint::files(dir)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !name.ends_with(".json") || name.contains(BODY_MARK) {
            folder.unused.push(path);
            continue;
        }
        let (loaded, body) = read(&path)?;
        folder.fixtures.push(loaded);
        bodies.extend(body);
    }
    folder.unused.retain(|path| !bodies.contains(path));
    Ok(folder)
}

/// A fixture, and the file of its body.
fn read(path: &Path) -> Result<(Loaded, Option<PathBuf>), PlatformError> {
    let broken = |line, message| PlatformError::File { path: path.to_owned(), line, message };
    let text = String::from_utf8(read_bounded(path, FIXTURE_BYTES_MAX)?)
        .map_err(|error| broken(1, format!("fixture is not UTF-8: {error}")))?;
    let fixture: FixtureText<'_> =
        serde_json::from_str(&text).map_err(|error| broken(error.line(), error.to_string()))?;
    let expected_at = fixture.expected.map(|raw| {
        let start = raw.get().as_ptr().addr() - text.as_ptr().addr();
        start..start + raw.get().len()
    });
    let expected = serde_json::from_str(fixture.expected.map_or("null", RawValue::get));
    let expected = expected.map_err(|error| {
        let before = expected_at.as_ref().map_or("", |at| &text[..at.start]);
        broken(before.matches('\n').count() + error.line(), error.to_string())
    })?;
    let (body, file) = match (fixture.body, fixture.body_file) {
        (Some(body), None) => {
            let text = serde_json::from_str::<TextBody>(body.get()).map(|body| body.text);
            (text.unwrap_or_else(|_| body.get().to_owned()).into_bytes(), None)
        }
        (None, Some(name)) => {
            let file = body_path(path, &name).map_err(|message| broken(1, message))?;
            (read_bounded(&file, BODY_BYTES_MAX)?, Some(file))
        }
        (Some(_), Some(_)) => return Err(broken(1, "body and body_file are both given: keep one".into())),
        (None, None) => return Err(broken(1, "missing field `body`, or `body_file`".into())),
    };
    let (rule, request, account) = (fixture.rule, fixture.request, fixture.account);
    let (path, now) = (path.to_owned(), UnixMs(fixture.now_ms));
    Ok((Loaded { path, rule, request, account, now, body, expected, expected_at, text }, file))
}

/// The file beside the fixture that holds its body; nothing outside of the folder, by no name and no link.
fn body_path(fixture: &Path, name: &str) -> Result<PathBuf, String> {
    let is_inside = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    let folder = fixture.parent().unwrap_or(Path::new("."));
    let path = folder.join(name);
    if !is_inside || !name.contains(BODY_MARK) {
        return Err(format!(
            "body_file {name:?} must be a file beside the fixture, with {BODY_MARK:?} in its name, such as works.body.json"
        ));
    }
    let real = |path: &Path| {
        path.canonicalize().map_err(|error| format!("body_file {name:?} cannot be read: {error}"))
    };
    if !real(&path)?.starts_with(real(folder)?) {
        return Err(format!("body_file {name:?} leads out of the folder: copy the file into it"));
    }
    Ok(path)
}

fn read_bounded(path: &Path, bytes_max: usize) -> Result<Vec<u8>, PlatformError> {
    let failed = |error| PlatformError::Read { path: path.to_owned(), error };
    let bytes = std::fs::metadata(path).map_err(failed)?.len();
    if bytes > bytes_max as u64 {
        let message = format!("file of {bytes} bytes is too large: at most {bytes_max}");
        return Err(PlatformError::File { path: path.to_owned(), line: 1, message });
    }
    std::fs::read(path).map_err(failed)
}

/// Maps the fixture's body.
///
/// # Errors
/// Why it cannot be run.
pub(super) fn run(platform: &Platform, loaded: &Loaded) -> Result<Outcome, String> {
    let rules = || platform.captures().iter().map(|rule| rule.name.as_str());
    let Some(rule) = rules().position(|rule| rule == loaded.rule) else {
        let known = rules().collect::<Vec<_>>().join(", ");
        return Err(format!("rule {:?} is not in platform.toml, which has {known}", loaded.rule));
    };
    if loaded.account.id.platform != *platform.name() {
        return Err(format!("account {} is of another platform than {}", loaded.account.id, platform.name()));
    }
    let mapped = platform.map(rule, &loaded.request, &loaded.account, &loaded.body, loaded.now);
    Ok(Outcome {
        records: mapped.records.iter().map(as_read).collect(),
        complete: mapped.complete.iter().map(as_read).collect(),
        refused: mapped
            .refused
            .into_iter()
            .map(|refused| Refused { reason: refused.in_full(), ..refused })
            .collect(),
        unknown_times: mapped.unknown_times,
        cut: mapped.cut,
        error: mapped.error,
    })
}

/// As it is once it was written and read: numbers with a fraction may differ in their last bit otherwise.
pub(super) fn as_read(value: &impl serde::Serialize) -> Value {
    let text = serde_json::to_string(value).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}
