//! The HTTP API: lists, pages, cursors, refusals, names.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/batches.rs"]
#[allow(dead_code, reason = "shared by several tests, each of which needs a part")]
mod batches;
#[path = "support/served.rs"]
#[allow(dead_code, reason = "shared by several tests, each of which needs a part")]
mod served;

use std::collections::HashSet;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use serde_json::{Value, json};
use served::{Served, filled, inbox};
use snapfleet_protocol::{Comment, Content, DirectMessage, Metrics, Notification};
use snapfleet_testkit::sample;

fn ids(items: &[Value]) -> Vec<&str> {
    items.iter().map(|item| item["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn turning_pages_shows_everything_exactly_once_in_both_orders() {
    let served = filled().await;
    for (path, expected) in [
        ("/api/v1/conversations/v1/messages?account=demo.a&limit=4", 23),
        ("/api/v1/conversations/v2/messages?account=demo.a&limit=4", 0),
        ("/api/v1/comments?account=demo.a&content=w1&limit=5", 12),
        ("/api/v1/comments?account=demo.a&limit=7", 25),
        ("/api/v1/contents?account=demo.a&limit=1", 2),
        ("/api/v1/accounts/demo.a/conversations?limit=2", 3),
        ("/api/v1/notifications?account=demo.a&limit=1", 0),
    ] {
        let newest = served.walk(path).await;
        let mut oldest = served.walk(&format!("{path}&order=oldest")).await;
        oldest.reverse();
        assert_eq!(newest.len(), expected, "{path}");
        assert_eq!(ids(&newest).iter().collect::<HashSet<_>>().len(), expected, "{path}");
        assert_eq!(ids(&newest), ids(&oldest), "{path}");
        assert!(newest.iter().all(|item| item["account"] == "demo.a"), "{path}");
    }
    let messages = served.walk("/api/v1/conversations/v1/messages?account=demo.a&limit=4").await;
    let times: Vec<i64> = messages.iter().map(|item| item["sent_at"].as_i64().unwrap()).collect();
    assert!(times.is_sorted_by(|a, b| a >= b), "{times:?}");
    let threads = served.walk("/api/v1/accounts/demo.a/threads?limit=2").await;
    assert_eq!(
        ids(&threads).iter().collect::<HashSet<_>>(),
        HashSet::from([&"w1", &"w2", &"v1", &"v2", &"v3"])
    );
    assert_eq!(threads.len(), 5);
    let accounts = served.walk("/api/v1/accounts?limit=1").await;
    let names: Vec<&str> = accounts.iter().map(|item| item["account"].as_str().unwrap()).collect();
    assert_eq!(names, ["demo.a", "demo.b"]);
    assert_eq!(accounts[0]["records"]["direct_messages"], 23);
    assert_eq!((&accounts[0]["state"], &accounts[0]["configured"]), (&json!("unassigned"), &json!(true)));
    assert_eq!(accounts[0]["reason"], "no worker is online");
}

#[tokio::test]
async fn a_record_has_the_names_that_were_promised() {
    let mut served = Served::start();
    let mut snapshot = sample::snapshot(&sample::account("demo.a"), 1, 1);
    let mut metrics = Metrics::default();
    metrics.insert("completion_rate".to_owned(), 0.41).unwrap();
    snapshot.contents = vec![Content { deleted: true, metrics, ..sample::content(1) }];
    snapshot.comments = vec![Comment { parent_id: Some(sample::id("c0")), ..sample::comment(1, 1, "hi") }];
    snapshot.conversations = vec![sample::conversation(1)];
    let raw = Some(r#"{"aweType":9999}"#.to_owned());
    snapshot.direct_messages = vec![DirectMessage { raw, ..sample::direct_message(1, 1, "hello") }];
    snapshot.notifications = vec![Notification::new(sample::id("n1"))];
    served.apply(&snapshot).await;
    let at = sample::BASE.0 + 1;
    assert_eq!(
        served.get("/api/v1/comments?account=demo.a").await["items"],
        json!([{
            "account": "demo.a", "kind": "comment", "id": "c1", "content_id": "w1", "direction": "inbound",
            "parent_id": "c0", "author_id": "reader", "author_name": "A reader", "text": "hi", "created_at": at,
            "first_seen_at": at, "updated_at": at,
        }])
    );
    assert_eq!(
        served.get("/api/v1/contents/w1?account=demo.a").await,
        json!({
            "account": "demo.a", "kind": "content", "id": "w1", "title": "work 1", "published_at": at,
            "view_count": 1, "metrics": { "completion_rate": 0.41 }, "deleted": true, "first_seen_at": at, "updated_at": at,
        })
    );
    assert_eq!(
        served.get("/api/v1/conversations/v1/messages?account=demo.a").await["items"],
        json!([{
            "account": "demo.a", "kind": "direct_message", "id": "m1", "conversation_id": "v1",
            "direction": "inbound", "text": "hello", "raw": "{\"aweType\":9999}", "sent_at": at, "first_seen_at": at,
            "updated_at": at,
        }])
    );
    assert_eq!(
        served.get("/api/v1/notifications?account=demo.a").await["items"],
        json!([{
            "account": "demo.a", "kind": "notification", "id": "n1", "first_seen_at": at, "updated_at": at,
        }])
    );
    let conversation = served.get("/api/v1/conversations/v1?account=demo.a").await;
    assert_eq!(
        (&conversation["kind"], &conversation["name"]),
        (&json!("conversation"), &json!("counterpart 1"))
    );
    let threads = served.get("/api/v1/accounts/demo.a/threads").await;
    let mut names: Vec<&String> = threads["items"][0].as_object().unwrap().keys().collect();
    names.sort();
    assert_eq!(names, ["account", "count", "id", "kind", "last_at", "last_author", "last_text", "title"]);
}

#[tokio::test]
async fn what_cannot_be_is_refused_and_named() {
    let served = filled().await;
    for (path, status, named) in [
        ("/api/v1/contents", 400, "account"),
        ("/api/v1/contents?account=undefined", 400, "\"undefined\""),
        ("/api/v1/contents?account=demo.a.b", 400, "demo.a.b"),
        ("/api/v1/contents?account=demo.a&limit=0", 400, "limit 0"),
        ("/api/v1/contents?account=demo.a&limit=501", 400, "limit 501"),
        ("/api/v1/contents?account=demo.a&limit=ten", 400, "limit"),
        ("/api/v1/contents?account=demo.a&limt=5", 400, "limt"),
        ("/api/v1/contents?account=demo.a&order=sideways", 400, "sideways"),
        ("/api/v1/contents?account=demo.a&after=zz", 400, "\"zz\""),
        ("/api/v1/comments?account=demo.a&content=undefined", 400, "\"undefined\""),
        ("/api/v1/accounts/demo/threads", 400, "\"demo\""),
        ("/api/v1/accounts/demo.a/threads?after=01", 400, "\"01\""),
        ("/api/v1/conversations/%00/messages?account=demo.a", 400, "record id"),
        ("/api/v1/conversations/%ff/messages?account=demo.a", 400, "path"),
        ("/api/v1/changes?after=nonsense", 400, "\"nonsense\""),
        ("/api/v1/changes?after=abc-+1", 400, "abc"),
        ("/api/v1/changes?after=abc-1&last=2", 400, "last"),
        ("/api/v1/changes?last=-1", 400, "last"),
        ("/api/v1/events?after=-5", 400, "\"-5\""),
        ("/api/v1/dead-letters?after=x", 400, "\"x\""),
        ("/api/v1/dead-letters?limit=101", 400, "limit 101"),
        ("/api/v1/accounts?after=x", 400, "\"x\""),
        ("/api/v1/accounts/demo.z/threads", 404, "demo.z"),
        ("/api/v1/contents?account=demo.z", 404, "demo.z"),
        ("/api/v1/contents/w9?account=demo.a", 404, "w9"),
        ("/api/v1/nothing", 404, "/api/v1/nothing"),
        ("/../etc/passwd", 404, "etc"),
    ] {
        let (code, problem) = served.ask(path).await;
        assert_eq!(code.as_u16(), status, "{path}: {problem}");
        assert_eq!(problem["status"], status, "{path}");
        assert!(problem["type"].as_str().unwrap().starts_with("urn:snapfleet:problem:"), "{path}");
        assert!(problem["detail"].as_str().unwrap().contains(named), "{path}: {problem}");
    }
    let other_list = served.get("/api/v1/contents?account=demo.a&limit=1").await["next"].clone();
    let path = format!("/api/v1/notifications?account=demo.a&after={}", other_list.as_str().unwrap());
    assert_eq!(served.ask(&path).await.0, StatusCode::BAD_REQUEST);
    let post = Request::post("/api/v1/status").header(header::HOST, "localhost").body(Body::empty()).unwrap();
    assert_eq!(served.send(post).await.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn the_change_log_is_walked_whole_and_foreign_cursors_are_gone() {
    let served = filled().await;
    let mut after = String::new();
    let mut seen = Vec::new();
    loop {
        let page = served.get(&format!("/api/v1/changes?limit=9{after}")).await;
        let items = page["items"].as_array().unwrap();
        seen.extend(
            items
                .iter()
                .map(|item| (item["account"].to_string(), item["kind"].to_string(), item["id"].to_string())),
        );
        after = format!("&after={}", page["next"].as_str().unwrap());
        if items.is_empty() {
            break;
        }
    }
    assert_eq!(seen.len(), 2 * (2 + 25 + 3 + 23));
    assert_eq!(seen.iter().collect::<HashSet<_>>().len(), seen.len());
    let status = served.get("/api/v1/status").await;
    assert_eq!(after, format!("&after={}", status["store"]["cursor"].as_str().unwrap()));
    for last in [0, 3, 1_000] {
        let page = served.get(&format!("/api/v1/changes?limit=500&last={last}")).await;
        let ids: Vec<&str> = ids(page["items"].as_array().unwrap());
        let from = seen.len().saturating_sub(last);
        let expected: Vec<&str> = seen[from..].iter().map(|(_, _, id)| id.trim_matches('"')).collect();
        assert_eq!(ids, expected, "last {last}");
    }
    let feed = status["store"]["feed"].as_str().unwrap();
    for foreign in ["0123456789abcdef-5".to_owned(), format!("{feed}-1000000")] {
        for path in ["changes", "events"] {
            let (status, problem) = served.ask(&format!("/api/v1/{path}?after={foreign}")).await;
            assert_eq!(status, StatusCode::GONE, "{path} {foreign}");
            assert!(problem["detail"].as_str().unwrap().contains(&foreign), "{problem}");
            assert!(problem["resync"].as_str().unwrap().contains(feed), "{problem}");
        }
    }
}

#[tokio::test]
async fn dead_letters_tell_what_they_are() {
    let mut served = Served::start();
    served.deliver(batches::garbage(1, "snapshot.demo.a")).await;
    let mut wrong = batches::delivery(2, &inbox("demo.a"));
    wrong.outcome = Err("its account is not its subject's".to_owned());
    served.deliver(wrong).await;
    let page = served.get("/api/v1/dead-letters?limit=1").await;
    let first = &page["items"][0];
    assert_eq!(
        (&first["n"], &first["bytes"], &first["hex"]),
        (&json!(1), &json!(8), &json!("ff67617262616765"))
    );
    assert_eq!((&first["subject"], &first["snapshot"]), (&json!("snapshot.demo.a"), &Value::Null));
    assert!(first["decode_error"].as_str().unwrap().contains("not a snapshot"), "{first}");
    let rest =
        served.get(&format!("/api/v1/dead-letters?limit=1&after={}", page["next"].as_str().unwrap())).await;
    assert_eq!(rest["next"], Value::Null);
    let second = &rest["items"][0];
    assert_eq!(second["error"], "its account is not its subject's");
    assert_eq!(second["snapshot"]["account"], "demo.a");
    assert_eq!(second["snapshot"]["records"]["comments"], 25);
}

#[tokio::test]
async fn only_this_machines_own_names_are_answered() {
    let served = filled().await;
    for (host, status) in [
        ("127.0.0.1:7070", StatusCode::OK),
        ("localhost", StatusCode::OK),
        ("[::1]:7070", StatusCode::OK),
        ("evil.example:7070", StatusCode::MISDIRECTED_REQUEST),
        ("127.0.0.1.evil.example", StatusCode::MISDIRECTED_REQUEST),
    ] {
        for path in ["/", "/api/v1/status", "/api/v1/events"] {
            let request = Request::get(path).header(header::HOST, host).body(Body::empty()).unwrap();
            assert_eq!(served.send(request).await.status(), status, "{host} {path}");
        }
    }
    let nameless = Request::get("/").body(Body::empty()).unwrap();
    assert_eq!(served.send(nameless).await.status(), StatusCode::MISDIRECTED_REQUEST);
}
