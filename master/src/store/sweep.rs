//! Deleting what was erased: in steps of so many rows, each a transaction of its own, between which batches are applied.
//! What is left to do is marked in the tables before the first row goes; a store that was killed goes on with it.
//!
//! Deleted rows are gone from every table. The file's free pages keep their bytes until they are used again.

use std::collections::VecDeque;
use std::ops::Bound;
use std::panic::catch_unwind;

use redb::{Database, ReadableTable};
use snapfleet_protocol::{AccountId, Topic, decode_snapshot};

use super::apply::take_from;
use super::changes;
use super::codec::{self, AccountState, StateRow, damaged};
use super::error::StoreError;
use super::merge::touch_gone;
use super::persons::{self, Persons};
use super::standing::in_transaction;
use super::tables::{OPERATION_ADDED, OPERATION_UPDATED, Tables};
use super::threads::Touched;

/// Dead letters looked through in a step: each may be as large as the broker's largest message.
const LETTERS_STEP: usize = 32;

/// What is left to delete, the next first.
#[derive(Default)]
pub(crate) struct Sweeps(VecDeque<Sweep>);

/// One account to go through.
struct Sweep {
    account: AccountId,
    /// The number of an account that was erased; `None` where persons were.
    erased: Option<u32>,
    place: Place,
    /// More is to go since this began: it is gone through again.
    again: bool,
}

/// How far a sweep has come.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// In the records, behind a key: kind, thread, time, id.
    Rows(Option<(u8, String, i64, String)>),
    /// In the change log, behind a number.
    Changes(u64),
    /// In the dead letters, behind a number.
    Letters(u64),
    End,
}

impl Sweeps {
    /// What the tables say is left.
    pub(crate) fn left(database: &Database) -> Result<Self, StoreError> {
        let mut sweeps = Self::default();
        in_transaction(database, |tables, _| sweeps.find(tables).map(|()| false))?;
        Ok(sweeps)
    }

    /// Adds what the tables say is left; `renewed` are accounts of which more persons were erased.
    pub(crate) fn refresh(&mut self, database: &Database, renewed: &[&AccountId]) -> Result<(), StoreError> {
        for sweep in &mut self.0 {
            sweep.again |= sweep.erased.is_none() && renewed.contains(&&sweep.account);
        }
        in_transaction(database, |tables, _| self.find(tables).map(|()| false))?;
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn find(&mut self, tables: &Tables<'_>) -> Result<(), StoreError> {
        for entry in tables.erasing.iter()? {
            let (key, _) = entry?;
            let (number, name) = key.value();
            self.add(account("erasing-1", name)?, Some(number));
        }
        for entry in tables.erasures.iter()? {
            let (key, row) = entry?;
            if row.value().1 {
                self.add(account("erasures-1", key.value().0)?, None);
            }
        }
        Ok(())
    }

    fn add(&mut self, account: AccountId, erased: Option<u32>) {
        if !self.0.iter().any(|known| known.account == account && known.erased == erased) {
            self.0.push_back(Sweep { account, erased, place: Place::Rows(None), again: false });
        }
    }

    /// One step of the first; `rows` is the most that it looks through. Returns the number of the newest change.
    pub(crate) fn step(&mut self, database: &Database, rows: usize) -> Result<Option<u64>, StoreError> {
        let Some(sweep) = self.0.front_mut() else { return Ok(None) };
        let newest = in_transaction(database, |tables, state| sweep.step(tables, state, rows))?;
        if sweep.place == Place::End
            && let Some(done) = self.0.pop_front()
        {
            let what = if done.erased.is_some() { "account" } else { "person" };
            tracing::info!(account.id = %done.account, what, "what was stored is erased");
        }
        Ok(Some(newest))
    }
}

fn account(table: &'static str, name: &str) -> Result<AccountId, StoreError> {
    AccountId::parse(name).map_err(|error| damaged(table, &error))
}

impl Sweep {
    /// True where something was written.
    fn step(
        &mut self,
        tables: &mut Tables<'_>,
        state: &mut StateRow,
        rows: usize,
    ) -> Result<bool, StoreError> {
        let persons = Persons::of(tables, &self.account)?;
        let wrote = match (&self.place, self.erased) {
            (Place::Rows(_), Some(number)) => self.account_rows(tables, number, rows)?,
            (Place::Rows(after), None) => {
                let after = after.clone();
                self.person_rows(tables, state, persons, after, rows)?
            }
            (Place::Changes(after), _) => {
                let after = *after;
                self.changes(tables, state, &persons, after, rows)?
            }
            (Place::Letters(after), _) => {
                let after = *after;
                self.letters(tables, state, &persons, after)?
            }
            (Place::End, _) => false,
        };
        if self.place != Place::End {
            return Ok(wrote);
        }
        match self.erased {
            Some(number) => {
                tables.erasing.remove((number, self.account.to_string().as_str()))?;
            }
            None if self.again => (self.place, self.again) = (Place::Rows(None), false),
            None => persons::settle(tables, state, &self.account.to_string())?,
        }
        Ok(true)
    }

    /// The rows of an erased account, table by table.
    fn account_rows(
        &mut self,
        tables: &mut Tables<'_>,
        number: u32,
        rows: usize,
    ) -> Result<bool, StoreError> {
        let (mut left, next) = (rows, number.saturating_add(1));
        macro_rules! delete {
            ($($table:ident: $key:expr;)*) => {
                $(for gone in tables.$table.extract_from_if($key(number)..$key(next), |_, _| true)?.take(left) {
                    gone?;
                    left -= 1;
                })*
            };
        }
        delete! {
            records: |number| (number, 0, "", i64::MIN, "");
            record_keys: |number| (number, 0, "");
            threads: |number| (number, 0, "");
            threads_by_time: |number| (number, i64::MIN, 0, "");
            erased_records: |number| (number, 0);
        }
        if left > 0 {
            self.place = Place::Changes(0);
        }
        Ok(left < rows)
    }

    /// The records that an erasure covers, conversations before their messages.
    fn person_rows(
        &mut self,
        tables: &mut Tables<'_>,
        state: &mut StateRow,
        mut persons: Persons,
        after: Option<(u8, String, i64, String)>,
        rows: usize,
    ) -> Result<bool, StoreError> {
        let name = self.account.to_string();
        let number = tables.account_numbers.get(name.as_str())?.map(|number| number.value());
        let Some(number) = number else {
            self.place = Place::Changes(0);
            return Ok(false);
        };
        let from = match &after {
            Some((kind, thread, time, id)) => {
                Bound::Excluded((number, *kind, thread.as_str(), *time, id.as_str()))
            }
            None => Bound::Included((number, 0, "", i64::MIN, "")),
        };
        let until = Bound::Excluded((number.saturating_add(1), 0, "", i64::MIN, ""));
        let mut read = Vec::new();
        for entry in tables.records.range((from, until))?.take(rows) {
            let (key, row) = entry?;
            let (_, kind, thread, time, id) = key.value();
            let record = codec::decode_record(codec::kind("records-1", kind)?, row.value().2)?;
            read.push(((kind, thread.to_owned(), time, id.to_owned()), record));
        }
        self.place = match read.last() {
            Some((key, _)) if read.len() == rows => Place::Rows(Some(key.clone())),
            _ => Place::Changes(0),
        };
        let mut touched = Touched::default();
        for ((kind, thread, time, id), record) in &read {
            persons.meet(tables, record)?;
            let Some(erasure) = persons.covering(record) else { continue };
            persons.remember(tables, number, record, erasure)?;
            touch_gone(&mut touched, number, record);
            tables.records.remove((number, *kind, thread.as_str(), *time, id.as_str()))?;
            tables.record_keys.remove((number, *kind, id.as_str()))?;
            persons.gone.add(record.kind(), 1);
        }
        let wrote = persons.pending || persons.gone.sum() > 0;
        if persons.gone.sum() > 0 {
            touched.write(tables)?;
            take_from(&mut state.records, &persons.gone);
            let row = tables.accounts.get(number)?.map(|row| codec::decode("accounts-1", row.value()));
            let mut own: AccountState =
                row.ok_or_else(|| damaged("accounts-1", &format!("account {name} has a number only")))??;
            take_from(&mut own.records, &persons.gone);
            tables.accounts.insert(number, codec::encode("accounts-1", &own)?.as_slice())?;
        }
        Ok(wrote)
    }

    /// What the change log holds of an erased account, or of records that are covered or have gone.
    fn changes(
        &mut self,
        tables: &mut Tables<'_>,
        state: &mut StateRow,
        persons: &Persons,
        after: u64,
        rows: usize,
    ) -> Result<bool, StoreError> {
        let name = self.account.to_string();
        let number = match self.erased {
            Some(number) => Some(number),
            None => tables.account_numbers.get(name.as_str())?.map(|number| number.value()),
        };
        // What is about no account, such as that one was erased, has the number 0.
        let Some(number) = number.filter(|number| *number > 0) else {
            self.place = Place::Letters(0);
            return Ok(false);
        };
        let (record_keys, whole) = (&tables.record_keys, self.erased.is_some());
        let (gone, reached) = changes::erase(&mut tables.changes, state, after, rows, |change| {
            let (_, account, kind, operation, _, bytes) = *change;
            if account != number || whole {
                return Ok(account == number);
            }
            if ![OPERATION_ADDED, OPERATION_UPDATED].contains(&operation) {
                return Ok(false);
            }
            let record = codec::decode_record(codec::kind("changes-1", kind)?, bytes)?;
            // Only erasing takes a record away, so one that is not there was erased, whatever it said then.
            let gone = record_keys.get((number, kind, record.id().as_str()))?.is_none();
            Ok(gone || persons.covering(&record).is_some())
        })?;
        self.place = reached.map_or(Place::Letters(0), Place::Changes);
        Ok(gone > 0)
    }

    /// The dead letters of an erased account; of one with erased persons those that hold something of theirs, or that
    /// cannot be read.
    fn letters(
        &mut self,
        tables: &mut Tables<'_>,
        state: &mut StateRow,
        persons: &Persons,
        after: u64,
    ) -> Result<bool, StoreError> {
        let subject = Topic::Snapshot.subject(&self.account);
        let (mut reached, mut seen, mut gone) = (after, 0, Vec::new());
        let range = (Bound::Excluded(after), Bound::Unbounded);
        for entry in tables.dead_letters.range(range)?.take(LETTERS_STEP) {
            let (n, row) = entry?;
            (reached, seen) = (n.value(), seen + 1);
            let (_, _, _, on, _, _, bytes) = row.value();
            if (self.erased.is_some() && on == subject)
                || self.holds(persons, bytes).unwrap_or(on == subject && !bytes.is_empty())
            {
                gone.push(reached);
            }
        }
        for n in &gone {
            tables.dead_letters.remove(n)?;
        }
        state.dead_letters = state.dead_letters.saturating_sub(gone.len() as u64);
        self.place = if seen == LETTERS_STEP { Place::Letters(reached) } else { Place::End };
        Ok(!gone.is_empty())
    }

    /// Whether a message's bytes hold something of what is erased; `None` where they cannot be read.
    fn holds(&self, persons: &Persons, bytes: &[u8]) -> Option<bool> {
        // No input is known to panic the decoder; should one be found, it must not stop the writer.
        let snapshot = catch_unwind(|| decode_snapshot(bytes)).ok()?.ok()?;
        if snapshot.account_id() != self.account {
            return Some(false);
        }
        Some(
            self.erased.is_some()
                || snapshot.into_records().any(|record| persons.covering(&record).is_some()),
        )
    }
}
