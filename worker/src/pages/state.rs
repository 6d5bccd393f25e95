//! What a page keeps in itself: reads it with the scripts of the page-state rules, each at its own pace, and reports
//! what is new.
//!
//! Reading drives nothing: it goes on while the account is not held. It must not know what a value means.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use chromiumoxide::cdp::js_protocol::runtime::{EvaluateParams, TerminateExecutionParams, TimeDelta};
use futures_util::future::join_all;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_128;

use super::PagePlan;
use crate::browser::{CallError, Tab};
use crate::capture::{
    BODY_BYTES_MAX, Budget, CaptureRule, Captured, PageReport, Reporter, ReportsClosed, Source,
};
use crate::roster::now;

/// How long a script may hold up its page; it is ended then.
const HOLD_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a script may take to its result. One that takes longer is not run again in this document before it ends.
const RUN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the browser may take to answer. A page that is held up for this long is about to lose its tab; before
/// that, whatever runs in it is ended.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a script rests that has held up its page; doubled each time up to the longest.
const REST_MIN: Duration = Duration::from_secs(60);
const REST_MAX: Duration = Duration::from_secs(600);
/// With this and nothing more the browser tells that it has ended a script.
const ENDED: &str = "-32603";
/// How often the same failure is told; all are counted.
const TELL_AGAIN: Duration = Duration::from_secs(60);
/// Where the page keeps which scripts run in it.
const KEY: &str = "snapfleet.page_state";
/// The longest message of a script that is told, in characters.
const MESSAGE_LEN_MAX: usize = 200;
/// Bytes of values that wait for the consumer, for each tab. Beyond it, a value is read again later.
const WAITING_BYTES_MAX: usize = 2 * BODY_BYTES_MAX;

/// What one run of a script gave.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    /// There is no document to read yet.
    NotReady,
    /// Nothing to tell.
    Nothing,
    /// The value's text; it is taken out before the rest is read.
    Value,
    /// The value's text would have this many characters or bytes.
    TooLarge(f64),
    /// It threw this.
    Threw(String),
    /// It has not ended in time.
    Late,
    /// An earlier run has not ended yet.
    Busy,
}

#[derive(Debug, Deserialize)]
struct Run {
    outcome: Outcome,
    #[serde(default)]
    text: String,
    /// Where it was read: without its fragment.
    url: String,
    /// When its document began; with the address, what tells two documents apart.
    origin_ms: f64,
    /// When it was read.
    at_ms: f64,
}

/// Why a run gave nothing.
enum Trouble {
    /// The tab has no document at the moment, or is gone; whoever drives it will notice.
    Tab,
    /// The script did something wrong.
    Failed { url: String, reason: String },
    /// It held up its page, and was ended.
    Hung(String),
    /// The page did not answer: this script holds it up, or another one, or the page itself.
    Unanswered,
}

/// Reads the state of the page until nobody takes reports any more.
pub(super) async fn read(
    tab: &Tab,
    page: &PagePlan,
    rules: &[CaptureRule],
    reporter: &Reporter,
) -> ReportsClosed {
    let budget = Budget::new(WAITING_BYTES_MAX);
    let terminated = Mutex::new(None);
    let readers = rules.iter().enumerate().filter_map(|(rule, spec)| {
        let runs_here = spec.pages.is_empty() || spec.pages.contains(&page.name);
        let script = spec.script.as_deref().filter(|_| spec.source == Source::PageState && runs_here)?;
        let reader = Reader {
            tab,
            page,
            rule,
            spec,
            script: wrap(rule, script),
            reporter,
            budget: budget.clone(),
            last: None,
            told: None,
            rest: REST_MIN,
            began_ms: 0,
            ended: false,
            unanswered: false,
            terminated: &terminated,
        };
        Some(reader.run())
    });
    // Each ends only when the consumer is gone.
    let ended = join_all(readers).await;
    match ended.into_iter().next() {
        Some(closed) => closed,
        None => std::future::pending().await,
    }
}

struct Reader<'a> {
    tab: &'a Tab,
    page: &'a PagePlan,
    rule: usize,
    spec: &'a CaptureRule,
    script: String,
    reporter: &'a Reporter,
    budget: Budget,
    /// The document, and the hash of what was reported of it last.
    last: Option<(String, u64, u128)>,
    /// The failure that was told last, and when.
    told: Option<(String, Instant)>,
    rest: Duration,
    /// When the last run was begun, by the wall clock.
    began_ms: i64,
    /// The last run was ended: it cannot say so any more in its page.
    ended: bool,
    /// The page did not answer last time. If a run is still under way then, it is the one that was ended.
    unanswered: bool,
    /// When a page that did not answer was last made to go on.
    terminated: &'a Mutex<Option<Instant>>,
}

impl Reader<'_> {
    async fn run(mut self) -> ReportsClosed {
        loop {
            let begun = Instant::now();
            let mut next = begun + self.spec.every;
            let mut ran = self.evaluate().await;
            if self.unanswered && matches!(ran, Ok(Run { outcome: Outcome::Busy, .. })) {
                ran = Err(Trouble::Hung("its script held up the page, or never ends".to_owned()));
            }
            let report = match ran {
                Ok(run) => {
                    self.unanswered = false;
                    self.report(run)
                }
                Err(Trouble::Tab) => None,
                Err(Trouble::Failed { url, reason }) => Some(self.failed(url, reason)),
                Err(Trouble::Hung(reason)) => {
                    (self.ended, self.unanswered) = (true, false);
                    let rest = self.rest;
                    self.rest = (rest * 2).min(REST_MAX);
                    next = begun + self.spec.every.max(rest);
                    Some(self.failed(String::new(), format!("{reason}; it rests for {} s", rest.as_secs())))
                }
                Err(Trouble::Unanswered) => {
                    self.unanswered = true;
                    let reason = format!("the page did not answer for {} s", CALL_TIMEOUT.as_secs());
                    Some(self.failed(String::new(), reason))
                }
            };
            if let Some(report) = report
                && let Err(closed) = self.reporter.send(report).await
            {
                return closed;
            }
            // What is slow is not made up for.
            tokio::time::sleep_until(next.max(Instant::now() + self.spec.every / 2)).await;
        }
    }

    /// Runs the script once.
    async fn evaluate(&mut self) -> Result<Run, Trouble> {
        let browser = self.tab.browser();
        let forget = format!("window[Symbol.for({KEY:?})]?.delete({});", self.rule);
        let forget = if std::mem::take(&mut self.ended) { forget } else { String::new() };
        let mut params = EvaluateParams::new(forget + &self.script);
        params.return_by_value = Some(true);
        params.await_promise = Some(true);
        params.timeout = Some(TimeDelta::new(HOLD_TIMEOUT.as_secs_f64() * 1000.0));
        self.began_ms = now().0;
        let call = self.tab.page().execute(params);
        let answer = match browser.call_within("read page state", CALL_TIMEOUT, call).await {
            Ok(answer) => answer.result,
            Err(CallError::Timeout { .. }) => {
                self.terminate().await;
                return Err(Trouble::Unanswered);
            }
            // Between two documents, the browser refuses.
            Err(CallError::Refused { reason, .. }) if reason.contains(ENDED) => {
                let seconds = HOLD_TIMEOUT.as_secs();
                return Err(Trouble::Hung(format!("its script held up the page for {seconds} s")));
            }
            Err(CallError::Refused { .. } | CallError::Gone { .. } | CallError::Died) => {
                return Err(Trouble::Tab);
            }
        };
        if let Some(exception) = answer.exception_details {
            let thrown = exception.exception;
            let text = thrown.and_then(|thrown| thrown.description).unwrap_or(exception.text);
            let reason = threw(text.lines().next().unwrap_or_default());
            return Err(Trouble::Failed { url: String::new(), reason });
        }
        let mut value = answer.result.value.unwrap_or_default();
        // Taken out rather than read, so that a large one is not copied.
        let text = value.as_object_mut().and_then(|run| run.remove("text"));
        let failed = |reason: &dyn std::fmt::Display| Trouble::Failed {
            url: String::new(),
            reason: format!("its script's result cannot be read: {reason}"),
        };
        let run: Run = serde_json::from_value(value).map_err(|error| failed(&error))?;
        match (text, &run.outcome) {
            (Some(Value::String(text)), _) => Ok(Run { text, ..run }),
            (_, Outcome::Value) => Err(failed(&"the page's own JSON.stringify gives no text")),
            _ => Ok(run),
        }
    }

    /// Ends whatever holds up the page, which would lose its tab otherwise; once, whoever finds it out.
    async fn terminate(&self) {
        let now = Instant::now();
        let last = self.terminated.lock().unwrap_or_else(PoisonError::into_inner).replace(now);
        if last.is_some_and(|last| now - last < CALL_TIMEOUT) {
            return;
        }
        let call = self.tab.page().execute(TerminateExecutionParams::default());
        match self.tab.browser().call("end a script", call).await {
            Ok(_) | Err(CallError::Died | CallError::Gone { .. }) => {}
            Err(error) => {
                tracing::warn!(account.id = %self.reporter.account(), page.name = self.page.name, %error,
                    "a page that does not answer is left to itself");
            }
        }
    }

    /// What follows from one run, if it is worth telling.
    fn report(&mut self, run: Run) -> Option<PageReport> {
        let reason = match run.outcome {
            Outcome::NotReady | Outcome::Nothing => return None,
            Outcome::Value if run.text.len() > BODY_BYTES_MAX => too_large(run.text.len() as f64),
            Outcome::Value => return self.value(run),
            Outcome::TooLarge(size) => too_large(size),
            Outcome::Threw(message) => threw(&message),
            Outcome::Late => format!("its script has not ended within {} s", RUN_TIMEOUT.as_secs()),
            Outcome::Busy => "its script has not ended since it was run before".to_owned(),
        };
        Some(self.failed(run.url, reason))
    }

    fn value(&mut self, run: Run) -> Option<PageReport> {
        self.rest = REST_MIN;
        // The page's clock is what the page makes of it, and a time in the future would outdate all that comes later. A
        // cast of a number out of range gives the nearest one.
        let at_ms = (run.at_ms as i64).max(self.began_ms).min(now().0);
        let seen = (run.url.clone(), run.origin_ms.to_bits(), xxh3_128(run.text.as_bytes()));
        if self.last.as_ref() == Some(&seen) {
            return Some(PageReport::Unchanged { rule: self.rule, at_ms });
        }
        // Without room it counts as not read.
        let body = self.budget.try_hold(Bytes::from(run.text))?;
        self.last = Some(seen);
        Some(PageReport::Captured(Captured {
            rule: self.rule,
            url: run.url,
            event: None,
            method: None,
            status: None,
            mime_type: None,
            page: Some(self.page.name.clone()),
            body,
            captured_at_ms: at_ms,
        }))
    }

    fn failed(&mut self, url: String, reason: String) -> PageReport {
        let is_known = |(told, at): &(String, Instant)| *told == reason && at.elapsed() < TELL_AGAIN;
        if self.told.as_ref().is_some_and(is_known) {
            return PageReport::FailedAgain { rule: self.rule };
        }
        self.told = Some((reason.clone(), Instant::now()));
        PageReport::CaptureFailed { rule: Some(self.rule), url, reason }
    }
}

fn too_large(size: f64) -> String {
    format!("its value of {size} bytes or characters is more than {BODY_BYTES_MAX} bytes")
}

/// What a script threw, without what it quotes: the engine's own messages quote what could not be read.
fn threw(message: &str) -> String {
    let told = match message.split_once('"') {
        Some((before, quoted)) => {
            let after = quoted.rsplit_once('"').map_or("", |(_, after)| after);
            format!("its script: {before}\"...\"{after}")
        }
        None => format!("its script: {message}"),
    };
    told.chars().take(MESSAGE_LEN_MAX).collect()
}

/// The script with what bounds it in the page: one run at a time, in time, measured before it is sent.
fn wrap(rule: usize, script: &str) -> String {
    let script = script.trim_end().trim_end_matches(';');
    format!(
        r#"(async () => {{
    const run = {{ url: location.href.split('#')[0], origin_ms: performance.timeOrigin, at_ms: Date.now() }};
    if (document.readyState === 'loading' || run.url === 'about:blank') return {{ ...run, outcome: 'not_ready' }};
    const key = Symbol.for({KEY:?});
    if (!window[key]) Object.defineProperty(window, key, {{ value: new Set() }});
    const running = window[key];
    if (running.has({rule})) return {{ ...run, outcome: 'busy' }};
    running.add({rule});
    let timer;
    const late = new Promise(done => {{ timer = setTimeout(() => done(key), {limit_ms}); }});
    try {{
        const ended = (async () => (
{script}
        )())().finally(() => running.delete({rule}));
        const value = await Promise.race([ended, late]);
        if (value === key) return {{ ...run, outcome: 'late' }};
        run.at_ms = performance.timeOrigin + performance.now();
        const text = JSON.stringify(value);
        if (text === undefined || text === 'null') return {{ ...run, outcome: 'nothing' }};
        let size = text.length;
        if (size <= {bytes_max} && size * 3 > {bytes_max}) size = new TextEncoder().encode(text).length;
        if (size > {bytes_max}) return {{ ...run, outcome: {{ too_large: size }} }};
        return {{ ...run, outcome: 'value', text }};
    }} catch (error) {{
        return {{ ...run, outcome: {{ threw: String(error).slice(0, {message_max}) }} }};
    }} finally {{
        clearTimeout(timer);
    }}
}})()"#,
        limit_ms = RUN_TIMEOUT.as_millis(),
        bytes_max = BODY_BYTES_MAX,
        message_max = MESSAGE_LEN_MAX,
    )
}
