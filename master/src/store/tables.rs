//! Every table: its name with its version, its key and its value. A row whose meaning changes gets a table of
//! a new version, never a new meaning.
//!
//! Accounts are interned to a `u32`, so that keys are short and one account's rows lie together. Kinds are
//! [`RecordKind`](snapfleet_protocol::RecordKind)'s numbers. Times are milliseconds since 1970; in keys an
//! unknown time is [`TIME_UNKNOWN`], which sorts before all others. Rows marked "struct" are MessagePack with
//! field names, written and read in `codec`, so that a field can be added with a default.

use redb::{ReadTransaction, Table, TableDefinition, TableError, WriteTransaction};

use super::error::StoreError;

/// An unknown time in a key.
pub(crate) const TIME_UNKNOWN: i64 = i64::MIN;

/// The format of the store as a whole; a master refuses a store of a higher one.
///
/// 1: the first. 2: accounts and persons may be erased; a store of format 1 becomes one of format 2 when it is opened
/// for writing, since a master that knows nothing of erasures would bring back what was erased.
pub(crate) const FORMAT: u64 = 2;
/// What tells our files from other programs'.
pub(crate) const MAGIC: &str = "snapfleet-master";

/// What the file is: `magic`, `format`, `feed`.
pub(crate) type MetaTable = TableDefinition<'static, &'static str, &'static str>;
pub(crate) const META: MetaTable = TableDefinition::new("meta-1");
/// The key of [`META`] with [`MAGIC`].
pub(crate) const META_MAGIC: &str = "magic";
/// The key of [`META`] with [`FORMAT`].
pub(crate) const META_FORMAT: &str = "format";
/// The key of [`META`] with the random id of the change log's life.
pub(crate) const META_FEED: &str = "feed";

/// One row: the stream position, the counters. Struct `StateRow`.
pub(crate) const STATE: TableDefinition<'static, (), &'static [u8]> = TableDefinition::new("state-1");

/// `<platform>.<account>` to the account's number.
pub(crate) const ACCOUNT_NUMBERS: TableDefinition<'static, &'static str, u32> =
    TableDefinition::new("account-numbers-1");

/// Account number to its term, counts and times. Struct `AccountState`.
pub(crate) const ACCOUNTS: TableDefinition<'static, u32, &'static [u8]> = TableDefinition::new("accounts-1");

/// (account, kind, thread, time, record id): one thread's rows lie together in the order of their times. The
/// thread is a comment's work or a message's conversation, and empty for the other kinds.
pub(crate) type RecordKey = (u32, u8, &'static str, i64, &'static str);
/// (first seen, updated, record as a struct of its kind).
pub(crate) type RecordValue = (i64, i64, &'static [u8]);
/// The records.
pub(crate) const RECORDS: TableDefinition<'static, RecordKey, RecordValue> =
    TableDefinition::new("records-1");

/// (account, kind, record id): where a record is, and what to compare it with.
pub(crate) type PlaceKey = (u32, u8, &'static str);
/// (hash of the record as stored, its time, its thread): with the key this makes the [`RecordKey`].
pub(crate) type PlaceValue = (u128, i64, &'static str);
/// Places of the records: an unchanged record costs one look here and no write.
pub(crate) const RECORD_KEYS: TableDefinition<'static, PlaceKey, PlaceValue> =
    TableDefinition::new("record-keys-1");

/// (account, kind of the parent, parent's id): a thread. Struct `ThreadState`.
pub(crate) const THREADS: TableDefinition<'static, PlaceKey, &'static [u8]> =
    TableDefinition::new("threads-1");

/// (account, time of the last activity, kind of the parent, parent's id): the order of the list of threads.
pub(crate) type ThreadTimeKey = (u32, i64, u8, &'static str);
/// The threads by their last activity.
pub(crate) const THREADS_BY_TIME: TableDefinition<'static, ThreadTimeKey, ()> =
    TableDefinition::new("threads-by-time-1");

/// (commit time, account, kind, operation, changed fields joined by commas, record as of the change).
pub(crate) type ChangeValue = (i64, u32, u8, u8, &'static str, &'static [u8]);
/// The change log, by number.
pub(crate) const CHANGES: TableDefinition<'static, u64, ChangeValue> = TableDefinition::new("changes-1");
/// The operation of a [`ChangeValue`]: the record is new.
pub(crate) const OPERATION_ADDED: u8 = 1;
/// The operation of a [`ChangeValue`]: something of the record changed.
pub(crate) const OPERATION_UPDATED: u8 = 2;
/// The operation of a [`ChangeValue`]: an account was erased. Its account and kind are 0, its record is the account as
/// text: nothing else of the account is left.
pub(crate) const OPERATION_ACCOUNT_ERASED: u8 = 3;
/// The operation of a [`ChangeValue`]: a person was erased. Its kind is 0, its record is the person's hash and the
/// time up to which their records went, both big-endian.
pub(crate) const OPERATION_PERSON_ERASED: u8 = 4;

/// (time, stream incarnation, stream sequence, subject, headers, error, bytes).
pub(crate) type DeadLetterValue = (i64, u64, u64, &'static str, &'static str, &'static str, &'static [u8]);
/// Deliveries that could not be applied, by number.
pub(crate) const DEAD_LETTERS: TableDefinition<'static, u64, DeadLetterValue> =
    TableDefinition::new("dead-letters-1");

/// (standing, time of the end, incarnation and sequence of the stream's end then, time of the last erasure that was
/// begun, incarnation and sequence up to which nothing is taken in for it). The standing is one of `STANDING_*`; what
/// it does not use is 0.
pub(crate) type StandingValue = (u8, i64, u64, u64, i64, u64, u64);
/// `<platform>.<account>` to its standing, where that is not simply active.
pub(crate) const STANDINGS: TableDefinition<'static, &'static str, StandingValue> =
    TableDefinition::new("standings-1");
/// The standing of a [`StandingValue`]: captured.
pub(crate) const STANDING_ACTIVE: u8 = 1;
/// The standing of a [`StandingValue`]: its rows stay, nothing new is taken in.
pub(crate) const STANDING_REMOVED: u8 = 2;
/// The standing of a [`StandingValue`]: nothing of it stays, nothing is taken in.
pub(crate) const STANDING_ERASED: u8 = 3;

/// (number that it had, 0 if none; account): an erased account of which rows are still being deleted.
pub(crate) const ERASING: TableDefinition<'static, (u32, &'static str), ()> =
    TableDefinition::new("erasing-1");

/// (time up to which the person's records go, whether rows are still to be deleted for it).
pub(crate) type ErasureValue = (i64, bool);
/// (account, person's hash): an erased person.
pub(crate) const ERASURES: TableDefinition<'static, (&'static str, u128), ErasureValue> =
    TableDefinition::new("erasures-1");

/// (account, hash of kind and id) to the time of the erasure: records that went with a person. A later one under the
/// id that says neither whose nor when it is, is that record again.
pub(crate) const ERASED_RECORDS: TableDefinition<'static, (u32, u128), i64> =
    TableDefinition::new("erased-records-1");

/// (incarnation, sequence, since when).
pub(crate) type PurgeValue = (u64, u64, i64);
/// `<platform>.<account>` to what is due: what is erased may be in the stream on the account's subject, up to there.
pub(crate) const PURGES: TableDefinition<'static, &'static str, PurgeValue> =
    TableDefinition::new("purges-1");

/// All tables that a batch may touch, open in its transaction.
pub(crate) struct Tables<'txn> {
    pub(crate) state: Table<'txn, (), &'static [u8]>,
    pub(crate) account_numbers: Table<'txn, &'static str, u32>,
    pub(crate) accounts: Table<'txn, u32, &'static [u8]>,
    pub(crate) records: Table<'txn, RecordKey, RecordValue>,
    pub(crate) record_keys: Table<'txn, PlaceKey, PlaceValue>,
    pub(crate) threads: Table<'txn, PlaceKey, &'static [u8]>,
    pub(crate) threads_by_time: Table<'txn, ThreadTimeKey, ()>,
    pub(crate) changes: Table<'txn, u64, ChangeValue>,
    pub(crate) dead_letters: Table<'txn, u64, DeadLetterValue>,
    pub(crate) standings: Table<'txn, &'static str, StandingValue>,
    pub(crate) erasing: Table<'txn, (u32, &'static str), ()>,
    pub(crate) erasures: Table<'txn, (&'static str, u128), ErasureValue>,
    pub(crate) erased_records: Table<'txn, (u32, u128), i64>,
    pub(crate) purges: Table<'txn, &'static str, PurgeValue>,
}

impl<'txn> Tables<'txn> {
    /// Opens them all, creating those that are not there yet.
    pub(crate) fn open(txn: &'txn WriteTransaction) -> Result<Self, StoreError> {
        Ok(Self {
            state: txn.open_table(STATE)?,
            account_numbers: txn.open_table(ACCOUNT_NUMBERS)?,
            accounts: txn.open_table(ACCOUNTS)?,
            records: txn.open_table(RECORDS)?,
            record_keys: txn.open_table(RECORD_KEYS)?,
            threads: txn.open_table(THREADS)?,
            threads_by_time: txn.open_table(THREADS_BY_TIME)?,
            changes: txn.open_table(CHANGES)?,
            dead_letters: txn.open_table(DEAD_LETTERS)?,
            standings: txn.open_table(STANDINGS)?,
            erasing: txn.open_table(ERASING)?,
            erasures: txn.open_table(ERASURES)?,
            erased_records: txn.open_table(ERASED_RECORDS)?,
            purges: txn.open_table(PURGES)?,
        })
    }
}

/// What [`META`] says under `key`; `None` too where the file has no such table.
pub(crate) fn meta(txn: &ReadTransaction, key: &str) -> Result<Option<String>, StoreError> {
    match txn.open_table(META) {
        Ok(table) => Ok(table.get(key)?.map(|value| value.value().to_owned())),
        Err(TableError::TableDoesNotExist(_) | TableError::TableTypeMismatch { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The first key of a thread's records, and the first key after them: no text lies between an id and the same
/// id with a zero byte behind it.
pub(crate) fn thread_bounds<'a>(
    account: u32,
    kind: u8,
    thread: &'a str,
    successor: &'a mut String,
) -> std::ops::Range<(u32, u8, &'a str, i64, &'a str)> {
    successor.clear();
    successor.push_str(thread);
    successor.push('\0');
    (account, kind, thread, i64::MIN, "")..(account, kind, successor.as_str(), i64::MIN, "")
}
