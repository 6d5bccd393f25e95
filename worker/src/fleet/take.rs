//! Taking leases and giving them back: which may be taken at this moment, and the writes, each on the condition that
//! nobody else has written since.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use snapfleet_broker::{Broker, PublishError, delete_key, put_key};
use snapfleet_protocol::stream::{HEARTBEAT_TTL_S, LEASES_PREFIX};
use snapfleet_protocol::{AccountEntry, AccountId, InstanceId, Lease};
use tokio::time::Instant;

use super::tenure::Tenure;
use super::{Fleet, Identity, view};
use crate::roster::now;

/// A worker that has just started takes nothing for so long that all that start with it are seen.
const SETTLE: Duration = Duration::from_millis(3_000);
/// After the gate opened, leases of others that are gone are left to them for a heartbeat's life: they may only have
/// been cut off as this worker was.
const FORMER_HOLDER_FIRST: Duration = Duration::from_secs(HEARTBEAT_TTL_S);
/// Accounts taken between two looks, at most.
pub(super) const TAKEN_PER_LOOK: usize = 64;
/// Writes to the bucket of leases at once, at most.
const WRITES_AT_ONCE: usize = 32;

impl Fleet {
    /// Gives back what this worker has the lease of but does not hold, where the plan has another place for it: its
    /// settings changed so that it may not be here, or a write was stored of which the ack was lost.
    pub(super) async fn return_strays(&mut self) {
        let (Some(plan), me) = (&self.plan, &self.task.identity.instance) else { return };
        let strays = self.view.leases.iter().filter(|(account, row)| {
            row.lease.as_ref().is_some_and(|lease| lease.instance == *me)
                && !self.tenures.contains_key(*account)
                && plan.holder(account) != Some(me)
        });
        let strays = strays.map(|(account, row)| (account.clone(), row.seq)).take(TAKEN_PER_LOOK).collect();
        self.give_back(strays).await;
    }

    /// Takes what the plan gives to this worker and nobody holds.
    pub(super) async fn take(&mut self, term: u64) {
        let Some(plan) = &self.plan else { return };
        let now = Instant::now();
        self.resting.retain(|_, until| *until > now);
        let (mut free, mut gone) = (Vec::new(), BTreeSet::new());
        for account in plan.accounts_of(&self.task.identity.instance) {
            if free.len() == TAKEN_PER_LOOK {
                break;
            }
            if self.tenures.contains_key(account) || self.resting.contains_key(account) {
                continue;
            }
            if self.may_take(account, &mut gone) {
                free.push((account.clone(), self.view.lease_seq(account)));
            }
        }
        let gone = self.confirm_gone(gone).await;
        free.retain(|(account, _)| {
            let holder = self.view.lease(account).map(|lease| &lease.instance);
            holder.is_none_or(|holder| gone.contains(holder) || self.is_mine(holder, account))
        });
        for (account, acquired) in self.acquire(free).await {
            match acquired {
                Ok((seq, lease)) => {
                    self.view.note_own_lease(&account, seq, Some(lease));
                    self.begin(&account, seq, term);
                }
                Err(PublishError::Conflict(_)) => {
                    tracing::debug!(account.id = %account, "another worker was first to take the account");
                }
                Err(error) => tracing::warn!(account.id = %account, %error, "a lease cannot be taken yet"),
            }
        }
    }

    pub(super) fn is_mine(&self, holder: &InstanceId, account: &AccountId) -> bool {
        let identity = &self.task.identity;
        *holder == identity.instance
            || identity.is_former(holder)
            || self.view.lease(account).is_some_and(|lease| self.is_ours_by_id(lease))
    }

    /// Whether the account may be taken now; adds the holder whose end is to be confirmed first.
    fn may_take(&self, account: &AccountId, gone: &mut BTreeSet<InstanceId>) -> bool {
        let Some(lease) = self.view.lease(account) else {
            // In a bucket that was made anew, those who hold accounts come first.
            let holders_first =
                self.view.leases_anew_at.is_some_and(|at| at.elapsed() < FORMER_HOLDER_FIRST + SETTLE);
            return self.started.elapsed() >= SETTLE && !holders_first;
        };
        if self.is_mine(&lease.instance, account) {
            return true;
        }
        if self.view.workers.contains_key(&lease.instance) || self.term.1.elapsed() < FORMER_HOLDER_FIRST {
            return false;
        }
        gone.insert(lease.instance.clone());
        true
    }

    /// Those of the instances that have no heartbeat by the word of the stream's leader.
    async fn confirm_gone(&self, instances: BTreeSet<InstanceId>) -> BTreeSet<InstanceId> {
        let broker = &self.task.crew.broker;
        let asked = stream::iter(instances).map(async |instance| {
            let gone = view::is_gone(broker, &instance).await;
            (instance, gone)
        });
        let answers: Vec<_> = asked.buffer_unordered(WRITES_AT_ONCE).collect().await;
        let mut gone = BTreeSet::new();
        for (instance, answer) in answers {
            match answer {
                Ok(true) => drop(gone.insert(instance)),
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(worker.instance = %instance, %error, "whether a worker is gone cannot be told yet");
                }
            }
        }
        gone
    }

    pub(super) async fn acquire(
        &self,
        accounts: Vec<(AccountId, u64)>,
    ) -> Vec<(AccountId, Result<(u64, Lease), PublishError>)> {
        let (broker, identity) = (&self.task.crew.broker, &self.task.identity);
        stream::iter(accounts)
            .map(async |(account, expected)| {
                let acquired = take_lease(broker, &account, identity, expected).await;
                (account, acquired)
            })
            .buffer_unordered(WRITES_AT_ONCE)
            .collect()
            .await
    }

    fn begin(&mut self, account: &AccountId, seq: u64, term: u64) {
        let Some(config) = self.view.accounts.get(account).and_then(AccountEntry::active) else { return };
        tracing::info!(account.id = %account, lease.seq = seq, "account taken");
        let erasures = self.view.erasures(account);
        let tenure = Tenure::begin(&self.task.crew, account, config, (seq, term), erasures);
        self.tenures.insert(account.clone(), tenure);
        self.outboxes_due = true;
    }

    pub(super) async fn give_back(&mut self, leases: Vec<(AccountId, u64)>) {
        let broker = &self.task.crew.broker;
        let given: Vec<_> = stream::iter(leases)
            .map(async |(account, seq)| {
                let given = give_lease_back(broker, &account, seq).await;
                (account, given)
            })
            .buffer_unordered(WRITES_AT_ONCE)
            .collect()
            .await;
        for (account, given) in given {
            match given {
                Ok(seq) => {
                    tracing::info!(account.id = %account, "account given back");
                    self.view.note_own_lease(&account, seq, None);
                    self.plan = None;
                }
                Err(PublishError::Conflict(_)) => {}
                Err(error) => {
                    tracing::warn!(account.id = %account, %error, "a lease is not given back: it is free once this worker is gone");
                }
            }
        }
    }
}

/// Takes the account's lease, whose last sequence is `expected`; returns the new one.
///
/// # Errors
/// [`PublishError::Conflict`] where somebody else was first. After [`PublishError::Unanswered`] it may be taken all
/// the same: the next look at the bucket tells.
async fn take_lease(
    broker: &Broker,
    account: &AccountId,
    identity: &Identity,
    expected: u64,
) -> Result<(u64, Lease), PublishError> {
    let lease = Lease { instance: identity.instance.clone(), worker: identity.worker.clone(), at: now() };
    let value = serde_json::to_vec(&lease).map_err(|error| PublishError::Failed(error.to_string()))?;
    let ack =
        put_key(broker, format!("{LEASES_PREFIX}{account}"), Bytes::from(value), Some(expected)).await?;
    Ok((ack.seq, lease))
}

/// Gives the lease back, which was taken under `seq`.
///
/// # Errors
/// [`PublishError`]; a lease that stays is free once this instance's heartbeat has expired.
async fn give_lease_back(broker: &Broker, account: &AccountId, seq: u64) -> Result<u64, PublishError> {
    delete_key(broker, format!("{LEASES_PREFIX}{account}"), Some(seq)).await.map(|ack| ack.seq)
}
