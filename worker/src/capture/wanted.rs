//! One request that rules ask for: what is known of it, and how it is reported.

use std::sync::Arc;

use bytes::Bytes;

use super::{BODY_BYTES_MAX, Captured, PageReport, budget};

/// What a response's headers may take at most of what is counted as sent.
const HEADERS_BYTES_MAX: u64 = 256 * 1024;
/// How far a body is looked at to tell text from anything else, in bytes.
const LOOK_BYTES: usize = 64;

/// One request that at least one rule asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) url: String,
    /// The page that made it.
    pub(super) page: Arc<str>,
    /// Never empty.
    pub(super) rules: Vec<usize>,
    /// As far as it is known.
    pub(super) method: Option<String>,
    pub(super) status: Option<u16>,
    pub(super) mime_type: Option<String>,
    /// When its response had begun to arrive: the moment to which the body belongs.
    pub(super) began_at_ms: i64,
    /// What the server says of the body's length over the network, 0 if nothing.
    pub(super) content_length: u64,
    /// Bytes over the network, with headers, as far as known; 0 if not.
    pub(super) sent_bytes: u64,
    pub(super) compressed: bool,
}

impl Wanted {
    /// How large the body probably is.
    pub(super) fn expected_bytes(&self) -> usize {
        budget::expected_bytes(self.content_length.max(self.sent_bytes), self.compressed)
    }

    /// The body's size, where it is known to be larger than what is taken.
    pub(super) fn too_large(&self) -> Option<u64> {
        let sent = self.sent_bytes.saturating_sub(HEADERS_BYTES_MAX);
        let bytes = if self.content_length > 0 { self.content_length } else { sent };
        // What is compressed on its way only grows.
        (bytes > BODY_BYTES_MAX as u64).then_some(bytes)
    }

    pub(super) fn failed(&self, reason: &str) -> Vec<PageReport> {
        let failed = |rule: &usize| PageReport::CaptureFailed {
            rule: Some(*rule),
            url: self.url.clone(),
            reason: reason.to_owned(),
        };
        self.rules.iter().map(failed).collect()
    }

    pub(super) fn captured(&self, event: Option<&str>, body: &Bytes, captured_at_ms: i64) -> Vec<PageReport> {
        if body.len() > BODY_BYTES_MAX {
            let reason = format!("{} bytes are more than {BODY_BYTES_MAX}", body.len());
            return self.failed(&reason);
        }
        if event.is_none()
            && let Some(reason) = not_json(self.mime_type.as_deref(), body)
        {
            return self.failed(reason);
        }
        let captured = |rule: &usize| {
            PageReport::Captured(Captured {
                rule: *rule,
                url: self.url.clone(),
                event: event.map(str::to_owned),
                method: self.method.clone(),
                status: self.status,
                mime_type: self.mime_type.clone(),
                page: Some(self.page.to_string()),
                body: body.clone(),
                captured_at_ms,
            })
        };
        self.rules.iter().map(captured).collect()
    }
}

/// Why a body that is called JSON is plainly none; a closer look is the filters' business.
fn not_json(mime_type: Option<&str>, body: &[u8]) -> Option<&'static str> {
    let mime_type = mime_type?.to_ascii_lowercase();
    if !matches!(mime_type.as_str(), "application/json" | "text/json") && !mime_type.ends_with("+json") {
        return None;
    }
    let begin = &body[..body.len().min(LOOK_BYTES)];
    let text = begin.strip_prefix(b"\xef\xbb\xbf").unwrap_or(begin).trim_ascii_start();
    if text.starts_with(b"<") {
        return Some("the body is called JSON but is HTML: is the account logged out, or the page blocked?");
    }
    // No JSON holds a control character, nor begins with U+FFFD, which the browser puts where a text is not UTF-8.
    let is_binary = begin.iter().any(|byte| *byte < b' ' && !byte.is_ascii_whitespace())
        || text.starts_with(b"\xef\xbf\xbd");
    is_binary.then_some("the body is called JSON but is binary: is it compressed or encrypted by the page?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_called_json_and_is_none_is_told_apart() {
        let why = |mime_type, body: &[u8]| not_json(Some(mime_type), body).unwrap_or_default();
        assert!(why("application/json", b"\xef\xbb\xbf \n<!doctype html>").contains("HTML"));
        assert!(why("application/problem+json", b"\x1f\x8b\x08\0").contains("binary"));
        assert!(why("Application/JSON", "\u{fffd}PNG".as_bytes()).contains("binary"));
        for json in ["{\"a\":\"<b>\u{fffd}\u{7f}\"}", "\u{feff}[1]", "", " \r\n\t7", "\"日本\""] {
            assert_eq!(why("application/json", json.as_bytes()), "", "{json:?}");
        }
        assert_eq!(why("text/html", b"<p>"), "");
        assert_eq!(not_json(None, b"\0"), None);
    }
}
