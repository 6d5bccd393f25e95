//! One record into the tables: compared by its hash, merged where it differs, moved where its key changed.

use redb::ReadableTable;
use snapfleet_protocol::Record;

use super::batch::IncomingRecord;
use super::changes::{self, NewChange};
use super::codec::{self, StateRow, damaged};
use super::error::StoreError;
use super::persons::Persons;
use super::rows::{Operation, ThreadKind};
use super::tables::{TIME_UNKNOWN, Tables};
use super::threads::{Touched, thread_of};

/// Which batch and account a record comes with.
pub(crate) struct Origin {
    /// The account's number.
    pub(crate) account: u32,
    /// When the broker stored the snapshot.
    pub(crate) stored_at: i64,
    /// When the batch is applied.
    pub(crate) committed_at: i64,
}

/// Where a record is stored, without its account and kind.
#[derive(PartialEq)]
struct Place {
    thread: String,
    time: i64,
}

impl Place {
    fn of(record: &Record) -> Self {
        let thread = record.thread_id().map_or_else(String::new, |id| id.as_str().to_owned());
        Self { thread, time: record.time().map_or(TIME_UNKNOWN, |time| time.0) }
    }
}

/// What came of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Merged {
    /// It is new.
    Added,
    /// Something of it changed.
    Updated,
    /// It is stored just so already.
    Unchanged,
    /// It is an erased person's: it is not stored, or not any more.
    Erased,
}

/// Stores one record, unless it is an erased person's.
pub(crate) fn merge(
    tables: &mut Tables<'_>,
    state: &mut StateRow,
    touched: &mut Touched,
    origin: &Origin,
    persons: &mut Persons,
    incoming: IncomingRecord,
) -> Result<Merged, StoreError> {
    let kind = incoming.record.kind() as u8;
    let place = match tables.record_keys.get((origin.account, kind, incoming.record.id().as_str()))? {
        None => None,
        Some(row) => {
            let (hash, time, thread) = row.value();
            if hash == incoming.hash {
                return Ok(Merged::Unchanged);
            }
            Some(Place { thread: thread.to_owned(), time })
        }
    };
    persons.meet(tables, &incoming.record)?;
    match place {
        None if persons.refuse(tables, origin.account, &incoming.record)? => Ok(Merged::Erased),
        None => add(tables, state, touched, origin, &incoming),
        Some(place) => update(tables, state, touched, origin, persons, incoming, &place),
    }
}

fn add(
    tables: &mut Tables<'_>,
    state: &mut StateRow,
    touched: &mut Touched,
    origin: &Origin,
    incoming: &IncomingRecord,
) -> Result<Merged, StoreError> {
    let IncomingRecord { record, bytes, hash } = incoming;
    put(tables, origin, origin.stored_at, record, &Place::of(record), bytes, *hash)?;
    if let Some((thread, id)) = thread_of(record) {
        touched.note(origin.account, thread, id.as_str(), member_count(record, thread));
    }
    let change = NewChange {
        account: origin.account,
        kind: record.kind(),
        operation: Operation::Added,
        changed: &[],
        record: bytes,
    };
    changes::log(tables, state, origin.committed_at, &change)?;
    Ok(Merged::Added)
}

fn update(
    tables: &mut Tables<'_>,
    state: &mut StateRow,
    touched: &mut Touched,
    origin: &Origin,
    persons: &mut Persons,
    incoming: IncomingRecord,
    old_place: &Place,
) -> Result<Merged, StoreError> {
    let kind = incoming.record.kind();
    let id = incoming.record.id().clone();
    let old_key = (origin.account, kind as u8, old_place.thread.as_str(), old_place.time, id.as_str());
    let (first_seen, old) = match tables.records.get(old_key)? {
        Some(row) => {
            let (first_seen, _, bytes) = row.value();
            (first_seen, codec::decode_record(kind, bytes)?)
        }
        None => return Err(damaged("records-1", &"a record's place holds nothing")),
    };
    let mut new = old.clone();
    new.merge(incoming.record);
    let changed = new.changed_fields(&old);
    if changed.is_empty() {
        return Ok(Merged::Unchanged);
    }
    if let Some(erasure) = persons.covering(&new) {
        // What was stored said too little to tell, and its changes are in the log.
        persons.remember(tables, origin.account, &new, erasure)?;
        persons.note_pending(tables, erasure)?;
        touch_gone(touched, origin.account, &old);
        tables.records.remove(old_key)?;
        tables.record_keys.remove((origin.account, kind as u8, id.as_str()))?;
        persons.gone.add(kind, 1);
        return Ok(Merged::Erased);
    }
    let bytes = codec::encode_record(&new)?;
    let place = Place::of(&new);
    if place != *old_place {
        tables.records.remove(old_key)?;
    }
    put(tables, origin, first_seen, &new, &place, &bytes, codec::hash(&bytes))?;
    touch_moved(touched, origin.account, &old, &new);
    let change = NewChange {
        account: origin.account,
        kind,
        operation: Operation::Updated,
        changed: &changed,
        record: &bytes,
    };
    changes::log(tables, state, origin.committed_at, &change)?;
    Ok(Merged::Updated)
}

fn put(
    tables: &mut Tables<'_>,
    origin: &Origin,
    first_seen: i64,
    record: &Record,
    place: &Place,
    bytes: &[u8],
    hash: u128,
) -> Result<(), StoreError> {
    let (kind, id) = (record.kind() as u8, record.id().as_str());
    let key = (origin.account, kind, place.thread.as_str(), place.time, id);
    tables.records.insert(key, (first_seen, origin.stored_at, bytes))?;
    tables.record_keys.insert((origin.account, kind, id), (hash, place.time, place.thread.as_str()))?;
    Ok(())
}

/// A member that moved to another thread counts there and no longer here.
fn touch_moved(touched: &mut Touched, account: u32, old: &Record, new: &Record) {
    let (Some((kind, from)), Some((_, to))) = (thread_of(old), thread_of(new)) else { return };
    let moved = if from == to { 0 } else { member_count(new, kind) };
    touched.note(account, kind, from.as_str(), -moved);
    touched.note(account, kind, to.as_str(), moved);
}

/// A record that goes counts in its thread no longer.
pub(crate) fn touch_gone(touched: &mut Touched, account: u32, record: &Record) {
    if let Some((kind, thread)) = thread_of(record) {
        touched.note(account, kind, thread.as_str(), -member_count(record, kind));
    }
}

/// 1 for a member of the thread, 0 for its parent.
fn member_count(record: &Record, thread: ThreadKind) -> i64 {
    i64::from(record.kind() == thread.member())
}
