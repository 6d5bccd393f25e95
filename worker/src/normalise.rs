//! `map`, second half: one row that a filter wrote, as JSON text, to one typed record, strictly; or to the statement
//! that a list is complete ([`CompleteList`]).
//!
//! A row is an object with `kind` and the fields of that record under their names in
//! [`snapfleet_protocol::records`]; `null` and absence both mean unknown. An id is a string or an integer and is
//! kept to the last digit; a time is converted once (see [`time`]). A key that the record does not have, a required
//! field that is missing and a value of the wrong type refuse the row, never the page. Knows nothing of platforms,
//! filters or the wire. A reason names the field and what was wrong with it, never the text that people wrote.

mod complete;
mod fields;
pub mod time;
pub(crate) mod wording;

use snapfleet_protocol::{Comment, Content, Conversation, DirectMessage, Notification, Record, UnixMs};

pub use self::complete::{COMPLETE_IDS_MAX, CompleteList};
use self::fields::Fields;

/// The longest text of a field, in bytes. A longer one is cut at a character's boundary and ends in `…`: refusing
/// the row would lose a message for being long, and the cut is counted.
pub const TEXT_BYTES_MAX: usize = 64 * 1024;
/// The longest `raw`, in bytes; a longer one is cut and counted as well.
pub const RAW_BYTES_MAX: usize = 4 * 1024;
/// The longest address, in bytes. A longer one (mostly a picture inlined as `data:`) is left out and counted: half
/// an address leads nowhere.
pub const URL_BYTES_MAX: usize = 4096;
/// The longest [`Refusal::detail`], in characters.
pub const DETAIL_CHARS_MAX: usize = 200;
/// The most addresses in a list; what is beyond is left out and counted.
pub const LIST_LEN_MAX: usize = 200;

/// A record and what had to be given up for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Normalised {
    /// The record.
    pub record: Record,
    /// Times that were given but could not be told, or lay outside 2016 to a day from now: they are `None`.
    pub unknown_times: usize,
    /// Texts, addresses and lists that exceeded a bound.
    pub cut: usize,
}

/// What a row says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(
    clippy::large_enum_variant,
    reason = "taken apart at once; a box would be an allocation for each record"
)]
pub enum Row {
    /// A record.
    Record(Normalised),
    /// There is nothing beyond this list.
    Complete(CompleteList),
}

/// Why a row is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong, naming the field; never what people wrote.
    pub reason: String,
    /// What the filter said as it failed on what the row is made of, at most [`DETAIL_CHARS_MAX`] characters. It quotes
    /// what people wrote: it is shown to whoever checks the filter, and logged nowhere.
    pub detail: Option<String>,
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self { reason, detail: None }
    }
}

/// Reads one row; `now` bounds its times.
///
/// # Errors
/// Why the row is refused.
pub fn row(row: &str, now: UnixMs) -> Result<Row, Refusal> {
    let mut fields = Fields::read(row, now)?;
    let kind = fields.word("kind")?.ok_or_else(|| "kind is missing".to_owned())?;
    let record = match kind.as_str() {
        "content" => Record::Content(content(&mut fields)?),
        "comment" => Record::Comment(comment(&mut fields)?),
        "conversation" => Record::Conversation(conversation(&mut fields)?),
        "direct_message" => Record::DirectMessage(direct_message(&mut fields)?),
        "notification" => Record::Notification(notification(&mut fields)?),
        "complete_list" => {
            let list = complete::read(&mut fields)?;
            fields.finish(&kind)?;
            return Ok(Row::Complete(list));
        }
        // What `rows` of platforms/lib/snapfleet.jq makes of it.
        "unreadable" => {
            let detail = fields.text("why")?.map(|why| why.chars().take(DETAIL_CHARS_MAX).collect());
            return Err(Refusal { reason: UNREADABLE.to_owned(), detail });
        }
        other => return Err(format!("kind {} is not known: {KINDS}", wording::shown(other)).into()),
    };
    let (unknown_times, cut) = fields.finish(&kind)?;
    Ok(Row::Record(Normalised { record, unknown_times, cut }))
}

const KINDS: &str = "use content, comment, conversation, direct_message, notification or complete_list";
/// The reason of a row on which the filter failed.
pub(crate) const UNREADABLE: &str = "the filter fails on this element";

fn content(row: &mut Fields) -> Result<Content, String> {
    Ok(Content {
        id: row.required_id("id")?,
        content_type: row.word("content_type")?.map(Into::into),
        title: row.text("title")?,
        description: row.text("description")?,
        url: row.url("url")?,
        cover_url: row.url("cover_url")?,
        duration_ms: row.number("duration_ms")?,
        author_id: row.id("author_id")?,
        author_name: row.text("author_name")?,
        published_at: row.time("published_at"),
        view_count: row.number("view_count")?,
        like_count: row.number("like_count")?,
        comment_count: row.number("comment_count")?,
        share_count: row.number("share_count")?,
        favorite_count: row.number("favorite_count")?,
        media_urls: row.urls("media_urls")?,
        metrics: row.metrics("metrics")?,
        deleted: row.flag("deleted")?,
    })
}

fn comment(row: &mut Fields) -> Result<Comment, String> {
    Ok(Comment {
        id: row.required_id("id")?,
        content_id: row.required_id("content_id")?,
        direction: row.direction()?,
        parent_id: row.id("parent_id")?,
        reply_to_id: row.id("reply_to_id")?,
        author_id: row.id("author_id")?,
        author_name: row.text("author_name")?,
        author_avatar_url: row.url("author_avatar_url")?,
        text: row.text("text")?,
        created_at: row.time("created_at"),
        edited_at: row.time("edited_at"),
        like_count: row.number("like_count")?,
        reply_count: row.number("reply_count")?,
        image_urls: row.urls("image_urls")?,
        deleted: row.flag("deleted")?,
    })
}

fn conversation(row: &mut Fields) -> Result<Conversation, String> {
    Ok(Conversation {
        id: row.required_id("id")?,
        conversation_type: row.word("conversation_type")?.map(Into::into),
        counterpart_id: row.id("counterpart_id")?,
        name: row.text("name")?,
        avatar_url: row.url("avatar_url")?,
        unread_count: row.number("unread_count")?,
        last_message_text: row.text("last_message_text")?,
        last_message_at: row.time("last_message_at"),
        deleted: row.flag("deleted")?,
    })
}

fn direct_message(row: &mut Fields) -> Result<DirectMessage, String> {
    Ok(DirectMessage {
        id: row.required_id("id")?,
        conversation_id: row.required_id("conversation_id")?,
        direction: row.direction()?,
        sender_id: row.id("sender_id")?,
        sender_name: row.text("sender_name")?,
        message_type: row.word("message_type")?.map(Into::into),
        text: row.text("text")?,
        media_url: row.url("media_url")?,
        sent_at: row.time("sent_at"),
        edited_at: row.time("edited_at"),
        reply_to_id: row.id("reply_to_id")?,
        raw: row.raw("raw")?,
        recalled: row.flag("recalled")?,
    })
}

fn notification(row: &mut Fields) -> Result<Notification, String> {
    Ok(Notification {
        id: row.required_id("id")?,
        notification_type: row.word("notification_type")?.map(Into::into),
        actor_id: row.id("actor_id")?,
        actor_name: row.text("actor_name")?,
        content_id: row.id("content_id")?,
        comment_id: row.id("comment_id")?,
        text: row.text("text")?,
        created_at: row.time("created_at"),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: UnixMs = UnixMs(1_790_812_800_000);

    fn reason(text: &str) -> String {
        row(text, NOW).unwrap_err().reason
    }

    fn record(text: &str, now: UnixMs) -> Result<Normalised, Refusal> {
        match row(text, now)? {
            Row::Record(normalised) => Ok(normalised),
            Row::Complete(list) => panic!("no record: {list:?}"),
        }
    }

    #[test]
    fn ids_are_exact_to_the_last_digit_as_integers_and_as_strings() {
        for id in ["7123456789012345678", "18446744073709551615", "1234567890123456789012345678901234567890"]
        {
            for written in [id.to_owned(), format!("\"{id}\"")] {
                let row = format!(r#"{{"kind":"content","id":{written}}}"#);
                assert_eq!(record(&row, NOW).unwrap().record.id().as_str(), id);
            }
        }
    }

    #[test]
    fn a_bad_row_is_refused_with_the_field_and_the_reason() {
        for (row, expected) in [
            ("[1]", "row is an array, not an object"),
            ("12", "row is a number, not an object"),
            ("{", "row is not readable"),
            ("{}", "kind is missing"),
            (r#"{"kind":"unreadable"}"#, "the filter fails on this element"),
            (r#"{"kind":"works"}"#, "kind \"works\" is not known"),
            (r#"{"kind":7}"#, "kind must be a string, not a number"),
            (r#"{"kind":"content"}"#, "id is missing"),
            (r#"{"kind":"content","id":null}"#, "id is missing"),
            (
                r#"{"kind":"content","id":""}"#,
                "id: record id \"\" is not valid: use 1 to 256 bytes without control characters; write null",
            ),
            (
                r#"{"kind":"content","id":"undefined"}"#,
                "id: record id \"undefined\" is the text of a missing",
            ),
            (r#"{"kind":"content","id":1.5}"#, "id must be a string or an integer, not a number with"),
            (r#"{"kind":"content","id":1e3}"#, "id must be a string or an integer, not a number with"),
            (r#"{"kind":"content","id":true}"#, "id must be a string or an integer, not a boolean"),
            (r#"{"kind":"content","id":1,"tittle":"x"}"#, "content has no field \"tittle\" (is it title?)"),
            (r#"{"kind":"content","id":1,"direction":"inbound"}"#, "content has no field \"direction\""),
            (r#"{"kind":"content","id":1,"title":5}"#, "title must be a string, not a number"),
            (
                r#"{"kind":"content","id":1,"like_count":"5"}"#,
                "like_count must be a whole number, not a string",
            ),
            (r#"{"kind":"content","id":1,"like_count":0.5}"#, "like_count must be a whole number"),
            (
                r#"{"kind":"content","id":1,"like_count":99999999999999999999}"#,
                "like_count must be a whole number",
            ),
            (r#"{"kind":"content","id":1,"deleted":1}"#, "deleted must be true or false, not a number"),
            (r#"{"kind":"content","id":1,"media_urls":"x"}"#, "media_urls must be a list of strings"),
            (r#"{"kind":"content","id":1,"media_urls":[5]}"#, "media_urls must be a list of strings"),
            (r#"{"kind":"comment","id":1,"direction":"inbound"}"#, "content_id is missing"),
            (r#"{"kind":"comment","id":1,"content_id":2}"#, "direction is missing"),
            (r#"{"kind":"comment","id":1,"content_id":2,"direction":"in"}"#, "direction \"in\" is not known"),
            (r#"{"kind":"direct_message","id":1,"direction":"inbound"}"#, "conversation_id is missing"),
            (
                r#"{"kind":"content","id":1,"metrics":5}"#,
                "metrics must be an object of numbers, not a number",
            ),
            (
                r#"{"kind":"content","id":1,"metrics":{"a":"1"}}"#,
                "metrics.\"a\" must be a number, not a string",
            ),
            (
                r#"{"kind":"content","id":1,"metrics":{"":1}}"#,
                "metrics.\"\": a metric's name has 1 to 64 bytes",
            ),
            (
                r#"{"kind":"content","id":1,"metrics":{"a":1e999}}"#,
                "metrics.\"a\": a metric is a finite number",
            ),
            (
                r#"{"kind":"direct_message","id":1,"conversation_id":2,"direction":"inbound","raw":{}}"#,
                "raw must be a string",
            ),
        ] {
            let reason = reason(row);
            assert!(reason.starts_with(expected), "{row}\n  got: {reason}\n  not: {expected}");
        }
    }

    #[test]
    fn what_a_filter_says_as_it_fails_is_apart_from_the_reason_and_short() {
        let of = |why: &str| row(&format!(r#"{{"kind":"unreadable","why":{why}}}"#), NOW).unwrap_err();
        let long = of(&format!("\"{}\"", "好".repeat(1000)));
        assert_eq!(long.reason, "the filter fails on this element");
        assert_eq!(long.detail.unwrap().chars().count(), DETAIL_CHARS_MAX);
        assert_eq!(of("null").detail, None);
    }

    #[test]
    fn null_and_absence_are_unknown_and_whole_floats_are_numbers() {
        let row = r#"{"kind":"comment","id":1,"content_id":"w","direction":"outbound","text":null,"like_count":3.0,
            "created_at":null,"image_urls":null,"deleted":null,"parent_id":null}"#;
        let Normalised { record: Record::Comment(comment), unknown_times, cut } = record(row, NOW).unwrap()
        else {
            panic!("not a comment")
        };
        assert_eq!((unknown_times, cut), (0, 0));
        assert_eq!((comment.text, comment.created_at, comment.parent_id), (None, None, None));
        assert_eq!((comment.like_count, comment.deleted, comment.image_urls.len()), (Some(3), false, 0));
    }

    #[test]
    fn an_unreadable_time_is_none_and_counted() {
        let row = r#"{"kind":"content","id":1,"published_at":"yesterday"}"#;
        let normalised = record(row, NOW).unwrap();
        assert_eq!((normalised.record.time(), normalised.unknown_times), (None, 1));
    }

    #[test]
    fn what_exceeds_a_bound_is_cut_and_counted() {
        let text = "好".repeat(TEXT_BYTES_MAX);
        let urls = vec!["https://x/".to_owned(); LIST_LEN_MAX + 1];
        let long_url = format!("data:{}", "x".repeat(URL_BYTES_MAX));
        let row = serde_json::json!({"kind": "content", "id": "1", "title": text, "media_urls": urls, "url": long_url});
        let normalised = record(&row.to_string(), NOW).unwrap();
        let Record::Content(content) = normalised.record else { panic!("not a content") };
        let title = content.title.unwrap();
        assert!(title.len() <= TEXT_BYTES_MAX && title.len() > TEXT_BYTES_MAX - 8 && title.ends_with('…'));
        assert_eq!((content.media_urls.len(), content.url, normalised.cut), (LIST_LEN_MAX, None, 3));
    }

    #[test]
    fn further_figures_and_what_a_message_carries_are_kept() {
        let figures =
            r#"{"kind":"content","id":1,"metrics":{"completion_rate":0.41,"seconds":12,"unknown":null}}"#;
        let Record::Content(content) = record(figures, NOW).unwrap().record else { panic!("not a content") };
        assert_eq!(
            content.metrics.iter().collect::<Vec<_>>(),
            [("completion_rate", 0.41), ("seconds", 12.0)]
        );
        let raw = format!("{{\"aweType\":{}}}", "9".repeat(RAW_BYTES_MAX));
        let row = serde_json::json!({"kind": "direct_message", "id": "1", "conversation_id": "c",
            "direction": "inbound", "raw": raw});
        let normalised = record(&row.to_string(), NOW).unwrap();
        let Record::DirectMessage(message) = normalised.record else { panic!("not a message") };
        let kept = message.raw.unwrap();
        assert!(kept.len() <= RAW_BYTES_MAX && kept.starts_with("{\"aweType\":999") && kept.ends_with('…'));
        assert_eq!(normalised.cut, 1);
    }

    /// Any value, mostly of a shape that some field takes.
    fn value() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("null".to_owned()),
            any::<bool>().prop_map(|flag| flag.to_string()),
            any::<i64>().prop_map(|number| number.to_string()),
            "-?[0-9]{1,40}(\\.[0-9]{0,9})?([eE][+-]?[0-9]{1,4})?",
            any::<String>().prop_map(|text| serde_json::Value::from(text).to_string()),
            "\"[0-9年月日:. TZ+-]{0,24}\"",
            any::<Vec<String>>().prop_map(|list| serde_json::Value::from(list).to_string()),
            "\\PC{0,12}",
            r#"\{("[a-z]{0,3}":-?[0-9]{1,9}(\.[0-9]{1,9})?(e[0-9]{1,3})?)?\}"#,
        ]
    }

    /// A row with what its kind requires and any values in some of its other fields.
    fn any_row() -> impl Strategy<Value = String> {
        let shapes = [
            ("content", "", ["title", "metrics", "media_urls", "published_at", "view_count", "deleted"]),
            (
                "comment",
                r#","content_id":1,"direction":"inbound""#,
                ["text", "parent_id", "image_urls", "created_at", "like_count", "deleted"],
            ),
            (
                "direct_message",
                r#","conversation_id":"c","direction":"outbound""#,
                ["text", "raw", "message_type", "sent_at", "reply_to_id", "recalled"],
            ),
        ];
        let fields = proptest::collection::btree_map(0..6_usize, value(), 0..3);
        (proptest::sample::select(shapes.to_vec()), any::<u64>(), fields).prop_map(
            |((kind, required, names), id, fields)| {
                let fields: Vec<_> =
                    fields.iter().map(|(at, value)| format!(",\"{}\":{value}", names[*at])).collect();
                format!("{{\"kind\":\"{kind}\",\"id\":{id}{required}{}}}", fields.concat())
            },
        )
    }

    proptest! {
        #[test]
        fn no_row_panics_and_what_is_read_reads_the_same_again(row in prop_oneof![any_row(), any::<String>()]) {
            if let Ok(first) = record(&row, NOW) {
                let written = serde_json::to_string(&first.record).unwrap();
                prop_assert_eq!(record(&written, NOW).unwrap().record, first.record);
            }
        }

        #[test]
        fn no_time_panics_and_each_is_in_range(json in value(), now in any::<i64>()) {
            if let Some(time) = time::parse(&json, UnixMs(now)) {
                prop_assert!(time >= UnixMs::EARLIEST && time.0 <= now.saturating_add(24 * 60 * 60 * 1000));
            }
        }
    }

    #[test]
    fn what_the_protocol_writes_the_normaliser_reads() {
        let mut comment = serde_json::json!({"kind": "comment", "id": "1", "content_id": "2", "direction": "inbound",
            "parent_id": "3", "reply_to_id": "4", "author_id": "5", "author_name": "Ann", "text": "hi",
            "author_avatar_url": "https://x/a.png", "created_at": 1_790_000_000_000_i64, "like_count": 1,
            "edited_at": 1_790_000_001_000_i64, "reply_count": 2, "image_urls": ["https://x/1"], "deleted": true});
        let read = record(&comment.to_string(), NOW).unwrap().record;
        assert_eq!(serde_json::to_value(&read).unwrap(), comment);
        comment["direction"] = "outbound".into();
        assert_ne!(serde_json::to_value(&read).unwrap(), comment);
    }
}
