//! Whether this worker may publish and drive pages: only while others must take it for alive.
//!
//! Its heartbeat lives a fixed time from when the broker stored it, so counted from before it was sent, on a clock
//! of this host that nobody sets and that goes on while the process or the host sleeps, the worker knows at any
//! instant whether its accounts may be somebody else's. No clock of another host matters.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use snapfleet_protocol::stream::HEARTBEAT_TTL_S;
use tokio::sync::watch;

/// How long before its heartbeat expires a worker stops: for what is under way to end, and the clocks' drift.
const MARGIN: Duration = Duration::from_millis(1_000);

/// A moment of the clock that goes on during sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Duration);

impl Moment {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        let now = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        Self(Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0)))
    }

    fn until(self, later: Moment) -> Duration {
        later.0.saturating_sub(self.0)
    }
}

/// The gate, shared: clones see the same.
#[derive(Debug, Clone)]
pub struct Gate {
    open: watch::Sender<Open>,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    until: Moment,
    /// Counts the times it was opened: what was granted before it closed is to be granted anew.
    term: u64,
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate {
    /// Closed until the first heartbeat is stored.
    #[must_use]
    pub fn new() -> Self {
        Self { open: watch::channel(Open { until: Moment(Duration::ZERO), term: 0 }).0 }
    }

    /// A gate that never closes, for what has no heartbeat.
    #[must_use]
    pub fn always_open() -> Self {
        Self { open: watch::channel(Open { until: Moment(Duration::MAX), term: 1 }).0 }
    }

    /// A heartbeat that was sent at `sent` is stored: open until it is about to expire.
    pub fn renewed(&self, sent: Moment) {
        let until = Moment(sent.0 + Duration::from_secs(HEARTBEAT_TTL_S) - MARGIN);
        let now = Moment::now();
        self.open.send_if_modified(|open| {
            if until <= open.until || until <= now {
                return false;
            }
            // However short it was closed: others may have acted on it.
            if open.until <= now {
                open.term += 1;
            }
            open.until = until;
            true
        });
    }

    /// Shuts it at once: the heartbeat is being withdrawn, or another instance has our place.
    pub fn shut(&self) {
        self.open.send_modify(|open| open.until = Moment(Duration::ZERO));
    }

    /// Whether it is open at this instant. To be asked right before each act.
    #[must_use]
    pub fn is_open(&self) -> bool {
        Moment::now() < self.open.borrow().until
    }

    /// Whether it is open at this instant and has been since `term` began.
    #[must_use]
    pub fn is_open_in(&self, term: u64) -> bool {
        let open = *self.open.borrow();
        open.term == term && Moment::now() < open.until
    }

    /// The term: how often it has opened.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.open.borrow().term
    }

    /// Returns once it is open; at once if it is.
    pub async fn opened(&self) {
        let mut open = self.open.subscribe();
        while !self.is_open() {
            if open.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Returns once `term` is over: at once if the gate is closed, or has been since.
    pub async fn closed(&self, term: u64) {
        let mut changes = self.open.subscribe();
        loop {
            let open = *changes.borrow_and_update();
            let left = Moment::now().until(open.until);
            if left.is_zero() || open.term != term {
                return;
            }
            tokio::select! {
                // Timers stand still while the host sleeps; asked again at least once a second.
                () = tokio::time::sleep(left.min(Duration::from_secs(1))) => {}
                _ = changes.changed() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_open_from_before_the_heartbeat_was_sent_to_before_it_expires() {
        let gate = Gate::new();
        assert!(!gate.is_open());
        let long_ago = Moment(Moment::now().0 - Duration::from_millis(3_800));
        gate.renewed(long_ago);
        assert!(gate.is_open(), "a heartbeat of 3.8 s ago still lives for 1.2 s");
        gate.opened().await;
        let term = gate.term();
        gate.closed(term).await;
        let closed_after = long_ago.until(Moment::now());
        assert!((4_000..5_000).contains(&closed_after.as_millis()), "{closed_after:?}");
        gate.renewed(Moment::now());
        assert!(gate.is_open() && !gate.is_open_in(term), "what was granted before is void");
        assert!(gate.is_open_in(term + 1));
        // An ack that comes late does not shorten what a later heartbeat has brought.
        gate.renewed(long_ago);
        assert!(gate.is_open());
        gate.shut();
        assert!(!gate.is_open());
        gate.closed(term + 1).await;
    }
}
