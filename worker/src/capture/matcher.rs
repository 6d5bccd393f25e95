//! Which traffic the rules ask for: requests followed from their first sign to their end, as plain state.
//!
//! The browser's events come through one queue each, so the end of a request may be seen just before its
//! beginning, and how it was sent after both. What comes too early is kept, within bounds, until it has a meaning.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use url::Url;

use super::methods::{Method, Methods};
use super::wanted::Wanted;
use super::{BODY_BYTES_MAX, CaptureRule, PageReport, Source};

/// Requests followed at once; the oldest is given up beyond it.
pub(super) const OPEN_MAX: usize = 4096;
/// Ends and frames kept whose beginning was not seen yet.
pub(super) const EARLY_MAX: usize = 4096;
const EARLY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long after the end of a request its method may become known, or become another one by a redirect. The queues
/// are filled within microseconds of each other.
const SETTLE_TIME: Duration = Duration::from_millis(20);
/// Requests that wait for that; beyond it, what is known counts.
const UNSETTLED_MAX: usize = 4096;

/// A response as far as the rules look at it.
#[derive(Debug)]
pub(super) struct Head<'a> {
    pub(super) url: &'a str,
    pub(super) status: i64,
    pub(super) mime_type: &'a str,
    pub(super) content_type: Option<&'a str>,
    /// What the server says of the body's length, 0 if nothing.
    pub(super) content_length: u64,
    pub(super) compressed: bool,
    pub(super) at_ms: i64,
}

impl<'a> Head<'a> {
    /// Of what has no response, such as a WebSocket.
    pub(super) fn bare(url: &'a str, at_ms: i64) -> Self {
        Self {
            url,
            status: 0,
            mime_type: "",
            content_type: None,
            content_length: 0,
            compressed: false,
            at_ms,
        }
    }

    fn tell(&self, wanted: &mut Wanted) {
        wanted.status = u16::try_from(self.status).ok().filter(|status| *status > 0);
        wanted.mime_type = (!self.mime_type.is_empty()).then(|| self.mime_type.to_owned());
        (wanted.content_length, wanted.compressed) = (self.content_length, self.compressed);
    }
}

/// How a request ended.
#[derive(Debug)]
pub(super) enum End {
    /// Whole, after so many bytes over the network.
    Whole { sent_bytes: u64 },
    /// Not, and why.
    Failed(String),
}

impl End {
    fn of(&self, mut wanted: Wanted) -> Step {
        if wanted.rules.is_empty() {
            return Step::Nothing;
        }
        match self {
            Self::Whole { sent_bytes } => {
                wanted.sent_bytes = *sent_bytes;
                match wanted.too_large() {
                    None => Step::Fetch(wanted),
                    Some(bytes) => {
                        let reason = format!("about {bytes} bytes are more than {BODY_BYTES_MAX}");
                        Step::Report(wanted.failed(&reason))
                    }
                }
            }
            Self::Failed(reason) => Step::Report(wanted.failed(reason)),
        }
    }
}

/// What follows from an event.
#[derive(Debug)]
pub(super) enum Step {
    /// Nothing to do.
    Nothing,
    /// The body of this request is whole: fetch it.
    Fetch(Wanted),
    /// To be reported.
    Report(Vec<PageReport>),
}

/// The requests of one tab.
#[derive(Debug)]
pub(super) struct Matcher {
    rules: Arc<Vec<CaptureRule>>,
    page: Arc<str>,
    methods: Methods,
    /// Ended, and asked for by rules that ask for a method, the oldest first.
    unsettled: VecDeque<Unsettled>,
    responses: Open,
    streams: Open,
    ended: VecDeque<(String, End)>,
    early: VecDeque<Early>,
    early_bytes: usize,
}

#[derive(Debug)]
struct Unsettled {
    request: String,
    wanted: Wanted,
    end: End,
    until: Instant,
}

#[derive(Debug)]
struct Early {
    request: String,
    event: Option<String>,
    body: Bytes,
    at_ms: i64,
}

/// Requests by id, the oldest first.
#[derive(Debug, Default)]
struct Open {
    wanted: HashMap<String, Option<Wanted>>,
    order: VecDeque<String>,
}

impl Open {
    /// Returns what had to give way.
    fn insert(&mut self, request: &str, wanted: Option<Wanted>) -> Option<Wanted> {
        if self.wanted.insert(request.to_owned(), wanted).is_none() {
            self.order.push_back(request.to_owned());
        }
        if self.order.len() <= OPEN_MAX {
            return None;
        }
        let oldest = self.order.pop_front()?;
        self.wanted.remove(&oldest).flatten()
    }

    fn remove(&mut self, request: &str) -> Option<Wanted> {
        let wanted = self.wanted.remove(request)?;
        self.order.retain(|known| known != request);
        wanted
    }
}

impl Matcher {
    pub(super) fn new(rules: Arc<Vec<CaptureRule>>, page: &str) -> Self {
        Self {
            rules,
            page: page.into(),
            methods: Methods::default(),
            unsettled: VecDeque::new(),
            responses: Open::default(),
            streams: Open::default(),
            ended: VecDeque::new(),
            early: VecDeque::new(),
            early_bytes: 0,
        }
    }

    /// Whether any rule looks at pushed events or frames.
    pub(super) fn wants(&self, source: Source) -> bool {
        self.rules.iter().any(|rule| rule.source == source)
    }

    fn wanted(
        &self,
        source: Source,
        url: &str,
        at_ms: i64,
        allows: impl Fn(&CaptureRule) -> bool,
    ) -> Option<Wanted> {
        let parsed = Url::parse(url).ok()?;
        let asks = |rule: &CaptureRule| {
            rule.source == source && rule.takes_path(&parsed) && rule.takes_host(&parsed) && allows(rule)
        };
        let rules: Vec<usize> =
            self.rules.iter().enumerate().filter(|(_, rule)| asks(rule)).map(|(index, _)| index).collect();
        (!rules.is_empty()).then(|| Wanted {
            url: url.to_owned(),
            page: Arc::clone(&self.page),
            rules,
            method: None,
            status: None,
            mime_type: None,
            began_at_ms: at_ms,
            content_length: 0,
            sent_bytes: 0,
            compressed: false,
        })
    }

    /// A request was sent, for the first time or to where it was redirected.
    pub(super) fn sent(&mut self, request: &str, method: &str, url: &str) {
        self.methods.sent(request, method, url);
    }

    /// The final response of a request has begun.
    pub(super) fn response(&mut self, request: &str, head: &Head<'_>) -> Step {
        let wanted = self.wanted(Source::Response, head.url, head.at_ms, |rule| allows(rule, head));
        let Some(mut wanted) = wanted else { return Step::Nothing };
        head.tell(&mut wanted);
        if let Some(at) = self.ended.iter().position(|(ended, _)| ended == request) {
            let ended = self.ended.remove(at);
            return ended.map_or(Step::Nothing, |(_, end)| self.end(request, wanted, end));
        }
        match self.responses.insert(request, Some(wanted)) {
            None => Step::Nothing,
            Some(given_up) => Step::Report(given_up.failed("too many responses were open at once")),
        }
    }

    /// A request ended, well or with an error.
    pub(super) fn ended(&mut self, request: &str, end: End) -> Step {
        self.streams.remove(request);
        if let Some(wanted) = self.responses.remove(request) {
            return self.end(request, wanted, end);
        }
        if self.ended.len() >= EARLY_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back((request.to_owned(), end));
        Step::Nothing
    }

    /// Rules without methods have it at once; for the others it waits where its method is not settled.
    fn end(&mut self, request: &str, mut wanted: Wanted, end: End) -> Step {
        let method = self.methods.of(request, &wanted.url);
        wanted.method = method.name().map(str::to_owned);
        let settled = matches!(method, Method::Settled(_)) || self.unsettled.len() >= UNSETTLED_MAX;
        if !settled {
            let (mut free, mut waiting) = (wanted.clone(), wanted);
            free.rules.retain(|rule| self.rules[*rule].methods.is_empty());
            waiting.rules.retain(|rule| !self.rules[*rule].methods.is_empty());
            let step = end.of(free);
            if !waiting.rules.is_empty() {
                let until = Instant::now() + SETTLE_TIME;
                self.unsettled.push_back(Unsettled {
                    request: request.to_owned(),
                    wanted: waiting,
                    end,
                    until,
                });
            }
            return step;
        }
        end.of(self.asked_for(wanted))
    }

    /// Without the rules that ask for another method. One that was never told is no reason to lose a capture.
    fn asked_for(&self, mut wanted: Wanted) -> Wanted {
        if let Some(method) = &wanted.method {
            wanted.rules.retain(|rule| self.rules[*rule].takes_method(method));
        }
        wanted
    }

    /// When the next request has waited long enough for its method.
    pub(super) fn settles_at(&self) -> Option<Instant> {
        self.unsettled.front().map(|unsettled| unsettled.until)
    }

    /// The next request that has waited long enough for its method, at this time; with `None`, the next one.
    pub(super) fn settle(&mut self, now: Option<Instant>) -> Option<(String, Step)> {
        let next = self.unsettled.pop_front_if(|next| now.is_none_or(|now| next.until <= now))?;
        let Unsettled { request, mut wanted, end, .. } = next;
        wanted.method = self.methods.of(&request, &wanted.url).name().map(str::to_owned);
        let step = end.of(self.asked_for(wanted));
        Some((request, step))
    }

    /// A stream of pushed events was opened by a response, or one of frames; what it pushed before is reported now.
    pub(super) fn opened(&mut self, source: Source, request: &str, head: &Head<'_>) -> Step {
        let mut wanted = self.wanted(source, head.url, head.at_ms, |_| true);
        if let Some(wanted) = &mut wanted {
            head.tell(wanted);
            wanted.method = self.methods.of(request, head.url).name().map(str::to_owned);
        }
        let (mine, others) = self.early.drain(..).partition(|early: &Early| early.request == request);
        self.early = others;
        self.early_bytes = self.early.iter().map(|early| early.body.len()).sum();
        let early: VecDeque<Early> = mine;
        let mut reports = Vec::new();
        if let Some(wanted) = &wanted {
            for early in early {
                reports.extend(wanted.captured(early.event.as_deref(), &early.body, early.at_ms));
            }
        }
        if let Some(given_up) = self.streams.insert(request, wanted) {
            reports.extend(given_up.failed("too many streams were open at once"));
        }
        Step::Report(reports)
    }

    /// A stream was closed.
    pub(super) fn closed(&mut self, request: &str) -> Step {
        self.streams.remove(request);
        Step::Nothing
    }

    /// Something was pushed that cannot be read.
    pub(super) fn unreadable(&self, request: &str, reason: &str) -> Step {
        match self.streams.wanted.get(request) {
            Some(Some(wanted)) => Step::Report(wanted.failed(reason)),
            _ => Step::Nothing,
        }
    }

    /// Something was pushed, at this time.
    pub(super) fn pushed(&mut self, request: &str, event: Option<&str>, body: Bytes, at_ms: i64) -> Step {
        match self.streams.wanted.get(request) {
            Some(Some(wanted)) => Step::Report(wanted.captured(event, &body, at_ms)),
            Some(None) => Step::Nothing,
            None => {
                self.early_bytes += body.len();
                self.early.push_back(Early {
                    request: request.to_owned(),
                    event: event.map(str::to_owned),
                    body,
                    at_ms,
                });
                while self.early.len() > EARLY_MAX || self.early_bytes > EARLY_BYTES_MAX {
                    let Some(oldest) = self.early.pop_front() else { break };
                    self.early_bytes -= oldest.body.len();
                }
                Step::Nothing
            }
        }
    }
}

fn allows(rule: &CaptureRule, head: &Head<'_>) -> bool {
    rule.takes_status(head.status) && rule.takes_type(head.mime_type, head.content_type)
}

#[cfg(test)]
mod tests;
