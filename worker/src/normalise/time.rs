//! The times that platforms write, each converted once to [`UnixMs`]; what cannot be told is `None`, never "now".

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::offset;
use snapfleet_protocol::UnixMs;

/// A number below this counts seconds (in seconds, it is the year 5138).
const SECONDS_BELOW: i64 = 100_000_000_000;
/// A number below this counts milliseconds, from this on microseconds.
const MILLISECONDS_BELOW: i64 = 100_000_000_000_000;
/// How far ahead of the worker's clock a time may be.
const AHEAD_MS_MAX: i64 = 24 * 60 * 60 * 1000;
/// The longest text that is looked at.
const TEXT_BYTES_MAX: usize = 64;
/// What stands before the time in some lists of works.
const PUBLISHED_ON: &str = "发布于";

/// Reads a time from a JSON value's text: a number of seconds, of seconds with a fraction, of milliseconds or of
/// microseconds, told apart by magnitude; the same as a string of digits; RFC 3339 with its offset; or
/// `YYYY年MM月DD日 HH:MM`, with seconds or without, which is UTC+8. Parts of a millisecond are dropped.
/// `None` for anything else, and for what lies outside 2016 to a day from `now`.
#[must_use]
pub fn parse(json: &str, now: UnixMs) -> Option<UnixMs> {
    let time = if json.starts_with('"') {
        let text: String = serde_json::from_str(json).ok()?;
        text_ms(text.trim())?
    } else {
        number_ms(json)?
    };
    let latest = now.0.saturating_add(AHEAD_MS_MAX);
    (UnixMs::EARLIEST.0..=latest).contains(&time).then_some(UnixMs(time))
}

fn text_ms(text: &str) -> Option<i64> {
    if text.len() > TEXT_BYTES_MAX {
        return None;
    }
    if let Some(ms) = number_ms(text) {
        return Some(ms);
    }
    if text.contains('年') {
        return chinese_ms(text);
    }
    text.parse::<Timestamp>().ok().map(Timestamp::as_millisecond)
}

/// The unit is told by the magnitude. Digits are read as digits: no floating point, so no lost millisecond.
fn number_ms(text: &str) -> Option<i64> {
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) => (whole, fraction),
        None => (text, ""),
    };
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_digits(whole) || !is_digits(fraction) {
        return exponent_ms(text);
    }
    let whole: i64 = whole.parse().ok()?;
    if whole < SECONDS_BELOW {
        let thousandths: i64 = format!("{fraction:0<3}")[..3].parse().ok()?;
        Some(whole * 1000 + thousandths)
    } else if whole < MILLISECONDS_BELOW {
        Some(whole)
    } else {
        Some(whole / 1000)
    }
}

/// `1.7e9`, as a filter's arithmetic may write it.
fn exponent_ms(text: &str) -> Option<i64> {
    if !text.starts_with(|first: char| first.is_ascii_digit()) || !text.contains(['e', 'E']) {
        return None;
    }
    let number: f64 = text.parse().ok()?;
    let ms = if number < SECONDS_BELOW as f64 {
        number * 1000.0
    } else if number < MILLISECONDS_BELOW as f64 {
        number
    } else {
        number / 1000.0
    };
    // Out of range saturates, and the range check of the caller refuses it.
    Some(ms.round() as i64)
}

fn chinese_ms(text: &str) -> Option<i64> {
    let text = text.strip_prefix(PUBLISHED_ON).unwrap_or(text).trim_start();
    let (year, rest) = text.split_once('年')?;
    let (month, rest) = rest.split_once('月')?;
    let (day, rest) = rest.split_once('日')?;
    let mut clock = rest.trim().split(':');
    let (hour, minute) = (part(clock.next()?)?, part(clock.next()?)?);
    let second = match clock.next() {
        Some(second) => part(second)?,
        None => 0,
    };
    if clock.next().is_some() || year.len() != 4 {
        return None;
    }
    let year: i16 = year.parse().ok()?;
    let local = DateTime::new(year, part(month)?, part(day)?, hour, minute, second, 0).ok()?;
    Some(offset(8).to_timestamp(local).ok()?.as_millisecond())
}

/// One or two digits.
fn part(text: &str) -> Option<i8> {
    let well_formed = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if well_formed { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-10-01T00:00:00Z.
    const NOW: UnixMs = UnixMs(1_790_812_800_000);

    #[test]
    fn every_format_gives_the_same_moment() {
        for (json, expected) in [
            ("1790000000", 1_790_000_000_000),
            ("1790000000.0", 1_790_000_000_000),
            ("1790000000.5", 1_790_000_000_500),
            ("1790000000.123", 1_790_000_000_123),
            ("1790000000.1239872", 1_790_000_000_123),
            ("1790000000123", 1_790_000_000_123),
            ("1790000000123.9", 1_790_000_000_123),
            ("1790000000123456", 1_790_000_000_123),
            ("1.79e9", 1_790_000_000_000),
            ("1.790000000123e12", 1_790_000_000_123),
            (r#""1790000000""#, 1_790_000_000_000),
            (r#"" 1790000000123 ""#, 1_790_000_000_123),
            (r#""1790000000123456""#, 1_790_000_000_123),
            (r#""1790000000.25""#, 1_790_000_000_250),
            (r#""2026-09-21T14:13:20Z""#, 1_790_000_000_000),
            (r#""2026-09-21T14:13:20.123Z""#, 1_790_000_000_123),
            (r#""2026-09-21T22:13:20.123456+08:00""#, 1_790_000_000_123),
            (r#""2026-09-21T09:13:20-05:00""#, 1_790_000_000_000),
            (r#""2026年09月21日 22:13""#, 1_789_999_980_000),
            (r#""2026年9月21日 22:13:20""#, 1_790_000_000_000),
            (r#""发布于2026年09月21日 22:13""#, 1_789_999_980_000),
            ("1451606400", UnixMs::EARLIEST.0),
            ("1790899200000", NOW.0 + AHEAD_MS_MAX),
        ] {
            assert_eq!(parse(json, NOW), Some(UnixMs(expected)), "{json}");
        }
    }

    #[test]
    fn what_cannot_be_told_is_unknown() {
        for json in [
            "0",
            "-1",
            "5",
            "1451606399",
            "1790899201",
            "1790899200001",
            "99999999999999999999999",
            "1e400",
            "1e3",
            "true",
            "[]",
            "{}",
            "NaN",
            "",
            ".",
            "1.2.3",
            "\"",
            r#""""#,
            r#""yesterday""#,
            r#""2026-09-21T14:13:20""#,
            r#""2026-09-21""#,
            r#""22:13""#,
            r#""2026年13月21日 22:13""#,
            r#""2026年09月21日""#,
            r#""2026年09月21日 22""#,
            r#""26年09月21日 22:13""#,
            r#""2026年09月21日 22:13:20:1""#,
            r#""年月日 :""#,
            r#""-1790000000""#,
            r#""1790000000s""#,
        ] {
            assert_eq!(parse(json, NOW), None, "{json}");
        }
    }
}
