//! Which traffic the rules ask for: requests followed from their first sign to their end, as plain state.
//!
//! The browser's events come through one queue each, so the end of a request may be seen just before its
//! beginning. What comes too early is kept, within bounds, until it has a meaning.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::{BODY_BYTES_MAX, CaptureRule, Captured, PageReport, Source, budget};

/// Requests followed at once; the oldest is given up beyond it.
pub(super) const OPEN_MAX: usize = 4096;
/// Ends and frames kept whose beginning was not seen yet.
pub(super) const EARLY_MAX: usize = 4096;
const EARLY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// One request that at least one rule asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) url: String,
    /// Never empty.
    pub(super) rules: Vec<usize>,
    /// When its response had begun to arrive: the moment to which the body belongs.
    pub(super) began_at_ms: i64,
    /// Bytes of the body over the network, as far as known; 0 if not.
    sent_bytes: u64,
    compressed: bool,
}

impl Wanted {
    /// How large the body probably is.
    pub(super) fn expected_bytes(&self) -> usize {
        budget::expected_bytes(self.sent_bytes, self.compressed)
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
        let captured = |rule: &usize| {
            PageReport::Captured(Captured {
                rule: *rule,
                url: self.url.clone(),
                event: event.map(str::to_owned),
                body: body.clone(),
                captured_at_ms,
            })
        };
        self.rules.iter().map(captured).collect()
    }
}

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

/// How a request ended.
#[derive(Debug)]
pub(super) enum End {
    /// Whole, after so many bytes over the network.
    Whole { sent_bytes: u64 },
    /// Not, and why.
    Failed(String),
}

impl End {
    fn of(self, mut wanted: Wanted) -> Step {
        match self {
            Self::Whole { sent_bytes } => {
                wanted.sent_bytes = wanted.sent_bytes.max(sent_bytes);
                Step::Fetch(wanted)
            }
            Self::Failed(reason) => Step::Report(wanted.failed(&reason)),
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
    responses: Open,
    streams: Open,
    ended: VecDeque<(String, End)>,
    early: VecDeque<Early>,
    early_bytes: usize,
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
    pub(super) fn new(rules: Arc<Vec<CaptureRule>>) -> Self {
        Self {
            rules,
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
        let path_matches = |rule: &CaptureRule| rule.source == source && rule.path.matches_url(url);
        let rules: Vec<usize> = self
            .rules
            .iter()
            .enumerate()
            .filter(|(_, rule)| path_matches(rule) && allows(rule))
            .map(|(index, _)| index)
            .collect();
        let url = url.to_owned();
        (!rules.is_empty()).then_some(Wanted {
            url,
            rules,
            began_at_ms: at_ms,
            sent_bytes: 0,
            compressed: false,
        })
    }

    /// The final response of a request has begun.
    pub(super) fn response(&mut self, request: &str, head: &Head<'_>) -> Step {
        let wanted = self.wanted(Source::Response, head.url, head.at_ms, |rule| allows(rule, head));
        let Some(mut wanted) = wanted else { return Step::Nothing };
        (wanted.sent_bytes, wanted.compressed) = (head.content_length, head.compressed);
        if let Some(at) = self.ended.iter().position(|(ended, _)| ended == request) {
            return self.ended.remove(at).map_or(Step::Nothing, |(_, end)| end.of(wanted));
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
            return end.of(wanted);
        }
        if self.ended.len() >= EARLY_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back((request.to_owned(), end));
        Step::Nothing
    }

    /// A stream of pushed events or frames was opened; what it pushed before is reported now.
    pub(super) fn opened(&mut self, source: Source, request: &str, url: &str, at_ms: i64) -> Step {
        let wanted = self.wanted(source, url, at_ms, |_| true);
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
    // 204 and 205 have no body by definition.
    let status_allowed = match u16::try_from(head.status) {
        Ok(status) if rule.status.is_empty() => (200..300).contains(&status) && !matches!(status, 204 | 205),
        Ok(status) => rule.status.contains(&status),
        Err(_) => false,
    };
    let begins = |value: &str, prefix: &str| {
        value.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    let type_allowed = rule.content_type.as_deref().is_none_or(|prefix| {
        begins(head.mime_type, prefix) || head.content_type.is_some_and(|value| begins(value, prefix))
    });
    status_allowed && type_allowed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::PathPattern;

    fn rule(source: Source, path: &str) -> CaptureRule {
        let path = PathPattern::parse(path).unwrap();
        CaptureRule { name: "r".into(), source, path, status: vec![], content_type: None }
    }

    fn matcher(rules: Vec<CaptureRule>) -> Matcher {
        Matcher::new(Arc::new(rules))
    }

    fn head(url: &str, status: i64) -> Head<'_> {
        Head {
            url,
            status,
            mime_type: "application/json",
            content_type: None,
            content_length: 0,
            compressed: false,
            at_ms: 17,
        }
    }

    const WHOLE: End = End::Whole { sent_bytes: 5 };

    #[test]
    fn the_end_may_come_before_the_beginning() {
        let mut matcher = matcher(vec![rule(Source::Response, "/a")]);
        assert!(matches!(matcher.response("1", &head("http://x/a", 200)), Step::Nothing));
        let begun = |step| matches!(step, Step::Fetch(wanted) if wanted.began_at_ms == 17 && wanted.expected_bytes() == 5);
        assert!(begun(matcher.ended("1", WHOLE)));
        assert!(matches!(matcher.ended("2", WHOLE), Step::Nothing));
        assert!(begun(matcher.response("2", &head("http://x/a", 200))));
        assert!(matches!(matcher.ended("3", End::Failed("aborted".into())), Step::Nothing));
        assert!(
            matches!(matcher.response("3", &head("http://x/a", 200)), Step::Report(reports) if reports.len() == 1)
        );
    }

    #[test]
    fn status_and_content_type_decide() {
        let mut json = rule(Source::Response, "/a");
        json.content_type = Some("application/json".into());
        let mut missing = rule(Source::Response, "/a");
        missing.status = vec![404];
        let mut matcher = matcher(vec![json, missing]);
        let mut rules_for = |status, mime_type, content_type| {
            let head = Head { mime_type, content_type, ..head("http://x/a", status) };
            matcher.response("1", &head);
            match matcher.ended("1", WHOLE) {
                Step::Fetch(wanted) => wanted.rules,
                _ => vec![],
            }
        };
        assert_eq!(rules_for(200, "application/json", None), [0]);
        assert_eq!(rules_for(201, "text/plain", Some("Application/JSON; charset=utf-8")), [0]);
        assert_eq!(rules_for(404, "application/json", None), [1]);
        assert!(rules_for(200, "text/html", None).is_empty());
        assert!(rules_for(204, "application/json", None).is_empty());
        assert!(rules_for(302, "application/json", None).is_empty());
        assert!(rules_for(-1, "application/json", None).is_empty());
    }

    #[test]
    fn what_is_pushed_before_its_stream_is_known_comes_in_order() {
        let mut matcher = matcher(vec![rule(Source::WebSocket, "/ws")]);
        matcher.pushed("7", None, Bytes::from_static(b"1"), 9);
        matcher.pushed("8", None, Bytes::from_static(b"other"), 9);
        matcher.pushed("7", None, Bytes::from_static(b"2"), 9);
        let bodies = |step| match step {
            Step::Report(reports) => reports
                .into_iter()
                .map(|report| match report {
                    PageReport::Captured(captured) => captured.body,
                    other => panic!("{other:?}"),
                })
                .collect::<Vec<_>>(),
            _ => vec![],
        };
        assert_eq!(bodies(matcher.opened(Source::WebSocket, "7", "ws://x/ws", 1)), ["1", "2"]);
        assert_eq!(bodies(matcher.pushed("7", None, Bytes::from_static(b"3"), 9)), ["3"]);
        assert!(bodies(matcher.opened(Source::WebSocket, "8", "ws://x/else", 1)).is_empty());
        assert!(bodies(matcher.pushed("8", None, Bytes::from_static(b"4"), 9)).is_empty());
    }

    #[test]
    fn one_url_asked_for_twice_counts_twice_and_each_rule_gets_it() {
        let mut matcher = matcher(vec![rule(Source::Response, "/a"), rule(Source::Response, "/*")]);
        for request in ["1", "2"] {
            matcher.response(request, &head("http://x/a", 200));
            assert!(matches!(matcher.ended(request, WHOLE), Step::Fetch(wanted) if wanted.rules == [0, 1]));
        }
    }

    #[test]
    fn what_is_kept_is_bounded_and_what_gives_way_is_told() {
        let mut matcher = matcher(vec![rule(Source::Response, "/a")]);
        for n in 0..OPEN_MAX {
            assert!(matches!(matcher.response(&n.to_string(), &head("http://x/a", 200)), Step::Nothing));
        }
        assert!(
            matches!(matcher.response("last", &head("http://x/a", 200)), Step::Report(r) if r.len() == 1)
        );
        for n in 0..2 * EARLY_MAX {
            matcher.ended(&format!("e{n}"), WHOLE);
            matcher.pushed(&format!("p{n}"), None, Bytes::from_static(&[0; 4096]), 9);
        }
        assert_eq!(matcher.ended.len(), EARLY_MAX);
        assert!(matcher.early_bytes <= EARLY_BYTES_MAX);
        assert!(matcher.early.len() <= EARLY_MAX);
    }
}
