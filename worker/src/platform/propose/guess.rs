//! Which array is probably what, by the names of its fields and of where it comes from: a guess, and told as one.

use super::shape::{Place, Table};

/// One kind of record: how it may be recognised, and where its fields may come from. Names are in lower case, letters
/// and digits alone; a path within a row has a dot.
pub(super) struct Kind {
    /// For people.
    pub(super) name: &'static str,
    /// As rows name it.
    pub(super) kind: &'static str,
    words: &'static [&'static str],
    telling: &'static [&'static str],
    common: &'static [&'static str],
    /// Fields of the record with the names that are looked for, best first.
    pub(super) fields: &'static [(&'static str, &'static [&'static str])],
}

/// What a word in the address is worth, a field that tells, and one that many kinds have.
const WORD: usize = 3;
const TELLING: usize = 2;
const COMMON: usize = 1;
/// Below this there is no guess.
const LEAST: usize = 4;

const CREATED: &[&str] =
    &["createtime", "createat", "createdat", "created", "ctime", "timestamp", "time", "date"];
const TEXT: &[&str] = &["text", "content", "message", "body", "contentfromjson.text"];
const NAMES: &[&str] = &[
    "user.nickname",
    "user.name",
    "author.nickname",
    "author.name",
    "nickname",
    "username",
    "author",
    "uname",
];
const USERS: &[&str] =
    &["user.uid", "user.id", "author.uid", "author.id", "uid", "userid", "authorid", "mid"];

pub(super) const KINDS: [Kind; 5] = [
    Kind {
        name: "conversations",
        kind: "conversation",
        words: &[
            "conversation",
            "conversations",
            "session",
            "sessions",
            "chat",
            "chats",
            "dialog",
            "dialogs",
            "inbox",
        ],
        telling: &[
            "conversationid",
            "conversationtype",
            "unread",
            "unreadcount",
            "badge",
            "badgecount",
            "lastmessage",
            "lastmsg",
            "participant",
            "participants",
            "members",
            "talkerid",
        ],
        common: &["id", "name", "avatar", "updatetime", "muted"],
        fields: &[
            ("id", &["conversationid", "sessionid", "chatid", "talkerid", "id"]),
            (
                "counterpart_id",
                &["participant.uid", "participant.id", "talkerid", "user.uid", "user.id", "peerid"],
            ),
            (
                "name",
                &["participant.nickname", "participant.name", "name", "title", "user.nickname", "user.name"],
            ),
            ("unread_count", &["badgecount", "unreadcount", "unread", "badge"]),
            (
                "last_message_text",
                &["lastmessage.digest", "lastmessage.text", "lastmessage.content", "lastmsg.content"],
            ),
            (
                "last_message_at",
                &["lastmessage.createtime", "lastmessage.createdat", "updatetime", "updatedat"],
            ),
        ],
    },
    Kind {
        name: "messages",
        kind: "direct_message",
        words: &["message", "messages", "msg", "msgs"],
        telling: &[
            "messageid",
            "servermessageid",
            "clientmessageid",
            "msgid",
            "msgtype",
            "messagetype",
            "conversationid",
            "fromself",
            "sender",
            "senderid",
            "senderuid",
            "receiver",
            "receiverid",
            "sentat",
            "isrecalled",
        ],
        common: &["id", "content", "text", "createtime", "type"],
        fields: &[
            ("id", &["servermessageid", "messageid", "msgid", "id"]),
            ("conversation_id", &["conversationid", "chatid", "sessionid", "talkerid"]),
            ("direction", &[]),
            (
                "sender_id",
                &["sender.uid", "sender.id", "senderid", "senderuid", "fromuser.uid", "fromuserid"],
            ),
            ("sender_name", &["sender.nickname", "sender.name", "sendername", "fromuser.nickname"]),
            ("message_type", &["messagetype", "msgtype", "type"]),
            ("text", &["text", "contentfromjson.text", "content", "message", "body"]),
            ("sent_at", &["sentat", "createtime", "createdat", "created", "timestamp", "time"]),
        ],
    },
    Kind {
        name: "notices",
        kind: "notification",
        words: &["notice", "notices", "notification", "notifications", "notify"],
        telling: &[
            "nid",
            "noticeid",
            "noticetype",
            "notificationid",
            "notificationtype",
            "actor",
            "fromuser",
            "isread",
            "createat",
        ],
        common: &["id", "type", "content", "createtime", "text"],
        fields: &[
            ("id", &["nid", "noticeid", "notificationid", "id"]),
            ("notification_type", &["noticetype", "notificationtype", "type"]),
            ("actor_id", &["fromuser.uid", "fromuser.id", "actor.id", "user.uid", "user.id"]),
            (
                "actor_name",
                &["fromuser.nickname", "fromuser.name", "actor.name", "user.nickname", "user.name"],
            ),
            ("content_id", &["itemid", "awemeid", "videoid", "postid", "contentid"]),
            ("comment_id", &["commentid", "cid"]),
            ("text", TEXT),
            ("created_at", CREATED),
        ],
    },
    Kind {
        name: "comments",
        kind: "comment",
        words: &["comment", "comments", "reply", "replies"],
        telling: &[
            "cid",
            "commentid",
            "rpid",
            "replycount",
            "replyid",
            "replytoreplyid",
            "replycommenttotal",
            "subcommentcount",
            "parentid",
            "parent",
            "totalreplies",
        ],
        common: &[
            "id",
            "text",
            "content",
            "message",
            "createtime",
            "created",
            "user",
            "author",
            "likecount",
            "diggcount",
            "likes",
            "itemid",
        ],
        fields: &[
            ("id", &["cid", "commentid", "rpid", "id"]),
            (
                "content_id",
                &[
                    "itemid",
                    "awemeid",
                    "videoid",
                    "postid",
                    "noteid",
                    "contentid",
                    "objectid",
                    "oid",
                    "parentid",
                ],
            ),
            ("direction", &[]),
            ("parent_id", &["replyid", "parentid", "parent", "rootid", "root"]),
            ("author_id", USERS),
            ("author_name", NAMES),
            ("text", TEXT),
            ("created_at", CREATED),
            ("like_count", &["diggcount", "likecount", "likes", "like"]),
            (
                "reply_count",
                &["replycommenttotal", "replycount", "subcommentcount", "totalreplies", "rcount"],
            ),
        ],
    },
    Kind {
        name: "works",
        kind: "content",
        words: &[
            "item", "items", "work", "works", "video", "videos", "post", "posts", "article", "articles",
            "aweme", "media", "note", "notes", "feed",
        ],
        telling: &[
            "itemid",
            "awemeid",
            "videoid",
            "postid",
            "noteid",
            "articleid",
            "publishtime",
            "publishedat",
            "playcount",
            "viewcount",
            "shareurl",
            "shareinfo",
            "coverurl",
            "cover",
            "mediatype",
            "awemetype",
            "statistics",
            "metrics",
            "video",
        ],
        common: &[
            "id",
            "title",
            "desc",
            "description",
            "caption",
            "duration",
            "author",
            "createtime",
            "likecount",
            "commentcount",
        ],
        fields: &[
            ("id", &["itemid", "awemeid", "videoid", "postid", "noteid", "articleid", "id"]),
            ("title", &["title", "itemtitle", "desc.itemtitle", "desc", "name"]),
            ("description", &["description", "caption", "desc.caption", "summary"]),
            ("url", &["shareurl", "shareinfo.shareurl", "url", "link"]),
            ("author_id", USERS),
            ("author_name", NAMES),
            (
                "published_at",
                &["publishtime", "publishedat", "publishat", "createtime", "createdat", "created", "date"],
            ),
            ("view_count", &["viewcount", "playcount", "metrics.viewcount", "statistics.playcount", "views"]),
            (
                "like_count",
                &["likecount", "diggcount", "statistics.diggcount", "statistics.likecount", "likes"],
            ),
            ("comment_count", &["commentcount", "statistics.commentcount", "comments"]),
            ("share_count", &["sharecount", "statistics.sharecount", "metrics.sharecount", "shares"]),
        ],
    },
];

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
    for kind in &KINDS {
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
        if score >= LEAST && best.as_ref().is_none_or(|best| score > best.score) {
            best = Some(Guess { kind, score, by });
        }
    }
    best
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
        ] {
            assert_eq!(guessed(address, row.clone()), kind, "{address} {row}");
        }
    }
}
