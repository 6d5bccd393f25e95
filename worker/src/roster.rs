//! How each account of this worker fares: written where it happens, read by the heartbeat.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use snapfleet_protocol::{AccountHealth, AccountId, AccountState, UnixMs};

/// This host's clock. The only place where the worker reads it.
#[must_use]
pub fn now() -> UnixMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMs(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The accounts' health. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Roster {
    accounts: Arc<Mutex<BTreeMap<AccountId, AccountHealth>>>,
}

impl Roster {
    /// Begins with an account, in the state [`AccountState::Starting`].
    pub fn add(&self, account: &AccountId) {
        let health = AccountHealth {
            account: account.clone(),
            state: AccountState::Starting,
            since: now(),
            reason: None,
            epoch: 0,
            captured_at: None,
            published_at: None,
            published: 0,
            captured: 0,
            refused: 0,
            capture_errors: 0,
            pending: 0,
            window: 0,
            problems: Vec::new(),
        };
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner).insert(account.clone(), health);
    }

    /// Changes what is known of an account.
    pub fn update(&self, account: &AccountId, change: impl FnOnce(&mut AccountHealth)) {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(health) = accounts.get_mut(account) {
            change(health);
        }
    }

    /// Puts an account into a state. A change to one that is not well is logged at warn, with its reason.
    pub fn set_state(&self, account: &AccountId, state: AccountState, reason: Option<String>) {
        self.update(account, |health| {
            if health.state != state {
                health.since = now();
                let (from, to) = (health.state.as_str(), state.as_str());
                if state.is_well() {
                    tracing::info!(account.id = %account, from, to, "account changes state");
                } else {
                    let reason = reason.as_deref().unwrap_or("unknown");
                    tracing::warn!(account.id = %account, from, to, reason, "account changes state");
                }
            }
            health.state = state;
            health.reason = reason;
        });
    }

    /// Notes what is wrong with a part of an account beside its state, or that nothing is any more; whether that is news.
    pub fn note_problem(&self, account: &AccountId, part: &str, problem: Option<String>) -> bool {
        let mut changed = false;
        self.update(account, |health| {
            let begin = format!("{part}: ");
            let known = health.problems.iter().position(|text| text.starts_with(&begin));
            let text = problem.map(|problem| format!("{begin}{problem}"));
            changed = known.is_some() != text.is_some();
            health.problems.retain(|text| !text.starts_with(&begin));
            health.problems.extend(text);
        });
        changed
    }

    /// The state an account is in.
    #[must_use]
    pub fn state(&self, account: &AccountId) -> Option<AccountState> {
        let accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        accounts.get(account).map(|health| health.state)
    }

    /// Ends with an account.
    pub fn remove(&self, account: &AccountId) {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner).remove(account);
    }

    /// How many accounts there are, and when the broker last acked a publish of one.
    #[must_use]
    pub fn summary(&self) -> (u32, Option<UnixMs>) {
        let accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let published_at = accounts.values().filter_map(|health| health.published_at).max();
        (u32::try_from(accounts.len()).unwrap_or(u32::MAX), published_at)
    }

    /// Every account's health, by account.
    #[must_use]
    pub fn all(&self) -> Vec<AccountHealth> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}
