//! Deleting what was erased from the broker: an account's subject in the stream, its session and its lease.
//!
//! What is due is in the store, which forgets it when it was done. It knows nothing of the buckets that tell of ends.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use async_nats::jetstream::stream::Stream;
use snapfleet_broker::{Broker, PublishError, delete_key, last_at_leader, last_per_subject, purge_key};
use snapfleet_protocol::stream::{
    LEASES_PREFIX, LEASES_STREAM, READERS_PREFIX, READERS_STREAM, SESSIONS_PREFIX, SESSIONS_STREAM, SNAPSHOTS,
};
use snapfleet_protocol::{AccountId, ReaderPosition, Topic};

use super::EraseError;
use crate::api::{HeldBack, Live};
use crate::store::{DataStore, Edit, Position, PurgeRow, Standing, StoreError};

/// Accounts that are purged in one look.
const PURGES_MAX: usize = 64;
/// The least time between two purges of an account that is held: each has its holder publish all it knows again.
const PURGE_PAUSE: Duration = Duration::from_secs(60);
/// How long after an erased account's purge its session and lease are looked for once more: what a worker wrote that had
/// not seen the end yet.
const SECOND_LOOK: Duration = Duration::from_secs(10);

/// Deletes what is due.
pub(super) struct Purger {
    broker: Broker,
    store: DataStore,
    live: Live,
    purged: HashMap<AccountId, Instant>,
    again: Vec<(Instant, AccountId)>,
    held: BTreeMap<AccountId, HeldBack>,
}

/// The stream as it is at one look, and how far its readers are.
struct Stretch {
    stream: Stream,
    incarnation: u64,
    is_empty: bool,
    /// The registered reader that is furthest behind, and where it is.
    slowest: Option<(String, u64)>,
    /// The accounts that a worker holds, and whether these are all.
    held: HashSet<AccountId>,
    complete: bool,
}

impl Purger {
    pub(super) fn new(broker: Broker, store: DataStore, live: Live) -> Self {
        let (purged, again, held) = (HashMap::new(), Vec::new(), BTreeMap::new());
        Self { broker, store, live, purged, again, held }
    }

    /// What an account's purge waits for, if it does.
    pub(super) fn held_back(&self, account: &AccountId) -> Option<HeldBack> {
        self.held.get(account).cloned()
    }

    /// Deletes from the broker what the store says is due.
    pub(super) async fn purge_due(&mut self) -> Result<(), EraseError> {
        self.second_looks().await?;
        let due = self.store.read(|query| {
            let with = |row: PurgeRow| Ok((query.standing(&row.account)?, row));
            query.purges()?.into_iter().map(with).collect::<Result<Vec<_>, StoreError>>()
        });
        let due = due.await?;
        let mut before = std::mem::take(&mut self.held);
        if due.is_empty() {
            return Ok(());
        }
        let stretch = self.stretch().await?;
        self.purged.retain(|_, at| at.elapsed() < PURGE_PAUSE);
        let mut done = 0;
        for (standing, PurgeRow { account, upto, .. }) in due {
            let held = before.remove(&account);
            if upto.incarnation != stretch.incarnation {
                // Nothing of another life is in an empty stream; else it may be a copy of that life, and the store
                // knows up to where.
                let seq = Position { incarnation: stretch.incarnation, seq: 0 };
                let edit = Edit::Purged(account, if stretch.is_empty { upto } else { seq });
                self.store.edit(vec![edit]).await?;
                continue;
            }
            let whole = standing.is_erased_at(upto);
            if done == PURGES_MAX || (!whole && self.purged.contains_key(&account)) {
                self.held.extend(held.map(|held| (account, held)));
                continue;
            }
            // Other records of the account are in the same messages, and every reader must have read them.
            let waits = if whole { None } else { stretch.waits(&account, upto.seq) };
            if let Some(waits) = &waits {
                if held.as_ref() != Some(waits) {
                    tracing::warn!(account.id = %account, stream.seq = upto.seq, waits = %waits,
                        "an erasure waits in the stream");
                }
                self.held.insert(account.clone(), waits.clone());
            }
            let seq = match (&waits, &stretch.slowest) {
                (Some(HeldBack::Unheld), _) => continue,
                (Some(HeldBack::Replica(_)), Some((_, reached))) => upto.seq.min(*reached),
                _ if whole || stretch.held.contains(&account) => upto.seq,
                // Whether somebody holds it is told soon.
                _ => continue,
            };
            done += 1;
            self.purge(&stretch.stream, &account, seq).await?;
            self.purged.insert(account.clone(), Instant::now());
            if matches!(standing, Standing::Erased { .. }) {
                self.clear(&account).await?;
                self.again.push((Instant::now() + SECOND_LOOK, account.clone()));
            }
            let upto = Position { incarnation: stretch.incarnation, seq };
            self.store.edit(vec![Edit::Purged(account, upto)]).await?;
        }
        Ok(())
    }

    async fn stretch(&self) -> Result<Stretch, EraseError> {
        let stream = self.broker.jetstream().get_stream(SNAPSHOTS).await;
        let stream = stream.map_err(|error| EraseError::Purge(error.to_string()))?;
        let info = stream.cached_info();
        let incarnation = u64::try_from(info.created.unix_timestamp_nanos()).unwrap_or(0);
        let is_empty = info.state.messages == 0;
        let readers = last_per_subject(&self.broker, READERS_STREAM, &format!("{READERS_PREFIX}>")).await?;
        let positions = readers.iter().filter(|stored| !stored.is_gone()).map(|stored| {
            let said = serde_json::from_slice::<ReaderPosition>(&stored.payload).ok();
            let position = said.and_then(|said| said.position);
            let position = position.filter(|position| position.incarnation == incarnation);
            let name = stored.key(READERS_PREFIX).unwrap_or(&stored.subject).to_owned();
            (name, position.map_or(0, |position| position.seq))
        });
        let slowest = positions.min_by_key(|(_, seq)| *seq);
        let (held, complete) = self.live.look(|moment| {
            let held = moment.workers.heartbeats.iter().flat_map(|worker| &worker.accounts);
            (held.map(|health| health.account.clone()).collect(), moment.workers_complete())
        });
        Ok(Stretch { stream, incarnation, is_empty, slowest, held, complete })
    }

    async fn purge(&self, stream: &Stream, account: &AccountId, upto: u64) -> Result<(), EraseError> {
        let subject = Topic::Snapshot.subject(account);
        let purged = stream.purge().filter(subject).sequence(upto.saturating_add(1)).await;
        let purged = purged.map_err(|error| EraseError::Purge(error.to_string()))?.purged;
        if purged > 0 {
            tracing::info!(account.id = %account, stream.seq = upto, purged, "purged from the stream");
        }
        Ok(())
    }

    /// Deletes an erased account's session and lease.
    async fn clear(&self, account: &AccountId) -> Result<(), EraseError> {
        let session = format!("{SESSIONS_PREFIX}{account}");
        if let Some(last) = last_at_leader(&self.broker, SESSIONS_STREAM, &session).await?
            && !last.is_gone()
        {
            taken_over(purge_key(&self.broker, session, Some(last.seq)).await.map(|_| ()))?;
        }
        let lease = format!("{LEASES_PREFIX}{account}");
        if let Some(last) = last_at_leader(&self.broker, LEASES_STREAM, &lease).await?
            && !last.is_gone()
        {
            taken_over(delete_key(&self.broker, lease, Some(last.seq)).await.map(|_| ()))?;
        }
        Ok(())
    }

    async fn second_looks(&mut self) -> Result<(), EraseError> {
        while let Some(at) = self.again.iter().position(|(due, _)| *due <= Instant::now()) {
            let account = self.again[at].1.clone();
            let asked = account.clone();
            let standing = self.store.read(move |query| query.standing(&asked)).await?;
            if matches!(standing, Standing::Erased { .. }) {
                self.clear(&account).await?;
            }
            self.again.swap_remove(at);
        }
        Ok(())
    }
}

impl Stretch {
    /// What the purge of an account that goes on up to `seq` waits for.
    fn waits(&self, account: &AccountId, seq: u64) -> Option<HeldBack> {
        // The holder publishes anew what else was in there; without one a reader to come would lack it.
        if self.complete && !self.held.contains(account) {
            return Some(HeldBack::Unheld);
        }
        let slowest = self.slowest.as_ref().filter(|(_, reached)| *reached < seq);
        slowest.filter(|_| self.held.contains(account)).map(|(name, _)| HeldBack::Replica(name.clone()))
    }
}

/// Somebody else wrote the key meanwhile, which the second look finds.
fn taken_over(result: Result<(), PublishError>) -> Result<(), PublishError> {
    if let Err(PublishError::Conflict(_)) = result { Ok(()) } else { result }
}
