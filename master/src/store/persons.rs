//! The erased persons of one account while something of it is written: which records are refused, which that were
//! stored go, and what of it must not be forgotten.

use redb::ReadableTable;
use snapfleet_protocol::{AccountId, Erasure, Erasures, PersonHash, Record, UnixMs};

use super::batch::KindCounts;
use super::changes;
use super::codec::{self, StateRow};
use super::error::StoreError;
use super::rows::Operation;
use super::tables::Tables;

/// An account's erased persons.
pub(crate) struct Persons {
    account: String,
    all: Erasures,
    /// Rows are to be deleted that were written before something was known.
    pub(crate) pending: bool,
    /// Records that went although they were stored.
    pub(crate) gone: KindCounts,
}

impl Persons {
    /// Reads them.
    pub(crate) fn of(tables: &Tables<'_>, account: &AccountId) -> Result<Self, StoreError> {
        let mut persons = Self {
            account: account.to_string(),
            all: Erasures::new(account.clone()),
            pending: false,
            gone: KindCounts::default(),
        };
        let name = persons.account.as_str();
        for entry in tables.erasures.range((name, u128::MIN)..=(name, u128::MAX))? {
            let (key, row) = entry?;
            let person = PersonHash::from_number(key.value().1);
            persons.all.insert(Erasure { person, at: UnixMs(row.value().0) });
        }
        Ok(persons)
    }

    /// Notes a conversation with an erased person, whose messages say only the conversation.
    pub(crate) fn meet(&mut self, tables: &mut Tables<'_>, record: &Record) -> Result<(), StoreError> {
        let Some(implied) = self.all.implied(record) else { return Ok(()) };
        self.all.insert(implied);
        self.note_pending(tables, implied)
    }

    /// The erasure that covers a record.
    pub(crate) fn covering(&self, record: &Record) -> Option<Erasure> {
        self.all.covering(record)
    }

    /// Whether a record that is not stored must not be; it is remembered by its hash.
    pub(crate) fn refuse(
        &mut self,
        tables: &mut Tables<'_>,
        account: u32,
        record: &Record,
    ) -> Result<bool, StoreError> {
        if self.all.is_empty() {
            return Ok(false);
        }
        if let Some(erasure) = self.covering(record) {
            self.remember(tables, account, record, erasure)?;
            return Ok(true);
        }
        let erased = tables.erased_records.get((account, record_hash(record)))?.map(|at| at.value());
        Ok(erased.is_some_and(|at| record.time().is_none_or(|time| time.0 <= at)))
    }

    /// Remembers a covered record by its hash.
    pub(crate) fn remember(
        &self,
        tables: &mut Tables<'_>,
        account: u32,
        record: &Record,
        erasure: Erasure,
    ) -> Result<(), StoreError> {
        tables.erased_records.insert((account, record_hash(record)), erasure.at.0)?;
        Ok(())
    }

    /// Notes that rows which were written before this was known are to be deleted.
    pub(crate) fn note_pending(
        &mut self,
        tables: &mut Tables<'_>,
        erasure: Erasure,
    ) -> Result<(), StoreError> {
        self.pending = true;
        let key = (self.account.as_str(), erasure.person.to_number());
        tables.erasures.insert(key, (erasure.at.0, true))?;
        Ok(())
    }
}

/// Notes that no row is left which an erasure of the account covers, and tells the readers of the change log.
pub(crate) fn settle(tables: &mut Tables<'_>, state: &mut StateRow, account: &str) -> Result<(), StoreError> {
    let whole = (account, u128::MIN)..=(account, u128::MAX);
    let mut done = Vec::new();
    for entry in tables.erasures.range(whole)? {
        let (key, row) = entry?;
        if let (at, true) = row.value() {
            done.push((key.value().1, at));
        }
    }
    let number = tables.account_numbers.get(account)?.map(|number| number.value());
    for (person, at) in done {
        tables.erasures.insert((account, person), (at, false))?;
        let Some(number) = number else { continue };
        let erasure = Erasure { person: PersonHash::from_number(person), at: UnixMs(at) };
        let mut body = person.to_be_bytes().to_vec();
        body.extend_from_slice(&at.to_be_bytes());
        changes::log_erased(tables, state, erasure.at, number, Operation::PersonErased(erasure), &body)?;
    }
    Ok(())
}

fn record_hash(record: &Record) -> u128 {
    codec::hash(format!("{}\0{}", record.kind() as u8, record.id()).as_bytes())
}
