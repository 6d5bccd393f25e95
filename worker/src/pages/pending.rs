//! Whether somebody is logging an account in by hand at this instant: nothing takes their page away then.
//!
//! Belongs to the account rather than to a browser, so that whoever would begin its pages anew can wait. Knows no page.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use snapfleet_protocol::UnixMs;
use snapfleet_protocol::login::LOGIN_PENDING_MS;
use tokio::time::Instant;

use crate::roster::now;

/// How often who waits for the end looks for it.
const POLL: Duration = Duration::from_millis(500);
/// How long it lasts once somebody has left: another one may look at the same page, and asks again in a moment.
const AFTER_LEAVING: Duration = Duration::from_secs(6);

/// Until when, by both clocks. Clones share it; by default nobody logs in.
#[derive(Debug, Clone, Default)]
pub(super) struct Pending(Arc<Mutex<Option<(Instant, UnixMs)>>>);

impl Pending {
    /// Somebody looks at the login page or types into it.
    pub(super) fn renew(&self) {
        *self.lock() = Some(within(Duration::from_millis(LOGIN_PENDING_MS.unsigned_abs())));
    }

    /// Somebody has left.
    pub(super) fn leave(&self) {
        let mut until = self.lock();
        *until = until.take().map(|until| until.min(within(AFTER_LEAVING)));
    }

    /// It is over at once: the account is logged in, or the page is gone.
    pub(super) fn end(&self) {
        *self.lock() = None;
    }

    /// Until when; `None` where nobody logs in.
    pub(super) fn until(&self) -> Option<UnixMs> {
        let until = *self.lock();
        until.filter(|(until, _)| Instant::now() < *until).map(|(_, until)| until)
    }

    /// Waits until nobody does.
    pub(super) async fn over(&self) {
        while self.until().is_some() {
            tokio::time::sleep(POLL).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Instant, UnixMs)>> {
        // Every change above is whole at each step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn within(time: Duration) -> (Instant, UnixMs) {
    let ms = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    (Instant::now() + time, UnixMs(now().0.saturating_add(ms)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_leaves_does_not_end_it_for_who_still_looks() {
        let pending = Pending::default();
        pending.leave();
        assert_eq!(pending.until(), None, "who leaves begins nothing");
        pending.renew();
        pending.leave();
        // The other one asks a second later.
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(pending.until().is_some());
        pending.renew();
        tokio::time::advance(AFTER_LEAVING * 2).await;
        assert!(pending.until().is_some());
        pending.leave();
        tokio::time::timeout(AFTER_LEAVING * 2, pending.over()).await.expect("nobody looks any more");
        pending.renew();
        pending.end();
        assert_eq!(pending.until(), None);
    }
}
