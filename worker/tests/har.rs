//! HAR files as browsers write them, cut off, broken, compressed and huge.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use snapfleet_worker::har::{
    BODY_BYTES_MAX, EMPTY, HarBody, HarEntry, HarError, HarSummary, NOT_SAVED, STREAM_NOT_SAVED, read,
};

const CHROME: &str = include_str!("har/chrome.har");
const FIREFOX: &str = include_str!("har/firefox.har");

fn written(bytes: impl AsRef<[u8]>) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes.as_ref()).unwrap();
    file
}

fn read_all(path: &Path) -> (Vec<HarEntry>, Result<HarSummary, HarError>) {
    let mut entries = Vec::new();
    let outcome = read(path, &mut |entry| {
        entries.push(entry);
        ControlFlow::Continue(())
    });
    (entries, outcome)
}

fn entries(text: impl AsRef<[u8]>) -> Vec<HarEntry> {
    let (entries, outcome) = read_all(written(text).path());
    assert_eq!(outcome.unwrap().entries, entries.len());
    entries
}

fn error(bytes: impl AsRef<[u8]>) -> String {
    let (_, outcome) = read_all(written(bytes).path());
    outcome.unwrap_err().to_string()
}

fn text(body: &HarBody) -> &str {
    std::str::from_utf8(body.bytes().unwrap()).unwrap()
}

/// A HAR of one answer.
fn one(mime_type: &str, encoding: &str, content: &str) -> String {
    format!(
        r#"{{"log": {{"entries": [{{"request": {{"method": "get", "url": "https://h/a"}}, "response": {{"status": 200,
        "headers": [{{"name": "Content-Encoding", "value": "{encoding}"}}],
        "content": {{"mimeType": "{mime_type}", {content}}}}}}}]}}}}"#
    )
}

fn body_of(mime_type: &str, encoding: &str, bytes: &[u8]) -> HarBody {
    let content = format!(r#""text": "{}", "encoding": "base64""#, STANDARD.encode(bytes));
    entries(one(mime_type, encoding, &content)).remove(0).body
}

#[test]
fn when_an_entry_was_asked_is_told_in_whatever_zone() {
    for (asked, expected) in [
        ("\"2026-11-20T09:12:33.120Z\"", Some(1_795_165_953_120)),
        ("\"2026-11-20T10:12:33.120+01:00\"", Some(1_795_165_953_120)),
        ("\"today\"", None),
        ("5", None),
        ("null", None),
    ] {
        let text = one("text/plain", "", r#""text": "x""#)
            .replace(r#"{"request""#, &format!(r#"{{"startedDateTime": {asked}, "request""#));
        assert_eq!(entries(text)[0].started_at.map(|at| at.0), expected, "{asked}");
    }
    assert_eq!(entries(one("text/plain", "", r#""text": "x""#))[0].started_at, None);
}

#[test]
fn chrome_is_read() {
    let entries = entries(CHROME);
    let [comments, socket, image, evicted, events, state] = entries.as_slice() else { panic!("{entries:?}") };
    assert_eq!(comments.url, "https://creator.example/api/comments?work=7123456789012345678&token=abc");
    assert_eq!((comments.method.as_str(), comments.status, comments.number), ("GET", 200, 1));
    assert_eq!(comments.resource_type.as_deref(), Some("fetch"));
    assert_eq!(comments.content_type.as_deref(), Some("application/json; charset=utf-8"));
    assert_eq!((comments.mime_type.as_str(), comments.size), ("application/json", Some(62)));
    assert_eq!(text(&comments.body), r#"{"items":[{"id":7123456789012345678,"text":"你好 \"x\" 😀"}]}"#);
    assert!(socket.is_websocket() && !comments.is_websocket());
    let frames: Vec<_> =
        socket.frames.iter().map(|frame| (frame.event.as_deref(), text(&frame.body))).collect();
    assert_eq!(frames, [(None, r#"{"id":"1"}"#), (None, r#"{"id":"2"}"#)]);
    assert_eq!(image.body, HarBody::Bytes(vec![0x89, b'P', b'N', b'G']));
    assert_eq!(evicted.body, HarBody::Absent(NOT_SAVED));
    assert_eq!((&events.body, events.is_event_source()), (&HarBody::Absent(STREAM_NOT_SAVED), Some(true)));
    assert_eq!(state.page_state, Some(("store".to_owned(), "inbox".to_owned())));
    assert_eq!(text(&state.body), r#"{"rows":[]}"#);
}

#[test]
fn firefox_is_read() {
    let entries = entries(FIREFOX);
    let [comments, events, without, gone] = entries.as_slice() else { panic!("{entries:?}") };
    assert_eq!((comments.resource_type.as_ref(), comments.is_event_source()), (None, Some(false)));
    // The header is the network's; Firefox saves what the page saw.
    assert_eq!(text(&comments.body), r#"{"items": []}"#);
    assert_eq!(events.is_event_source(), None);
    let frames: Vec<_> =
        events.frames.iter().map(|frame| (frame.event.as_deref().unwrap(), text(&frame.body))).collect();
    assert_eq!(frames, [("add", "{\"id\":\n 1}"), ("message", "2")]);
    assert_eq!(without.body, HarBody::Absent(NOT_SAVED));
    assert_eq!(gone.body, HarBody::Absent(EMPTY));
}

#[test]
fn a_file_cut_anywhere_gives_what_came_before_and_says_where_it_ends() {
    for har in [CHROME.trim_end(), FIREFOX.trim_end()] {
        let whole = entries(har);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cut.har");
        for cut in 0..har.len() {
            std::fs::write(&path, &har.as_bytes()[..cut]).unwrap();
            let (entries, outcome) = read_all(&path);
            let expected: Vec<_> =
                whole.iter().filter(|entry| entry.end_byte <= cut as u64).cloned().collect();
            assert_eq!(entries, expected, "cut at {cut}");
            let error = outcome.unwrap_err();
            match (&error, cut) {
                (HarError::NotHar { .. }, 0) => {}
                (HarError::Ended { byte, .. }, 1..) => assert_eq!(*byte, cut as u64),
                (error, cut) => panic!("cut at {cut}: {error}"),
            }
        }
        assert_eq!(whole.len(), entries(format!("{har}\n \n")).len());
    }
}

#[test]
fn the_place_where_a_file_ends_is_named() {
    let second = CHROME.find("\"opcode\"").unwrap();
    let told = error(&CHROME[..second]);
    assert!(
        told.ends_with(&format!("the HAR ends in the middle of entry 2, at byte {second}; save it again")),
        "{told}"
    );
    let told = error(&CHROME[..CHROME.find("\"pages\"").unwrap()]);
    assert!(told.contains("the HAR ends before its first entry, at byte"), "{told}");
    let told = error(&CHROME.trim_end()[..CHROME.trim_end().len() - 1]);
    assert!(told.contains("the HAR ends after entry 6, at byte"), "{told}");
    let told = error(CHROME.replacen("\"opcode\": 1", "\"opcode\" 1", 1));
    assert!(told.contains("the HAR cannot be read in the middle of entry 2, at byte"), "{told}");
    assert!(error(format!("{FIREFOX}{FIREFOX}")).contains("after entry 4"), "two in one file");
}

#[test]
fn what_is_no_har_is_told_with_the_remedy() {
    let utf16: Vec<u8> = CHROME.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let marked: Vec<u8> = [&[0xff, 0xfe][..], &utf16].concat();
    for (bytes, expected) in [
        (&b""[..], "is no HAR: it is empty: save it again"),
        (b" \n", "is no HAR: it is empty"),
        (&utf16, "it is UTF-16: save it as UTF-8"),
        (&marked, "it is UTF-16: save it as UTF-8"),
        (b"\x1f\x8b\x08\0\0", "it is compressed by gzip: decompress it first"),
        (b"PK\x03\x04", "it is a zip archive"),
        (b"<!doctype html>", "it is HTML or XML"),
        (b"[1]", "it is no JSON object"),
        (b"hello", "it is no JSON object"),
        (b"{}", "it is JSON without log.entries"),
        (b"{\"log\": {}}", "it is JSON without log.entries"),
        (b"{\"log\": [1], \"entries\": []}", "it is JSON without log.entries"),
        (b"{\"log\": {\"entries\": {}}}", "it is JSON without log.entries"),
    ] {
        let told = error(bytes);
        assert!(told.contains(expected), "got: {told}\nnot: {expected}");
    }
    let folder = tempfile::tempdir().unwrap();
    let (_, outcome) = read_all(folder.path());
    assert!(outcome.unwrap_err().to_string().contains("cannot be read: it is a folder: name the .har file"));
    let (_, outcome) = read_all(&folder.path().join("none.har"));
    assert!(outcome.unwrap_err().to_string().contains("none.har cannot be read: No such file"));
    // A mark of UTF-8 is no mistake, nor is a log without entries.
    assert_eq!(entries(format!("\u{feff}{CHROME}")).len(), 6);
    assert!(entries(r#"{"log": {"entries": []}}"#).is_empty());
}

#[test]
fn compressed_bodies_are_decompressed_and_broken_ones_told() {
    let plain = br#"{"items": [1, 2, 3], "text": "as the page saw it, again and again and again"}"#;
    let packed = |format: &str| {
        let mut bytes = Vec::new();
        let level = flate2::Compression::default();
        match format {
            "gzip" => flate2::write::GzEncoder::new(&mut bytes, level).write_all(plain).unwrap(),
            "zlib" => flate2::write::ZlibEncoder::new(&mut bytes, level).write_all(plain).unwrap(),
            "raw" => flate2::write::DeflateEncoder::new(&mut bytes, level).write_all(plain).unwrap(),
            _ => bytes = zstd::encode_all(&plain[..], 3).unwrap(),
        }
        bytes
    };
    let json = "application/json";
    for (format, encoding) in
        [("gzip", "gzip"), ("gzip", "X-GZIP"), ("zlib", "deflate"), ("raw", "deflate"), ("zstd", "zstd")]
    {
        assert_eq!(body_of(json, encoding, &packed(format)), HarBody::Bytes(plain.to_vec()), "{format}");
    }
    let brotli = STANDARD
        .decode("G1wD+J0FzrmcNskegu63OIpB7XBac/OYGiIiP0QanZI/F7JuETf7ulhCh/6Rm2Zf9e2oxVgsLeeyABX4eJ5/8j8V4EN54vmOugxPkSM10TOzsFbsNWfD3fJ2n4QXwQytyI6dxJVypz0Zb9a3uxROghlakR07iSvlTnsy3qzvuHs=")
        .unwrap();
    let body = body_of(json, "br", &brotli);
    assert!(text(&body).starts_with(r#"{"items":[{"id":0,"text":"brotli 0"}"#), "{body:?}");
    let twice = {
        let mut bytes = Vec::new();
        flate2::write::GzEncoder::new(&mut bytes, flate2::Compression::fast())
            .write_all(&packed("zstd"))
            .unwrap();
        bytes
    };
    assert_eq!(body_of(json, "zstd, gzip", &twice), HarBody::Bytes(plain.to_vec()));
    // What the browser has decompressed keeps its header.
    for encoding in ["gzip", "deflate", "br", "zstd", "unknown"] {
        assert_eq!(body_of(json, encoding, plain), HarBody::Bytes(plain.to_vec()), "{encoding}");
        assert_eq!(
            body_of("image/png", encoding, b"\x89PNG\x01"),
            HarBody::Bytes(b"\x89PNG\x01".to_vec()),
            "{encoding}"
        );
    }
    for (format, encoding, told) in [
        ("gzip", "gzip", "its gzip is broken: "),
        ("zlib", "deflate", "its deflate is broken: "),
        ("raw", "deflate", "its deflate is broken: "),
        ("zstd", "zstd", "its zstd is broken: "),
    ] {
        let bytes = packed(format);
        let body = body_of(json, encoding, &bytes[..bytes.len() / 2]);
        assert!(matches!(&body, HarBody::Broken(reason) if reason.starts_with(told)), "{format}: {body:?}");
    }
    let body = body_of(json, "br", &brotli[..50]);
    assert!(
        matches!(&body, HarBody::Broken(reason) if reason.starts_with("its brotli is broken: ")),
        "{body:?}"
    );
    let lost = entries(one(json, "gzip", r#""text": "\u001f\ufffd\b""#)).remove(0).body;
    assert!(matches!(&lost, HarBody::Broken(reason) if reason.contains("saved as text")), "{lost:?}");
}

#[test]
fn a_bomb_is_too_large() {
    let zeros = vec![b'0'; 4 * BODY_BYTES_MAX];
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&zeros).unwrap();
    let body = body_of("application/json", "gzip", &gzip.finish().unwrap());
    assert_eq!(body, HarBody::TooLarge(BODY_BYTES_MAX as u64 + 1));
    let body = body_of("application/json", "zstd", &zstd::encode_all(&zeros[..], 1).unwrap());
    assert_eq!(body, HarBody::TooLarge(BODY_BYTES_MAX as u64 + 1));
}

#[test]
fn base64_may_have_lines_and_lack_its_padding() {
    for base64 in ["eyJhIjoxfQ==", r"eyJhIjox\r\nfQ==\n", "eyJhIjoxfQ"] {
        let content = format!(r#""encoding": "base64", "text": "{base64}""#);
        assert_eq!(text(&entries(one("application/json", "", &content))[0].body), r#"{"a":1}"#);
    }
    let body = entries(one("application/json", "", r#""text": "%%", "encoding": "base64""#)).remove(0).body;
    assert!(matches!(&body, HarBody::Broken(reason) if reason.contains("base64 is broken")), "{body:?}");
}

#[test]
fn entries_of_any_shape_are_entries() {
    let entries = entries(
        r#"{"log": {"entries": [null, 7, "x", [], {}, {"request": null, "response": [1]},
        {"response": {"status": "200", "headers": {"a": 1}, "content": {"text": 5, "size": -1}}, "request": {"url": 3}},
        {"response": {"status": 99999, "content": {"size": 1e300, "text": ""}}}]}}"#,
    );
    assert_eq!(entries.len(), 8);
    assert!(entries.iter().all(|entry| entry.url.is_empty()));
    assert!(entries.iter().all(|entry| matches!(entry.body, HarBody::Absent(_))));
}

#[test]
fn reading_ends_where_the_caller_has_enough() {
    let mut seen = 0;
    let summary = read(written(CHROME).path(), &mut |_| {
        seen += 1;
        if seen == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!((seen, summary.unwrap().entries), (2, 2));
}

/// What a process of its own says of a file: entries, the largest body, how many were too large, and its peak in MiB.
fn peak_of(path: &Path) -> (usize, usize, usize, usize) {
    let tests = std::env::current_exe().unwrap();
    let program = tests.ancestors().nth(2).unwrap().join("examples/har_peak");
    assert!(program.exists(), "not built: run cargo build --examples -p snapfleet-worker");
    let child = Command::new(program).arg(path).output().unwrap();
    let told = String::from_utf8(child.stdout).unwrap();
    let value = |name: &str| -> usize {
        let (_, rest) = told.split_once(name).unwrap_or_else(|| panic!("{name} is not in {told}"));
        rest.split_whitespace().next().unwrap().parse().unwrap()
    };
    (value("entries="), value("largest="), value("too_large="), value("peak=") / 1024)
}

/// Writes a HAR of `bodies`, each given by its parts, so that it is never whole in memory.
fn generate(path: &Path, bodies: &[(&str, usize)]) {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    file.write_all(br#"{"log": {"entries": ["#).unwrap();
    for (at, (part, times)) in bodies.iter().enumerate() {
        let comma = if at > 0 { "," } else { "" };
        write!(file, r#"{comma}{{"request": {{"method": "GET", "url": "https://h/{at}"}}, "response": {{"status": 200, "content": {{"mimeType": "application/json", "text": ""#).unwrap();
        for _ in 0..*times {
            file.write_all(part.as_bytes()).unwrap();
        }
        file.write_all(br#""}}}"#).unwrap();
    }
    file.write_all(b"]}}").unwrap();
}

const PART: &str =
    r#"{\"id\": 7123456789012345678, \"text\": \"so many \u4f60\u597d words as people write\"}, "#;

#[test]
fn a_large_file_is_read_in_little_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.har");
    generate(&path, &[(PART, 26_000); 110]);
    assert!(std::fs::metadata(&path).unwrap().len() > 200_000_000);
    let (entries, largest, too_large, peak) = peak_of(&path);
    assert_eq!((entries, too_large), (110, 0));
    assert!(largest > 1_000_000, "{largest}");
    println!("peak {peak} MiB");
    assert!(peak < 60, "{peak} MiB");
}

#[test]
fn one_huge_string_is_read_in_bounded_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("huge.har");
    // More than 100 MB in one string; as much as is kept of one, in escapes; and one that is nothing special.
    generate(&path, &[(PART, 1_400_000), (r"\u4f60", 11_000_000), (PART, 100_000)]);
    assert!(std::fs::metadata(&path).unwrap().len() > 180_000_000);
    let (entries, largest, too_large, peak) = peak_of(&path);
    assert_eq!((entries, largest, too_large), (3, 33_000_000, 1));
    println!("peak {peak} MiB");
    assert!(peak < 300, "{peak} MiB");
}
