//! One account from what its pages showed to what the stream holds: window, outbox, and one publish at a time.
//!
//! Sightings come in from the browser side. While a publish waits for the broker, and while the account is not held
//! because this worker was cut off, sightings are still taken in, so that an outage loses nothing that a page pushed.
//! Only with a [`Grant`] is anything published or a page driven; each grant begins with a claim on the subject.

mod health;
mod publishing;
mod sync;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use snapfleet_broker::Broker;
use snapfleet_protocol::{AccountId, AccountState, Erasure, InstanceId, Record, UnixMs};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::outbox::{Entry, Outbox};
use crate::publish::{ClaimError, Grant, Publisher};
use crate::roster::{Roster, now};
use crate::steering::Helm;
use crate::window::{self, Observed, Window};
use health::Health;
use publishing::InFlight;
pub use sync::Ask;
use sync::Syncing;

/// Something inbound is published after this, together with what came meanwhile.
const INBOUND_DEBOUNCE: Duration = Duration::from_millis(200);
/// How long the pages of a stopping account may take to hand over what they have captured.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(8);
/// While an account is claimed, its window is kept to its bound after this many records.
const RESTORED_PER_EVICTION: usize = 5_000;
const CLAIM_PAUSE_MIN: Duration = Duration::from_millis(200);
const CLAIM_PAUSE_MAX: Duration = Duration::from_secs(5);

/// What the browser side tells of an account.
#[derive(Debug)]
pub enum Sighting {
    /// A body or frame, mapped.
    Records {
        /// What it told.
        records: Vec<Record>,
        /// Rows of it that were refused.
        refused: u64,
        /// When it was captured.
        at: UnixMs,
    },
    /// A body or frame that could not be read or mapped.
    CaptureFailed,
    /// The platform takes the pages for logged in.
    LoggedIn,
    /// The pages show the login form.
    LoggedOut(String),
    /// A page has loaded.
    PageLoaded {
        /// Its name.
        page: String,
        /// The platform has no login, so that it can deliver from now on.
        without_login: bool,
    },
    /// A page does not work; it is being tried again.
    PageFailed {
        /// Its name.
        page: String,
        /// Why.
        reason: String,
    },
    /// The pages cannot be driven at all, such as without a browser; it is being tried again.
    Failing(String),
}

/// What an account's task needs.
pub struct AccountTask {
    /// The broker.
    pub broker: Broker,
    /// Which account.
    pub account: AccountId,
    /// Time between two publishes of what is not inbound.
    pub interval: Duration,
    /// This start of the worker.
    pub instance: InstanceId,
    /// Where outboxes are kept.
    pub outbox_dir: PathBuf,
    /// Where to tell how it fares.
    pub roster: Roster,
    /// The right to publish, while there is one.
    pub grants: watch::Receiver<Option<Grant>>,
    /// What the pages show.
    pub sightings: mpsc::Receiver<Sighting>,
    /// What is asked of the account.
    pub asks: mpsc::Receiver<Ask>,
    /// Persons whose records are not taken in.
    pub erasures: watch::Receiver<Arc<Vec<Erasure>>>,
    /// How the pages are told whether they may be driven.
    pub helm: Helm,
    /// Cancelled when the account is to be let go.
    pub stop: CancellationToken,
    /// Cancelled by the task when the pages are to end.
    pub released: CancellationToken,
}

/// Why an account's task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It was told to.
    Stopped,
    /// Another holder has this epoch, above ours.
    Fenced(u64),
    /// A part of it died: it is to be started anew.
    Broken(String),
}

type Claiming = JoinHandle<Result<(Publisher, u64, Window), ClaimError>>;

struct Account {
    task: AccountTask,
    window: Window,
    outbox: Option<Outbox>,
    /// What an earlier start left in the outbox, until the account is claimed.
    left: Vec<Entry>,
    /// The grant under which the account is claimed or held.
    used: Option<Grant>,
    publisher: Option<Publisher>,
    in_flight: Option<InFlight>,
    claiming: Option<Claiming>,
    claim_pause: Duration,
    /// When the next try to claim is due, where one is.
    claim_due: Option<Instant>,
    /// Ends a publish that waits for the broker.
    abandon: CancellationToken,
    /// When the next publish is due, where one is.
    due: Option<Instant>,
    /// The epoch in which the account was last held; 0 before the first.
    epoch: u64,
    captured_at: UnixMs,
    health: Health,
    trouble: Option<watch::Receiver<Option<String>>>,
    /// The window's size when a full of it was too large; it is not tried again before the window has shrunk.
    full_refused: Option<usize>,
    syncing: Option<Syncing>,
}

/// Publishes what the account's pages show, whenever it is granted, until told to stop or fenced.
pub async fn run(task: AccountTask) -> Ended {
    let mut account = Account::open(task);
    let ended = account.run().await;
    account.wind_up(&ended).await;
    ended
}

impl Account {
    fn open(task: AccountTask) -> Self {
        let (outbox, left) = match Outbox::open(&task.outbox_dir, &task.account) {
            Ok((outbox, left)) => (Some(outbox), left),
            Err(error) => {
                tracing::error!(account.id = %task.account, %error, "without outbox: a restart may lose what is not acked");
                task.roster.note_problem(&task.account, "outbox", Some(error.to_string()));
                (None, Vec::new())
            }
        };
        Self {
            health: Health::new(task.interval),
            task,
            window: Window::default(),
            outbox,
            left,
            used: None,
            publisher: None,
            in_flight: None,
            claiming: None,
            claim_pause: CLAIM_PAUSE_MIN,
            claim_due: None,
            abandon: CancellationToken::new(),
            due: None,
            epoch: 0,
            captured_at: now(),
            trouble: None,
            full_refused: None,
            syncing: None,
        }
    }

    async fn run(&mut self) -> Ended {
        let stop = self.task.stop.clone();
        let mut interval = tokio::time::interval(self.task.interval);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        interval.tick().await;
        self.task.grants.mark_changed();
        loop {
            let due = self.due.filter(|_| self.in_flight.is_none() && self.publisher.is_some());
            let used = self.used.clone();
            tokio::select! {
                () = stop.cancelled() => return Ended::Stopped,
                Ok(()) = self.task.grants.changed() => self.granted(),
                () = lapsed(used) => self.lapse(),
                claimed = joined(&mut self.claiming) => self.claimed(claimed),
                () = at(self.claim_due) => self.claim(),
                sighting = self.task.sightings.recv(), if self.window.pending_len() < window::PENDING_MAX => {
                    match sighting {
                        Some(sighting) => self.take_in(sighting),
                        None if stop.is_cancelled() => return Ended::Stopped,
                        None => return Ended::Broken("the task that drives its pages ended".to_owned()),
                    }
                }
                Some(ask) = self.task.asks.recv() => self.asked(ask),
                () = at(self.syncing.as_ref().map(Syncing::next_look)) => self.look_at_sync(),
                () = at(due) => self.publish_delta(),
                _ = interval.tick() => self.tick(),
                trouble = told(&mut self.trouble) => self.health.unpublished(trouble),
                done = joined(&mut self.in_flight) => {
                    if let Some(ended) = self.settle(done) {
                        return ended;
                    }
                }
            }
            self.show();
        }
    }

    /// The grant is another one, or gone.
    fn granted(&mut self) {
        self.let_go();
        let granted = self.task.grants.borrow_and_update().as_ref().is_some_and(Grant::holds);
        if granted {
            (self.claim_pause, self.claim_due) = (CLAIM_PAUSE_MIN, Some(Instant::now()));
        }
    }

    /// The grant is in doubt: from now on only listen.
    fn lapse(&mut self) {
        if self.epoch > 0 {
            tracing::warn!(account.id = %self.task.account, pending = self.window.pending_len(),
                "the lease is in doubt; listening, but neither publishing nor driving pages");
        }
        self.let_go();
    }

    fn let_go(&mut self) {
        self.task.helm.held(None);
        self.abandon.cancel();
        self.abandon = CancellationToken::new();
        (self.used, self.publisher, self.trouble, self.claim_due) = (None, None, None, None);
        if let Some(claiming) = self.claiming.take() {
            claiming.abort();
        }
        self.health.unpublished(None);
        if self.epoch > 0 {
            let reason =
                "the broker was not reached in time to keep the lease; what is heard is kept on disk";
            self.health.cut_off(Some(reason.to_owned()));
        }
    }

    /// Begins to restore the window and to claim the account.
    fn claim(&mut self) {
        self.claim_due = None;
        let Some(grant) = self.task.grants.borrow().clone().filter(Grant::holds) else { return };
        if self.in_flight.is_some() {
            // What is in flight was told to end; its outcome comes first.
            self.claim_due = Some(Instant::now() + CLAIM_PAUSE_MIN);
            return;
        }
        let (broker, account, instance) =
            (self.task.broker.clone(), self.task.account.clone(), self.task.instance.clone());
        let erasures = self.task.erasures.borrow().clone();
        self.used = Some(grant.clone());
        self.claiming = Some(tokio::spawn(async move {
            let mut window = Window::default();
            let mut restored = 0_usize;
            let restore = |record: Record, at| {
                if erasures.iter().any(|erasure| erasure.covers(&account, &record)) {
                    return;
                }
                window.restore(record, at);
                restored += 1;
                if restored.is_multiple_of(RESTORED_PER_EVICTION) {
                    window.evict(now(), window::RECORDS_MAX);
                }
            };
            let claim = Publisher::claim(&broker, &account, &instance, grant, now(), restore);
            let (publisher, data_epoch) = claim.await?;
            window.evict(now(), window::RECORDS_MAX);
            Ok((publisher, data_epoch, window))
        }));
    }

    fn claimed(&mut self, claimed: Option<Result<(Publisher, u64, Window), ClaimError>>) {
        let account = &self.task.account;
        let error = match claimed {
            Some(Ok((publisher, data_epoch, window))) => {
                return self.take_over(publisher, data_epoch, window);
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
    fn take_over(&mut self, publisher: Publisher, data_epoch: u64, restored: Window) {
        let (account, epoch) = (&self.task.account, publisher.epoch());
        tracing::info!(account.id = %account, epoch, restored = restored.len(), "account claimed");
        let unsent = std::mem::replace(&mut self.window, restored).into_pending();
        let earlier = self.epoch;
        let left = std::mem::take(&mut self.left).into_iter();
        let left = left.flat_map(|Entry { epoch, at, records }| {
            records.into_iter().map(move |record| (epoch, record, at))
        });
        let unsent = unsent.into_iter().map(|(record, at)| (earlier, record, at));
        let mut left_out = 0_u64;
        let erasures = self.task.erasures.borrow().clone();
        for (seen_in, record, at) in left.chain(unsent) {
            if erasures.iter().any(|erasure| erasure.covers(account, &record)) {
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
        self.task.helm.held(Some(epoch));
    }

    /// Shows how the account fares to the heartbeat.
    fn show(&self) {
        let (pending, known) = (self.window.pending_len() as u64, self.window.len() as u64);
        self.task.roster.update(&self.task.account, |health| {
            (health.pending, health.window) = (pending, known);
        });
        let (state, reason) = self.health.state();
        self.task.roster.set_state(&self.task.account, state, reason);
    }

    fn take_in(&mut self, sighting: Sighting) {
        if let Some(syncing) = &mut self.syncing {
            syncing.note(&sighting);
        }
        match sighting {
            Sighting::Records { records, refused, at } => self.observe(records, refused, at),
            Sighting::CaptureFailed => {
                self.task.roster.update(&self.task.account, |health| health.capture_errors += 1);
            }
            Sighting::LoggedIn => self.health.logged_in(),
            Sighting::LoggedOut(reason) => self.health.logged_out(reason),
            Sighting::PageLoaded { page, without_login } => self.health.page_loaded(&page, without_login),
            Sighting::PageFailed { page, reason } => self.health.page_failed(page, reason),
            Sighting::Failing(reason) => self.health.undriven(reason),
        }
    }

    fn observe(&mut self, records: Vec<Record>, refused: u64, at: UnixMs) {
        self.health.captured(records.len(), refused);
        self.captured_at = self.captured_at.max(at);
        self.task.roster.update(&self.task.account, |health| {
            health.captured += 1;
            health.refused += refused;
            health.captured_at = Some(at);
        });
        let erasures = self.task.erasures.borrow().clone();
        let (mut news, mut inbound) = (Vec::new(), false);
        for record in records {
            if erasures.iter().any(|erasure| erasure.covers(&self.task.account, &record)) {
                continue;
            }
            let is_inbound = record.is_inbound();
            if self.window.observe(record.clone(), at) != Observed::Unchanged {
                inbound |= is_inbound;
                news.push(record);
            }
        }
        if news.is_empty() {
            return;
        }
        // On disk before anything is sent: what was seen survives the worker.
        self.keep(&Entry { epoch: self.epoch, at, records: news });
        if inbound {
            let soon = Instant::now() + INBOUND_DEBOUNCE;
            self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
        }
    }

    /// Once the pages have handed over what they have captured, publishes what is left, within a grace period. What
    /// stays is on disk for the next holder on this host.
    async fn wind_up(&mut self, ended: &Ended) {
        if let Ended::Fenced(_) = ended {
            self.let_go();
        }
        self.task.released.cancel();
        let drained = tokio::time::timeout(DRAIN_TIMEOUT, async {
            while let Some(sighting) = self.task.sightings.recv().await {
                self.take_in(sighting);
            }
        });
        if drained.await.is_err() {
            tracing::warn!(account.id = %self.task.account, limit_s = DRAIN_TIMEOUT.as_secs(),
                "the pages did not hand over in time what they had captured");
        }
        self.flush().await;
        self.task.helm.held(None);
        if let Ended::Broken(reason) = ended {
            let reason = format!("{reason}; it is started anew");
            self.task.roster.set_state(&self.task.account, AccountState::Failing, Some(reason));
        }
        let pending = self.window.pending_len();
        if pending > 0 {
            tracing::warn!(account.id = %self.task.account, pending,
                "ends with records that the broker has not acked; they are in the outbox");
        }
    }
}

/// Waits for a task, if there is one, and forgets it; for ever where there is none. `None` when it died.
async fn joined<T>(task: &mut Option<JoinHandle<T>>) -> Option<T> {
    let done = match task {
        Some(running) => running.await.ok(),
        None => std::future::pending().await,
    };
    *task = None;
    done
}

/// Waits until a moment, if there is one; for ever where there is none.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Waits until a grant does not hold any more; for ever without one.
async fn lapsed(grant: Option<Grant>) {
    match grant {
        Some(grant) => grant.gate.closed(grant.term).await,
        None => std::future::pending().await,
    }
}

/// Waits for news of a publish that does not go through; for ever where nothing is published.
async fn told(trouble: &mut Option<watch::Receiver<Option<String>>>) -> Option<String> {
    if let Some(trouble) = trouble
        && trouble.changed().await.is_ok()
    {
        return trouble.borrow_and_update().clone();
    }
    std::future::pending().await
}
