//! Sample records and snapshots, told apart by number.

use snapfleet_protocol::{
    AccountId, Comment, Content, Conversation, DirectMessage, Direction, InstanceId, RecordId, Snapshot,
    SnapshotKind, UnixMs,
};

/// 2026-10-01T00:00:00Z, when the samples begin.
pub const BASE: UnixMs = UnixMs(1_790_812_800_000);

/// An account, as `<platform>.<account>`.
///
/// # Panics
/// If `text` is not one.
#[must_use]
pub fn account(text: &str) -> AccountId {
    AccountId::parse(text).expect("a valid account")
}

/// A record's id.
///
/// # Panics
/// If `text` is not one.
#[must_use]
pub fn id(text: &str) -> RecordId {
    RecordId::parse(text).expect("a valid id")
}

/// An empty delta.
#[must_use]
pub fn snapshot(account: &AccountId, epoch: u64, seq: u64) -> Snapshot {
    Snapshot {
        platform: account.platform.clone(),
        account: account.account.clone(),
        instance: InstanceId::parse("sample").expect("a valid instance"),
        epoch,
        seq,
        kind: SnapshotKind::Delta,
        part: 1,
        parts: 1,
        captured_at: UnixMs(BASE.0 + seq as i64),
        contents: Vec::new(),
        comments: Vec::new(),
        conversations: Vec::new(),
        direct_messages: Vec::new(),
        notifications: Vec::new(),
    }
}

/// The `number`th work.
#[must_use]
pub fn content(number: u64) -> Content {
    Content {
        title: Some(format!("work {number}")),
        view_count: Some(number as i64),
        published_at: Some(UnixMs(BASE.0 + number as i64)),
        ..Content::new(id(&format!("w{number}")))
    }
}

/// The `number`th comment below the `work`th work.
#[must_use]
pub fn comment(work: u64, number: u64, text: &str) -> Comment {
    Comment {
        author_id: Some(id("reader")),
        author_name: Some("A reader".to_owned()),
        text: Some(text.to_owned()),
        created_at: Some(UnixMs(BASE.0 + number as i64)),
        ..Comment::new(id(&format!("c{number}")), id(&format!("w{work}")), Direction::Inbound)
    }
}

/// The `number`th conversation.
#[must_use]
pub fn conversation(number: u64) -> Conversation {
    Conversation {
        name: Some(format!("counterpart {number}")),
        last_message_at: Some(UnixMs(BASE.0 + number as i64)),
        ..Conversation::new(id(&format!("v{number}")))
    }
}

/// The `number`th message of a conversation.
#[must_use]
pub fn direct_message(conversation: u64, number: u64, text: &str) -> DirectMessage {
    DirectMessage {
        text: Some(text.to_owned()),
        sent_at: Some(UnixMs(BASE.0 + number as i64)),
        ..DirectMessage::new(id(&format!("m{number}")), id(&format!("v{conversation}")), Direction::Inbound)
    }
}
