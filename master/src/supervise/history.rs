//! When a worker that died is started again, and when it is given up: a rule over how long it lived each time.
//! It knows no process and no clock.

use std::time::Duration;

/// A worker that dies within this of its start has died at start.
pub(super) const START: Duration = Duration::from_secs(10);
/// A worker that has lived this long is proven to be healthy.
pub(super) const HEALTHY: Duration = Duration::from_secs(60);
/// Deaths at start in a row after which a worker is given up.
pub const FAILED_STARTS_MAX: u32 = 5;
/// The first pause and the longest before it is started again.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// What follows a death.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is started again after this.
    Restart(Duration),
    /// It is started again by hand only.
    GiveUp,
}

/// The deaths since a worker was last proven to be healthy. Nothing but that proof makes it new.
#[derive(Debug)]
pub(super) struct History {
    failed_starts: u32,
    pause: Duration,
}

impl Default for History {
    fn default() -> Self {
        Self { failed_starts: 0, pause: PAUSE_MIN }
    }
}

impl History {
    /// Deaths at start since it was last proven to be healthy.
    pub(super) fn failed_starts(&self) -> u32 {
        self.failed_starts
    }

    /// It has lived for [`HEALTHY`].
    pub(super) fn proven(&mut self) {
        *self = Self::default();
    }

    /// It died after having lived for so long.
    pub(super) fn died(&mut self, lived: Duration) -> Verdict {
        if lived >= HEALTHY {
            self.proven();
        }
        if lived < START {
            self.failed_starts += 1;
            if self.failed_starts >= FAILED_STARTS_MAX {
                return Verdict::GiveUp;
            }
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(PAUSE_MAX);
        Verdict::Restart(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_START: Duration = Duration::from_secs(9);
    const LATER: Duration = Duration::from_secs(20);

    fn ms(ms: u64) -> Verdict {
        Verdict::Restart(Duration::from_millis(ms))
    }

    #[test]
    fn five_deaths_at_start_end_it_and_only_health_makes_it_new() {
        let mut history = History::default();
        assert_eq!(
            [AT_START; 5].map(|lived| history.died(lived)),
            [ms(200), ms(400), ms(800), ms(1_600), Verdict::GiveUp]
        );
        // Started by hand: not new by that.
        assert_eq!(history.died(AT_START), Verdict::GiveUp);
        assert_eq!(history.died(LATER), ms(3_200));
        history.proven();
        assert_eq!(history.died(AT_START), ms(200));
        assert_eq!(history.failed_starts(), 1);
        // Neither a start nor health: it counts for neither.
        assert_eq!((history.died(LATER), history.failed_starts()), (ms(400), 1));
        assert_eq!((history.died(HEALTHY), history.failed_starts()), (ms(200), 0));
    }

    #[test]
    fn pauses_grow_to_a_limit_and_never_end_it() {
        let mut history = History::default();
        let last = (0..100).map(|_| history.died(LATER)).last();
        assert_eq!(last, Some(Verdict::Restart(PAUSE_MAX)));
    }
}
