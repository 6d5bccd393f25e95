//! From a grant to the right to publish: the window is read back, the claim published, and what was seen before is
//! compared with what the stream holds.

use std::time::Duration;

use snapfleet_protocol::Record;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{Account, is_erased};
use crate::outbox::Entry;
use crate::publish::{ClaimError, Grant, Publisher};
use crate::roster::now;
use crate::window::{self, Observed, Window};

/// While an account is claimed, its window is kept to its bound after this many records.
const RESTORED_PER_EVICTION: usize = 5_000;
/// The pauses between two tries.
pub(super) const CLAIM_PAUSE_MIN: Duration = Duration::from_millis(200);
const CLAIM_PAUSE_MAX: Duration = Duration::from_secs(5);

/// A claim that is stored.
pub(super) struct Claimed {
    publisher: Publisher,
    /// The last epoch in which anybody published records, and the window as the stream has it; `None` where nobody has
    /// published since the account was last held here.
    restored: Option<(u64, Window)>,
}

pub(super) type Claiming = JoinHandle<Result<Claimed, ClaimError>>;

impl Account {
    /// Begins to restore the window and to claim the account.
    pub(super) fn claim(&mut self) {
        self.claim_due = None;
        let Some(grant) = self.task.grants.borrow().clone().filter(Grant::holds) else { return };
        if self.in_flight.is_some() {
            // What is in flight was told to end; its outcome comes first.
            self.claim_due = Some(Instant::now() + CLAIM_PAUSE_MIN);
            return;
        }
        let (broker, account, instance) =
            (self.task.broker.clone(), self.task.account.clone(), self.task.instance.clone());
        let (mut erasures, lanes) = (self.erasures.clone(), self.task.lanes.clone());
        let resume = self.resume.take();
        self.used = Some(grant.clone());
        self.claiming = Some(tokio::spawn(async move {
            if let Some(resume) = resume {
                let again = (grant.clone(), &lanes);
                let again =
                    Publisher::claim_again(&broker, &account, &instance, again, now(), resume).await?;
                if let Some(publisher) = again {
                    return Ok(Claimed { publisher, restored: None });
                }
            }
            let mut window = Window::default();
            let mut restored = 0_usize;
            let restore = |record: Record, at| {
                if is_erased(&mut erasures, &record) {
                    return;
                }
                window.restore(record, at);
                restored += 1;
                if restored.is_multiple_of(RESTORED_PER_EVICTION) {
                    window.evict(now(), window::RECORDS_MAX);
                }
            };
            let claim = Publisher::claim(&broker, &account, &instance, (grant, &lanes), now(), restore);
            let (publisher, data_epoch) = claim.await?;
            window.evict(now(), window::RECORDS_MAX);
            Ok(Claimed { publisher, restored: Some((data_epoch, window)) })
        }));
    }

    pub(super) fn claimed(&mut self, claimed: Option<Result<Claimed, ClaimError>>) {
        let account = &self.task.account;
        let error = match claimed {
            Some(Ok(Claimed { publisher, restored })) => {
                if let Some((data_epoch, window)) = restored {
                    self.compare(data_epoch, window);
                }
                return self.hold(publisher);
            }
            Some(Err(error)) => error.to_string(),
            None => "the claiming task died".to_owned(),
        };
        tracing::warn!(account.id = %account, %error, retry_ms = self.claim_pause.as_millis() as u64,
            "account cannot be claimed; trying again");
        self.health.unpublished(Some(format!("it cannot be claimed: {error}")));
        self.claim_due =
            Some(Instant::now() + self.claim_pause + self.claim_pause.mul_f64(fastrand::f64() / 4.0));
        self.claim_pause = (self.claim_pause * 2).min(CLAIM_PAUSE_MAX);
    }

    /// Goes on from what the stream holds, with what was seen before and is not in it. Had somebody else published
    /// for the account since that was seen, it only adds what is unknown.
    fn compare(&mut self, data_epoch: u64, restored: Window) {
        let account = &self.task.account;
        tracing::debug!(account.id = %account, restored = restored.len(), "window read back");
        let unsent = std::mem::replace(&mut self.window, restored).into_pending();
        let earlier = self.epoch;
        let left = std::mem::take(&mut self.left).into_iter();
        let left = left.flat_map(|Entry { epoch, at, records }| {
            records.into_iter().map(move |record| (epoch, record, at))
        });
        let unsent = unsent.into_iter().map(|(record, at)| (earlier, record, at));
        // What was erased while the window was read; a second look finds what follows from the first.
        for _ in 0..2 {
            self.window.remove(|record| is_erased(&mut self.erasures, record));
        }
        let mut left_out = 0_u64;
        for (seen_in, record, at) in left.chain(unsent) {
            if is_erased(&mut self.erasures, &record) {
                continue;
            }
            if seen_in >= data_epoch {
                self.window.observe_again(record, at);
            } else if self.window.observe_if_unknown(record, at) == Observed::Unchanged {
                left_out += 1;
            }
        }
        if left_out > 0 {
            tracing::warn!(account.id = %account, records = left_out,
                "records seen earlier are left out: another worker has published newer ones since");
        }
    }

    /// Publishes from now on.
    fn hold(&mut self, publisher: Publisher) {
        let (account, epoch, term) = (&self.task.account, publisher.epoch(), publisher.grant().term);
        tracing::info!(account.id = %account, epoch, known = self.window.len(), "account claimed");
        let pending = self.window.pending_len();
        if pending > 0 {
            tracing::info!(account.id = %account, pending, "records seen earlier are published now");
            self.due = Some(Instant::now());
        }
        self.trouble = Some(publisher.trouble());
        (self.epoch, self.publisher, self.full_refused) = (epoch, Some(publisher), None);
        // Under this epoch from now on, so that one more restart does not take them for somebody else's.
        self.rewrite_outbox();
        self.task.roster.update(&self.task.account, |health| health.epoch = epoch);
        self.health.unpublished(None);
        self.health.cut_off(None);
        self.task.helm.held(Some((epoch, term)));
    }
}
