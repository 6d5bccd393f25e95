//! What is known of one account: the records its pages showed lately, and which of them the stream lacks.
//!
//! It is a value: it knows neither the browser nor the broker. Memory is bounded by [`RECORDS_MAX`]; a record
//! that leaves the window is only forgotten here, never deleted anywhere.

mod absence;

use std::collections::{BTreeMap, HashMap};

use snapfleet_protocol::{Record, RecordId, RecordKind, UnixMs};

pub use absence::ABSENT_MS_MIN;

/// The most records in an account's window; the ones seen longest ago leave first.
pub const RECORDS_MAX: usize = 20_000;
/// A record that was not seen for this long leaves the window, in milliseconds (90 days).
pub const SEEN_MS_MAX: i64 = 90 * 24 * 3_600 * 1_000;
/// From this many records on that the stream lacks, the account takes in no more until some are acked.
pub const PENDING_MAX: usize = 50_000;

type Key = (RecordKind, RecordId);

#[derive(Debug)]
struct Known {
    record: Record,
    seen_at: UnixMs,
    /// When this process saw what it holds; `None` for what was read back, which may stem from another clock.
    observed_at: Option<UnixMs>,
    /// When the first complete list came that lacks it, since it was last seen.
    absent_since: Option<UnixMs>,
    /// Changes with the record: an ack counts only for the revision that was sent.
    revision: u64,
    pending: bool,
}

impl Known {
    /// Notes a sighting, also one that tells nothing new.
    fn seen(&mut self, at: UnixMs) {
        self.seen_at = self.seen_at.max(at);
        self.absent_since = self.absent_since.filter(|since| *since > at);
    }
}

/// What an observation did to the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observed {
    /// The record was not known.
    New,
    /// It was known with other values.
    Changed,
    /// It told nothing new.
    Unchanged,
}

/// Names what was sent, so that its ack can be noted.
#[derive(Debug, Clone)]
pub struct Sent(Vec<(Key, u64)>);

impl Sent {
    /// Only the first `count` records were sent after all.
    pub fn truncate(&mut self, count: usize) {
        self.0.truncate(count);
    }
}

/// The records of one account.
#[derive(Debug, Default)]
pub struct Window {
    known: HashMap<Key, Known>,
    /// Records that the stream lacks, oldest change first.
    pending: BTreeMap<u64, Key>,
    revisions: u64,
}

impl Window {
    /// Takes in a record that a page showed at `at`. What it tells anew is to be published. An older sighting than
    /// the last one (bodies overtake each other on their way) only tells what was not known.
    pub fn observe(&mut self, record: Record, at: UnixMs) -> Observed {
        self.put(record, at, Some(at), true)
    }

    /// Takes in a record that an earlier start saw and could not publish.
    pub fn observe_again(&mut self, record: Record, at: UnixMs) -> Observed {
        self.put(record, at, None, true)
    }

    /// Takes in a record that was seen before somebody else held the account: it may add, never overwrite.
    pub fn observe_if_unknown(&mut self, record: Record, at: UnixMs) -> Observed {
        if self.known.contains_key(&(record.kind(), record.id().clone())) {
            return Observed::Unchanged;
        }
        self.put(record, at, None, true)
    }

    /// Takes in a record that the stream holds: newer than what is known, unless that is to be published.
    pub fn restore(&mut self, record: Record, at: UnixMs) {
        let key = (record.kind(), record.id().clone());
        if let Some(known) = self.known.get_mut(&key)
            && known.pending
        {
            let ours = std::mem::replace(&mut known.record, record);
            known.record.merge(ours);
            return;
        }
        self.put(record, at, None, false);
    }

    fn put(&mut self, record: Record, at: UnixMs, observed_at: Option<UnixMs>, pending: bool) -> Observed {
        let key = (record.kind(), record.id().clone());
        let Some(known) = self.known.get_mut(&key) else {
            self.revisions += 1;
            if pending {
                self.pending.insert(self.revisions, key.clone());
            }
            let revision = self.revisions;
            self.known.insert(
                key,
                Known { record, seen_at: at, observed_at, absent_since: None, revision, pending },
            );
            return Observed::New;
        };
        let overtaken = observed_at.is_some() && observed_at < known.observed_at;
        let merged = if overtaken {
            let mut older = record;
            older.merge(known.record.clone());
            older
        } else {
            let mut newer = known.record.clone();
            newer.merge(record);
            newer
        };
        known.seen(at);
        known.observed_at = known.observed_at.max(observed_at);
        if merged == known.record {
            return Observed::Unchanged;
        }
        known.record = merged;
        if known.pending {
            self.pending.remove(&known.revision);
        }
        self.revisions += 1;
        known.revision = self.revisions;
        known.pending = pending;
        if pending {
            self.pending.insert(self.revisions, key);
        }
        Observed::Changed
    }

    /// How many records are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// How many records the stream lacks.
    #[must_use]
    pub fn pending_len(&self) -> usize {
        self.pending.len()
    }

    /// The records that the stream lacks, oldest change first, at most `limit`.
    #[must_use]
    pub fn delta(&self, limit: usize) -> (Vec<Record>, Sent) {
        self.collect(self.pending.values().take(limit))
    }

    /// Names the newest change, so that it can be told later whether everything up to it is published.
    #[must_use]
    pub fn newest_change(&self) -> u64 {
        self.revisions
    }

    /// Whether the stream has every change up to this one.
    #[must_use]
    pub fn is_published_up_to(&self, change: u64) -> bool {
        self.pending.first_key_value().is_none_or(|(oldest, _)| *oldest > change)
    }

    /// The records that the stream lacks, oldest change first, each with when it was seen.
    #[must_use]
    pub fn into_pending(mut self) -> Vec<(Record, UnixMs)> {
        let keys = std::mem::take(&mut self.pending).into_values();
        keys.filter_map(|key| self.known.remove(&key)).map(|known| (known.record, known.seen_at)).collect()
    }

    /// Every record of the window, what belongs to others after them.
    #[must_use]
    pub fn full(&self) -> (Vec<Record>, Sent) {
        let mut keys: Vec<&Key> = self.known.keys().collect();
        keys.sort();
        self.collect(keys.into_iter())
    }

    fn collect<'a>(&self, keys: impl Iterator<Item = &'a Key>) -> (Vec<Record>, Sent) {
        let known = keys.filter_map(|key| self.known.get(key).map(|known| (key, known)));
        let (records, sent) =
            known.map(|(key, known)| (known.record.clone(), (key.clone(), known.revision))).unzip();
        (records, Sent(sent))
    }

    /// Notes that the stream holds what was sent. A record that changed meanwhile stays to be published.
    pub fn acked(&mut self, sent: &Sent) {
        for (key, revision) in &sent.0 {
            if let Some(known) = self.known.get_mut(key)
                && known.revision == *revision
                && known.pending
            {
                known.pending = false;
                self.pending.remove(revision);
            }
        }
    }

    /// Gives up the first record of what was to be sent, because it cannot be published at all. One that changed
    /// meanwhile is another record: it stays, and is tried again.
    pub fn give_up_first(&mut self, sent: &Sent) -> Option<Record> {
        let (key, revision) = sent.0.first()?;
        if self.known.get(key)?.revision != *revision {
            return None;
        }
        self.pending.remove(revision);
        self.known.remove(key).map(|known| known.record)
    }

    /// Forgets the records that `gone` names, whether the stream has them or not; how many there were.
    pub fn remove(&mut self, mut gone: impl FnMut(&Record) -> bool) -> usize {
        let before = self.known.len();
        let pending = &mut self.pending;
        self.known.retain(|_, known| {
            let goes = gone(&known.record);
            if goes && known.pending {
                pending.remove(&known.revision);
            }
            !goes
        });
        before - self.known.len()
    }

    /// Marks everything as lacking in the stream: the stream was emptied.
    pub fn forget_acks(&mut self) {
        for (key, known) in &mut self.known {
            if !known.pending {
                known.pending = true;
                self.pending.insert(known.revision, key.clone());
            }
        }
    }

    /// Lets go of what was not seen lately, down to `limit` records. What is to be published stays.
    pub fn evict(&mut self, now: UnixMs, limit: usize) {
        self.known.retain(|_, known| known.pending || now.0 - known.seen_at.0 <= SEEN_MS_MAX);
        let excess = self.known.len().saturating_sub(limit);
        if excess == 0 {
            return;
        }
        let settled = self.known.iter().filter(|(_, known)| !known.pending);
        let mut oldest: Vec<_> =
            settled.map(|(key, known)| (known.seen_at, known.revision, key.clone())).collect();
        oldest.sort();
        for (_, _, key) in oldest.into_iter().take(excess) {
            self.known.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use snapfleet_testkit::sample;

    use super::*;

    fn comment(number: u64, text: &str) -> Record {
        Record::Comment(sample::comment(1, number, text))
    }

    const NOW: UnixMs = sample::BASE;

    #[test]
    fn what_is_known_is_not_published_again() {
        let mut window = Window::default();
        assert_eq!(window.observe(comment(1, "a"), NOW), Observed::New);
        assert_eq!(window.observe(comment(1, "a"), NOW), Observed::Unchanged);
        let (records, sent) = window.delta(10);
        assert_eq!(records, [comment(1, "a")]);
        window.acked(&sent);
        assert_eq!(window.pending_len(), 0);
        assert_eq!(window.observe(comment(1, "b"), NOW), Observed::Changed);
        assert_eq!(window.delta(10).0, [comment(1, "b")]);
    }

    #[test]
    fn an_ack_counts_only_for_what_was_sent() {
        let mut window = Window::default();
        window.observe(comment(1, "a"), NOW);
        let (_, sent) = window.delta(10);
        window.observe(comment(1, "b"), NOW);
        window.acked(&sent);
        assert_eq!(window.delta(10).0, [comment(1, "b")]);
    }

    #[test]
    fn the_stream_does_not_overwrite_what_is_to_be_published() {
        let mut window = Window::default();
        window.observe(comment(1, "ours"), NOW);
        window.restore(comment(1, "theirs"), NOW);
        assert_eq!(window.delta(10).0, [comment(1, "ours")]);
        window.restore(comment(2, "first"), NOW);
        window.restore(comment(2, "second"), NOW);
        assert_eq!(window.full().0, [comment(1, "ours"), comment(2, "second")]);
        assert_eq!(window.pending_len(), 1);
    }

    #[test]
    fn old_sightings_add_but_never_overwrite() {
        let mut window = Window::default();
        window.restore(comment(1, "newer"), NOW);
        assert_eq!(window.observe_if_unknown(comment(1, "older"), NOW), Observed::Unchanged);
        assert_eq!(window.observe_if_unknown(comment(2, "unknown"), NOW), Observed::New);
        assert_eq!(window.delta(10).0, [comment(2, "unknown")]);
    }

    #[test]
    fn an_overtaken_sighting_tells_only_what_was_not_known() {
        let mut window = Window::default();
        let (earlier, later) = (UnixMs(NOW.0 - 100), NOW);
        window.observe(comment(1, "edited"), later);
        assert_eq!(window.observe(comment(1, "before the edit"), earlier), Observed::Unchanged);
        let mut likes = sample::comment(1, 1, "before the edit");
        likes.like_count = Some(3);
        assert_eq!(window.observe(Record::Comment(likes), earlier), Observed::Changed);
        let (records, _) = window.delta(10);
        let [Record::Comment(told)] = records.as_slice() else { panic!("{records:?}") };
        assert_eq!((told.text.as_deref(), told.like_count), (Some("edited"), Some(3)));
    }

    #[test]
    fn what_another_clock_dated_later_does_not_hold_back_what_is_seen_now() {
        let mut window = Window::default();
        window.restore(comment(1, "by a host whose clock is ahead"), UnixMs(NOW.0 + 300_000));
        assert_eq!(window.observe(comment(1, "seen now"), NOW), Observed::Changed);
    }

    #[test]
    fn only_the_record_that_was_too_large_is_given_up() {
        let mut window = Window::default();
        window.observe(comment(1, "huge"), NOW);
        window.observe(comment(2, "innocent"), NOW);
        let (_, sent) = window.delta(1);
        window.observe(comment(1, "edited, and small now"), NOW);
        assert_eq!(window.give_up_first(&sent), None);
        let (_, sent) = window.delta(1);
        assert_eq!(window.give_up_first(&sent), Some(comment(2, "innocent")));
        assert_eq!(window.delta(10).0, [comment(1, "edited, and small now")]);
    }

    #[test]
    fn eviction_keeps_what_is_to_be_published() {
        let mut window = Window::default();
        for number in 0..10 {
            window.restore(comment(number, "settled"), UnixMs(NOW.0 + number as i64));
        }
        window.observe(comment(99, "pending"), UnixMs(0));
        window.evict(NOW, 3);
        let kept: Vec<_> = window.full().0.iter().map(|record| record.id().to_string()).collect();
        assert_eq!(kept, ["c8", "c9", "c99"]);
    }

    #[test]
    fn an_emptied_stream_makes_everything_pending_again() {
        let mut window = Window::default();
        window.restore(comment(1, "a"), NOW);
        window.forget_acks();
        assert_eq!(window.delta(10).0, [comment(1, "a")]);
    }
}
