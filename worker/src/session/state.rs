//! What makes a browser logged in: cookies with session ones, local and session storage, as values.
//!
//! Knows neither the browser, which hands them over as text and objects of its own, nor where they are kept. Nothing
//! in here may ever reach a log.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A cookie as the browser takes it: an object with name, value, domain and more; `expires` (seconds since 1970) only
/// where it outlives the browser.
pub type Cookie = Map<String, Value>;

/// What one storage holds: the text of a JSON array of [key, value] pairs, sorted by key. It stays the text that the
/// page's own engine wrote, because a storage may hold what is no valid Unicode.
pub type Entries = String;

/// How much of the time for which a cookie still lives may be missing from what is kept of it.
const EXPIRY_SLACK: f64 = 0.25;

/// The state of one account's login.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SessionState {
    /// All cookies of the context.
    pub cookies: Vec<Cookie>,
    /// Local storage by origin.
    #[serde(default)]
    pub local: BTreeMap<String, Entries>,
    /// Session storage by page and origin: each tab has its own.
    #[serde(default)]
    pub tabs: BTreeMap<String, BTreeMap<String, Entries>>,
}

impl fmt::Debug for SessionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionState")
            .field("cookies", &self.cookies.len())
            .field("local", &self.local.len())
            .field("tabs", &self.tabs.len())
            .finish()
    }
}

impl SessionState {
    /// Puts the cookies into an order that does not depend on when each was last used.
    pub fn sort(&mut self) {
        self.cookies.sort_by_cached_key(|cookie| {
            ["domain", "path", "name", "partitionKey"].map(|field| cookie.get(field).map(Value::to_string))
        });
    }

    /// Whether keeping this is as good as keeping `newer`, both sorted: all is the same, save that sites which
    /// lengthen a cookie's life with each answer are followed only now and then. `now_s` is in seconds since 1970.
    #[must_use]
    pub fn is_as_good_as(&self, newer: &Self, now_s: f64) -> bool {
        self.local == newer.local
            && self.tabs == newer.tabs
            && self.cookies.len() == newer.cookies.len()
            && self.cookies.iter().zip(&newer.cookies).all(|(old, new)| same_cookie(old, new, now_s))
    }
}

fn same_cookie(old: &Cookie, new: &Cookie, now_s: f64) -> bool {
    let fields = |cookie: &Cookie| cookie.iter().filter(|(name, _)| *name != "expires").count();
    let same = fields(old) == fields(new)
        && old
            .iter()
            .filter(|(name, _)| *name != "expires")
            .all(|(name, value)| new.get(name) == Some(value));
    let expires = |cookie: &Cookie| cookie.get("expires").and_then(Value::as_f64);
    same && match (expires(old), expires(new)) {
        (None, None) => true,
        (Some(old), Some(new)) => new - old <= EXPIRY_SLACK * (new - now_s).max(0.0),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn state(cookies: &[Value]) -> SessionState {
        let cookies = cookies.iter().map(|cookie| cookie.as_object().unwrap().clone()).collect();
        let mut state = SessionState { cookies, ..SessionState::default() };
        state.sort();
        state
    }

    #[test]
    fn a_state_is_outdated_by_any_change_but_not_by_a_slightly_longer_life() {
        let cookie = |value: &str, expires: f64| json!({ "name": "sid", "domain": "a", "path": "/", "value": value, "expires": expires });
        let (old, now) = (state(&[cookie("x", 2_000.0)]), 1_000.0);
        assert!(old.is_as_good_as(&old, now));
        assert!(old.is_as_good_as(&state(&[cookie("x", 2_200.0)]), now), "200 of 1,200 s are missing");
        assert!(!old.is_as_good_as(&state(&[cookie("x", 2_500.0)]), now), "500 of 1,500 s are missing");
        assert!(!old.is_as_good_as(&state(&[cookie("y", 2_000.0)]), now));
        assert!(!old.is_as_good_as(&state(&[]), now));
        let session = json!({ "name": "sid", "domain": "a", "path": "/", "value": "x" });
        assert!(
            !old.is_as_good_as(&state(std::slice::from_ref(&session)), now),
            "it became a session cookie"
        );
        let mut stored = old.clone();
        stored.local.insert("https://a".into(), "[]".into());
        assert!(!old.is_as_good_as(&stored, now));
        let other = json!({ "name": "b", "domain": "a", "path": "/", "value": "1" });
        assert_eq!(state(&[session.clone(), other.clone()]), state(&[other, session]), "in whichever order");
    }

    #[test]
    fn a_state_shows_nothing_of_itself() {
        let mut state = state(&[json!({ "name": "sid", "value": "hunter2" })]);
        state.local.insert("https://a".into(), "[[\"token\",\"hunter2\"]]".into());
        assert!(!format!("{state:?}").contains("hunter2"));
    }
}
