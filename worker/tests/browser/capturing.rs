//! What pages fetch and are pushed is captured, whole, in order, and under the right account.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use snapfleet_worker::capture::Source;
use snapfleet_worker::pages::{Captured, PagePlan, PageReport, ScrollPlan};

use crate::rig::{DEADLINE, TestBrowser, captured_n, page, query, rule};
use crate::site::{PUSHES, Site};

#[tokio::test]
async fn each_response_of_a_burst_is_captured_once_although_the_page_leaves_at_once() {
    let (site, browser) = (Site::start().await, TestBrowser::new());
    let rules = vec![rule(Source::Response, "/api/item"), rule(Source::Response, "/api/broken")];
    let mut driven = browser.drive("demo.a", vec![page("burst", site.url("/page/burst"))], rules).await;
    let mut counts: HashMap<String, u32> = HashMap::new();
    while counts.values().sum::<u32>() < 103 {
        match driven.next().await {
            PageReport::Captured(captured) => {
                let body: serde_json::Value = serde_json::from_slice(&captured.body).unwrap();
                let n = query(&captured.url, "n").unwrap();
                assert_eq!(body["n"], n.as_str());
                assert_eq!((captured.rule, captured.event), (0, None));
                *counts.entry(n).or_default() += 1;
            }
            PageReport::PageLoaded { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    for n in 0..100 {
        let expected = if n == 0 { 3 } else { 1 };
        assert_eq!(counts.remove(&n.to_string()), Some(expected), "item {n}");
    }
    assert_eq!(counts.remove("moved"), Some(1), "a redirected request gives its final response");
    let rest = driven.stop().await;
    assert!(!rest.iter().any(|report| !matches!(report, PageReport::PageLoaded { .. })), "{rest:?}");
    browser.shared.close().await;
}

#[tokio::test]
async fn pushed_events_and_frames_arrive_in_order() {
    let (site, browser) = (Site::start().await, TestBrowser::new());
    let rules = vec![rule(Source::EventSource, "/api/push"), rule(Source::WebSocket, "socket")];
    let mut driven = browser.drive("demo.a", vec![page("pushed", site.url("/page/pushed"))], rules).await;
    let (mut events, mut frames) = (Vec::new(), Vec::new());
    while events.len() < PUSHES || frames.len() < PUSHES {
        match driven.next().await {
            PageReport::Captured(Captured { rule: 0, event, body, .. }) => {
                assert_eq!(event.as_deref(), Some("news"));
                events.push(body);
            }
            PageReport::Captured(Captured { rule: 1, event: None, body, .. }) => frames.push(body),
            PageReport::PageLoaded { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    let expected: Vec<String> = (0..PUSHES).map(|n| format!("{{\"n\":{n}}}")).collect();
    assert_eq!(events, expected);
    assert_eq!(frames, expected);
    driven.stop().await;
    browser.shared.close().await;
}

/// What a body says was so when its response began, although it came whole only later.
#[tokio::test]
async fn a_response_that_began_before_a_push_is_told_as_older_although_it_ended_after_it() {
    let now_ms = || i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    let (site, browser) = (Site::start().await, TestBrowser::new());
    let rules = vec![
        rule(Source::Response, "/api/late-body"),
        rule(Source::EventSource, "/api/late-push"),
        rule(Source::WebSocket, "/api/echo"),
    ];
    let begun_at_ms = now_ms();
    let mut driven = browser.drive("demo.a", vec![page("late", site.url("/page/late"))], rules).await;
    let mut told = HashMap::new();
    while told.len() < 3 {
        match driven.next().await {
            PageReport::Captured(captured) => {
                told.insert(captured.rule, (captured.captured_at_ms, captured.body));
            }
            PageReport::PageLoaded { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(told[&0].1, "[\"late\",\"body\"]");
    for push in [1, 2] {
        assert_eq!(told[&push].1, "pushed");
        assert!(told[&push].0 > told[&0].0, "push {} response {}", told[&push].0, told[&0].0);
    }
    for (at_ms, _) in told.values() {
        // The two clocks are read at slightly different moments.
        assert!((begun_at_ms - 100..=now_ms() + 100).contains(at_ms), "{at_ms} since {begun_at_ms}");
    }
    driven.stop().await;
    browser.shared.close().await;
}

#[tokio::test]
async fn what_was_captured_before_a_stop_is_delivered_after_it() {
    let (site, browser) = (Site::start().await, TestBrowser::new());
    let rules = vec![rule(Source::Response, "/api/item")];
    let driven = browser.drive("demo.a", vec![page("burst", site.url("/page/burst"))], rules).await;
    // More bodies than the reports' queue takes: the rest is still on its way when the stop comes.
    let started = Instant::now();
    let full = || driven.reports.len() == driven.reports.max_capacity();
    while site.shared.left.load(Ordering::SeqCst) == 0 || !full() {
        assert!(started.elapsed() < DEADLINE, "the page did not leave, or the queue is not full");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let rest = driven.stop().await;
    assert_eq!(rest.iter().filter_map(captured_n).count(), 103, "{rest:?}");
    browser.shared.close().await;
}

#[tokio::test]
async fn a_service_worker_gets_ready_and_what_it_serves_is_captured() {
    let (site, browser) = (Site::start().await, TestBrowser::new());
    let rules = vec![rule(Source::Response, "/api/item")];
    let mut driven = browser.drive("demo.a", vec![page("worker", site.url("/page/worker"))], rules).await;
    let mut seen = Vec::new();
    while seen.len() < 20 {
        match driven.next().await {
            PageReport::Captured(captured) => {
                let ready_ms: u64 = query(&captured.url, "ready_ms").unwrap().parse().unwrap();
                assert!(ready_ms < 5_000, "ready after {ready_ms} ms");
                assert!(captured.body.len() > 30_000);
                seen.push(query(&captured.url, "n").unwrap());
            }
            PageReport::PageLoaded { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
    driven.stop().await;
    browser.shared.close().await;
}

#[tokio::test]
async fn two_accounts_never_see_each_others_cookies_storage_or_bodies() {
    let (site, browser) = (Site::start().await, TestBrowser::new());
    let start = async |me: &str| {
        let rules = vec![rule(Source::Response, "/api/cookies")];
        let url = site.url(&format!("/page/identity?me={me}"));
        browser.drive(&format!("demo.{me}"), vec![page("identity", url)], rules).await
    };
    let (mut ann, mut bob) = (start("ann").await, start("bob").await);
    for _ in 0..10 {
        for (driven, me) in [(&mut ann, "ann"), (&mut bob, "bob")] {
            let captured = driven.find("cookies", |report| match report {
                PageReport::Captured(captured) => Some(captured.clone()),
                _ => None,
            });
            let captured = captured.await;
            let body: serde_json::Value = serde_json::from_slice(&captured.body).unwrap();
            assert_eq!(body["cookies"], format!("me-{me}=1"));
            assert_eq!(query(&captured.url, "storage").unwrap(), format!("me-{me}"));
            assert_eq!(query(&captured.url, "me").unwrap(), me);
        }
    }
    ann.stop().await;
    // The other one goes on after the first one's context is gone.
    for _ in 0..200 {
        bob.find("cookies", |report| matches!(report, PageReport::Captured(_)).then_some(())).await;
        if bob.reports.is_empty() {
            break;
        }
    }
    bob.stop().await;
    browser.shared.close().await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_told_and_its_neighbours_arrive() {
    let (site, browser) = (Site::start().await, TestBrowser::new());
    let rules = vec![rule(Source::Response, "/api/large")];
    let mut driven = browser.drive("demo.a", vec![page("large", site.url("/page/large"))], rules).await;
    let mut told = Vec::new();
    while told.len() < 3 {
        match driven.next().await {
            PageReport::Captured(captured) => {
                told.push((query(&captured.url, "mib").unwrap(), captured.body.len()))
            }
            PageReport::CaptureFailed { rule: Some(0), url, reason } => {
                assert!(!reason.is_empty());
                told.push((query(&url, "mib").unwrap(), 0));
            }
            PageReport::PageLoaded { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    let mib = 1024 * 1024;
    assert_eq!(told, [("20".into(), 20 * mib), ("34".into(), 0), ("1".into(), mib)]);
    driven.stop().await;
    browser.shared.close().await;
}

#[tokio::test]
async fn a_page_is_scrolled_to_its_end_and_loaded_again() {
    let (site, browser) = (Site::start().await, TestBrowser::new());
    let scroll = ScrollPlan {
        selector: None,
        steps_max: 200,
        pause: Duration::from_millis(50),
        until: Some(".end".into()),
    };
    let plan = PagePlan {
        refresh: Some(Duration::from_secs(1)),
        scroll: Some(scroll),
        // With a fragment, as sites have it whose parts are named there.
        ..page("scroll", site.url("/page/scroll#/inbox"))
    };
    let mut driven = browser.drive("demo.a", vec![plan], vec![rule(Source::Response, "/api/item")]).await;
    let mut order = Vec::new();
    while order.len() < 10 {
        order.push(driven.find("item", captured_n).await);
    }
    let once = ["0", "1", "2", "3", "4"];
    assert_eq!(order, [once, once].concat());
    driven.stop().await;
    browser.shared.close().await;
}

/// A list out of the cache was taken for a fresh one, in which newer comments were missing.
#[tokio::test]
async fn an_answer_out_of_the_browsers_cache_is_as_old_as_it_is() {
    let (site, browser) = (Site::start().await, TestBrowser::new());
    let rules = vec![rule(Source::Response, "/api/kept"), rule(Source::Response, "/api/item")];
    let mut driven = browser.drive("demo.a", vec![page("kept", site.url("/odd/kept"))], rules).await;
    let mut times = Vec::new();
    while times.len() < 3 {
        match driven.next().await {
            PageReport::Captured(captured) => times.push(captured.captured_at_ms),
            PageReport::PageLoaded { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert!((times[1] - times[0]).abs() < 1_000, "{times:?}");
    assert!(times[2] - times[0] >= 3_000, "{times:?}");
    driven.stop().await;
    browser.shared.close().await;
}
