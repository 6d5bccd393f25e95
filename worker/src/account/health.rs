//! How one account fares, derived in one place from all that is known, so that no event can cover another up.

use std::collections::BTreeMap;
use std::time::Duration;

use snapfleet_protocol::AccountState;
use tokio::time::Instant;

/// An account whose pages showed nothing for this many intervals is called silent.
pub(crate) const SILENT_INTERVALS: u32 = 3;
/// How long a browser, a page and a login may take before an account that just starts is called silent.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// What is known of an account's pages and publishes.
#[derive(Debug)]
pub(crate) struct Health {
    interval: Duration,
    /// The last time that something came which a rule wants and which could be read, or that the pages began anew.
    sign_of_life: Instant,
    /// Rows refused since then.
    refused: u64,
    /// Whether the pages are logged in, where that is known; why not.
    logged_in: Option<Result<(), String>>,
    /// The platform has no login, and a page has loaded.
    open_to_all: bool,
    /// Pages that do not work, and why.
    failing: BTreeMap<String, String>,
    /// Why the pages are not driven at all.
    undriven: Option<String>,
    /// Why nothing goes through to the stream.
    unpublished: Option<String>,
    /// Why the account is not held at the moment, where it was before.
    cut_off: Option<String>,
}

impl Health {
    /// Of an account that starts, with its publish interval.
    pub(crate) fn new(interval: Duration) -> Self {
        Self {
            interval,
            sign_of_life: Instant::now(),
            refused: 0,
            logged_in: None,
            open_to_all: false,
            failing: BTreeMap::new(),
            undriven: None,
            unpublished: None,
            cut_off: None,
        }
    }

    /// A body or frame was mapped. One of which every row was refused is no sign of life.
    pub(crate) fn captured(&mut self, records: usize, refused: u64) {
        self.refused += refused;
        if records > 0 || refused == 0 {
            self.sign_of_life = Instant::now();
            self.refused = 0;
        }
    }

    /// The pages were found logged in.
    pub(crate) fn logged_in(&mut self) {
        self.logged_in = Some(Ok(()));
        self.sign_of_life = Instant::now();
    }

    /// The pages show the login form.
    pub(crate) fn logged_out(&mut self, reason: String) {
        self.logged_in = Some(Err(reason));
    }

    /// A page has loaded.
    pub(crate) fn page_loaded(&mut self, page: &str, without_login: bool) {
        self.undriven = None;
        self.open_to_all |= without_login;
        if self.failing.remove(page).is_some() {
            self.sign_of_life = Instant::now();
        }
    }

    /// A page does not work.
    pub(crate) fn page_failed(&mut self, page: String, reason: String) {
        self.failing.insert(page, reason);
    }

    /// The pages are not driven any more; they will begin anew.
    pub(crate) fn undriven(&mut self, reason: String) {
        self.replanned();
        self.undriven = Some(reason);
    }

    /// Other pages are opened in place of those that there were.
    pub(crate) fn replanned(&mut self) {
        self.failing.clear();
        (self.logged_in, self.open_to_all) = (None, false);
        self.sign_of_life = Instant::now();
    }

    /// Why nothing goes through to the stream; `None` once it does.
    pub(crate) fn unpublished(&mut self, reason: Option<String>) {
        self.unpublished = reason;
    }

    /// Why the account is not held at the moment; `None` once it is again. Its pages were left alone meanwhile.
    pub(crate) fn cut_off(&mut self, reason: Option<String>) {
        if reason.is_none() && self.cut_off.is_some() {
            self.sign_of_life = Instant::now();
        }
        self.cut_off = reason;
    }

    /// What all of it together means, worst first.
    pub(crate) fn state(&self) -> (AccountState, Option<String>) {
        if let Some(reason) = &self.cut_off {
            return (AccountState::CutOff, Some(reason.clone()));
        }
        if let Some(reason) = &self.undriven {
            return (AccountState::Failing, Some(format!("its pages cannot be driven: {reason}")));
        }
        if let Some(reason) = &self.unpublished {
            return (
                AccountState::Failing,
                Some(format!("its records are kept, but not published: {reason}")),
            );
        }
        if let Some((page, reason)) = self.failing.first_key_value() {
            return (AccountState::Failing, Some(format!("page {page:?} does not work: {reason}")));
        }
        if let Some(Err(reason)) = &self.logged_in {
            return (AccountState::LoggedOut, Some(reason.clone()));
        }
        let ready = self.open_to_all || self.logged_in.is_some();
        let limit = self.interval * SILENT_INTERVALS;
        let limit = if ready { limit } else { limit.max(START_TIMEOUT) };
        let silent_for = self.sign_of_life.elapsed();
        if silent_for > limit {
            let seconds = silent_for.as_secs();
            let reason = if self.refused > 0 {
                format!("nothing usable for {seconds} s: all {} rows were refused, see the log", self.refused)
            } else {
                format!("nothing captured for {seconds} s: does the page still work?")
            };
            return (AccountState::Silent, Some(reason));
        }
        (if ready { AccountState::Capturing } else { AccountState::Starting }, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(10);

    fn state(health: &Health) -> AccountState {
        health.state().0
    }

    #[tokio::test(start_paused = true)]
    async fn a_logged_out_account_is_never_shown_as_capturing() {
        let mut health = Health::new(INTERVAL);
        assert_eq!(state(&health), AccountState::Starting);
        health.logged_out("wrong password".into());
        health.page_failed("inbox".into(), "crashed".into());
        assert_eq!(state(&health), AccountState::Failing);
        health.page_loaded("inbox", false);
        assert_eq!(health.state(), (AccountState::LoggedOut, Some("wrong password".into())));
        health.logged_in();
        assert_eq!(state(&health), AccountState::Capturing);
    }

    #[tokio::test(start_paused = true)]
    async fn one_page_that_works_does_not_cover_up_one_that_does_not() {
        let mut health = Health::new(INTERVAL);
        health.logged_in();
        health.page_failed("works".into(), "hangs".into());
        health.page_loaded("inbox", false);
        health.captured(3, 0);
        health.logged_in();
        assert!(health.state().1.is_some_and(|reason| reason.contains("works") && reason.contains("hangs")));
        health.page_loaded("works", false);
        assert_eq!(state(&health), AccountState::Capturing);
    }

    #[tokio::test(start_paused = true)]
    async fn an_account_of_which_every_row_is_refused_becomes_silent() {
        let mut health = Health::new(INTERVAL);
        health.logged_in();
        for _ in 0..4 {
            tokio::time::advance(INTERVAL).await;
            health.captured(0, 20);
        }
        let (silent, reason) = health.state();
        assert_eq!(silent, AccountState::Silent);
        assert!(reason.is_some_and(|reason| reason.contains("80 rows")));
        health.captured(0, 0);
        assert_eq!(state(&health), AccountState::Capturing, "an empty list is a list");
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_browser_begins_as_starting_until_it_is_logged_in() {
        let mut health = Health::new(INTERVAL);
        health.logged_in();
        health.undriven("the browser died".into());
        assert_eq!(state(&health), AccountState::Failing);
        health.page_loaded("inbox", false);
        assert_eq!(state(&health), AccountState::Starting);
        health.unpublished(Some("no ack".into()));
        assert_eq!(state(&health), AccountState::Failing);
        health.unpublished(None);
        health.logged_in();
        assert_eq!(state(&health), AccountState::Capturing);
    }
}
