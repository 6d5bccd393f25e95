//! The one message that travels from worker to master.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::account::{AccountId, AccountName, InstanceId, PlatformName};
use crate::records::{Comment, Content, Conversation, DirectMessage, Notification, Record};
use crate::time::UnixMs;

/// The version of the snapshot's shape, carried in the header [`WireVersion::HEADER`].
///
/// A field may be added with a default within a version; anything else is a new one. Bytes of every version
/// ever published are kept below `protocol/tests/golden/` and stay readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireVersion {
    /// The first: named fields, zstd above 1 KiB.
    V1,
}

impl WireVersion {
    /// What this build publishes.
    pub const CURRENT: WireVersion = WireVersion::V1;
    /// The header of a published snapshot that states its version.
    pub const HEADER: &'static str = "Snapfleet-Version";

    /// The version as the header's value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            WireVersion::V1 => "1",
        }
    }

    /// The version that a header's value states, if this build knows it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [WireVersion::V1].into_iter().find(|version| version.as_str() == text)
    }
}

/// What a snapshot is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotKind {
    /// Empty; published by a new holder. From then on the broker refuses the old one.
    Claim,
    /// What changed since the holder's last publish.
    Delta,
    /// All that the holder's window knows, so that a master can be rebuilt from the stream.
    Full,
}

/// What one worker instance saw of one account: a set of upserts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The platform the account is on.
    pub platform: PlatformName,
    /// The account; together with the platform it must equal the subject's.
    pub account: AccountName,
    /// Who publishes.
    pub instance: InstanceId,
    /// The holder's term: every new holder's is higher than any before it on the account's subject.
    pub epoch: u64,
    /// Counts the holder's publishes of this account within its epoch, from 1.
    pub seq: u64,
    /// What it is for.
    pub kind: SnapshotKind,
    /// Which part of a snapshot larger than the broker's limit this is, from 1.
    pub part: u32,
    /// How many parts there are; 1 where it is whole.
    pub parts: u32,
    /// When the newest of its records was captured, by the worker's clock.
    pub captured_at: UnixMs,
    /// Works.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contents: Vec<Content>,
    /// Comments and replies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub comments: Vec<Comment>,
    /// Threads of direct messages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conversations: Vec<Conversation>,
    /// Direct messages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub direct_messages: Vec<DirectMessage>,
    /// Notices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notifications: Vec<Notification>,
}

impl Snapshot {
    /// The account it is about.
    #[must_use]
    pub fn account_id(&self) -> AccountId {
        AccountId::new(self.platform.clone(), self.account.clone())
    }

    /// What tells it from every other snapshot ever published.
    #[must_use]
    pub fn id(&self) -> SnapshotId {
        SnapshotId {
            account: self.account_id(),
            instance: self.instance.clone(),
            epoch: self.epoch,
            seq: self.seq,
        }
    }

    /// How many records it holds.
    #[must_use]
    pub fn record_count(&self) -> usize {
        self.contents.len()
            + self.comments.len()
            + self.conversations.len()
            + self.direct_messages.len()
            + self.notifications.len()
    }

    /// Adds a record to the list of its kind.
    pub fn push(&mut self, record: Record) {
        match record {
            Record::Content(record) => self.contents.push(record),
            Record::Comment(record) => self.comments.push(record),
            Record::Conversation(record) => self.conversations.push(record),
            Record::DirectMessage(record) => self.direct_messages.push(record),
            Record::Notification(record) => self.notifications.push(record),
        }
    }

    /// Its records, works and conversations before what belongs to them.
    pub fn into_records(self) -> impl Iterator<Item = Record> {
        (self.contents.into_iter().map(Record::Content))
            .chain(self.conversations.into_iter().map(Record::Conversation))
            .chain(self.comments.into_iter().map(Record::Comment))
            .chain(self.direct_messages.into_iter().map(Record::DirectMessage))
            .chain(self.notifications.into_iter().map(Record::Notification))
    }
}

/// Identifies one published snapshot; its text is the broker's message id.
///
/// The account is part of it: one instance publishes for many accounts, all in the one stream within which the
/// broker takes a repeated id for a repeated message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SnapshotId {
    /// For which account.
    pub account: AccountId,
    /// Who published.
    pub instance: InstanceId,
    /// Its term.
    pub epoch: u64,
    /// Its count within the term.
    pub seq: u64,
}

impl SnapshotId {
    /// Reads the text that [`fmt::Display`] writes; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let id = Self {
            account: AccountId::new(
                PlatformName::parse(parts.next()?).ok()?,
                AccountName::parse(parts.next()?).ok()?,
            ),
            instance: InstanceId::parse(parts.next()?).ok()?,
            epoch: parts.next()?.parse().ok()?,
            seq: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(id)
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}.{}", self.account, self.instance, self.epoch, self.seq)
    }
}
