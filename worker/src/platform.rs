//! A platform as data: a folder `platforms/<name>/` with `platform.toml` and jq filters says which pages to open,
//! how to log in, which bodies to capture and how each becomes records. No platform has code of its own.
//!
//! [`Platform::load`] reads and checks the folder before anything starts. [`Platform::map`] is `map`, first half:
//! a captured body to rows, which [`crate::normalise`] turns into records. Knows nothing of the browser: the plans of
//! the browser's side are built from the specs here. Secret settings reach [`LoginSpec`] alone, never a filter, an
//! address, a log or the output of `Debug`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use snapfleet_protocol::{AccountId, PlatformName, Record, UnixMs};
use url::Url;

mod check;
mod filter;
mod find;
mod manifest;
mod propose;
mod schema;
mod shelf;
mod spec;
mod template;

pub(crate) use self::check::run as run_check;
pub use self::check::{
    Accepted, CheckReport, Difference, Failure, Group, HarCheck, HarReport, HarRow, Listed, Progress,
    RuleCount, accept, check, check_har,
};
pub use self::filter::{BODY_BYTES_MAX, DEPTH_MAX, Limits};
pub use self::find::{FoldersError, find_folder};
pub use self::manifest::{
    EVERY_MS_MAX, EVERY_MS_MIN, REFRESH_JITTER_MAX, REFRESH_S_MAX, SCHEMA, SCRIPT_BYTES_MAX,
    SCROLL_PAUSE_MS_MAX, SCROLL_STEPS_MAX,
};
pub use self::propose::propose;
pub use self::schema::schema;
pub use self::shelf::{LOOK_PAUSE, Shelf, follow};
pub use self::spec::{CaptureSource, CaptureSpec, FillSpec, LoginSpec, PageSpec, ScrollSpec, Settings};

use self::filter::Filter;
use self::manifest::Manifest;
use crate::normalise::{CompleteList, Refusal, Row};

/// What is wrong with a platform's folder or with an account's settings for it: one line that names the place.
#[derive(Debug, thiserror::Error)]
pub enum PlatformError {
    /// A file or folder cannot be read.
    #[error("{} cannot be read: {error}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// `platform.toml` or a fixture does not say what it should.
    #[error("{}:{line}: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1 on.
        line: usize,
        /// What is wrong and what would be right.
        message: String,
    },
    /// A filter does not compile.
    #[error("{}:{line}:{column}: {message}", path.display())]
    Filter {
        /// The file: the filter or one that it includes.
        path: PathBuf,
        /// The line, from 1 on.
        line: usize,
        /// The column in characters, from 1 on.
        column: usize,
        /// What is wrong.
        message: String,
    },
    /// An account's settings do not fit the platform.
    #[error("platform {platform}: {message}")]
    Settings {
        /// The platform.
        platform: PlatformName,
        /// Which setting, and the remedy.
        message: String,
    },
}

/// What a body answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The address that was asked; of page state, the page's.
    pub url: String,
    /// An event source's event name.
    #[serde(default)]
    pub event: Option<String>,
    /// A response's request method, in capitals.
    #[serde(default)]
    pub method: Option<String>,
    /// A response's status.
    #[serde(default)]
    pub status: Option<u16>,
    /// The page's name, of page state.
    #[serde(default)]
    pub page: Option<String>,
}

impl Request {
    /// A request of which only the address is known.
    #[must_use]
    pub fn of(url: impl Into<String>) -> Self {
        Self { url: url.into(), ..Self::default() }
    }
}

/// The account whose page fetched a body. Secret settings in it are kept from filters.
#[derive(Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountView {
    /// Which account.
    pub id: AccountId,
    /// Its settings.
    #[serde(default)]
    pub settings: Settings,
}

impl fmt::Debug for AccountView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.settings.keys().collect();
        f.debug_struct("AccountView").field("id", &self.id).field("settings", &names).finish()
    }
}

/// A row that became no record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Which output of the filter, from 0 on.
    pub row: usize,
    /// Why: names fields, never quotes what people wrote.
    pub reason: String,
    /// What the filter said as it failed there; it quotes what people wrote and is logged nowhere.
    pub detail: Option<String>,
}

impl Refused {
    /// The reason with what the filter said, for whoever checks the filter.
    fn in_full(&self) -> String {
        match &self.detail {
            Some(detail) => format!("{}: {detail}", self.reason),
            None => self.reason.clone(),
        }
    }
}

/// What became of one body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mapped {
    /// The records, in the filter's order.
    pub records: Vec<Record>,
    /// Lists of which the platform says that there is nothing beyond them. None from a body with an error.
    pub complete: Vec<CompleteList>,
    /// The rows that became none.
    pub refused: Vec<Refused>,
    /// Times that were given and could not be told.
    pub unknown_times: usize,
    /// Texts, addresses and lists that were cut or left out for their length.
    pub cut: usize,
    /// Why the body, or the rest of it, was not read. What is above was read before and counts.
    pub error: Option<String>,
}

/// A platform, checked and compiled; shared by all accounts and threads.
pub struct Platform {
    manifest: Manifest,
    captures: Vec<CaptureSpec>,
    filters: Vec<Filter>,
    limits: Limits,
}

impl fmt::Debug for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Platform").field("name", self.name()).finish_non_exhaustive()
    }
}

impl Platform {
    /// Reads `<dir>/platform.toml` and compiles its filters. What these include lies beside them or in
    /// `<dir>/../lib`.
    ///
    /// # Errors
    /// [`PlatformError`], naming file, line and remedy, for the first thing that is wrong.
    pub fn load(dir: &Path) -> Result<Self, PlatformError> {
        let dir = &dir.canonicalize().map_err(|error| PlatformError::Read { path: dir.to_owned(), error })?;
        let manifest = Manifest::read(dir)?;
        let library = library_of(dir);
        let mut filters = Vec::with_capacity(manifest.captures.len());
        for rule in &manifest.captures {
            let filter = Filter::compile(&dir.join(&rule.filter), &library).map_err(|error| {
                PlatformError::Filter {
                    path: error.file,
                    line: error.line,
                    column: error.column,
                    message: error.message,
                }
            })?;
            filters.push(filter);
        }
        let captures = manifest.captures.iter().map(|rule| rule.spec.clone()).collect();
        Ok(Self { manifest, captures, filters, limits: Limits::default() })
    }

    /// The same with other bounds for a run of a filter.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The platform's name, which is its folder's.
    #[must_use]
    pub fn name(&self) -> &PlatformName {
        &self.manifest.name
    }

    /// Whether the browser's side is the same for both: settings, pages, login and rules, apart from the rules' filters.
    #[must_use]
    pub fn same_pages(&self, other: &Self) -> bool {
        self.manifest.same_pages(&other.manifest)
    }

    /// The rules, in the order of their numbers.
    #[must_use]
    pub fn captures(&self) -> &[CaptureSpec] {
        &self.captures
    }

    /// The names of the settings whose values are secret.
    pub fn secret_settings(&self) -> impl Iterator<Item = &str> {
        self.manifest.secrets()
    }

    /// Checks an account's settings: all that are required, none that are unknown.
    ///
    /// # Errors
    /// [`PlatformError::Settings`], naming the setting.
    pub fn check_settings(&self, settings: &Settings) -> Result<(), PlatformError> {
        self.manifest.check_settings(settings)
    }

    /// The pages, filled in for an account.
    ///
    /// # Errors
    /// [`PlatformError::Settings`] as [`Platform::check_settings`], and where an address does not become one.
    pub fn pages(&self, settings: &Settings) -> Result<Vec<PageSpec>, PlatformError> {
        self.check_settings(settings)?;
        self.manifest.pages.iter().map(|page| self.manifest.fill_page(page, settings)).collect()
    }

    /// How to log in, filled in for an account; `None` where the platform has no login.
    ///
    /// # Errors
    /// [`PlatformError::Settings`] as [`Platform::check_settings`].
    pub fn login(&self, settings: &Settings) -> Result<Option<LoginSpec>, PlatformError> {
        self.check_settings(settings)?;
        Ok(self.manifest.login.as_ref().map(|login| Manifest::fill_login(login, settings)))
    }

    /// Turns a body that rule number `rule` took into records. Never fails as a whole: what could not be read is in
    /// [`Mapped::refused`] and [`Mapped::error`]. Blocks for as long as the filter runs, at most about 5 s of
    /// processor time: call it where blocking is allowed.
    #[must_use]
    pub fn map(
        &self,
        rule: usize,
        request: &Request,
        account: &AccountView,
        body: &[u8],
        now: UnixMs,
    ) -> Mapped {
        let mut mapped = Mapped::default();
        let Some(filter) = self.filters.get(rule) else {
            mapped.error = Some(format!("platform {} has no rule number {rule}", self.name()));
            return mapped;
        };
        let request = request_json(request);
        let account = self.account_json(account);
        let mut row = 0;
        let outcome = filter.run(body, [&request, &account], self.limits, &mut |output| {
            match output.map_err(Refusal::from).and_then(|text| crate::normalise::row(text, now)) {
                Ok(Row::Complete(list)) => mapped.complete.push(list),
                Ok(Row::Record(normalised)) => {
                    mapped.records.push(normalised.record);
                    mapped.unknown_times += normalised.unknown_times;
                    mapped.cut += normalised.cut;
                }
                Err(Refusal { reason, detail }) => mapped.refused.push(Refused { row, reason, detail }),
            }
            row += 1;
        });
        mapped.error = outcome.err();
        if mapped.error.is_some() {
            // What was not read whole says nothing of what is missing in it.
            mapped.complete.clear();
        }
        mapped
    }

    fn account_json(&self, account: &AccountView) -> String {
        let settings: BTreeMap<_, _> =
            account.settings.iter().filter(|(name, _)| !self.manifest.is_secret(name)).collect();
        serde_json::json!({
            "id": account.id,
            "platform": account.id.platform,
            "account": account.id.account,
            "settings": settings,
        })
        .to_string()
    }
}

/// Where the modules are that all platforms share, for one platform's canonical folder.
fn library_of(dir: &Path) -> PathBuf {
    dir.parent().unwrap_or(dir).join("lib")
}

/// `$request`: the address, its host, path and query, and what else is known. What is no address is its own path.
fn request_json(request: &Request) -> String {
    let url = Url::parse(&request.url).ok();
    let path = url.as_ref().map_or(request.url.as_str(), Url::path);
    let query: BTreeMap<_, _> = url.iter().flat_map(Url::query_pairs).collect();
    serde_json::json!({
        "url": request.url,
        "host": url.as_ref().and_then(Url::host_str),
        "path": path,
        "query": query,
        "event": request.event,
        "method": request.method,
        "status": request.status,
        "page": request.page,
    })
    .to_string()
}
