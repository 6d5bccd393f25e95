//! JSON in and out of jaq's values: strict, bounded in depth, exact in numbers.

use std::io::Write as _;

use jaq_core::native::bome;
use jaq_core::{Cv, ValXs};
use jaq_json::{Error, Num, Val, bstr};
use serde::de::IgnoredAny;

use super::{DEPTH_MAX, Run};
use crate::escapes::with_whole_letters;

/// The deepest nesting of a row: the object, a list in it, and room for what is refused by name afterwards.
const ROW_DEPTH_MAX: usize = 8;
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Reads what a page fetched; the reason names what it is when it is not JSON.
pub(super) fn parse_body(body: &[u8]) -> Result<Val, String> {
    let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body).trim_ascii();
    match body.first() {
        None => return Err("body is empty".into()),
        Some(b'<') => return Err("body is HTML or XML, not JSON".into()),
        Some(_) => {}
    }
    if let Err(error) = std::str::from_utf8(body) {
        return Err(format!("body is not UTF-8, from byte {} on", error.valid_up_to()));
    }
    parse(body).map_err(|reason| format!("body is {reason}"))
}

/// Reads one JSON value, keeping integers and decimals to the last digit.
pub(super) fn parse(json: &[u8]) -> Result<Val, String> {
    // This pass does not recurse, so that the next one may rely on well-formed input, and the last on its depth.
    serde_json::from_slice::<IgnoredAny>(json).map_err(|error| format!("not JSON: {error}"))?;
    if depth(json) > DEPTH_MAX {
        return Err(format!("nested too deep: more than {DEPTH_MAX} levels"));
    }
    jaq_json::read::parse_single(&with_whole_letters(json)).map_err(|error| format!("not JSON: {error}"))
}

/// The deepest nesting of well-formed JSON.
fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in json {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            (false, b'[' | b'{') => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            (false, b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// `fromjson`: a string, often another party's, to the one value in it.
pub(super) fn from_json<'a>(cv: Cv<'a, Run>) -> ValXs<'a, Val> {
    let value = match &cv.1 {
        Val::TStr(text) => {
            parse(text).map_err(|reason| Error::str(format_args!("fromjson: text is {reason}")))
        }
        other => Err(Error::typ(other.clone(), "string")),
    };
    bome(value)
}

/// Why a value could not be written.
pub(super) enum WriteError {
    /// More bytes than there is room for.
    Full,
    /// Nothing that JSON can say; the reason.
    NotJson(String),
}

/// Writes `value` to `out`, which is empty, as JSON text of at most `room` bytes.
pub(super) fn write_row<'o>(value: &Val, room: usize, out: &'o mut Vec<u8>) -> Result<&'o str, WriteError> {
    write(value, 0, room, out)?;
    std::str::from_utf8(out).map_err(|_| not_json("row is not UTF-8"))
}

fn not_json(reason: &str) -> WriteError {
    WriteError::NotJson(reason.to_owned())
}

fn write(value: &Val, depth: usize, room: usize, out: &mut Vec<u8>) -> Result<(), WriteError> {
    if depth > ROW_DEPTH_MAX {
        return Err(WriteError::NotJson(format!("row is nested deeper than {ROW_DEPTH_MAX} levels")));
    }
    match value {
        Val::Null => out.extend_from_slice(b"null"),
        Val::Bool(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
        Val::Num(Num::Float(number)) if !number.is_finite() => {
            return Err(not_json("row holds a number that is infinite or none (NaN)"));
        }
        // Decimals are written as they were read.
        Val::Num(number) => write!(out, "{number}").map_err(|_| not_json("row cannot be written"))?,
        Val::TStr(text) => write_string(text, out)?,
        Val::BStr(_) => {
            return Err(not_json("row holds a string of bytes: tobytes has no place in a record"));
        }
        Val::Arr(items) => {
            out.push(b'[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write(item, depth + 1, room, out)?;
            }
            out.push(b']');
        }
        Val::Obj(entries) => {
            out.push(b'{');
            for (at, (key, item)) in entries.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                let Val::TStr(key) = key else {
                    return Err(not_json("row holds a key that is not a string"));
                };
                write_string(key, out)?;
                out.push(b':');
                write(item, depth + 1, room, out)?;
            }
            out.push(b'}');
        }
    }
    if out.len() > room { Err(WriteError::Full) } else { Ok(()) }
}

fn write_string(text: &[u8], out: &mut Vec<u8>) -> Result<(), WriteError> {
    // A filter can cut a character in two; what is left of it becomes U+FFFD.
    let text = bstr(&text).to_string();
    serde_json::to_writer(out, &text).map_err(|_| not_json("row cannot be written"))
}
