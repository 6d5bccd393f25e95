//! Bodies that are of no use: each is told with its reason, and what comes after it is captured.

use std::collections::HashMap;

use snapfleet_worker::capture::{CaptureRule, PageReport, Source};

use crate::rig::{Driven, TestBrowser, page, query, rule};
use crate::site::Site;

const MIB: usize = 1024 * 1024;

/// What became of each request, by the value of `name` in its query, until `last` was told.
async fn told(driven: &mut Driven, name: &str, last: &str) -> Vec<(String, Result<usize, String>)> {
    let mut told = Vec::new();
    loop {
        match driven.next().await {
            PageReport::Captured(captured) => {
                told.push((query(&captured.url, name).unwrap(), Ok(captured.body.len())));
            }
            PageReport::CaptureFailed { rule: Some(0), url, reason } => {
                told.push((query(&url, name).unwrap(), Err(reason)));
            }
            PageReport::PageLoaded { .. } => {}
            other => panic!("{other:?}"),
        }
        if told.last().is_some_and(|(kind, _)| kind == last) {
            return told;
        }
    }
}

#[tokio::test]
async fn each_bad_body_is_told_with_its_reason_and_the_next_one_is_captured() {
    let (site, browser) = (Site::start().await, TestBrowser::new());
    let rules = vec![CaptureRule {
        content_type: Some("application/json".into()),
        ..rule(Source::Response, "/api/bad")
    }];
    let mut driven = browser.drive("demo.a", vec![page("bad", site.url("/odd/bad"))], rules).await;
    let told = told(&mut driven, "kind", "fine").await;
    let expected = [
        ("html", "is HTML"),
        ("binary", "is binary"),
        ("no-gzip", "ERR_CONTENT_DECODING_FAILED"),
        ("bomb", "too large"),
        ("cut", "ERR_INCOMPLETE_CHUNKED_ENCODING"),
        ("short", "ERR_CONTENT_LENGTH_MISMATCH"),
    ];
    let outcomes: HashMap<_, _> = told.into_iter().collect();
    assert_eq!(outcomes.len(), expected.len() + 2, "{outcomes:?}");
    for (kind, part) in expected {
        let reason = outcomes[kind].as_ref().unwrap_err();
        assert!(reason.contains(part), "{kind}: {reason}");
    }
    // The browser takes a gzip stream without its end for a whole one; what it holds is no whole JSON.
    assert!(outcomes["cut-gzip"].as_ref().is_ok_and(|bytes| (1..MIB).contains(bytes)), "{outcomes:?}");
    assert_eq!(outcomes["fine"], Ok("[1, 2, 3]".len()));
    driven.stop().await;
    browser.shared.close().await;
}

#[tokio::test]
async fn a_body_of_100_mb_is_told_with_its_size_and_the_next_one_is_captured() {
    let (site, browser) = (Site::start().await, TestBrowser::new());
    let rules = vec![rule(Source::Response, "/api/large")];
    let mut driven = browser.drive("demo.a", vec![page("huge", site.url("/odd/huge"))], rules).await;
    let told = told(&mut driven, "mib", "1").await;
    assert_eq!(told.len(), 2, "{told:?}");
    let reason = told[0].1.as_ref().unwrap_err();
    assert!(reason.contains("104857600 bytes are more than 33554432"), "{reason}");
    assert_eq!(told[1].1, Ok(MIB));
    driven.stop().await;
    browser.shared.close().await;
}
