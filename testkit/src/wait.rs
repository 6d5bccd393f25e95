//! Waiting for a condition with a deadline, instead of sleeping and hoping.

use std::time::{Duration, Instant};

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Waits until `condition` yields a value, looking 20 times a second.
///
/// # Panics
/// With `what` when `deadline` has passed.
pub async fn eventually<T, F: AsyncFnMut() -> Option<T>>(
    deadline: Duration,
    what: &str,
    mut condition: F,
) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(started.elapsed() < deadline, "not within {deadline:?}: {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
