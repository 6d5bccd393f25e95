//! What a running worker says of itself: JSON in the bucket `workers`, gone five seconds after its last one.

use serde::{Deserialize, Serialize};

use crate::account::{AccountId, InstanceId};
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
    /// Another holder has a higher epoch; this one publishes no more.
    Fenced,
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
            AccountState::Fenced => "fenced",
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
}

/// One running worker instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// This start of the worker.
    pub instance: InstanceId,
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
    /// Browser pages that its accounts call for, open or not.
    pub pages: u32,
    /// Resident memory of the worker process itself, in bytes; the browser's is not in it.
    pub memory_bytes: u64,
    /// Faults of the worker as a whole, such as a permission that the broker denied.
    #[serde(default)]
    pub problems: Vec<String>,
    /// The accounts it holds.
    pub accounts: Vec<AccountHealth>,
}
