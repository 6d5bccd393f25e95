//! A HAR's entries, grouped: by where they come from, method, host and path with its variable parts as `*`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;

use serde_json::Value;
use url::Url;

use super::merge::merged;
use super::shape::Shape;
use crate::har::{HarBody, HarEntry, HarError, HarSummary, read};
use crate::platform::Request;
use crate::record::Redactor;

/// The most groups; further addresses are counted.
const GROUPS_MAX: usize = 256;
/// The largest body that is kept as an example, and the most bytes of examples together.
const EXAMPLE_BYTES_MAX: usize = 1024 * 1024;
const EXAMPLES_BYTES_MAX: usize = 128 * 1024 * 1024;
/// The largest body that is looked into.
const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The most names of people that are kept, and the longest, in bytes.
const PEOPLE_MAX: usize = 2_000;
const PERSON_BYTES_MAX: usize = 64;

/// What one group is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Address {
    pub(super) source: SourceKind,
    pub(super) method: String,
    pub(super) host: String,
    /// As `path` in platform.toml takes it.
    pub(super) path: String,
}

/// As [`crate::platform::CaptureSource`], without page state, of which a HAR tells nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SourceKind {
    Response,
    EventSource,
    Websocket,
}

impl SourceKind {
    /// As platform.toml writes it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Response => "response",
            Self::EventSource => "event_source",
            Self::Websocket => "websocket",
        }
    }
}

/// Requests of one address.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) count: usize,
    pub(super) bytes: u64,
    pub(super) shape: Shape,
    pub(super) example: Option<Example>,
    /// Some of the names for which a `*` of its path stands, where groups were put together.
    pub(super) names: Vec<String>,
}

impl Group {
    /// Takes in another group that turned out to be of the same endpoint.
    pub(super) fn take_in(&mut self, other: Self) {
        self.count += other.count;
        self.bytes += other.bytes;
        self.shape.take_in(&other.shape);
        let length = |example: &Option<Example>| example.as_ref().map_or(0, |example| example.body.len());
        if length(&other.example) > length(&self.example) {
            self.example = other.example;
        }
    }
}

/// One body with its request, both without secrets.
#[derive(Debug)]
pub(super) struct Example {
    pub(super) request: Request,
    pub(super) body: String,
}

/// What a HAR holds.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) groups: BTreeMap<Address, Group>,
    /// The first document, without secrets.
    pub(super) document: Option<String>,
    pub(super) others: usize,
    /// Bodies that are not in the file.
    pub(super) absent: usize,
    /// JSON whose address is one group too many.
    pub(super) left_out: usize,
    pub(super) page_states: usize,
    /// What people are called in addresses, as the bodies name them.
    pub(super) people: BTreeSet<String>,
    example_bytes: usize,
}

/// Reads the HAR; `progress` is told how many entries there were so far.
///
/// # Errors
/// [`HarError`] with what was gathered before.
pub(super) fn gather(
    har: &Path,
    redactor: &Redactor,
    progress: &mut dyn FnMut(usize),
) -> (Gathered, Result<HarSummary, HarError>) {
    let mut gathered = Gathered::default();
    let summary = read(har, &mut |entry| {
        progress(entry.number);
        gathered.take(&entry, redactor);
        ControlFlow::Continue(())
    });
    gathered.groups = merged(std::mem::take(&mut gathered.groups));
    (gathered, summary)
}

impl Gathered {
    fn take(&mut self, entry: &HarEntry, redactor: &Redactor) {
        if entry.page_state.is_some() {
            self.page_states += 1;
            return;
        }
        let clean = redactor.text(&entry.url);
        let Ok(url) = Url::parse(&clean) else { return };
        if self.document.is_none() && is_document(entry) {
            self.document = Some(clean.clone());
        }
        let mut request = Request::of(clean);
        if !entry.frames.is_empty() {
            let kind = if entry.is_websocket() { SourceKind::Websocket } else { SourceKind::EventSource };
            for frame in &entry.frames {
                let request = Request { event: frame.event.clone(), ..request.clone() };
                self.body(address(kind, entry, &url), request, &frame.body, redactor);
            }
            return;
        }
        request.method = Some(entry.method.clone());
        request.status = (entry.status != 0).then_some(entry.status);
        self.body(address(SourceKind::Response, entry, &url), request, &entry.body, redactor);
    }

    fn body(&mut self, address: Option<Address>, request: Request, body: &HarBody, redactor: &Redactor) {
        let bytes = match body {
            HarBody::Bytes(bytes) if bytes.len() <= BODY_BYTES_MAX => bytes,
            HarBody::Absent(_) => {
                self.absent += 1;
                return;
            }
            _ => {
                self.others += 1;
                return;
            }
        };
        let text = std::str::from_utf8(bytes).ok().filter(|text| text.trim_start().starts_with(['{', '[']));
        let clean = text.map(|text| redactor.text(text));
        let value = clean.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok());
        let (Some(address), Some(clean), Some(value)) = (address, clean, value) else {
            self.others += 1;
            return;
        };
        if !self.groups.contains_key(&address) && self.groups.len() >= GROUPS_MAX {
            self.left_out += 1;
            return;
        }
        let group = self.groups.entry(address).or_default();
        group.count += 1;
        group.bytes += bytes.len() as u64;
        group.shape.add(&value);
        people(&value, &mut self.people);
        let kept = group.example.as_ref().map_or(0, |example| example.body.len());
        let room = EXAMPLES_BYTES_MAX - self.example_bytes + kept;
        if clean.len() > kept && clean.len() <= EXAMPLE_BYTES_MAX.min(room) {
            self.example_bytes = self.example_bytes + clean.len() - kept;
            group.example = Some(Example { request, body: clean });
        }
    }
}

fn is_document(entry: &HarEntry) -> bool {
    let is_html = entry.mime_type.starts_with("text/html");
    let asked = entry.resource_type.as_deref();
    (200..300).contains(&entry.status) && is_html && asked.is_none_or(|asked| asked == "document")
}

/// Collects what people are called.
fn people(value: &Value, found: &mut BTreeSet<String>) {
    const NAMES: [&str; 7] =
        ["username", "user_name", "userName", "login", "screen_name", "screenName", "handle"];
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    Value::String(name) if NAMES.contains(&key.as_str()) => {
                        if found.len() < PEOPLE_MAX && (1..=PERSON_BYTES_MAX).contains(&name.len()) {
                            found.insert(name.clone());
                        }
                    }
                    value => people(value, found),
                }
            }
        }
        Value::Array(rows) => rows.iter().for_each(|row| people(row, found)),
        _ => {}
    }
}

/// Where an entry belongs; `None` where no rule could name it.
fn address(source: SourceKind, entry: &HarEntry, url: &Url) -> Option<Address> {
    let path = generalised(url.path());
    crate::capture::PathPattern::parse(&path).ok()?;
    let method = if source == SourceKind::Response { entry.method.clone() } else { String::new() };
    Some(Address { source, method, host: url.host_str()?.to_owned(), path })
}

/// A path with its variable segments as `*`.
fn generalised(path: &str) -> String {
    let is_removed = |segment: &str| segment.contains("[removed]");
    let segments = path.split('/').map(|segment| match segment.rsplit_once('.') {
        _ if is_variable(segment) || is_removed(segment) => "*".to_owned(),
        // `701.json`
        Some((name, ending)) if is_variable(name) => format!("*.{ending}"),
        _ => segment.to_owned(),
    });
    segments.collect::<Vec<_>>().join("/")
}

/// Whether a text is an id rather than a name: digits, long hexadecimal, a UUID, or long and mixed.
pub(super) fn is_variable(text: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' || byte == b'=';
    let hex = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
    match text.len() {
        0 => false,
        length if digits == length => true,
        length @ 8.. if digits > 0 && text.bytes().all(hex) => digits * 8 >= length,
        20.. => digits >= 2 && text.bytes().all(plain),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_segments_are_generalised_and_names_are_not() {
        for (path, general) in [
            ("/api/v1/comment/list/", "/api/v1/comment/list/"),
            ("/users/7351234567890123456/posts", "/users/*/posts"),
            ("/x/550e8400-e29b-41d4-a716-446655440000", "/x/*"),
            ("/x/deadbeef01/face", "/x/*/face"),
            ("/video/MS4wLjABAAAA2IpoRh0JTuBsPjj4l", "/video/*"),
            ("/v/[removed]/x", "/v/*/x"),
            ("/t/701.json", "/t/*.json"),
            ("/latest.json", "/latest.json"),
            ("/api/conversation-settings-and-members", "/api/conversation-settings-and-members"),
            ("/", "/"),
        ] {
            assert_eq!(generalised(path), general);
        }
    }
}
