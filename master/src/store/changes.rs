//! The change log: each change gets the next number; the oldest go when there are too many or they are too old.

use redb::ReadableTable;
use snapfleet_protocol::RecordKind;

use super::StoreOptions;
use super::codec::StateRow;
use super::error::StoreError;
use super::rows::Operation;
use super::tables::{OPERATION_ADDED, OPERATION_UPDATED, Tables};

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
    let operation = match change.operation {
        Operation::Added => OPERATION_ADDED,
        Operation::Updated => OPERATION_UPDATED,
    };
    let changed = change.changed.join(",");
    let value = (at, change.account, change.kind as u8, operation, changed.as_str(), change.record);
    tables.changes.insert(state.changes, value)?;
    Ok(())
}

/// Drops what the log need not keep: at most `added` rows and a small step more.
pub(crate) fn trim(
    tables: &mut Tables<'_>,
    state: &StateRow,
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
    }
    Ok(())
}
