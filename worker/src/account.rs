//! One account from what its pages showed to what the stream holds: window, outbox, and one publish at a time.
//!
//! Sightings come in from the browser side; nothing goes back to it. While a publish waits for the broker,
//! sightings are still taken in, so that an outage of the broker loses nothing that a page pushed.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use snapfleet_broker::Broker;
use snapfleet_protocol::{AccountId, AccountState, InstanceId, Record, UnixMs};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::outbox::{Entry, Outbox};
use crate::publish::{Outcome, Publisher, RECORDS_PER_MESSAGE};
use crate::roster::{Roster, now};
use crate::window::{self, Observed, Sent, Window};

/// Something inbound is published after this, together with what came meanwhile.
const INBOUND_DEBOUNCE: Duration = Duration::from_millis(200);
/// An account whose pages showed nothing for this many intervals is called silent.
const SILENT_INTERVALS: u32 = 3;
/// How long a browser, a page and a login may take before an account that just starts is called silent.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a stopping worker goes on trying to publish what it has.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(4);
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
    last_sighting: Instant,
    /// Pages that do not work.
    failing: BTreeSet<String>,
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
            let claim = Publisher::claim(&task.broker, &task.account, &task.instance, now(), |record, at| {
                window.restore(record, at);
            });
            let claimed = tokio::select! {
                claimed = claim => claimed,
                () = task.stop.cancelled() => return None,
            };
            match claimed {
                Ok((publisher, epoch_before)) => {
                    let epoch = publisher.epoch();
                    tracing::info!(account.id = %task.account, epoch, restored = window.len(), "account claimed");
                    task.roster.update(&task.account, |health| health.epoch = epoch);
                    let mut account = Self {
                        task,
                        window,
                        outbox,
                        publisher: Some(publisher),
                        in_flight: None,
                        abandon: CancellationToken::new(),
                        due: None,
                        epoch,
                        captured_at: now(),
                        last_sighting: Instant::now(),
                        failing: BTreeSet::new(),
                    };
                    account.take_in_outbox(left, epoch_before);
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

    /// Takes in what an earlier start saw and could not publish. Had somebody else held the account since, it
    /// only adds what is unknown.
    fn take_in_outbox(&mut self, left: Vec<Entry>, epoch_before: u64) {
        for entry in left {
            if entry.epoch < epoch_before {
                for record in entry.records {
                    self.window.observe_if_unknown(record, entry.at);
                }
                continue;
            }
            // Under the new epoch as well, so that one more restart does not take it for somebody else's.
            self.keep(Entry { epoch: self.epoch, ..entry.clone() });
            for record in entry.records {
                self.window.observe(record, entry.at);
            }
        }
        let pending = self.window.pending_len();
        if pending > 0 {
            tracing::info!(account.id = %self.task.account, pending, "records of an earlier start are published now");
            self.due = Some(Instant::now());
        }
    }

    fn keep(&mut self, entry: Entry) {
        if let Some(outbox) = &mut self.outbox
            && let Err(error) = outbox.append(&entry)
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
                        None => return,
                    }
                }
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.publish_delta(),
                _ = interval.tick() => self.tick(),
                done = settled(&mut self.in_flight) => {
                    self.in_flight = None;
                    if !self.settle(done) {
                        return;
                    }
                }
            }
            let (pending, known) = (self.window.pending_len() as u64, self.window.len() as u64);
            self.task.roster.update(&self.task.account, |health| {
                (health.pending, health.window) = (pending, known);
            });
        }
    }

    fn take_in(&mut self, sighting: Sighting) {
        let (account, roster) = (&self.task.account, &self.task.roster);
        match sighting {
            Sighting::Records { records, refused, at } => self.observe(records, refused, at),
            Sighting::CaptureFailed => roster.update(account, |health| health.capture_errors += 1),
            Sighting::LoggedIn => {
                self.last_sighting = Instant::now();
                roster.set_state(account, AccountState::Capturing, None);
            }
            Sighting::LoggedOut(reason) => roster.set_state(account, AccountState::LoggedOut, Some(reason)),
            Sighting::PageLoaded { page, without_login } => {
                self.failing.remove(&page);
                let state = roster.state(account);
                let recovered = state == Some(AccountState::Failing) && self.failing.is_empty();
                if recovered || (state == Some(AccountState::Starting) && without_login) {
                    self.last_sighting = Instant::now();
                    roster.set_state(account, AccountState::Capturing, None);
                }
            }
            Sighting::PageFailed { page, reason } => {
                let reason = format!("page {page:?} does not work: {reason}");
                self.failing.insert(page);
                roster.set_state(account, AccountState::Failing, Some(reason));
            }
            Sighting::Failing(reason) => {
                self.failing.clear();
                roster.set_state(account, AccountState::Failing, Some(reason));
            }
        }
    }

    fn observe(&mut self, records: Vec<Record>, refused: u64, at: UnixMs) {
        self.last_sighting = Instant::now();
        self.captured_at = self.captured_at.max(at);
        self.task.roster.update(&self.task.account, |health| {
            health.captured += 1;
            health.refused += refused;
            health.captured_at = Some(at);
        });
        if self.task.roster.state(&self.task.account) == Some(AccountState::Silent) {
            self.task.roster.set_state(&self.task.account, AccountState::Capturing, None);
        }
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
        self.keep(Entry { epoch: self.epoch, at, records: news });
        if inbound {
            let soon = Instant::now() + INBOUND_DEBOUNCE;
            self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
        }
    }

    /// Once an interval: publishes what changed, a full where one is due, and looks whether anything comes.
    fn tick(&mut self) {
        self.window.evict(now(), window::RECORDS_MAX);
        let silent_for = self.last_sighting.elapsed();
        let intervals = self.task.interval * SILENT_INTERVALS;
        let expected_within = match self.task.roster.state(&self.task.account) {
            Some(AccountState::Capturing) => Some(intervals),
            Some(AccountState::Starting) => Some(intervals.max(START_TIMEOUT)),
            _ => None,
        };
        if expected_within.is_some_and(|limit| silent_for > limit) {
            let reason =
                format!("nothing captured for {} s: does the page still work?", silent_for.as_secs());
            self.task.roster.set_state(&self.task.account, AccountState::Silent, Some(reason));
        }
        if self.in_flight.is_some() {
            return;
        }
        let full_is_due = self.publisher.as_ref().is_some_and(Publisher::full_is_due);
        if full_is_due && !self.window.is_empty() {
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
            let reason = "the publishing task died, see its panic above".to_owned();
            self.task.roster.set_state(account, AccountState::Failing, Some(reason));
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
                let reason = format!("another worker holds the account with epoch {epoch}");
                self.task.roster.set_state(account, AccountState::Fenced, Some(reason));
                return false;
            }
            Outcome::TooLarge { bytes } if kind == "delta" => {
                let dropped = self.window.drop_oldest_pending();
                tracing::error!(account.id = %account, bytes, record.id = dropped.as_ref().map(|record| record.id().as_str()),
                    "a record is larger than the broker takes and is left out: raise max_payload in nats.conf");
                self.task.roster.update(account, |health| health.refused += 1);
                self.due = (self.window.pending_len() > 0).then(Instant::now);
            }
            Outcome::TooLarge { bytes } => tracing::error!(account.id = %account, bytes,
                "the account's window does not fit one batch: a rebuilt master would lack it"),
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
        if self.window.pending_len() > 0 {
            self.due = Some(Instant::now());
        } else if let Some(outbox) = &mut self.outbox
            && let Err(error) = outbox.clear()
        {
            tracing::error!(account.id = %account, %error, "the outbox cannot be emptied");
        }
    }

    /// Publishes what is left, within the grace period. What stays is on disk for the next start.
    async fn flush(&mut self) {
        while let Ok(sighting) = self.task.sightings.try_recv() {
            self.take_in(sighting);
        }
        let fenced = self.task.roster.state(&self.task.account) == Some(AccountState::Fenced);
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
