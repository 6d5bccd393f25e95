//! One account from what its pages showed to what the stream holds: window, outbox, and one publish at a time.
//!
//! Sightings come in from the browser side. While a publish waits for the broker, and while the account is not held
//! because this worker was cut off, sightings are still taken in, so that an outage loses nothing that a page pushed.
//! Only with a [`Grant`] is anything published or a page driven; each grant begins with a claim on the subject.

mod claiming;
mod health;
mod publishing;
mod sync;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use snapfleet_broker::Broker;
use snapfleet_protocol::{AccountId, AccountState, Erasures, InstanceId, Record, UnixMs};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::normalise::CompleteList;
use crate::outbox::{Entry, Outbox};
use crate::publish::{Grant, Lanes, Publisher, Resume};
use crate::roster::{Roster, now};
use crate::steering::Helm;
use crate::window::{self, Observed, Window};
use claiming::{CLAIM_PAUSE_MIN, Claiming};
use health::Health;
use publishing::InFlight;
pub use sync::Ask;
use sync::Syncing;

/// Something inbound is published after this, together with what came meanwhile.
const INBOUND_DEBOUNCE: Duration = Duration::from_millis(200);
/// How long the pages of a stopping account may take to hand over what they have captured.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(8);

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
    /// Lists of a body or frame beyond which there is nothing. They follow its records.
    Complete {
        /// What they hold.
        lists: Vec<CompleteList>,
        /// When they were captured.
        at: UnixMs,
    },
    /// A page was looked at and still shows what it showed before.
    Alive(UnixMs),
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
    /// The platform's file was changed, and the account has so many pages now.
    Replanned {
        /// How many.
        pages: usize,
    },
    /// Why the changed file of its platform is not used for the account; `None` once a version is.
    PlatformMisfit(Option<String>),
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
    /// How many pages it has.
    pub pages: usize,
    /// How much this worker does at once.
    pub lanes: Arc<Lanes>,
    /// What is asked of the account.
    pub asks: mpsc::Receiver<Ask>,
    /// Persons whose records are not taken in.
    pub erasures: watch::Receiver<Arc<Erasures>>,
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

struct Account {
    task: AccountTask,
    window: Window,
    outbox: Option<Outbox>,
    /// Writing the outbox anew has not made it much smaller.
    outbox_dense: bool,
    /// What an earlier start left in the outbox, until the account is claimed.
    left: Vec<Entry>,
    /// The grant under which the account is claimed or held.
    used: Option<Grant>,
    publisher: Option<Publisher>,
    in_flight: Option<InFlight>,
    claiming: Option<Claiming>,
    /// Where the stream stood when the account was last held: if it still does, the window need not be read back.
    resume: Option<Resume>,
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
    /// Persons whose records are not taken in, with what follows from their conversations.
    erasures: Erasures,
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
        let erasures = Erasures::clone(&task.erasures.borrow());
        Self {
            health: Health::new(task.interval),
            erasures,
            task,
            window: Window::default(),
            outbox,
            outbox_dense: false,
            left,
            used: None,
            publisher: None,
            in_flight: None,
            claiming: None,
            resume: None,
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
                Ok(()) = self.task.erasures.changed() => self.erase(),
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
        if let Some(publisher) = &self.publisher {
            self.resume = Some(publisher.resume());
        }
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
            Sighting::Complete { lists, at } => self.observe_complete(&lists, at),
            Sighting::Alive(at) => {
                self.health.captured(0, 0);
                self.captured_at = self.captured_at.max(at);
                self.task.roster.update(&self.task.account, |health| health.captured_at = Some(at));
            }
            Sighting::CaptureFailed => {
                self.task.roster.update(&self.task.account, |health| health.capture_errors += 1);
            }
            Sighting::LoggedIn => self.health.logged_in(),
            Sighting::LoggedOut(reason) => self.health.logged_out(reason),
            Sighting::PageLoaded { page, without_login } => self.health.page_loaded(&page, without_login),
            Sighting::PageFailed { page, reason } => self.health.page_failed(page, reason),
            Sighting::Replanned { pages } => {
                self.task.pages = pages;
                self.health.replanned();
                self.task.roster.note_problem(&self.task.account, "platform", None);
            }
            Sighting::PlatformMisfit(reason) => {
                self.task.roster.note_problem(&self.task.account, "platform", reason);
            }
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
        self.note(records, at);
    }

    /// Absence is never deletion, except in a list that is complete.
    fn observe_complete(&mut self, lists: &[CompleteList], at: UnixMs) {
        for list in lists {
            let gone = self.window.observe_complete(list, at);
            if !gone.is_empty() {
                tracing::info!(account.id = %self.task.account, records = gone.len(), "comments are gone from complete lists");
                self.note(gone, at);
            }
        }
    }

    /// Takes records into the window, and what they tell anew into the outbox.
    fn note(&mut self, records: Vec<Record>, at: UnixMs) {
        let (mut news, mut inbound) = (Vec::new(), false);
        for record in records {
            if is_erased(&mut self.erasures, &record) {
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

    /// Somebody was erased: lets go of their records, on disk as well, so that no later full tells of them.
    fn erase(&mut self) {
        self.erasures = Erasures::clone(&self.task.erasures.borrow_and_update());
        let erasures = &mut self.erasures;
        let mut erased = 0;
        // A second look finds the messages of a conversation that the first look found.
        for _ in 0..2 {
            erased += self.window.remove(|record| is_erased(erasures, record));
        }
        for entry in &mut self.left {
            entry.records.retain(|record| !is_erased(erasures, record));
        }
        tracing::info!(account.id = %self.task.account, records = erased, "an erased person's records are let go");
        if self.epoch > 0 {
            self.rewrite_outbox();
        }
    }

    /// Once the pages have handed over what they have captured, publishes what is left, within a grace period. What
    /// stays is on disk for the next holder on this host.
    async fn wind_up(&mut self, ended: &Ended) {
        if matches!(ended, Ended::Fenced(_)) || self.task.grants.borrow().is_none() {
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

/// Whether a record is not to be taken in; notes what follows from it.
fn is_erased(erasures: &mut Erasures, record: &Record) -> bool {
    if let Some(implied) = erasures.implied(record) {
        erasures.insert(implied);
    }
    erasures.covering(record).is_some()
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
