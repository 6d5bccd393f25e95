//! `platform.toml`, read strictly: every key known, every reference resolved, each error with its line.

mod reader;
mod rule;
mod text;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use snapfleet_protocol::PlatformName;
use url::Url;

use self::reader::Reader;
pub(super) use self::text::FileText;
use super::template::Template;
use super::{CaptureSpec, FillSpec, LoginSpec, PageSpec, PlatformError, ScrollSpec, Settings};
use crate::normalise::wording::nearest;

/// The schema that this version reads.
pub const SCHEMA: u32 = 1;
/// The longest time between two loads of a page, in seconds.
pub const REFRESH_S_MAX: u64 = 24 * 60 * 60;
/// The most that the time between two loads is varied, as a part of it.
pub const REFRESH_JITTER_MAX: f64 = 0.5;
/// The most scroll steps after one load.
pub const SCROLL_STEPS_MAX: u32 = 1000;
/// The longest pause between two scroll steps, in milliseconds.
pub const SCROLL_PAUSE_MS_MAX: u64 = 60_000;
/// The shortest time between two runs of a page-state script, in milliseconds.
pub const EVERY_MS_MIN: u64 = 200;
/// The longest time between two runs of a page-state script, in milliseconds.
pub const EVERY_MS_MAX: u64 = 600_000;
/// The largest page-state script, in bytes.
pub const SCRIPT_BYTES_MAX: u64 = 256 * 1024;
/// The most pages, rules, settings and fields of a form, each.
const LIST_LEN_MAX: usize = 64;
/// The largest `platform.toml`, in bytes.
const FILE_BYTES_MAX: u64 = 256 * 1024;
pub(super) const FILE_NAME: &str = "platform.toml";

/// What `platform.toml` says, checked.
pub(super) struct Manifest {
    pub(super) name: PlatformName,
    required: BTreeSet<String>,
    optional: BTreeSet<String>,
    secret: BTreeSet<String>,
    pub(super) pages: Vec<Page>,
    pub(super) login: Option<Login>,
    pub(super) captures: Vec<Capture>,
}

#[derive(PartialEq)]
pub(super) struct Page {
    name: String,
    url: Template,
    refresh: Option<Duration>,
    refresh_jitter: f64,
    scroll: Option<ScrollSpec>,
}

#[derive(PartialEq)]
pub(super) struct Login {
    /// As it will be, with no field filled.
    spec: LoginSpec,
    fill: Vec<(String, Template)>,
}

pub(super) struct Capture {
    pub(super) spec: CaptureSpec,
    /// The name of its filter's file.
    pub(super) filter: String,
}

impl Manifest {
    /// Reads `<dir>/platform.toml`; `dir` is canonical, so that its last part is the folder's name.
    pub(super) fn read(dir: &Path) -> Result<Self, PlatformError> {
        let path = dir.join(FILE_NAME);
        let text = read_bounded(&path, FILE_BYTES_MAX)
            .map_err(|error| PlatformError::Read { path: path.clone(), error })?;
        let file: FileText = toml::from_str(&text).map_err(|error| syntax_error(&path, &text, &error))?;
        let folder = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        Reader { dir, path, text: &text }.check(file, folder)
    }

    pub(super) fn same_pages(&self, other: &Self) -> bool {
        (&self.name, &self.required, &self.optional, &self.secret)
            == (&other.name, &other.required, &other.optional, &other.secret)
            && (&self.pages, &self.login) == (&other.pages, &other.login)
            && self.captures.iter().map(|rule| &rule.spec).eq(other.captures.iter().map(|rule| &rule.spec))
    }

    pub(super) fn secrets(&self) -> impl Iterator<Item = &str> {
        self.secret.iter().map(String::as_str)
    }

    /// The settings that every account needs.
    pub(super) fn required(&self) -> impl Iterator<Item = &str> {
        self.required.iter().map(String::as_str)
    }

    pub(super) fn is_secret(&self, setting: &str) -> bool {
        self.secret.contains(setting)
    }

    pub(super) fn check_settings(&self, settings: &Settings) -> Result<(), PlatformError> {
        if let Some(missing) =
            self.required.iter().find(|name| settings.get(*name).is_none_or(String::is_empty))
        {
            return Err(self.settings_error(format!("setting {missing} is missing: every account needs it")));
        }
        let known = || self.required.iter().chain(&self.optional).map(String::as_str);
        if let Some(unknown) = settings.keys().find(|name| !known().any(|known| known == *name)) {
            let hint = match nearest(unknown, known()) {
                Some(name) => format!("is it {name}?"),
                None => format!("it has {}", known().collect::<Vec<_>>().join(", ")),
            };
            return Err(self.settings_error(format!("setting {unknown} is not known: {hint}")));
        }
        Ok(())
    }

    pub(super) fn fill_page(&self, page: &Page, settings: &Settings) -> Result<PageSpec, PlatformError> {
        let address = self.fill(&page.url, settings, &format!("page {}", page.name))?;
        // The address may be shown: no secret setting gets into it.
        let url = Url::parse(&address).map_err(|error| {
            self.settings_error(format!("page {}: {address:?} is no address: {error}", page.name))
        })?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(
                self.settings_error(format!("page {}: {address:?} is neither http nor https", page.name))
            );
        }
        Ok(PageSpec {
            name: page.name.clone(),
            url,
            refresh: page.refresh,
            refresh_jitter: page.refresh_jitter,
            scroll: page.scroll.clone(),
        })
    }

    /// An account without a setting that the form needs, which then is an optional one, is logged in by hand.
    pub(super) fn fill_login(login: &Login, settings: &Settings) -> LoginSpec {
        let mut spec = login.spec.clone();
        for (selector, value) in &login.fill {
            let Ok(value) = value.fill(settings) else {
                return LoginSpec { submit: None, ..login.spec.clone() };
            };
            spec.fill.push(FillSpec { selector: selector.clone(), value });
        }
        spec
    }

    fn fill(&self, template: &Template, settings: &Settings, what: &str) -> Result<String, PlatformError> {
        template.fill(settings).map_err(|missing| {
            self.settings_error(format!("{what} needs the setting {missing}: give it a value"))
        })
    }

    fn settings_error(&self, message: String) -> PlatformError {
        PlatformError::Settings { platform: self.name.clone(), message }
    }
}

/// The text of a file of at most `bytes_max`.
fn read_bounded(path: &Path, bytes_max: u64) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(bytes_max + 1).read_to_string(&mut text)?;
    if text.len() as u64 > bytes_max {
        return Err(std::io::Error::other(format!("it is too large: at most {bytes_max} bytes")));
    }
    Ok(text)
}

/// What the TOML reader found, in one line. It names the key or value and the known ones: the nearest of them, if
/// one is near.
fn syntax_error(path: &Path, text: &str, error: &toml::de::Error) -> PlatformError {
    let line = line_of(text, error.span().map_or(0, |span| span.start));
    let mut message = error.message().replace('\n', ": ");
    for (start, what) in [("unknown field ", "key"), ("unknown variant ", "value")] {
        let Some(rest) = message.strip_prefix(start) else { continue };
        let mut words = rest.split('`').skip(1).step_by(2);
        let Some(word) = words.next() else { continue };
        let hint = match nearest(word, words) {
            Some(near) => format!("is it {near}?"),
            None => rest.split_once(", ").map_or_else(String::new, |(_, known)| known.to_owned()),
        };
        message = format!("{what} {word} is not known: {hint}");
        break;
    }
    PlatformError::File { path: path.to_owned(), line, message }
}

/// The line of a byte, from 1 on.
pub(super) fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}
