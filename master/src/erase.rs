//! What the buckets `accounts` and `erasures` say of accounts and persons, brought into the store, and what is erased out
//! of the broker: an account's subject in the stream, its session and its lease.
//!
//! The buckets are the truth, and the store remembers how far each thing has come: whoever is stopped anywhere goes on
//! where it was. It knows neither the API, which only writes to the buckets, nor how the store deletes rows.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use async_nats::jetstream::stream::Stream;
use snapfleet_broker::{
    Broker, DirectGetError, PublishError, Stored, Tail, delete_key, last_at_leader, last_per_subject,
    purge_key,
};
use snapfleet_protocol::stream::{
    ACCOUNTS_PREFIX, ACCOUNTS_STREAM, ERASURES_PREFIX, ERASURES_STREAM, LEASES_PREFIX, LEASES_STREAM,
    READERS_PREFIX, READERS_STREAM, SESSIONS_PREFIX, SESSIONS_STREAM, SNAPSHOTS,
};
use snapfleet_protocol::{AccountEntry, AccountId, Erasure, ReaderPosition, Topic};
use tokio_util::sync::CancellationToken;

use crate::store::{DataStore, Edit, Position, Standing, StoreError};

/// How often the buckets are read.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// After so many looks it is asked whether the buckets are still those that were read.
const LOOKS_PER_CHECK: u32 = 5;
/// Notes that go into one transaction of the store.
const EDITS_MAX: usize = 1_000;
/// Accounts that are purged in one look.
const PURGES_MAX: usize = 64;
/// The least time between two purges of an account that is held: each has its holder publish all it knows again.
const PURGE_PAUSE: Duration = Duration::from_secs(60);
/// How long after an erased account's purge its session and lease are looked for once more: what a worker wrote that had
/// not seen the end yet.
const SECOND_LOOK: Duration = Duration::from_secs(10);

/// Why a look came to nothing; the next one tries again.
#[derive(Debug, thiserror::Error)]
pub enum EraseError {
    /// A bucket cannot be read.
    #[error(transparent)]
    Read(#[from] DirectGetError),
    /// The broker does not answer, or refuses.
    #[error(transparent)]
    Broker(#[from] PublishError),
    /// The stream of snapshots cannot be purged.
    #[error(
        "stream {SNAPSHOTS} cannot be purged ({0}): has the broker's user the rights of `master` in nats.conf?"
    )]
    Purge(String),
    /// The store does not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Follows the two buckets.
pub struct Follower {
    broker: Broker,
    store: DataStore,
    purges: bool,
    accounts: Tail,
    erasures: Tail,
    looks: u32,
    purged: HashMap<AccountId, Instant>,
    again: Vec<(Instant, AccountId)>,
    failing: Option<String>,
}

impl Follower {
    /// Has read nothing yet. With `purges` what is erased is deleted from the broker, too: for the one master that
    /// writes, not for a replica.
    #[must_use]
    pub fn new(broker: Broker, store: DataStore, purges: bool) -> Self {
        let (accounts, erasures) = tails();
        let (purged, again) = (HashMap::new(), Vec::new());
        Self { broker, store, purges, accounts, erasures, looks: 0, purged, again, failing: None }
    }

    /// Reads both buckets into the store, trying until that is done; false when told to stop. To be awaited before a
    /// message of the stream is applied: what is erased must not come in meanwhile.
    pub async fn first_look(&mut self, shutdown: &CancellationToken) -> bool {
        loop {
            tokio::select! {
                done = self.look() => if done { return true },
                () = shutdown.cancelled() => return false,
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = shutdown.cancelled() => return false,
            }
        }
    }

    /// Follows the buckets until `shutdown`, and purges what is due.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = shutdown.cancelled() => return,
            }
            if !self.broker.is_connected() {
                continue;
            }
            // What is interrupted is done again: nothing here depends on being done once.
            tokio::select! {
                _ = self.look_and_purge() => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    async fn look(&mut self) -> bool {
        let result = self.apply_once().await;
        self.tell(result)
    }

    async fn look_and_purge(&mut self) -> bool {
        let mut result = self.apply_once().await;
        if result.is_ok() && self.purges {
            result = self.purge_due().await;
        }
        self.tell(result)
    }

    /// Logs a failure when it begins and when it is over.
    fn tell(&mut self, result: Result<(), EraseError>) -> bool {
        let failed = result.err().map(|error| error.to_string());
        if failed != self.failing {
            match &failed {
                Some(error) => {
                    tracing::error!(error, "removals and erasures cannot be followed; tried again")
                }
                None => tracing::info!("removals and erasures are followed again"),
            }
            self.failing = failed;
        }
        self.failing.is_none()
    }

    /// Brings into the store what was written to the buckets since the last call. Costs two requests where nothing was.
    ///
    /// # Errors
    /// [`EraseError`]; what was read is then read again at the next call.
    pub async fn apply_once(&mut self) -> Result<(), EraseError> {
        let applied = self.read_and_apply().await;
        if applied.is_err() {
            (self.accounts, self.erasures) = tails();
            self.looks = 0;
        }
        applied
    }

    async fn read_and_apply(&mut self) -> Result<(), EraseError> {
        if self.looks.is_multiple_of(LOOKS_PER_CHECK) {
            for tail in [&mut self.accounts, &mut self.erasures] {
                if !tail.is_same(&self.broker).await? {
                    tracing::warn!("a bucket was made anew; it is read from its beginning");
                }
            }
        }
        self.looks = self.looks.wrapping_add(1);
        let mut standings = BTreeMap::new();
        for stored in self.accounts.read(&self.broker).await?.iter().filter(|stored| !stored.is_gone()) {
            if let Some((account, entry)) = read_entry(stored) {
                standings.insert(account, entry);
            }
        }
        let standings =
            standings.into_iter().map(|(account, entry)| Edit::Standing(account, standing(&entry)));
        let mut edits: Vec<Edit> = standings.collect();
        let erasures = self.erasures.read(&self.broker).await?;
        edits.extend(erasures.iter().filter(|stored| !stored.is_gone()).filter_map(read_erasure));
        for edits in edits.chunks(EDITS_MAX) {
            self.store.edit(edits.to_vec()).await?;
        }
        Ok(())
    }

    /// Deletes from the broker what the store says is due.
    async fn purge_due(&mut self) -> Result<(), EraseError> {
        self.second_looks().await?;
        let due = self.store.read(|query| {
            let purges = query.purges()?;
            purges.into_iter().map(|(account, upto)| Ok((query.standing(&account)?, account, upto))).collect()
        });
        let due: Vec<(Standing, AccountId, Position)> = due.await?;
        if due.is_empty() {
            return Ok(());
        }
        let stream = self.broker.jetstream().get_stream(SNAPSHOTS).await;
        let stream = stream.map_err(|error| EraseError::Purge(error.to_string()))?;
        let incarnation = u64::try_from(stream.cached_info().created.unix_timestamp_nanos()).unwrap_or(0);
        let read_by_all = self.read_by_all(incarnation).await?;
        self.purged.retain(|_, at| at.elapsed() < PURGE_PAUSE);
        let due = due.into_iter().filter(|(standing, account, upto)| {
            ended(*standing, *upto) || !self.purged.contains_key(account)
        });
        for (standing, account, upto) in due.take(PURGES_MAX).collect::<Vec<_>>() {
            if upto.incarnation == incarnation {
                // Other records of the account are in the same messages: every replica must have read them.
                let seq = if ended(standing, upto) { upto.seq } else { upto.seq.min(read_by_all) };
                if seq < upto.seq {
                    tracing::warn!(account.id = %account, stream.seq = upto.seq, reached = seq,
                        "a replica that is behind holds back an erasure in the stream: start it, or remove it");
                }
                self.purge(&stream, &account, seq).await?;
                self.purged.insert(account.clone(), Instant::now());
                if matches!(standing, Standing::Erased { .. }) {
                    self.clear(&account).await?;
                    self.again.push((Instant::now() + SECOND_LOOK, account.clone()));
                }
                self.store.edit(vec![Edit::Purged(account, Position { incarnation, seq })]).await?;
            } else {
                // It went with an earlier life of the stream.
                self.store.edit(vec![Edit::Purged(account, upto)]).await?;
            }
        }
        Ok(())
    }

    /// Up to which sequence every registered reader has read this life of the stream.
    async fn read_by_all(&self, incarnation: u64) -> Result<u64, EraseError> {
        let readers = last_per_subject(&self.broker, READERS_STREAM, &format!("{READERS_PREFIX}>")).await?;
        let positions = readers.iter().filter(|stored| !stored.is_gone()).map(|stored| {
            let said = serde_json::from_slice::<ReaderPosition>(&stored.payload).ok();
            let position = said.and_then(|said| said.position);
            position.filter(|position| position.incarnation == incarnation).map_or(0, |position| position.seq)
        });
        Ok(positions.min().unwrap_or(u64::MAX))
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

fn tails() -> (Tail, Tail) {
    let accounts = Tail::new(ACCOUNTS_STREAM, format!("{ACCOUNTS_PREFIX}>"));
    (accounts, Tail::new(ERASURES_STREAM, format!("{ERASURES_PREFIX}>")))
}

/// Somebody else wrote the key meanwhile, which the second look finds.
fn taken_over(result: Result<(), PublishError>) -> Result<(), PublishError> {
    if let Err(PublishError::Conflict(_)) = result { Ok(()) } else { result }
}

/// Whether all of the account up to there has ended: it was erased, and may have been added again behind that.
fn ended(standing: Standing, upto: Position) -> bool {
    match standing {
        Standing::Erased { .. } => true,
        Standing::Active { not_before: Some(point) } => {
            point.incarnation == upto.incarnation && upto.seq <= point.seq
        }
        Standing::Active { not_before: None } | Standing::Removed { .. } => false,
    }
}

fn standing(entry: &AccountEntry) -> Standing {
    match entry {
        AccountEntry::Active(config) | AccountEntry::Paused(config) => {
            let not_before = config.not_before;
            let not_before =
                not_before.map(|point| Position { incarnation: point.incarnation, seq: point.seq });
            Standing::Active { not_before }
        }
        AccountEntry::Removed(ended) => Standing::Removed { at: ended.at },
        AccountEntry::Erased(ended) => Standing::Erased { at: ended.at },
    }
}

fn read_entry(stored: &Stored) -> Option<(AccountId, AccountEntry)> {
    let account = stored.key(ACCOUNTS_PREFIX).and_then(|key| AccountId::parse(key).ok());
    match (account, serde_json::from_slice(&stored.payload)) {
        (Some(account), Ok(entry)) => Some((account, entry)),
        _ => {
            tracing::warn!(
                subject = stored.subject,
                "an entry of an account cannot be read; its standing stays"
            );
            None
        }
    }
}

fn read_erasure(stored: &Stored) -> Option<Edit> {
    let key = stored.key(ERASURES_PREFIX).and_then(Erasure::parse_key);
    let erasure = serde_json::from_slice::<Erasure>(&stored.payload).ok();
    match (key, erasure) {
        (Some((account, person)), Some(erasure)) if erasure.person == person => {
            Some(Edit::Person(account, erasure))
        }
        _ => {
            // The subject names a person only by hash.
            tracing::error!(
                subject = stored.subject,
                "an erasure cannot be read, and is not done: ask for it again"
            );
            None
        }
    }
}
