//! What dies is noticed, replaced, and leaves nothing behind.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use snapfleet_worker::browser::{BrowserError, SharedBrowser};
use snapfleet_worker::capture::Source;
use snapfleet_worker::pages::{DriveError, PageReport};

use crate::rig::{
    DEADLINE, TestBrowser, captured_n, config, debugging_port, gone_within, kill, page, process_tree,
    renderers, rule, socket_folder,
};
use crate::site::Site;

fn failed(report: &PageReport) -> Option<String> {
    match report {
        PageReport::PageFailed { reason, .. } => Some(reason.clone()),
        _ => None,
    }
}

fn loaded(report: &PageReport) -> bool {
    matches!(report, PageReport::PageLoaded { .. })
}

#[tokio::test]
async fn a_killed_renderer_is_noticed_and_the_page_goes_on() {
    let (site, browser) = (Site::start().await, TestBrowser::new());
    let rules = vec![rule(Source::Response, "/api/item")];
    let mut driven = browser.drive("demo.a", vec![page("steady", site.url("/page/steady"))], rules).await;
    driven.find("item", captured_n).await;
    for round in 0..2 {
        for renderer in renderers(browser.acquire().await.pid()) {
            kill(renderer);
        }
        let reason = driven.find("failure", failed).await;
        assert!(reason.contains("crashed"), "round {round}: {reason}");
        driven.find_both("new load", loaded, |report| captured_n(report).as_deref() == Some("0")).await;
    }
    driven.stop().await;
    browser.shared.close().await;
}

#[tokio::test]
async fn a_hanging_page_gets_another_tab() {
    let site = Site::start().await;
    let browser = TestBrowser::with(|config| config.call_timeout = Duration::from_secs(4));
    let rules = vec![rule(Source::Response, "/api/item")];
    let mut driven = browser.drive("demo.a", vec![page("hang", site.url("/page/hang"))], rules).await;
    driven.find("item", captured_n).await;
    let reason = driven.find("failure", failed).await;
    assert!(reason.contains("no answer") || reason.contains("not loaded"), "{reason}");
    driven.find_both("load in a new tab", loaded, |report| captured_n(report).is_some()).await;
    driven.stop().await;
    browser.shared.close().await;
}

#[tokio::test]
async fn a_dialog_does_not_stop_its_page_and_a_closed_tab_is_opened_again() {
    let (site, browser) = (Site::start().await, TestBrowser::new());
    let rules = vec![rule(Source::Response, "/api/item")];
    let mut driven = browser.drive("demo.a", vec![page("dialog", site.url("/page/dialog"))], rules).await;
    driven.find("item", captured_n).await;

    let tabs = debugging_port(browser.folder.path(), "GET", "/json/list").await;
    let tabs: Vec<serde_json::Value> = serde_json::from_str(&tabs).unwrap();
    let is_open = |tab: &&serde_json::Value| tab["url"].as_str().is_some_and(|url| url.ends_with("/dialog"));
    let tab = tabs.iter().find(is_open).unwrap()["id"].as_str().unwrap().to_owned();
    debugging_port(browser.folder.path(), "PUT", &format!("/json/close/{tab}")).await;
    let reason = driven.find("failure", failed).await;
    assert!(reason.contains("gone"), "{reason}");
    driven.find("item of the new tab", captured_n).await;
    driven.stop().await;
    browser.shared.close().await;
}

#[tokio::test]
async fn a_killed_browser_is_told_at_once_and_another_one_launched() {
    let (site, browser) = (Site::start().await, TestBrowser::new());
    let rules = vec![rule(Source::Response, "/api/item")];
    let pages = vec![page("steady", site.url("/page/steady"))];
    let mut driven = browser.drive("demo.a", pages.clone(), rules.clone()).await;
    driven.find("item", captured_n).await;
    let first = browser.acquire().await;
    let processes = process_tree(first.pid());
    assert!(processes.len() > 3, "{processes:?}");
    let killed = Instant::now();
    kill(first.pid());
    let error = tokio::time::timeout(DEADLINE, driven.task).await.unwrap().unwrap().unwrap_err();
    assert!(matches!(error, DriveError::BrowserDied), "{error}");
    assert!(killed.elapsed() < Duration::from_secs(2), "told after {:?}", killed.elapsed());
    gone_within(Duration::from_secs(5), &processes).await;

    let mut driven = browser.drive("demo.a", pages, rules).await;
    driven.find("item", captured_n).await;
    let second = browser.acquire().await;
    assert_ne!(first.pid(), second.pid());
    assert!(second.is_alive() && !first.is_alive());
    driven.stop().await;

    let (processes, sockets) = (process_tree(second.pid()), socket_folder(browser.folder.path()));
    browser.shared.close().await;
    gone_within(Duration::from_secs(1), &processes).await;
    assert_eq!(std::fs::read_dir(browser.folder.path()).unwrap().count(), 0, "no profile is left");
    assert!(!sockets.exists());
    assert!(matches!(browser.shared.acquire().await, Err(BrowserError::Closed)));
}

#[tokio::test]
async fn a_killed_worker_leaves_no_process_and_the_next_one_removes_its_profile() {
    let folder = tempfile::tempdir().unwrap();
    // Examples are built with the tests, into the folder beside theirs.
    let tests = std::env::current_exe().unwrap();
    let example = tests.ancestors().nth(2).unwrap().join("examples/browser_until_killed");
    assert!(example.exists(), "not built: run cargo build --examples -p snapfleet-worker");
    let mut worker = Command::new(example).arg(folder.path()).stdout(Stdio::null()).spawn().unwrap();
    let pid_file = folder.path().join("pid");
    let started = Instant::now();
    while !pid_file.exists() {
        assert!(
            started.elapsed() < DEADLINE && worker.try_wait().unwrap().is_none(),
            "the worker did not start"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let browser: u32 = std::fs::read_to_string(&pid_file).unwrap().parse().unwrap();
    let processes = process_tree(browser);
    assert!(processes.len() > 5, "{processes:?}");
    let sockets = socket_folder(folder.path());
    worker.kill().unwrap();
    worker.wait().unwrap();
    gone_within(Duration::from_secs(3), &processes).await;

    std::fs::remove_file(&pid_file).unwrap();
    assert!(std::fs::read_dir(folder.path()).unwrap().count() > 0, "the killed worker's profile is there");
    let next = SharedBrowser::new(config(folder.path()));
    next.acquire().await.unwrap();
    next.close().await;
    assert!(!sockets.exists());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn without_a_binary_the_remedy_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.executable = "/nonexistent/chromium".into();
    let shared = SharedBrowser::new(config);
    let error = shared.acquire().await.unwrap_err().to_string();
    assert!(error.contains("/nonexistent/chromium") && error.contains("apt-get install chromium"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
