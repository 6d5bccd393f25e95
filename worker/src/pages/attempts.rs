//! How often an account's login form may still be filled in: platforms lock accounts, also those that log in again and
//! again.
//!
//! Kept for the account rather than for a browser: a new browser, or changed pages, are no reason to try again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::LoginPlan;

/// How long no further attempt is made after the last one.
const COOL_DOWN: Duration = Duration::from_secs(60 * 60);
/// Logins by the form within [`COOL_DOWN`], after which none is tried: their sessions do not last.
const LOGINS_MAX: usize = 10;

/// What became of an account's attempts. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Attempts(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// What was filled in.
    plan: Option<LoginPlan>,
    /// Until when none is made, and why.
    refused: Option<(Instant, String)>,
    /// When the form was filled in with success.
    logins: VecDeque<Instant>,
}

impl Attempts {
    /// This is filled in from now on. Another form, or something else to fill in, may be tried at once.
    pub(super) fn on(&self, plan: &LoginPlan) {
        let mut state = self.lock();
        if state.plan.as_ref() != Some(plan) {
            *state = State { plan: Some(plan.clone()), ..State::default() };
        }
    }

    /// Why none is to be made now.
    pub(super) fn why_not(&self) -> Option<String> {
        let mut state = self.lock();
        state.logins.retain(|at| at.elapsed() < COOL_DOWN);
        if state.logins.len() >= LOGINS_MAX {
            return Some(format!(
                "it was logged in {LOGINS_MAX} times within an hour, and no session has lasted: is it used elsewhere, too? log in by hand, or wait"
            ));
        }
        state.refused.as_ref().filter(|(until, _)| Instant::now() < *until).map(|(_, reason)| reason.clone())
    }

    /// The last one in a row was refused.
    pub(super) fn refused(&self, reason: &str) {
        self.lock().refused = Some((Instant::now() + COOL_DOWN, reason.to_owned()));
    }

    /// One has logged in.
    pub(super) fn succeeded(&self) {
        self.lock().logins.push_back(Instant::now());
    }

    /// The account is logged in, however that came.
    pub(super) fn forgive(&self) {
        self.lock().refused = None;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change above is whole at each step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(password: &str) -> LoginPlan {
        LoginPlan {
            logged_in: "#owner".into(),
            logged_out: None,
            submit: Some("button".into()),
            fill: vec![("input".into(), password.into())],
            code: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_browser_tries_nothing_again_and_a_changed_form_does() {
        let attempts = Attempts::default();
        attempts.on(&plan("wrong"));
        assert_eq!(attempts.why_not(), None);
        attempts.refused("it was refused");
        attempts.on(&plan("wrong"));
        assert_eq!(attempts.why_not().as_deref(), Some("it was refused"));
        attempts.on(&plan("right"));
        assert_eq!(attempts.why_not(), None);
        attempts.refused("it was refused");
        tokio::time::advance(COOL_DOWN).await;
        assert_eq!(attempts.why_not(), None, "after an hour it is tried again");
    }

    #[tokio::test(start_paused = true)]
    async fn logins_that_do_not_last_come_to_an_end() {
        let attempts = Attempts::default();
        attempts.on(&plan("right"));
        for _ in 0..LOGINS_MAX {
            assert_eq!(attempts.why_not(), None);
            attempts.succeeded();
            attempts.forgive();
            tokio::time::advance(Duration::from_secs(3)).await;
        }
        assert!(attempts.why_not().is_some_and(|reason| reason.contains("no session has lasted")));
        tokio::time::advance(COOL_DOWN).await;
        assert_eq!(attempts.why_not(), None);
    }
}
