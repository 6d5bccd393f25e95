//! How the platform itself writes its things: nested snake_case objects, ids now as integers and now as text,
//! seconds here, milliseconds there, RFC 3339 elsewhere, and zero or an empty text for what there is not. Shaped as real platforms
//! are, and on purpose unlike the records that a capture makes of it.

use jiff::tz::Offset;
use serde_json::{Value, json};

use crate::model::{
    Comment, Conversation, Data, Message, MessageKind, Notice, NoticeKind, OWNER, User, Work, WorkKind,
};

fn picture(url: &str) -> Value {
    json!({ "uri": url.rsplit('/').next(), "url_list": [url, format!("{url}#backup")] })
}

fn user(user: &User) -> Value {
    json!({
        "uid": user.uid, "sec_uid": user.sec_uid, "nickname": user.nickname,
        "avatar_thumb": picture(&user.avatar_url()), "follow_status": 0,
    })
}

pub(crate) fn work(data: &Data, work: &Work) -> Value {
    let owner = &data.users[OWNER];
    let media_type = match work.kind {
        WorkKind::Video => 4,
        WorkKind::Image => 2,
        WorkKind::Article => 163,
    };
    json!({
        "item_id": work.id, "item_id_str": work.id.to_string(), "media_type": media_type,
        "desc": { "item_title": work.title, "caption": work.caption.as_deref().unwrap_or("") },
        "publish_time": work.published_ms / 1000,
        "Cover": picture(&work.cover_url()),
        "video": work.video_url().map(|url| json!({ "duration": work.duration_ms, "play_addr": picture(&url) })),
        "images": work.images.iter().map(|url| picture(url)).collect::<Vec<_>>(),
        "share_info": { "share_url": work.url() },
        "author": { "uid": owner.uid.to_string(), "sec_uid": owner.sec_uid, "nickname": owner.nickname },
        "metrics": { "view_count": work.play_count.to_string(), "share_count": work.share_count.to_string() },
        "statistics": {
            "digg_count": work.digg_count, "comment_count": work.comment_count,
            "collect_count": work.collect_count,
        },
        "status": { "is_delete": work.deleted, "allow_comment": true, "in_reviewing": false },
    })
}

pub(crate) fn comment(data: &Data, comment: &Comment) -> Value {
    let id_or_zero = |id: Option<u64>| id.unwrap_or(0).to_string();
    json!({
        "cid": comment.id.to_string(), "item_id": comment.work,
        "reply_id": id_or_zero(comment.parent), "reply_to_reply_id": id_or_zero(comment.reply_to),
        "level": if comment.parent.is_some() { 2 } else { 1 },
        "text": comment.text, "create_time": comment.created_ms / 1000,
        "modify_time": comment.edited_ms.unwrap_or(0) / 1000,
        "digg_count": comment.digg_count, "reply_comment_total": comment.reply_count,
        "user": user(&data.users[comment.user]), "is_author": comment.user == OWNER,
        "image_list": comment.images.iter().map(|url| json!({ "origin_url": picture(url) })).collect::<Vec<_>>(),
        "status": if comment.deleted { 0 } else { 1 }, "ip_label": "广东", "user_digged": 0,
    })
}

pub(crate) fn conversation(data: &Data, conversation: &Conversation) -> Value {
    let last = data.last_message(conversation);
    let mut value = json!({
        "conversation_id": conversation.id, "badge_count": conversation.unread_count,
        "is_deleted": conversation.deleted, "ext": { "stranger": "0", "muted": "false" },
        "last_message": last.map(|message| json!({ "digest": message.digest(), "create_time": message.sent_ms })),
    });
    let (name, part) = match &conversation.group {
        Some(name) => ("group_info", json!({ "group_name": name, "member_count": 12 })),
        None => ("participant", user(&data.users[conversation.user])),
    };
    if let Value::Object(fields) = &mut value {
        fields
            .insert("conversation_type".to_owned(), json!(if conversation.group.is_some() { 2 } else { 1 }));
        fields.insert(name.to_owned(), part);
    }
    value
}

pub(crate) fn message(data: &Data, message: &Message) -> Value {
    // What a message carries is JSON within JSON, as chat protocols have it.
    let (message_type, content) = match message.kind {
        MessageKind::Text => (7, json!({ "aweType": 700, "text": message.text })),
        MessageKind::Image => (27, json!({ "resource_url": message.media_url.as_deref().map(picture) })),
        MessageKind::Card => (1003, json!({ "product": { "title": message.text } })),
    };
    let sender = &data.users[message.sender];
    json!({
        "server_message_id": message.id, "client_message_id": format!("{:08x}-{}", message.id >> 22, message.id & 0x3f_ffff),
        "conversation_id": message.conversation, "message_type": message_type, "content": content.to_string(),
        "sender": { "uid": sender.uid, "nickname": sender.nickname },
        "from_self": i32::from(message.sender == OWNER), "create_time": message.sent_ms,
        "edit_time": message.edited_ms.unwrap_or(0), "ref_message_id": message.quotes.unwrap_or(0),
        "is_recalled": message.recalled,
    })
}

pub(crate) fn notice(data: &Data, notice: &Notice) -> Value {
    let kind = match notice.kind {
        NoticeKind::Like => 41,
        NoticeKind::Comment => 31,
        NoticeKind::Follow => 33,
        NoticeKind::Mention => 45,
        NoticeKind::System => 1,
    };
    json!({
        "nid": notice.id, "type": kind, "create_at": rfc3339(notice.at_ms), "has_read": false,
        "from_user": notice.user.map(|place| user(&data.users[place])), "content": notice.text,
        "item_id": notice.work.unwrap_or(0), "comment_id": notice.comment.map_or(String::new(), |id| id.to_string()),
    })
}

/// The moment as the clock in Shanghai shows it, with its offset.
fn rfc3339(at_ms: i64) -> String {
    let Ok(moment) = jiff::Timestamp::from_millisecond(at_ms) else {
        return String::new();
    };
    moment.display_with_offset(Offset::constant(8)).to_string()
}
