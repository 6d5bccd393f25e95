//! Which array is probably what, by the names of its fields and of where it comes from: a guess, and told as one.

use super::kinds::{KINDS, Kind, WRITTEN};
use super::shape::{Place, Table};

/// What a word in the address is worth, and two fields that tell together; a field that tells, and one that many kinds
/// have.
const WORD: usize = 3;
const PAIR: usize = 3;
const TELLING: usize = 2;
const COMMON: usize = 1;
/// Below this there is no guess.
const LEAST: usize = 4;

/// A guess and what led to it.
pub(super) struct Guess {
    pub(super) kind: &'static Kind,
    pub(super) score: usize,
    /// For people.
    pub(super) by: Vec<String>,
}

/// What an array at this path of an answer from this address probably holds.
pub(super) fn guess(address: &str, table: &Table<'_>) -> Option<Guess> {
    let words: Vec<String> = [address, table.path].iter().flat_map(|text| words(text)).collect();
    let names: Vec<String> =
        table.fields.iter().filter(|(path, _)| depth(path) == 1).map(|(path, _)| simplified(path)).collect();
    let mut best: Option<Guess> = None;
    for kind in KINDS.iter().filter(|kind| !kind.is_written || is_written(table)) {
        let (mut score, mut by) = (0, Vec::new());
        if let Some(word) = words.iter().rev().find(|word| kind.words.contains(&word.as_str())) {
            score += WORD;
            by.push(format!("{word} in its address"));
        }
        for name in &names {
            let worth = if kind.telling.contains(&name.as_str()) {
                TELLING
            } else if kind.common.contains(&name.as_str()) {
                COMMON
            } else {
                continue;
            };
            score += worth;
            by.push(name.clone());
        }
        if let Some([one, other]) = pair(kind, &names) {
            score += PAIR;
            by.push(format!("{one} with {other}"));
        }
        if score >= LEAST && best.as_ref().is_none_or(|best| score > best.score) {
            best = Some(Guess { kind, score, by });
        }
    }
    best
}

/// Two fields that tell together.
fn pair<'n>(kind: &Kind, names: &'n [String]) -> Option<[&'n str; 2]> {
    let one = names.iter().find(|name| kind.pair[0].contains(&name.as_str()))?;
    let other = names.iter().find(|name| kind.pair[1].iter().any(|start| name.starts_with(start)))?;
    Some([one, other])
}

/// Whether something in a row may be what somebody wrote.
fn is_written(table: &Table<'_>) -> bool {
    let last = |path: &str| simplified(path).rsplit('.').next().map(str::to_owned).unwrap_or_default();
    table.fields.iter().any(|(path, _)| WRITTEN.contains(&last(path).as_str()))
}

/// The path within a row from which a record's field may come.
pub(super) fn source_of<'t>(table: &Table<'t>, names: &[&str]) -> Option<(&'t str, &'t Place)> {
    let is_value = |place: &Place| !place.types.contains("object") && !place.types.contains("array");
    let found = |name: &&str| {
        table.fields.iter().find(|(path, place)| simplified(path) == **name && is_value(place)).copied()
    };
    names.iter().find_map(found)
}

/// `.user."nick name"` is `user.nickname`; `.content|fromjson|.text` is `contentfromjson.text`.
fn simplified(path: &str) -> String {
    let kept =
        path.trim_start_matches('.').chars().filter(|letter| letter.is_alphanumeric() || *letter == '.');
    kept.flat_map(char::to_lowercase).collect()
}

fn depth(path: &str) -> usize {
    path.matches('.').count()
}

fn words(text: &str) -> Vec<String> {
    let parts = text.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|part| !part.is_empty());
    parts.map(str::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::shape::Shape;
    use super::*;

    fn guessed(address: &str, row: serde_json::Value) -> Option<&'static str> {
        let mut shape = Shape::default();
        shape.add(&json!({ "list": [row] }));
        let tables = shape.tables();
        guess(address, &tables[0]).map(|guess| guess.kind.name)
    }

    #[test]
    fn kinds_are_told_by_fields_and_address_and_nothing_is_guessed_without() {
        for (address, row, kind) in [
            (
                "/aweme/v1/web/comment/list/",
                json!({ "cid": "1", "text": "x", "digg_count": 1 }),
                Some("comments"),
            ),
            ("/x", json!({ "cid": "1", "reply_id": "0", "text": "x" }), Some("comments")),
            ("/im/message/list", json!({ "server_message_id": 1, "content": "x" }), Some("messages")),
            (
                "/im/conversation/list",
                json!({ "conversation_id": 1, "badge_count": 2 }),
                Some("conversations"),
            ),
            ("/notice/list", json!({ "nid": 1, "from_user": {}, "content": "x" }), Some("notices")),
            ("/creator/item/list", json!({ "item_id": 1, "publish_time": 2, "desc": {} }), Some("works")),
            ("/config", json!({ "id": 1, "name": "x", "enabled": true }), None),
            (
                "/t/x/1.json",
                json!({ "post_stream": 1, "cooked": "x", "username": "a", "reply_count": 1 }),
                Some("comments"),
            ),
            ("/latest", json!({ "title": "x", "slug": "x", "reply_count": 1 }), Some("works")),
            ("/inboxes", json!({ "from_user": 1, "text": "x" }), Some("messages")),
            (
                "/private-messages",
                json!({ "id": 1, "participants": [], "unread_posts": 1 }),
                Some("conversations"),
            ),
            // Nothing in it is a message.
            ("/message-bus", json!({ "message_id": 1, "channel": "x", "data": {} }), None),
        ] {
            assert_eq!(guessed(address, row.clone()), kind, "{address} {row}");
        }
    }
}
