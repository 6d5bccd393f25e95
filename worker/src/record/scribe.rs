//! What the pages report, written down: each body looked at, its secrets removed, and the entry appended to the file.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::redact::{REMOVED, Redactor};
use crate::capture::{CaptureRule, Captured, PageReport, Source};
use crate::har::write::{Added, Content, HarWriter, Written};
use crate::session::{Exported, SessionState};

/// A shorter value of a cookie is not looked for in other places, in bytes: it stands in much that is no secret.
const COOKIE_BYTES_MIN: usize = 12;
/// The most values of cookies that are looked for.
const COOKIES_MAX: usize = 1_000;
/// How long what is captured waits before it is written: a login's cookies are known soon after it, and the answers that
/// the page gets in between may repeat them. And the most bytes that wait.
const SETTLE: Duration = Duration::from_secs(6);
const WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How often it is looked whether something has waited long enough.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const NOT_DATA: &str = "left out: neither JSON nor plain text";

/// What came of a recording.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Notes {
    /// Entries in the file.
    pub(super) entries: usize,
    /// The file's length.
    pub(super) bytes: u64,
    /// Entries without their body.
    pub(super) left_out: usize,
    /// Entries that were not written because a known secret was still in them.
    pub(super) withheld: usize,
    /// What was seen and could not be captured.
    pub(super) unreadable: usize,
}

pub(super) struct Scribe {
    writer: HarWriter,
    redactor: Redactor,
    rules: Arc<Vec<CaptureRule>>,
    /// The session that the pages have: the values of its cookies are secrets, wherever they stand.
    exported: Exported,
    cookies: usize,
    waiting: VecDeque<(Instant, Captured)>,
    waiting_bytes: usize,
    lines: mpsc::Sender<String>,
    over: CancellationToken,
    progress: watch::Sender<(usize, u64)>,
    full: bool,
    notes: Notes,
}

impl Scribe {
    /// `sessions` are those that the pages may go on with. Cancels `over` once the file is full.
    pub(super) fn new(
        (writer, redactor): (HarWriter, Redactor),
        (rules, exported): (Arc<Vec<CaptureRule>>, Exported),
        sessions: &[SessionState],
        lines: mpsc::Sender<String>,
        over: CancellationToken,
    ) -> Self {
        let progress = watch::Sender::new(writer.len());
        let mut scribe = Self {
            writer,
            redactor,
            rules,
            exported,
            cookies: 0,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            lines,
            over,
            progress,
            full: false,
            notes: Notes::default(),
        };
        sessions.iter().for_each(|state| scribe.learn(state));
        scribe
    }

    /// Entries and bytes so far.
    pub(super) fn progress(&self) -> watch::Receiver<(usize, u64)> {
        self.progress.subscribe()
    }

    /// Writes until nobody reports any more. Blocks; to be called within a runtime.
    ///
    /// # Errors
    /// What the operating system says of the file.
    pub(super) fn write_all(mut self, mut reports: mpsc::Receiver<PageReport>) -> std::io::Result<Notes> {
        let runtime = Handle::current();
        loop {
            match runtime.block_on(async { tokio::time::timeout(LOOK_EVERY, reports.recv()).await }) {
                Ok(Some(report)) => self.take(report),
                Ok(None) => break,
                Err(_) => {}
            }
            self.write_waiting(SETTLE)?;
        }
        self.write_waiting(Duration::ZERO)?;
        (self.notes.entries, self.notes.bytes) = self.writer.len();
        Ok(self.notes)
    }

    fn take(&mut self, report: PageReport) {
        match report {
            PageReport::Captured(captured) => {
                self.waiting_bytes += captured.body.len();
                self.waiting.push_back((Instant::now(), captured));
            }
            PageReport::CaptureFailed { reason, .. } => {
                tracing::debug!(reason, "something could not be captured");
                self.notes.unreadable += 1;
            }
            PageReport::LoggedIn => self.tell("logged in".to_owned()),
            PageReport::LoggedOut { reason } => self.tell(format!("logged out: {reason}")),
            PageReport::PageLoaded { page } => self.tell(format!("page {page} is loaded")),
            PageReport::PageFailed { page, reason } => self.tell(format!("page {page} failed: {reason}")),
            PageReport::FailedAgain { .. } | PageReport::Unchanged { .. } => {}
        }
    }

    /// Writes what has waited for so long, and what there is no room for.
    fn write_waiting(&mut self, settle: Duration) -> std::io::Result<()> {
        if self.exported.has_changed().unwrap_or(false) {
            let state = self.exported.borrow_and_update().clone();
            state.iter().for_each(|state| self.learn(state));
        }
        while let Some((at, _)) = self.waiting.front()
            && (at.elapsed() >= settle || self.waiting_bytes > WAITING_BYTES_MAX)
            && let Some((_, captured)) = self.waiting.pop_front()
        {
            self.waiting_bytes -= captured.body.len();
            self.write(captured)?;
        }
        Ok(())
    }

    fn tell(&self, line: String) {
        // Whoever does not read in time misses a line of progress.
        let _ = self.lines.try_send(line);
    }

    fn write(&mut self, captured: Captured) -> std::io::Result<()> {
        if self.full {
            return Ok(());
        }
        let Some(written) = self.written(captured) else { return Ok(()) };
        if self.holds_secret(&written) {
            tracing::warn!("a captured answer holds a secret of the account's settings and is not written");
            self.notes.withheld += 1;
            return Ok(());
        }
        match self.writer.add(&written.to_json())? {
            Added::Yes => drop(self.progress.send_replace(self.writer.len())),
            Added::Full => {
                self.full = true;
                self.tell("the file is as large as it may be (--file-mib): the recording ends".to_owned());
                self.over.cancel();
            }
        }
        Ok(())
    }

    /// The cookies that pages cannot read are what a session is.
    fn learn(&mut self, state: &SessionState) {
        for value in secret_cookies(state) {
            if self.cookies < COOKIES_MAX {
                self.cookies += 1;
                self.redactor.add_literal(value);
            }
        }
    }

    /// What is written of it; nothing of a frame that is no text.
    fn written(&mut self, captured: Captured) -> Option<Written> {
        let rule = self.rules.get(captured.rule)?;
        let text = std::str::from_utf8(&captured.body).ok();
        let mime_type = captured.mime_type.unwrap_or_default();
        let clean = |text: &str| self.redactor.text(text);
        let content = match (rule.source, text) {
            (Source::Response, Some(text)) if is_data(&mime_type, text) => Content::Body(clean(text)),
            (Source::Response, _) => Content::LeftOut { bytes: captured.body.len(), reason: NOT_DATA },
            (Source::WebSocket, Some(text)) => Content::Frame(clean(text)),
            (Source::EventSource, Some(text)) => {
                let name = captured.event.as_deref().unwrap_or("message");
                Content::Event { name: clean(name), data: clean(text) }
            }
            (Source::PageState, Some(text)) => {
                let page = captured.page.unwrap_or_default();
                Content::PageState { rule: rule.name.clone(), page, body: clean(text) }
            }
            (_, None) => {
                self.notes.left_out += 1;
                return None;
            }
        };
        if matches!(content, Content::LeftOut { .. }) {
            self.notes.left_out += 1;
        }
        let mime_type =
            if rule.source == Source::PageState { "application/json".to_owned() } else { mime_type };
        Some(Written {
            at_ms: captured.captured_at_ms,
            url: clean(&captured.url),
            method: captured.method.unwrap_or_else(|| "GET".to_owned()),
            status: captured.status.unwrap_or(if rule.source == Source::WebSocket { 101 } else { 200 }),
            mime_type,
            content,
        })
    }

    /// The last look at an entry: whatever was overlooked, a known secret is not written.
    fn holds_secret(&self, written: &Written) -> bool {
        let texts: &[&str] = match &written.content {
            Content::Body(text) | Content::Frame(text) | Content::PageState { body: text, .. } => &[text],
            Content::Event { name, data } => &[name, data],
            Content::LeftOut { .. } => &[],
        };
        let holds = |text: &str| {
            // A secret as short as a letter stands in the mark itself.
            self.redactor.holds_literal(text) && self.redactor.holds_literal(&text.replace(REMOVED, ""))
        };
        holds(&written.url) || texts.iter().any(|text| holds(text))
    }
}

/// Values of cookies that only the site can read, apart from those that may be an id.
fn secret_cookies(state: &SessionState) -> impl Iterator<Item = &str> {
    state.cookies.iter().filter_map(|cookie| {
        let is_secret = cookie.get("httpOnly")?.as_bool()?;
        let value = cookie.get("value")?.as_str()?;
        let may_be_id = value.bytes().all(|byte| byte.is_ascii_digit());
        (is_secret && !may_be_id && value.len() >= COOKIE_BYTES_MIN).then_some(value)
    })
}

/// Whether a filter could read it: JSON, or a text in which JSON may be. Secrets in anything else are not found.
fn is_data(mime_type: &str, text: &str) -> bool {
    let mime_type = mime_type.to_ascii_lowercase();
    let by_type = ["json", "text/plain", "text/event-stream"].iter().any(|known| mime_type.contains(known));
    by_type
        || text.trim_start().starts_with(['{', '['])
            && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_told_from_pages_and_scripts() {
        for (mime_type, text, data) in [
            ("application/json", "{", true),
            ("application/vnd.api+JSON", "", true),
            ("text/plain", "cb({})", true),
            ("text/javascript", " {\"a\":1}", true),
            ("text/javascript", "{ a() }", false),
            ("text/html", "<p>", false),
            ("", "[1]", true),
            ("image/svg+xml", "<svg>", false),
        ] {
            assert_eq!(is_data(mime_type, text), data, "{mime_type} {text}");
        }
    }
}
