//! Reading: one transaction, which sees the store as of one commit for as long as it lives. Every list is
//! bounded and goes on from a cursor.

mod ended;

use std::collections::HashMap;
use std::ops::Bound;
use std::path::Path;

use redb::{
    ReadOnlyDatabase, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition,
    TableError,
};
use snapfleet_protocol::{AccountId, Erasure, PersonHash, RecordId, RecordKind, UnixMs};

use super::batch::KindCounts;
use super::codec::{self, AccountState, StateRow, ThreadState, damaged};
use super::error::StoreError;
use super::open;
use super::rows::{
    AccountRow, ChangeBounds, ChangeRow, DeadLetterRow, FeedId, Operation, PAGE_ROWS_MAX, Page, PageCursor,
    Position, RecordQuery, RecordRow, ThreadKind, ThreadRow, Totals,
};
use super::standing::Standing;
use super::tables::{
    ACCOUNT_NUMBERS, ACCOUNTS, CHANGES, ChangeValue, DEAD_LETTERS, META_FEED, OPERATION_ACCOUNT_ERASED,
    OPERATION_ADDED, OPERATION_PERSON_ERASED, OPERATION_UPDATED, RECORD_KEYS, RECORDS, STANDINGS, STATE,
    THREADS, THREADS_BY_TIME, TIME_UNKNOWN, meta,
};

/// The list number in the cursors of [`Query::threads`]; those of records carry their kind's.
const LIST_THREADS: u8 = 0;

/// One unchanging view of the store.
pub struct Query {
    txn: ReadTransaction,
    /// Keeps a file open that was opened for this query alone.
    _file: Option<ReadOnlyDatabase>,
}

impl Query {
    pub(crate) fn new(txn: ReadTransaction) -> Self {
        Self { txn, _file: None }
    }

    /// Opens the store of a master that is not running. Nothing is written to it, unless that master was killed:
    /// then the file is recovered first.
    ///
    /// # Errors
    /// [`StoreError::Locked`] while a master runs on it, and the others of
    /// [`DataStore::open`](super::DataStore::open).
    pub fn open_at_rest(path: &Path) -> Result<Self, StoreError> {
        let file = open::open_at_rest(path)?;
        Ok(Self { txn: file.begin_read()?, _file: Some(file) })
    }

    /// The store as a whole.
    ///
    /// # Errors
    /// [`StoreError`] where the file cannot be read; so for all of these.
    pub fn totals(&self) -> Result<Totals, StoreError> {
        let state = self.state()?;
        Ok(Totals {
            accounts: u64::from(state.accounts - state.accounts_erased.min(state.accounts)),
            records: KindCounts::from_array(state.records),
            dead_letters: state.dead_letters,
            changes: state.changes,
            received: state.received,
            applied: state.applied,
            unchanged: state.unchanged,
            rejected: state.rejected,
            fenced: state.fenced,
            discarded: state.discarded,
            last_received: state.last_received.map(UnixMs),
            last_update: state.last_update.map(UnixMs),
            position: (state.incarnation > 0)
                .then_some(Position { incarnation: state.incarnation, seq: state.position }),
            feed: self.feed()?,
        })
    }

    /// Every account, by name.
    ///
    /// # Errors
    /// [`StoreError`] where the file cannot be read.
    pub fn accounts(&self) -> Result<Vec<AccountRow>, StoreError> {
        let Some(numbers) = self.table(ACCOUNT_NUMBERS)? else { return Ok(Vec::new()) };
        let standings = self.table(STANDINGS)?;
        let mut rows = Vec::new();
        for entry in numbers.iter()? {
            let (name, number) = entry?;
            let Some(state) = self.account_state(number.value())? else { continue };
            let standing = standings.as_ref().map(|table| Standing::read(table, name.value())).transpose()?;
            rows.push(account_row(state, standing.unwrap_or_default()));
        }
        Ok(rows)
    }

    /// One account, if it is known.
    ///
    /// # Errors
    /// [`StoreError`] where the file cannot be read.
    pub fn account(&self, id: &AccountId) -> Result<Option<AccountRow>, StoreError> {
        let Some(number) = self.account_number(id)? else { return Ok(None) };
        let standing = self.standing(id)?;
        Ok(self.account_state(number)?.map(|state| account_row(state, standing)))
    }

    /// One page of an account's records of one kind.
    ///
    /// # Errors
    /// [`StoreError::BadCursor`] for a cursor of another list.
    pub fn records(&self, query: &RecordQuery) -> Result<Page<RecordRow>, StoreError> {
        let kind = query.kind as u8;
        let after = query.after.as_ref();
        if let Some(cursor) = after {
            let same_thread = query.thread.as_ref().is_none_or(|thread| thread.as_str() == cursor.thread);
            if cursor.list != kind || !same_thread {
                return Err(StoreError::BadCursor(cursor.to_string()));
            }
        }
        let (number, table) = (self.account_number(&query.account)?, self.table(RECORDS)?);
        let (Some(account), Some(table)) = (number, table) else { return Ok(empty_page()) };
        let mut successor = String::new();
        let whole = match &query.thread {
            Some(thread) => super::tables::thread_bounds(account, kind, thread.as_str(), &mut successor),
            None => (account, kind, "", i64::MIN, "")..(account, kind + 1, "", i64::MIN, ""),
        };
        let mut bounds = (Bound::Included(whole.start), Bound::Excluded(whole.end));
        if let Some(cursor) = after {
            let key = (account, kind, cursor.thread.as_str(), cursor.time, cursor.id.as_str());
            let edge = if query.newest_first { &mut bounds.1 } else { &mut bounds.0 };
            *edge = Bound::Excluded(key);
        }
        let mut range = table.range(bounds)?;
        let mut page = PageBuilder::new(query.limit);
        while let Some(entry) = if query.newest_first { range.next_back() } else { range.next() } {
            let (key, value) = entry?;
            let (_, _, thread, time, id) = key.value();
            let (first_seen, updated, bytes) = value.value();
            let row = RecordRow {
                account: query.account.clone(),
                record: codec::decode_record(query.kind, bytes)?,
                first_seen: UnixMs(first_seen),
                updated: UnixMs(updated),
            };
            let cursor = || PageCursor { list: kind, time, thread: thread.to_owned(), id: id.to_owned() };
            if !page.push(row, cursor) {
                break;
            }
        }
        Ok(page.finish())
    }

    /// One record, if it is known.
    ///
    /// # Errors
    /// [`StoreError`] where the file cannot be read.
    pub fn record(
        &self,
        account: &AccountId,
        kind: RecordKind,
        id: &RecordId,
    ) -> Result<Option<RecordRow>, StoreError> {
        let (number, places, records) =
            (self.account_number(account)?, self.table(RECORD_KEYS)?, self.table(RECORDS)?);
        let (Some(number), Some(places), Some(records)) = (number, places, records) else {
            return Ok(None);
        };
        let Some(place) = places.get((number, kind as u8, id.as_str()))? else { return Ok(None) };
        let (_, time, thread) = place.value();
        let row = records.get((number, kind as u8, thread, time, id.as_str()))?;
        let row = row.ok_or_else(|| damaged("records-1", &"a record's place holds nothing"))?;
        let (first_seen, updated, bytes) = row.value();
        Ok(Some(RecordRow {
            account: account.clone(),
            record: codec::decode_record(kind, bytes)?,
            first_seen: UnixMs(first_seen),
            updated: UnixMs(updated),
        }))
    }

    /// One page of an account's threads, the last active first; those without a known time come last.
    ///
    /// # Errors
    /// [`StoreError::BadCursor`] for a cursor of another list.
    pub fn threads(
        &self,
        account: &AccountId,
        after: Option<PageCursor>,
        limit: usize,
    ) -> Result<Page<ThreadRow>, StoreError> {
        let (number, order, threads) =
            (self.account_number(account)?, self.table(THREADS_BY_TIME)?, self.table(THREADS)?);
        let (Some(number), Some(order), Some(threads)) = (number, order, threads) else {
            return Ok(empty_page());
        };
        let start = Bound::Included((number, i64::MIN, 0, ""));
        let end = match &after {
            Some(cursor) => Bound::Excluded((number, cursor.time, cursor_kind(cursor)?, cursor.id.as_str())),
            None => Bound::Included((number, i64::MAX, u8::MAX, "")),
        };
        let mut page = PageBuilder::new(limit);
        for entry in order.range((start, end))?.rev() {
            let key = entry?.0;
            let (_, time, kind, id) = key.value();
            let state = threads.get((number, kind, id))?;
            let state = state.ok_or_else(|| damaged("threads-1", &"a thread of the list is missing"))?;
            let state: ThreadState = codec::decode("threads-1", state.value())?;
            let row = thread_row(account, kind, id, state)?;
            let cursor =
                || PageCursor { list: LIST_THREADS, time, thread: kind.to_string(), id: id.to_owned() };
            if !page.push(row, cursor) {
                break;
            }
        }
        Ok(page.finish())
    }

    /// Changes that follow number `after`, in order. Check [`Query::change_bounds`] in the same read: changes
    /// may have been trimmed.
    ///
    /// # Errors
    /// [`StoreError`] where the file cannot be read.
    pub fn changes(&self, after: u64, limit: usize) -> Result<Vec<ChangeRow>, StoreError> {
        let Some(table) = self.table(CHANGES)? else { return Ok(Vec::new()) };
        let mut accounts: HashMap<u32, AccountId> = HashMap::new();
        let mut rows = Vec::new();
        for entry in table.range((Bound::Excluded(after), Bound::Unbounded))? {
            if rows.len() == limit.min(PAGE_ROWS_MAX) {
                break;
            }
            let (n, value) = entry?;
            let (_, number, _, operation, _, bytes) = value.value();
            let account = match accounts.get(&number) {
                _ if operation == OPERATION_ACCOUNT_ERASED => erased_account(bytes)?,
                Some(id) => id.clone(),
                None => match self.account_state(number)? {
                    Some(state) => accounts.entry(number).or_insert(state.id).clone(),
                    // On its way out.
                    None if self.is_being_erased(number)? => continue,
                    None => return Err(damaged("accounts-1", &"an account is missing")),
                },
            };
            rows.push(change_row(n.value(), account, value.value())?);
        }
        Ok(rows)
    }

    /// What the change log still holds.
    ///
    /// # Errors
    /// [`StoreError`] where the file cannot be read.
    pub fn change_bounds(&self) -> Result<ChangeBounds, StoreError> {
        let state = self.state()?;
        let newest = state.changes;
        let oldest = match (state.changes_trimmed, self.table(CHANGES)?) {
            // What was erased since leaves a gap, over which one reads on; what was trimmed must be read anew.
            (Some(trimmed), _) => trimmed + 1,
            (None, Some(table)) => table.first()?.map_or(newest + 1, |(n, _)| n.value()),
            (None, None) => newest + 1,
        };
        Ok(ChangeBounds { feed: self.feed()?, oldest, newest })
    }

    /// Dead letters that follow number `after`, in order.
    ///
    /// # Errors
    /// [`StoreError`] where the file cannot be read.
    pub fn dead_letters(&self, after: u64, limit: usize) -> Result<Vec<DeadLetterRow>, StoreError> {
        let Some(table) = self.table(DEAD_LETTERS)? else { return Ok(Vec::new()) };
        let mut rows = Vec::new();
        for entry in table.range((Bound::Excluded(after), Bound::Unbounded))?.take(limit.min(PAGE_ROWS_MAX)) {
            let (n, value) = entry?;
            let (at, incarnation, seq, subject, headers, error, bytes) = value.value();
            rows.push(DeadLetterRow {
                n: n.value(),
                at: UnixMs(at),
                subject: subject.to_owned(),
                stream: Position { incarnation, seq },
                headers: headers.to_owned(),
                error: error.to_owned(),
                bytes: bytes.to_vec(),
            });
        }
        Ok(rows)
    }

    fn state(&self) -> Result<StateRow, StoreError> {
        let Some(table) = self.table(STATE)? else { return Ok(StateRow::default()) };
        table.get(())?.map_or_else(|| Ok(StateRow::default()), |row| codec::decode("state-1", row.value()))
    }

    fn feed(&self) -> Result<FeedId, StoreError> {
        meta(&self.txn, META_FEED)?.map(FeedId).ok_or_else(|| damaged("meta-1", &"the feed's id is missing"))
    }

    pub(crate) fn account_number(&self, id: &AccountId) -> Result<Option<u32>, StoreError> {
        let Some(table) = self.table(ACCOUNT_NUMBERS)? else { return Ok(None) };
        Ok(table.get(id.to_string().as_str())?.map(|number| number.value()))
    }

    fn account_state(&self, number: u32) -> Result<Option<AccountState>, StoreError> {
        let Some(table) = self.table(ACCOUNTS)? else { return Ok(None) };
        table.get(number)?.map(|row| codec::decode("accounts-1", row.value())).transpose()
    }

    /// Opens a table; `None` before the first batch created it.
    pub(crate) fn table<K: redb::Key, V: redb::Value>(
        &self,
        definition: TableDefinition<'static, K, V>,
    ) -> Result<Option<ReadOnlyTable<K, V>>, StoreError> {
        match self.txn.open_table(definition) {
            Ok(table) => Ok(Some(table)),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// A row of the change log as it is read.
type ChangeRef<'a> = <ChangeValue as redb::Value>::SelfType<'a>;

/// Gathers rows up to a limit, and the cursor of the last if there are more.
struct PageBuilder<T> {
    items: Vec<T>,
    limit: usize,
    last: Option<PageCursor>,
    more: bool,
}

impl<T> PageBuilder<T> {
    fn new(limit: usize) -> Self {
        Self { items: Vec::new(), limit: limit.clamp(1, PAGE_ROWS_MAX), last: None, more: false }
    }

    /// Takes a row; false once the page is full, and then the row is not taken.
    fn push(&mut self, row: T, cursor: impl FnOnce() -> PageCursor) -> bool {
        if self.items.len() == self.limit {
            self.more = true;
            return false;
        }
        self.items.push(row);
        if self.items.len() == self.limit {
            self.last = Some(cursor());
        }
        true
    }

    fn finish(self) -> Page<T> {
        Page { items: self.items, next: self.last.filter(|_| self.more) }
    }
}

fn empty_page<T>() -> Page<T> {
    Page { items: Vec::new(), next: None }
}

fn cursor_kind(cursor: &PageCursor) -> Result<u8, StoreError> {
    let kind = if cursor.list == LIST_THREADS { cursor.thread.parse().ok() } else { None };
    kind.ok_or_else(|| StoreError::BadCursor(cursor.to_string()))
}

fn change_row(n: u64, account: AccountId, value: ChangeRef<'_>) -> Result<ChangeRow, StoreError> {
    let (at, _, kind, operation, changed, bytes) = value;
    let operation = match operation {
        OPERATION_ADDED => Operation::Added,
        OPERATION_UPDATED => Operation::Updated,
        OPERATION_ACCOUNT_ERASED => Operation::AccountErased,
        OPERATION_PERSON_ERASED => Operation::PersonErased(erased_person(bytes)?),
        other => return Err(damaged("changes-1", &format!("no operation {other}"))),
    };
    let record = match operation {
        Operation::AccountErased | Operation::PersonErased(_) => None,
        _ => Some(codec::decode_record(codec::kind("changes-1", kind)?, bytes)?),
    };
    let changed = changed.split(',').filter(|field| !field.is_empty()).map(str::to_owned).collect();
    Ok(ChangeRow { n, at: UnixMs(at), account, operation, changed, record })
}

fn erased_account(bytes: &[u8]) -> Result<AccountId, StoreError> {
    let name = std::str::from_utf8(bytes).map_err(|error| damaged("changes-1", &error))?;
    AccountId::parse(name).map_err(|error| damaged("changes-1", &error))
}

fn erased_person(bytes: &[u8]) -> Result<Erasure, StoreError> {
    let numbers = bytes.split_first_chunk().zip(bytes.last_chunk()).filter(|_| bytes.len() == 24);
    let ((person, _), at) = numbers.ok_or_else(|| damaged("changes-1", &"an erasure of another length"))?;
    let person = PersonHash::from_number(u128::from_be_bytes(*person));
    Ok(Erasure { person, at: UnixMs(i64::from_be_bytes(*at)) })
}

fn account_row(state: AccountState, standing: Standing) -> AccountRow {
    AccountRow {
        id: state.id,
        standing,
        epoch: state.epoch,
        seq: state.seq,
        records: KindCounts::from_array(state.records),
        received: state.received,
        last_received: state.last_received.map(UnixMs),
        last_captured: state.last_captured.map(UnixMs),
        last_changed: state.last_changed.map(UnixMs),
    }
}

fn thread_row(account: &AccountId, kind: u8, id: &str, state: ThreadState) -> Result<ThreadRow, StoreError> {
    let kind = match codec::kind("threads-1", kind)? {
        RecordKind::Content => ThreadKind::Content,
        RecordKind::Conversation => ThreadKind::Conversation,
        other => return Err(damaged("threads-1", &format!("no thread hangs on a {other}"))),
    };
    Ok(ThreadRow {
        account: account.clone(),
        kind,
        id: RecordId::parse(id).map_err(|error| damaged("threads-1", &error))?,
        title: state.title,
        last_at: state.last_at.filter(|at| *at != TIME_UNKNOWN).map(UnixMs),
        last_text: state.last_text,
        last_author: state.last_author,
        count: state.count,
    })
}
