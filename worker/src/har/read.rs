//! A HAR's entries, one at a time.

use std::fs::File;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::Path;

use jiff::Timestamp;
use snapfleet_protocol::UnixMs;

use super::body::{self, Content};
use super::json::{Json, Stop};
use super::{
    BODY_BYTES_MAX, FRAMES_BYTES_MAX, FRAMES_MAX, HarBody, HarEntry, HarError, HarFrame, HarSummary,
    STRING_BYTES_MAX, sse,
};

/// The longest address that is kept whole; of a longer one the beginning.
const URL_BYTES_MAX: usize = 64 * 1024;
/// The longest word: a method, a type, a header, a name.
const WORD_BYTES_MAX: usize = 1024;

/// Reads the entries of a HAR in their order and hands each over, until `visit` breaks off. Memory stays bounded
/// whatever the file holds: one entry's body and frames at a time.
///
/// # Errors
/// [`HarError`], where the file cannot be read, is no HAR, or ends too early; what came before was handed over.
pub fn read(path: &Path, visit: &mut dyn FnMut(HarEntry) -> ControlFlow<()>) -> Result<HarSummary, HarError> {
    let failed = |error| HarError::Read { path: path.to_owned(), error };
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_dir() {
        let error = io::Error::other("it is a folder: name the .har file in it");
        return Err(failed(error));
    }
    let mut log = Log { visit, entries: 0, is_inside: false, has_entries: false };
    let mut json = Json::new(file);
    let outcome = log.read(&mut json);
    let bytes = json.byte();
    let not_har = |what: &str| HarError::NotHar { path: path.to_owned(), what: what.to_owned() };
    match outcome {
        Ok(None) if log.has_entries => Ok(HarSummary { entries: log.entries, bytes }),
        Ok(None) => Err(not_har(
            "it is JSON without log.entries: save it in the network panel of the browser's developer tools",
        )),
        Ok(Some(what)) => Err(not_har(what)),
        Err(Stop::Enough) => Ok(HarSummary { entries: log.entries, bytes }),
        Err(Stop::Failed(error)) => Err(failed(error)),
        Err(Stop::Ended) => Err(HarError::Ended { path: path.to_owned(), place: log.place(), byte: bytes }),
        Err(Stop::Bad(message)) => {
            Err(HarError::Broken { path: path.to_owned(), place: log.place(), byte: bytes, message })
        }
    }
}

struct Log<'v> {
    visit: &'v mut dyn FnMut(HarEntry) -> ControlFlow<()>,
    entries: usize,
    is_inside: bool,
    has_entries: bool,
}

impl Log<'_> {
    /// Where the reading is, for people.
    fn place(&self) -> String {
        match (self.is_inside, self.entries) {
            (true, before) => format!("in the middle of entry {}", before + 1),
            (false, 0) => "before its first entry".into(),
            (false, before) => format!("after entry {before}"),
        }
    }

    /// `Some`: it is no HAR, but this.
    fn read<R: Read>(&mut self, json: &mut Json<R>) -> Result<Option<&'static str>, Stop> {
        let start = json.start(4)?;
        let mark = if start.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        let what = what_is(start);
        if what.is_some() {
            return Ok(what);
        }
        json.advance(mark);
        match json.peek() {
            Ok(b'{') => {}
            Ok(_) => return Ok(Some(NO_HAR)),
            Err(Stop::Ended) => return Ok(Some("it is empty: save it again")),
            Err(stop) => return Err(stop),
        }
        json.object(|json, key| match key {
            b"log" => json.object(|json, key| match key {
                b"entries" => {
                    self.has_entries |= json.peek()? == b'[';
                    json.array(|json| self.next_entry(json)).map(drop)
                }
                _ => json.skip(),
            }),
            _ => json.skip(),
        })?;
        match json.peek() {
            Err(Stop::Ended) => Ok(None),
            Ok(_) => Err(Stop::Bad("something follows its end")),
            Err(stop) => Err(stop),
        }
    }

    fn next_entry<R: Read>(&mut self, json: &mut Json<R>) -> Result<(), Stop> {
        self.is_inside = true;
        let draft = Draft::read(json)?;
        self.is_inside = false;
        self.entries += 1;
        match (self.visit)(draft.finish(self.entries, json.byte())) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Stop::Enough),
        }
    }
}

const NO_HAR: &str =
    "it is no JSON object: save it in the network panel of the browser's developer tools, as HAR";

/// What a file is that begins so, where it is known to be no HAR.
fn what_is(start: &[u8]) -> Option<&'static str> {
    match start {
        [] => Some("it is empty: save it again"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [_, 0, ..] | [0, ..] => {
            Some("it is UTF-16: save it as UTF-8, as browsers do")
        }
        [0x1f, 0x8b, ..] => Some("it is compressed by gzip: decompress it first, with gunzip"),
        [b'P', b'K', 3, 4, ..] => Some("it is a zip archive: unpack it first"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some("it is compressed by zstd: decompress it first, with unzstd"),
        [b'<', ..] => Some("it is HTML or XML: save it in the network panel of the developer tools, as HAR"),
        _ => None,
    }
}

/// An entry as far as it is read.
#[derive(Default)]
struct Draft {
    started_at: Option<UnixMs>,
    url: String,
    method: String,
    status: u16,
    content: Content,
    content_type: Option<String>,
    resource_type: Option<String>,
    frames: Frames,
    page_state: Option<(String, String)>,
}

impl Draft {
    fn read<R: Read>(json: &mut Json<R>) -> Result<Self, Stop> {
        let mut draft = Self::default();
        json.object(|json, key| match key {
            b"startedDateTime" => {
                let asked = word(json)?.and_then(|text| text.trim().parse::<Timestamp>().ok());
                draft.started_at = asked.map(|at| UnixMs(at.as_millisecond()));
                Ok(())
            }
            b"request" => draft.request(json),
            b"response" => draft.response(json),
            b"_resourceType" => {
                draft.resource_type = word(json)?.map(|word| word.to_ascii_lowercase());
                Ok(())
            }
            b"_webSocketMessages" => json.array(|json| draft.frames.read(json)).map(drop),
            b"_pageState" => draft.page_state(json),
            _ => json.skip(),
        })?;
        Ok(draft)
    }

    fn request<R: Read>(&mut self, json: &mut Json<R>) -> Result<(), Stop> {
        json.object(|json, key| {
            match key {
                b"url" => self.url = json.text(URL_BYTES_MAX)?.unwrap_or_default().into_string(),
                b"method" => self.method = word(json)?.unwrap_or_default().to_ascii_uppercase(),
                _ => json.skip()?,
            }
            Ok(())
        })
    }

    fn response<R: Read>(&mut self, json: &mut Json<R>) -> Result<(), Stop> {
        json.object(|json, key| match key {
            b"status" => {
                self.status = json.number()?.map_or(0, |status| status as u16);
                Ok(())
            }
            b"headers" => json.array(|json| self.header(json)).map(drop),
            b"content" => self.content(json),
            _ => json.skip(),
        })
    }

    fn header<R: Read>(&mut self, json: &mut Json<R>) -> Result<(), Stop> {
        let (mut name, mut value) = (String::new(), String::new());
        json.object(|json, key| {
            match key {
                b"name" => name = word(json)?.unwrap_or_default().to_ascii_lowercase(),
                b"value" => value = word(json)?.unwrap_or_default(),
                _ => json.skip()?,
            }
            Ok(())
        })?;
        match name.as_str() {
            "content-type" => self.content_type = Some(value),
            "content-encoding" => self.content.encoding = value,
            _ => {}
        }
        Ok(())
    }

    fn content<R: Read>(&mut self, json: &mut Json<R>) -> Result<(), Stop> {
        let content = &mut self.content;
        json.object(|json, key| {
            match key {
                b"text" => content.text = json.text(STRING_BYTES_MAX)?,
                b"encoding" => {
                    content.is_base64 = word(json)?.is_some_and(|word| word.eq_ignore_ascii_case("base64"));
                }
                b"mimeType" => content.mime_type = word(json)?.unwrap_or_default(),
                b"size" => content.size = json.number()?.filter(|size| *size >= 0.0).map(|size| size as u64),
                _ => json.skip()?,
            }
            Ok(())
        })
    }

    fn page_state<R: Read>(&mut self, json: &mut Json<R>) -> Result<(), Stop> {
        let (mut rule, mut page) = (None, None);
        json.object(|json, key| {
            match key {
                b"rule" => rule = word(json)?,
                b"page" => page = word(json)?,
                _ => json.skip()?,
            }
            Ok(())
        })?;
        self.page_state = rule.zip(page);
        Ok(())
    }

    fn finish(mut self, number: usize, end_byte: u64) -> HarEntry {
        let size = self.content.size;
        let mime_type = self.content.mime_type.clone();
        let mut entry = HarEntry {
            number,
            end_byte,
            started_at: self.started_at,
            url: self.url,
            method: self.method,
            status: self.status,
            mime_type,
            content_type: self.content_type,
            resource_type: self.resource_type,
            size,
            body: HarBody::Absent(body::EMPTY),
            frames: Vec::new(),
            frames_left_out: 0,
            page_state: self.page_state,
        };
        let is_stream = entry.is_event_source() != Some(false);
        if !entry.is_websocket() {
            entry.body = body::decode(self.content, is_stream);
        }
        if let (true, HarBody::Bytes(bytes)) = (is_stream, &entry.body) {
            sse::parse(bytes, &mut self.frames);
        }
        entry.frames = self.frames.list;
        entry.frames_left_out = self.frames.left_out;
        entry
    }
}

fn word<R: Read>(json: &mut Json<R>) -> Result<Option<String>, Stop> {
    Ok(json.text(WORD_BYTES_MAX)?.map(super::json::Text::into_string))
}

/// What was pushed, within bounds.
#[derive(Default)]
pub(super) struct Frames {
    pub(super) list: Vec<HarFrame>,
    bytes: usize,
    pub(super) left_out: usize,
}

impl Frames {
    pub(super) fn push(&mut self, frame: HarFrame) {
        let bytes = if let HarBody::Bytes(bytes) = &frame.body { bytes.len() } else { 0 };
        if self.list.len() == FRAMES_MAX || self.bytes + bytes > FRAMES_BYTES_MAX {
            self.left_out += 1;
            return;
        }
        self.bytes += bytes;
        self.list.push(frame);
    }

    /// One of Chrome's `_webSocketMessages`: what was received of text and bytes.
    fn read<R: Read>(&mut self, json: &mut Json<R>) -> Result<(), Stop> {
        const TEXT: u8 = 1;
        const BINARY: u8 = 2;
        let (mut kind, mut opcode, mut data) = (None, TEXT, None);
        let is_full = self.list.len() == FRAMES_MAX || self.bytes >= FRAMES_BYTES_MAX;
        let bytes_max = if is_full { 0 } else { STRING_BYTES_MAX };
        json.object(|json, key| {
            match key {
                b"type" => kind = word(json)?,
                b"opcode" => opcode = json.number()?.map_or(TEXT, |opcode| opcode as u8),
                b"data" => data = json.text(bytes_max)?,
                _ => json.skip()?,
            }
            Ok(())
        })?;
        let Some(text) = data.filter(|_| kind.as_deref() == Some("receive")) else { return Ok(()) };
        if is_full {
            self.left_out += 1;
            return Ok(());
        }
        let body = match opcode {
            _ if text.is_cut => HarBody::TooLarge(text.raw_bytes),
            TEXT => HarBody::Bytes(text.bytes),
            BINARY => body::from_base64(text.bytes).map_or_else(HarBody::Broken, HarBody::Bytes),
            // Opening, closing, ping and pong.
            _ => return Ok(()),
        };
        let body = match body {
            HarBody::Bytes(bytes) if bytes.len() > BODY_BYTES_MAX => HarBody::TooLarge(bytes.len() as u64),
            body => body,
        };
        self.push(HarFrame { event: None, body });
        Ok(())
    }
}
