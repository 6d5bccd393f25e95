//! Page state: read by scripts, told when it changes, and never in the way of what else a page does.

use std::sync::Arc;
use std::time::Duration;

use snapfleet_worker::capture::{CaptureRule, Captured, PageReport, PathPattern, Source};
use snapfleet_worker::fleet::gate::Gate;
use snapfleet_worker::pages::{AccountPlan, Desk, PagePlan, drive_account};
use snapfleet_worker::session::SessionExchange;
use snapfleet_worker::steering::Helm;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::rig::{DEADLINE, Driven, TestBrowser, captured_n, page, rule};
use crate::site::Site;

const MIB: usize = 1024 * 1024;

fn script(script: &str) -> CaptureRule {
    CaptureRule {
        script: Some(Arc::from(script)),
        every: Duration::from_millis(200),
        ..CaptureRule::new("state", Source::PageState, PathPattern::any())
    }
}

fn on_pages(pages: &[&str], rule: CaptureRule) -> CaptureRule {
    CaptureRule { pages: pages.iter().map(|&page| page.to_owned()).collect(), ..rule }
}

async fn captured(driven: &mut Driven, rule: usize) -> Captured {
    let pick = |report: &PageReport| match report {
        PageReport::Captured(captured) if captured.rule == rule => Some(captured.clone()),
        PageReport::CaptureFailed { .. } | PageReport::PageFailed { .. } => panic!("{report:?}"),
        _ => None,
    };
    driven.find("page state", pick).await
}

/// The next report, for as long as the test may take.
async fn next(driven: &mut Driven, deadline: Instant) -> PageReport {
    let report = tokio::time::timeout_at(deadline, driven.reports.recv()).await;
    report.expect("the test's deadline").expect("the pages are still driven")
}

#[tokio::test]
async fn a_value_is_told_once_for_each_change_and_anew_in_a_new_document() {
    let (site, browser) = (Site::start().await, TestBrowser::new());
    let deadline = Instant::now() + DEADLINE;
    // A file may end like this.
    let rules =
        vec![script("function read() { return window.store; };\n"), script("async () => window.late")];
    let url = site.url("/odd/state");
    let plan = PagePlan { refresh: Some(Duration::from_secs(6)), ..page("state", url) };
    let mut driven = browser.drive("demo.a", vec![plan], rules).await;
    let (mut values, mut late, mut unchanged, mut last_ms) = (Vec::new(), 0, 0, 0);
    while values.len() < 4 {
        match next(&mut driven, deadline).await {
            PageReport::Captured(captured) => {
                assert_eq!(captured.url, site.url("/odd/state"));
                assert_eq!(captured.page.as_deref(), Some("state"));
                assert_eq!((captured.method, captured.status, captured.event), (None, None, None));
                if captured.rule == 1 {
                    assert_eq!(captured.body, "[\"there\"]");
                    late += 1;
                    continue;
                }
                assert!(captured.captured_at_ms > last_ms);
                last_ms = captured.captured_at_ms;
                values.push(String::from_utf8(captured.body.to_vec()).unwrap());
            }
            PageReport::Unchanged { rule: 0, at_ms } => {
                assert!(at_ms >= last_ms);
                unchanged += 1;
            }
            PageReport::Unchanged { .. } | PageReport::PageLoaded { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    let value = |n| format!("{{\"n\":{n},\"text\":\"one\"}}");
    assert_eq!(values, [value(1), value(2), value(3), value(1)]);
    assert_eq!(late, 1, "nothing is told before it is there");
    assert!(unchanged > 5, "{unchanged}");
    driven.stop().await;
    browser.shared.close().await;
}

#[tokio::test]
async fn what_a_script_throws_is_told_once_and_counted_each_time() {
    let (site, browser) = (Site::start().await, TestBrowser::new());
    let deadline = Instant::now() + DEADLINE;
    let rules = vec![
        script("() => { throw new TypeError('no store here'); }"),
        script("() => ({ broken"),
        script("() => BigInt(1)"),
        // The engine's message quotes what could not be read: what people wrote.
        script("() => JSON.parse('{\"text\": Dear Ann, \"n\": 1}')"),
        rule(Source::Response, "/api/item"),
    ];
    let mut driven = browser.drive("demo.a", vec![page("state", site.url("/odd/state"))], rules).await;
    let (mut told, mut again, mut items) = ([const { Vec::new() }; 4], [0; 4], 0);
    while again.iter().any(|times| *times < 10) || items < 10 {
        match next(&mut driven, deadline).await {
            PageReport::CaptureFailed { rule: Some(rule), reason, .. } => told[rule].push(reason),
            PageReport::FailedAgain { rule } => again[rule] += 1,
            PageReport::Captured(captured) if captured.rule == 4 => items += 1,
            PageReport::PageLoaded { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    let parts = ["TypeError: no store here", "SyntaxError", "BigInt", "is not valid JSON"];
    for (reasons, part) in told.iter().zip(parts) {
        assert!(matches!(&reasons[..], [reason] if reason.contains(part)), "{reasons:?}");
        assert!(!reasons[0].contains("Ann"), "{reasons:?}");
    }
    driven.stop().await;
    browser.shared.close().await;
}

#[tokio::test]
async fn a_page_that_sets_its_clock_dates_nothing_into_the_future() {
    let (site, browser) = (Site::start().await, TestBrowser::new());
    let rules = vec![
        script("() => { performance.now = () => 1e15; return 'late'; }"),
        script("() => { performance.now = () => -1e15; return 'early'; }"),
    ];
    let began_ms = now_ms();
    let mut driven = browser.drive("demo.a", vec![page("state", site.url("/odd/state"))], rules).await;
    for rule in 0..2 {
        let at_ms = captured(&mut driven, rule).await.captured_at_ms;
        assert!((began_ms..=now_ms()).contains(&at_ms), "rule {rule}: {at_ms}, begun at {began_ms}");
    }
    driven.stop().await;
    browser.shared.close().await;
}

#[tokio::test]
async fn a_page_that_replaces_json_is_told() {
    let (site, browser) = (Site::start().await, TestBrowser::new());
    let rules = vec![script("() => { JSON.stringify = () => ({ a: 1 }); return 1; }")];
    let mut driven = browser.drive("demo.a", vec![page("state", site.url("/odd/state"))], rules).await;
    let pick = |report: &PageReport| match report {
        PageReport::CaptureFailed { reason, .. } => Some(reason.clone()),
        PageReport::Captured(captured) => panic!("{captured:?}"),
        _ => None,
    };
    let reason = driven.find("failure", pick).await;
    assert!(reason.contains("JSON.stringify"), "{reason}");
    driven.stop().await;
    browser.shared.close().await;
}

fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

#[tokio::test]
async fn scripts_that_hang_stop_neither_the_page_nor_each_other() {
    let (site, browser) = (Site::start().await, TestBrowser::new());
    let deadline = Instant::now() + DEADLINE;
    let rules = vec![
        script("() => { while (true) {} }"),
        script("() => new Promise(() => {})"),
        script("async () => { await new Promise(done => setTimeout(done, 1000)); while (true) {} }"),
        script("() => window.store && Date.now()"),
        rule(Source::Response, "/api/item"),
    ];
    let mut driven = browser.drive("demo.a", vec![page("state", site.url("/odd/state"))], rules).await;
    let mut reasons: [Option<String>; 5] = Default::default();
    while reasons[..3].iter().any(Option::is_none) {
        match next(&mut driven, deadline).await {
            PageReport::CaptureFailed { rule: Some(rule), reason, .. } => {
                reasons[rule].get_or_insert(reason);
            }
            PageReport::PageFailed { reason, .. } => panic!("{reason}"),
            _ => {}
        }
    }
    assert!(reasons[0].as_ref().unwrap().contains("held up the page for 2 s"), "{reasons:?}");
    // Both others go on in the same document.
    let n = driven.find("item", captured_n).await;
    let (mut states, mut later) = (0, 0);
    driven
        .find("more of both", |report| {
            match report {
                PageReport::Captured(captured) if captured.rule == 3 => states += 1,
                PageReport::PageLoaded { .. } | PageReport::PageFailed { .. } => panic!("{report:?}"),
                _ => {}
            }
            later += i32::from(captured_n(report).is_some_and(|later| later != n));
            (states > 10 && later > 10).then_some(())
        })
        .await;
    driven.stop().await;
    browser.shared.close().await;
}

#[tokio::test]
async fn a_huge_value_is_told_with_its_size_and_one_that_just_fits_is_captured() {
    let (site, browser) = (Site::start().await, TestBrowser::new());
    let deadline = Instant::now() + DEADLINE;
    let rules = vec![
        script("() => 'x'.repeat(100 * 1024 * 1024)"),
        script("() => '\u{fc}'.repeat(20 * 1024 * 1024)"),
        script("() => 'x'.repeat(32 * 1024 * 1024 - 2)"),
        script("() => window.store.n"),
    ];
    let pages = vec![page("state", site.url("/odd/state"))];
    let rules: Vec<_> =
        rules.into_iter().map(|rule| CaptureRule { every: Duration::from_secs(2), ..rule }).collect();
    let mut driven = browser.drive("demo.a", pages, rules).await;
    let (mut reasons, mut sizes) = ([None, None], [0; 4]);
    while reasons.iter().any(Option::is_none) || sizes[2] == 0 || sizes[3] == 0 {
        match next(&mut driven, deadline).await {
            PageReport::CaptureFailed { rule: Some(rule @ (0 | 1)), reason, .. } => {
                reasons[rule] = Some(reason)
            }
            PageReport::CaptureFailed { reason, .. } => panic!("{reason}"),
            PageReport::Captured(captured) => sizes[captured.rule] = captured.body.len(),
            PageReport::PageFailed { reason, .. } => panic!("{reason}"),
            _ => {}
        }
    }
    for (reason, size) in reasons.iter().zip([100 * MIB + 2, 40 * MIB + 2]) {
        assert!(reason.as_ref().unwrap().contains(&size.to_string()), "{reasons:?}");
    }
    assert_eq!(sizes, [0, 0, 32 * MIB, 1]);
    driven.stop().await;
    browser.shared.close().await;
}

#[tokio::test]
async fn a_script_runs_on_the_pages_of_its_rule_alone() {
    let (site, browser) = (Site::start().await, TestBrowser::new());
    let deadline = Instant::now() + DEADLINE;
    let rules = vec![
        on_pages(&["works"], script("() => [document.title, 'works']")),
        on_pages(&["inbox"], script("() => [document.title, 'inbox']")),
        script("() => location.pathname"),
    ];
    let pages = vec![page("works", site.url("/odd/state")), page("inbox", site.url("/page/blank"))];
    let mut driven = browser.drive("demo.a", pages, rules).await;
    let (mut told, mut unchanged) = (Vec::new(), 0);
    // Long enough for each script to have run everywhere.
    while told.len() < 4 || unchanged < 12 {
        match next(&mut driven, deadline).await {
            PageReport::Captured(captured) => {
                let body = String::from_utf8(captured.body.to_vec()).unwrap();
                told.push((captured.rule, captured.page.unwrap(), body));
            }
            PageReport::Unchanged { .. } => unchanged += 1,
            PageReport::PageLoaded { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    told.sort();
    let row = |rule, page: &str, body: &str| (rule, page.to_owned(), body.to_owned());
    let expected = [
        row(0, "works", "[\"state\",\"works\"]"),
        row(1, "inbox", "[\"blank\",\"inbox\"]"),
        row(2, "inbox", "\"/page/blank\""),
        row(2, "works", "\"/odd/state\""),
    ];
    assert_eq!(told, expected);
    driven.stop().await;
    browser.shared.close().await;
}

#[tokio::test]
async fn reading_goes_on_while_the_account_is_not_held_but_begins_with_the_first_load() {
    let (site, browser) = (Site::start().await, TestBrowser::new());
    let helm = Helm::new(Gate::always_open());
    let (sender, reports) = mpsc::channel(64);
    let shutdown = CancellationToken::new();
    let plan = AccountPlan {
        desk: Desk::default(),
        account: "demo.a".parse().unwrap(),
        pages: vec![page("state", site.url("/odd/state"))],
        login: None,
        rules: Arc::new(vec![script("() => window.store ?? 'no page yet'")]),
        session: SessionExchange::default(),
        steering: helm.steering(),
    };
    let drive = drive_account(browser.acquire().await, plan, sender, shutdown.clone());
    let mut driven = Driven { reports, shutdown, task: tokio::spawn(drive) };
    let early = tokio::time::timeout(Duration::from_secs(2), driven.reports.recv()).await;
    assert!(early.is_err(), "nothing is loaded, nothing is read: {early:?}");
    helm.held(Some((1, 1)));
    assert_eq!(captured(&mut driven, 0).await.body, "{\"n\":1,\"text\":\"one\"}");
    helm.held(None);
    assert_eq!(captured(&mut driven, 0).await.body, "{\"n\":2,\"text\":\"one\"}");
    assert_eq!(captured(&mut driven, 0).await.body, "{\"n\":3,\"text\":\"one\"}");
    driven.stop().await;
    browser.shared.close().await;
}
