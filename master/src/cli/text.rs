//! Text for a terminal. What platforms and peers wrote is shown, but cannot steer the terminal.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write};

use serde::Serialize;
use snapfleet_protocol::UnixMs;

/// Characters that move the cursor, colour, or turn the direction of text around.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `text` on one line, with every character that could steer the terminal written as its number.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if steers(c) {
            // Writing to a String does not fail.
            let _ = write!(shown, "\\u{{{:x}}}", u32::from(c));
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// `text` in at most so many characters: what is left out shows as `…`.
pub(crate) fn cut(text: &str, chars_max: usize) -> Cow<'_, str> {
    match text.char_indices().nth(chars_max.saturating_sub(1)) {
        Some((end, last)) if end + last.len_utf8() < text.len() => Cow::Owned(format!("{}…", &text[..end])),
        _ => Cow::Borrowed(text),
    }
}

/// Writes `value` as JSON: on one line, or indented.
pub(crate) fn write_json(out: &mut impl Write, value: &impl Serialize, indented: bool) -> io::Result<()> {
    let json = if indented { serde_json::to_string_pretty(value)? } else { serde_json::to_string(value)? };
    let mut rest = json.as_str();
    // Outside of strings JSON has none of these but line ends, so each can be written as an escape.
    while let Some((at, c)) = rest.char_indices().find(|(_, c)| *c != '\n' && steers(*c)) {
        write!(out, "{}\\u{:04x}", &rest[..at], u32::from(c))?;
        rest = &rest[at + c.len_utf8()..];
    }
    writeln!(out, "{rest}")
}

/// A moment and how long ago it was; `-` where there is none.
pub(crate) fn when(at: Option<UnixMs>, now: UnixMs) -> String {
    at.map_or_else(|| "-".to_owned(), |at| format!("{} ({})", exact(at), ago(at, now)))
}

/// A moment, to the second, in UTC.
pub(crate) fn exact(at: UnixMs) -> String {
    match jiff::Timestamp::from_millisecond(at.0) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        Err(_) => format!("{} ms", at.0),
    }
}

/// How long before `now` a moment was.
pub(crate) fn ago(at: UnixMs, now: UnixMs) -> String {
    match now.0.saturating_sub(at.0) {
        ..0 => "in the future".to_owned(),
        0..1_000 => "just now".to_owned(),
        _ => format!("{} ago", lasted(at, now)),
    }
}

/// The time from a moment to `now`, in its largest unit.
pub(crate) fn lasted(at: UnixMs, now: UnixMs) -> String {
    let seconds = now.0.saturating_sub(at.0).max(0) / 1000;
    match seconds {
        ..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_shown_steers_the_terminal() {
        let hostile = "a\u{1b}[2Jb\u{9b}31mc\u{202e}d\ne";
        assert_eq!(plain(hostile), "a\\u{1b}[2Jb\\u{9b}31mc\\u{202e}d\\u{a}e");
        assert_eq!(plain("评论 ok"), "评论 ok");
        let mut out = Vec::new();
        write_json(&mut out, &serde_json::json!({ "text": hostile }), true).unwrap();
        let json = String::from_utf8(out).unwrap();
        assert!(!json.contains(|c: char| c != '\n' && steers(c)), "{json:?}");
        let back: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(back["text"], hostile);
    }

    #[test]
    fn what_is_too_long_is_cut_and_shows_it() {
        for (text, shown) in
            [("", ""), ("abc", "abc"), ("评论评", "评论评"), ("abcd", "ab…"), ("评论评论", "评论…")]
        {
            assert_eq!(cut(text, 3), shown);
        }
    }

    #[test]
    fn moments_read_as_people_say_them() {
        let at = UnixMs(1_790_812_800_000);
        assert_eq!(exact(at), "2026-10-01 00:00:00 UTC");
        for (later_s, said) in [(0, "just now"), (3, "3 s ago"), (840, "14 min ago"), (7_300, "2 h ago")] {
            assert_eq!(ago(at, UnixMs(at.0 + later_s * 1000)), said);
        }
        assert_eq!(exact(UnixMs(i64::MAX)), format!("{} ms", i64::MAX));
        assert_eq!(ago(UnixMs(i64::MIN), UnixMs(i64::MAX)), format!("{} d ago", i64::MAX / 86_400_000));
    }
}
