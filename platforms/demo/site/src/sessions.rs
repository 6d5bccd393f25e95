//! Who is logged in, and what came of every login: how a test sees whether somebody logged in anew or went on with
//! the session that there was. Knows nothing of HTTP.

use std::collections::{BTreeSet, HashMap, VecDeque};

use fastrand::Rng;
use serde::Serialize;

/// Logins that the site remembers; a session is over once its login is forgotten.
const LOGINS_MAX: usize = 10_000;
/// Devices or tabs of one login that are noted.
const SEEN_MAX: usize = 100;
/// As much of a session's token as names it.
const ID_CHARS: usize = 8;

/// One login and the session that it opened.
#[derive(Debug, Clone, Serialize)]
pub struct Login {
    /// Whose.
    pub account: String,
    /// The name of the session, which is not its token.
    pub session: String,
    /// Whether the session is still open.
    pub open: bool,
    /// Requests that carried it.
    pub requests: u64,
    /// Documents that were served with it: how often the page was loaded, whatever it fetched by itself.
    pub pages: u64,
    /// What the page named as its device (it keeps that in the local storage).
    pub devices: BTreeSet<String>,
    /// What the page named as its tab (it keeps that in the session storage).
    pub tabs: BTreeSet<String>,
}

/// All logins, oldest first.
#[derive(Default)]
pub(crate) struct Sessions {
    logins: VecDeque<Login>,
    /// Token to the number of its login, counted from the first ever.
    open: HashMap<String, usize>,
    forgotten: usize,
}

impl Sessions {
    /// Opens a session, and returns its token.
    pub(crate) fn log_in(&mut self, account: &str) -> String {
        let token = format!("{:032x}", Rng::new().u128(..));
        if self.logins.len() == LOGINS_MAX {
            self.logins.pop_front();
            self.forgotten += 1;
            let forgotten = self.forgotten;
            self.open.retain(|_, number| *number >= forgotten);
        }
        self.open.insert(token.clone(), self.forgotten + self.logins.len());
        self.logins.push_back(Login {
            account: account.to_owned(),
            session: token[..ID_CHARS].to_owned(),
            open: true,
            requests: 0,
            pages: 0,
            devices: BTreeSet::new(),
            tabs: BTreeSet::new(),
        });
        token
    }

    /// The account of an open session, which a request carried from a device and a tab.
    pub(crate) fn seen(&mut self, token: &str, device: Option<&str>, tab: Option<&str>) -> Option<String> {
        let number = *self.open.get(token)?;
        let login = self.logins.get_mut(number - self.forgotten)?;
        login.requests += 1;
        for (noted, seen) in [(&mut login.devices, device), (&mut login.tabs, tab)] {
            if let Some(seen) = seen
                && noted.len() < SEEN_MAX
            {
                noted.insert(seen.to_owned());
            }
        }
        Some(login.account.clone())
    }

    /// Notes that a document is served to an open session.
    pub(crate) fn page_served(&mut self, token: &str) {
        let number = self.open.get(token).map(|number| number - self.forgotten);
        if let Some(login) = number.and_then(|number| self.logins.get_mut(number)) {
            login.pages += 1;
        }
    }

    /// Ends the sessions of an account, or the one of them that is named; returns how many.
    pub(crate) fn end(&mut self, account: &str, session: Option<&str>) -> usize {
        let before = self.open.len();
        let (logins, forgotten) = (&mut self.logins, self.forgotten);
        self.open.retain(|_, number| {
            let Some(login) = logins.get_mut(*number - forgotten) else { return false };
            let ends = login.account == account && session.is_none_or(|session| session == login.session);
            login.open &= !ends;
            !ends
        });
        before - self.open.len()
    }

    /// The logins of an account, oldest first.
    pub(crate) fn of(&self, account: &str) -> Vec<Login> {
        self.logins.iter().filter(|login| login.account == account).cloned().collect()
    }
}
