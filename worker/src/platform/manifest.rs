//! `platform.toml`, read strictly: every key known, every reference resolved, each error with its line.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use snapfleet_protocol::PlatformName;
use toml::Spanned;
use url::Url;

use super::template::{Template, is_name};
use super::{CaptureSource, CaptureSpec, FillSpec, LoginSpec, PageSpec, PlatformError, ScrollSpec, Settings};
use crate::capture::PathPattern;
use crate::normalise::wording::nearest;

/// The schema that this version reads.
pub const SCHEMA: u32 = 1;
/// The longest time between two loads of a page, in seconds.
pub const REFRESH_S_MAX: u64 = 24 * 60 * 60;
/// The most scroll steps after one load.
pub const SCROLL_STEPS_MAX: u32 = 1000;
/// The longest pause between two scroll steps, in milliseconds.
pub const SCROLL_PAUSE_MS_MAX: u64 = 60_000;
/// The most pages, rules, settings and fields of a form, each.
const LIST_LEN_MAX: usize = 64;
pub(super) const FILE_NAME: &str = "platform.toml";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileText {
    schema: Spanned<u32>,
    name: Spanned<String>,
    #[serde(default)]
    settings: SettingsText,
    #[serde(default)]
    page: Vec<PageText>,
    login: Option<LoginText>,
    #[serde(default)]
    capture: Vec<CaptureText>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct SettingsText {
    #[serde(default)]
    required: Vec<Spanned<String>>,
    #[serde(default)]
    optional: Vec<Spanned<String>>,
    #[serde(default)]
    secret: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PageText {
    name: Spanned<String>,
    url: Spanned<String>,
    refresh_s: Option<Spanned<u64>>,
    scroll: Option<ScrollText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScrollText {
    selector: Option<Spanned<String>>,
    #[serde(default)]
    steps_max: Option<Spanned<u32>>,
    #[serde(default)]
    pause_ms: Option<Spanned<u64>>,
    until: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LoginText {
    logged_in: Spanned<String>,
    logged_out: Option<Spanned<String>>,
    submit: Option<Spanned<String>>,
    #[serde(default)]
    fill: Vec<FillText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FillText {
    selector: Spanned<String>,
    value: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaptureText {
    name: Spanned<String>,
    source: CaptureSource,
    path: Spanned<String>,
    status: Option<Spanned<Vec<u16>>>,
    content_type: Option<Spanned<String>>,
    filter: Spanned<String>,
}

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

pub(super) struct Page {
    name: String,
    url: Template,
    refresh: Option<Duration>,
    scroll: Option<ScrollSpec>,
}

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
        let text = std::fs::read_to_string(&path)
            .map_err(|error| PlatformError::Read { path: path.clone(), error })?;
        let file: FileText = toml::from_str(&text).map_err(|error| syntax_error(&path, &text, &error))?;
        let folder = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        Reader { path, text: &text }.check(file, folder)
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
        Ok(PageSpec { name: page.name.clone(), url, refresh: page.refresh, scroll: page.scroll.clone() })
    }

    pub(super) fn fill_login(&self, login: &Login, settings: &Settings) -> Result<LoginSpec, PlatformError> {
        let mut spec = login.spec.clone();
        for (selector, value) in &login.fill {
            let value = self.fill(value, settings, "login")?;
            spec.fill.push(FillSpec { selector: selector.clone(), value });
        }
        Ok(spec)
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

struct Reader<'t> {
    path: PathBuf,
    text: &'t str,
}

impl Reader<'_> {
    fn check(&self, file: FileText, folder: &str) -> Result<Manifest, PlatformError> {
        if *file.schema.get_ref() != SCHEMA {
            let message =
                format!("schema {} is not known: this version reads schema {SCHEMA}", file.schema.get_ref());
            return Err(self.at(&file.schema, message));
        }
        let name = PlatformName::parse(file.name.get_ref())
            .map_err(|error| self.at(&file.name, error.to_string()))?;
        if name.as_str() != folder {
            return Err(self.at(
                &file.name,
                format!("name {name:?} must be the folder's, which is {folder:?}", name = name.as_str()),
            ));
        }
        let mut manifest = Manifest {
            name,
            required: BTreeSet::new(),
            optional: BTreeSet::new(),
            secret: BTreeSet::new(),
            pages: Vec::new(),
            login: None,
            captures: Vec::new(),
        };
        self.settings(&file.settings, &mut manifest)?;
        self.bound("page", file.page.len())?;
        self.bound("capture", file.capture.len())?;
        for page in file.page {
            self.unique("page", &page.name, manifest.pages.iter().map(|page| page.name.as_str()))?;
            manifest.pages.push(self.page(page, &manifest)?);
        }
        manifest.login = file.login.map(|login| self.login(login, &manifest)).transpose()?;
        for rule in file.capture {
            self.unique("capture", &rule.name, manifest.captures.iter().map(|rule| rule.spec.name.as_str()))?;
            manifest.captures.push(self.capture(rule)?);
        }
        Ok(manifest)
    }

    fn settings(&self, text: &SettingsText, manifest: &mut Manifest) -> Result<(), PlatformError> {
        for (list, required) in [(&text.required, true), (&text.optional, false)] {
            for name in list {
                if !is_name(name.get_ref()) {
                    let message = "must be a lower-case letter and then lower-case letters, digits and '_'";
                    return Err(self.at(name, format!("setting {:?} {message}", name.get_ref())));
                }
                self.unique(
                    "setting",
                    name,
                    manifest.required.iter().chain(&manifest.optional).map(String::as_str),
                )?;
                let set = if required { &mut manifest.required } else { &mut manifest.optional };
                set.insert(name.get_ref().clone());
            }
        }
        for name in &text.secret {
            self.declared(name, name.get_ref(), manifest)?;
            manifest.secret.insert(name.get_ref().clone());
        }
        Ok(())
    }

    fn page(&self, text: PageText, manifest: &Manifest) -> Result<Page, PlatformError> {
        let url = self.template("url", &text.url, manifest)?;
        if let Some(secret) = url.names().find(|name| manifest.is_secret(name)) {
            let message = format!(
                "url has the secret setting {secret}: addresses are shown in logs, use it in [[login.fill]]"
            );
            return Err(self.at(&text.url, message));
        }
        let refresh = match text.refresh_s {
            None => 0,
            Some(seconds) => self.at_most("refresh_s", &seconds, REFRESH_S_MAX)?,
        };
        let scroll = text.scroll.map(|scroll| self.scroll(scroll)).transpose()?;
        Ok(Page {
            name: self.filled("name", text.name)?,
            url,
            refresh: (refresh > 0).then(|| Duration::from_secs(refresh)),
            scroll,
        })
    }

    fn scroll(&self, text: ScrollText) -> Result<ScrollSpec, PlatformError> {
        const STEPS: u32 = 20;
        const PAUSE_MS: u64 = 200;
        let steps_max = match text.steps_max {
            None => STEPS,
            Some(steps) => self.at_most("steps_max", &steps, SCROLL_STEPS_MAX)?,
        };
        let pause_ms = match text.pause_ms {
            None => PAUSE_MS,
            Some(pause) => self.at_most("pause_ms", &pause, SCROLL_PAUSE_MS_MAX)?,
        };
        Ok(ScrollSpec {
            selector: text.selector.map(|selector| self.filled("selector", selector)).transpose()?,
            steps_max,
            pause: Duration::from_millis(pause_ms),
            until: text.until.map(|until| self.filled("until", until)).transpose()?,
        })
    }

    fn login(&self, text: LoginText, manifest: &Manifest) -> Result<Login, PlatformError> {
        self.bound("login.fill", text.fill.len())?;
        let mut fill = Vec::new();
        for field in text.fill {
            if text.submit.is_none() {
                let message =
                    "[[login.fill]] without login.submit: name what to click once the form is filled";
                return Err(self.at(&field.selector, message.into()));
            }
            let value = self.template("value", &field.value, manifest)?;
            fill.push((self.filled("selector", field.selector)?, value));
        }
        let spec = LoginSpec {
            logged_in: self.filled("logged_in", text.logged_in)?,
            logged_out: text.logged_out.map(|css| self.filled("logged_out", css)).transpose()?,
            submit: text.submit.map(|css| self.filled("submit", css)).transpose()?,
            fill: Vec::new(),
        };
        Ok(Login { spec, fill })
    }

    fn capture(&self, text: CaptureText) -> Result<Capture, PlatformError> {
        let only_responses = |key: &str| format!("{key} is for source = \"response\" alone");
        if text.source != CaptureSource::Response {
            if let Some(status) = &text.status {
                return Err(self.at(status, only_responses("status")));
            }
            if let Some(content_type) = &text.content_type {
                return Err(self.at(content_type, only_responses("content_type")));
            }
        }
        let mut statuses = Vec::new();
        if let Some(status) = text.status {
            statuses.clone_from(status.get_ref());
            if statuses.is_empty() || statuses.iter().any(|status| !(100..=599).contains(status)) {
                return Err(self.at(&status, "status must list statuses from 100 to 599".into()));
            }
        }
        let file = text.filter.get_ref();
        if !file.ends_with(".jq") || file.contains(['/', '\\']) || file.starts_with('.') {
            let message = format!("filter {file:?} must be the name of a .jq file beside {FILE_NAME}");
            return Err(self.at(&text.filter, message));
        }
        if let Err(error) = PathPattern::parse(text.path.get_ref()) {
            return Err(self.at(&text.path, error.to_string()));
        }
        let spec = CaptureSpec {
            name: self.filled("name", text.name)?,
            source: text.source,
            path: text.path.into_inner(),
            status: statuses,
            content_type: text.content_type.map(|prefix| self.filled("content_type", prefix)).transpose()?,
        };
        Ok(Capture { spec, filter: text.filter.into_inner() })
    }

    fn template(
        &self,
        key: &str,
        text: &Spanned<String>,
        manifest: &Manifest,
    ) -> Result<Template, PlatformError> {
        let template =
            Template::parse(text.get_ref()).map_err(|error| self.at(text, format!("{key} {error}")))?;
        for name in template.names() {
            self.declared(text, name, manifest)?;
        }
        Ok(template)
    }

    fn declared<T>(&self, place: &Spanned<T>, name: &str, manifest: &Manifest) -> Result<(), PlatformError> {
        let known = || manifest.required.iter().chain(&manifest.optional).map(String::as_str);
        if known().any(|known| known == name) {
            return Ok(());
        }
        let hint = match nearest(name, known()) {
            Some(near) => format!("is it {near}?"),
            None => "name it in settings.required or settings.optional".into(),
        };
        Err(self.at(place, format!("setting {name} is not declared: {hint}")))
    }

    fn unique<'k>(
        &self,
        what: &str,
        name: &Spanned<String>,
        mut before: impl Iterator<Item = &'k str>,
    ) -> Result<(), PlatformError> {
        if before.any(|other| other == name.get_ref()) {
            return Err(
                self.at(name, format!("{what} {:?} is there twice: names are unique", name.get_ref()))
            );
        }
        Ok(())
    }

    fn filled(&self, key: &str, text: Spanned<String>) -> Result<String, PlatformError> {
        if text.get_ref().trim().is_empty() {
            return Err(self.at(&text, format!("{key} is empty: leave it out or give it a value")));
        }
        Ok(text.into_inner())
    }

    fn at_most<T: Copy + PartialOrd + std::fmt::Display>(
        &self,
        key: &str,
        value: &Spanned<T>,
        max: T,
    ) -> Result<T, PlatformError> {
        if *value.get_ref() > max {
            return Err(self.at(value, format!("{key} is {}: at most {max}", value.get_ref())));
        }
        Ok(*value.get_ref())
    }

    fn bound(&self, key: &str, len: usize) -> Result<(), PlatformError> {
        if len > LIST_LEN_MAX {
            let message = format!("[[{key}]] is there {len} times: at most {LIST_LEN_MAX}");
            return Err(PlatformError::File { path: self.path.clone(), line: 1, message });
        }
        Ok(())
    }

    fn at<T>(&self, place: &Spanned<T>, message: String) -> PlatformError {
        PlatformError::File { path: self.path.clone(), line: line_of(self.text, place.span().start), message }
    }
}

/// What the TOML reader found, in one line. It names the key and the known ones; the nearest is put first.
fn syntax_error(path: &Path, text: &str, error: &toml::de::Error) -> PlatformError {
    let line = line_of(text, error.span().map_or(0, |span| span.start));
    let mut message = error.message().replace('\n', ": ");
    if let Some(rest) = message.strip_prefix("unknown field ") {
        let mut words = rest.split('`').skip(1).step_by(2);
        if let Some(word) = words.next() {
            message = match nearest(word, words) {
                Some(near) => format!("key {word} is not known: is it {near}?"),
                None => format!(
                    "key {word} is not known: {}",
                    rest.split_once(", ").map_or("", |(_, known)| known)
                ),
            };
        }
    }
    PlatformError::File { path: path.to_owned(), line, message }
}

/// The line of a byte, from 1 on.
pub(super) fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}
