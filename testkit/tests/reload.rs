//! The files of a platform are changed under a running worker: what is captured follows them, a broken edit leaves the
//! last good version in use and says so, and nobody logs in anew for it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::Duration;

use snapfleet_testkit::system::{Setup, System};
use snapfleet_testkit::{TestBroker, eventually};

/// Two looks at the files, a load of the page, and a publish.
const TAKEN_UP_WITHIN: Duration = Duration::from_secs(30);
const STORED_WITHIN: Duration = Duration::from_secs(60);
const ACCOUNT: &str = "demo.shop-a";

fn replace(path: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{from:?} is not in {}", path.display());
    std::fs::write(path, text.replace(from, to)).unwrap();
}

/// The titles of the works in the store.
async fn titles(system: &System) -> Vec<String> {
    let works = system.rows(&format!("contents?account={ACCOUNT}")).await;
    works.iter().map(|work| work["title"].as_str().unwrap_or_default().to_owned()).collect()
}

async fn wait_for_titles(system: &System, end: &str) {
    eventually(TAKEN_UP_WITHIN, "all works are mapped by the changed filter", async || {
        let titles = titles(system).await;
        (!titles.is_empty() && titles.iter().all(|title| title.ends_with(end))).then_some(())
    })
    .await;
}

/// The problems that the only worker tells, in one text.
async fn problems(system: &System) -> String {
    let workers = system.api("workers").await["list"].as_array().cloned().unwrap_or_default();
    workers.iter().map(|worker| worker["problems"].to_string()).collect()
}

async fn check_that_capturing_goes_on(system: &System) {
    let pushed = system.control("shop-a/push?kind=message").await;
    let id = ("direct_message".to_owned(), pushed["id"].as_str().unwrap().to_owned());
    eventually(TAKEN_UP_WITHIN, "capturing goes on", async || {
        system.store(ACCOUNT).await.contains_key(&id).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_files_of_a_platform_are_taken_up_and_a_broken_edit_is_not() {
    let setup = Setup {
        workers: vec![vec!["shop-a"]],
        events_per_minute: 0.0,
        refresh_s: Some(4),
        ..Setup::default()
    };
    let system = System::start(TestBroker::start(), setup).await;
    system.wait_for_equality(STORED_WITHIN).await;
    let folder = system.platforms().join("demo");
    let filter = folder.join("common.jq");

    // Another filter: the pages stay as they are.
    replace(&filter, "title: .desc.item_title", "title: (.desc.item_title + \" (v2)\")");
    wait_for_titles(&system, " (v2)").await;

    // One that does not compile: the one before stays, and where and why is told.
    replace(&filter, "(.desc.item_title + \" (v2)\")", "(.desc.item_title + \" (v3)\"");
    eventually(TAKEN_UP_WITHIN, "the broken edit is told", async || {
        let told = problems(&system).await;
        (told.contains("common.jq:") && told.contains("stays in use")).then_some(())
    })
    .await;
    assert!(system.workers[0].log().contains("common.jq:"), "{}", system.workers[0].log());
    check_that_capturing_goes_on(&system).await;
    assert!(titles(&system).await.iter().all(|title| title.ends_with(" (v2)")));

    // Mended.
    replace(&filter, "(.desc.item_title + \" (v3)\"", "(.desc.item_title + \" (v3)\")");
    wait_for_titles(&system, " (v3)").await;
    eventually(TAKEN_UP_WITHIN, "the problem is gone", async || {
        (!problems(&system).await.contains("common.jq")).then_some(())
    })
    .await;

    // One that never ends, for one rule: each body of it is counted and told, and the other rules go on.
    let works = folder.join("works.jq");
    replace(&works, "rows(work)", "def for_ever: for_ever; for_ever");
    eventually(TAKEN_UP_WITHIN, "bodies that are not mapped are counted", async || {
        let workers = system.api("workers").await;
        (workers["list"][0]["accounts"][0]["capture_errors"].as_u64()? > 0).then_some(())
    })
    .await;
    let log = system.workers[0].log();
    assert!(log.contains("a body does not map") && log.contains("rule=\"works\""), "{log}");
    check_that_capturing_goes_on(&system).await;
    replace(&works, "def for_ever: for_ever; for_ever", "rows(work)");

    // Another page and other rules: the pages begin anew, in the same session.
    replace(&folder.join("platform.toml"), "{base_url}/creator/inbox", "{base_url}/creator/inbox?poll_s=2");
    replace(&filter, " (v3)", " (v4)");
    wait_for_titles(&system, " (v4)").await;
    let log = system.workers[0].log();
    assert!(log.contains("the pages begin anew"), "{log}");
    assert_eq!(system.site_control().logins("shop-a").await.len(), 1, "it was logged in anew");

    // A page that asks for a setting which the account has not: the version before stays in use, and it is told.
    replace(&folder.join("platform.toml"), "required = [", "required = [\"shop_number\", ");
    eventually(TAKEN_UP_WITHIN, "the misfit is told of the account", async || {
        let shown = system.api(&format!("accounts/{ACCOUNT}")).await.to_string();
        (shown.contains("shop_number") && shown.contains("\"capturing\"")).then_some(())
    })
    .await;
}
