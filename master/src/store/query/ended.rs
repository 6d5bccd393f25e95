//! Reading what was ended and erased, and what of that is still to be done.

use redb::ReadableTable;
use snapfleet_protocol::{AccountId, Erasure};

use super::Query;
use crate::store::codec::damaged;
use crate::store::error::StoreError;
use crate::store::rows::Position;
use crate::store::standing::Standing;
use crate::store::tables::{ERASING, ERASURES, PURGES, STANDINGS};

impl Query {
    /// How an account stands, also one of which nothing is stored.
    ///
    /// # Errors
    /// [`StoreError`] where the file cannot be read; so for all of these.
    pub fn standing(&self, id: &AccountId) -> Result<Standing, StoreError> {
        let table = self.table(STANDINGS)?;
        table.map_or_else(|| Ok(Standing::default()), |table| Standing::read(&table, &id.to_string()))
    }

    /// Whether an account was erased and none of its rows is left.
    ///
    /// # Errors
    /// [`StoreError`] where the file cannot be read.
    pub fn is_erased(&self, id: &AccountId) -> Result<bool, StoreError> {
        if !matches!(self.standing(id)?, Standing::Erased { .. }) {
            return Ok(false);
        }
        let Some(table) = self.table(ERASING)? else { return Ok(true) };
        let name = id.to_string();
        for entry in table.iter()? {
            if entry?.0.value().1 == name {
                return Ok(false);
            }
        }
        Ok(true)
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

    /// The accounts on whose subjects the stream may hold what is erased, and up to where.
    ///
    /// # Errors
    /// [`StoreError`] where the file cannot be read.
    pub fn purges(&self) -> Result<Vec<(AccountId, Position)>, StoreError> {
        let Some(table) = self.table(PURGES)? else { return Ok(Vec::new()) };
        let mut purges = Vec::new();
        for entry in table.iter()? {
            let (name, row) = entry?;
            let id = AccountId::parse(name.value()).map_err(|error| damaged("purges-1", &error))?;
            let (incarnation, seq) = row.value();
            purges.push((id, Position { incarnation, seq }));
        }
        Ok(purges)
    }

    /// Whether the rows of the account that had this number are being deleted.
    pub(super) fn is_being_erased(&self, number: u32) -> Result<bool, StoreError> {
        let Some(table) = self.table(ERASING)? else { return Ok(false) };
        Ok(table.range((number, "")..(number.saturating_add(1), ""))?.next().is_some())
    }
}
