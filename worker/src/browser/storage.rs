//! A context's cookies and a tab's storages: read as values, and set before the first page is loaded.
//!
//! Knows neither what they mean nor where they are kept. Its errors never show them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chromiumoxide::cdp::browser_protocol::fetch::{
    DisableParams, EnableParams, EventRequestPaused, FulfillRequestParams, HeaderEntry,
};
use chromiumoxide::cdp::browser_protocol::network::{CookieParam, SetBypassServiceWorkerParams};
use chromiumoxide::cdp::browser_protocol::storage::{GetCookiesParams, SetCookiesParams};
use chromiumoxide::listeners::EventStream;
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::connection::{CallError, Context};
use super::tab::Tab;

/// The most that is read of one storage, in characters of its text.
const STORAGE_CHARS_MAX: usize = 2 * 1024 * 1024;
/// What [`Tab::fill_storage`] shows in the site's place.
const BLANK_PAGE: &str = "<title>blank</title><link rel=icon href='data:,'>";
/// What the browser tells of a cookie and does not take with one.
const COOKIE_TOLD_ONLY: [&str; 3] = ["size", "session", "partitionKeyOpaque"];

/// What a page's origin keeps, as texts of sorted JSON arrays of [key, value] pairs; none where nothing is there.
#[derive(Debug, Deserialize)]
pub(crate) struct Storage {
    pub(crate) origin: String,
    pub(crate) local: Option<String>,
    /// This tab's alone.
    pub(crate) session: Option<String>,
    /// The characters of one that is longer than is read; it is then left out.
    pub(crate) too_large: Option<u64>,
}

impl Context {
    /// All its cookies, as [`Context::set_cookies`] takes them.
    pub(crate) async fn cookies(&self) -> Result<Vec<Map<String, Value>>, CallError> {
        let what = "read cookies";
        let params = GetCookiesParams { browser_context_id: self.id().cloned() };
        let answer = self.browser().call(what, self.browser().cdp().execute(params)).await?;
        let cookies = answer.result.cookies.into_iter().map(|cookie| {
            let session = cookie.session;
            let Ok(Value::Object(mut fields)) = serde_json::to_value(cookie) else { return None };
            COOKIE_TOLD_ONLY.iter().for_each(|field| drop(fields.remove(*field)));
            if session {
                fields.remove("expires");
            }
            Some(fields)
        });
        let cookies: Option<Vec<_>> = cookies.collect();
        cookies.ok_or_else(|| CallError::Refused { what, reason: "a cookie is no object".to_owned() })
    }

    /// Sets cookies; returns how many of them the browser does not take.
    pub(crate) async fn set_cookies(&self, cookies: &[Map<String, Value>]) -> Result<usize, CallError> {
        let params = cookies.iter().map(|cookie| serde_json::from_value(Value::Object(cookie.clone())).ok());
        let params: Vec<CookieParam> = params.flatten().collect();
        if params.is_empty() {
            return Ok(cookies.len());
        }
        let mut refused = cookies.len() - params.len();
        match self.set(params.clone()).await {
            Ok(()) => return Ok(refused),
            Err(CallError::Refused { .. }) => {}
            Err(error) => return Err(error),
        }
        // One that it does not take makes it refuse all.
        for cookie in params {
            match self.set(vec![cookie]).await {
                Ok(()) => {}
                Err(CallError::Refused { .. }) => refused += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(refused)
    }

    async fn set(&self, cookies: Vec<CookieParam>) -> Result<(), CallError> {
        let params = SetCookiesParams { cookies, browser_context_id: self.id().cloned() };
        self.browser().call("set cookies", self.browser().cdp().execute(params)).await.map(drop)
    }
}

impl Tab {
    /// What the origin of the tab's page keeps; `None` for a page that can keep nothing.
    pub(crate) async fn storage(&self) -> Result<Option<Storage>, CallError> {
        let script = format!(
            "(() => {{
                if (!location.origin.startsWith('http')) return null;
                const found = {{ origin: location.origin }};
                const read = (name, open) => {{
                    let text;
                    try {{
                        const storage = open();
                        const keys = Array.from({{ length: storage.length }}, (_, n) => storage.key(n)).sort();
                        if (!keys.length) return;
                        text = JSON.stringify(keys.map(key => [key, storage.getItem(key)]));
                    }} catch {{ return; }}
                    if (text.length > {STORAGE_CHARS_MAX}) found.too_large = text.length;
                    else found[name] = text;
                }};
                read('local', () => localStorage);
                read('session', () => sessionStorage);
                return found;
            }})()"
        );
        self.evaluate("read storage", script).await
    }

    /// Fills the storages of `origin` from texts as [`Storage`] has them, on a blank page that is shown in the site's
    /// place: the site is asked nothing. For a tab that has loaded nothing yet.
    pub(crate) async fn fill_storage(
        &self,
        origin: &str,
        local: Option<&str>,
        session: Option<&str>,
    ) -> Result<(), CallError> {
        let (browser, page) = (self.browser(), self.page());
        let requests = browser.call("listen", page.event_listener::<EventRequestPaused>()).await?;
        browser.call("stand in for a site", page.execute(EnableParams::default())).await?;
        let bypass = |on| page.execute(SetBypassServiceWorkerParams::new(on));
        browser.call("stand in for a site", bypass(true)).await?;
        let filled = tokio::select! {
            filled = self.fill_on_blank_page(origin, local, session) => filled,
            error = self.answer_blank(requests) => Err(error),
        };
        // Whatever came of it, the tab gets the network back.
        browser.call("give the network back", bypass(false)).await?;
        browser.call("give the network back", page.execute(DisableParams::default())).await?;
        filled
    }

    async fn fill_on_blank_page(
        &self,
        origin: &str,
        local: Option<&str>,
        session: Option<&str>,
    ) -> Result<(), CallError> {
        let what = "fill storage";
        self.goto(&format!("{origin}/"), self.browser().call_timeout()).await?;
        let script = format!(
            "(() => {{
                if (location.origin !== {origin} || document.title !== 'blank') return false;
                const fill = (storage, text) => {{
                    for (const [key, value] of JSON.parse(text)) storage.setItem(key, value);
                }};
                const local = {local}, session = {session};
                try {{
                    if (local) fill(localStorage, local);
                    if (session) fill(sessionStorage, session);
                }} catch {{ return false; }}
                return true;
            }})()",
            origin = json!(origin),
            local = json!(local),
            session = json!(session),
        );
        match self.evaluate(what, script).await? {
            true => Ok(()),
            false => Err(CallError::Refused { what, reason: "the origin takes no storage".to_owned() }),
        }
    }

    /// Answers every request of the tab with the blank page; returns only with the error that stops it.
    async fn answer_blank(&self, mut requests: EventStream<EventRequestPaused>) -> CallError {
        while let Some(request) = requests.next().await {
            let mut answer = FulfillRequestParams::new(request.request_id.clone(), 200);
            answer.response_headers = Some(vec![HeaderEntry::new("Content-Type", "text/html")]);
            answer.body = Some(STANDARD.encode(BLANK_PAGE).into());
            if let Err(error) = self.browser().call("stand in for a site", self.page().execute(answer)).await
            {
                return error;
            }
        }
        CallError::Gone { what: "stand in for a site" }
    }
}
