//! The session of an account's context: set before its first page, and gathered from its tabs while it is logged in.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use snapfleet_protocol::AccountId;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::login::Login;
use crate::browser::{CallError, Context, Storage, Tab};
use crate::session::{SessionExchange, SessionState};

/// How often a page's storage and the context's cookies are looked at while the account is logged in, and the least
/// time between two exports without a login.
const GATHER_EVERY: Duration = Duration::from_secs(30);
/// The same in the first [`GATHER_EVERY`] of a login: its page's scripts are only beginning to write what they keep.
const GATHER_EVERY_AT_FIRST: Duration = Duration::from_secs(3);

/// The session of one context.
#[derive(Debug)]
pub(super) struct Carried {
    exchange: SessionExchange,
    gathered: Mutex<Gathered>,
}

#[derive(Debug, Default)]
struct Gathered {
    /// What is known of the login that stands; before there is one, what the context was filled with.
    state: SessionState,
    /// What was left last, and when.
    exported: Option<(SessionState, Instant)>,
    /// Which login that was, and when it was left first.
    login: Option<u64>,
    login_at: Option<Instant>,
    /// When each page was looked at last.
    pages: BTreeMap<String, Instant>,
    told_too_large: bool,
}

impl Carried {
    /// Fills a new context. What the browser does not take of it is logged; the pages show whether it was needed.
    pub(super) async fn begin(
        exchange: SessionExchange,
        context: &Context,
        restored: Option<&SessionState>,
        account: &AccountId,
    ) -> Result<Self, CallError> {
        if let Some(state) = restored {
            match fill(context, state).await {
                Ok(0) => {}
                Ok(refused) => {
                    tracing::warn!(account.id = %account, refused, "the browser does not take all cookies of a stored session");
                }
                Err(CallError::Died) => return Err(CallError::Died),
                Err(error) => {
                    tracing::warn!(account.id = %account, %error, "a stored session is restored in part");
                }
            }
        }
        let gathered = Gathered { state: restored.cloned().unwrap_or_default(), ..Gathered::default() };
        Ok(Self { exchange, gathered: Mutex::new(gathered) })
    }

    /// Fills the session storage of a new tab, which is the page's.
    pub(super) async fn fill_tab(&self, tab: &Tab, page: &str) -> Result<(), CallError> {
        let storages = self.gathered.lock().await.state.tabs.get(page).cloned().unwrap_or_default();
        for (origin, entries) in &storages {
            tab.fill_storage(origin, None, Some(entries)).await?;
        }
        Ok(())
    }

    /// Gathers what the tab shows of the session and leaves it in the exchange, if the account is logged in and it is
    /// time: after a login at once, every 3 s at first and every 30 s later if something changed; `last` does not wait.
    pub(super) async fn gather(
        &self,
        (context, tab, page): (&Context, &Tab, &str),
        login: &Login,
        account: &AccountId,
        last: bool,
    ) -> Result<(), CallError> {
        let Some(standing) = login.standing().await else { return Ok(()) };
        if !last && !self.gathered.lock().await.is_due(page, standing) {
            return Ok(());
        }
        let (storage, cookies) = (tab.storage().await?, context.cookies().await?);
        // Asked again: the session may have ended meanwhile, and a state of a logged-out page must not be left.
        if !login.is_in(tab).await? || login.standing().await != Some(standing) {
            return Ok(());
        }
        let mut gathered = self.gathered.lock().await;
        gathered.pages.insert(page.to_owned(), Instant::now());
        if let Some(chars) = storage.as_ref().and_then(|storage| storage.too_large) {
            if !std::mem::replace(&mut gathered.told_too_large, true) {
                tracing::warn!(account.id = %account, page.name = page, chars,
                    "a page's storage is too large to be kept; the session is not stored");
            }
            return Ok(());
        }
        gathered.state.cookies = cookies;
        gathered.state.sort();
        if let Some(storage) = storage {
            gathered.merge(page, storage);
        }
        if gathered.is_to_be_exported(standing, last) {
            tracing::debug!(account.id = %account, page.name = page, "session exported");
            self.exchange.export(gathered.state.clone());
            gathered.exported = Some((gathered.state.clone(), Instant::now()));
            if gathered.login.replace(standing) != Some(standing) {
                gathered.login_at = Some(Instant::now());
            }
        }
        Ok(())
    }
}

/// The state of a login that a person has made in this tab of a context that no account's pages use.
pub(crate) async fn state_of(context: &Context, tab: &Tab, page: &str) -> Result<SessionState, CallError> {
    let (storage, cookies) = (tab.storage().await?, context.cookies().await?);
    if let Some(chars) = storage.as_ref().and_then(|storage| storage.too_large) {
        let reason = format!("the page's storage of {chars} characters is too large to be kept");
        return Err(CallError::Refused { what: "read storage", reason });
    }
    let mut gathered =
        Gathered { state: SessionState { cookies, ..Default::default() }, ..Gathered::default() };
    gathered.state.sort();
    if let Some(storage) = storage {
        gathered.merge(page, storage);
    }
    Ok(gathered.state)
}

impl Gathered {
    fn is_due(&self, page: &str, login: u64) -> bool {
        self.login != Some(login) || self.pages.get(page).is_none_or(|at| at.elapsed() >= self.every())
    }

    fn every(&self) -> Duration {
        let fresh = self.login_at.is_some_and(|at| at.elapsed() < GATHER_EVERY);
        if fresh { GATHER_EVERY_AT_FIRST } else { GATHER_EVERY }
    }

    fn merge(&mut self, page: &str, storage: Storage) {
        let Storage { origin, local, session, .. } = storage;
        put(&mut self.state.local, &origin, local);
        let tab = self.state.tabs.entry(page.to_owned()).or_default();
        put(tab, &origin, session);
        self.state.tabs.retain(|_, origins| !origins.is_empty());
    }

    fn is_to_be_exported(&self, login: u64, last: bool) -> bool {
        let Some((exported, at)) = &self.exported else { return true };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.login != Some(login)
            || (last || at.elapsed() >= self.every())
                && !exported.is_as_good_as(&self.state, now.as_secs_f64())
    }
}

fn put(storages: &mut BTreeMap<String, String>, origin: &str, entries: Option<String>) {
    match entries {
        Some(entries) => drop(storages.insert(origin.to_owned(), entries)),
        None => drop(storages.remove(origin)),
    }
}

/// Returns how many cookies the browser did not take.
async fn fill(context: &Context, state: &SessionState) -> Result<usize, CallError> {
    let refused = context.set_cookies(&state.cookies).await?;
    if state.local.is_empty() {
        return Ok(refused);
    }
    let tab = Tab::open(context).await?;
    let mut filled = Ok(());
    for (origin, entries) in &state.local {
        // One origin that cannot be filled is no reason to leave the others empty.
        let one = tab.fill_storage(origin, Some(entries), None).await;
        filled = filled.and(one);
    }
    tab.close().await;
    filled.map(|()| refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_page_writes_soon_after_a_login_is_left_soon() {
        tokio::time::pause();
        let mut gathered = Gathered { login: Some(0), login_at: Some(Instant::now()), ..Gathered::default() };
        gathered.exported = Some((gathered.state.clone(), Instant::now()));
        gathered.pages.insert("home".into(), Instant::now());
        gathered.state.local.insert("https://a.example".into(), "[[\"device\",\"d\"]]".into());
        assert!(!gathered.is_due("home", 0) && !gathered.is_to_be_exported(0, false));
        tokio::time::advance(GATHER_EVERY_AT_FIRST).await;
        assert!(gathered.is_due("home", 0) && gathered.is_to_be_exported(0, false));
    }

    #[tokio::test]
    async fn a_change_is_left_after_half_a_minute_and_a_login_at_once() {
        tokio::time::pause();
        let mut gathered = Gathered::default();
        assert!(
            gathered.is_due("home", 0) && gathered.is_to_be_exported(0, false),
            "the first is left at once"
        );
        gathered.exported = Some((gathered.state.clone(), Instant::now()));
        gathered.pages.insert("home".into(), Instant::now());
        gathered.login = Some(0);
        let storage = |count| Storage {
            origin: "https://a.example".into(),
            local: Some(format!("[[\"n\",\"{count}\"]]")),
            session: None,
            too_large: None,
        };
        gathered.merge("home", storage(1));
        assert!(!gathered.is_due("home", 0) && gathered.is_due("other", 0));
        assert!(!gathered.is_to_be_exported(0, false), "it is too early");
        assert!(gathered.is_to_be_exported(0, true), "but not at the end");
        assert!(gathered.is_due("home", 1) && gathered.is_to_be_exported(1, false), "nor after a login");
        tokio::time::advance(GATHER_EVERY).await;
        assert!(gathered.is_due("home", 0) && gathered.is_to_be_exported(0, false));
        gathered.exported = Some((gathered.state.clone(), Instant::now()));
        tokio::time::advance(GATHER_EVERY).await;
        assert!(!gathered.is_to_be_exported(0, false), "nothing has changed");
    }
}
