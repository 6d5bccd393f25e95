//! A `text/event-stream` body into its events, as the HTML standard says (§9.2.6).

use super::read::Frames;
use super::{HarBody, HarFrame};

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Whether a content type is that of an event stream.
pub(super) fn is_event_stream(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("text/event-stream")
}

/// Reads the events of a body. One that is not ended by an empty line was not whole, and is none.
pub(super) fn parse(body: &[u8], frames: &mut Frames) {
    let mut rest = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
    let (mut event, mut data) = (Vec::new(), None::<Vec<u8>>);
    while let Some((line, after)) = split_line(rest) {
        rest = after;
        if line.is_empty() {
            let name = std::mem::take(&mut event);
            let Some(body) = data.take() else { continue };
            let name =
                if name.is_empty() { "message".into() } else { String::from_utf8_lossy(&name).into_owned() };
            frames.push(HarFrame { event: Some(name), body: HarBody::Bytes(body) });
            continue;
        }
        let (field, value) = match line.iter().position(|byte| *byte == b':') {
            Some(at) => (&line[..at], line[at + 1..].strip_prefix(b" ").unwrap_or(&line[at + 1..])),
            None => (line, &[][..]),
        };
        match field {
            b"event" => event = value.to_vec(),
            b"data" => match &mut data {
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
                None => data = Some(value.to_vec()),
            },
            // Comments, ids, the time to wait, and what is not known.
            _ => {}
        }
    }
}

/// The first line and what comes after its end; `None` where no end of a line is left.
fn split_line(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr2(b'\n', b'\r', rest)?;
    let after = if rest[end..].starts_with(b"\r\n") { end + 2 } else { end + 1 };
    Some((&rest[..end], &rest[after..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(body: &str) -> Vec<(String, String)> {
        let mut frames = Frames::default();
        parse(body.as_bytes(), &mut frames);
        let pair = |frame: HarFrame| {
            let data = String::from_utf8(frame.body.bytes().unwrap().to_vec()).unwrap();
            (frame.event.unwrap(), data)
        };
        frames.list.into_iter().map(pair).collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(name, data)| ((*name).to_owned(), (*data).to_owned())).collect()
    }

    #[test]
    fn events_are_read_as_the_standard_says() {
        for (body, expected) in [
            ("data: a\n\n", &[("message", "a")][..]),
            ("\u{feff}data:a\r\ndata:  b\r\n\r\n", &[("message", "a\n b")]),
            ("event: add\rdata: 1\r\rdata: 2\n\n", &[("add", "1"), ("message", "2")]),
            (": a comment\nid: 7\nretry: 10\n\ndata\n\n", &[("message", "")]),
            ("data\ndata\n\n", &[("message", "\n")]),
            ("event: none\n\ndata: x\n\n", &[("message", "x")]),
            ("data: {\"a\": \"b:c\"}\nevent: j\n\n", &[("j", "{\"a\": \"b:c\"}")]),
            ("data: whole\n\ndata: half\n", &[("message", "whole")]),
            ("data: half", &[]),
            ("", &[]),
        ] {
            assert_eq!(events(body), pairs(expected), "{body:?}");
        }
    }
}
