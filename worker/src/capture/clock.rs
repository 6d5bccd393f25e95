//! The browser's clock told as wall clock: one for all tabs of a browser, so that what they tell can be put in order.
//!
//! The browser stamps its events with a clock of its own that only goes forward. How far that one is from the wall
//! clock is learned from requests, which carry both. Knows nothing of what is stamped.

use std::sync::{Mutex, PoisonError};

/// A learned distance is kept until a request tells one that is larger by this, in milliseconds: the machine slept,
/// or its clock was set forward. Less is noise, and would put close events out of order.
const STEP_MS: f64 = 1000.0;

/// Converts the browser's time. The later of two events is never told with the earlier time than the latest one
/// told before; a wall clock that is set back is therefore not followed.
#[derive(Debug, Default)]
pub(crate) struct Clock(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Wall clock less browser's clock, in milliseconds.
    offset_ms: Option<f64>,
    /// The event that is the latest by the browser's clock, and how it was told.
    latest: Option<(f64, i64)>,
}

impl Clock {
    /// Learns from one moment in both clocks, each in seconds.
    pub(super) fn learn(&self, browser_s: f64, wall_s: f64) {
        let offset_ms = (wall_s - browser_s) * 1000.0;
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.offset_ms.is_none_or(|known| offset_ms > known + STEP_MS) {
            state.offset_ms = Some(offset_ms);
        }
    }

    /// The wall clock's milliseconds at a moment in the browser's seconds; `received_at_ms` while nothing is learned.
    pub(super) fn wall_ms(&self, browser_s: f64, received_at_ms: i64) -> i64 {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let told = match state.offset_ms {
            // A cast of a number out of range gives the nearest one.
            Some(offset_ms) => browser_s.mul_add(1000.0, offset_ms).floor() as i64,
            None => received_at_ms,
        };
        match state.latest {
            Some((latest_s, latest_ms)) if browser_s < latest_s => told.min(latest_ms),
            latest => {
                let told = latest.map_or(told, |(_, latest_ms)| told.max(latest_ms));
                state.latest = Some((browser_s, told));
                told
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_teaches_the_distance_and_noise_does_not_move_it() {
        let clock = Clock::default();
        clock.learn(100.0, 1_700_000_000.5);
        assert_eq!(clock.wall_ms(100.0, 0), 1_700_000_000_500);
        assert_eq!(clock.wall_ms(100.25, 0), 1_700_000_000_750);
        clock.learn(101.0, 1_700_000_001.9);
        assert_eq!(clock.wall_ms(100.5, 0), 1_700_000_001_000);
        assert_eq!(clock.wall_ms(99.0, 0), 1_699_999_999_500, "one that is seen late has its own time");
    }

    #[test]
    fn before_anything_is_learned_the_time_of_receipt_counts_and_order_is_kept() {
        let clock = Clock::default();
        assert_eq!(clock.wall_ms(100.0, 5_000_300), 5_000_300);
        assert_eq!(clock.wall_ms(99.0, 5_000_400), 5_000_300, "earlier, although received later");
        clock.learn(100.05, 5_000.05);
        assert_eq!(clock.wall_ms(100.1, 0), 5_000_300, "later than what was told too late");
        assert_eq!(clock.wall_ms(101.0, 0), 5_001_000);
        assert_eq!(clock.wall_ms(98.0, 0), 4_998_000);
    }

    #[test]
    fn a_wall_clock_set_forward_is_followed_and_one_set_back_is_not() {
        let clock = Clock::default();
        clock.learn(100.0, 5_000.0);
        assert_eq!(clock.wall_ms(100.0, 0), 5_000_000);
        clock.learn(101.0, 8_601.0);
        assert_eq!(clock.wall_ms(101.0, 0), 8_601_000);
        clock.learn(102.0, 5_002.0);
        assert_eq!(clock.wall_ms(102.0, 0), 8_602_000);
        assert_eq!(clock.wall_ms(f64::MAX, 0), i64::MAX);
    }
}
