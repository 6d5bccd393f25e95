//! What the broker's buckets say at this moment: the accounts to be held, the workers that live, who holds what.
//!
//! Read by asking, not by watching: a key that expires is announced to nobody, and workers may create no consumers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use snapfleet_broker::{
    Broker, DirectGetError, PublishError, Stored, Tail, last_at_leader, last_per_subject,
};
use snapfleet_protocol::stream::{
    ACCOUNTS_PREFIX, ACCOUNTS_STREAM, ERASURES_PREFIX, ERASURES_STREAM, LEASES_PREFIX, LEASES_STREAM,
    WORKERS_PREFIX, WORKERS_STREAM,
};
use snapfleet_protocol::{AccountEntry, AccountId, Erasure, Erasures, Heartbeat, InstanceId, Lease};
use tokio::time::Instant;

/// How often it is asked whether the buckets are still the same ones.
const SAME_EVERY: Duration = Duration::from_secs(5);

/// Heartbeats that make no sense and are told of, at most.
const TOLD_MAX: usize = 1_000;

/// Why the buckets could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ViewError {
    #[error("the fleet's buckets cannot be read: {0}")]
    Read(#[from] DirectGetError),
    #[error("the fleet's buckets cannot be looked at: {0}")]
    Ask(#[from] PublishError),
}

/// A lease as the bucket has it: under which sequence, and whose; `None` once it was given back.
#[derive(Debug, Clone)]
pub(crate) struct LeaseRow {
    pub(crate) seq: u64,
    pub(crate) lease: Option<Lease>,
}

/// The buckets as they were last read.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) accounts: BTreeMap<AccountId, AccountEntry>,
    pub(crate) leases: BTreeMap<AccountId, LeaseRow>,
    pub(crate) workers: BTreeMap<InstanceId, Heartbeat>,
    erasures: BTreeMap<AccountId, Arc<Erasures>>,
    accounts_tail: Tail,
    leases_tail: Tail,
    erasures_tail: Tail,
    same_at: Option<Instant>,
    /// Something changed by which accounts are assigned, and was not told yet: a read that fails later keeps it.
    changed: bool,
    /// When the bucket of leases was found to be another one.
    pub(crate) leases_anew_at: Option<Instant>,
    /// What is erased has changed since this was last taken.
    pub(crate) erased: bool,
    /// Heartbeats that make no sense, by subject, so that each is told once.
    told: BTreeSet<String>,
}

impl View {
    pub(crate) fn new() -> Self {
        let tail = |stream, prefix: &str| Tail::new(stream, format!("{prefix}>"));
        Self {
            accounts: BTreeMap::new(),
            leases: BTreeMap::new(),
            workers: BTreeMap::new(),
            erasures: BTreeMap::new(),
            accounts_tail: tail(ACCOUNTS_STREAM, ACCOUNTS_PREFIX),
            leases_tail: tail(LEASES_STREAM, LEASES_PREFIX),
            erasures_tail: tail(ERASURES_STREAM, ERASURES_PREFIX),
            same_at: None,
            changed: false,
            leases_anew_at: None,
            erased: true,
            told: BTreeSet::new(),
        }
    }

    /// Reads on. Returns whether anything changed by which accounts are assigned.
    ///
    /// # Errors
    /// [`ViewError`]; what was read before stays.
    pub(crate) async fn refresh(&mut self, broker: &Broker) -> Result<bool, ViewError> {
        if self.same_at.is_none_or(|at| at.elapsed() >= SAME_EVERY) {
            if !self.accounts_tail.is_same(broker).await? {
                tracing::warn!("the bucket of accounts was made anew");
                self.accounts.clear();
                self.changed = true;
            }
            if !self.leases_tail.is_same(broker).await? {
                tracing::warn!("the bucket of leases was made anew: what is held is acquired again");
                self.leases.clear();
                self.leases_anew_at = Some(Instant::now());
                self.changed = true;
            }
            // What was erased stays so, whatever becomes of the bucket: it is only added to.
            self.erasures_tail.is_same(broker).await?;
            self.same_at = Some(Instant::now());
        }
        self.read_workers(broker).await?;
        for stored in self.accounts_tail.read(broker).await? {
            self.changed |= self.note_account(&stored);
        }
        for stored in self.leases_tail.read(broker).await? {
            self.changed |= self.note_lease(&stored);
        }
        for stored in self.erasures_tail.read(broker).await? {
            self.note_erasure(&stored);
        }
        Ok(std::mem::take(&mut self.changed))
    }

    async fn read_workers(&mut self, broker: &Broker) -> Result<(), ViewError> {
        let filter = format!("{WORKERS_PREFIX}*");
        let stored = last_per_subject(broker, WORKERS_STREAM, &filter).await?;
        let mut workers = BTreeMap::new();
        for message in stored.iter().filter(|message| !message.is_gone()) {
            match serde_json::from_slice::<Heartbeat>(&message.payload) {
                Ok(heartbeat) if message.key(WORKERS_PREFIX) == Some(heartbeat.instance.as_str()) => {
                    workers.insert(heartbeat.instance.clone(), heartbeat);
                }
                Ok(_) => {
                    if self.told.len() < TOLD_MAX && self.told.insert(message.subject.clone()) {
                        tracing::warn!(subject = %message.subject, "a heartbeat stands under another worker's key; it does not count");
                    }
                }
                // One of another version still holds what it holds; its leases name it.
                Err(error) => {
                    tracing::debug!(subject = %message.subject, %error, "a heartbeat cannot be read");
                    let instance = message.key(WORKERS_PREFIX).and_then(|key| InstanceId::parse(key).ok());
                    let worker = snapfleet_protocol::WorkerId::parse("unreadable").ok();
                    if let (Some(instance), Some(worker)) = (instance, worker) {
                        let blind = Heartbeat { leaving: true, ..Heartbeat::new(instance.clone(), worker) };
                        workers.insert(instance, blind);
                    }
                }
            }
        }
        let matters = |worker: &Heartbeat| {
            (worker.max_accounts, worker.leaving, worker.labels.clone(), worker.platforms.clone())
        };
        let same = workers.len() == self.workers.len()
            && workers
                .iter()
                .zip(&self.workers)
                .all(|((a, one), (b, other))| a == b && matters(one) == matters(other));
        self.workers = workers;
        self.changed |= !same;
        Ok(())
    }

    fn note_account(&mut self, stored: &Stored) -> bool {
        let Some(account) = key(stored, ACCOUNTS_PREFIX) else { return false };
        if stored.is_gone() {
            return self.accounts.remove(&account).is_some();
        }
        match serde_json::from_slice(&stored.payload) {
            Ok(entry) => {
                self.erased |= matches!(entry, AccountEntry::Erased(_));
                self.accounts.insert(account, entry);
                true
            }
            Err(error) => {
                tracing::warn!(account.id = %account, %error, "an account's configuration cannot be read; it stays as it was");
                false
            }
        }
    }

    fn note_lease(&mut self, stored: &Stored) -> bool {
        let Some(account) = key(stored, LEASES_PREFIX) else { return false };
        let lease = if stored.is_gone() {
            None
        } else {
            match serde_json::from_slice(&stored.payload) {
                Ok(lease) => Some(lease),
                Err(error) => {
                    tracing::warn!(account.id = %account, %error, "a lease cannot be read; it counts as free");
                    None
                }
            }
        };
        let known = self.lease_seq(&account);
        if stored.seq >= known {
            self.leases.insert(account, LeaseRow { seq: stored.seq, lease });
        }
        stored.seq > known
    }

    fn note_erasure(&mut self, stored: &Stored) {
        let parsed = stored.key(ERASURES_PREFIX).and_then(Erasure::parse_key);
        let Some((account, _)) = parsed else {
            tracing::warn!(subject = %stored.subject, "an erasure's key cannot be read");
            return;
        };
        match serde_json::from_slice::<Erasure>(&stored.payload) {
            Ok(erasure) => {
                let mut all = Erasures::clone(&self.erasures(&account));
                self.erased |= all.insert(erasure);
                self.erasures.insert(account, Arc::new(all));
            }
            Err(error) => tracing::warn!(subject = %stored.subject, %error, "an erasure cannot be read"),
        }
    }

    /// Persons whose records of the account are not taken in.
    pub(crate) fn erasures(&self, account: &AccountId) -> Arc<Erasures> {
        let known = self.erasures.get(account).cloned();
        known.unwrap_or_else(|| Arc::new(Erasures::new(account.clone())))
    }

    /// The last sequence of an account's lease; 0 where there never was one.
    pub(crate) fn lease_seq(&self, account: &AccountId) -> u64 {
        self.leases.get(account).map_or(0, |row| row.seq)
    }

    /// The lease of an account, unless it was given back.
    pub(crate) fn lease(&self, account: &AccountId) -> Option<&Lease> {
        self.leases.get(account).and_then(|row| row.lease.as_ref())
    }

    /// Notes a lease that this worker itself has just written, so that it is not asked for.
    pub(crate) fn note_own_lease(&mut self, account: &AccountId, seq: u64, lease: Option<Lease>) {
        self.leases.insert(account.clone(), LeaseRow { seq, lease });
    }
}

fn key(stored: &Stored, prefix: &str) -> Option<AccountId> {
    let key = stored.key(prefix).unwrap_or(&stored.subject);
    match AccountId::parse(key) {
        Ok(account) => Some(account),
        Err(error) => {
            tracing::warn!(subject = %stored.subject, %error, "a key of a bucket is not an account");
            None
        }
    }
}

/// Whether an instance has no heartbeat, by the word of the stream's leader: a copy elsewhere may lag behind.
///
/// # Errors
/// [`PublishError`] where the leader does not answer.
pub(crate) async fn is_gone(broker: &Broker, instance: &InstanceId) -> Result<bool, PublishError> {
    let last = last_at_leader(broker, WORKERS_STREAM, &format!("{WORKERS_PREFIX}{instance}")).await?;
    Ok(last.is_none_or(|stored| stored.is_gone()))
}
