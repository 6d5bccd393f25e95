//! The change log: each change gets the next number; the oldest go when there are too many or they are too old.

use std::ops::Bound;

use redb::ReadableTable;
use snapfleet_protocol::{RecordKind, UnixMs};

use super::StoreOptions;
use super::codec::StateRow;
use super::error::StoreError;
use super::rows::Operation;
use super::tables::{
    ChangeValue, OPERATION_ACCOUNT_ERASED, OPERATION_ADDED, OPERATION_PERSON_ERASED, OPERATION_UPDATED,
    Tables,
};

/// What one batch trims beyond as many rows as it adds, so that a log over its bounds shrinks in small steps.
const TRIM_STEP_ROWS: u64 = 256;

/// One change, as it is about to be logged.
pub(crate) struct NewChange<'a> {
    pub(crate) account: u32,
    pub(crate) kind: RecordKind,
    pub(crate) operation: Operation,
    pub(crate) changed: &'a [&'static str],
    pub(crate) record: &'a [u8],
}

/// Adds a change to the log.
pub(crate) fn log(
    tables: &mut Tables<'_>,
    state: &mut StateRow,
    at: i64,
    change: &NewChange<'_>,
) -> Result<(), StoreError> {
    state.changes += 1;
    let operation = number(change.operation);
    let changed = change.changed.join(",");
    let value = (at, change.account, change.kind as u8, operation, changed.as_str(), change.record);
    tables.changes.insert(state.changes, value)?;
    Ok(())
}

/// Adds to the log that something was erased.
pub(crate) fn log_erased(
    tables: &mut Tables<'_>,
    state: &mut StateRow,
    at: UnixMs,
    account: u32,
    operation: Operation,
    body: &[u8],
) -> Result<(), StoreError> {
    state.changes += 1;
    tables.changes.insert(state.changes, (at.0, account, 0, number(operation), "", body))?;
    Ok(())
}

fn number(operation: Operation) -> u8 {
    match operation {
        Operation::Added => OPERATION_ADDED,
        Operation::Updated => OPERATION_UPDATED,
        Operation::AccountErased => OPERATION_ACCOUNT_ERASED,
        Operation::PersonErased(_) => OPERATION_PERSON_ERASED,
    }
}

/// Looks through up to `rows` changes that follow number `after`, and takes out those of which `erased` says so: a gap
/// in the numbers, over which a reader goes on. Returns how many went, and the number that was reached; `None` at the
/// log's end.
pub(crate) fn erase(
    changes: &mut Changes<'_>,
    state: &mut StateRow,
    after: u64,
    rows: usize,
    mut erased: impl FnMut(&ChangeValueRef<'_>) -> Result<bool, StoreError>,
) -> Result<(u64, Option<u64>), StoreError> {
    let oldest = changes.first()?.map(|(n, _)| n.value());
    let (mut reached, mut seen, mut gone) = (after, 0, Vec::new());
    for entry in changes.range((Bound::Excluded(after), Bound::Unbounded))?.take(rows) {
        let (n, row) = entry?;
        (reached, seen) = (n.value(), seen + 1);
        if erased(&row.value())? {
            gone.push(reached);
        }
    }
    if !gone.is_empty() && state.changes_trimmed.is_none() {
        state.changes_trimmed = oldest.map(|oldest| oldest - 1);
    }
    for n in &gone {
        changes.remove(n)?;
    }
    Ok((gone.len() as u64, (seen == rows).then_some(reached)))
}

/// The change log, open for writing.
type Changes<'txn> = redb::Table<'txn, u64, ChangeValue>;
/// A row of it.
type ChangeValueRef<'a> = (i64, u32, u8, u8, &'a str, &'a [u8]);

/// Drops what the log need not keep: at most `added` rows and a small step more.
pub(crate) fn trim(
    tables: &mut Tables<'_>,
    state: &mut StateRow,
    options: &StoreOptions,
    at: i64,
    added: u64,
) -> Result<(), StoreError> {
    let age_max = i64::try_from(options.changes_age_max.as_millis()).unwrap_or(i64::MAX);
    let oldest_kept_at = at.saturating_sub(age_max);
    for _ in 0..added.saturating_add(TRIM_STEP_ROWS) {
        let Some((n, oldest_at)) = tables.changes.first()?.map(|(n, row)| (n.value(), row.value().0)) else {
            return Ok(());
        };
        let kept = state.changes - n + 1;
        if kept <= options.changes_max && oldest_at >= oldest_kept_at {
            return Ok(());
        }
        tables.changes.remove(n)?;
        state.changes_trimmed = Some(n);
    }
    Ok(())
}
