//! Threads: derived rows, one for each work or conversation that is known or referred to, and their order by
//! last activity. A thread that a batch touched is derived anew once, at the batch's end, from what is stored.

use std::collections::BTreeMap;

use redb::ReadableTable;
use snapfleet_protocol::{Record, RecordId};

use super::codec::{self, ThreadState, damaged};
use super::error::StoreError;
use super::rows::ThreadKind;
use super::tables::{TIME_UNKNOWN, Tables, thread_bounds};

/// The threads that a batch touched, and by how many members each grew or shrank.
#[derive(Default)]
pub(crate) struct Touched(BTreeMap<(u32, u8, String), i64>);

impl Touched {
    /// Notes that a thread's parent or one of its members changed.
    pub(crate) fn note(&mut self, account: u32, kind: ThreadKind, id: &str, grown: i64) {
        *self.0.entry((account, kind.parent() as u8, id.to_owned())).or_default() += grown;
    }

    /// Derives all of them.
    pub(crate) fn write(self, tables: &mut Tables<'_>) -> Result<(), StoreError> {
        for ((account, parent, id), grown) in self.0 {
            refresh(tables, account, parent, &id, grown)?;
        }
        Ok(())
    }
}

fn refresh(
    tables: &mut Tables<'_>,
    account: u32,
    parent: u8,
    id: &str,
    grown: i64,
) -> Result<(), StoreError> {
    let key = (account, parent, id);
    let old: Option<ThreadState> =
        tables.threads.get(key)?.map(|row| codec::decode("threads-1", row.value())).transpose()?;
    let count = old.as_ref().map_or(0, |old| old.count).saturating_add_signed(grown);
    let known = record(tables, account, parent, id)?;
    let old_time = old.as_ref().map(|old| old.last_at.unwrap_or(TIME_UNKNOWN));
    if known.is_none() && count == 0 {
        if let Some(time) = old_time {
            tables.threads.remove(key)?;
            tables.threads_by_time.remove((account, time, parent, id))?;
        }
        return Ok(());
    }
    let new = derive(known.as_ref(), newest_member(tables, account, parent, id)?, count);
    if old.as_ref() == Some(&new) {
        return Ok(());
    }
    let time = new.last_at.unwrap_or(TIME_UNKNOWN);
    if old_time != Some(time) {
        if let Some(old_time) = old_time {
            tables.threads_by_time.remove((account, old_time, parent, id))?;
        }
        tables.threads_by_time.insert((account, time, parent, id), ())?;
    }
    tables.threads.insert(key, codec::encode("threads-1", &new)?.as_slice())?;
    Ok(())
}

/// What the list of threads says of one.
fn derive(parent: Option<&Record>, newest: Option<Record>, count: u64) -> ThreadState {
    let mut thread = ThreadState { count, ..ThreadState::default() };
    thread.last_at = newest.as_ref().and_then(Record::time).map(|time| time.0);
    match newest {
        Some(Record::Comment(comment)) => {
            thread.last_text = comment.text.filter(|_| !comment.deleted);
            thread.last_author = comment.author_name;
        }
        Some(Record::DirectMessage(message)) => {
            thread.last_text = message.text.filter(|_| !message.recalled);
            thread.last_author = message.sender_name;
        }
        _ => {}
    }
    match parent {
        Some(Record::Content(content)) => {
            thread.title = content.title.clone();
            thread.last_at = thread.last_at.or(content.published_at.map(|time| time.0));
        }
        Some(Record::Conversation(conversation)) => {
            thread.title = conversation.name.clone();
            // The platform lists a newer message than any that was captured.
            let listed = conversation.last_message_at.map(|time| time.0);
            if listed > thread.last_at {
                thread.last_at = listed;
                thread.last_text = conversation.last_message_text.clone();
                thread.last_author = None;
            }
        }
        _ => {}
    }
    thread
}

/// The parent's record, which stands outside any thread.
fn record(tables: &Tables<'_>, account: u32, kind: u8, id: &str) -> Result<Option<Record>, StoreError> {
    let Some(place) = tables.record_keys.get((account, kind, id))? else { return Ok(None) };
    let (_, time, thread) = place.value();
    let row = tables.records.get((account, kind, thread, time, id))?;
    let row = row.ok_or_else(|| damaged("records-1", &"a record's place holds nothing"))?;
    codec::decode_record(codec::kind("records-1", kind)?, row.value().2).map(Some)
}

fn newest_member(
    tables: &Tables<'_>,
    account: u32,
    parent: u8,
    id: &str,
) -> Result<Option<Record>, StoreError> {
    let kind = ThreadKind::of(codec::kind("threads-1", parent)?);
    let member = kind.ok_or_else(|| damaged("threads-1", &"nothing hangs on its parent"))?.member();
    let mut successor = String::new();
    let mut range = tables.records.range(thread_bounds(account, member as u8, id, &mut successor))?;
    let Some(row) = range.next_back() else { return Ok(None) };
    codec::decode_record(member, row?.1.value().2).map(Some)
}

/// The thread that a record hangs on or belongs to.
pub(crate) fn thread_of(record: &Record) -> Option<(ThreadKind, &RecordId)> {
    let kind = ThreadKind::of(record.kind())?;
    Some((kind, record.thread_id().unwrap_or_else(|| record.id())))
}
