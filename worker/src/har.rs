//! HAR files, as the developer tools of Chrome and Firefox export them: what a page fetched, without a browser.
//!
//! [`read`] hands over the entries of a file one by one, in bounded memory whatever the file holds. Bodies come as the
//! page saw them: out of base64, decompressed where the browser left them compressed. Knows nothing of platforms and
//! their rules.

mod body;
mod json;
mod read;
mod sse;
pub mod write;

use std::path::PathBuf;

use snapfleet_protocol::UnixMs;

pub use self::body::{EMPTY, NOT_SAVED, STREAM_NOT_SAVED};
pub use self::read::read;

/// The longest string of a HAR that is kept, in bytes as it stands in the file; the rest of a longer one is passed over.
/// Escapes and base64 make a body longer than it is: twice the largest body that is mapped.
pub const STRING_BYTES_MAX: usize = 2 * BODY_BYTES_MAX;
/// The largest body and the largest frame, in bytes.
pub const BODY_BYTES_MAX: usize = crate::capture::BODY_BYTES_MAX;
/// The most frames of one entry; more are counted and left out.
pub const FRAMES_MAX: usize = 100_000;
/// The most bytes of one entry's frames together; more are counted and left out.
pub const FRAMES_BYTES_MAX: usize = 64 * 1024 * 1024;

/// One request of a HAR with its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HarEntry {
    /// Its place in the file, from 1 on.
    pub number: usize,
    /// Bytes of the file up to its end: how far the reading is.
    pub end_byte: u64,
    /// When it was asked (`startedDateTime`); `None` where the file does not say so.
    pub started_at: Option<UnixMs>,
    /// The address that was asked, query included: it may hold secrets.
    pub url: String,
    /// The request's method, in capitals.
    pub method: String,
    /// The answer's status; 0 where there was no answer.
    pub status: u16,
    /// What the browser took the answer for, possibly with parameters; empty if unknown.
    pub mime_type: String,
    /// The answer's `content-type` header.
    pub content_type: Option<String>,
    /// What asked for it, in lower case, as Chrome names it: `fetch`, `websocket`, `eventsource`, `image`. Firefox does
    /// not say.
    pub resource_type: Option<String>,
    /// How large the browser says that the body was, in bytes; the file may hold less of it.
    pub size: Option<u64>,
    /// The answer's body.
    pub body: HarBody,
    /// What a WebSocket received, or the events of a `text/event-stream` body.
    pub frames: Vec<HarFrame>,
    /// Frames beyond [`FRAMES_MAX`] and [`FRAMES_BYTES_MAX`].
    pub frames_left_out: usize,
    /// Rule and page, where the body is what a page-state script returned (`_pageState`, an extension of our own).
    pub page_state: Option<(String, String)>,
}

impl HarEntry {
    /// Whether it is a WebSocket, whose frames count and not its answer.
    #[must_use]
    pub fn is_websocket(&self) -> bool {
        self.resource_type.as_deref() == Some("websocket")
            || self.url.starts_with("ws:")
            || self.url.starts_with("wss:")
    }

    /// Whether it is an event source for certain (`Some`), or cannot be told from other requests (`None`).
    #[must_use]
    pub fn is_event_source(&self) -> Option<bool> {
        let stream = [Some(self.mime_type.as_str()), self.content_type.as_deref()];
        let is_stream = stream.into_iter().flatten().any(sse::is_event_stream);
        match self.resource_type.as_deref() {
            Some(known) => Some(known == "eventsource"),
            None if is_stream => None,
            None => Some(false),
        }
    }
}

/// One text that was pushed to the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HarFrame {
    /// An event source's event name, `message` where it has none; `None` for a WebSocket.
    pub event: Option<String>,
    /// What it carries.
    pub body: HarBody,
}

/// A body, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HarBody {
    /// The file does not hold it; the reason names the remedy where there is one.
    Absent(&'static str),
    /// Larger than [`BODY_BYTES_MAX`]: at least so many bytes.
    TooLarge(u64),
    /// It cannot be decoded; why.
    Broken(String),
    /// As the page saw it.
    Bytes(Vec<u8>),
}

impl HarBody {
    /// The body.
    ///
    /// # Errors
    /// Why there is none, for people.
    pub fn bytes(&self) -> Result<&[u8], String> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Absent(reason) => Err((*reason).to_owned()),
            Self::TooLarge(bytes) => {
                Err(format!("body of {bytes} bytes or more is too large: at most {BODY_BYTES_MAX}"))
            }
            Self::Broken(reason) => Err(reason.clone()),
        }
    }
}

/// What a file held.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HarSummary {
    /// Entries handed over.
    pub entries: usize,
    /// Bytes read.
    pub bytes: u64,
}

/// Why a file, or the rest of it, was not read: one line that names the file and the remedy. The entries before were
/// handed over.
#[derive(Debug, thiserror::Error)]
pub enum HarError {
    /// The file cannot be read.
    #[error("{} cannot be read: {error}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file is something else than a HAR.
    #[error("{} is no HAR: {what}", path.display())]
    NotHar {
        /// Which.
        path: PathBuf,
        /// What it is, and the remedy.
        what: String,
    },
    /// The file ends too early.
    #[error("{}: the HAR ends {place}, at byte {byte}; save it again", path.display())]
    Ended {
        /// Which.
        path: PathBuf,
        /// Between or in which entries.
        place: String,
        /// Its length.
        byte: u64,
    },
    /// The file is no JSON from some place on.
    #[error("{}: the HAR cannot be read {place}, at byte {byte}: {message}; save it again", path.display())]
    Broken {
        /// Which.
        path: PathBuf,
        /// Between or in which entries.
        place: String,
        /// From where on.
        byte: u64,
        /// What is wrong.
        message: &'static str,
    },
}
