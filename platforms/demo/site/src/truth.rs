//! What was served to one account, as records: the yardstick that a store is compared with. The field names and
//! units are those of the records that a capture yields (times in ms, ids as text, unknown left out, a false flag
//! left out), written out here by hand so that a fault of the filters or of the pipeline cannot hide in it.
//! Knows nothing of the bodies that carried the records.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::model::{
    Comment, Conversation, Data, Message, MessageKind, Notice, NoticeKind, OWNER, Work, WorkKind,
};

/// The five lists of a truth, by the names they have in the answer.
const KINDS: [&str; 5] = ["contents", "comments", "conversations", "direct_messages", "notifications"];

/// A record as it went out: its list and its row.
pub(crate) struct Row {
    kind: &'static str,
    id: String,
    value: Value,
}

/// Every record that went out, in the version last served.
#[derive(Default)]
pub(crate) struct Served {
    rows: BTreeMap<(&'static str, String), Value>,
}

impl Served {
    /// Notes that `row` goes out now. Call it under the lock under which the body was built.
    pub(crate) fn mark(&mut self, row: Row) {
        self.rows.insert((row.kind, row.id), row.value);
    }

    /// The five lists, each sorted by id.
    pub(crate) fn to_json(&self) -> Value {
        let mut lists: serde_json::Map<String, Value> =
            KINDS.iter().map(|kind| ((*kind).to_owned(), json!([]))).collect();
        for ((kind, _), value) in &self.rows {
            if let Some(Value::Array(list)) = lists.get_mut(*kind) {
                list.push(value.clone());
            }
        }
        Value::Object(lists)
    }

    /// How many records of each kind went out.
    pub(crate) fn counts(&self) -> Value {
        let count = |kind: &str| self.rows.keys().filter(|(of, _)| *of == kind).count();
        KINDS.iter().map(|kind| ((*kind).to_owned(), json!(count(kind)))).collect()
    }
}

/// A row with what is unknown (null), untrue, or an empty list left out.
fn row(kind: &'static str, id: String, mut value: Value) -> Row {
    if let Value::Object(fields) = &mut value {
        fields.retain(|_, field| match field {
            Value::Null | Value::Bool(false) => false,
            Value::Array(list) => !list.is_empty(),
            _ => true,
        });
        fields.insert("id".to_owned(), json!(id));
    }
    Row { kind, id, value }
}

/// Comments and works carry whole seconds.
fn whole_seconds(ms: i64) -> i64 {
    ms / 1000 * 1000
}

fn id_text(id: Option<u64>) -> Option<String> {
    id.map(|id| id.to_string())
}

fn direction(user: usize) -> &'static str {
    if user == OWNER { "outbound" } else { "inbound" }
}

pub(crate) fn content(data: &Data, work: &Work) -> Row {
    let owner = &data.users[OWNER];
    let media: Vec<String> = work.video_url().into_iter().chain(work.images.iter().cloned()).collect();
    let content_type = match work.kind {
        WorkKind::Video => "video",
        WorkKind::Image => "image",
        WorkKind::Article => "article",
    };
    let value = json!({
        "content_type": content_type, "title": work.title, "description": work.caption,
        "url": work.url(), "cover_url": work.cover_url(), "media_urls": media,
        "duration_ms": (work.kind == WorkKind::Video).then_some(work.duration_ms),
        "author_id": owner.uid.to_string(), "author_name": owner.nickname,
        "published_at": whole_seconds(work.published_ms),
        "view_count": work.play_count, "like_count": work.digg_count, "comment_count": work.comment_count,
        "share_count": work.share_count, "favorite_count": work.collect_count, "deleted": work.deleted,
    });
    row("contents", work.id.to_string(), value)
}

pub(crate) fn comment(data: &Data, comment: &Comment) -> Row {
    let author = &data.users[comment.user];
    let value = json!({
        "content_id": comment.work.to_string(), "direction": direction(comment.user),
        "parent_id": id_text(comment.parent), "reply_to_id": id_text(comment.reply_to),
        "author_id": author.uid.to_string(), "author_name": author.nickname,
        "author_avatar_url": author.avatar_url(), "text": comment.text,
        "created_at": whole_seconds(comment.created_ms), "edited_at": comment.edited_ms.map(whole_seconds),
        "like_count": comment.digg_count, "reply_count": comment.reply_count,
        "image_urls": comment.images, "deleted": comment.deleted,
    });
    row("comments", comment.id.to_string(), value)
}

pub(crate) fn conversation(data: &Data, conversation: &Conversation) -> Row {
    let counterpart = &data.users[conversation.user];
    let last = data.last_message(conversation);
    let alone = conversation.group.is_none();
    let value = json!({
        "conversation_type": if alone { "private" } else { "group" },
        "name": conversation.group.as_ref().unwrap_or(&counterpart.nickname),
        "counterpart_id": alone.then(|| counterpart.uid.to_string()),
        "avatar_url": alone.then(|| counterpart.avatar_url()),
        "unread_count": conversation.unread_count, "last_message_text": last.map(Message::digest),
        "last_message_at": last.map(|message| message.sent_ms), "deleted": conversation.deleted,
    });
    row("conversations", conversation.id.clone(), value)
}

pub(crate) fn direct_message(data: &Data, message: &Message) -> Row {
    let sender = &data.users[message.sender];
    let message_type = match message.kind {
        MessageKind::Text => "text",
        MessageKind::Image => "image",
        MessageKind::Card => "card",
    };
    let value = json!({
        "conversation_id": message.conversation, "direction": direction(message.sender),
        "sender_id": sender.uid.to_string(), "sender_name": sender.nickname, "message_type": message_type,
        "text": message.text, "media_url": message.media_url, "sent_at": message.sent_ms,
        "edited_at": message.edited_ms, "reply_to_id": id_text(message.quotes), "recalled": message.recalled,
    });
    row("direct_messages", message.id.to_string(), value)
}

pub(crate) fn notification(data: &Data, notice: &Notice) -> Row {
    let actor = notice.user.map(|user| &data.users[user]);
    let notification_type = match notice.kind {
        NoticeKind::Like => "like",
        NoticeKind::Comment => "comment",
        NoticeKind::Follow => "follow",
        NoticeKind::Mention => "mention",
        NoticeKind::System => "system",
    };
    let value = json!({
        "notification_type": notification_type, "actor_id": actor.map(|user| user.uid.to_string()),
        "actor_name": actor.map(|user| user.nickname.as_str()), "content_id": id_text(notice.work),
        "comment_id": id_text(notice.comment), "text": notice.text, "created_at": notice.at_ms,
    });
    row("notifications", notice.id.to_string(), value)
}
