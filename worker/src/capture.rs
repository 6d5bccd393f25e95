//! What pages fetch and what is pushed to them, passively: page events in, captured bodies and frames out, in order.
//! What pages keep in themselves is read by [`crate::pages`], under rules that stand here, too.
//!
//! Listens through the browser's network events; it never issues, repeats or changes a request. It must not know
//! accounts' records: what a body means is the business of the filters that come after.
//! Not seen: requests that a page's web workers make, and those of its frames from other sites, which are other
//! targets of the browser.

mod body;
mod budget;
mod clock;
mod host;
mod matcher;
mod methods;
mod pattern;
mod report;
mod signals;
mod takes;
mod tap;
mod wanted;

use std::sync::Arc;
use std::time::Duration;

pub(crate) use budget::Budget;
pub(crate) use clock::Clock;
pub use host::{HOST_BYTES_MAX, HostError, HostPattern};
pub use pattern::{PATTERN_BYTES_MAX, PathPattern, PatternError};
pub use report::{Captured, PageReport};
pub(crate) use report::{Reporter, ReportsClosed};
pub(crate) use takes::{Miss, Traffic};
pub(crate) use tap::Tap;

/// The largest body or frame that is taken, in bytes. A larger one is reported as failed.
pub const BODY_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Where a captured text comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The body of a response.
    Response,
    /// One event of an `EventSource`.
    EventSource,
    /// One frame of a `WebSocket`.
    WebSocket,
    /// What a script finds in the page.
    PageState,
}

/// How often a page-state script runs unless its rule says otherwise.
pub const PAGE_STATE_EVERY: Duration = Duration::from_secs(1);

/// What is captured, and under which rule number it is reported: its place in the list of rules.
#[derive(Debug, Clone)]
pub struct CaptureRule {
    /// For people: the rule's name in the platform's file.
    pub name: String,
    /// Which kind of traffic it looks at.
    pub source: Source,
    /// The path of the URL; it does not matter for page state.
    pub path: PathPattern,
    /// The host of the URL; any if absent.
    pub host: Option<HostPattern>,
    /// The methods, in capitals, of which a response's request, after all redirects, must have one; empty: any.
    pub methods: Vec<String>,
    /// The status codes of a response that are taken; empty: any from 200 to 299.
    pub status: Vec<u16>,
    /// How the content type of a response must begin, for example `application/json`; any if absent.
    pub content_type: Option<String>,
    /// The JavaScript function that tells a page's state; a page-state rule without one does nothing.
    pub script: Option<Arc<str>>,
    /// The names of the pages on which the script runs; empty: on all.
    pub pages: Vec<String>,
    /// How often the script runs.
    pub every: Duration,
}

impl CaptureRule {
    /// One without further conditions.
    #[must_use]
    pub fn new(name: impl Into<String>, source: Source, path: PathPattern) -> Self {
        Self {
            name: name.into(),
            source,
            path,
            host: None,
            methods: Vec::new(),
            status: Vec::new(),
            content_type: None,
            script: None,
            pages: Vec::new(),
            every: PAGE_STATE_EVERY,
        }
    }
}

/// The time of the wall clock in milliseconds.
fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
