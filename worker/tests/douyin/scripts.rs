//! The page-state scripts and the login's markers, used by the worker in a real Chromium: what the scripts read, and what
//! they leave in the page.

use std::sync::Arc;

use serde_json::{Value, json};
use snapfleet_protocol::Record;
use snapfleet_worker::capture::{CaptureRule, Captured, PageReport, PathPattern, Source};
use snapfleet_worker::pages::LoginPlan;
use snapfleet_worker::platform::{CaptureSource, Mapped, Platform, Settings};

use crate::page::{SECRET, Site};
use crate::rig::{Driven, TestBrowser, page};
use crate::{douyin, map, state_of};

const ANN: &str = "MS4wLjABAAAAann";
const BO: &str = "MS4wLjABAAAAbo";

/// The platform's rules for page state, each under its own number; the others take nothing.
fn rules(platform: &Platform) -> Vec<CaptureRule> {
    let rule = |spec: &snapfleet_worker::platform::CaptureSpec| {
        let pattern = PathPattern::parse("/nothing").unwrap();
        let taken = spec.source == CaptureSource::PageState;
        CaptureRule {
            script: spec.script.as_deref().filter(|_| taken).map(Arc::from),
            pages: spec.pages.clone(),
            every: spec.every,
            ..CaptureRule::new(
                spec.name.clone(),
                if taken { Source::PageState } else { Source::Response },
                pattern,
            )
        }
    };
    platform.captures().iter().map(rule).collect()
}

async fn open(site: &Site, browser: &TestBrowser, name: &str) -> Driven {
    let plan = page(name, site.url(&format!("/{name}")));
    browser.drive("douyin.shop", vec![plan], rules(&douyin())).await
}

/// The next value of a rule that `wanted` is content with; a script that fails ends the test, and so does a secret.
async fn value(driven: &mut Driven, rule: &str, wanted: impl Fn(&Value) -> bool) -> Captured {
    let number = crate::rule(&douyin(), rule);
    let pick = |report: &PageReport| match report {
        PageReport::Captured(captured) => {
            let text = std::str::from_utf8(&captured.body).unwrap();
            assert!(!text.contains(SECRET), "a secret left the page: {text}");
            assert!(!text.contains("__internal"), "{text}");
            let body: Value = serde_json::from_str(text).unwrap();
            (captured.rule == number && wanted(&body)).then(|| captured.clone())
        }
        PageReport::CaptureFailed { .. } | PageReport::PageFailed { .. } => panic!("{report:?}"),
        _ => None,
    };
    driven.find(rule, pick).await
}

fn mapped(rule: &str, page: &str, captured: &Captured) -> Mapped {
    assert_eq!(captured.page.as_deref(), Some(page));
    let mapped = map(&douyin(), rule, &state_of(page), &captured.body);
    assert_eq!(mapped.error, None);
    mapped
}

/// The records as JSON, with their kinds.
fn told(mapped: &Mapped) -> Vec<Value> {
    mapped.records.iter().map(|record| serde_json::to_value(record).unwrap()).collect()
}

#[tokio::test]
async fn the_chat_page_tells_its_rows_and_nothing_else() {
    let (site, browser) = (Site::start().await, TestBrowser::new());
    let mut driven = open(&site, &browser, "chat").await;
    let captured = value(&mut driven, "chat_rows", |_| true).await;
    let mapped = mapped("chat_rows", "chat", &captured);
    assert!(mapped.refused.is_empty(), "{:?}", mapped.refused);
    let message = |id: &str, direction: &str, kind: &str, at: i64| {
        json!({"kind": "direct_message", "id": id, "conversation_id": ANN, "direction": direction,
            "message_type": kind, "sent_at": at,
            "sender_id": if direction == "inbound" { ANN } else { "MS4wLjABAAAAowner" }})
    };
    let mut incoming = message("7600000000000005001", "inbound", "text", 1_761_998_400_123);
    incoming["sender_name"] = "Ann".into();
    incoming["text"] = "mine".into();
    let mut own = message("7600000000000005002", "outbound", "text", 1_761_998_400_123);
    own["text"] = "yours".into();
    let mut unknown = message("7600000000000005008", "inbound", "other(30)", 1_761_998_520_000);
    unknown["raw"] = r#"{"title":"a film","nested":[{"width":3}],"text":"{\"height\":4}","said":"the \"token\": mine","big":7600000000000001}"#.into();
    let conversation = json!({"kind": "conversation", "id": ANN, "conversation_type": "private",
        "last_message_text": "yours", "last_message_at": 1_761_998_460_000_i64});
    assert_eq!(told(&mapped), [conversation, incoming, own, unknown]);
    driven.stop().await;
    browser.shared.close().await;
}

#[tokio::test]
async fn the_main_sites_store_tells_its_list_and_each_message_that_is_pushed() {
    let (site, browser) = (Site::start().await, TestBrowser::new());
    let mut driven = open(&site, &browser, "home").await;
    let is_list = |body: &Value| body["msgListToPush"].as_array().is_some_and(Vec::is_empty);
    let captured = value(&mut driven, "im_store", is_list).await;
    let list = mapped("im_store", "home", &captured);
    let conversation = json!({"kind": "conversation", "id": ANN, "counterpart_id": "2000300040005001",
        "conversation_type": "private", "name": "Ann", "avatar_url": "https://img.example.invalid/a.jpeg",
        "unread_count": 2, "last_message_text": "yours", "last_message_at": 1_761_998_400_123_i64});
    let newest = json!({"kind": "direct_message", "id": "7600000000000005002", "conversation_id": ANN,
        "direction": "outbound", "message_type": "text", "text": "yours", "sender_id": "MS4wLjABAAAAowner",
        "sent_at": 1_761_998_400_123_i64});
    assert_eq!((told(&list), list.refused), (vec![conversation, newest], vec![]));

    // It stands in the buffer for 600 ms, and its conversation is in no list: the owner's uid tells which way it went.
    let mut last = String::new();
    for _ in 0..3 {
        let is_push =
            |body: &Value| body["msgListToPush"][0]["content"].as_str().is_some_and(|text| text != last);
        let captured = value(&mut driven, "im_store", is_push).await;
        let pushed = mapped("im_store", "home", &captured);
        let is_pushed = |record: &&Record| {
            matches!(record, Record::DirectMessage(message)
            if message.text.as_deref().is_some_and(|text| text.starts_with("pushed ")))
        };
        let Some(Record::DirectMessage(message)) = pushed.records.iter().find(is_pushed) else {
            panic!("{pushed:?}")
        };
        assert_eq!(message.conversation_id.as_str(), BO);
        assert_eq!(message.direction, snapfleet_protocol::Direction::Inbound);
        let body: Value = serde_json::from_slice(&captured.body).unwrap();
        last = body["msgListToPush"][0]["content"].as_str().unwrap().to_owned();
    }
    driven.stop().await;
    browser.shared.close().await;
}

#[tokio::test]
async fn the_main_sites_notices_are_told_by_their_exact_ids() {
    let (site, browser) = (Site::start().await, TestBrowser::new());
    let mut driven = open(&site, &browser, "home").await;
    let is_push = |body: &Value| body["noticePushList"].as_array().is_some_and(|list| !list.is_empty());
    let captured = value(&mut driven, "notice_store", is_push).await;
    let mapped = mapped("notice_store", "home", &captured);
    let [Record::Comment(comment), Record::Content(work)] = &mapped.records[..] else { panic!("{mapped:?}") };
    assert_eq!(comment.id.as_str(), "7600000000000001001");
    assert_eq!((comment.text.as_deref(), comment.parent_id.as_ref()), (Some("a comment"), None));
    assert_eq!(work.id.as_str(), "7600000000000000101");
    // The one in the panel has only a number that the page has rounded: it is nobody's id.
    let [refused] = &mapped.refused[..] else { panic!("{mapped:?}") };
    assert_eq!(refused.reason, "id is missing");
    driven.stop().await;
    browser.shared.close().await;
}

#[tokio::test]
async fn a_code_to_scan_is_logged_out_whatever_else_is_shown_and_the_owners_pages_are_logged_in() {
    let (site, browser) = (Site::start().await, TestBrowser::new());
    let spec = douyin().login(&Settings::new()).unwrap().unwrap();
    assert!(spec.code.is_some());
    for (path, expected) in [("out", false), ("creator", true), ("main", true)] {
        let plan = LoginPlan {
            logged_in: spec.logged_in.clone(),
            logged_out: spec.logged_out.clone(),
            code: spec.code.clone(),
            submit: None,
            fill: vec![],
        };
        let pages = vec![page(path, site.url(&format!("/{path}")))];
        let mut driven = Driven::start(browser.acquire().await, "douyin.shop", pages, Some(plan), vec![]);
        let is_in = |report: &PageReport| match report {
            PageReport::LoggedIn => Some(true),
            PageReport::LoggedOut { .. } => Some(false),
            PageReport::PageFailed { .. } => panic!("{path}: {report:?}"),
            _ => None,
        };
        assert_eq!(driven.find("login", is_in).await, expected, "{path}");
        driven.stop().await;
    }
    browser.shared.close().await;
}
