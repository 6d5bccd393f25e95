//! The JSON of records, threads, accounts, changes and dead letters. Names and units here are a promise to other
//! programs: neither the tables' shapes nor the wire's may leak into them unnoticed (`tests/http_api.rs` pins them).

mod account;

use serde::{Deserialize, Serialize};
use snapfleet_protocol::{AccountId, Erasure, InstanceId, Record, RecordId, UnixMs};

use crate::store::{
    ChangeRow, FeedId, KindCounts, Operation, Page, PageCursor, RecordRow, ThreadKind, ThreadRow,
};

pub use account::{AccountDetailView, AccountView, ConfigView, EndView, LeaseView, SyncedView};

/// One page of a list.
#[derive(Debug, Serialize, Deserialize)]
pub struct PageView<T> {
    /// Its rows.
    pub items: Vec<T>,
    /// What `after` takes to go on; null on the last page.
    pub next: Option<String>,
}

impl<T> PageView<T> {
    pub(crate) fn of<R>(page: Page<R>, view: impl FnMut(R) -> T) -> Self {
        let next = page.next.as_ref().map(PageCursor::to_string);
        Self { items: page.items.into_iter().map(view).collect(), next }
    }
}

/// One record: its kind and fields under the protocol's names, unknown ones left out. Times in ms.
#[derive(Debug, Serialize, Deserialize)]
pub struct RecordView {
    /// Whose it is.
    pub account: AccountId,
    /// `kind`, `id` and the kind's fields.
    #[serde(flatten)]
    pub record: Record,
    /// When the broker first stored it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_seen_at: Option<UnixMs>,
    /// When the broker stored its last change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<UnixMs>,
}

impl From<RecordRow> for RecordView {
    fn from(row: RecordRow) -> Self {
        let (first_seen_at, updated_at) = (Some(row.first_seen), Some(row.updated));
        Self { account: row.account, record: row.record, first_seen_at, updated_at }
    }
}

/// One thread.
#[derive(Debug, Serialize, Deserialize)]
pub struct ThreadView {
    /// Whose it is.
    pub account: AccountId,
    /// `content` (comments below a work) or `conversation` (direct messages).
    pub kind: String,
    /// The work's or conversation's id.
    pub id: RecordId,
    /// The work's title or the conversation's name; null while unknown.
    pub title: Option<String>,
    /// When something last happened in it.
    pub last_at: Option<UnixMs>,
    /// What was last said; null where it was taken back or is not known.
    pub last_text: Option<String>,
    /// Who said it.
    pub last_author: Option<String>,
    /// Comments or messages in it.
    pub count: u64,
}

impl From<ThreadRow> for ThreadView {
    fn from(row: ThreadRow) -> Self {
        let kind = match row.kind {
            ThreadKind::Content => "content",
            ThreadKind::Conversation => "conversation",
        };
        Self {
            account: row.account,
            kind: kind.to_owned(),
            id: row.id,
            title: row.title,
            last_at: row.last_at,
            last_text: row.last_text,
            last_author: row.last_author,
            count: row.count,
        }
    }
}

/// Records by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountsView {
    /// Works.
    pub contents: u64,
    /// Comments and replies.
    pub comments: u64,
    /// Threads of direct messages.
    pub conversations: u64,
    /// Direct messages.
    pub direct_messages: u64,
    /// Notices.
    pub notifications: u64,
}

impl From<KindCounts> for CountsView {
    fn from(counts: KindCounts) -> Self {
        let [contents, comments, conversations, direct_messages, notifications] = counts.as_array();
        Self { contents, comments, conversations, direct_messages, notifications }
    }
}

/// One change of the store.
#[derive(Debug, Serialize, Deserialize)]
pub struct ChangeView {
    /// Its place in the change log: what `after` takes to go on behind it.
    pub cursor: String,
    /// When it was committed.
    pub at: UnixMs,
    /// Whose record it is.
    pub account: AccountId,
    /// The record's kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The record's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<RecordId>,
    /// `added` or `updated`; `account_erased`: delete what you keep of the account; `person_erased`: delete the records
    /// that `erasure` covers. The last two come without kind, id and record.
    pub operation: String,
    /// Which person was erased, as the hash of account and id, and up to which time of records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erasure: Option<Erasure>,
    /// The fields that changed; empty for an added record.
    pub changed: Vec<String>,
    /// The record as of this change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<RecordView>,
}

impl ChangeView {
    pub(crate) fn of(feed: &FeedId, row: ChangeRow) -> Self {
        Self {
            cursor: cursor_text(feed, row.n),
            at: row.at,
            account: row.account.clone(),
            kind: row.record.as_ref().map(|record| record.kind().as_str().to_owned()),
            id: row.record.as_ref().map(|record| record.id().clone()),
            operation: row.operation.as_str().to_owned(),
            erasure: match row.operation {
                Operation::PersonErased(erasure) => Some(erasure),
                _ => None,
            },
            changed: row.changed,
            record: row.record.map(|record| RecordView {
                account: row.account,
                record,
                first_seen_at: None,
                updated_at: None,
            }),
        }
    }
}

/// The cursor behind change `n` of a log.
pub(crate) fn cursor_text(feed: &FeedId, n: u64) -> String {
    format!("{feed}-{n}")
}

/// One delivery that could not be applied.
#[derive(Debug, Serialize, Deserialize)]
pub struct DeadLetterView {
    /// Its number, from 1: what `after` takes to go on behind it.
    pub n: u64,
    /// When it was set aside.
    pub at: UnixMs,
    /// Its subject.
    pub subject: String,
    /// Its stream sequence.
    pub stream_seq: u64,
    /// Its headers, one `name: value` a line.
    pub headers: String,
    /// Why it was not applied.
    pub error: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its first bytes, as hexadecimal digits.
    pub hex: String,
    /// What it says, where this master can decode it.
    pub snapshot: Option<SnapshotHeadView>,
    /// Why it cannot be decoded, where it cannot.
    pub decode_error: Option<String>,
}

/// A snapshot without its records.
#[derive(Debug, Serialize, Deserialize)]
pub struct SnapshotHeadView {
    /// The account that it names.
    pub account: AccountId,
    /// Who published it.
    pub instance: InstanceId,
    /// The publisher's term.
    pub epoch: u64,
    /// Its count within the term.
    pub seq: u64,
    /// Claim, delta or full.
    pub snapshot_kind: String,
    /// When its newest record was captured.
    pub captured_at: UnixMs,
    /// Its records.
    pub records: CountsView,
}
