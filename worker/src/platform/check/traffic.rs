//! A platform's whole mapping over a HAR file: every entry past every rule, as in the browser, and every body that one
//! takes through its filter.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use serde_json::{Value, json};
use snapfleet_protocol::{RecordKind, UnixMs};
use url::Url;

use super::addresses::Addresses;
use super::fixture::as_read;
use super::groups::{Groups, address};
use super::outcome::{HarReport, HarRow, RuleCount, count};
use crate::capture::{CaptureRule, Miss, PathPattern, Source, Traffic};
use crate::drive;
use crate::har::{self, HarBody, HarEntry, HarError};
use crate::platform::{AccountView, CaptureSpec, Mapped, Platform, Request};

/// The most rows that are listed.
const ROWS_MAX: usize = 10_000;
/// The most records that are listed one by one, and the most bytes of them.
const LISTED_MAX: usize = 50_000;
const LISTED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The answer to a request for what the browser has already: the page gets its kept copy, as 200.
const NOT_MODIFIED: u16 = 304;
/// What a browser asks before a request to another site: no page sees its answer.
const PREFLIGHT: &str = "preflight";

/// What is checked.
#[derive(Debug)]
pub struct HarCheck<'a> {
    /// The platform.
    pub platform: &'a Platform,
    /// For whom is mapped.
    pub account: &'a AccountView,
    /// The file.
    pub har: &'a Path,
    /// The time that bounds the records' times, where the file does not say when it was asked.
    pub now: UnixMs,
    /// Which records are listed one by one.
    pub listed: Listed,
}

/// Which records are listed one by one. Refused rows, which are of no kind yet, are listed with any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listed {
    /// None, and no refused rows either.
    Nothing,
    /// All.
    All,
    /// Those of one kind.
    Kind(RecordKind),
}

/// How far the reading is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Entries read.
    pub entries: usize,
    /// Bytes read.
    pub bytes: u64,
}

/// Maps what the platform's rules take of a HAR. What fails is in the report, and the rest goes on; `progress` is told
/// after each entry.
///
/// # Errors
/// [`HarError`] where the file cannot be read or is no HAR. One that ends too early is in the report.
pub fn check_har(check: &HarCheck<'_>, progress: &mut dyn FnMut(Progress)) -> Result<HarReport, HarError> {
    let mut run = Run::new(check);
    let read = har::read(check.har, &mut |entry| {
        let told = Progress { entries: entry.number, bytes: entry.end_byte };
        run.entry(&entry);
        progress(told);
        ControlFlow::Continue(())
    });
    match read {
        Ok(summary) => (run.report.entries, run.report.bytes) = (summary.entries, summary.bytes),
        Err(error @ (HarError::Ended { byte, .. } | HarError::Broken { byte, .. })) => {
            (run.report.bytes, run.report.cut_short) = (byte, Some(error.to_string()));
        }
        Err(error) => return Err(error),
    }
    Ok(run.finish())
}

struct Run<'a> {
    check: &'a HarCheck<'a>,
    rules: Vec<CaptureRule>,
    nearest: Vec<Option<(Miss, String)>>,
    groups: Groups,
    addresses: Addresses,
    /// What is listed so far.
    listed: (usize, usize),
    report: HarReport,
}

impl<'a> Run<'a> {
    fn new(check: &'a HarCheck<'a>) -> Self {
        let captures = check.platform.captures();
        let counts =
            captures.iter().map(|spec| RuleCount { rule: spec.name.clone(), ..RuleCount::default() });
        let report = HarReport {
            platform: check.platform.name().to_string(),
            account: check.account.id.to_string(),
            rules: counts.collect(),
            ..HarReport::default()
        };
        // The manifest has checked the patterns; a rule without would ask for nothing.
        let nothing = |name: &str| CaptureRule::new(name, Source::PageState, PathPattern::any());
        let rule = |spec: &CaptureSpec| drive::rule(spec).unwrap_or_else(|_| nothing(&spec.name));
        let rules: Vec<_> = captures.iter().map(rule).collect();
        Self {
            check,
            nearest: vec![None; rules.len()],
            rules,
            groups: Groups::default(),
            addresses: Addresses::default(),
            listed: (0, 0),
            report,
        }
    }

    fn entry(&mut self, entry: &HarEntry) {
        self.report.entries = entry.number;
        if entry.resource_type.as_deref() == Some(PREFLIGHT) {
            return;
        }
        let url = Url::parse(&entry.url).ok();
        let (mut is_taken, mut nearest) = (false, None);
        for (source, status) in sources(entry) {
            let Some(url) = &url else { break };
            for at in 0..self.rules.len() {
                let Some(miss) = miss(&self.rules[at], entry, url, source, status) else {
                    is_taken = true;
                    self.map(at, entry, url, source, status);
                    continue;
                };
                if miss > Miss::Path {
                    self.learn(at, miss, || format!("{}, at {}", told(miss, entry, status), address(url)));
                    nearest = nearest.max(Some((miss, at, status)));
                }
            }
        }
        if !is_taken {
            let note = nearest
                .map(|(miss, at, status)| format!("{}: {}", self.rules[at].name, told(miss, entry, status)));
            self.groups.add(entry, url.as_ref(), note);
        }
    }

    /// Keeps what came nearest to a rule.
    fn learn(&mut self, at: usize, miss: Miss, told: impl FnOnce() -> String) {
        if self.nearest[at].as_ref().is_none_or(|(nearest, _)| *nearest < miss) {
            self.nearest[at] = Some((miss, told()));
        }
    }

    fn map(&mut self, at: usize, entry: &HarEntry, url: &Url, source: Source, status: u16) {
        let mut row = HarRow {
            entry: entry.number,
            address: address(url),
            rule: self.rules[at].name.clone(),
            status: entry.status,
            ..HarRow::default()
        };
        let request = request(entry, source, status);
        let now = entry.started_at.unwrap_or(self.check.now);
        match source {
            Source::Response | Source::PageState => {
                self.body(at, (&request, now), &entry.body, entry.size, &mut row)
            }
            Source::EventSource | Source::WebSocket => {
                for frame in &entry.frames {
                    let request = Request { event: frame.event.clone(), ..request.clone() };
                    self.body(at, (&request, now), &frame.body, None, &mut row);
                }
                if let (true, Err(reason)) = (source == Source::EventSource, entry.body.bytes()) {
                    self.fail(at, &reason, &mut row);
                }
                if entry.frames_left_out > 0 {
                    let reason = format!("{} frames more than are read of one stream", entry.frames_left_out);
                    self.fail(at, &reason, &mut row);
                }
            }
        }
        if self.report.rows.len() < ROWS_MAX {
            self.report.rows.push(row);
        } else {
            self.report.rows_left_out += 1;
        }
    }

    fn body(
        &mut self,
        at: usize,
        (request, now): (&Request, UnixMs),
        body: &HarBody,
        size: Option<u64>,
        row: &mut HarRow,
    ) {
        let bytes = match body.bytes() {
            Ok(bytes) => bytes,
            Err(reason) => return self.fail(at, &reason, row),
        };
        let (platform, account) = (self.check.platform, self.check.account);
        let mapped = platform.map(at, request, account, bytes, now);
        row.bodies += 1;
        row.bytes += bytes.len();
        self.report.rules[at].bodies += 1;
        self.report.rules[at].records += mapped.records.len();
        self.report.rules[at].refused += mapped.refused.len();
        if let Some(error) = &mapped.error {
            self.report.rules[at].failed += 1;
            count(&mut row.errors, &explained(error, bytes.len(), size));
        }
        tally(row, &mapped, &mut self.report.records);
        self.list(&mapped, row);
    }

    /// Looks at each record, and keeps those that are asked for.
    fn list(&mut self, mapped: &Mapped, row: &mut HarRow) {
        for record in &mapped.records {
            let value = as_read(record);
            self.addresses.look_at(&value);
            if matches!(self.check.listed, Listed::All)
                || matches!(self.check.listed, Listed::Kind(kind) if kind == record.kind())
            {
                self.keep(value, row);
            }
        }
        if self.check.listed == Listed::All {
            mapped.complete.iter().for_each(|list| self.keep(as_read(list), row));
        }
        if self.check.listed != Listed::Nothing {
            for refused in &mapped.refused {
                self.keep(json!({ "row": refused.row, "refused": refused.in_full() }), row);
            }
        }
    }

    fn keep(&mut self, value: Value, row: &mut HarRow) {
        let (count, bytes) = self.listed;
        // A request that is not listed itself has no place for its records.
        let is_full = count >= LISTED_MAX || bytes >= LISTED_BYTES_MAX || self.report.rows.len() >= ROWS_MAX;
        if is_full {
            self.report.not_listed += 1;
            return;
        }
        self.listed = (count + 1, bytes + value.to_string().len());
        row.rows.push(value);
    }

    /// A body that there is none of.
    fn fail(&mut self, at: usize, reason: &str, row: &mut HarRow) {
        self.report.rules[at].bodies += 1;
        self.report.rules[at].failed += 1;
        row.bodies += 1;
        count(&mut row.errors, reason);
    }

    fn finish(mut self) -> HarReport {
        self.report.not_taken = self.groups.list();
        self.report.not_taken_left_out = self.groups.left_out;
        self.report.static_files = self.groups.static_files;
        self.report.warnings.extend(self.addresses.warning());
        for ((counted, nearest), rule) in self.report.rules.iter_mut().zip(self.nearest).zip(&self.rules) {
            if counted.bodies == 0 {
                counted.hint = Some(hint(rule, nearest));
            }
        }
        self.report
    }
}

/// What kinds of traffic an entry is, and with which status the page saw it. Firefox does not say whether an event
/// stream was read by an event source or by a script: then it is both.
fn sources(entry: &HarEntry) -> Vec<(Source, u16)> {
    let status = match (entry.status, &entry.body) {
        (NOT_MODIFIED, HarBody::Bytes(_)) => 200,
        (status, _) => status,
    };
    if entry.page_state.is_some() {
        return vec![(Source::PageState, status)];
    }
    if entry.is_websocket() {
        return vec![(Source::WebSocket, status)];
    }
    match entry.is_event_source() {
        Some(true) => vec![(Source::EventSource, status)],
        Some(false) => vec![(Source::Response, status)],
        None => vec![(Source::EventSource, status), (Source::Response, status)],
    }
}

fn request(entry: &HarEntry, source: Source, status: u16) -> Request {
    let request = Request::of(&entry.url);
    match source {
        Source::Response => Request { method: Some(entry.method.clone()), status: Some(status), ..request },
        Source::EventSource => Request { status: Some(status), ..request },
        Source::WebSocket => request,
        Source::PageState => Request { page: entry.page_state.clone().map(|(_, page)| page), ..request },
    }
}

fn tally(row: &mut HarRow, mapped: &Mapped, totals: &mut BTreeMap<String, usize>) {
    for record in &mapped.records {
        let kind = record.kind().to_string();
        *totals.entry(kind.clone()).or_default() += 1;
        *row.records.entry(kind).or_default() += 1;
    }
    row.complete += mapped.complete.len();
    row.unknown_times += mapped.unknown_times;
    row.cut += mapped.cut;
    for refused in &mapped.refused {
        count(&mut row.refused, &refused.reason);
        if let Some(detail) = &refused.detail {
            let first = row.first_refused.entry(refused.reason.clone());
            first.or_insert_with(|| format!("row {}: {detail}", refused.row));
        }
    }
}

/// Says so where the file holds only a part of the body.
fn explained(error: &str, bytes: usize, size: Option<u64>) -> String {
    match size.filter(|size| *size > bytes as u64) {
        Some(size) => format!(
            "{error} (the HAR holds {bytes} of its {size} bytes: in Firefox set devtools.netmonitor.responseBodyLimit \
             to 0 and save it again)"
        ),
        None => error.to_owned(),
    }
}

/// Why a rule does not take an entry as this kind of traffic; `None`: it does.
fn miss(rule: &CaptureRule, entry: &HarEntry, url: &Url, source: Source, status: u16) -> Option<Miss> {
    if source == Source::PageState {
        let runs_on = |page| rule.pages.is_empty() || rule.pages.contains(page);
        let asked = entry.page_state.as_ref();
        let is_its = asked.is_some_and(|(name, page)| *name == rule.name && runs_on(page));
        return (rule.source != source || !is_its).then_some(Miss::Source);
    }
    rule.miss(&Traffic {
        source,
        url,
        method: &entry.method,
        status: status.into(),
        mime_type: &entry.mime_type,
        content_type: entry.content_type.as_deref(),
    })
}

/// What of a request does not fit a rule, whose path and what comes before in the order do.
fn told(miss: Miss, entry: &HarEntry, status: u16) -> String {
    match miss {
        Miss::Host => "its host is another".into(),
        Miss::Method => format!("its method is {}", entry.method),
        Miss::ContentType => {
            let given = entry.content_type.as_deref().unwrap_or(&entry.mime_type);
            format!("its content type is {given:?}")
        }
        _ => format!("its status is {status}"),
    }
}

fn hint(rule: &CaptureRule, nearest: Option<(Miss, String)>) -> String {
    if let Some((_, told)) = nearest {
        return format!("the path of a request matched, but {told}");
    }
    match rule.source {
        Source::PageState => {
            "the HAR holds no page state of this rule: only platform record writes it".into()
        }
        Source::WebSocket => format!("no WebSocket's path matches {}", rule.path.as_str()),
        Source::EventSource => format!("no event stream's path matches {}", rule.path.as_str()),
        Source::Response => format!("no request's path matches {}", rule.path.as_str()),
    }
}
