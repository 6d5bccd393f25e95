//! What is said of accounts and persons from outside the stream: an account's standing, a person's erasure, what was
//! purged from the stream. Each is durable before any row goes, and decides from then on what is taken in.

use redb::{Database, ReadableTable};
use snapfleet_protocol::{AccountId, Erasure, UnixMs};

use super::changes;
use super::codec::{self, AccountState, StateRow, damaged};
use super::error::StoreError;
use super::rows::{Operation, Position};
use super::tables::{STANDING_ACTIVE, STANDING_ERASED, STANDING_REMOVED, StandingValue, Tables};

/// How an account stands with us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Its snapshots are applied.
    Active {
        /// Those up to here, in this life of the stream, are not: the account had ended, and began anew.
        not_before: Option<Position>,
    },
    /// Its rows stay. What the broker stored after the end goes to the dead letters.
    Removed {
        /// When it ended, by the master's clock.
        at: UnixMs,
    },
    /// Its rows are gone. What still comes is not kept anywhere.
    Erased {
        /// When that was asked for, by the master's clock.
        at: UnixMs,
    },
}

impl Default for Standing {
    fn default() -> Self {
        Standing::Active { not_before: None }
    }
}

impl Standing {
    pub(crate) fn read(
        table: &impl ReadableTable<&'static str, StandingValue>,
        account: &str,
    ) -> Result<Self, StoreError> {
        table.get(account)?.map_or_else(|| Ok(Self::default()), |row| Self::of(row.value()))
    }

    pub(crate) fn of((standing, at, incarnation, seq): StandingValue) -> Result<Self, StoreError> {
        let not_before = (incarnation > 0).then_some(Position { incarnation, seq });
        match standing {
            STANDING_ACTIVE => Ok(Standing::Active { not_before }),
            STANDING_REMOVED => Ok(Standing::Removed { at: UnixMs(at) }),
            STANDING_ERASED => Ok(Standing::Erased { at: UnixMs(at) }),
            other => Err(damaged("standings-1", &format!("no standing {other}"))),
        }
    }

    fn to_value(self) -> StandingValue {
        match self {
            Standing::Active { not_before: Some(point) } => {
                (STANDING_ACTIVE, 0, point.incarnation, point.seq)
            }
            Standing::Active { not_before: None } => (STANDING_ACTIVE, 0, 0, 0),
            Standing::Removed { at } => (STANDING_REMOVED, at.0, 0, 0),
            Standing::Erased { at } => (STANDING_ERASED, at.0, 0, 0),
        }
    }
}

/// Something to be noted about an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// How it stands from now on.
    Standing(AccountId, Standing),
    /// A person whose records go, and are not taken in again.
    Person(AccountId, Erasure),
    /// The account's subject is purged from the stream up to this place.
    Purged(AccountId, Position),
}

/// Notes all of them in one durable transaction; writes nothing where all is known. Returns the number of the newest
/// change.
pub(crate) fn edit(database: &Database, edits: &[Edit]) -> Result<u64, StoreError> {
    in_transaction(database, |tables, state| {
        let mut wrote = false;
        for edit in edits {
            wrote |= match edit {
                Edit::Standing(account, standing) => set_standing(tables, state, account, *standing)?,
                Edit::Person(account, erasure) => erase_person(tables, state, account, *erasure)?,
                Edit::Purged(account, upto) => purged(tables, account, *upto)?,
            };
        }
        Ok(wrote)
    })
}

/// Runs `work` in a transaction, which is committed where it returns true. Returns the number of the newest change.
pub(crate) fn in_transaction(
    database: &Database,
    work: impl FnOnce(&mut Tables<'_>, &mut StateRow) -> Result<bool, StoreError>,
) -> Result<u64, StoreError> {
    let mut txn = database.begin_write()?;
    txn.set_quick_repair(true);
    let (wrote, newest) = {
        let mut tables = Tables::open(&txn)?;
        let mut state = match tables.state.get(())? {
            Some(row) => codec::decode("state-1", row.value())?,
            None => StateRow::default(),
        };
        let wrote = work(&mut tables, &mut state)?;
        if wrote {
            tables.state.insert((), codec::encode("state-1", &state)?.as_slice())?;
        }
        (wrote, state.changes)
    };
    if wrote {
        txn.commit()?;
    } else {
        txn.abort()?;
    }
    Ok(newest)
}

fn set_standing(
    tables: &mut Tables<'_>,
    state: &mut StateRow,
    account: &AccountId,
    standing: Standing,
) -> Result<bool, StoreError> {
    let name = account.to_string();
    let old = tables.standings.get(name.as_str())?.map(|row| row.value());
    if old.map_or(Ok(Standing::default()), Standing::of)? == standing {
        return Ok(false);
    }
    if standing == Standing::default() {
        tables.standings.remove(name.as_str())?;
    } else {
        let mut value = standing.to_value();
        if let Some((STANDING_ERASED | STANDING_ACTIVE, erased_at, ..)) = old
            && value.0 == STANDING_ACTIVE
        {
            value.1 = erased_at;
        }
        tables.standings.insert(name.as_str(), value)?;
    }
    if let Standing::Erased { at } = standing {
        begin_erasing(tables, state, &name, at)?;
    }
    Ok(true)
}

/// Nothing finds the account from here on. Its rows are deleted step by step (`sweep`), which the mark keeps from being
/// forgotten.
fn begin_erasing(
    tables: &mut Tables<'_>,
    state: &mut StateRow,
    name: &str,
    at: UnixMs,
) -> Result<(), StoreError> {
    let number = tables.account_numbers.remove(name)?.map(|number| number.value());
    if let Some(number) = number {
        let row = tables.accounts.remove(number)?.map(|row| codec::decode("accounts-1", row.value()));
        let account: AccountState =
            row.ok_or_else(|| damaged("accounts-1", &format!("account {name} has a number only")))??;
        for (total, own) in state.records.iter_mut().zip(account.records) {
            *total = total.saturating_sub(own);
        }
        state.accounts_erased += 1;
        changes::log_erased(tables, state, at, 0, Operation::AccountErased, name.as_bytes())?;
    }
    tables.erasing.insert((number.unwrap_or(0), name), ())?;
    note_purge(tables, state, name, state.position)
}

fn erase_person(
    tables: &mut Tables<'_>,
    state: &mut StateRow,
    account: &AccountId,
    erasure: Erasure,
) -> Result<bool, StoreError> {
    let name = account.to_string();
    let key = (name.as_str(), erasure.person.to_number());
    let known = tables.erasures.get(key)?.map(|row| row.value().0);
    if known.is_some_and(|at| at >= erasure.at.0) {
        return Ok(false);
    }
    tables.erasures.insert(key, (erasure.at.0, true))?;
    note_purge(tables, state, &name, state.position)?;
    Ok(true)
}

/// Notes that the stream may hold what is erased, up to `seq` of the incarnation at hand.
pub(crate) fn note_purge(
    tables: &mut Tables<'_>,
    state: &StateRow,
    account: &str,
    seq: u64,
) -> Result<(), StoreError> {
    if state.incarnation > 0 && seq > 0 {
        tables.purges.insert(account, (state.incarnation, seq))?;
    }
    Ok(())
}

fn purged(tables: &mut Tables<'_>, account: &AccountId, upto: Position) -> Result<bool, StoreError> {
    let name = account.to_string();
    let due = tables.purges.get(name.as_str())?.map(|row| row.value());
    let done = due.is_some_and(|(incarnation, seq)| incarnation == upto.incarnation && seq <= upto.seq);
    if done {
        tables.purges.remove(name.as_str())?;
    }
    Ok(done)
}
