//! What a rule takes, as plain conditions: the same for a browser's traffic and for what a file has recorded.

use url::Url;

use super::{CaptureRule, Source};

/// Traffic as far as rules look at it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Traffic<'a> {
    pub(crate) source: Source,
    /// After all redirects.
    pub(crate) url: &'a Url,
    pub(crate) method: &'a str,
    pub(crate) status: i64,
    pub(crate) mime_type: &'a str,
    pub(crate) content_type: Option<&'a str>,
}

/// The first condition of a rule that traffic does not meet, the most telling last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Miss {
    Source,
    Path,
    Host,
    Method,
    ContentType,
    Status,
}

impl CaptureRule {
    /// The first condition that is not met; `None`: the rule takes it.
    pub(crate) fn miss(&self, traffic: &Traffic<'_>) -> Option<Miss> {
        let is_response = self.source == Source::Response;
        let Traffic { source, url, method, status, mime_type, content_type } = *traffic;
        if self.source != source {
            Some(Miss::Source)
        } else if !self.takes_path(url) {
            Some(Miss::Path)
        } else if !self.takes_host(url) {
            Some(Miss::Host)
        } else if is_response && !self.takes_method(method) {
            Some(Miss::Method)
        } else if is_response && !self.takes_type(mime_type, content_type) {
            Some(Miss::ContentType)
        } else if is_response && !self.takes_status(status) {
            Some(Miss::Status)
        } else {
            None
        }
    }

    pub(crate) fn takes_path(&self, url: &Url) -> bool {
        self.path.matches_path(url.path())
    }

    pub(crate) fn takes_host(&self, url: &Url) -> bool {
        self.host.as_ref().is_none_or(|host| host.matches_url(url))
    }

    pub(crate) fn takes_method(&self, method: &str) -> bool {
        self.methods.is_empty() || self.methods.iter().any(|taken| taken == method)
    }

    pub(crate) fn takes_status(&self, status: i64) -> bool {
        match u16::try_from(status) {
            // 204 and 205 have no body by definition.
            Ok(status) if self.status.is_empty() => {
                (200..300).contains(&status) && !matches!(status, 204 | 205)
            }
            Ok(status) => self.status.contains(&status),
            Err(_) => false,
        }
    }

    pub(crate) fn takes_type(&self, mime_type: &str, content_type: Option<&str>) -> bool {
        let begins = |value: &str, prefix: &str| {
            value.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        };
        self.content_type.as_deref().is_none_or(|prefix| {
            begins(mime_type, prefix) || content_type.is_some_and(|value| begins(value, prefix))
        })
    }
}
