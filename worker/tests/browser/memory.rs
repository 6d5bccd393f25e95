//! What takes too much memory is replaced; its account and the others go on.

use std::time::Duration;

use snapfleet_testkit::eventually;
use snapfleet_worker::capture::Source;
use snapfleet_worker::pages::{DriveError, PageReport};

use crate::rig::{DEADLINE, Driven, TestBrowser, captured_n, gone_within, page, process_tree, rule};
use crate::site::Site;

const MIB: u64 = 1024 * 1024;

fn failed(report: &PageReport) -> Option<String> {
    match report {
        PageReport::PageFailed { reason, .. } => Some(reason.clone()),
        _ => None,
    }
}

fn number(report: &PageReport) -> Option<u64> {
    captured_n(report).and_then(|n| n.parse().ok())
}

/// Waits for an item with a number of at least `least`.
async fn item(driven: &mut Driven, least: u64) -> u64 {
    driven.find("item", |report| number(report).filter(|n| *n >= least)).await
}

#[tokio::test]
async fn a_page_over_its_limit_gets_a_new_tab_and_the_others_keep_theirs() {
    let site = Site::start().await;
    let browser = TestBrowser::with(|config| config.page_bytes_max = 150 * MIB);
    let rules = || vec![rule(Source::Response, "/api/item")];
    let pages = |name: &str| vec![page(name, site.url(&format!("/page/{name}")))];
    let mut other = browser.drive("demo.a", pages("steady"), rules()).await;
    let mut growing = browser.drive("demo.b", pages("growing"), rules()).await;
    item(&mut other, 3).await;

    let reason = growing.find("failure", failed).await;
    assert!(reason.contains("MiB of memory") && reason.contains("new tab"), "{reason}");
    let size: u64 = reason.split_whitespace().find_map(|word| word.parse().ok()).unwrap();
    assert!((150..1_000).contains(&size), "{reason}");
    // The new tab begins from 0, and what is heard of it is the account's.
    let loaded = |report: &PageReport| matches!(report, PageReport::PageLoaded { .. });
    growing.find_both("load in a new tab", loaded, |report| number(report) == Some(0)).await;

    // The other page counts on: it was neither reloaded nor reported as failing meanwhile.
    for report in other.stop().await {
        assert!(number(&report).is_some_and(|n| n > 0), "{report:?}");
    }
    growing.stop().await;
    browser.shared.close().await;
}

#[tokio::test]
async fn a_browser_over_its_limit_is_closed_in_order_and_another_one_launched() {
    let site = Site::start().await;
    // A browser with a small page takes more than this, and less than twice as much.
    let limit = 250 * MIB;
    let browser = TestBrowser::with(|config| config.browser_bytes_max = Some(limit));
    let rules = vec![rule(Source::Response, "/api/item")];
    let pages = vec![page("steady", site.url("/page/steady"))];
    let mut driven = browser.drive("demo.a", pages.clone(), rules.clone()).await;
    let first = browser.acquire().await;
    let processes = process_tree(first.pid());
    item(&mut driven, 0).await;
    let Driven { mut reports, task, .. } = driven;
    let drained = tokio::spawn(async move { while reports.recv().await.is_some() {} });
    let error = tokio::time::timeout(DEADLINE, task).await.unwrap().unwrap().unwrap_err();
    assert!(matches!(error, DriveError::BrowserRetired), "{error}");
    drained.await.unwrap();

    // Waits until the first one is gone: there are never two.
    let second = browser.acquire().await;
    gone_within(Duration::from_millis(1), &processes).await;
    assert!(!first.is_alive() && first.pid() != second.pid());
    let mut driven = browser.drive("demo.a", pages, rules).await;
    let shown = item(&mut driven, 0).await;

    // It takes as much as the first one did, and is left for now.
    let over = async || Some(browser.shared.memory_bytes()).filter(|bytes| *bytes > limit);
    let bytes = eventually(DEADLINE, "the second browser is over the limit, too", over).await;
    assert!(bytes < 2 * limit, "this machine's browser takes {bytes} bytes: the test needs another limit");
    item(&mut driven, shown + 20).await;
    assert!(second.is_alive());
    driven.stop().await;
    browser.shared.close().await;
    assert_eq!(std::fs::read_dir(browser.folder.path()).unwrap().count(), 0, "no profile is left");
    assert_eq!(browser.shared.memory_bytes(), 0);
}
