//! The statement that a list is complete: the one row that is no record, and the one way in which absence says
//! something.
//!
//! A filter writes it only where the platform's own counts say that the answer holds everything there is: a list that
//! stops at a limit, or that the platform serves out of a cache, says nothing about what it leaves out.

use std::collections::HashSet;

use serde::{Serialize, Serializer};
use snapfleet_protocol::{RecordId, RecordKind};

use super::fields::Fields;
use super::wording::shown;

/// The most ids of one list. A longer one refuses the row: cut, it would state as gone what it only had no room for.
pub const COMPLETE_IDS_MAX: usize = 20_000;

/// Below this content there is nothing of this kind but these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename = "complete_list")]
pub struct CompleteList {
    /// What is listed: comments, so far.
    pub of: RecordKind,
    /// The content below which they stand.
    pub content_id: RecordId,
    /// Every one that there is.
    #[serde(serialize_with = "sorted")]
    pub ids: HashSet<RecordId>,
}

/// In the order of the ids, so that equal lists are written alike.
fn sorted<S: Serializer>(ids: &HashSet<RecordId>, serializer: S) -> Result<S::Ok, S::Error> {
    let mut ids: Vec<_> = ids.iter().collect();
    ids.sort();
    serializer.collect_seq(ids)
}

pub(super) fn read(row: &mut Fields) -> Result<CompleteList, String> {
    let of = match row.word("of")?.as_deref() {
        Some("comment") => RecordKind::Comment,
        Some(other) => return Err(format!("of {} is not known: use comment", shown(other))),
        None => return Err("of is missing: use comment".into()),
    };
    Ok(CompleteList {
        of,
        content_id: row.required_id("content_id")?,
        ids: row.ids("ids", COMPLETE_IDS_MAX)?,
    })
}

#[cfg(test)]
mod tests {
    use snapfleet_protocol::UnixMs;

    use super::super::{Row, row};
    use super::*;

    const NOW: UnixMs = UnixMs(1_790_812_800_000);

    #[test]
    fn a_list_holds_its_ids_to_the_last_digit() {
        let text = r#"{"kind":"complete_list","of":"comment","content_id":"/","ids":[71234567890123456789012,"7",7]}"#;
        let Row::Complete(list) = row(text, NOW).unwrap() else { panic!("no list") };
        assert_eq!(
            serde_json::to_string(&list).unwrap(),
            r#"{"kind":"complete_list","of":"comment","content_id":"/","ids":["7","71234567890123456789012"]}"#
        );
        let empty = r#"{"kind":"complete_list","of":"comment","content_id":"/","ids":[]}"#;
        assert!(matches!(row(empty, NOW), Ok(Row::Complete(list)) if list.ids.is_empty()));
    }

    #[test]
    fn a_list_that_might_say_too_little_is_refused() {
        let with =
            |ids: &str| format!(r#"{{"kind":"complete_list","of":"comment","content_id":1,"ids":{ids}}}"#);
        let long = with(&serde_json::to_string(&(0..=COMPLETE_IDS_MAX).collect::<Vec<_>>()).unwrap());
        for (text, expected) in [
            (with("null"), "ids is missing"),
            (with("{}"), "ids must be a list of ids, not an object"),
            (with("[null]"), "ids must be a string or an integer, not null"),
            (with("[1.5]"), "ids must be a string or an integer, not a number with"),
            (with(r#"["undefined"]"#), "ids: record id"),
            (long, "ids has more than 20000"),
            (r#"{"kind":"complete_list","content_id":1,"ids":[]}"#.into(), "of is missing"),
            (
                r#"{"kind":"complete_list","of":"notification","content_id":1,"ids":[]}"#.into(),
                "of \"notification\"",
            ),
            (r#"{"kind":"complete_list","of":"comment","ids":[]}"#.into(), "content_id is missing"),
            (
                r#"{"kind":"complete_list","of":"comment","content_id":1,"ids":[],"id":1}"#.into(),
                "complete_list has no",
            ),
        ] {
            let reason = row(&text, NOW).unwrap_err().reason;
            assert!(reason.starts_with(expected), "got: {reason}\n  not: {expected}");
        }
    }
}
