//! What the buckets `accounts` and `leases` hold, as this master last read it: shared, so that lists and status are
//! answered from memory. Who reads the buckets writes it; the API only reads.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use snapfleet_protocol::stream::ACCOUNTS_HISTORY;
use snapfleet_protocol::{AccountEntry, AccountId, Lease, UnixMs};

/// An account's entry, and which write of it that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configured {
    /// The bucket's sequence of the write: what a change must name as the one that it replaces.
    pub revision: u64,
    /// When it was written, by the broker's clock.
    pub changed_at: Option<UnixMs>,
    /// What it says.
    pub entry: AccountEntry,
}

/// Since when an account is paused: the write that made it so, not the last one.
#[derive(Debug, Clone, Copy)]
struct Paused {
    /// `None` where the bucket does not hold that write any more.
    since: Option<UnixMs>,
    /// Whether the state before it was seen. If not, earlier writes may have said the same.
    turned: bool,
    writes: i64,
}

/// Both buckets as they were last read.
#[derive(Debug, Default)]
pub struct Known {
    accounts: BTreeMap<AccountId, Configured>,
    leases: HashMap<AccountId, Lease>,
    unheld_since: HashMap<AccountId, UnixMs>,
    paused: HashMap<AccountId, Paused>,
    complete: bool,
    unreadable: BTreeMap<String, String>,
    problem: Option<(String, UnixMs)>,
}

impl Known {
    /// Every account that has an entry, those that have ended included, by name.
    #[must_use]
    pub fn accounts(&self) -> &BTreeMap<AccountId, Configured> {
        &self.accounts
    }

    /// The account's lease, whether its holder lives or not.
    #[must_use]
    pub fn lease(&self, id: &AccountId) -> Option<&Lease> {
        self.leases.get(id)
    }

    /// Since when this master has seen the account without a holder; `None` while it has one.
    #[must_use]
    pub fn unheld_since(&self, id: &AccountId) -> Option<UnixMs> {
        self.unheld_since.get(id).copied()
    }

    /// Since when the account is paused; `None` where it is not, and where that cannot be told any more.
    #[must_use]
    pub fn paused_since(&self, id: &AccountId) -> Option<UnixMs> {
        self.paused.get(id).and_then(|paused| paused.since)
    }

    fn note_paused(&mut self, id: &AccountId, configured: &Configured, rolled_up: bool) {
        if !matches!(configured.entry, AccountEntry::Paused(_)) {
            self.paused.remove(id);
            return;
        }
        let first =
            Paused { since: configured.changed_at, turned: self.accounts.contains_key(id), writes: 0 };
        let paused = self.paused.entry(id.clone()).or_insert(first);
        paused.writes += 1;
        // The bucket forgets older writes: where all that it still had say the same, an older one may have as well.
        let cut_off = rolled_up || paused.writes >= ACCOUNTS_HISTORY;
        if !self.complete && !paused.turned && cut_off {
            paused.since = None;
        }
    }

    /// Whether the bucket `accounts` was read to its end once: only then does a missing entry mean anything.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Entries that cannot be read, by key, each with why.
    #[must_use]
    pub fn unreadable(&self) -> &BTreeMap<String, String> {
        &self.unreadable
    }

    /// Why the buckets cannot be read at present, and since when; the rest is then as of the last look.
    #[must_use]
    pub fn problem(&self) -> Option<&(String, UnixMs)> {
        self.problem.as_ref()
    }
}

/// The shared view. Clones see the same.
#[derive(Debug, Clone, Default)]
pub struct Directory(Arc<RwLock<Known>>);

impl Directory {
    /// What is known, for as long as the guard lives; not to be held across an await.
    pub fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Known) -> T) -> T {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes an entry over, unless a later one is known.
    pub fn note(&self, id: AccountId, configured: Configured) {
        self.note_read(id, configured, false);
    }

    /// As [`Directory::note`]; with `rolled_up` the write deleted those before it from the bucket.
    pub(super) fn note_read(&self, id: AccountId, configured: Configured, rolled_up: bool) {
        self.change(|known| {
            if known.accounts.get(&id).is_none_or(|now| now.revision <= configured.revision) {
                known.unreadable.remove(&id.to_string());
                known.note_paused(&id, &configured, rolled_up);
                known.accounts.insert(id, configured);
            }
        });
    }

    /// Forgets what was read under a key that was deleted by the write `revision`, whatever the key is.
    pub(super) fn forget(&self, key: &str, revision: u64) {
        self.change(|known| {
            known.unreadable.remove(key);
            let Ok(id) = AccountId::parse(key) else { return };
            if known.accounts.get(&id).is_some_and(|now| now.revision <= revision) {
                known.accounts.remove(&id);
                known.paused.remove(&id);
            }
        });
    }

    /// Takes over who holds an account, or that nobody does.
    pub fn note_lease(&self, id: AccountId, lease: Option<Lease>) {
        self.change(|known| {
            match lease {
                Some(lease) => known.leases.insert(id, lease),
                None => known.leases.remove(&id),
            };
        });
    }

    /// Notes that the entry under `key` cannot be read; true the first time.
    pub(super) fn note_unreadable(&self, key: &str, error: &str) -> bool {
        self.change(|known| {
            known.unreadable.insert(key.to_owned(), error.to_owned()).as_deref() != Some(error)
        })
    }

    /// Takes over which accounts have a holder that lives, and since when the others are without, as seen at `at`.
    pub(super) fn note_held(&self, held: &HashSet<AccountId>, at: UnixMs) {
        self.change(|known| {
            let unheld =
                known.accounts.iter().filter(|(id, it)| it.entry.active().is_some() && !held.contains(*id));
            let since = |id| known.unheld_since.get(id).copied().unwrap_or(at);
            known.unheld_since = unheld.map(|(id, _)| (id.clone(), since(id))).collect();
        });
    }

    /// Whether the buckets were read at the last look; true where that is news.
    pub(super) fn note_look(&self, problem: Option<String>, at: UnixMs) -> bool {
        self.change(|known| {
            let news = known.problem.as_ref().map(|(text, _)| text) != problem.as_ref();
            known.complete |= problem.is_none();
            if news {
                known.problem = problem.map(|text| (text, at));
            }
            news
        })
    }

    /// Marks the bucket `accounts` as read whole; tests that have no broker call it.
    pub fn note_complete(&self) {
        self.change(|known| known.complete = true);
    }

    /// Forgets everything that was read: the bucket `accounts` was made anew.
    pub(super) fn forget_accounts(&self) {
        self.change(|known| {
            known.accounts.clear();
            known.paused.clear();
            known.unreadable.clear();
            known.complete = false;
        });
    }

    /// Forgets the leases: their bucket was made anew.
    pub(super) fn forget_leases(&self) {
        self.change(|known| known.leases.clear());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use snapfleet_protocol::AccountConfig;

    #[test]
    fn paused_since_is_when_it_was_paused_or_not_known() {
        let id = AccountId::parse("demo.a").unwrap();
        let directory = Directory::default();
        let write = |revision: u64, paused: bool, rolled_up| {
            let config = AccountConfig::default();
            let entry = if paused { AccountEntry::Paused(config) } else { AccountEntry::Active(config) };
            let changed_at = Some(UnixMs(revision as i64));
            directory.note_read(id.clone(), Configured { revision, changed_at, entry }, rolled_up);
            directory.read().paused_since(&id)
        };
        assert_eq!(write(1, false, false), None);
        assert_eq!(write(2, true, false), Some(UnixMs(2)));
        for revision in 3..9 {
            assert_eq!(
                write(revision, true, revision == 8),
                Some(UnixMs(2)),
                "settings changed, nothing else"
            );
        }
        assert_eq!((write(9, false, false), write(10, true, false)), (None, Some(UnixMs(10))));
        directory.forget("demo.a", 11);
        // All that the bucket still has says the same: it may have been so before.
        let first = (12..16).map(|revision| write(revision, true, false));
        assert!(first.clone().all(|since| since == Some(UnixMs(12))));
        assert_eq!(write(16, true, false), None);
        directory.forget("demo.a", 17);
        assert_eq!(write(18, true, true), None);
        directory.forget_accounts();
        directory.note_complete();
        // From then on every write is seen.
        assert!((20..30).all(|revision| write(revision, true, true) == Some(UnixMs(20))));
    }
}
