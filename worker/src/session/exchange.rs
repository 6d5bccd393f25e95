//! Where an account's pages take the sessions to try from, and leave the one that they have now.
//!
//! Lives for one tenure of the account, longer than a browser: after the browser's death the pages go on with what
//! they left. It must know neither the broker nor the key; [`super::Keeper`] stands on the other side.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;

use super::state::SessionState;

/// The most sessions to try one after another; those beyond it are the oldest.
const CANDIDATES_MAX: usize = 4;

/// What is exported: nothing yet, or the latest state.
pub type Exported = watch::Receiver<Option<Arc<SessionState>>>;

/// Clones share it. The default has nothing to try, and what is left is kept in memory alone.
#[derive(Clone, Default)]
pub struct SessionExchange(Arc<Inner>);

/// How long an account is logged out before another session is looked for, and between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Inner {
    /// Newest first.
    candidates: Mutex<VecDeque<Arc<SessionState>>>,
    problem: Option<String>,
    exported: watch::Sender<Option<Arc<SessionState>>>,
    /// Whether the pages are logged out.
    logged_out: watch::Sender<bool>,
    /// Counts sessions that were found while they were.
    offers: watch::Sender<u64>,
}

/// Where sessions are offered that somebody else has stored, while the account is logged out.
pub struct Offers {
    exchange: Weak<Inner>,
    logged_out: watch::Receiver<bool>,
}

impl Offers {
    /// Returns when it is time to look for another session: the account has been logged out for a while.
    pub async fn wanted(&mut self) {
        loop {
            if self.logged_out.wait_for(|out| *out).await.is_err() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(LOOK_EVERY).await;
            if *self.logged_out.borrow() {
                return;
            }
        }
    }

    /// Offers a session: the pages begin anew with it.
    pub fn offer(&self, state: SessionState) {
        let Some(inner) = self.exchange.upgrade() else { return };
        SessionExchange(inner).offer(state);
    }
}

impl fmt::Debug for SessionExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionExchange")
            .field("candidates", &self.candidates().len())
            .field("problem", &self.0.problem)
            .finish_non_exhaustive()
    }
}

impl SessionExchange {
    /// An exchange with sessions to try, newest first, and the end at which exported ones come out; that end is told
    /// when the last clone of the exchange is dropped.
    ///
    /// `problem` is why there is a newer session that cannot be used: once all others have failed, the account is
    /// then shown as logged out with this reason, and its login form is left alone.
    #[must_use]
    pub fn new(candidates: Vec<SessionState>, problem: Option<String>) -> (Self, Exported) {
        let (exported, receiver) = watch::channel(None);
        let candidates = candidates.into_iter().take(CANDIDATES_MAX).map(Arc::new).collect();
        (
            Self(Arc::new(Inner {
                candidates: Mutex::new(candidates),
                problem,
                exported,
                ..Inner::default()
            })),
            receiver,
        )
    }

    /// The newest session that is not known to have failed.
    #[must_use]
    pub fn candidate(&self) -> Option<Arc<SessionState>> {
        self.candidates().front().cloned()
    }

    /// Says that a candidate failed to log in.
    pub fn refuse(&self, refused: &Arc<SessionState>) {
        self.candidates().retain(|candidate| !Arc::ptr_eq(candidate, refused));
    }

    /// Leaves the state of a login that stands; it is the newest candidate from now on.
    pub fn export(&self, state: SessionState) {
        let state = Arc::new(state);
        let mut candidates = self.candidates();
        let ours = self.0.exported.borrow().clone();
        // In place of the one that was left before: it is the same login, and older ones are the fallback.
        candidates.retain(|candidate| ours.as_ref().is_none_or(|ours| !Arc::ptr_eq(candidate, ours)));
        candidates.push_front(Arc::clone(&state));
        candidates.truncate(CANDIDATES_MAX);
        drop(candidates);
        self.0.exported.send_replace(Some(state));
    }

    /// The end at which sessions are offered.
    #[must_use]
    pub fn keeper_offers(&self) -> Offers {
        Offers { exchange: Arc::downgrade(&self.0), logged_out: self.0.logged_out.subscribe() }
    }

    /// Changes whenever a session is offered; the newest candidate is that one then.
    #[must_use]
    pub fn offers(&self) -> watch::Receiver<u64> {
        self.0.offers.subscribe()
    }

    fn offer(&self, state: SessionState) {
        let mut candidates = self.candidates();
        candidates.push_front(Arc::new(state));
        candidates.truncate(CANDIDATES_MAX);
        drop(candidates);
        self.0.offers.send_modify(|count| *count += 1);
    }

    /// Says whether the pages are logged in.
    pub fn note_login(&self, logged_in: bool) {
        self.0.logged_out.send_replace(!logged_in);
    }

    /// Whether the pages are known to be logged out.
    #[must_use]
    pub fn is_logged_out(&self) -> bool {
        *self.0.logged_out.borrow()
    }

    /// Why there is a newer session that cannot be used.
    #[must_use]
    pub fn problem(&self) -> Option<&str> {
        self.0.problem.as_deref()
    }

    fn candidates(&self) -> MutexGuard<'_, VecDeque<Arc<SessionState>>> {
        // Every change above is whole at each step.
        self.0.candidates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(name: &str) -> SessionState {
        let mut state = SessionState::default();
        state.local.insert(name.to_owned(), String::new());
        state
    }

    #[test]
    fn what_was_left_is_tried_first_and_what_failed_no_more() {
        let (exchange, mut exported) = SessionExchange::new(vec![state("b"), state("a")], None);
        let first = exchange.candidate().unwrap();
        assert_eq!(*first, state("b"));
        exchange.refuse(&first);
        assert_eq!(*exchange.candidate().unwrap(), state("a"));
        for name in ["c", "d", "e", "f", "g"] {
            exchange.export(state(name));
        }
        assert_eq!(**exported.borrow_and_update().as_ref().unwrap(), state("g"));
        exchange.refuse(&exchange.candidate().unwrap());
        assert_eq!(*exchange.candidate().unwrap(), state("a"), "one login leaves one candidate");
        exchange.refuse(&exchange.candidate().unwrap());
        assert_eq!(exchange.candidate(), None);
    }
}
