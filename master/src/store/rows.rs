//! What is read out of the store. These are neither table rows nor JSON: the tables' shapes are in `codec`,
//! the JSON's in the API.

use std::fmt;
use std::str::FromStr;

use snapfleet_protocol::{AccountId, Erasure, Record, RecordId, RecordKind, UnixMs};

use super::batch::KindCounts;
use super::error::StoreError;
use super::standing::Standing;

/// Where the store stands in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The stream's creation time in nanoseconds since 1970.
    pub incarnation: u64,
    /// The sequence of the last delivery that is applied.
    pub seq: u64,
}

impl Position {
    /// Whether `other` is in the same life of the stream, and not behind this.
    pub(crate) fn covers(self, other: Position) -> bool {
        self.incarnation == other.incarnation && other.seq <= self.seq
    }
}

/// Something that is due to be purged from the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PurgeRow {
    /// On whose subject.
    pub account: AccountId,
    /// Up to where.
    pub upto: Position,
    /// Since when.
    pub since: UnixMs,
}

/// The random name of one life of the change log. Numbers of changes mean nothing across two of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FeedId(pub String);

impl fmt::Display for FeedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The store as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Totals {
    /// Accounts of which a snapshot was applied.
    pub accounts: u64,
    /// Records of each kind.
    pub records: KindCounts,
    /// Dead letters kept.
    pub dead_letters: u64,
    /// The number of the newest change, which is how many there have ever been.
    pub changes: u64,
    /// Deliveries taken from the stream: `applied + rejected + fenced + discarded`.
    pub received: u64,
    /// Snapshots applied.
    pub applied: u64,
    /// Records that were stored just so.
    pub unchanged: u64,
    /// Deliveries rejected for another reason than their term.
    pub rejected: u64,
    /// Deliveries rejected because their holder's term was over.
    pub fenced: u64,
    /// Deliveries of which nothing is kept, because their account was erased or has begun anew.
    pub discarded: u64,
    /// When the broker stored the newest delivery that was taken.
    pub last_received: Option<UnixMs>,
    /// When a record was last added or changed, by the master's clock.
    pub last_update: Option<UnixMs>,
    /// Where the store stands in the stream; `None` before the first batch.
    pub position: Option<Position>,
    /// The change log's life.
    pub feed: FeedId,
}

/// One account.
#[derive(Debug, Clone, PartialEq)]
pub struct AccountRow {
    /// The account.
    pub id: AccountId,
    /// Whether it is captured still; never erased, since then nothing is left.
    pub standing: Standing,
    /// The newest term seen.
    pub epoch: u64,
    /// The last snapshot of that term.
    pub seq: u64,
    /// Records of each kind.
    pub records: KindCounts,
    /// Snapshots applied.
    pub received: u64,
    /// When the broker stored the newest of them.
    pub last_received: Option<UnixMs>,
    /// When a worker last captured something of it, by the worker's clock.
    pub last_captured: Option<UnixMs>,
    /// When a record was last added or changed, by the master's clock.
    pub last_changed: Option<UnixMs>,
}

/// One record.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordRow {
    /// Whose it is.
    pub account: AccountId,
    /// The record.
    pub record: Record,
    /// When the broker stored the first snapshot that held it.
    pub first_seen: UnixMs,
    /// When the broker stored the snapshot that last changed it.
    pub updated: UnixMs,
}

/// What a thread hangs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ThreadKind {
    /// Comments below a work.
    Content,
    /// Direct messages of a conversation.
    Conversation,
}

impl ThreadKind {
    /// The kind of the record that a thread of this kind hangs on.
    #[must_use]
    pub fn parent(self) -> RecordKind {
        match self {
            ThreadKind::Content => RecordKind::Content,
            ThreadKind::Conversation => RecordKind::Conversation,
        }
    }

    /// The kind of the records in a thread of this kind.
    #[must_use]
    pub fn member(self) -> RecordKind {
        match self {
            ThreadKind::Content => RecordKind::Comment,
            ThreadKind::Conversation => RecordKind::DirectMessage,
        }
    }

    /// The kind of thread that records of `kind` hang on or belong to; notifications have none.
    #[must_use]
    pub fn of(kind: RecordKind) -> Option<Self> {
        match kind {
            RecordKind::Content | RecordKind::Comment => Some(ThreadKind::Content),
            RecordKind::Conversation | RecordKind::DirectMessage => Some(ThreadKind::Conversation),
            RecordKind::Notification => None,
        }
    }
}

/// One thread of an account: a work or conversation, known or only referred to, and what is in it.
#[derive(Debug, Clone, PartialEq)]
pub struct ThreadRow {
    /// Whose it is.
    pub account: AccountId,
    /// What it hangs on.
    pub kind: ThreadKind,
    /// The work's or conversation's id.
    pub id: RecordId,
    /// The work's title or the conversation's name, where known.
    pub title: Option<String>,
    /// When something last happened in it: its newest comment or message, or what the work or conversation
    /// says of itself where that is newer or nothing is in it.
    pub last_at: Option<UnixMs>,
    /// What was last said; `None` where it was taken back or is not known.
    pub last_text: Option<String>,
    /// Who said it.
    pub last_author: Option<String>,
    /// Comments or messages stored.
    pub count: u64,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A record is new.
    Added,
    /// Something of a record changed.
    Updated,
    /// The account was erased: whoever keeps something of it deletes that.
    AccountErased,
    /// A person was erased: whoever keeps records that the erasure covers deletes them.
    PersonErased(Erasure),
}

impl Operation {
    /// The operation as the API writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Added => "added",
            Operation::Updated => "updated",
            Operation::AccountErased => "account_erased",
            Operation::PersonErased(_) => "person_erased",
        }
    }
}

/// One entry of the change log. What was logged of erased records is gone from it: numbers may be missing.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangeRow {
    /// Its number, higher than that of the change before it.
    pub n: u64,
    /// When it was committed, by the master's clock.
    pub at: UnixMs,
    /// Whose record it is, or which account it is about.
    pub account: AccountId,
    /// What happened.
    pub operation: Operation,
    /// The fields that changed; empty for an added record.
    pub changed: Vec<String>,
    /// The record as of this change; `None` where something was erased.
    pub record: Option<Record>,
}

/// What the change log still holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeBounds {
    /// Its life.
    pub feed: FeedId,
    /// The number of the oldest change kept; `newest + 1` where none is. Reading on after `n` is complete if
    /// `n + 1 >= oldest` and `n <= newest`.
    pub oldest: u64,
    /// The number of the newest change; 0 before the first.
    pub newest: u64,
}

/// A delivery that could not be applied.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetterRow {
    /// Its number among the dead letters, from 1.
    pub n: u64,
    /// When it was set aside, by the master's clock.
    pub at: UnixMs,
    /// Its subject.
    pub subject: String,
    /// The stream it came from and its sequence there.
    pub stream: Position,
    /// Its headers, one `name: value` a line.
    pub headers: String,
    /// Why.
    pub error: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Which records to read.
#[derive(Debug, Clone)]
pub struct RecordQuery {
    /// Whose.
    pub account: AccountId,
    /// Which kind.
    pub kind: RecordKind,
    /// Only those below this work or in this conversation. Without it, comments and messages come thread by
    /// thread, and only within a thread by time.
    pub thread: Option<RecordId>,
    /// Newest first, else oldest first; unknown times are the oldest.
    pub newest_first: bool,
    /// Only what follows this cursor.
    pub after: Option<PageCursor>,
    /// How many; at most [`PAGE_ROWS_MAX`].
    pub limit: usize,
}

/// The most rows that one page holds; a larger limit is cut to it.
pub const PAGE_ROWS_MAX: usize = 1_000;

/// A part of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Where the next page starts; `None` on the last.
    pub next: Option<PageCursor>,
}

/// Where a page ended: opaque text for whoever turns the pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageCursor {
    /// Which list it belongs to.
    pub(crate) list: u8,
    pub(crate) time: i64,
    pub(crate) thread: String,
    pub(crate) id: String,
}

/// Longer text is no cursor of ours: two ids of 256 bytes and the numbers, each byte as two digits.
const CURSOR_CHARS_MAX: usize = 2 * (2 * 256 + 16);

impl fmt::Display for PageCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}{:016x}{:04x}", self.list, self.time, self.thread.len())?;
        self.thread.bytes().chain(self.id.bytes()).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for PageCursor {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        parse_cursor(text).ok_or_else(|| StoreError::BadCursor(text.chars().take(80).collect()))
    }
}

fn parse_cursor(text: &str) -> Option<PageCursor> {
    if text.len() > CURSOR_CHARS_MAX || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let list = u8::from_str_radix(text.get(..2)?, 16).ok()?;
    let time = u64::from_str_radix(text.get(2..18)?, 16).ok()?.cast_signed();
    let thread_len = usize::from_str_radix(text.get(18..22)?, 16).ok()?;
    let rest = text.get(22..)?;
    if !rest.len().is_multiple_of(2) || thread_len > rest.len() / 2 {
        return None;
    }
    let mut thread = Vec::with_capacity(rest.len() / 2);
    for at in (0..rest.len()).step_by(2) {
        thread.push(u8::from_str_radix(rest.get(at..at + 2)?, 16).ok()?);
    }
    let id = String::from_utf8(thread.split_off(thread_len)).ok()?;
    Some(PageCursor { list, time, thread: String::from_utf8(thread).ok()?, id })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn cursors_round_trip(list: u8, time: i64, thread in ".{0,40}", id in ".{0,40}") {
            let cursor = PageCursor { list, time, thread, id };
            prop_assert_eq!(cursor.to_string().parse::<PageCursor>().unwrap(), cursor);
        }

        #[test]
        fn no_text_panics_as_a_cursor(text in ".*", digits in "[0-9a-f]{0,60}") {
            let _ = (text.parse::<PageCursor>(), digits.parse::<PageCursor>());
        }
    }
}
