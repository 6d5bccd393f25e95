//! Rows to bytes and back. The structs here are the tables' shapes; fields are only ever added, with a default.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use snapfleet_protocol::{AccountId, Record, RecordKind};

use super::error::StoreError;

/// The row of `state-1`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct StateRow {
    /// The stream's creation time in nanoseconds; 0 before the first batch.
    pub(crate) incarnation: u64,
    /// The sequence of the last delivery applied.
    pub(crate) position: u64,
    /// The highest number of an account; none is given twice.
    pub(crate) accounts: u32,
    /// How many of the numbers are no account's any more.
    pub(crate) accounts_erased: u32,
    pub(crate) records: [u64; RecordKind::ALL.len()],
    pub(crate) changes: u64,
    /// The newest change that was trimmed. Without it, what the oldest row says: erasing leaves gaps, trimming none.
    pub(crate) changes_trimmed: Option<u64>,
    pub(crate) dead_letters: u64,
    pub(crate) received: u64,
    pub(crate) applied: u64,
    pub(crate) unchanged: u64,
    pub(crate) rejected: u64,
    pub(crate) fenced: u64,
    pub(crate) discarded: u64,
    pub(crate) last_received: Option<i64>,
    pub(crate) last_update: Option<i64>,
}

/// A row of `accounts-1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AccountState {
    pub(crate) id: AccountId,
    /// The incarnation of the stream that epoch and seq belong to.
    pub(crate) incarnation: u64,
    pub(crate) epoch: u64,
    pub(crate) seq: u64,
    pub(crate) records: [u64; RecordKind::ALL.len()],
    pub(crate) received: u64,
    pub(crate) last_received: Option<i64>,
    pub(crate) last_captured: Option<i64>,
    pub(crate) last_changed: Option<i64>,
}

/// A row of `threads-1`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ThreadState {
    pub(crate) title: Option<String>,
    pub(crate) last_at: Option<i64>,
    pub(crate) last_text: Option<String>,
    pub(crate) last_author: Option<String>,
    pub(crate) count: u64,
}

/// Encodes one of the structs above.
pub(crate) fn encode<T: Serialize>(table: &'static str, row: &T) -> Result<Vec<u8>, StoreError> {
    rmp_serde::to_vec_named(row).map_err(|error| damaged(table, &error))
}

/// Decodes one of the structs above.
pub(crate) fn decode<T: DeserializeOwned>(table: &'static str, bytes: &[u8]) -> Result<T, StoreError> {
    rmp_serde::from_slice(bytes).map_err(|error| damaged(table, &error))
}

/// Encodes a record without its kind, which its key states. Equal records have equal bytes.
pub(crate) fn encode_record(record: &Record) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::with_capacity(256);
    let mut writer = rmp_serde::Serializer::new(&mut bytes).with_struct_map();
    let written = match record {
        Record::Content(record) => record.serialize(&mut writer),
        Record::Comment(record) => record.serialize(&mut writer),
        Record::Conversation(record) => record.serialize(&mut writer),
        Record::DirectMessage(record) => record.serialize(&mut writer),
        Record::Notification(record) => record.serialize(&mut writer),
    };
    written.map_err(|error| damaged("records-1", &error))?;
    Ok(bytes)
}

/// Decodes a record of `kind`.
pub(crate) fn decode_record(kind: RecordKind, bytes: &[u8]) -> Result<Record, StoreError> {
    let record = match kind {
        RecordKind::Content => rmp_serde::from_slice(bytes).map(Record::Content),
        RecordKind::Comment => rmp_serde::from_slice(bytes).map(Record::Comment),
        RecordKind::Conversation => rmp_serde::from_slice(bytes).map(Record::Conversation),
        RecordKind::DirectMessage => rmp_serde::from_slice(bytes).map(Record::DirectMessage),
        RecordKind::Notification => rmp_serde::from_slice(bytes).map(Record::Notification),
    };
    record.map_err(|error| damaged("records-1", &error))
}

/// The kind with this number.
pub(crate) fn kind(table: &'static str, number: u8) -> Result<RecordKind, StoreError> {
    RecordKind::from_number(number).ok_or_else(|| damaged(table, &format!("no record kind {number}")))
}

/// The hash that tells whether a record is stored just so. 128 bits: two records never share one by chance.
pub(crate) fn hash(bytes: &[u8]) -> u128 {
    xxhash_rust::xxh3::xxh3_128(bytes)
}

/// A row that is not what it must be.
pub(crate) fn damaged(table: &'static str, reason: &dyn std::fmt::Display) -> StoreError {
    StoreError::Damaged { table, reason: reason.to_string() }
}
