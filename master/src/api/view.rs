//! The JSON of records, threads, accounts, changes and dead letters. Names and units here are a promise to other
//! programs: neither the tables' shapes nor the wire's may leak into them unnoticed (`tests/http_api.rs` pins them).

use serde::{Deserialize, Serialize};
use snapfleet_protocol::{
    AccountHealth, AccountId, AccountState, Heartbeat, InstanceId, Record, RecordId, UnixMs,
};

use crate::store::{
    AccountRow, ChangeRow, FeedId, KindCounts, Page, PageCursor, RecordRow, ThreadKind, ThreadRow,
};

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

/// One account: what the store has of it, and what the worker that holds it says.
#[derive(Debug, Serialize, Deserialize)]
pub struct AccountView {
    /// The account, `<platform>.<account>`.
    pub account: AccountId,
    /// How it fares at its worker; null where no online worker is known to hold it.
    pub state: Option<AccountState>,
    /// Why, where the state is not well.
    pub reason: Option<String>,
    /// Since when it is in that state.
    pub since: Option<UnixMs>,
    /// The worker's instance.
    pub worker: Option<InstanceId>,
    /// The worker's host.
    pub host: Option<String>,
    /// The newest term in the store.
    pub epoch: Option<u64>,
    /// Records in the store.
    pub records: CountsView,
    /// Snapshots applied.
    pub received: u64,
    /// When the broker stored the newest of them.
    pub last_received: Option<UnixMs>,
    /// When its worker last captured something, by the worker's clock.
    pub last_captured: Option<UnixMs>,
    /// When a record was last added or changed.
    pub last_changed: Option<UnixMs>,
}

impl AccountView {
    /// Of an account in the store, held by an online worker, or both.
    pub(crate) fn of(
        id: AccountId,
        row: Option<&AccountRow>,
        held: Option<(&Heartbeat, &AccountHealth)>,
    ) -> Self {
        let health = held.map(|(_, health)| health);
        let captured = health.and_then(|health| health.captured_at);
        Self {
            account: id,
            state: health.map(|health| health.state),
            reason: health.and_then(|health| health.reason.clone()),
            since: health.map(|health| health.since),
            worker: held.map(|(worker, _)| worker.instance.clone()),
            host: held.map(|(worker, _)| worker.host.clone()),
            epoch: row.map(|row| row.epoch),
            records: row.map(|row| row.records.into()).unwrap_or_default(),
            received: row.map_or(0, |row| row.received),
            last_received: row.and_then(|row| row.last_received),
            last_captured: captured.max(row.and_then(|row| row.last_captured)),
            last_changed: row.and_then(|row| row.last_changed),
        }
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
    pub kind: String,
    /// The record's id.
    pub id: RecordId,
    /// `added` or `updated`.
    pub operation: String,
    /// The fields that changed; empty for an added record.
    pub changed: Vec<String>,
    /// The record as of this change.
    pub record: RecordView,
}

impl ChangeView {
    pub(crate) fn of(feed: &FeedId, row: ChangeRow) -> Self {
        Self {
            cursor: cursor_text(feed, row.n),
            at: row.at,
            account: row.account.clone(),
            kind: row.record.kind().as_str().to_owned(),
            id: row.record.id().clone(),
            operation: row.operation.as_str().to_owned(),
            changed: row.changed,
            record: RecordView {
                account: row.account,
                record: row.record,
                first_seen_at: None,
                updated_at: None,
            },
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
