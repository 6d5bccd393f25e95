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
        /// An earlier erasure.
        erased: Option<ErasedMark>,
    },
    /// Its rows stay. What came to the stream before the end is applied, the rest goes to the dead letters.
    Removed {
        /// When it ended, by the master's clock.
        at: UnixMs,
        /// The stream's end then.
        upto: Option<Position>,
        /// An earlier erasure.
        erased: Option<ErasedMark>,
    },
    /// Its rows are gone. What still comes is not kept anywhere.
    Erased {
        /// When that was asked for, by the master's clock.
        at: UnixMs,
    },
}

/// What is left of an erasure of an account that was added again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErasedMark {
    /// When it was asked for, by the master's clock.
    pub at: UnixMs,
    /// Up to where nothing of the account is taken in, in this life of the stream.
    pub upto: Position,
}

impl Default for Standing {
    fn default() -> Self {
        Standing::Active { erased: None }
    }
}

impl Standing {
    /// The time of the account's last erasure, if there was one.
    #[must_use]
    pub fn erased_at(self) -> Option<UnixMs> {
        match self {
            Standing::Erased { at } => Some(at),
            _ => self.mark().map(|mark| mark.at),
        }
    }

    /// Whether a message at `position` on the account's subject is part of what was erased.
    #[must_use]
    pub fn is_erased_at(self, position: Position) -> bool {
        matches!(self, Standing::Erased { .. }) || self.mark().is_some_and(|mark| mark.upto.covers(position))
    }

    fn mark(self) -> Option<ErasedMark> {
        match self {
            Standing::Active { erased } | Standing::Removed { erased, .. } => erased,
            Standing::Erased { .. } => None,
        }
    }

    pub(crate) fn read(
        table: &impl ReadableTable<&'static str, StandingValue>,
        account: &str,
    ) -> Result<Self, StoreError> {
        table.get(account)?.map_or_else(|| Ok(Self::default()), |row| Self::of(row.value()))
    }

    fn of(
        (standing, at, life, seq, erased_at, erased_life, erased_seq): StandingValue,
    ) -> Result<Self, StoreError> {
        let point = |incarnation, seq| (incarnation > 0).then_some(Position { incarnation, seq });
        let erased = point(erased_life, erased_seq).map(|upto| ErasedMark { at: UnixMs(erased_at), upto });
        match standing {
            STANDING_ACTIVE => Ok(Standing::Active { erased }),
            STANDING_REMOVED => Ok(Standing::Removed { at: UnixMs(at), upto: point(life, seq), erased }),
            STANDING_ERASED => Ok(Standing::Erased { at: UnixMs(at) }),
            other => Err(damaged("standings-1", &format!("no standing {other}"))),
        }
    }

    fn to_value(self) -> StandingValue {
        let (erased_at, (erased_life, erased_seq)) = match self.mark() {
            Some(mark) => (mark.at.0, (mark.upto.incarnation, mark.upto.seq)),
            None => (0, (0, 0)),
        };
        match self {
            Standing::Active { .. } => (STANDING_ACTIVE, 0, 0, 0, erased_at, erased_life, erased_seq),
            Standing::Removed { at, upto, .. } => {
                let (life, seq) = upto.map_or((0, 0), |upto| (upto.incarnation, upto.seq));
                (STANDING_REMOVED, at.0, life, seq, erased_at, erased_life, erased_seq)
            }
            Standing::Erased { at } => (STANDING_ERASED, at.0, 0, 0, 0, 0, 0),
        }
    }
}

/// Something to be noted about an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// How it stands from now on. An erasure that is newer than the last one that was begun is begun first, whatever
    /// the account is since; a standing that knows nothing of the last one does not undo it.
    Standing(AccountId, Standing),
    /// A person whose records go, and are not taken in again.
    Person(AccountId, Erasure),
    /// The account's subject is purged from the stream up to this place. Where what was due is of another life of the
    /// stream it stays due, in this one up to where the store is: the stream may be a copy of the former.
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
                Edit::Purged(account, upto) => purged(tables, state, account, *upto)?,
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
    mut standing: Standing,
) -> Result<bool, StoreError> {
    let name = account.to_string();
    let old = Standing::read(&tables.standings, &name)?;
    if old.erased_at() > standing.erased_at() {
        match (old.mark(), &mut standing) {
            (Some(mark), Standing::Active { erased } | Standing::Removed { erased, .. }) => {
                *erased = Some(mark)
            }
            _ => return Ok(false),
        }
    }
    if old == standing {
        return Ok(false);
    }
    if standing == Standing::default() {
        tables.standings.remove(name.as_str())?;
    } else {
        tables.standings.insert(name.as_str(), standing.to_value())?;
    }
    if let Some(at) = standing.erased_at()
        && old.erased_at() < Some(at)
    {
        begin_erasing(tables, state, &name, at)?;
        let seq = match standing.mark().map(|mark| mark.upto) {
            // What came behind it is of the account as it is now; in another life of the stream all is.
            Some(upto) if upto.incarnation == state.incarnation => state.position.min(upto.seq),
            Some(_) => 0,
            None => state.position,
        };
        note_purge(tables, state, &name, seq, at)?;
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
    Ok(())
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
    note_purge(tables, state, &name, state.position, erasure.at)?;
    Ok(true)
}

/// Notes that the stream may hold what is erased, up to `seq` of the incarnation at hand; `at` counts where nothing was
/// due before.
pub(crate) fn note_purge(
    tables: &mut Tables<'_>,
    state: &StateRow,
    account: &str,
    seq: u64,
    at: UnixMs,
) -> Result<(), StoreError> {
    if state.incarnation > 0 && seq > 0 {
        let due = tables.purges.get(account)?.map(|row| row.value());
        let seq = due.filter(|due| due.0 == state.incarnation).map_or(seq, |due| due.1.max(seq));
        let since = due.map_or(at.0, |due| due.2);
        tables.purges.insert(account, (state.incarnation, seq, since))?;
    }
    Ok(())
}

fn purged(
    tables: &mut Tables<'_>,
    state: &StateRow,
    account: &AccountId,
    upto: Position,
) -> Result<bool, StoreError> {
    let name = account.to_string();
    let Some((incarnation, seq, since)) = tables.purges.get(name.as_str())?.map(|row| row.value()) else {
        return Ok(false);
    };
    if incarnation == upto.incarnation && seq <= upto.seq {
        tables.purges.remove(name.as_str())?;
        return Ok(true);
    }
    let moved = incarnation != upto.incarnation && state.incarnation == upto.incarnation;
    if moved {
        tables.purges.insert(name.as_str(), (state.incarnation, state.position, since))?;
    }
    Ok(moved)
}
