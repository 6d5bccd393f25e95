//! What the master knows of this moment and does not store: the connection to the broker, the workers that are
//! online, and how reading the stream goes. Whoever learns it writes it here; the API only reads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use snapfleet_protocol::{AccountId, Heartbeat, UnixMs};

use crate::accounts::Directory;
use crate::replica::Replicas;
use crate::supervise::Supervised;

/// The moment, shared. Clones see the same.
#[derive(Debug, Clone, Default)]
pub struct Live {
    now: Arc<Mutex<Moment>>,
}

/// Everything that is known of the moment.
#[derive(Debug, Clone, Default)]
pub struct Moment {
    /// The connection to the broker.
    pub broker: BrokerLink,
    /// The workers that are online.
    pub workers: Workers,
    /// How reading the stream goes.
    pub intake: Intake,
    /// Which accounts there are, and who has leased them. Shared: who reads the buckets writes it.
    pub accounts: Directory,
    /// The workers that this master starts itself, by name.
    pub supervised: BTreeMap<String, Supervised>,
    /// The replicas that follow the stream.
    pub replicas: Replicas,
    /// How far removals and erasures are.
    pub endings: Endings,
}

/// The connection to the broker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BrokerLink {
    /// Whether it stands.
    pub connected: bool,
    /// Since when it stands or is gone.
    pub since: Option<UnixMs>,
    /// Faults that it reported, such as a denied permission, newest last.
    pub faults: Vec<String>,
    /// How many copies a cluster keeps of the streams, where those are too few to survive the death of a node.
    pub copies_few: Option<usize>,
    /// Another master that writes by way of the same broker, and since when it is heard.
    pub other_master: Option<(String, UnixMs)>,
}

/// The workers whose heartbeat lives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Workers {
    /// Their last heartbeats.
    pub heartbeats: Vec<Heartbeat>,
    /// Whether each running worker's heartbeat has had the time to come since the connection began.
    pub settled: bool,
    /// Since when there has been none; `None` while there is one, and while that cannot be told.
    pub none_since: Option<UnixMs>,
    /// Why they cannot be told, where the broker does not say.
    pub problem: Option<String>,
}

/// How reading the stream goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Intake {
    /// The stream's last sequence, as far as it is known.
    pub stream_last: Option<u64>,
    /// Messages of the stream that were not applied when that was read.
    pub lag: u64,
    /// What is wrong with it, and since when.
    pub problems: Vec<(String, UnixMs)>,
}

/// How far removals and erasures are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endings {
    /// What keeps them from being followed, and since when.
    pub problems: Vec<(String, UnixMs)>,
    /// Nothing is taken from the stream before they were followed once.
    pub holds_intake: bool,
    /// Erased accounts of which rows are still being deleted here.
    pub erasing: BTreeSet<AccountId>,
    /// What is erased here and may still be in the broker; empty in a replica, which deletes nothing there.
    pub pending: Vec<PendingPurge>,
    /// Erased accounts of whose erasure the bucket `accounts` knows nothing, and since when that is known.
    pub contradicted: BTreeMap<AccountId, UnixMs>,
}

/// What is erased here and may still be in the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingPurge {
    /// On whose subject.
    pub account: AccountId,
    /// Since when.
    pub since: UnixMs,
    /// What it waits for; `None` where it is being done.
    pub held_by: Option<HeldBack>,
}

/// What keeps an erasure from being done in the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeldBack {
    /// A replica of this name has not read that far.
    Replica(String),
    /// No worker holds the account, so that nobody would publish again what else is in the same messages.
    Unheld,
}

impl std::fmt::Display for HeldBack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            HeldBack::Replica(name) => write!(f, "replica {name} has read it"),
            HeldBack::Unheld => write!(f, "a worker holds the account"),
        }
    }
}

impl Moment {
    /// Whether every running worker is among the heartbeats. Without a connection, shortly after it began, and while
    /// heartbeats cannot be read, who is missing there may run all the same.
    #[must_use]
    pub fn workers_complete(&self) -> bool {
        self.broker.connected && self.workers.settled && self.workers.problem.is_none()
    }

    /// How many workers are online, where that can be told; as soon as one is heard of, those that are count.
    #[must_use]
    pub fn workers_online(&self) -> Option<u64> {
        let heard = self.workers.heartbeats.len() as u64;
        let heard_of = self.broker.connected && self.workers.problem.is_none() && heard > 0;
        (self.workers_complete() || heard_of).then_some(heard)
    }
}

impl Live {
    /// The moment as it is known now.
    #[must_use]
    pub fn moment(&self) -> Moment {
        self.lock().clone()
    }

    /// Looks at the moment without copying it.
    pub fn look<T>(&self, look: impl FnOnce(&Moment) -> T) -> T {
        look(&self.lock())
    }

    /// Notes what was learnt.
    pub fn note(&self, change: impl FnOnce(&mut Moment)) {
        change(&mut self.lock());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Moment> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
