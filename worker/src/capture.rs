//! What pages fetch and what is pushed to them, passively: page events in, captured bodies and frames out, in order.
//!
//! Listens through the browser's network events; it never issues, repeats or changes a request. It must not know
//! accounts' records: what a body means is the business of the filters that come after.
//! Not seen: requests that a page's web workers make, and those of its frames from other sites, which are other
//! targets of the browser.

mod body;
mod budget;
mod clock;
mod matcher;
mod pattern;
mod report;
mod signals;
mod tap;

pub(crate) use clock::Clock;
pub use pattern::{PATTERN_BYTES_MAX, PathPattern, PatternError};
pub use report::{Captured, PageReport};
pub(crate) use report::{Reporter, ReportsClosed};
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
}

/// What is captured, and under which rule number it is reported: its place in the list of rules.
#[derive(Debug, Clone)]
pub struct CaptureRule {
    /// For people: the rule's name in the platform's file.
    pub name: String,
    /// Which kind of traffic it looks at.
    pub source: Source,
    /// The path of the URL.
    pub path: PathPattern,
    /// The status codes of a response that are taken; empty: any from 200 to 299.
    pub status: Vec<u16>,
    /// How the content type of a response must begin, for example `application/json`; any if absent.
    pub content_type: Option<String>,
}

/// The time of the wall clock in milliseconds.
fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
