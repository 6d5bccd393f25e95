//! An account's session, so that it moves between hosts without a new login: taken out of and set into the browser's
//! context by [`crate::pages`], sealed with the fleet's key ([`key`], [`seal`]), kept in the bucket `sessions`
//! ([`store`]).
//!
//! [`open`] is called at the beginning of each tenure of an account. Of its two ends the pages take the
//! [`SessionExchange`], which knows neither broker nor key, and the [`Keeper`] runs beside them. Nothing of a session
//! is ever logged.

pub mod cli;
pub mod key;
pub mod seal;
pub mod store;

mod exchange;
mod state;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use snapfleet_broker::Broker;
use snapfleet_protocol::AccountId;
use tokio_util::sync::CancellationToken;

pub use exchange::{Exported, Offers, SessionExchange};
pub use key::FleetKey;
pub use seal::open_settings;
pub use state::{Cookie, Entries, SessionState};

use crate::steering::Steering;
use seal::{OpenError, seal_session};
use store::{Kept, Saved, open_all};

/// The pauses between two tries to read or to write the bucket.
const RETRY_PAUSE_MIN: Duration = Duration::from_millis(500);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(10);
/// Sessions of our own that are told from those of others; more than the bucket keeps of one account.
const OWN_MAX: usize = 8;
/// How long the last state may take to be stored once the account is let go.
const LAST_SAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// What a session needs of one tenure of its account.
#[derive(Clone)]
pub struct SessionTask {
    /// Where sessions are kept.
    pub broker: Broker,
    /// What they are sealed with.
    pub key: Arc<FleetKey>,
    /// Whose.
    pub account: AccountId,
    /// Under which epoch, and whether anything may be stored at this instant.
    pub steering: Steering,
    /// Cancelled when the account is let go.
    pub stop: CancellationToken,
}

/// Reads the account's sessions, trying again until the broker answers: without them the account would log in anew.
/// `None` once told to stop. What cannot be used is logged, and shown when the account turns out to be logged out.
pub async fn open(task: SessionTask) -> Option<(SessionExchange, Keeper)> {
    let mut pause = RETRY_PAUSE_MIN;
    let kept = loop {
        let error = tokio::select! {
            kept = store::load(&task.broker, &task.account) => match kept {
                Ok(kept) => break kept,
                Err(error) => error,
            },
            () = task.stop.cancelled() => return None,
        };
        tracing::warn!(account.id = %task.account, %error, retry_ms = pause.as_millis() as u64,
            "stored sessions cannot be read; trying again before the account's pages are opened");
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = task.stop.cancelled() => return None,
        }
        pause = (pause * 2).min(RETRY_PAUSE_MAX);
    };
    let opened = open_all(&task.key, &task.account, &kept);
    for problem in &opened.problems {
        tracing::error!(account.id = %task.account, reason = problem, "a stored session cannot be used; it is kept");
    }
    tracing::debug!(account.id = %task.account, candidates = opened.candidates.len(), "stored sessions read");
    let over = matches!(opened.newest, Some(OpenError::WrongKey { .. }));
    let problem = opened.newest.and_then(|_| opened.problems.into_iter().next());
    let (exchange, exported) = SessionExchange::new(opened.candidates, problem);
    let keeper = Keeper {
        offers: exchange.keeper_offers(),
        task,
        exported,
        due: None,
        epoch: None,
        last_seq: kept.last_seq,
        looked_seq: kept.last_seq,
        own: VecDeque::new(),
        stored_epoch: opened.epoch,
        over,
        told: false,
    };
    Some((exchange, keeper))
}

/// Stores what the pages leave in the [`SessionExchange`].
pub struct Keeper {
    task: SessionTask,
    exported: Exported,
    offers: Offers,
    due: Option<Due>,
    /// The epoch in which the account was last held.
    epoch: Option<u64>,
    /// The sequence of the last message that is known of the account's key, and the highest epoch of a session there.
    last_seq: u64,
    stored_epoch: u64,
    /// Up to where what others have stored was looked at, and what we stored lately.
    looked_seq: u64,
    own: VecDeque<u64>,
    /// Whether nothing is stored any more; why was logged.
    over: bool,
    /// Whether a failure to store was told, and not yet its end.
    told: bool,
}

/// A state that is not known to be stored.
struct Due {
    state: Arc<SessionState>,
    /// As it was sent already: the same bytes are sent again, so that one whose ack was lost is recognised.
    sealed: Option<(u64, Bytes)>,
}

impl Keeper {
    /// Stores each new state until the last clone of the exchange is dropped, and then the last one, for at most 5 s.
    ///
    /// To be awaited before the lease is given back, so that the next holder finds the newest session. A stale
    /// worker, one with another key, and one whose account was removed meanwhile store nothing; each is logged once.
    pub async fn run(mut self) {
        let mut pause = RETRY_PAUSE_MIN;
        while self.wait(pause).await {
            let held = self.task.steering.epoch();
            self.epoch = held.or(self.epoch);
            pause = match held {
                Some(epoch) if self.try_save(epoch).await => RETRY_PAUSE_MIN,
                _ => (pause * 2).min(RETRY_PAUSE_MAX),
            };
        }
        // The account may have been given back by now; what it left belongs to the epoch in which it was held, and
        // a later holder's session stays on top.
        let Some(epoch) = self.epoch else { return };
        let last = async {
            while !self.try_save(epoch).await {
                tokio::time::sleep(RETRY_PAUSE_MIN).await;
            }
        };
        if tokio::time::timeout(LAST_SAVE_TIMEOUT, last).await.is_err() {
            tracing::warn!(account.id = %self.task.account, "the session's last state is not stored");
        }
    }

    /// Waits for a new state; for as long as one is due, at most for `pause`. Tells whether more may come.
    async fn wait(&mut self, pause: Duration) -> bool {
        let waits = self.due.is_some();
        let changed = tokio::select! {
            changed = self.exported.changed() => changed,
            () = tokio::time::sleep(pause), if waits => return true,
            () = self.offers.wanted(), if !self.over => {
                self.look_for_another().await;
                return true;
            }
        };
        if changed.is_err() {
            return false;
        }
        let state = self.exported.borrow_and_update().clone().filter(|_| !self.over);
        self.due = state.map(|state| Due { state, sealed: None }).or(self.due.take());
        true
    }

    /// The account is logged out: was another session stored meanwhile, by somebody who logged it in elsewhere?
    async fn look_for_another(&mut self) {
        let task = &self.task;
        let kept = match store::load(&task.broker, &task.account).await {
            Ok(kept) => kept,
            Err(error) => return self.tell(&error),
        };
        self.last_seq = kept.last_seq;
        let looked_seq = std::mem::replace(&mut self.looked_seq, kept.last_seq);
        // Also what we have stored on top of since: our pages were logged in then, and are not any more.
        let sent = |sealed: &Bytes| {
            self.due.as_ref().and_then(|due| due.sealed.as_ref()).is_some_and(|(_, ours)| ours == sealed)
        };
        let is_foreign =
            |seq: &u64, sealed: &Bytes| *seq > looked_seq && !self.own.contains(seq) && !sent(sealed);
        let versions = kept.versions.into_iter().filter(|(seq, sealed)| is_foreign(seq, sealed)).collect();
        let mut opened = open_all(&task.key, &task.account, &Kept { versions, ..kept });
        self.stored_epoch = self.stored_epoch.max(opened.epoch);
        if let (Some(_), Some(problem)) = (&opened.newest, opened.problems.first()) {
            tracing::error!(account.id = %task.account, reason = problem, "a session stored meanwhile cannot be used");
        } else if !opened.candidates.is_empty() {
            self.offers.offer(opened.candidates.swap_remove(0));
        }
    }

    /// Stores what is due, if anything is; tells whether nothing is due any more.
    async fn try_save(&mut self, epoch: u64) -> bool {
        let Some(due) = &mut self.due else { return true };
        if self.stored_epoch > epoch {
            return self.stale(epoch, self.stored_epoch);
        }
        let task = &self.task;
        if due.sealed.as_ref().is_none_or(|(of, _)| *of != epoch) {
            match seal_session(&task.key, &task.account, epoch, &due.state) {
                Ok(sealed) => due.sealed = Some((epoch, sealed)),
                Err(error) => {
                    self.due = None;
                    self.tell(&error);
                    return true;
                }
            }
        }
        let Some((_, sealed)) = &due.sealed else { return false };
        match store::save(&task.broker, &task.key, &task.account, epoch, sealed, self.last_seq).await {
            Ok(Saved::Stored(seq)) => {
                tracing::debug!(account.id = %task.account, stream.seq = seq, bytes = sealed.len(), "session stored");
                (self.last_seq, self.stored_epoch, self.told) = (seq, epoch, false);
                self.own.push_back(seq);
                if self.own.len() > OWN_MAX {
                    self.own.pop_front();
                }
            }
            Ok(Saved::Stale { epoch: stored }) => return self.stale(epoch, stored),
            Ok(Saved::OtherKey(stored)) => {
                tracing::error!(account.id = %task.account, key.id = %task.key.id(), stored.key.id = %stored,
                    "a session under another key is stored and left alone: give all workers the same key");
                self.over = true;
            }
            Ok(Saved::Deleted) => {
                tracing::warn!(account.id = %task.account, "the stored session was deleted; it is not stored again");
                self.over = true;
            }
            Err(error) => {
                self.tell(&error);
                return false;
            }
        }
        self.due = None;
        true
    }

    /// Drops what is due: a later holder's session is stored. Ours may be again, if the account comes back to us.
    fn stale(&mut self, epoch: u64, stored: u64) -> bool {
        tracing::warn!(account.id = %self.task.account, epoch, stored.epoch = stored,
            "a later holder's session is stored; ours is left out");
        (self.due, self.stored_epoch) = (None, stored);
        true
    }

    fn tell(&mut self, error: &dyn std::fmt::Display) {
        if !std::mem::replace(&mut self.told, true) {
            tracing::warn!(account.id = %self.task.account, %error, "the session's state is not stored");
        }
    }
}
