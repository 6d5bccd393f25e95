//! What a running worker says of itself: JSON in the bucket `workers`, gone five seconds after its last heartbeat.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::account::{AccountId, InstanceId, PlatformName, WorkerId};
use crate::time::UnixMs;

/// How an account fares at its worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountState {
    /// Its window is being read back, or its pages open.
    Starting,
    /// Its pages deliver.
    Capturing,
    /// Its pages are open, but nothing that a rule wants has come for three intervals.
    Silent,
    /// The page shows the login form, and there is no way to log in.
    LoggedOut,
    /// It does not work; see the reason.
    Failing,
    /// The broker has not been heard for longer than a heartbeat lives: it listens, but drives and publishes nothing.
    CutOff,
}

impl AccountState {
    /// The state as the console and the API write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            AccountState::Starting => "starting",
            AccountState::Capturing => "capturing",
            AccountState::Silent => "silent",
            AccountState::LoggedOut => "logged_out",
            AccountState::Failing => "failing",
            AccountState::CutOff => "cut_off",
        }
    }

    /// Whether its data arrives as it should, or is about to.
    #[must_use]
    pub fn is_well(self) -> bool {
        matches!(self, AccountState::Starting | AccountState::Capturing)
    }
}

/// One account as its holder sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountHealth {
    /// The account.
    pub account: AccountId,
    /// How it fares.
    pub state: AccountState,
    /// Since when.
    pub since: UnixMs,
    /// Why, in words, where the state is not well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The holder's term.
    pub epoch: u64,
    /// When a body or frame was last captured.
    #[serde(default)]
    pub captured_at: Option<UnixMs>,
    /// When the broker last acked a publish.
    #[serde(default)]
    pub published_at: Option<UnixMs>,
    /// Publishes acked by the broker since the worker's start.
    pub published: u64,
    /// Bodies and frames captured since the worker's start.
    pub captured: u64,
    /// Rows refused since the worker's start.
    pub refused: u64,
    /// Captured bodies that could not be read or mapped at all, since the worker's start.
    pub capture_errors: u64,
    /// Records that the broker has not acked yet.
    pub pending: u64,
    /// Records in the window.
    pub window: u64,
    /// What is wrong beside the state, such as an outbox that cannot be written or a session that cannot be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// One running worker instance: JSON under the key of its instance. Small, because it is written every
/// [`crate::stream::HEARTBEAT_EVERY_MS`]; what it holds is told apart, in [`HeldAccounts`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// This start of the worker.
    pub instance: InstanceId,
    /// The worker through all its starts.
    pub worker: WorkerId,
    /// The host's name.
    pub host: String,
    /// The process's id on its host.
    pub pid: u32,
    /// The worker's version.
    pub version: String,
    /// When it started.
    pub started_at: UnixMs,
    /// When this was written.
    pub at: UnixMs,
    /// The most accounts that it takes.
    pub max_accounts: u32,
    /// Accounts that ask for labels go only to workers that carry them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The platforms that it knows.
    pub platforms: Vec<PlatformName>,
    /// It stops, and takes no more accounts.
    #[serde(default)]
    pub leaving: bool,
    /// How many accounts it holds.
    pub holding: u32,
    /// Browser pages that its accounts call for, open or not.
    pub pages: u32,
    /// Resident memory of the worker process itself, in bytes; the browser's is not in it.
    pub memory_bytes: u64,
    /// Memory of its browser's processes together, in bytes; 0 where that is not known.
    #[serde(default)]
    pub browser_bytes: u64,
    /// When the broker last acked a publish of one of its accounts.
    #[serde(default)]
    pub published_at: Option<UnixMs>,
    /// Faults of the worker as a whole, such as a permission that the broker denied.
    #[serde(default)]
    pub problems: Vec<String>,
    /// Records on its disk of accounts that others hold now; offered again when it holds them again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_behind: Vec<LeftBehind>,
    /// The accounts it holds. Empty on the wire: filled in from [`HeldAccounts`] by who reads both.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accounts: Vec<AccountHealth>,
}

impl Heartbeat {
    /// Of an instance of which nothing else is known yet: it holds nothing and takes nothing.
    #[must_use]
    pub fn new(instance: InstanceId, worker: WorkerId) -> Self {
        Self {
            instance,
            worker,
            host: String::new(),
            pid: 0,
            version: String::new(),
            started_at: UnixMs(0),
            at: UnixMs(0),
            max_accounts: 0,
            labels: BTreeMap::new(),
            platforms: Vec::new(),
            leaving: false,
            holding: 0,
            pages: 0,
            memory_bytes: 0,
            browser_bytes: 0,
            published_at: None,
            problems: Vec::new(),
            left_behind: Vec::new(),
            accounts: Vec::new(),
        }
    }
}

/// The accounts that an instance holds: JSON under the key `<instance>.accounts`, written when it changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldAccounts {
    /// This start of the worker.
    pub instance: InstanceId,
    /// When this was written.
    pub at: UnixMs,
    /// How each fares.
    pub accounts: Vec<AccountHealth>,
}

/// Records that were seen, not acked, and then the account went to another worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftBehind {
    /// Of which account.
    pub account: AccountId,
    /// How many.
    pub records: u64,
}
