//! What the buckets `accounts` and `erasures` say of accounts and persons, brought into the store; `purge` erases it out
//! of the broker as well.
//!
//! The buckets are the truth, and the store remembers how far each thing has come: whoever is stopped anywhere goes on
//! where it was. It knows neither the API, which only writes to the buckets, nor how the store deletes rows.

mod purge;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use snapfleet_broker::{Broker, DirectGetError, PublishError, Stored, Tail};
use snapfleet_protocol::stream::{
    ACCOUNTS_PREFIX, ACCOUNTS_STREAM, ERASURES_PREFIX, ERASURES_STREAM, SNAPSHOTS,
};
use snapfleet_protocol::{AccountEntry, AccountId, Erased, Erasure, StreamPoint, UnixMs};
use tokio_util::sync::CancellationToken;

use crate::api::{Endings, Live, PendingPurge, now};
use crate::store::{DataStore, Edit, ErasedMark, Position, Standing, StoreError};
use purge::Purger;

/// How often the buckets are read.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// After so many looks it is asked whether the buckets are still those that were read.
const LOOKS_PER_CHECK: u32 = 5;
/// Notes that go into one transaction of the store.
const EDITS_MAX: usize = 1_000;

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

/// The steps of a look, which fail one by one. What a failure says may differ from look to look; it is one all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Accounts,
    Erasures,
    Purges,
}

impl Step {
    fn fails(self) -> &'static str {
        match self {
            Step::Accounts => "ends of accounts cannot be followed in the bucket accounts",
            Step::Erasures => "erasures of persons cannot be followed in the bucket erasures",
            Step::Purges => "what was erased cannot be deleted from the broker",
        }
    }
}

/// Follows the two buckets, and tells of it in [`Live`].
pub struct Follower {
    broker: Broker,
    store: DataStore,
    live: Live,
    purger: Option<Purger>,
    accounts: Tail,
    erasures: Tail,
    looks: u32,
    looked: bool,
    failing: BTreeMap<Step, (String, UnixMs)>,
    contradicted: BTreeMap<AccountId, UnixMs>,
}

impl Follower {
    /// Has read nothing yet. With `purges` what is erased is deleted from the broker, too: for the one master that
    /// writes, not for a replica.
    #[must_use]
    pub fn new(broker: Broker, store: DataStore, live: Live, purges: bool) -> Self {
        Self {
            purger: purges.then(|| Purger::new(broker.clone(), store.clone(), live.clone())),
            broker,
            store,
            live,
            accounts: accounts(),
            erasures: erasures(),
            looks: 0,
            looked: false,
            failing: BTreeMap::new(),
            contradicted: BTreeMap::new(),
        }
    }

    /// Reads both buckets into the store, trying until that is done; false when told to stop. To be awaited before a
    /// message of the stream is applied: what is erased must not come in meanwhile.
    pub async fn first_look(&mut self, shutdown: &CancellationToken) -> bool {
        loop {
            tokio::select! {
                () = self.look() => if self.failing.is_empty() { break },
                () = shutdown.cancelled() => return false,
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = shutdown.cancelled() => return false,
            }
        }
        self.looked = true;
        self.note().await;
        true
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
                () = self.look_and_purge() => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    async fn look_and_purge(&mut self) {
        self.look().await;
        // With an entry unread, an account that was added again would lose its session.
        if !self.failing.contains_key(&Step::Accounts)
            && let Some(purger) = &mut self.purger
        {
            let purged = purger.purge_due().await;
            self.tell(Step::Purges, purged);
            self.note().await;
        }
    }

    /// Brings into the store what was written to the buckets since the last look. Costs two requests where nothing was.
    /// What fails is read again from its beginning at the next one, and keeps the other bucket from nothing.
    async fn look(&mut self) {
        let check = self.looks.is_multiple_of(LOOKS_PER_CHECK);
        self.looks = self.looks.wrapping_add(1);
        let read = self.read_accounts(check).await;
        if read.is_err() {
            self.accounts = accounts();
        }
        self.tell(Step::Accounts, read);
        let read = self.read_erasures(check).await;
        if read.is_err() {
            self.erasures = erasures();
        }
        self.tell(Step::Erasures, read);
        self.note().await;
    }

    /// Logs a failure when it begins and when it is over.
    fn tell(&mut self, step: Step, result: Result<(), EraseError>) {
        match result {
            Ok(()) => {
                if self.failing.remove(&step).is_some() {
                    tracing::info!(?step, "removals and erasures are followed again");
                }
            }
            Err(error) => {
                let since = self.failing.get(&step).map(|(_, since)| *since);
                if since.is_none() {
                    tracing::error!(?step, %error, "removals and erasures cannot be followed; tried again");
                }
                let text = format!("{}: {error}", step.fails());
                self.failing.insert(step, (text, since.unwrap_or_else(now)));
            }
        }
    }

    /// Tells how far everything is.
    async fn note(&self) {
        // What keeps the store from being read is told as the store's own problem.
        let left = self.store.read(|query| Ok((query.erasing()?, query.purges()?))).await;
        let (erasing, purges) = left.unwrap_or_default();
        // A replica's are the writing master's to do.
        let pending = self.purger.iter().flat_map(|purger| {
            purges.iter().map(|row| PendingPurge {
                account: row.account.clone(),
                since: row.since,
                held_by: purger.held_back(&row.account),
            })
        });
        let endings = Endings {
            problems: self.failing.values().cloned().collect(),
            holds_intake: !self.looked,
            erasing,
            pending: pending.collect(),
            contradicted: self.contradicted.clone(),
        };
        self.live.note(|moment| moment.endings = endings);
    }

    async fn read_accounts(&mut self, check: bool) -> Result<(), EraseError> {
        // An entry names the erasure before it, so the last entry of an account says all.
        let mut standings = BTreeMap::new();
        for stored in news(&mut self.accounts, &self.broker, check).await? {
            if let Some((account, entry)) = read_entry(&stored) {
                standings.insert(account, standing(&entry));
            }
        }
        if standings.is_empty() {
            return Ok(());
        }
        let edits = standings.iter().map(|(account, standing)| Edit::Standing(account.clone(), *standing));
        apply(&self.store, edits.collect()).await?;
        let refused = self.store.read(move |query| {
            let refused = |(account, wanted): (AccountId, Standing)| {
                let stays = matches!(query.standing(&account)?, Standing::Erased { .. });
                Ok((account, stays && !matches!(wanted, Standing::Erased { .. })))
            };
            standings.into_iter().map(refused).collect::<Result<Vec<_>, StoreError>>()
        });
        for (account, refused) in refused.await? {
            if !refused {
                self.contradicted.remove(&account);
            } else if let Entry::Vacant(new) = self.contradicted.entry(account) {
                tracing::error!(account.id = %new.key(),
                    "the bucket accounts knows nothing of an erasure: the account stays erased");
                new.insert(now());
            }
        }
        Ok(())
    }

    async fn read_erasures(&mut self, check: bool) -> Result<(), EraseError> {
        let news = news(&mut self.erasures, &self.broker, check).await?;
        apply(&self.store, news.iter().filter_map(read_erasure).collect()).await
    }
}

/// What was written to a bucket since the last call, without deletions; with `check` all, where the bucket was made
/// anew.
async fn news(tail: &mut Tail, broker: &Broker, check: bool) -> Result<Vec<Stored>, EraseError> {
    if check && !tail.is_same(broker).await? {
        tracing::warn!("a bucket was made anew; it is read from its beginning");
    }
    let mut news = tail.read(broker).await?;
    news.retain(|stored| !stored.is_gone());
    Ok(news)
}

async fn apply(store: &DataStore, edits: Vec<Edit>) -> Result<(), EraseError> {
    for edits in edits.chunks(EDITS_MAX) {
        store.edit(edits.to_vec()).await?;
    }
    Ok(())
}

fn accounts() -> Tail {
    Tail::new(ACCOUNTS_STREAM, format!("{ACCOUNTS_PREFIX}>"))
}

fn erasures() -> Tail {
    Tail::new(ERASURES_STREAM, format!("{ERASURES_PREFIX}>"))
}

fn standing(entry: &AccountEntry) -> Standing {
    let position = |point: StreamPoint| Position { incarnation: point.incarnation, seq: point.seq };
    let mark =
        |erased: Option<Erased>| erased.map(|mark| ErasedMark { at: mark.at, upto: position(mark.upto) });
    match entry {
        AccountEntry::Active(config) | AccountEntry::Paused(config) => {
            Standing::Active { erased: mark(config.erased) }
        }
        AccountEntry::Removed(ended) => {
            Standing::Removed { at: ended.at, upto: ended.upto.map(position), erased: mark(ended.erased) }
        }
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
