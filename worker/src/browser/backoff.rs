//! A pause that doubles while something fails again and again, and starts over once it lasted.

use std::time::Duration;

use tokio::time::Instant;

/// Counts attempts at something that ought to last: [`Backoff::wait`] before each.
#[derive(Debug)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    healthy_after: Duration,
    pause: Option<Duration>,
    last: Option<Instant>,
}

impl Backoff {
    /// Pauses from `min` doubling to `max`; what lasts `healthy_after` starts over without a pause.
    pub(crate) fn new(min: Duration, max: Duration, healthy_after: Duration) -> Self {
        Self { min, max, healthy_after, pause: None, last: None }
    }

    /// Waits until the next attempt may begin: the first one at once, one soon after another later and later.
    /// Up to a quarter is added at random, so that many do not go in step.
    pub(crate) async fn wait(&mut self) {
        if let Some(until) = self.next() {
            tokio::time::sleep_until(until).await;
        }
        self.last = Some(Instant::now());
    }

    fn next(&mut self) -> Option<Instant> {
        let last = self.last?;
        if last.elapsed() >= self.healthy_after {
            self.pause = None;
            return None;
        }
        let pause = self.pause.map_or(self.min, |pause| (pause * 2).min(self.max));
        self.pause = Some(pause);
        Some(Instant::now() + pause.mul_f64(1.0 + fastrand::f64() / 4.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pauses_double_up_to_the_limit_and_start_over_after_health() {
        tokio::time::pause();
        let mut backoff =
            Backoff::new(Duration::from_secs(1), Duration::from_secs(4), Duration::from_secs(60));
        let mut waited = Vec::new();
        for _ in 0..5 {
            let start = Instant::now();
            backoff.wait().await;
            waited.push(start.elapsed().as_secs_f64());
        }
        assert!(waited[0] < 0.01, "{waited:?}");
        for (pause, least) in waited[1..].iter().zip([1.0, 2.0, 4.0, 4.0]) {
            assert!((least..=least * 1.25 + 0.01).contains(pause), "{waited:?}");
        }
        tokio::time::advance(Duration::from_secs(61)).await;
        let start = Instant::now();
        backoff.wait().await;
        assert!(start.elapsed() < Duration::from_millis(10));
    }
}
