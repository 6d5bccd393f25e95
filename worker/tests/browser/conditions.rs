//! Rules that ask for a host or a method, which is that of the final request after all redirects.

use snapfleet_worker::capture::{CaptureRule, HostPattern, PageReport, Source};

use crate::rig::{TestBrowser, captured_n, page, rule};
use crate::site::{PUSHES, Site};

fn with_methods(path: &str, methods: &[&str]) -> CaptureRule {
    CaptureRule {
        methods: methods.iter().map(|&method| method.to_owned()).collect(),
        ..rule(Source::Response, path)
    }
}

fn on_host(source: Source, path: &str, host: &str) -> CaptureRule {
    CaptureRule { host: Some(HostPattern::parse(host).unwrap()), ..rule(source, path) }
}

#[tokio::test]
async fn a_method_is_that_of_the_last_request_after_redirects() {
    let (site, browser) = (Site::start().await, TestBrowser::new());
    let rules = vec![
        with_methods("/api/submit", &["POST"]),
        with_methods("/api/submit", &[]),
        with_methods("/api/slash", &["GET", "HEAD"]),
        with_methods("/api/form", &["POST"]),
        with_methods("/api/form", &["GET"]),
        rule(Source::Response, "/api/item"),
    ];
    let mut driven = browser.drive("demo.a", vec![page("methods", site.url("/odd/methods"))], rules).await;
    let mut told = Vec::new();
    while told.last() != Some(&(5, "GET".to_owned())) {
        match driven.next().await {
            PageReport::Captured(captured) => {
                assert_eq!(captured.page.as_deref(), Some("methods"));
                assert_eq!(captured.status, Some(200));
                assert_eq!(captured.mime_type.as_deref(), Some("application/json"));
                let method = captured.method.unwrap();
                if captured.rule != 5 {
                    let body: serde_json::Value = serde_json::from_slice(&captured.body).unwrap();
                    assert_eq!(body["method"], method.as_str());
                }
                if captured.rule == 2 {
                    assert!(captured.url.ends_with("/api/slash/"), "{}", captured.url);
                }
                told.push((captured.rule, method));
            }
            PageReport::PageLoaded { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    told.extend(driven.stop().await.into_iter().filter_map(|report| match report {
        PageReport::Captured(captured) => Some((captured.rule, captured.method.unwrap())),
        _ => None,
    }));
    told.sort();
    let get = || "GET".to_owned();
    let mut expected = vec![(0, "POST".to_owned()), (1, get()), (1, "POST".into()), (2, get()), (5, get())];
    expected.extend(std::iter::repeat_n((4, get()), 20));
    expected.sort();
    assert_eq!(told, expected);
    browser.shared.close().await;
}

#[tokio::test]
async fn a_host_counts_for_responses_events_and_frames() {
    let (site, browser) = (Site::start().await, TestBrowser::new());
    let rules = vec![
        on_host(Source::Response, "/api/where", "LOCAL*"),
        on_host(Source::Response, "/api/where", "127.0.0.*"),
        on_host(Source::EventSource, "/api/push", "*.0.0.1"),
        on_host(Source::EventSource, "/api/push", "localhost"),
        on_host(Source::WebSocket, "/api/socket", "127.0.0.1"),
        on_host(Source::WebSocket, "/api/socket", "localhost"),
    ];
    let mut driven = browser.drive("demo.a", vec![page("places", site.url("/odd/places"))], rules).await;
    let mut counts = [0; 6];
    while counts[2] < PUSHES || counts[4] < PUSHES {
        match driven.next().await {
            PageReport::Captured(captured) => {
                let url = url::Url::parse(&captured.url).unwrap();
                let host = if captured.rule == 0 { "localhost" } else { "127.0.0.1" };
                assert_eq!(url.host_str(), Some(host));
                counts[captured.rule] += 1;
            }
            PageReport::PageLoaded { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    let rest = driven.stop().await;
    assert!(rest.iter().all(|report| captured_n(report).is_none()), "{rest:?}");
    assert_eq!(counts, [1, 1, PUSHES, 0, PUSHES, 0]);
    browser.shared.close().await;
}
