//! One account from what its pages showed to what the stream holds: window, outbox, and one publish at a time.
//!
//! Sightings come in from the browser side; nothing goes back to it. While a publish waits for the broker,
//! sightings are still taken in, so that an outage of the broker loses nothing that a page pushed.

mod health;

use std::path::PathBuf;
use std::time::Duration;

use snapfleet_broker::Broker;
use snapfleet_protocol::{AccountId, AccountState, InstanceId, Record, UnixMs};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::outbox::{Entry, Outbox};
use crate::publish::{Outcome, Publisher, RECORDS_PER_MESSAGE};
use crate::roster::{Roster, now};
use crate::window::{self, Observed, Sent, Window};
use health::Health;

/// Something inbound is published after this, together with what came meanwhile.
const INBOUND_DEBOUNCE: Duration = Duration::from_millis(200);
/// How long a stopping worker goes on trying to publish what it has.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(4);
/// How long the pages of a stopping worker may take to hand over what they have captured.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(8);
/// While an account is claimed, its window is kept to its bound after this many records.
const RESTORED_PER_EVICTION: usize = 5_000;
/// An outbox that has grown beyond this is written anew with what is still pending, in bytes.
const OUTBOX_REWRITE_BYTES: u64 = 4 * 1024 * 1024;
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
    /// What the pages show.
    pub sightings: mpsc::Receiver<Sighting>,
    /// Cancelled when the worker stops.
    pub stop: CancellationToken,
    /// Cancelled by the task once the account is claimed: the pages may open.
    pub claimed: CancellationToken,
    /// Cancelled by the task when the account is not to be driven any more.
    pub released: CancellationToken,
}

enum Work {
    Delta(Sent),
    Full(Sent),
}

type InFlight = JoinHandle<(Publisher, Work, usize, Outcome)>;

struct Account {
    task: AccountTask,
    window: Window,
    outbox: Option<Outbox>,
    publisher: Option<Publisher>,
    in_flight: Option<InFlight>,
    /// Ends a publish that waits for the broker; cancelled only when the grace period is over.
    abandon: CancellationToken,
    /// When the next publish is due, where one is.
    due: Option<Instant>,
    epoch: u64,
    captured_at: UnixMs,
    health: Health,
    trouble: watch::Receiver<Option<String>>,
    /// The window's size when a full of it was too large; it is not tried again before the window has shrunk.
    full_refused: Option<usize>,
}

/// Claims the account, then publishes what its pages show until told to stop or fenced.
pub async fn run(task: AccountTask) {
    let released = task.released.clone();
    if let Some(mut account) = Account::claim(task).await {
        account.task.claimed.cancel();
        account.run().await;
        account.flush().await;
    }
    released.cancel();
}

impl Account {
    /// Restores window and outbox and claims the account, trying until it succeeds or the worker stops.
    async fn claim(task: AccountTask) -> Option<Self> {
        let (outbox, left) = match Outbox::open(&task.outbox_dir, &task.account) {
            Ok((outbox, left)) => (Some(outbox), left),
            Err(error) => {
                tracing::error!(account.id = %task.account, %error, "without outbox: a restart may lose what is not acked");
                (None, Vec::new())
            }
        };
        let mut pause = CLAIM_PAUSE_MIN;
        loop {
            let mut window = Window::default();
            let mut restored = 0_usize;
            let restore = |record, at| {
                window.restore(record, at);
                restored += 1;
                if restored.is_multiple_of(RESTORED_PER_EVICTION) {
                    window.evict(now(), window::RECORDS_MAX);
                }
            };
            let claim = Publisher::claim(&task.broker, &task.account, &task.instance, now(), restore);
            let claimed = tokio::select! {
                claimed = claim => claimed,
                () = task.stop.cancelled() => return None,
            };
            match claimed {
                Ok((publisher, data_epoch)) => {
                    window.evict(now(), window::RECORDS_MAX);
                    let epoch = publisher.epoch();
                    tracing::info!(account.id = %task.account, epoch, restored = window.len(), "account claimed");
                    task.roster.update(&task.account, |health| health.epoch = epoch);
                    task.roster.set_state(&task.account, AccountState::Starting, None);
                    let mut account = Self {
                        health: Health::new(task.interval),
                        trouble: publisher.trouble(),
                        full_refused: None,
                        task,
                        window,
                        outbox,
                        publisher: Some(publisher),
                        in_flight: None,
                        abandon: CancellationToken::new(),
                        due: None,
                        epoch,
                        captured_at: now(),
                    };
                    account.take_in_outbox(left, data_epoch);
                    return Some(account);
                }
                Err(error) => {
                    let reason = format!("cannot be claimed: {error}");
                    tracing::warn!(account.id = %task.account, %error, retry_ms = pause.as_millis() as u64,
                        "account cannot be claimed; trying again");
                    task.roster.set_state(&task.account, AccountState::Failing, Some(reason));
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause + pause.mul_f64(fastrand::f64() / 4.0)) => {}
                () = task.stop.cancelled() => return None,
            }
            pause = (pause * 2).min(CLAIM_PAUSE_MAX);
        }
    }

    /// Takes in what an earlier start saw and could not publish. Had somebody else published for the account since,
    /// it only adds what is unknown.
    fn take_in_outbox(&mut self, left: Vec<Entry>, data_epoch: u64) {
        let mut left_out = 0;
        for entry in left {
            for record in entry.records {
                if entry.epoch >= data_epoch {
                    self.window.observe_again(record, entry.at);
                } else if self.window.observe_if_unknown(record, entry.at) == Observed::Unchanged {
                    left_out += 1;
                }
            }
        }
        if left_out > 0 {
            tracing::warn!(account.id = %self.task.account, records = left_out,
                "records of an earlier start are left out: another worker has published newer ones since");
        }
        if self.window.pending_len() > 0 {
            let pending = self.window.pending_len();
            tracing::info!(account.id = %self.task.account, pending, "records of an earlier start are published now");
            self.due = Some(Instant::now());
        }
        // Under this epoch from now on, so that one more restart does not take them for somebody else's.
        self.rewrite_outbox();
    }

    /// Writes the outbox anew with what the stream lacks.
    fn rewrite_outbox(&mut self) {
        let (records, _) = self.window.delta(usize::MAX);
        let Some(outbox) = &mut self.outbox else { return };
        let rewritten = if records.is_empty() {
            outbox.clear()
        } else {
            outbox.replace(&Entry { epoch: self.epoch, at: self.captured_at, records })
        };
        if let Err(error) = rewritten {
            tracing::error!(account.id = %self.task.account, %error, "the outbox cannot be written anew");
        }
    }

    fn keep(&mut self, entry: &Entry) {
        if let Some(outbox) = &mut self.outbox
            && let Err(error) = outbox.append(entry)
        {
            tracing::error!(account.id = %self.task.account, %error, "records are kept in memory alone");
        }
    }

    async fn run(&mut self) {
        let stop = self.task.stop.clone();
        let mut interval = tokio::time::interval(self.task.interval);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        interval.tick().await;
        loop {
            let due = self.due.filter(|_| self.in_flight.is_none());
            tokio::select! {
                () = stop.cancelled() => return,
                sighting = self.task.sightings.recv(), if self.window.pending_len() < window::PENDING_MAX => {
                    match sighting {
                        Some(sighting) => self.take_in(sighting),
                        None if stop.is_cancelled() => return,
                        None => {
                            self.health.undriven("the task that drives them ended; restart the worker".to_owned());
                            self.show();
                            return;
                        }
                    }
                }
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.publish_delta(),
                _ = interval.tick() => self.tick(),
                Ok(()) = self.trouble.changed() => {
                    let trouble = self.trouble.borrow_and_update().clone();
                    self.health.unpublished(trouble);
                }
                done = settled(&mut self.in_flight) => {
                    self.in_flight = None;
                    if !self.settle(done) {
                        return;
                    }
                }
            }
            self.show();
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
        let (mut news, mut inbound) = (Vec::new(), false);
        for record in records {
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

    /// Once an interval: publishes what changed, and a full where one is due.
    fn tick(&mut self) {
        self.window.evict(now(), window::RECORDS_MAX);
        if self.in_flight.is_some() {
            return;
        }
        let full_fits = self.full_refused.is_none_or(|len| self.window.len() < len);
        let full_is_due = self.publisher.as_ref().is_some_and(Publisher::full_is_due);
        if full_is_due && full_fits && !self.window.is_empty() {
            self.publish_full();
        } else if self.window.pending_len() > 0 {
            self.publish_delta();
        }
    }

    fn publish_delta(&mut self) {
        self.due = None;
        let Some(mut publisher) = self.publisher.take() else { return };
        let (records, sent) = self.window.delta(RECORDS_PER_MESSAGE);
        if records.is_empty() {
            self.publisher = Some(publisher);
            return;
        }
        let (broker, at, abandon) = (self.task.broker.clone(), self.captured_at, self.abandon.clone());
        self.in_flight = Some(tokio::spawn(async move {
            let (count, outcome) = publisher.publish_delta(&broker, records, at, &abandon).await;
            (publisher, Work::Delta(sent), count, outcome)
        }));
    }

    fn publish_full(&mut self) {
        self.due = None;
        let Some(mut publisher) = self.publisher.take() else { return };
        let (records, sent) = self.window.full();
        let (broker, at, abandon) = (self.task.broker.clone(), self.captured_at, self.abandon.clone());
        let count = records.len();
        self.in_flight = Some(tokio::spawn(async move {
            let outcome = publisher.publish_full(&broker, records, at, &abandon).await;
            (publisher, Work::Full(sent), count, outcome)
        }));
    }

    /// Draws the conclusion from a publish that ended; false when the account is to be let go.
    fn settle(&mut self, done: Option<(Publisher, Work, usize, Outcome)>) -> bool {
        let account = &self.task.account;
        let Some((publisher, work, count, outcome)) = done else {
            tracing::error!(account.id = %account, "the publishing task died");
            self.health.unpublished(Some("the publishing task died; restart the worker".to_owned()));
            self.show();
            return false;
        };
        self.publisher = Some(publisher);
        let (kind, mut sent) = match work {
            Work::Delta(sent) => ("delta", sent),
            Work::Full(sent) => ("full", sent),
        };
        match outcome {
            Outcome::Acked { seq } => {
                sent.truncate(count);
                self.window.acked(&sent);
                self.note_published(kind, count, seq);
            }
            Outcome::Folded(records) => {
                tracing::warn!(account.id = %account, records = records.len(),
                    "somebody else published for the account; folded in, publishing again");
                for (record, at) in records {
                    self.window.restore(record, at);
                }
                self.due = Some(Instant::now());
            }
            Outcome::Emptied => {
                tracing::warn!(account.id = %account, "the stream was made anew; publishing everything again");
                self.window.forget_acks();
                self.due = Some(Instant::now());
            }
            Outcome::Fenced { epoch } => {
                tracing::warn!(account.id = %account, epoch, ours = self.epoch, "another worker has claimed the account");
                let reason =
                    "another worker has claimed it: leave it in one worker's file, and restart that worker"
                        .to_owned();
                self.task.roster.set_state(account, AccountState::CutOff, Some(reason));
                return false;
            }
            Outcome::TooLarge { bytes } if kind == "delta" => {
                if let Some(record) = self.window.give_up_first(&sent) {
                    tracing::error!(account.id = %account, bytes, record.kind = %record.kind(), record.id = %record.id(),
                        "a record is larger than the broker takes and is left out: raise max_payload in nats.conf");
                    self.task.roster.update(account, |health| health.refused += 1);
                }
                self.due = (self.window.pending_len() > 0).then(Instant::now);
            }
            Outcome::TooLarge { bytes } => {
                tracing::error!(account.id = %account, bytes,
                    "the account's window does not fit one batch and is published as deltas alone");
                self.full_refused = Some(self.window.len());
                self.due = (self.window.pending_len() > 0).then(Instant::now);
            }
            Outcome::Stopped => {}
        }
        true
    }

    fn note_published(&mut self, kind: &str, records: usize, seq: u64) {
        let account = &self.task.account;
        tracing::info!(account.id = %account, kind, records, stream.seq = seq, epoch = self.epoch, "published");
        self.task.roster.update(account, |health| {
            health.published += 1;
            health.published_at = Some(now());
        });
        let pending = self.window.pending_len();
        if pending > 0 {
            self.due = Some(Instant::now());
        }
        if pending == 0 || self.outbox.as_ref().is_some_and(|outbox| outbox.bytes() > OUTBOX_REWRITE_BYTES) {
            self.rewrite_outbox();
        }
    }

    /// Publishes what is left, within the grace period. What stays is on disk for the next start.
    async fn flush(&mut self) {
        // The pages are told to end, and hand over what they still have; then their side closes the channel.
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
        let fenced = self.task.roster.state(&self.task.account) == Some(AccountState::CutOff);
        let deadline = Instant::now() + FLUSH_TIMEOUT;
        while !fenced && (self.in_flight.is_some() || self.window.pending_len() > 0) {
            if self.in_flight.is_none() {
                self.publish_delta();
            }
            let done = tokio::time::timeout_at(deadline, settled(&mut self.in_flight)).await;
            let Ok(done) = done else { break };
            self.in_flight = None;
            if !self.settle(done) {
                break;
            }
        }
        self.abandon.cancel();
        let pending = self.window.pending_len();
        if pending > 0 {
            tracing::warn!(account.id = %self.task.account, pending,
                "stopped with records that the broker has not acked; they are in the outbox");
        }
    }
}

/// Waits for the publish in flight; for ever where there is none. `None` when its task died.
async fn settled(in_flight: &mut Option<InFlight>) -> Option<(Publisher, Work, usize, Outcome)> {
    match in_flight {
        Some(task) => task.await.ok(),
        None => std::future::pending().await,
    }
}
