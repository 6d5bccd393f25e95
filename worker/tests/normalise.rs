//! Properties of the normaliser: each way of writing a time, an id, a count or a direction comes back as what it was, or
//! is refused; and nothing on the way from a body through jq to a record costs a digit.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use jiff::Timestamp;
use jiff::tz::Offset;
use proptest::prelude::*;
use snapfleet_protocol::{AccountId, Direction, Record, UnixMs};
use snapfleet_worker::normalise::{Row, row, time};
use snapfleet_worker::platform::{AccountView, Platform, Request, Settings};

/// 2026-10-01T00:00:00Z.
const NOW: UnixMs = UnixMs(1_790_812_800_000);
const LATEST: i64 = NOW.0 + 24 * 60 * 60 * 1000;

fn read(text: &str) -> Result<Record, String> {
    match row(text, NOW).map_err(|refusal| refusal.reason)? {
        Row::Record(normalised) => Ok(normalised.record),
        Row::Complete(list) => panic!("no record: {list:?}"),
    }
}

/// A moment of the range that is taken, in microseconds.
fn moment() -> impl Strategy<Value = i64> {
    UnixMs::EARLIEST.0 * 1000..=LATEST * 1000
}

/// `whole.fraction` with so many digits behind the point, cut off and not rounded; without a point for none.
fn decimal(value: i64, unit: i64, digits: usize) -> String {
    let (whole, rest) = (value / unit, value % unit);
    let fraction = format!("{rest:0width$}", width = unit.ilog10() as usize);
    let fraction = format!("{fraction:0<9}");
    if digits == 0 { whole.to_string() } else { format!("{whole}.{}", &fraction[..digits]) }
}

/// What is left of a moment in microseconds when it is written with so many digits of a second: its milliseconds.
fn to_digits(us: i64, digits: usize) -> UnixMs {
    let step = 10_i64.pow(6 - digits.min(6) as u32);
    UnixMs(us / step * step / 1000)
}

proptest! {
    #[test]
    fn numbers_of_each_unit_give_the_moment(us in moment(), digits in 0..9_usize, spaces in " {0,2}") {
        let seconds = decimal(us, 1_000_000, digits);
        // Those of one unit are told by their size, and none of the range could be another's.
        let units = [
            (seconds, to_digits(us, digits)),
            (decimal(us, 1000, digits.min(3)), UnixMs(us / 1000)),
            (us.to_string(), UnixMs(us / 1000)),
        ];
        for (number, expected) in units {
            prop_assert_eq!(time::parse(&number, NOW), Some(expected), "{}", &number);
            let text = format!("\"{spaces}{number}{spaces}\"");
            prop_assert_eq!(time::parse(&text, NOW), Some(expected), "{}", &text);
        }
    }

    #[test]
    fn numbers_with_an_exponent_give_the_moment(us in moment(), capital: bool) {
        let exponent = if capital { 'E' } else { 'e' };
        let (s, ms) = (us / 1_000_000, us / 1000);
        for (digits, power, expected) in [(s.to_string(), 9, s * 1000), (ms.to_string(), 12, ms)] {
            let number = format!("{}.{}{exponent}{power}", &digits[..1], &digits[1..]);
            prop_assert_eq!(time::parse(&number, NOW), Some(UnixMs(expected)), "{}", number);
        }
    }

    #[test]
    fn rfc_3339_gives_the_moment_at_each_offset(us in moment(), digits in 0..9_usize, minutes in -1439..=1439_i32) {
        let offset = Offset::from_seconds(minutes * 60).unwrap();
        let local = offset.to_datetime(Timestamp::from_microsecond(us).unwrap());
        let fraction = decimal(us, 1_000_000, digits).split_once('.').map(|(_, digits)| format!(".{digits}"));
        let clock = format!("{}{}", local.strftime("%Y-%m-%dT%H:%M:%S"), fraction.unwrap_or_default());
        let sign = if minutes < 0 { '-' } else { '+' };
        let (hours, rest) = (minutes.abs() / 60, minutes.abs() % 60);
        let text = format!("\"{clock}{sign}{hours:02}:{rest:02}\"");
        prop_assert_eq!(time::parse(&text, NOW), Some(to_digits(us, digits)), "{}", &text);
        // Without an offset it could be anywhere.
        prop_assert_eq!(time::parse(&format!("\"{clock}\""), NOW), None, "{}", clock);
        if minutes == 0 {
            prop_assert_eq!(time::parse(&format!("\"{clock}Z\""), NOW), Some(to_digits(us, digits)));
        }
    }

    #[test]
    fn the_chinese_sentence_gives_the_moment_in_utc_8(us in moment(), seconds: bool, padded: bool, prefix: bool) {
        let us = us.max((UnixMs::EARLIEST.0 + 60_000) * 1000);
        let local = Offset::constant(8).to_datetime(Timestamp::from_microsecond(us).unwrap());
        let day = if padded { "%Y年%m月%d日 %H:%M" } else { "%Y年%-m月%-d日 %-H:%M" };
        let clock = if seconds { format!("{day}:%S") } else { day.to_owned() };
        let text = format!("\"{}{}\"", if prefix { "发布于" } else { "" }, local.strftime(&clock));
        let step = if seconds { 1_000_000 } else { 60_000_000 };
        prop_assert_eq!(time::parse(&text, NOW), Some(UnixMs(us / step * step / 1000)), "{}", text);
    }

    #[test]
    fn a_time_outside_the_range_is_unknown_in_each_unit(
        number in prop_oneof![
            i64::MIN..UnixMs::EARLIEST.0 / 1000,
            LATEST / 1000 + 1..100_000_000_000,
            100_000_000_000..UnixMs::EARLIEST.0,
            LATEST + 1..100_000_000_000_000,
            100_000_000_000_000..UnixMs::EARLIEST.0 * 1000,
            (LATEST + 1) * 1000..i64::MAX,
        ],
        more in "[0-9]{1,20}",
    ) {
        for text in [number.to_string(), format!("{number}.5"), format!("{}{more}", i64::MAX)] {
            prop_assert_eq!(time::parse(&text, NOW), None, "{}", &text);
            prop_assert_eq!(time::parse(&format!("\"{text}\""), NOW), None, "{:?}", &text);
        }
    }

    #[test]
    fn a_time_in_words_is_unknown(text in "[a-zA-Z \u{4e00}-\u{9fa5}]{0,20}", before in "[0-9]{1,4}") {
        for text in [text.clone(), format!("{before}{text} ago"), format!("{before}分钟前"), format!("{before}年{text}")] {
            let json = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(time::parse(&json, NOW), None, "{}", json);
        }
    }

    #[test]
    fn an_id_keeps_its_text_as_a_number_and_as_a_string(digits in "0|-?[1-9][0-9]{0,39}", zeros in "0{1,5}") {
        for (written, expected) in [
            (digits.clone(), digits.clone()),
            (format!("\"{digits}\""), digits.clone()),
            (format!("\"{zeros}{digits}\""), format!("{zeros}{digits}")),
        ] {
            let text = format!(r#"{{"kind":"comment","id":{written},"content_id":{written},"direction":"inbound"}}"#);
            let Record::Comment(comment) = read(&text).unwrap() else { panic!("no comment") };
            prop_assert_eq!(comment.id.as_str(), &expected);
            prop_assert_eq!(comment.content_id.as_str(), &expected);
        }
    }

    #[test]
    fn what_is_no_whole_number_is_no_id(number in "-?[0-9]{1,20}(\\.[0-9]{1,9}|[eE][+-]?[0-9]{1,3})|true|\\[1\\]|\\{\\}") {
        prop_assert!(read(&format!(r#"{{"kind":"content","id":{number}}}"#)).is_err(), "{}", number);
    }

    #[test]
    fn only_the_two_directions_are_known(word in "(?i)in|out|inbound|outbound|[a-z]{0,12}") {
        let text = format!(r#"{{"kind":"comment","id":1,"content_id":2,"direction":"{word}"}}"#);
        let direction = read(&text).map(|record| match record {
            Record::Comment(comment) => comment.direction,
            other => panic!("no comment: {other:?}"),
        });
        match word.as_str() {
            "inbound" => prop_assert_eq!(direction, Ok(Direction::Inbound)),
            "outbound" => prop_assert_eq!(direction, Ok(Direction::Outbound)),
            _ => prop_assert!(direction.is_err(), "{}", word),
        }
    }

    #[test]
    fn counts_are_whole_numbers_and_nothing_else(count: i64, small in -(1_i64 << 53)..=1 << 53, digits in 1..9_u32) {
        let like_count = |number: &str| {
            let record = read(&format!(r#"{{"kind":"content","id":1,"like_count":{number}}}"#))?;
            let Record::Content(content) = record else { panic!("no content") };
            Ok::<_, String>(content.like_count)
        };
        prop_assert_eq!(like_count(&count.to_string()), Ok(Some(count)));
        prop_assert_eq!(like_count(&format!("{small}.0")), Ok(Some(small)));
        let fraction = small % 1_000_000;
        for number in [format!("\"{count}\""), format!("{}{digits}", i64::MAX), format!("{fraction}.{digits}")] {
            prop_assert!(like_count(&number).is_err(), "{}", number);
        }
    }

    #[test]
    fn figures_keep_their_value(figure in proptest::num::f64::NORMAL | proptest::num::f64::ZERO) {
        let text = format!(r#"{{"kind":"content","id":1,"metrics":{{"rate":{}}}}}"#, serde_json::json!(figure));
        let Record::Content(content) = read(&text).unwrap() else { panic!("no content") };
        prop_assert_eq!(content.metrics.get("rate"), Some(figure));
    }
}

/// A platform whose filter takes ids as they are, as text, and as the keys of an object.
fn platform() -> (tempfile::TempDir, Platform) {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("digits");
    std::fs::create_dir(&folder).unwrap();
    let toml = "schema = 1\nname = \"digits\"\n[[page]]\nname = \"p\"\nurl = \"http://127.0.0.1/\"\n\
        [[capture]]\nname = \"c\"\nsource = \"response\"\npath = \"/\"\nfilter = \"c.jq\"\n";
    let filter = r#".items | sort_by(.at) | .[]
        | {kind: "comment", id, content_id: (.id | tostring), direction: "inbound",
           parent_id: ({(.id | tostring): 1} | keys | first), reply_to_id: $request.query.id, author_id: [.id, 1][0]}"#;
    std::fs::write(folder.join("platform.toml"), toml).unwrap();
    std::fs::write(folder.join("c.jq"), filter).unwrap();
    let platform = Platform::load(&folder).unwrap();
    (dir, platform)
}

#[test]
fn a_long_integer_comes_out_of_a_filter_digit_for_digit() {
    let (_dir, platform) = platform();
    let account = AccountView { id: AccountId::parse("digits.a").unwrap(), settings: Settings::new() };
    let mut runner = proptest::test_runner::TestRunner::default();
    let digits = ("-?[1-9][0-9]{18,39}", any::<bool>(), 0..1000_u32);
    let outcome = runner.run(&digits, |(digits, quoted, at)| {
        let written = if quoted { format!("\"{digits}\"") } else { digits.clone() };
        let body =
            format!(r#"{{"items":[{{"id":{written},"at":{at}}},{{"id":{written},"at":{}}}]}}"#, at / 2);
        let request = Request::of(format!("http://127.0.0.1/?id={digits}"));
        let mapped = platform.map(0, &request, &account, body.as_bytes(), NOW);
        prop_assert_eq!((mapped.error, mapped.refused.len(), mapped.records.len()), (None, 0, 2));
        for record in mapped.records {
            let Record::Comment(comment) = record else { panic!("no comment") };
            let ids = [
                Some(comment.id),
                Some(comment.content_id),
                comment.parent_id,
                comment.reply_to_id,
                comment.author_id,
            ];
            for id in ids {
                let text = id.map(|id| id.to_string());
                prop_assert_eq!(text.as_ref(), Some(&digits));
            }
        }
        Ok(())
    });
    outcome.unwrap();
}
