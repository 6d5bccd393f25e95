//! The checks of one capture rule: which keys mean something for its source, and what each may hold.

use std::time::Duration;

use toml::Spanned;

use super::reader::Reader;
use super::text::CaptureText;
use super::{Capture, EVERY_MS_MAX, EVERY_MS_MIN, FILE_NAME, Page, SCRIPT_BYTES_MAX, read_bounded};
use crate::capture::{HostPattern, PathPattern};
use crate::normalise::wording::nearest;
use crate::platform::{CaptureSource, CaptureSpec, PlatformError};

/// How often a page-state script runs where nothing is said, in milliseconds.
const EVERY_MS: u64 = 1000;
/// The longest method, in bytes.
const METHOD_BYTES_MAX: usize = 32;

impl Reader<'_> {
    pub(super) fn capture(&self, text: CaptureText, pages: &[Page]) -> Result<Capture, PlatformError> {
        self.only_where_it_counts(&text)?;
        self.file_name("filter", &text.filter, ".jq")?;
        let name = self.filled("name", text.name)?;
        let every = text.every_ms.map(|every| self.within("every_ms", &every, EVERY_MS_MIN, EVERY_MS_MAX));
        let spec = CaptureSpec {
            name,
            source: text.source,
            path: text.path.map(|path| self.path(path)).transpose()?.unwrap_or_default(),
            host: text.host.map(|host| self.host(&host)).transpose()?,
            methods: text.method.map(|methods| self.methods(methods)).transpose()?.unwrap_or_default(),
            status: text.status.map(|status| self.statuses(status)).transpose()?.unwrap_or_default(),
            content_type: text.content_type.map(|prefix| self.filled("content_type", prefix)).transpose()?,
            script: text.script.map(|script| self.script(&script)).transpose()?,
            pages: text.page.map(|named| self.pages(named, pages)).transpose()?.unwrap_or_default(),
            every: Duration::from_millis(every.transpose()?.unwrap_or(EVERY_MS)),
        };
        Ok(Capture { spec, filter: text.filter.into_inner() })
    }

    /// Refuses keys that the rule's source has no use for, and asks for those that it needs.
    fn only_where_it_counts(&self, text: &CaptureText) -> Result<(), PlatformError> {
        const RESPONSE: &str = "source = \"response\" alone";
        const NETWORK: &str = "what comes over the network, not for source = \"page_state\"";
        const PAGE_STATE: &str = "source = \"page_state\" alone";
        let response = text.source == CaptureSource::Response;
        let page_state = text.source == CaptureSource::PageState;
        for (key, given, counts, where_it_does) in [
            ("method", place(text.method.as_ref()), response, RESPONSE),
            ("status", place(text.status.as_ref()), response, RESPONSE),
            ("content_type", place(text.content_type.as_ref()), response, RESPONSE),
            ("path", place(text.path.as_ref()), !page_state, NETWORK),
            ("host", place(text.host.as_ref()), !page_state, NETWORK),
            ("script", place(text.script.as_ref()), page_state, PAGE_STATE),
            ("page", place(text.page.as_ref()), page_state, PAGE_STATE),
            ("every_ms", place(text.every_ms.as_ref()), page_state, PAGE_STATE),
        ] {
            if let (Some(at), false) = (given, counts) {
                return Err(self.at_byte(at, format!("{key} is for {where_it_does}")));
            }
        }
        let name = text.name.get_ref();
        if page_state && text.script.is_none() {
            let message = format!("capture {name:?} has no script: name a .js file beside {FILE_NAME}");
            return Err(self.at(&text.name, message));
        }
        if !page_state && text.path.is_none() {
            let message = format!(
                "capture {name:?} has no path: write the path to capture, for example \"/api/comments\""
            );
            return Err(self.at(&text.name, message));
        }
        Ok(())
    }

    fn file_name(&self, key: &str, name: &Spanned<String>, ending: &str) -> Result<(), PlatformError> {
        let file = name.get_ref();
        if !file.ends_with(ending) || file.contains(['/', '\\']) || file.starts_with('.') {
            let message = format!("{key} {file:?} must be the name of a {ending} file beside {FILE_NAME}");
            return Err(self.at(name, message));
        }
        Ok(())
    }

    fn path(&self, path: Spanned<String>) -> Result<String, PlatformError> {
        // No address has a brace in its path: it is meant as in a page's address.
        if let Some((_, rest)) = path.get_ref().split_once('{') {
            let name = rest.split_once('}').map_or(rest, |(name, _)| name);
            let message = format!("settings are not filled in here: write * in place of {{{name}}}");
            return Err(self.at(&path, message));
        }
        match PathPattern::parse(path.get_ref()) {
            Ok(_) => Ok(path.into_inner()),
            Err(error) => Err(self.at(&path, error.to_string())),
        }
    }

    fn host(&self, host: &Spanned<String>) -> Result<String, PlatformError> {
        match HostPattern::parse(host.get_ref()) {
            Ok(pattern) => Ok(pattern.as_str().to_owned()),
            Err(error) => Err(self.at(host, error.to_string())),
        }
    }

    fn methods(&self, methods: Spanned<Vec<String>>) -> Result<Vec<String>, PlatformError> {
        let is_method = |method: &String| {
            !method.is_empty()
                && method.len() <= METHOD_BYTES_MAX
                && method.bytes().all(|byte| byte.is_ascii_uppercase())
        };
        if methods.get_ref().is_empty() || !methods.get_ref().iter().all(is_method) {
            return Err(
                self.at(&methods, "method must list methods in capitals, for example [\"GET\"]".into())
            );
        }
        Ok(methods.into_inner())
    }

    fn statuses(&self, statuses: Spanned<Vec<u16>>) -> Result<Vec<u16>, PlatformError> {
        let listed = statuses.get_ref();
        if listed.is_empty() || listed.iter().any(|status| !(100..=599).contains(status)) {
            return Err(self.at(&statuses, "status must list statuses from 100 to 599".into()));
        }
        Ok(statuses.into_inner())
    }

    fn pages(&self, named: Spanned<Vec<String>>, pages: &[Page]) -> Result<Vec<String>, PlatformError> {
        let known = || pages.iter().map(|page| page.name.as_str());
        if named.get_ref().is_empty() {
            return Err(self.at(&named, "page is empty: name pages, or leave it out for all".into()));
        }
        if let Some(unknown) = named.get_ref().iter().find(|name| !known().any(|known| known == *name)) {
            let hint = match nearest(unknown, known()) {
                Some(name) => format!("is it {name}?"),
                None => format!("there are {}", known().collect::<Vec<_>>().join(", ")),
            };
            return Err(self.at(&named, format!("page {unknown:?} is not there: {hint}")));
        }
        Ok(named.into_inner())
    }

    /// The script's text.
    fn script(&self, name: &Spanned<String>) -> Result<String, PlatformError> {
        self.file_name("script", name, ".js")?;
        let path = self.dir.join(name.get_ref());
        let text = read_bounded(&path, SCRIPT_BYTES_MAX)
            .map_err(|error| self.at(name, format!("script {} cannot be read: {error}", path.display())))?;
        if text.trim().is_empty() {
            let message =
                format!("script {} is empty: write one function that returns what it reads", path.display());
            return Err(self.at(name, message));
        }
        Ok(text)
    }
}

/// Where a key's value begins, if it is given.
fn place<T>(given: Option<&Spanned<T>>) -> Option<usize> {
    given.map(|value| value.span().start)
}
