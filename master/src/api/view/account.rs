//! The JSON of accounts: how each fares, and what it is configured with, secrets hidden.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use snapfleet_protocol::{AccountConfig, AccountHealth, AccountId, Erased, InstanceId, UnixMs, WorkerId};

use super::CountsView;
use crate::accounts::{Configured, masked};
use crate::api::condition::{Condition, Fares};
use crate::store::AccountRow;

/// One account: what it is configured as, what the store has of it, and what the worker that holds it says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AccountView {
    /// The account, `<platform>.<account>`.
    pub account: AccountId,
    /// Whether it has an entry among the accounts; one that has none is taken in all the same.
    pub configured: bool,
    /// How it fares as a whole; null where that cannot be told at present.
    pub state: Option<Condition>,
    /// Why, where it is not well.
    pub reason: Option<String>,
    /// Since when it is in that state, as far as this master knows.
    pub since: Option<UnixMs>,
    /// The worker's instance.
    pub worker: Option<InstanceId>,
    /// The worker's host.
    pub host: Option<String>,
    /// What is wrong beside the state, in its worker's words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
    /// The newest term in the store.
    pub epoch: Option<u64>,
    /// Records in the store.
    pub records: CountsView,
    /// Snapshots applied.
    pub received: u64,
    /// When the broker stored the newest of them.
    pub last_received: Option<UnixMs>,
    /// When its worker last captured something, by the worker's clock.
    pub last_captured: Option<UnixMs>,
    /// When a record was last added or changed.
    pub last_changed: Option<UnixMs>,
}

impl AccountView {
    /// Of an account that is configured, in the store, held by an online worker, or several of these.
    pub(crate) fn of(
        id: AccountId,
        configured: bool,
        row: Option<&AccountRow>,
        fares: Fares,
        health: Option<&AccountHealth>,
    ) -> Self {
        let captured = health.and_then(|health| health.captured_at);
        Self {
            account: id,
            configured,
            state: match fares.condition {
                // The store has not even begun.
                Some(Condition::Erased) if row.is_some() => Some(Condition::Erasing),
                condition => condition,
            },
            reason: fares.reason,
            since: fares.since,
            worker: fares.worker,
            host: fares.host,
            problems: health.map(|health| health.problems.clone()).unwrap_or_default(),
            epoch: row.map(|row| row.epoch),
            records: row.map(|row| row.records.into()).unwrap_or_default(),
            received: row.map_or(0, |row| row.received),
            last_received: row.and_then(|row| row.last_received),
            last_captured: captured.max(row.and_then(|row| row.last_captured)),
            last_changed: row.and_then(|row| row.last_changed),
        }
    }
}

/// One account with its settings, its lease, and all that its worker says of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AccountDetailView {
    /// How it fares.
    #[serde(flatten)]
    pub account: AccountView,
    /// The last write of its entry: what a change names as `revision`; null where it is not configured.
    pub revision: Option<u64>,
    /// When that was, by the broker's clock.
    pub changed_at: Option<UnixMs>,
    /// Its settings; null where it is not configured or has ended.
    pub config: Option<ConfigView>,
    /// Who has leased it, alive or not; null where it is free.
    pub lease: Option<LeaseView>,
    /// How it fares at its worker, in full.
    pub health: Option<AccountHealth>,
    /// What speaks against a change that was made all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// An account's settings as they may be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigView {
    /// Time between two publishes of what changed, in seconds.
    pub interval_s: u64,
    /// Labels that its worker must carry.
    pub labels: BTreeMap<String, String>,
    /// What the platform asks for. Hidden values are `***`, sealed ones `sealed:***`; sent back they stay as they are.
    pub settings: BTreeMap<String, String>,
    /// The account was erased once, and added again: when, and up to where nothing of it is taken in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erased: Option<Erased>,
}

impl ConfigView {
    pub(crate) fn of(config: &AccountConfig) -> Self {
        Self {
            interval_s: config.interval_s,
            labels: config.labels.clone(),
            settings: masked(&config.settings),
            erased: config.erased,
        }
    }
}

/// Who has leased an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseView {
    /// The holder.
    pub instance: InstanceId,
    /// The worker whose start that is.
    pub worker: WorkerId,
    /// When it was taken, by the holder's clock.
    pub at: UnixMs,
    /// Whether the holder's heartbeat lives; if not, the account is free.
    pub alive: bool,
}

impl AccountDetailView {
    pub(crate) fn of(
        account: AccountView,
        configured: Option<&Configured>,
        lease: Option<LeaseView>,
        health: Option<&AccountHealth>,
    ) -> Self {
        Self {
            account,
            revision: configured.map(|configured| configured.revision),
            changed_at: configured.and_then(|configured| configured.changed_at),
            config: configured.and_then(|configured| configured.entry.config()).map(ConfigView::of),
            lease,
            health: health.cloned(),
            warnings: Vec::new(),
        }
    }
}

/// What became of an account's end or a person's erasure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndView {
    /// The account.
    pub account: AccountId,
    /// Whether all of it is done, in the store and, where something is erased, in the broker; if not, the text says what
    /// is still done by itself, or waits.
    pub done: bool,
    /// What was done or is still to come, in words.
    pub text: String,
}

/// What a sync brought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncedView {
    /// The account.
    pub account: AccountId,
    /// Who captured it.
    pub instance: InstanceId,
    /// Records that were published for it; 0 where the pages showed nothing new.
    pub records: u64,
    /// The stream sequence of the account's last message.
    pub stream_seq: u64,
    /// Bodies and frames that were captured for it.
    pub captured: u64,
}
