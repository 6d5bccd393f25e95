//! A HAR 1.2 file, written entry by entry: after each it is whole, so that a run that is cut off leaves one that reads.
//!
//! Writes what it is given. What may be written at all is decided by [`crate::record`].

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

/// What closes the file after the last entry.
const TAIL: &[u8] = b"\n]}}\n";

/// What one entry tells.
#[derive(Debug, Clone, Serialize)]
pub struct Written {
    /// When it was the page's, in milliseconds since 1970.
    pub at_ms: i64,
    /// The address.
    pub url: String,
    /// The request's method.
    pub method: String,
    /// The answer's status.
    pub status: u16,
    /// The answer's media type.
    pub mime_type: String,
    /// What it is.
    pub content: Content,
}

/// What an entry holds.
#[derive(Debug, Clone, Serialize)]
pub enum Content {
    /// A response's body.
    Body(String),
    /// A response whose body is left out, of so many bytes.
    LeftOut {
        /// Its length.
        bytes: usize,
        /// Why.
        reason: &'static str,
    },
    /// A text frame that a WebSocket received.
    Frame(String),
    /// One event of an event source.
    Event {
        /// Its name.
        name: String,
        /// Its data.
        data: String,
    },
    /// What a page-state script returned.
    PageState {
        /// The rule's name.
        rule: String,
        /// The page's.
        page: String,
        /// The JSON.
        body: String,
    },
}

impl Written {
    /// The entry as JSON. No header but the content type, no cookie.
    #[must_use]
    pub fn to_json(&self) -> String {
        let started = Timestamp::from_millisecond(self.at_ms).unwrap_or_default().to_string();
        let (resource, mime_type) = match self.content {
            Content::Frame(_) => ("websocket", "x-unknown"),
            Content::Event { .. } => ("eventsource", "text/event-stream"),
            Content::Body(_) | Content::LeftOut { .. } if self.mime_type.starts_with("text/html") => {
                ("document", self.mime_type.as_str())
            }
            _ => ("fetch", self.mime_type.as_str()),
        };
        let mut content = json!({ "size": 0, "mimeType": mime_type });
        match &self.content {
            Content::Body(text) | Content::PageState { body: text, .. } => {
                (content["size"], content["text"]) = (text.len().into(), text.as_str().into());
            }
            Content::LeftOut { bytes, reason } => {
                (content["size"], content["comment"]) = ((*bytes).into(), (*reason).into());
            }
            Content::Event { name, data } => {
                let lines: String = data.split('\n').map(|line| format!("data: {line}\n")).collect();
                let text = format!("event: {name}\n{lines}\n");
                (content["size"], content["text"]) = (text.len().into(), text.into());
            }
            Content::Frame(_) => {}
        }
        let headers = if mime_type.is_empty() || mime_type == "x-unknown" {
            json!([])
        } else {
            json!([{ "name": "content-type", "value": mime_type }])
        };
        let mut entry = json!({
            "startedDateTime": started,
            "time": 0,
            "request": {
                "method": self.method, "url": self.url, "httpVersion": "", "cookies": [], "headers": [],
                "queryString": [], "headersSize": -1, "bodySize": -1,
            },
            "response": {
                "status": self.status, "statusText": "", "httpVersion": "", "cookies": [], "headers": headers,
                "content": content, "redirectURL": "", "headersSize": -1, "bodySize": -1,
            },
            "cache": {},
            "timings": { "send": 0, "wait": 0, "receive": 0 },
            "_resourceType": resource,
        });
        match &self.content {
            Content::Frame(data) => {
                let time = self.at_ms as f64 / 1000.0;
                entry["_webSocketMessages"] =
                    json!([{ "type": "receive", "time": time, "opcode": 1, "data": data }]);
            }
            Content::PageState { rule, page, .. } => {
                entry["_pageState"] = json!({ "rule": rule, "page": page });
            }
            _ => {}
        }
        entry.to_string()
    }
}

/// What came of adding an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// It is in the file.
    Yes,
    /// It would make the file larger than it may be.
    Full,
}

/// The file.
#[derive(Debug)]
pub struct HarWriter {
    file: File,
    /// Where the next entry goes.
    end: u64,
    entries: usize,
    bytes_max: u64,
}

impl HarWriter {
    /// Makes the file, which must not exist, for its owner alone; at most `bytes_max` bytes go into it.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn create(path: &Path, bytes_max: u64) -> io::Result<Self> {
        let file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
        let creator = json!({ "name": "snapfleet-worker", "version": env!("CARGO_PKG_VERSION") });
        let head = format!(r#"{{"log":{{"version":"1.2","creator":{creator},"pages":[],"entries":["#);
        let mut writer = Self { file, end: 0, entries: 0, bytes_max };
        writer.put(head.as_bytes())?;
        Ok(writer)
    }

    /// Adds an entry as [`Written::to_json`] gives it.
    ///
    /// # Errors
    /// What the operating system says; the entry may be in the file in part then.
    pub fn add(&mut self, entry: &str) -> io::Result<Added> {
        let separator = if self.entries == 0 { "\n" } else { ",\n" };
        let text = [separator.as_bytes(), entry.as_bytes()].concat();
        if self.end + (text.len() + TAIL.len()) as u64 > self.bytes_max {
            return Ok(Added::Full);
        }
        self.put(&text)?;
        self.entries += 1;
        Ok(Added::Yes)
    }

    /// How many entries it holds, and how many bytes it is long.
    #[must_use]
    pub fn len(&self) -> (usize, u64) {
        (self.entries, self.end + TAIL.len() as u64)
    }

    /// In one write, over the tail that closes the file so far.
    fn put(&mut self, text: &[u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.end))?;
        self.file.write_all(&[text, TAIL].concat())?;
        self.end += text.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;
    use crate::har::{HarBody, HarEntry, read};

    fn written(content: Content) -> Written {
        Written {
            at_ms: 1_790_000_000_123,
            url: "https://a.example/x?n=1".into(),
            method: "POST".into(),
            status: 201,
            mime_type: "application/json".into(),
            content,
        }
    }

    fn entries(path: &Path) -> Vec<HarEntry> {
        let mut entries = Vec::new();
        read(path, &mut |entry| {
            entries.push(entry);
            ControlFlow::Continue(())
        })
        .unwrap();
        entries
    }

    #[test]
    fn the_file_reads_after_each_entry_and_holds_what_was_given() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.har");
        let mut writer = HarWriter::create(&path, 1 << 20).unwrap();
        assert!(HarWriter::create(&path, 1 << 20).is_err(), "an existing file is left alone");
        assert_eq!(entries(&path).len(), 0);
        let contents = [
            Content::Body("{\"a\":\"é\"}".into()),
            Content::LeftOut { bytes: 7, reason: "not data" },
            Content::Frame("{\"n\":1}".into()),
            Content::Event { name: "note".into(), data: "one\ntwo".into() },
            Content::PageState { rule: "r".into(), page: "p".into(), body: "[]".into() },
        ];
        for (count, content) in contents.into_iter().enumerate() {
            assert_eq!(writer.add(&written(content).to_json()).unwrap(), Added::Yes);
            assert_eq!(entries(&path).len(), count + 1);
        }
        let read = entries(&path);
        assert_eq!(
            (read[0].url.as_str(), read[0].method.as_str(), read[0].status),
            ("https://a.example/x?n=1", "POST", 201)
        );
        assert_eq!(read[0].body, HarBody::Bytes("{\"a\":\"é\"}".into()));
        assert!(matches!(read[1].body, HarBody::Absent(_)), "{:?}", read[1].body);
        assert!(read[2].is_websocket());
        assert_eq!(read[2].frames[0].body, HarBody::Bytes(b"{\"n\":1}".to_vec()));
        assert_eq!(read[3].is_event_source(), Some(true));
        assert_eq!(read[3].frames[0].event.as_deref(), Some("note"));
        assert_eq!(read[3].frames[0].body, HarBody::Bytes(b"one\ntwo".to_vec()));
        assert_eq!(read[4].page_state, Some(("r".into(), "p".into())));
        assert_eq!(writer.len(), (5, std::fs::metadata(&path).unwrap().len()));
    }

    #[test]
    fn the_file_is_no_larger_than_it_may_be() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.har");
        let mut writer = HarWriter::create(&path, 2_000).unwrap();
        let entry = written(Content::Body("x".repeat(500))).to_json();
        let mut added = 0;
        while writer.add(&entry).unwrap() == Added::Yes {
            added += 1;
        }
        assert!(added > 0 && std::fs::metadata(&path).unwrap().len() <= 2_000);
        assert_eq!(entries(&path).len(), added);
    }
}
