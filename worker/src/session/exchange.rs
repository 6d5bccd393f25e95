//! Where an account's pages take the sessions to try from, and leave the one that they have now.
//!
//! Lives for one tenure of the account, longer than a browser: after the browser's death the pages go on with what
//! they left. It must know neither the broker nor the key; [`super::Keeper`] stands on the other side.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::state::SessionState;

/// The most sessions to try one after another; those beyond it are the oldest.
const CANDIDATES_MAX: usize = 4;

/// What is exported: nothing yet, or the latest state.
pub type Exported = watch::Receiver<Option<Arc<SessionState>>>;

/// Clones share it. The default has nothing to try, and what is left is kept in memory alone.
#[derive(Clone, Default)]
pub struct SessionExchange(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// Newest first.
    candidates: Mutex<VecDeque<Arc<SessionState>>>,
    problem: Option<String>,
    exported: watch::Sender<Option<Arc<SessionState>>>,
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
        (Self(Arc::new(Inner { candidates: Mutex::new(candidates), problem, exported })), receiver)
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
