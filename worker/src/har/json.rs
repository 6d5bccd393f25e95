//! JSON read off a stream, piece by piece: only what is asked for is kept, up to a bound, and what is not asked for is
//! passed over without being built, however long or deep it is. Memory is one buffer and the strings kept.
//!
//! A value that is passed over is followed by its quotes and brackets alone; it is not checked to be JSON.

use std::io::{self, Read};

use memchr::{memchr, memchr2};

use crate::escapes::code_unit;

const BUFFER_BYTES: usize = 256 * 1024;
/// The longest key that is told apart from others.
const KEY_BYTES_MAX: usize = 256;
/// The longest number.
const NUMBER_BYTES_MAX: usize = 64;

/// Why reading ended.
#[derive(Debug)]
pub(super) enum Stop {
    /// The source failed.
    Failed(io::Error),
    /// The source ended inside a value.
    Ended,
    /// It is no JSON here.
    Bad(&'static str),
    /// The caller has enough.
    Enough,
}

/// A string, or the beginning of one.
#[derive(Debug, Default)]
pub(super) struct Text {
    /// Its bytes, unescaped; UTF-8 where the file is.
    pub(super) bytes: Vec<u8>,
    /// Its length as it stands in the file.
    pub(super) raw_bytes: u64,
    /// Whether it was longer than what was kept.
    pub(super) is_cut: bool,
}

impl Text {
    pub(super) fn into_string(self) -> String {
        String::from_utf8(self.bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }
}

/// A stream of JSON and the place in it.
pub(super) struct Json<R> {
    source: R,
    buffer: Box<[u8]>,
    at: usize,
    end: usize,
    /// Bytes of the source before the buffer.
    before: u64,
}

impl<R: Read> Json<R> {
    pub(super) fn new(source: R) -> Self {
        Self { source, buffer: vec![0; BUFFER_BYTES].into(), at: 0, end: 0, before: 0 }
    }

    /// How many bytes are read.
    pub(super) fn byte(&self) -> u64 {
        self.before + self.at as u64
    }

    /// The first bytes, at least `wanted` of them where the source has as many; to be called before anything else.
    pub(super) fn start(&mut self, wanted: usize) -> Result<&[u8], Stop> {
        while self.end < wanted {
            match self.source.read(&mut self.buffer[self.end..]) {
                Ok(0) => break,
                Ok(bytes) => self.end += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Stop::Failed(error)),
            }
        }
        Ok(&self.buffer[..self.end])
    }

    /// Passes over bytes that [`Json::start`] has shown.
    pub(super) fn advance(&mut self, bytes: usize) {
        self.at = (self.at + bytes).min(self.end);
    }

    /// Reads an object and hands over each key; what `each` does not read of its value, it has to [`Json::skip`].
    /// Passes over what is no object.
    pub(super) fn object(
        &mut self,
        mut each: impl FnMut(&mut Self, &[u8]) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        if self.peek()? != b'{' {
            return self.skip();
        }
        self.at += 1;
        if self.peek()? == b'}' {
            self.at += 1;
            return Ok(());
        }
        loop {
            if self.peek()? != b'"' {
                return Err(Stop::Bad("a key was expected"));
            }
            let key = self.string(KEY_BYTES_MAX)?;
            if self.next()? != b':' {
                return Err(Stop::Bad("a colon was expected"));
            }
            each(self, &key.bytes)?;
            match self.next()? {
                b',' => {}
                b'}' => return Ok(()),
                _ => return Err(Stop::Bad("a comma or } was expected")),
            }
        }
    }

    /// Reads a list; `each` has to read or skip one value. Passes over what is no list, and tells so.
    pub(super) fn array(
        &mut self,
        mut each: impl FnMut(&mut Self) -> Result<(), Stop>,
    ) -> Result<bool, Stop> {
        if self.peek()? != b'[' {
            return self.skip().map(|()| false);
        }
        self.at += 1;
        if self.peek()? == b']' {
            self.at += 1;
            return Ok(true);
        }
        loop {
            each(self)?;
            match self.next()? {
                b',' => {}
                b']' => return Ok(true),
                _ => return Err(Stop::Bad("a comma or ] was expected")),
            }
        }
    }

    /// Reads a string and keeps at most `bytes_max` of it; passes over what is no string.
    pub(super) fn text(&mut self, bytes_max: usize) -> Result<Option<Text>, Stop> {
        match self.peek()? {
            b'"' => self.string(bytes_max).map(Some),
            _ => self.skip().map(|()| None),
        }
    }

    /// Reads a number; passes over what is none.
    pub(super) fn number(&mut self) -> Result<Option<f64>, Stop> {
        match self.peek()? {
            b'-' | b'0'..=b'9' => {
                let digits = self.scalar()?;
                Ok(std::str::from_utf8(&digits).ok().and_then(|text| text.parse().ok()))
            }
            _ => self.skip().map(|()| None),
        }
    }

    /// Passes over one value.
    pub(super) fn skip(&mut self) -> Result<(), Stop> {
        match self.peek()? {
            b'"' => self.string(0).map(drop),
            b'{' | b'[' => self.skip_nested(),
            _ => self.scalar().map(drop),
        }
    }

    /// The next byte that is no white space, which stays.
    pub(super) fn peek(&mut self) -> Result<u8, Stop> {
        loop {
            let rest = self.rest()?;
            match rest.iter().position(|byte| !byte.is_ascii_whitespace()) {
                Some(at) => {
                    let found = rest[at];
                    self.at += at;
                    return Ok(found);
                }
                None => self.at = self.end,
            }
        }
    }

    fn next(&mut self) -> Result<u8, Stop> {
        let byte = self.peek()?;
        self.at += 1;
        Ok(byte)
    }

    /// What is buffered, at least one byte.
    fn rest(&mut self) -> Result<&[u8], Stop> {
        while self.at == self.end {
            match self.source.read(&mut self.buffer) {
                Ok(0) => return Err(Stop::Ended),
                Ok(bytes) => {
                    self.before += self.end as u64;
                    (self.at, self.end) = (0, bytes);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Stop::Failed(error)),
            }
        }
        Ok(&self.buffer[self.at..self.end])
    }

    /// A string, from its opening quote on.
    fn string(&mut self, bytes_max: usize) -> Result<Text, Stop> {
        self.at += 1;
        let mut text = Text::default();
        let (mut is_open, mut is_escaped) = (true, false);
        while is_open {
            let rest = self.rest()?;
            let used;
            (used, is_open) = string_part(rest, &mut is_escaped);
            let inside = if is_open { used } else { used - 1 };
            let room = bytes_max - text.bytes.len();
            text.bytes.extend_from_slice(&rest[..inside.min(room)]);
            text.is_cut |= inside > room;
            text.raw_bytes += inside as u64;
            self.at += used;
        }
        unescape(&mut text.bytes);
        Ok(text)
    }

    fn skip_nested(&mut self) -> Result<(), Stop> {
        let mut depth = 0_u64;
        loop {
            let rest = self.rest()?;
            let found = rest.iter().position(|byte| matches!(byte, b'"' | b'{' | b'}' | b'[' | b']'));
            let byte = found.map(|at| rest[at]);
            self.at = found.map_or(self.end, |at| self.at + at);
            match byte {
                None => continue,
                Some(b'"') => {
                    self.string(0)?;
                    continue;
                }
                Some(b'{' | b'[') => depth += 1,
                Some(_) => depth -= 1,
            }
            self.at += 1;
            if depth == 0 {
                return Ok(());
            }
        }
    }

    /// A number or a word.
    fn scalar(&mut self) -> Result<Vec<u8>, Stop> {
        let mut kept = Vec::new();
        loop {
            let rest = self.rest()?;
            let ends =
                |byte: &u8| matches!(byte, b',' | b']' | b'}' | b'"' | b':') || byte.is_ascii_whitespace();
            let end = rest.iter().position(ends);
            let used = end.unwrap_or(rest.len());
            let room = NUMBER_BYTES_MAX - kept.len();
            kept.extend_from_slice(&rest[..used.min(room)]);
            self.at += used;
            match end {
                Some(_) if kept.is_empty() => return Err(Stop::Bad("a value was expected")),
                Some(_) => return Ok(kept),
                None => {}
            }
        }
    }
}

/// How much of `rest` belongs to the string, its closing quote included, and whether it goes on after that.
fn string_part(rest: &[u8], is_escaped: &mut bool) -> (usize, bool) {
    let mut at = usize::from(std::mem::take(is_escaped));
    while let Some(found) = memchr2(b'"', b'\\', &rest[at..]) {
        at += found;
        if rest[at] == b'"' {
            return (at + 1, false);
        }
        at += 2;
        if at > rest.len() {
            *is_escaped = true;
            return (rest.len(), true);
        }
    }
    (rest.len(), true)
}

/// Replaces the escapes, in place: none is shorter than what it stands for. What is no escape, such as the rest of one
/// at the end of a string that was cut, is left out.
fn unescape(bytes: &mut Vec<u8>) {
    let Some(first) = memchr(b'\\', bytes) else { return };
    let (mut from, mut to) = (first, first);
    while from < bytes.len() {
        if bytes[from] == b'\\' {
            let (letter, used) = escape(&bytes[from..]);
            from += used;
            if let Some(letter) = letter {
                to += letter.encode_utf8(&mut bytes[to..from]).len();
            }
        } else {
            let end = memchr(b'\\', &bytes[from..]).map_or(bytes.len(), |at| from + at);
            bytes.copy_within(from..end, to);
            to += end - from;
            from = end;
        }
    }
    bytes.truncate(to);
}

/// What the escape at the beginning stands for, and its length. Half of a surrogate pair is U+FFFD.
fn escape(bytes: &[u8]) -> (Option<char>, usize) {
    let letter = match bytes.get(1) {
        Some(b'n') => '\n',
        Some(b't') => '\t',
        Some(b'r') => '\r',
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(letter @ (b'"' | b'\\' | b'/')) => char::from(*letter),
        Some(b'u') => return unicode_escape(bytes),
        _ => return (None, 1),
    };
    (Some(letter), 2)
}

fn unicode_escape(bytes: &[u8]) -> (Option<char>, usize) {
    let Some(unit) = code_unit(bytes) else { return (None, 2) };
    let second = bytes.get(6..).and_then(code_unit);
    let units = [unit, second.unwrap_or(0)];
    match char::decode_utf16(units).next() {
        Some(Ok(letter)) => (Some(letter), 6 * letter.len_utf16()),
        _ => (Some(char::REPLACEMENT_CHARACTER), 6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte at a time, so that every place is once the end of the buffer.
    struct Drops<'a>(&'a [u8]);

    impl Read for Drops<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let Some((first, rest)) = self.0.split_first() else { return Ok(0) };
            (out[0], self.0) = (*first, rest);
            Ok(1)
        }
    }

    fn text(json: &str, bytes_max: usize) -> Text {
        let whole = Json::new(json.as_bytes()).text(bytes_max).unwrap().unwrap();
        let dropwise = Json::new(Drops(json.as_bytes())).text(bytes_max).unwrap().unwrap();
        assert_eq!((&whole.bytes, whole.is_cut), (&dropwise.bytes, dropwise.is_cut));
        whole
    }

    #[test]
    fn strings_are_unescaped_as_serde_json_does() {
        for json in [
            r#""""#,
            r#""plain""#,
            r#""a\"b\\c\/d\b\f\n\r\t""#,
            r#""\\\\\"""#,
            r#""über \u00fc 你 \u4f60 😀 \ud83d\ude00 \u0000""#,
            r#""\\u0041""#,
        ] {
            let expected: String = serde_json::from_str(json).unwrap();
            assert_eq!(text(json, 1000).into_string(), expected, "{json}");
        }
        // Half a pair is no reason to lose the rest; what is no escape is left out.
        assert_eq!(text(r#""a\ud83d b\ude00c""#, 1000).into_string(), "a\u{fffd} b\u{fffd}c");
        assert_eq!(text(r#""a\ud83d\u0041""#, 1000).into_string(), "a\u{fffd}A");
        assert_eq!(text(r#""a\xb\u12\u+123""#, 1000).into_string(), "axb12+123");
    }

    #[test]
    fn a_long_string_is_kept_to_its_bound_and_counted() {
        let cut = text(r#""ab\n\u00e4cd""#, 6);
        assert!(cut.is_cut);
        assert_eq!((cut.raw_bytes, cut.into_string().as_str()), (12, "ab\n"));
        assert!(!text(r#""abc""#, 3).is_cut);
    }

    #[test]
    fn what_is_not_wanted_is_passed_over_however_deep() {
        let deep = format!("{}{}", "[{\"a\":".repeat(200_000), "\"]}\\\"\"").replace("\"]}", "\"]} ");
        let json = format!("{{\"x\": {deep}{}, \"y\": 7, \"z\": -1.5e1}}", "}]".repeat(200_000));
        let mut found = Vec::new();
        let mut reader = Json::new(json.as_bytes());
        let read = reader.object(|json, key| match key {
            b"x" => json.skip(),
            _ => {
                found.push(json.number()?);
                Ok(())
            }
        });
        assert!(read.is_ok(), "{read:?}");
        assert_eq!(found, [Some(7.0), Some(-15.0)]);
        assert_eq!(reader.byte(), json.len() as u64);
    }

    #[test]
    fn what_is_no_json_is_told() {
        for (json, expected) in [
            ("{1: 2}", "a key"),
            ("{\"a\" 2}", "a colon"),
            ("{\"a\": 2 3}", "a comma"),
            ("{\"a\": , }", "a value"),
        ] {
            let read = Json::new(json.as_bytes()).object(|json, _| json.skip());
            assert!(matches!(read, Err(Stop::Bad(told)) if told.starts_with(expected)), "{json}: {read:?}");
        }
        for json in ["", "{", "{\"a", "{\"a\\", "{\"a\":", "{\"a\": 1", "{\"a\": [1, {}", "[\"x\", "] {
            let read = Json::new(json.as_bytes()).object(|json, _| json.skip());
            assert!(matches!(read, Err(Stop::Ended)), "{json}: {read:?}");
        }
    }
}
