//! A batch into the tables, in one transaction: records, changes, threads, accounts, counters, dead letters
//! and the stream position, all or nothing.

use std::collections::HashMap;

use bytes::Bytes;
use redb::{Database, ReadableTable};
use snapfleet_protocol::{AccountId, SnapshotKind, Topic, UnixMs};

use super::StoreOptions;
use super::batch::{
    Applied, AppliedDelivery, AppliedSnapshot, Batch, Delivery, DeliveryOutcome, Incoming, KindCounts,
};
use super::changes;
use super::codec::{self, AccountState, StateRow};
use super::error::StoreError;
use super::merge::{self, Merged, Origin};
use super::persons::Persons;
use super::rows::Position;
use super::standing::{self, Standing};
use super::tables::Tables;
use super::threads::Touched;

/// Applies a batch durably. Beside what came of it: the accounts of which rows are to be deleted now.
///
/// Durability is redb's `Immediate`, its default. Quick repair saves the allocator's state with each commit, in
/// two phases: after a kill the file opens at once, whatever its size, and a crafted record cannot make a torn
/// commit look whole.
pub(crate) fn apply(
    database: &Database,
    options: &StoreOptions,
    batch: Batch,
) -> Result<(Applied, Vec<AccountId>), StoreError> {
    let mut done = (Applied::default(), Vec::new());
    standing::in_transaction(database, |tables, state| {
        check(state, &batch)?;
        done = Work::new(tables, state, &batch).run(batch.deliveries, batch.through, options)?;
        Ok(true)
    })?;
    Ok(done)
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
    persons: Persons,
}

/// A batch being applied.
struct Work<'a, 'txn> {
    tables: &'a mut Tables<'txn>,
    state: &'a mut StateRow,
    accounts: HashMap<AccountId, Account>,
    touched: Touched,
    committed_at: i64,
}

impl<'a, 'txn> Work<'a, 'txn> {
    fn new(tables: &'a mut Tables<'txn>, state: &'a mut StateRow, batch: &Batch) -> Self {
        state.incarnation = batch.incarnation;
        let committed_at = batch.committed_at.0;
        Self { tables, state, accounts: HashMap::new(), touched: Touched::default(), committed_at }
    }

    fn run(
        mut self,
        deliveries: Vec<Delivery>,
        through: u64,
        options: &StoreOptions,
    ) -> Result<(Applied, Vec<AccountId>), StoreError> {
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
        self.touched.write(self.tables)?;
        let added = changes_after - changes_before;
        changes::trim(self.tables, self.state, options, self.committed_at, added)?;
        let mut pending = Vec::new();
        for (id, account) in self.accounts {
            let row = codec::encode("accounts-1", &account.state)?;
            self.tables.accounts.insert(account.number, row.as_slice())?;
            if account.persons.pending {
                pending.push(id);
            }
        }
        self.state.position = through;
        applied.changes_after = changes_after;
        Ok((applied, pending))
    }

    fn deliver(&mut self, mut delivery: Delivery) -> Result<DeliveryOutcome, StoreError> {
        self.state.received += 1;
        self.state.last_received = self.state.last_received.max(Some(delivery.stored_at.0));
        if let Some((account, reason)) = self.discards(&delivery)? {
            self.state.discarded += 1;
            return Ok(DeliveryOutcome::Discarded { account, reason });
        }
        let outcome = std::mem::replace(&mut delivery.outcome, Err(String::new()));
        let incoming = match outcome {
            Ok(incoming) => incoming,
            Err(error) => return self.reject(delivery, Rejection::plain(error)),
        };
        let Err(mut rejection) = self.admit(&delivery, &incoming)? else {
            return self.apply_snapshot(&delivery, incoming).map(DeliveryOutcome::Applied);
        };
        let persons = Persons::of(self.tables, &incoming.account)?;
        if incoming.records.iter().any(|incoming| persons.covering(&incoming.record).is_some()) {
            rejection.error.push_str("; its bytes are not kept, since they hold records of an erased person");
            delivery.payload = Bytes::new();
        }
        self.reject(delivery, rejection)
    }

    /// Whether nothing of a delivery may be kept, and why: what it is of was erased, although it may have been added
    /// again since.
    fn discards(&mut self, delivery: &Delivery) -> Result<Option<(AccountId, String)>, StoreError> {
        let here = self.position_of(delivery);
        let on = Topic::parse(&delivery.subject).ok().map(|(_, account)| account);
        let of = delivery.outcome.as_ref().ok().map(|incoming| &incoming.account);
        let of = of.filter(|of| Some(*of) != on.as_ref());
        for account in on.iter().chain(of) {
            let name = account.to_string();
            if !Standing::read(&self.tables.standings, &name)?.is_erased_at(here) {
                continue;
            }
            if on.as_ref() == Some(account) {
                let at = UnixMs(self.committed_at);
                standing::note_purge(self.tables, self.state, &name, delivery.seq, at)?;
            }
            return Ok(Some((account.clone(), format!("account {account} was erased"))));
        }
        Ok(None)
    }

    fn position_of(&self, delivery: &Delivery) -> Position {
        Position { incarnation: self.state.incarnation, seq: delivery.seq }
    }

    /// Why an account's snapshot is not taken in any more, if so. What the stream held at the end is: a store that is
    /// behind, or rebuilt, ends with the same rows.
    fn ended(&self, account: &AccountId, delivery: &Delivery) -> Result<Option<String>, StoreError> {
        let standing = Standing::read(&self.tables.standings, &account.to_string())?;
        let Standing::Removed { upto, .. } = standing else { return Ok(None) };
        let late = upto.is_none_or(|upto| !upto.covers(self.position_of(delivery)));
        Ok(late.then(|| format!("account {account} was removed: add it again if it is to be captured")))
    }

    /// Whether a snapshot may be applied: its own account's subject, and its holder's term not over.
    fn admit(
        &mut self,
        delivery: &Delivery,
        incoming: &Incoming,
    ) -> Result<Result<(), Rejection>, StoreError> {
        match Topic::parse(&delivery.subject) {
            Ok((Topic::Snapshot, account)) if account == incoming.account => {
                if let Some(error) = self.ended(&account, delivery)? {
                    return Ok(Err(Rejection::plain(error)));
                }
            }
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
        let (mut updated, mut unchanged, mut erased) = (0, 0, 0);
        let account = self.accounts.get_mut(&incoming.account).expect("the account was put there above");
        for record in incoming.records {
            let kind = record.record.kind();
            records.add(kind, 1);
            let persons = &mut account.persons;
            match merge::merge(self.tables, self.state, &mut self.touched, &origin, persons, record)? {
                Merged::Added => added.add(kind, 1),
                Merged::Updated => updated += 1,
                Merged::Unchanged => unchanged += 1,
                Merged::Erased => erased += 1,
            }
        }
        let gone = std::mem::take(&mut account.persons.gone);
        sum_into(&mut account.state.records, &added);
        take_from(&mut account.state.records, &gone);
        if added.sum() + updated > 0 {
            account.state.last_changed = Some(committed_at);
        }
        if erased > 0 {
            let name = incoming.account.to_string();
            standing::note_purge(self.tables, self.state, &name, delivery.seq, UnixMs(committed_at))?;
        }
        self.state.applied += 1;
        self.state.unchanged += unchanged;
        sum_into(&mut self.state.records, &added);
        take_from(&mut self.state.records, &gone);
        let (account, kind, added) = (incoming.account, incoming.kind, added.sum());
        Ok(AppliedSnapshot { account, kind, records, added, updated, unchanged, erased })
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
            let persons = Persons::of(self.tables, id)?;
            self.accounts.insert(id.clone(), Account { number, state, persons });
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
            let persons = Persons::of(self.tables, id)?;
            self.accounts.insert(id.clone(), Account { number, state, persons });
        }
        Ok(self.accounts.get_mut(id).expect("the account was put there above"))
    }
}

pub(crate) fn take_from(numbers: &mut [u64], gone: &KindCounts) {
    for (number, less) in numbers.iter_mut().zip(gone.as_array()) {
        *number = number.saturating_sub(less);
    }
}

fn sum_into(numbers: &mut [u64], added: &KindCounts) {
    for (number, more) in numbers.iter_mut().zip(added.as_array()) {
        *number += more;
    }
}
