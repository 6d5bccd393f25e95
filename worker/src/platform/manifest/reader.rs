//! The checks of what `platform.toml` says, apart from its capture rules: names, references between parts, bounds.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Duration;

use snapfleet_protocol::PlatformName;
use toml::Spanned;
use url::Url;

use super::text::{FileText, LoginText, PageText, ScrollText, SettingsText};
use super::{
    LIST_LEN_MAX, Login, Manifest, Page, REFRESH_JITTER_MAX, REFRESH_S_MAX, SCHEMA, SCROLL_PAUSE_MS_MAX,
    SCROLL_STEPS_MAX, line_of,
};
use crate::normalise::wording::nearest;
use crate::platform::template::{Template, is_name};
use crate::platform::{LoginSpec, PlatformError, ScrollSpec, Settings};

/// How far the time between two loads is varied where nothing is said.
const REFRESH_JITTER: f64 = 0.1;

/// What is being read.
pub(super) struct Reader<'t> {
    /// The platform's folder.
    pub(super) dir: &'t Path,
    /// Its `platform.toml`.
    pub(super) path: PathBuf,
    /// What that holds.
    pub(super) text: &'t str,
}

impl Reader<'_> {
    pub(super) fn check(&self, file: FileText, folder: &str) -> Result<Manifest, PlatformError> {
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
        self.bound("[[page]]", file.page.iter().map(|page| &page.name))?;
        self.bound("[[capture]]", file.capture.iter().map(|rule| &rule.name))?;
        for page in file.page {
            self.unique("page", &page.name, manifest.pages.iter().map(|page| page.name.as_str()))?;
            manifest.pages.push(self.page(page, &manifest)?);
        }
        manifest.login = file.login.map(|login| self.login(login, &manifest)).transpose()?;
        for rule in file.capture {
            self.unique("capture", &rule.name, manifest.captures.iter().map(|rule| rule.spec.name.as_str()))?;
            manifest.captures.push(self.capture(rule, &manifest.pages)?);
        }
        Ok(manifest)
    }

    fn settings(&self, text: &SettingsText, manifest: &mut Manifest) -> Result<(), PlatformError> {
        for list in [&text.required, &text.optional, &text.secret] {
            self.bound("settings", list.iter())?;
        }
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
        // One with settings in it is checked with the account's.
        if let Ok(address) = url.fill(&Settings::new()) {
            let is_address = Url::parse(&address).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
            if !is_address {
                let message = format!("url {address:?} is no address: begin it with https:// or http://");
                return Err(self.at(&text.url, message));
            }
        }
        let refresh = match text.refresh_s {
            None => 0,
            Some(seconds) => self.within("refresh_s", &seconds, 0, REFRESH_S_MAX)?,
        };
        let refresh_jitter = match text.refresh_jitter {
            None => REFRESH_JITTER,
            Some(jitter) if refresh == 0 => {
                let message = "refresh_jitter varies refresh_s: give that too, or leave it out";
                return Err(self.at(&jitter, message.into()));
            }
            Some(jitter) => self.within("refresh_jitter", &jitter, 0.0, REFRESH_JITTER_MAX)?,
        };
        let scroll = text.scroll.map(|scroll| self.scroll(scroll)).transpose()?;
        Ok(Page {
            name: self.filled("name", text.name)?,
            url,
            refresh: (refresh > 0).then(|| Duration::from_secs(refresh)),
            refresh_jitter,
            scroll,
        })
    }

    fn scroll(&self, text: ScrollText) -> Result<ScrollSpec, PlatformError> {
        const STEPS: u32 = 20;
        const PAUSE_MS: u64 = 200;
        let steps_max = match text.steps_max {
            None => STEPS,
            Some(steps) => self.within("steps_max", &steps, 0, SCROLL_STEPS_MAX)?,
        };
        let pause_ms = match text.pause_ms {
            None => PAUSE_MS,
            Some(pause) => self.within("pause_ms", &pause, 0, SCROLL_PAUSE_MS_MAX)?,
        };
        Ok(ScrollSpec {
            selector: text.selector.map(|selector| self.filled("selector", selector)).transpose()?,
            steps_max,
            pause: Duration::from_millis(pause_ms),
            until: text.until.map(|until| self.filled("until", until)).transpose()?,
        })
    }

    fn login(&self, text: LoginText, manifest: &Manifest) -> Result<Login, PlatformError> {
        self.bound("[[login.fill]]", text.fill.iter().map(|field| &field.selector))?;
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
            code: text.code.map(|css| self.filled("code", css)).transpose()?,
            submit: text.submit.map(|css| self.filled("submit", css)).transpose()?,
            fill: Vec::new(),
        };
        Ok(Login { spec, fill })
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

    pub(super) fn filled(&self, key: &str, text: Spanned<String>) -> Result<String, PlatformError> {
        if text.get_ref().trim().is_empty() {
            return Err(self.at(&text, format!("{key} is empty: leave it out or give it a value")));
        }
        Ok(text.into_inner())
    }

    /// The value where it lies within the bounds; what is no number does not.
    pub(super) fn within<T: Copy + PartialOrd + Default + Display>(
        &self,
        key: &str,
        value: &Spanned<T>,
        min: T,
        max: T,
    ) -> Result<T, PlatformError> {
        let given = *value.get_ref();
        if given >= min && given <= max {
            return Ok(given);
        }
        let allowed = if given > max && min == T::default() {
            format!("at most {max}")
        } else {
            format!("from {min} to {max}")
        };
        Err(self.at(value, format!("{key} is {given}: {allowed}")))
    }

    fn bound<'p>(
        &self,
        what: &str,
        mut places: impl Iterator<Item = &'p Spanned<String>>,
    ) -> Result<(), PlatformError> {
        match places.nth(LIST_LEN_MAX) {
            Some(place) => Err(self.at(place, format!("there are too many {what}: at most {LIST_LEN_MAX}"))),
            None => Ok(()),
        }
    }

    pub(super) fn at<T>(&self, place: &Spanned<T>, message: String) -> PlatformError {
        self.at_byte(place.span().start, message)
    }

    pub(super) fn at_byte(&self, byte: usize, message: String) -> PlatformError {
        PlatformError::File { path: self.path.clone(), line: line_of(self.text, byte), message }
    }
}
