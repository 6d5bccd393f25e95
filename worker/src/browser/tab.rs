//! One tab: opened with every guard that Chromium needs, navigated, asked, typed into, closed.

use std::sync::Arc;
use std::time::Duration;

use chromiumoxide::Page;
use chromiumoxide::cdp::browser_protocol::emulation::SetFocusEmulationEnabledParams;
use chromiumoxide::cdp::browser_protocol::input::InsertTextParams;
use chromiumoxide::cdp::browser_protocol::inspector::EventTargetCrashed;
use chromiumoxide::cdp::browser_protocol::network::{ConfigureDurableMessagesParams, EnableParams};
use chromiumoxide::cdp::browser_protocol::page::{
    DialogType, EventJavascriptDialogOpening, HandleJavaScriptDialogParams,
};
use chromiumoxide::cdp::browser_protocol::service_worker::{
    EnableParams as EnableServiceWorkerParams, EventWorkerRegistrationUpdated,
};
use chromiumoxide::cdp::browser_protocol::target::{
    CloseTargetParams, CreateTargetParams, SetAutoAttachParams, TargetId,
};
use chromiumoxide::cdp::js_protocol::runtime::EvaluateParams;
use chromiumoxide::error::CdpError;
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::connection::{Browser, CallError, Context};
use crate::capture::BODY_BYTES_MAX;

/// The largest body that Chromium keeps for us, somewhat above the largest that is taken.
const RESOURCE_BUFFER_BYTES: usize = BODY_BYTES_MAX + 8 * 1024 * 1024;
/// Bodies kept outside of the page, so that one read late survives a navigation. Chromium's buffer inside of the
/// page, about 200 MB at most, is left at its default.
const DURABLE_BUFFER_BYTES: usize = 2 * RESOURCE_BUFFER_BYTES;

/// A tab of an account's context.
#[derive(Debug)]
pub(crate) struct Tab {
    browser: Arc<Browser>,
    page: Page,
    crashes: watch::Receiver<u64>,
    _watching: DropGuard,
}

impl Tab {
    /// Opens an empty tab that is ready to be listened to and navigated.
    pub(crate) async fn open(context: &Context) -> Result<Self, CallError> {
        let browser = Arc::clone(context.browser());
        let mut target = CreateTargetParams::new("about:blank");
        target.browser_context_id = context.id().cloned();
        // A window of its own: a tab behind another one paints nothing and takes no input.
        target.new_window = Some(true);
        let page = browser.call("open a tab", browser.cdp().new_page(target)).await?;
        let target = page.target_id().clone();
        match Self::guard(context, Arc::clone(&browser), page).await {
            Ok(tab) => Ok(tab),
            Err(error) => {
                close_target(&browser, target).await;
                Err(error)
            }
        }
    }

    async fn guard(context: &Context, browser: Arc<Browser>, page: Page) -> Result<Self, CallError> {
        let crashed = browser.call("listen", page.event_listener::<EventTargetCrashed>()).await?;
        let dialogs = browser.call("listen", page.event_listener::<EventJavascriptDialogOpening>()).await?;

        let stop = CancellationToken::new();
        let (sender, crashes) = watch::channel(0);
        tokio::spawn(stop.clone().run_until_cancelled_owned(crashed.for_each(move |_| {
            sender.send_modify(|count| *count += 1);
            std::future::ready(())
        })));
        tokio::spawn(stop.clone().run_until_cancelled_owned(answer_dialogs(
            Arc::clone(&browser),
            page.clone(),
            dialogs,
        )));
        let tab = Self { browser, page, crashes, _watching: stop.clone().drop_guard() };
        tab.prepare().await?;
        tab.keep_bodies(context, stop).await?;
        Ok(tab)
    }

    /// Keeps bodies outside of the page, for as long as no service worker is there: what one serves is then kept
    /// nowhere at all. A registration is told of well before its worker serves anything.
    async fn keep_bodies(&self, context: &Context, stop: CancellationToken) -> Result<(), CallError> {
        let mut registrations =
            self.call("listen", self.page.event_listener::<EventWorkerRegistrationUpdated>()).await?;
        if !context.has_service_worker().is_cancelled() {
            let durable = ConfigureDurableMessagesParams::builder()
                .max_total_buffer_size(bytes(DURABLE_BUFFER_BYTES))
                .max_resource_buffer_size(bytes(RESOURCE_BUFFER_BYTES))
                .build();
            self.call("keep bodies over navigations", self.page.execute(durable)).await?;
        }
        self.call("watch service workers", self.page.execute(EnableServiceWorkerParams::default())).await?;
        let (browser, page) = (Arc::clone(&self.browser), self.page.clone());
        let seen = context.has_service_worker().clone();
        tokio::spawn(stop.run_until_cancelled_owned(async move {
            let registered = async {
                while let Some(event) = registrations.next().await {
                    if event.registrations.iter().any(|registration| !registration.is_deleted) {
                        return;
                    }
                }
                std::future::pending().await
            };
            tokio::select! {
                () = registered => seen.cancel(),
                () = seen.cancelled() => {}
            }
            let off = page.execute(ConfigureDurableMessagesParams::default());
            match browser.call("keep bodies in the page", off).await {
                Ok(_) | Err(CallError::Died) => {}
                Err(error) => tracing::warn!(%error, "bodies served by a service worker will be missed"),
            }
        }));
        Ok(())
    }

    async fn prepare(&self) -> Result<(), CallError> {
        // The library attaches to new workers and holds them until told to run, which it never tells a service
        // worker: pages that wait for theirs would hang. Off, before the first navigation.
        let no_attach = SetAutoAttachParams::new(false, false);
        self.call("do not hold workers", self.page.execute(no_attach)).await?;
        let enable = EnableParams::builder().max_resource_buffer_size(bytes(RESOURCE_BUFFER_BYTES)).build();
        self.call("listen to the network", self.page.execute(enable)).await?;
        let focused = SetFocusEmulationEnabledParams::new(true);
        self.call("emulate focus", self.page.execute(focused)).await?;
        Ok(())
    }

    pub(crate) fn page(&self) -> &Page {
        &self.page
    }

    pub(crate) fn browser(&self) -> &Arc<Browser> {
        &self.browser
    }

    /// Counts the crashes of the tab's renderer; after one, calls in flight never answer.
    pub(crate) fn crashes(&self) -> watch::Receiver<u64> {
        let mut crashes = self.crashes.clone();
        crashes.mark_unchanged();
        crashes
    }

    pub(super) async fn call<T>(
        &self,
        what: &'static str,
        call: impl Future<Output = Result<T, CdpError>>,
    ) -> Result<T, CallError> {
        self.browser.call(what, call).await
    }

    /// Navigates and waits for the page's load event.
    pub(crate) async fn goto(&self, url: &str, limit: Duration) -> Result<(), CallError> {
        // Going to where a tab is, with a fragment, would only scroll: nothing would be fetched.
        if url.contains('#') {
            let here: String = self.evaluate("ask where the tab is", "location.href".into()).await?;
            if bare(&here) == bare(url) {
                self.evaluate::<serde_json::Value>(
                    "go to the page's part",
                    format!("void history.replaceState(history.state, '', {})", serde_json::Value::from(url)),
                )
                .await?;
                return self.browser.call_within("load anew", limit, self.page.reload()).await.map(drop);
            }
        }
        self.browser.call_within("navigate", limit, self.page.goto(url)).await.map(drop)
    }

    /// Evaluates a script whose value is JSON.
    pub(crate) async fn evaluate<T: DeserializeOwned>(
        &self,
        what: &'static str,
        script: String,
    ) -> Result<T, CallError> {
        let refused = |reason: String| CallError::Refused { what, reason };
        let mut params = EvaluateParams::new(script);
        params.return_by_value = Some(true);
        let answer = self.call(what, self.page.execute(params)).await?.result;
        if let Some(exception) = answer.exception_details {
            let text = exception.exception.and_then(|thrown| thrown.description).unwrap_or(exception.text);
            return Err(refused(text.lines().next().unwrap_or_default().to_owned()));
        }
        let value = answer.result.value.unwrap_or(serde_json::Value::Null);
        serde_json::from_value(value).map_err(|error| refused(error.to_string()))
    }

    /// Clicks the first element that matches, as a mouse would.
    pub(crate) async fn click(&self, selector: &str) -> Result<(), CallError> {
        let click = async {
            self.page.find_element(selector).await?.click().await?;
            Ok(())
        };
        self.call("click", click).await
    }

    /// Replaces what the first matching field holds by `value`, key by key. Errors never show the value.
    pub(crate) async fn fill(&self, selector: &str, value: &str) -> Result<(), CallError> {
        self.click(selector).await?;
        let quoted = serde_json::Value::from(selector);
        let select = format!("void document.querySelector({quoted})?.select?.()");
        self.evaluate::<serde_json::Value>("select what the field holds", select).await?;
        let element = self.call("find a field", self.page.find_element(selector)).await?;
        if value.is_empty() {
            return self.call("empty a field", element.press_key("Backspace")).await.map(drop);
        }
        let mut buffer = [0; 4];
        for letter in value.chars() {
            let text: &str = letter.encode_utf8(&mut buffer);
            let has_key = chromiumoxide::keys::get_key_definition(text).is_some();
            let typed = if has_key {
                self.call("type", element.press_key(text)).await.map(drop)
            } else {
                self.call("type", self.page.execute(InsertTextParams::new(text))).await.map(drop)
            };
            typed.map_err(|error| match error {
                CallError::Refused { what, .. } => {
                    CallError::Refused { what, reason: "a key was refused".into() }
                }
                other => other,
            })?;
        }
        Ok(())
    }

    /// Closes the tab, through the browser rather than the page, which may hang.
    pub(crate) async fn close(self) {
        close_target(&self.browser, self.page.target_id().clone()).await;
    }
}

/// An address without its fragment.
fn bare(url: &str) -> &str {
    url.split('#').next().unwrap_or(url)
}

async fn close_target(browser: &Browser, target: TargetId) {
    match browser.call("close a tab", browser.cdp().execute(CloseTargetParams::new(target))).await {
        Ok(_) | Err(CallError::Died) => {}
        Err(error) => tracing::warn!(%error, "tab not closed"),
    }
}

/// A dialog stops its page until somebody answers: leaving is confirmed, anything else is dismissed.
async fn answer_dialogs(
    browser: Arc<Browser>,
    page: Page,
    mut dialogs: chromiumoxide::listeners::EventStream<EventJavascriptDialogOpening>,
) {
    while let Some(dialog) = dialogs.next().await {
        let accept = dialog.r#type == DialogType::Beforeunload;
        let answer = HandleJavaScriptDialogParams::new(accept);
        if let Err(error) = browser.call("answer a dialog", page.execute(answer)).await {
            tracing::warn!(%error, "dialog of a page not answered");
        }
    }
}

fn bytes(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}
