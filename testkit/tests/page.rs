//! The page as a person uses it, in a real browser: threads and messages show, a pushed message appears by itself,
//! and a message that is a script stays text.
//!
//! With `SNAPFLEET_SCREENSHOTS=<folder>` it leaves pictures there, in both languages.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/person.rs"]
mod person;

use std::path::Path;
use std::time::Duration;

use chromiumoxide::Page;
use chromiumoxide::cdp::browser_protocol::page::CaptureScreenshotFormat;
use chromiumoxide::page::ScreenshotParams;
use person::{evaluate, open, wait_until};
use serde_json::Value;
use snapfleet_testkit::TestBroker;
use snapfleet_testkit::system::{Setup, System};

async fn screenshot(page: &Page, name: &str) {
    let Some(dir) = std::env::var_os("SNAPFLEET_SCREENSHOTS") else { return };
    let params = ScreenshotParams::builder().format(CaptureScreenshotFormat::Png).build();
    page.save_screenshot(params, Path::new(&dir).join(name)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pushed_message_appears_in_the_page_by_itself() {
    let setup = Setup { events_per_minute: 0.0, ..Setup::default() };
    let system = System::start(TestBroker::start(), setup).await;
    system.wait_for_equality(Duration::from_secs(90)).await;
    let profile = tempfile::tempdir().unwrap();
    let (mut browser, page) = open(&format!("{}/?lang=en", system.master_url()), profile.path()).await;
    wait_until(&page, "the page lists threads", "document.querySelectorAll('#thread-list li').length > 5")
        .await;
    wait_until(&page, "the page lists the accounts", "document.querySelectorAll('#accounts a').length >= 6")
        .await;
    evaluate(&page, "window.notReloaded = true").await;

    let pushed = system.control("shop-a/push?kind=message").await;
    let key = ("direct_message".to_owned(), pushed["id"].as_str().expect("an id").to_owned());
    let truth = system.truth("shop-a").await;
    let text = truth[&key]["text"].as_str().expect("the pushed text").to_owned();
    let shown =
        format!("document.querySelector('#thread-list').textContent.includes({})", Value::from(text.clone()));
    wait_until(&page, "the pushed message shows in the list of threads", &shown).await;

    evaluate(&page, "document.querySelector('#thread-list a').click()").await;
    let opened = format!("document.querySelector('#messages').textContent.includes({})", Value::from(text));
    wait_until(&page, "the message shows in its thread", &opened).await;
    wait_until(&page, "the page was not reloaded", "window.notReloaded === true").await;
    screenshot(&page, "inbox.png").await;

    let sentence = "document.querySelector('#sentence').textContent";
    let english = evaluate(&page, sentence).await.unwrap();
    assert!(english.as_str().unwrap().contains("account"), "{english}");
    evaluate(&page, "document.querySelector('#language').click()").await;
    wait_until(&page, "the page speaks Chinese", &format!("/[一-龥]/.test({sentence})")).await;
    screenshot(&page, "inbox-zh.png").await;
    let scripts =
        "document.querySelectorAll('#thread-list script, #messages script, #messages img').length === 0";
    wait_until(&page, "nothing from a platform became an element", scripts).await;
    let _ = browser.close().await;
    let _ = browser.wait().await;
}
