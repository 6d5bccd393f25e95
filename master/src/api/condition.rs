//! How an account fares as a whole, in one word with its reason: from its entry, its lease, and what the workers say.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use snapfleet_protocol::{
    AccountEntry, AccountHealth, AccountId, AccountState, Heartbeat, InstanceId, UnixMs,
};

use super::live::Moment;
use crate::accounts::{Known, why_unassigned};

/// How an account fares as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Held by nobody until it is resumed.
    Paused,
    /// To be captured, but held by no worker that is online.
    Unassigned,
    /// Its worker has taken it and is about to capture it.
    Starting,
    /// Delivering.
    Capturing,
    /// Its pages are open and deliver nothing.
    Silent,
    /// The page shows the login form, and there is no way to log in.
    LoggedOut,
    /// It does not work.
    Failing,
    /// Its worker does not reach the broker.
    CutOff,
    /// Not captured any more; what is stored stays readable.
    Removed,
    /// Removed; what was stored of it is being deleted.
    Erasing,
    /// Removed, with everything that was stored of it.
    Erased,
}

impl Condition {
    /// The word, as console and API write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Condition::Paused => "paused",
            Condition::Unassigned => "unassigned",
            Condition::Starting => AccountState::Starting.as_str(),
            Condition::Capturing => AccountState::Capturing.as_str(),
            Condition::Silent => AccountState::Silent.as_str(),
            Condition::LoggedOut => AccountState::LoggedOut.as_str(),
            Condition::Failing => AccountState::Failing.as_str(),
            Condition::CutOff => AccountState::CutOff.as_str(),
            Condition::Removed => "removed",
            Condition::Erasing => "erasing",
            Condition::Erased => "erased",
        }
    }
}

impl From<AccountState> for Condition {
    fn from(state: AccountState) -> Self {
        match state {
            AccountState::Starting => Condition::Starting,
            AccountState::Capturing => Condition::Capturing,
            AccountState::Silent => Condition::Silent,
            AccountState::LoggedOut => Condition::LoggedOut,
            AccountState::Failing => Condition::Failing,
            AccountState::CutOff => Condition::CutOff,
        }
    }
}

/// How one account fares, and with whom.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fares {
    /// `None` where it cannot be told.
    pub(crate) condition: Option<Condition>,
    pub(crate) reason: Option<String>,
    pub(crate) since: Option<UnixMs>,
    pub(crate) worker: Option<InstanceId>,
    pub(crate) host: Option<String>,
}

/// What the workers of a moment say, by account and by instance.
pub(crate) struct Holders<'a> {
    held: HashMap<&'a AccountId, (&'a Heartbeat, &'a AccountHealth)>,
    living: HashMap<&'a InstanceId, &'a Heartbeat>,
}

impl<'a> Holders<'a> {
    /// Where two say that they hold an account, the one with the lease does, or else with the higher term.
    pub(crate) fn of(moment: &'a Moment, known: &Known) -> Self {
        Self::of_those(moment, known, |_| true)
    }

    /// As [`Holders::of`], of one account alone.
    pub(crate) fn of_one(moment: &'a Moment, known: &Known, id: &AccountId) -> Self {
        Self::of_those(moment, known, |held| held == id)
    }

    fn of_those(moment: &'a Moment, known: &Known, wanted: impl Fn(&AccountId) -> bool) -> Self {
        let mut held: HashMap<&AccountId, (&Heartbeat, &AccountHealth)> = HashMap::new();
        for worker in &moment.workers.heartbeats {
            for health in worker.accounts.iter().filter(|health| wanted(&health.account)) {
                let rank = |worker: &Heartbeat, health: &AccountHealth| {
                    let leased =
                        known.lease(&health.account).is_some_and(|lease| lease.instance == worker.instance);
                    (leased, health.epoch)
                };
                let now = held.get(&health.account).map(|(holder, known)| rank(holder, known));
                if now.is_none_or(|now| rank(worker, health) > now) {
                    held.insert(&health.account, (worker, health));
                }
            }
        }
        let living = moment.workers.heartbeats.iter().map(|worker| (&worker.instance, worker)).collect();
        Self { held, living }
    }

    /// The accounts that somebody holds.
    pub(crate) fn accounts(&self) -> impl Iterator<Item = &'a AccountId> {
        self.held.keys().copied()
    }

    /// How an account fares at its holder.
    pub(crate) fn health(&self, id: &AccountId) -> Option<&'a AccountHealth> {
        self.held.get(id).map(|(_, health)| *health)
    }

    /// Whether an instance's heartbeat lives.
    pub(crate) fn lives(&self, instance: &InstanceId) -> bool {
        self.living.contains_key(instance)
    }

    /// How an account fares as a whole.
    pub(crate) fn fares(&self, id: &AccountId, moment: &Moment, known: &Known) -> Fares {
        let held = self.held.get(id);
        let configured = known.accounts().get(id);
        let holder = held.map(|(worker, _)| *worker).or_else(|| {
            let lease = known.lease(id)?;
            self.living.get(&lease.instance).copied()
        });
        let with = |condition, reason: Option<String>, since| Fares {
            condition,
            reason,
            since,
            worker: holder.map(|worker| worker.instance.clone()),
            host: holder.map(|worker| worker.host.clone()),
        };
        match configured.map(|configured| (&configured.entry, configured.changed_at)) {
            Some((AccountEntry::Removed(ended), _)) => {
                return with(Some(Condition::Removed), None, Some(ended.at));
            }
            Some((AccountEntry::Erased(ended), _)) => {
                let left = moment.endings.erasing.contains(id);
                let condition = if left { Condition::Erasing } else { Condition::Erased };
                return with(Some(condition), None, Some(ended.at));
            }
            Some((AccountEntry::Paused(_), _)) => {
                return with(Some(Condition::Paused), None, known.paused_since(id));
            }
            Some((AccountEntry::Active(_), _)) | None => {}
        }
        if let Some((_, health)) = held {
            return with(Some(health.state.into()), health.reason.clone(), Some(health.since));
        }
        if holder.is_some() {
            let since = known.lease(id).map(|lease| lease.at);
            return with(Some(Condition::Starting), Some("its worker has just taken it".to_owned()), since);
        }
        if !moment.workers_complete() {
            return with(None, None, None);
        }
        let unheld = Some(Condition::Unassigned);
        match configured.and_then(|configured| configured.entry.active()) {
            Some(config) => {
                let why = why_unassigned(&id.platform, config, &moment.workers.heartbeats);
                with(unheld, Some(why), known.unheld_since(id))
            }
            None if known.is_complete() => with(unheld, Some("it is not configured".to_owned()), None),
            None => with(None, None, None),
        }
    }
}
