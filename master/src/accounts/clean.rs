//! What an account that has ended leaves in the buckets: its lease and its session are deleted once no living worker
//! holds it. Worked off from the bucket `accounts` itself, so that a restart forgets nothing.

use std::collections::{BTreeSet, HashSet};

use snapfleet_broker::{Broker, PublishError, last_at_leader, purge_key};
use snapfleet_protocol::stream::{LEASES_PREFIX, LEASES_STREAM, SESSIONS_PREFIX, SESSIONS_STREAM};
use snapfleet_protocol::{AccountEntry, AccountId};

use super::directory::Directory;

/// Accounts that are looked after in one go: it is done beside reading the buckets.
const CLEANED_MAX: usize = 32;

/// The accounts that have ended and may have left something.
#[derive(Default)]
pub(super) struct Cleaner {
    ended: BTreeSet<AccountId>,
    failing: bool,
}

impl Cleaner {
    /// Takes note of an entry.
    pub(super) fn take(&mut self, id: &AccountId, entry: &AccountEntry) {
        if entry.config().is_some() {
            self.ended.remove(id);
        } else {
            self.ended.insert(id.clone());
        }
    }

    /// An account without an entry has not ended.
    pub(super) fn keep(&mut self, id: &AccountId) {
        self.ended.remove(id);
    }

    /// Deletes leases and sessions of accounts that have ended and that no instance of `living` holds.
    pub(super) async fn clean(&mut self, directory: &Directory, broker: &Broker, living: &HashSet<String>) {
        let free: Vec<AccountId> = {
            let known = directory.read();
            let free = |id: &&AccountId| {
                let lease = known.lease(id);
                lease.is_none_or(|lease| !living.contains(lease.instance.as_str()))
            };
            self.ended.iter().filter(free).take(CLEANED_MAX).cloned().collect()
        };
        for id in free {
            // It may have been added again since it was read.
            let ended = directory.read().accounts().get(&id).is_some_and(|now| now.entry.config().is_none());
            match if ended { clean_one(broker, &id).await } else { Ok(()) } {
                Ok(()) => self.failing = false,
                // Somebody else wrote there at the same time; the next look sees what.
                Err(PublishError::Conflict(_)) => continue,
                Err(error) => {
                    if !std::mem::replace(&mut self.failing, true) {
                        tracing::warn!(account.id = %id, %error,
                            "the lease or session of an ended account cannot be deleted; tried again");
                    }
                    return;
                }
            }
            self.ended.remove(&id);
        }
    }
}

async fn clean_one(broker: &Broker, id: &AccountId) -> Result<(), PublishError> {
    for (stream, prefix) in [(SESSIONS_STREAM, SESSIONS_PREFIX), (LEASES_STREAM, LEASES_PREFIX)] {
        let subject = format!("{prefix}{id}");
        let last = last_at_leader(broker, stream, &subject).await?;
        let Some(last) = last.filter(|last| !last.is_gone()) else { continue };
        purge_key(broker, subject, Some(last.seq)).await?;
        tracing::info!(account.id = %id, bucket = stream, "an ended account's key is deleted");
    }
    Ok(())
}
