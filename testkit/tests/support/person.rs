//! A person at a browser of their own: opens a page, looks at it, and clicks.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chromiumoxide::{Browser, BrowserConfig, Page};
use futures_util::StreamExt;
use serde_json::Value;
use snapfleet_testkit::eventually;

/// How long something may take to show.
const DEADLINE: Duration = Duration::from_secs(40);

fn chromium() -> PathBuf {
    std::env::var_os("CHROME").map_or_else(|| "/usr/lib/chromium/chromium".into(), PathBuf::from)
}

/// A browser of the test's own; it ends with the guard.
pub(crate) async fn open(url: &str, profile: &Path) -> (Browser, Page) {
    let config = BrowserConfig::builder()
        .chrome_executable(chromium())
        .user_data_dir(profile)
        .no_sandbox()
        .respect_https_errors()
        .new_headless_mode()
        .window_size(1280, 800)
        .viewport(None)
        .args(["disable-gpu", "disable-quic", "disable-component-update", "lang=en-US"])
        .build()
        .unwrap();
    let (browser, mut events) = Browser::launch(config).await.expect("Chromium starts");
    tokio::spawn(async move { while events.next().await.is_some() {} });
    let page = browser.new_page(url).await.unwrap();
    (browser, page)
}

/// What a script on the page yields; `None` where it fails or does not answer.
pub(crate) async fn evaluate(page: &Page, script: &str) -> Option<Value> {
    tokio::time::timeout(Duration::from_secs(10), page.evaluate(script)).await.ok()?.ok()?.into_value().ok()
}

/// Waits until a script on the page yields true.
pub(crate) async fn wait_until(page: &Page, what: &str, script: &str) {
    eventually(DEADLINE, what, async || (evaluate(page, script).await? == Value::Bool(true)).then_some(()))
        .await;
}
