//! Reading what was ended and erased, and what of that is still to be done.

use std::collections::BTreeSet;

use redb::ReadableTable;
use snapfleet_protocol::{AccountId, Erasure, Erasures, PersonHash, RecordKind, UnixMs};

use super::Query;
use crate::store::codec::{self, damaged};
use crate::store::error::StoreError;
use crate::store::rows::{Position, PurgeRow};
use crate::store::standing::Standing;
use crate::store::tables::{ERASING, ERASURES, PURGES, RECORDS, STANDINGS};

impl Query {
    /// How an account stands, also one of which nothing is stored.
    ///
    /// # Errors
    /// [`StoreError`] where the file cannot be read; so for all of these.
    pub fn standing(&self, id: &AccountId) -> Result<Standing, StoreError> {
        let table = self.table(STANDINGS)?;
        table.map_or_else(|| Ok(Standing::default()), |table| Standing::read(&table, &id.to_string()))
    }

    /// Whether an account was erased at `at` or later, and none of the rows that it had is left.
    ///
    /// # Errors
    /// [`StoreError`] where the file cannot be read.
    pub fn is_erased(&self, id: &AccountId, at: UnixMs) -> Result<bool, StoreError> {
        let begun = self.standing(id)?.erased_at().is_some_and(|erased_at| erased_at >= at);
        Ok(begun && !self.erasing()?.contains(id))
    }

    /// The erased accounts of which rows are still being deleted.
    ///
    /// # Errors
    /// [`StoreError`] where the file cannot be read.
    pub fn erasing(&self) -> Result<BTreeSet<AccountId>, StoreError> {
        let Some(table) = self.table(ERASING)? else { return Ok(BTreeSet::new()) };
        let name = |entry: Result<(redb::AccessGuard<'_, (u32, &'static str)>, _), redb::StorageError>| {
            AccountId::parse(entry?.0.value().1).map_err(|error| damaged("erasing-1", &error))
        };
        table.iter()?.map(name).collect()
    }

    /// Whether a person was erased up to that time or a later one, and no row is left that it covers.
    ///
    /// # Errors
    /// [`StoreError`] where the file cannot be read.
    pub fn is_person_erased(&self, id: &AccountId, erasure: Erasure) -> Result<bool, StoreError> {
        let Some(table) = self.table(ERASURES)? else { return Ok(false) };
        let name = id.to_string();
        let known = table.get((name.as_str(), erasure.person.to_number()))?.map(|row| row.value());
        if known.is_none_or(|(at, _)| at < erasure.at.0) {
            return Ok(false);
        }
        // A conversation with the person counts as the person.
        for entry in table.range((name.as_str(), u128::MIN)..=(name.as_str(), u128::MAX))? {
            if entry?.1.value().1 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What is due to be purged from the stream.
    ///
    /// # Errors
    /// [`StoreError`] where the file cannot be read.
    pub fn purges(&self) -> Result<Vec<PurgeRow>, StoreError> {
        let Some(table) = self.table(PURGES)? else { return Ok(Vec::new()) };
        let mut purges = Vec::new();
        for entry in table.iter()? {
            let (name, row) = entry?;
            let account = AccountId::parse(name.value()).map_err(|error| damaged("purges-1", &error))?;
            let (incarnation, seq, since) = row.value();
            let upto = Position { incarnation, seq };
            purges.push(PurgeRow { account, upto, since: UnixMs(since) });
        }
        Ok(purges)
    }

    /// Whether something of the account is due to be purged from the stream.
    ///
    /// # Errors
    /// [`StoreError`] where the file cannot be read.
    pub fn is_purge_due(&self, id: &AccountId) -> Result<bool, StoreError> {
        let Some(table) = self.table(PURGES)? else { return Ok(false) };
        Ok(table.get(id.to_string().as_str())?.is_some())
    }

    /// The newest platform time of a person's records that are stored; `None` where none has one. Reads every record
    /// of the account.
    ///
    /// # Errors
    /// [`StoreError`] where the file cannot be read.
    pub fn newest_of_person(&self, id: &AccountId, person: PersonHash) -> Result<Option<UnixMs>, StoreError> {
        let (number, table) = (self.account_number(id)?, self.table(RECORDS)?);
        let (Some(number), Some(table)) = (number, table) else { return Ok(None) };
        let mut erasures = Erasures::new(id.clone());
        erasures.insert(Erasure { person, at: UnixMs(i64::MAX) });
        let mut newest = None;
        // Conversations lie before their messages, which name only the conversation.
        for entry in
            table.range((number, 0, "", i64::MIN, "")..(number.saturating_add(1), 0, "", i64::MIN, ""))?
        {
            let (key, row) = entry?;
            let kind = codec::kind("records-1", key.value().1)?;
            if kind == RecordKind::Content {
                continue;
            }
            let record = codec::decode_record(kind, row.value().2)?;
            if let Some(implied) = erasures.implied(&record) {
                erasures.insert(implied);
            }
            if erasures.covering(&record).is_some() {
                newest = newest.max(record.time());
            }
        }
        Ok(newest)
    }

    /// Whether the rows of the account that had this number are being deleted.
    pub(super) fn is_being_erased(&self, number: u32) -> Result<bool, StoreError> {
        let Some(table) = self.table(ERASING)? else { return Ok(false) };
        Ok(table.range((number, "")..(number.saturating_add(1), ""))?.next().is_some())
    }
}
