//! What is captured: five kinds of record, each with the platform's own id as its key.
//!
//! A field that was not seen is `None` (or empty): unknown, never a default. Absence of a record never
//! means that it was deleted; a deletion or recall that the platform states is a field.

#[macro_use]
mod declare;
mod metrics;
mod types;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::account::{IdError, is_missing_word, shortened};
use crate::time::UnixMs;

pub use metrics::{METRIC_NAME_BYTES_MAX, METRICS_MAX, Metrics, MetricsError};
pub use types::{ContentType, ConversationType, Direction, MessageType, NotificationType};

/// The longest id of a record, in bytes.
pub const RECORD_ID_BYTES_MAX: usize = 256;

/// An id that the platform gave, exact to the last digit. Never empty, never the text of a missing value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RecordId(String);

impl RecordId {
    /// Checks `input`: 1 to 256 bytes without control characters.
    ///
    /// # Errors
    /// [`IdError`], naming the input, for anything else and for words such as "undefined": an id that is
    /// the text of a missing value would make one record of many.
    pub fn parse(input: &str) -> Result<Self, IdError> {
        if input.is_empty() || input.len() > RECORD_ID_BYTES_MAX || input.chars().any(char::is_control) {
            return Err(IdError::Record { input: shortened(input) });
        }
        if is_missing_word(input) {
            return Err(IdError::Missing { what: "record id", input: input.to_owned() });
        }
        Ok(Self(input.to_owned()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for RecordId {
    type Error = IdError;
    fn try_from(input: String) -> Result<Self, IdError> {
        Self::parse(&input)
    }
}

impl From<RecordId> for String {
    fn from(id: RecordId) -> String {
        id.0
    }
}

/// The kinds of record. The number is the kind's place in the store's keys and never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum RecordKind {
    /// A published work.
    Content = 1,
    /// A comment on a work, or a reply to one.
    Comment = 2,
    /// A thread of direct messages with one counterpart or a group.
    Conversation = 3,
    /// One direct message.
    DirectMessage = 4,
    /// A notice of the platform: a like, a follower, a mention.
    Notification = 5,
}

impl RecordKind {
    /// Every kind, in the order of their numbers.
    pub const ALL: [RecordKind; 5] = [
        RecordKind::Content,
        RecordKind::Comment,
        RecordKind::Conversation,
        RecordKind::DirectMessage,
        RecordKind::Notification,
    ];

    /// The kind's name as filters, logs and the API write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            RecordKind::Content => "content",
            RecordKind::Comment => "comment",
            RecordKind::Conversation => "conversation",
            RecordKind::DirectMessage => "direct_message",
            RecordKind::Notification => "notification",
        }
    }

    /// The kind with this number, if there is one.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}

impl fmt::Display for RecordKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

record! {
    /// A published work.
    Content {
        required {}
        optional {
            /// What it is.
            content_type: ContentType,
            /// Its title.
            title: String,
            /// Its description.
            description: String,
            /// Where people see it.
            url: String,
            /// Its cover picture.
            cover_url: String,
            /// Its length in milliseconds.
            duration_ms: i64,
            /// Who published it.
            author_id: RecordId,
            /// The publisher's name.
            author_name: String,
            /// When it was published.
            published_at: UnixMs,
            /// Times seen.
            view_count: i64,
            /// Times liked.
            like_count: i64,
            /// Comments, as the platform counts them.
            comment_count: i64,
            /// Times shared.
            share_count: i64,
            /// Times marked as a favourite.
            favorite_count: i64,
        }
        lists {
            /// Addresses of its videos or pictures.
            media_urls,
        }
        maps {
            /// Further figures that the platform gives, by its name for each: a completion rate, seconds watched.
            metrics,
        }
        sticky {
            /// The platform said that it was deleted.
            deleted,
        }
    }
}

record! {
    /// A comment on a work, or a reply to a comment.
    Comment {
        required {
            /// The work it stands below.
            content_id: RecordId,
            /// Which way it went.
            direction: Direction,
        }
        optional {
            /// The comment it answers; `None` at the top level.
            parent_id: RecordId,
            /// Below a thread's first comment: the reply that it answers.
            reply_to_id: RecordId,
            /// Who wrote it.
            author_id: RecordId,
            /// The writer's name.
            author_name: String,
            /// The writer's picture.
            author_avatar_url: String,
            /// What it says.
            text: String,
            /// When it was written.
            created_at: UnixMs,
            /// When it was last edited.
            edited_at: UnixMs,
            /// Times liked.
            like_count: i64,
            /// Replies, as the platform counts them.
            reply_count: i64,
        }
        lists {
            /// Addresses of its pictures.
            image_urls,
        }
        sticky {
            /// The platform said that it was deleted.
            deleted,
        }
    }
}

record! {
    /// A thread of direct messages.
    Conversation {
        required {}
        optional {
            /// Who takes part.
            conversation_type: ConversationType,
            /// The counterpart, where its id is not the conversation's.
            counterpart_id: RecordId,
            /// The counterpart's or the group's name.
            name: String,
            /// The counterpart's or the group's picture.
            avatar_url: String,
            /// Unread messages, as the platform counts them.
            unread_count: i64,
            /// The newest message's text.
            last_message_text: String,
            /// When the newest message was sent.
            last_message_at: UnixMs,
        }
        lists {}
        sticky {
            /// The platform said that it was deleted.
            deleted,
        }
    }
}

record! {
    /// One direct message.
    DirectMessage {
        required {
            /// The conversation it belongs to.
            conversation_id: RecordId,
            /// Which way it went.
            direction: Direction,
        }
        optional {
            /// Who sent it.
            sender_id: RecordId,
            /// The sender's name.
            sender_name: String,
            /// What it carries.
            message_type: MessageType,
            /// What it says.
            text: String,
            /// Address of its picture, video, sound or file.
            media_url: String,
            /// When it was sent.
            sent_at: UnixMs,
            /// When it was last edited.
            edited_at: UnixMs,
            /// The message it answers.
            reply_to_id: RecordId,
            /// What it carries as the platform wrote it, where nothing else here says it.
            raw: String,
        }
        lists {}
        sticky {
            /// The sender took it back.
            recalled,
        }
    }
}

record! {
    /// A notice of the platform.
    Notification {
        required {}
        optional {
            /// What it tells of.
            notification_type: NotificationType,
            /// Who caused it.
            actor_id: RecordId,
            /// The causer's name.
            actor_name: String,
            /// The work it is about.
            content_id: RecordId,
            /// The comment it is about.
            comment_id: RecordId,
            /// What it says.
            text: String,
            /// When it happened.
            created_at: UnixMs,
        }
        lists {}
        sticky {}
    }
}

/// Any record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Record {
    /// See [`Content`].
    Content(Content),
    /// See [`Comment`].
    Comment(Comment),
    /// See [`Conversation`].
    Conversation(Conversation),
    /// See [`DirectMessage`].
    DirectMessage(DirectMessage),
    /// See [`Notification`].
    Notification(Notification),
}

impl Record {
    /// Which kind it is.
    #[must_use]
    pub fn kind(&self) -> RecordKind {
        match self {
            Record::Content(_) => RecordKind::Content,
            Record::Comment(_) => RecordKind::Comment,
            Record::Conversation(_) => RecordKind::Conversation,
            Record::DirectMessage(_) => RecordKind::DirectMessage,
            Record::Notification(_) => RecordKind::Notification,
        }
    }

    /// The platform's own id, unique within the account and the kind.
    #[must_use]
    pub fn id(&self) -> &RecordId {
        match self {
            Record::Content(record) => &record.id,
            Record::Comment(record) => &record.id,
            Record::Conversation(record) => &record.id,
            Record::DirectMessage(record) => &record.id,
            Record::Notification(record) => &record.id,
        }
    }

    /// The thread it belongs to: a comment's work, a message's conversation; the others stand alone.
    #[must_use]
    pub fn thread_id(&self) -> Option<&RecordId> {
        match self {
            Record::Comment(record) => Some(&record.content_id),
            Record::DirectMessage(record) => Some(&record.conversation_id),
            Record::Content(_) | Record::Conversation(_) | Record::Notification(_) => None,
        }
    }

    /// The platform's time for it, where known.
    #[must_use]
    pub fn time(&self) -> Option<UnixMs> {
        match self {
            Record::Content(record) => record.published_at,
            Record::Comment(record) => record.created_at,
            Record::Conversation(record) => record.last_message_at,
            Record::DirectMessage(record) => record.sent_at,
            Record::Notification(record) => record.created_at,
        }
    }

    /// Whether somebody else wrote to the account's owner with it.
    #[must_use]
    pub fn is_inbound(&self) -> bool {
        match self {
            Record::Comment(record) => record.direction == Direction::Inbound,
            Record::DirectMessage(record) => record.direction == Direction::Inbound,
            Record::Notification(_) => true,
            Record::Content(_) | Record::Conversation(_) => false,
        }
    }

    /// Takes over what `newer`, a record of the same kind, knows (see the records' own `merge`).
    /// A record of another kind changes nothing.
    pub fn merge(&mut self, newer: Record) {
        match (self, newer) {
            (Record::Content(old), Record::Content(new)) => old.merge(new),
            (Record::Comment(old), Record::Comment(new)) => old.merge(new),
            (Record::Conversation(old), Record::Conversation(new)) => old.merge(new),
            (Record::DirectMessage(old), Record::DirectMessage(new)) => old.merge(new),
            (Record::Notification(old), Record::Notification(new)) => old.merge(new),
            _ => {}
        }
    }

    /// Names of the fields in which two records of one kind differ; empty for records of two kinds.
    #[must_use]
    pub fn changed_fields(&self, other: &Record) -> Vec<&'static str> {
        match (self, other) {
            (Record::Content(a), Record::Content(b)) => a.changed_fields(b),
            (Record::Comment(a), Record::Comment(b)) => a.changed_fields(b),
            (Record::Conversation(a), Record::Conversation(b)) => a.changed_fields(b),
            (Record::DirectMessage(a), Record::DirectMessage(b)) => a.changed_fields(b),
            (Record::Notification(a), Record::Notification(b)) => a.changed_fields(b),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> RecordId {
        RecordId::parse(text).unwrap()
    }

    #[test]
    fn an_id_that_is_the_text_of_a_missing_value_is_refused() {
        for bad in ["", "undefined", "null", "NaN", "a\u{0}b"] {
            assert!(RecordId::parse(bad).is_err(), "{bad:?} was accepted");
        }
        assert_eq!(id("7123456789012345678").as_str(), "7123456789012345678");
    }

    #[test]
    fn merging_keeps_what_the_newer_does_not_know_and_a_recall_sticks() {
        let mut old = DirectMessage::new(id("1"), id("c"), Direction::Inbound);
        old.text = Some("hello".into());
        old.recalled = true;
        let mut newer = DirectMessage::new(id("1"), id("c"), Direction::Inbound);
        newer.sender_name = Some("Ann".into());
        let before = old.clone();
        old.merge(newer);
        assert_eq!(old.text.as_deref(), Some("hello"));
        assert!(old.recalled);
        assert_eq!(old.changed_fields(&before), ["sender_name"]);
    }

    #[test]
    fn unknown_types_are_kept_as_written() {
        let kind: MessageType = serde_json::from_str("\"sticker\"").unwrap();
        assert_eq!(kind, MessageType::Other("sticker".into()));
        assert_eq!(serde_json::to_string(&kind).unwrap(), "\"sticker\"");
    }

    #[test]
    fn every_kind_has_a_number_and_a_name_of_its_own() {
        for kind in RecordKind::ALL {
            assert_eq!(RecordKind::from_number(kind as u8), Some(kind));
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
        }
        assert_eq!(RecordKind::from_number(0), None);
    }
}
