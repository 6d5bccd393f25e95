//! What an account publishes, and what it concludes from the broker's answer.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{Account, Ended, joined};
use crate::outbox::{Entry, FILE_BYTES_MAX, OutboxError};
use crate::publish::{Outcome, Publisher, RECORDS_PER_MESSAGE};
use crate::roster::now;
use crate::window::{self, Sent};

/// How long an account that is let go goes on trying to publish what it has.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(4);
/// An outbox that has grown beyond this is written anew with what is still pending, in bytes.
const OUTBOX_REWRITE_BYTES: u64 = 4 * 1024 * 1024;

pub(super) enum Work {
    Delta(Sent),
    Full(Sent),
}

pub(super) type Done = (Publisher, Work, usize, Outcome);
pub(super) type InFlight = JoinHandle<Done>;

impl Account {
    /// Once an interval: publishes what changed, and a full where one is due.
    pub(super) fn tick(&mut self) {
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

    pub(super) fn publish_delta(&mut self) {
        let Some(mut publisher) = self.publisher.take() else { return };
        self.due = None;
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
        let Some(mut publisher) = self.publisher.take() else { return };
        self.due = None;
        let (records, sent) = self.window.full();
        let (broker, at, abandon) = (self.task.broker.clone(), self.captured_at, self.abandon.clone());
        let count = records.len();
        self.in_flight = Some(tokio::spawn(async move {
            let outcome = publisher.publish_full(&broker, records, at, &abandon).await;
            (publisher, Work::Full(sent), count, outcome)
        }));
    }

    /// Draws the conclusion from a publish that ended; `Some` when the account is to be let go.
    pub(super) fn settle(&mut self, done: Option<Done>) -> Option<Ended> {
        let account = &self.task.account;
        let Some((publisher, work, count, outcome)) = done else {
            tracing::error!(account.id = %account, "the publishing task died");
            return Some(Ended::Broken("the publishing task died".to_owned()));
        };
        let last = publisher.last();
        // One whose grant is over publishes no more; what it was told counts all the same.
        if self.used.is_some() && publisher.grant().holds() {
            self.publisher = Some(publisher);
        } else {
            self.resume = Some(publisher.resume());
        }
        let (kind, mut sent) = match work {
            Work::Delta(sent) => ("delta", sent),
            Work::Full(sent) => ("full", sent),
        };
        match outcome {
            Outcome::Acked { seq } => {
                sent.truncate(count);
                let before = self.window.pending_len();
                self.window.acked(&sent);
                if let Some(syncing) = &mut self.syncing {
                    // A full may tell of what was pending as well, and tells again what the stream has.
                    syncing.published(before.saturating_sub(self.window.pending_len()));
                }
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
                tracing::warn!(account.id = %account, stream.seq = last, "the subject was emptied; publishing everything again");
                self.window.forget_acks();
                self.due = Some(Instant::now());
            }
            Outcome::Fenced { epoch } => {
                tracing::warn!(account.id = %account, epoch, ours = self.epoch, "another worker has claimed the account; it is let go");
                return Some(Ended::Fenced(epoch));
            }
            Outcome::TooLarge { bytes } if kind == "delta" => self.give_up_first(&sent, bytes),
            Outcome::TooLarge { bytes } => {
                tracing::error!(account.id = %account, bytes,
                    "the account's window does not fit one batch and is published as deltas alone");
                self.full_refused = Some(self.window.len());
                self.due = (self.window.pending_len() > 0).then(Instant::now);
            }
            Outcome::Stopped => {}
        }
        None
    }

    fn give_up_first(&mut self, sent: &Sent, bytes: usize) {
        let account = &self.task.account;
        if let Some(record) = self.window.give_up_first(sent) {
            tracing::error!(account.id = %account, bytes, record.kind = %record.kind(), record.id = %record.id(),
                "a record is larger than the broker takes and is left out: raise max_payload in nats.conf");
            self.task.roster.update(account, |health| health.refused += 1);
        }
        self.due = (self.window.pending_len() > 0).then(Instant::now);
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

    /// Publishes what is left, within the grace period.
    pub(super) async fn flush(&mut self) {
        let deadline = Instant::now() + FLUSH_TIMEOUT;
        while self.in_flight.is_some() || (self.publisher.is_some() && self.window.pending_len() > 0) {
            if self.in_flight.is_none() {
                self.publish_delta();
            }
            let done = tokio::time::timeout_at(deadline, joined(&mut self.in_flight)).await;
            let Ok(done) = done else { break };
            if self.settle(done).is_some() {
                self.publisher = None;
            }
        }
        self.abandon.cancel();
    }

    /// Writes the outbox anew with what the stream lacks.
    pub(super) fn rewrite_outbox(&mut self) {
        let (records, _) = self.window.delta(usize::MAX);
        let (epoch, at) = (self.epoch, self.captured_at);
        self.outbox_dense = false;
        self.with_outbox(|outbox| {
            if records.is_empty() { outbox.clear() } else { outbox.rewrite(&[Entry { epoch, at, records }]) }
        });
    }

    /// Puts what was seen on disk.
    pub(super) fn keep(&mut self, entry: &Entry) {
        let Some(outbox) = &mut self.outbox else { return };
        let appended = outbox.append(entry);
        // It holds every change of a record, of which the newest is what counts; unless that has not helped before.
        if matches!(appended, Err(OutboxError::Full { .. })) && !self.outbox_dense {
            self.rewrite_outbox();
            let bytes = self.outbox.as_ref().map_or(0, crate::outbox::Outbox::bytes);
            self.outbox_dense = bytes > FILE_BYTES_MAX / 2;
            return;
        }
        self.with_outbox(|_| appended);
    }

    /// Tells once that the outbox does not work, and when it does again.
    fn with_outbox(
        &mut self,
        work: impl FnOnce(&mut crate::outbox::Outbox) -> Result<(), crate::outbox::OutboxError>,
    ) {
        let Some(outbox) = &mut self.outbox else { return };
        let problem = work(outbox).err().map(|error| error.to_string());
        let changed = self.task.roster.note_problem(&self.task.account, "outbox", problem.clone());
        match problem {
            Some(error) if changed => tracing::error!(account.id = %self.task.account, error,
                "the outbox does not work; records are kept in memory alone"),
            None if changed => tracing::info!(account.id = %self.task.account, "the outbox works again"),
            _ => {}
        }
    }
}
