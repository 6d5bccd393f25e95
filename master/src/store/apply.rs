//! A batch into the tables, in one transaction: records, changes, threads, accounts, counters, dead letters
//! and the stream position, all or nothing.

use std::collections::HashMap;

use redb::{Database, ReadableTable};
use snapfleet_protocol::{AccountId, SnapshotKind, Topic};

use super::StoreOptions;
use super::batch::{
    Applied, AppliedDelivery, AppliedSnapshot, Batch, Delivery, DeliveryOutcome, Incoming, KindCounts,
};
use super::changes;
use super::codec::{self, AccountState, StateRow};
use super::error::StoreError;
use super::merge::{self, Origin};
use super::rows::Operation;
use super::tables::Tables;
use super::threads::Touched;

/// Applies a batch durably.
///
/// Durability is redb's `Immediate`, its default. Quick repair saves the allocator's state with each commit, in
/// two phases: after a kill the file opens at once, whatever its size, and a crafted record cannot make a torn
/// commit look whole.
pub(crate) fn apply(
    database: &Database,
    options: &StoreOptions,
    batch: Batch,
) -> Result<Applied, StoreError> {
    let mut txn = database.begin_write()?;
    txn.set_quick_repair(true);
    let applied = {
        let tables = Tables::open(&txn)?;
        let state = match tables.state.get(())? {
            Some(row) => codec::decode("state-1", row.value())?,
            None => StateRow::default(),
        };
        check(&state, &batch)?;
        Work::new(tables, state, &batch).run(batch.deliveries, batch.through, options)?
    };
    txn.commit()?;
    Ok(applied)
}

/// Whether the batch goes on exactly where the store stands.
fn check(state: &StateRow, batch: &Batch) -> Result<(), StoreError> {
    if batch.incarnation == 0 {
        return Err(StoreError::BadBatch("the stream's incarnation is unknown"));
    }
    if batch.incarnation != state.incarnation && batch.after != 0 {
        return Err(StoreError::UnknownIncarnation { incarnation: batch.incarnation, found: batch.after });
    }
    if batch.incarnation == state.incarnation && batch.after != state.position {
        return Err(StoreError::OutOfOrder { expected: state.position, found: batch.after });
    }
    let mut last = batch.after;
    for delivery in &batch.deliveries {
        if delivery.seq <= last {
            return Err(StoreError::BadBatch("its deliveries are not in the order of their sequences"));
        }
        last = delivery.seq;
    }
    if batch.deliveries.is_empty() || last != batch.through {
        return Err(StoreError::BadBatch("it does not end with its last delivery"));
    }
    Ok(())
}

/// Why a delivery goes to the dead letters.
struct Rejection {
    error: String,
    fenced: bool,
}

impl Rejection {
    fn plain(error: String) -> Self {
        Self { error, fenced: false }
    }
}

struct Account {
    number: u32,
    state: AccountState,
}

/// A batch being applied.
struct Work<'txn> {
    tables: Tables<'txn>,
    state: StateRow,
    accounts: HashMap<AccountId, Account>,
    touched: Touched,
    committed_at: i64,
}

impl<'txn> Work<'txn> {
    fn new(tables: Tables<'txn>, mut state: StateRow, batch: &Batch) -> Self {
        state.incarnation = batch.incarnation;
        let committed_at = batch.committed_at.0;
        Self { tables, state, accounts: HashMap::new(), touched: Touched::default(), committed_at }
    }

    fn run(
        mut self,
        deliveries: Vec<Delivery>,
        through: u64,
        options: &StoreOptions,
    ) -> Result<Applied, StoreError> {
        let changes_before = self.state.changes;
        let mut applied = Applied { changes_before, ..Applied::default() };
        for delivery in deliveries {
            let seq = delivery.seq;
            applied.deliveries.push(AppliedDelivery { seq, outcome: self.deliver(delivery)? });
        }
        let changes_after = self.state.changes;
        if changes_after > changes_before {
            self.state.last_update = Some(self.committed_at);
        }
        self.touched.write(&mut self.tables)?;
        let added = changes_after - changes_before;
        changes::trim(&mut self.tables, &self.state, options, self.committed_at, added)?;
        for account in self.accounts.into_values() {
            let row = codec::encode("accounts-1", &account.state)?;
            self.tables.accounts.insert(account.number, row.as_slice())?;
        }
        self.state.position = through;
        self.tables.state.insert((), codec::encode("state-1", &self.state)?.as_slice())?;
        applied.changes_after = changes_after;
        Ok(applied)
    }

    fn deliver(&mut self, mut delivery: Delivery) -> Result<DeliveryOutcome, StoreError> {
        self.state.received += 1;
        self.state.last_received = self.state.last_received.max(Some(delivery.stored_at.0));
        let outcome = std::mem::replace(&mut delivery.outcome, Err(String::new()));
        let admitted = match outcome {
            Ok(incoming) => self.admit(&delivery, &incoming)?.map(|()| incoming),
            Err(error) => Err(Rejection::plain(error)),
        };
        match admitted {
            Ok(incoming) => self.apply_snapshot(&delivery, incoming).map(DeliveryOutcome::Applied),
            Err(rejection) => self.reject(delivery, rejection),
        }
    }

    /// Whether a snapshot may be applied: its own account's subject, and its holder's term not over.
    fn admit(
        &mut self,
        delivery: &Delivery,
        incoming: &Incoming,
    ) -> Result<Result<(), Rejection>, StoreError> {
        match Topic::parse(&delivery.subject) {
            Ok((Topic::Snapshot, account)) if account == incoming.account => {}
            Ok(_) => {
                let account = &incoming.account;
                return Ok(Err(Rejection::plain(format!("snapshot of {account} came on another subject"))));
            }
            Err(error) => return Ok(Err(Rejection::plain(error.to_string()))),
        }
        let Some(account) = self.account(&incoming.account)? else { return Ok(Ok(())) };
        let (epoch, seq) = (account.state.epoch, account.state.seq);
        if incoming.epoch < epoch {
            let error = format!(
                "epoch {} of instance {} is over: the account's epoch is {epoch}",
                incoming.epoch, incoming.instance
            );
            return Ok(Err(Rejection { error, fenced: true }));
        }
        if incoming.epoch == epoch && incoming.seq <= seq {
            let error = format!(
                "out of sequence: snapshot {} of epoch {epoch} came after snapshot {seq}",
                incoming.seq
            );
            return Ok(Err(Rejection::plain(error)));
        }
        Ok(Ok(()))
    }

    fn apply_snapshot(
        &mut self,
        delivery: &Delivery,
        incoming: Incoming,
    ) -> Result<AppliedSnapshot, StoreError> {
        let committed_at = self.committed_at;
        let account = self.account_or_new(&incoming.account)?;
        let origin = Origin { account: account.number, stored_at: delivery.stored_at.0, committed_at };
        let state = &mut account.state;
        state.epoch = incoming.epoch;
        state.seq = incoming.seq;
        state.received += 1;
        state.last_received = state.last_received.max(Some(delivery.stored_at.0));
        if incoming.kind != SnapshotKind::Claim {
            state.last_captured = state.last_captured.max(Some(incoming.captured_at.0));
        }
        let (mut records, mut added) = (KindCounts::default(), KindCounts::default());
        let (mut updated, mut unchanged) = (0, 0);
        for record in incoming.records {
            let kind = record.record.kind();
            records.add(kind, 1);
            match merge::merge(&mut self.tables, &mut self.state, &mut self.touched, &origin, record)? {
                Some(Operation::Added) => added.add(kind, 1),
                Some(Operation::Updated) => updated += 1,
                None => unchanged += 1,
            }
        }
        self.state.applied += 1;
        self.state.unchanged += unchanged;
        sum_into(&mut self.state.records, &added);
        let account = &mut self.account_or_new(&incoming.account)?.state;
        sum_into(&mut account.records, &added);
        if added.sum() + updated > 0 {
            account.last_changed = Some(committed_at);
        }
        let (account, kind, added) = (incoming.account, incoming.kind, added.sum());
        Ok(AppliedSnapshot { account, kind, records, added, updated, unchanged })
    }

    fn reject(&mut self, delivery: Delivery, rejection: Rejection) -> Result<DeliveryOutcome, StoreError> {
        let Rejection { error, fenced } = rejection;
        let counter = if fenced { &mut self.state.fenced } else { &mut self.state.rejected };
        *counter += 1;
        self.state.dead_letters += 1;
        let (subject, headers) = (delivery.subject, delivery.headers);
        let value = (
            self.committed_at,
            self.state.incarnation,
            delivery.seq,
            subject.as_str(),
            headers.as_str(),
            error.as_str(),
            delivery.payload.as_ref(),
        );
        // Counts on where dead letters are taken out again: a number is never given twice.
        self.tables.dead_letters.insert(self.state.rejected + self.state.fenced, value)?;
        Ok(DeliveryOutcome::Rejected { subject, error, fenced })
    }

    /// The account, if it is known. A term of a former incarnation of the stream counts for nothing.
    fn account(&mut self, id: &AccountId) -> Result<Option<&mut Account>, StoreError> {
        if !self.accounts.contains_key(id) {
            let number = self.tables.account_numbers.get(id.to_string().as_str())?.map(|row| row.value());
            let Some(number) = number else { return Ok(None) };
            let row = self.tables.accounts.get(number)?;
            let row =
                row.ok_or_else(|| codec::damaged("accounts-1", &format!("account {id} has a number only")))?;
            let mut state: AccountState = codec::decode("accounts-1", row.value())?;
            if state.incarnation != self.state.incarnation {
                (state.incarnation, state.epoch, state.seq) = (self.state.incarnation, 0, 0);
            }
            self.accounts.insert(id.clone(), Account { number, state });
        }
        Ok(self.accounts.get_mut(id))
    }

    fn account_or_new(&mut self, id: &AccountId) -> Result<&mut Account, StoreError> {
        if self.account(id)?.is_none() {
            self.state.accounts += 1;
            let number = self.state.accounts;
            self.tables.account_numbers.insert(id.to_string().as_str(), number)?;
            let state = AccountState {
                id: id.clone(),
                incarnation: self.state.incarnation,
                epoch: 0,
                seq: 0,
                records: [0; 5],
                received: 0,
                last_received: None,
                last_captured: None,
                last_changed: None,
            };
            self.accounts.insert(id.clone(), Account { number, state });
        }
        Ok(self.accounts.get_mut(id).expect("the account was put there above"))
    }
}

fn sum_into(numbers: &mut [u64], added: &KindCounts) {
    for (number, more) in numbers.iter_mut().zip(added.as_array()) {
        *number += more;
    }
}
