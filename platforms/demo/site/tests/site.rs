//! The site as a client over HTTP sees it: what it was served is what the truth says, sessions are apart, paging
//! is complete, pushes arrive on both channels.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

#[path = "site/client.rs"]
mod client;
#[path = "site/login.rs"]
mod login;

use std::collections::BTreeMap;

use client::{Client, Running, WAIT, records};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use snapfleet_demo_site::{Config, EventKind};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

/// Every record of the truth by kind and id.
fn by_id(truth: &Value) -> BTreeMap<(String, String), Value> {
    let mut rows = BTreeMap::new();
    for (kind, list) in truth.as_object().unwrap() {
        let ids: Vec<&str> = list.as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap()).collect();
        assert!(ids.is_sorted(), "{kind} are not sorted by id");
        for row in list.as_array().unwrap() {
            let before = rows.insert((kind.clone(), row["id"].as_str().unwrap().to_owned()), row.clone());
            assert!(before.is_none(), "{kind} {} stands twice", row["id"]);
        }
    }
    rows
}

#[tokio::test]
async fn truth_is_what_a_client_was_served() {
    let site = Running::start(Config::for_tests(&["shop-a", "shop-b"], 7)).await;
    let client = site.log_in("shop-a").await;
    assert!(by_id(&site.truth("shop-a").await).is_empty(), "nothing was served yet");

    let first = client.list("/api/v1/creator/item/list/?count=2").await;
    let served = records(&first);
    assert_eq!(served.len(), 2);
    assert_eq!(by_id(&site.truth("shop-a").await), served, "after one page of two works");

    let mut seen = client.crawl().await;
    assert_eq!(by_id(&site.truth("shop-a").await), seen, "after everything was fetched");

    // A change that nobody was told of is not in the truth until it is fetched.
    let counted = site.site.push("shop-a", EventKind::Counter).unwrap();
    assert_eq!(by_id(&site.truth("shop-a").await), seen, "after a counter moved unseen");
    let recalled = site.site.push("shop-a", EventKind::Recall).unwrap();
    assert_eq!(recalled.reached, 0);
    assert_eq!(by_id(&site.truth("shop-a").await), seen, "after a recall that nobody heard");
    seen.extend(client.crawl().await);
    let truth = by_id(&site.truth("shop-a").await);
    assert_eq!(truth, seen, "after fetching all again");
    assert_eq!(truth[&("direct_messages".to_owned(), recalled.id.clone())]["recalled"], true);
    assert!(truth[&("contents".to_owned(), counted.id)]["view_count"].is_i64());
}

#[tokio::test]
async fn paging_gives_each_row_once_and_all_of_them() {
    let config = Config::for_tests(&["shop-a"], 3);
    let (works, comments, conversations, messages, notices) =
        (config.works, config.comments, config.conversations, config.messages, config.notices);
    let site = Running::start(config).await;
    let client = site.log_in("shop-a").await;
    let seen = client.crawl().await;
    let count = |kind: &str, fits: fn(&Value) -> bool| {
        seen.iter().filter(|((of, _), row)| of == kind && fits(row)).count()
    };
    assert_eq!(count("contents", |_| true), works);
    assert_eq!(count("comments", |row| row["parent_id"].is_null()), works * comments);
    let replies = count("comments", |row| !row["parent_id"].is_null());
    assert!(replies > 20, "{replies} replies");
    assert_eq!(count("conversations", |_| true), conversations);
    assert_eq!(count("direct_messages", |_| true), conversations * messages);
    assert_eq!(count("notifications", |_| true), notices);
    // The platform's own counts agree: below a work, everything; below a comment, its replies.
    for ((kind, id), row) in &seen {
        if kind == "contents" {
            let below =
                seen.values().filter(|it| it["content_id"] == json!(id) && it["direction"].is_string());
            assert_eq!(row["comment_count"], json!(below.count()), "comments of work {id}");
        }
        if kind == "comments" {
            let below = seen.values().filter(|it| it["parent_id"] == json!(id));
            assert_eq!(row["reply_count"], json!(below.count()), "replies of comment {id}");
        }
        assert!(kind == "conversations" || id.len() == 19, "{kind} {id} has not 19 digits");
    }
    assert!(count("comments", |row| row["direction"] == "outbound") > 0);
    assert!(count("direct_messages", |row| row["recalled"] == true) > 0);
}

#[tokio::test]
async fn a_session_shows_its_own_account_and_ends_when_expired() {
    let site = Running::start(Config::for_tests(&["shop-a", "shop-b"], 7)).await;
    assert!(site.try_log_in("shop-a", "wrong").await.is_none());
    assert!(site.try_log_in("nobody", "demo").await.is_none());
    let stranger = Client { base: site.base.clone(), cookie: String::new() };
    assert!(stranger.page().await.contains("form id=\"login\""), "no login form without a session");
    assert_eq!(stranger.list("/api/v1/creator/item/list/?").await["status_code"], 8);
    assert_eq!(stranger.get("/api/push").await.status(), 401);

    let (a, b) = (site.log_in("shop-a").await, site.log_in("shop-b").await);
    assert!(a.page().await.contains("id=\"owner\">shop-a"));
    let (of_a, of_b) = (a.crawl().await, b.crawl().await);
    assert!(of_a.keys().all(|key| !of_b.contains_key(key)), "a record stands under two accounts");
    assert_eq!(by_id(&site.truth("shop-b").await), of_b);
    // Another account's thread is not there.
    let work = of_b.keys().find(|(kind, _)| kind == "contents").unwrap();
    let foreign = a.list(&format!("/api/v1/comment/list/?item_id={}", work.1)).await;
    assert_eq!(foreign["comments"], json!([]));

    let mut push = a.get("/api/push").await;
    let ended = a.post("/control/shop-a/expire").await;
    assert_eq!(ended["sessions_ended"], 1);
    timeout(WAIT, async { while push.chunk().await.unwrap().is_some() {} })
        .await
        .expect("the push channel stays open");
    assert!(a.page().await.contains("form id=\"login\""), "an expired session still shows the page");
    assert_eq!(
        b.list("/api/v1/notice/list/?").await["status_code"],
        0,
        "the other account's session ended too"
    );
}

#[tokio::test]
async fn pushes_arrive_on_their_channel_and_in_the_truth() {
    let site = Running::start(Config::for_tests(&["shop-a"], 11)).await;
    let client = site.log_in("shop-a").await;
    let mut events = client.events().await;
    assert_eq!(events.next().await.0, "hello");
    let mut seen = BTreeMap::new();

    let pushed = client.post("/control/shop-a/push?kind=message").await;
    assert_eq!(pushed["reached"], 1);
    assert!(pushed["pushed_at_ms"].as_i64().unwrap() > 1_700_000_000_000);
    let (name, body) = events.next().await;
    assert_eq!(
        (name.as_str(), body["message"]["server_message_id"].to_string().as_str()),
        ("im_message", pushed["id"].as_str().unwrap())
    );
    assert!(body["conversation"]["badge_count"].as_i64().unwrap() > 0);
    seen.extend(records(&body));

    let (_, body) = {
        client.post("/control/shop-a/push?kind=new_conversation").await;
        events.next().await
    };
    assert!(body["conversation"].is_null(), "a stranger's conversation has to be fetched");
    seen.extend(records(&body));
    let recalled = client.post("/control/shop-a/push?kind=recall").await;
    let (name, body) = events.next().await;
    assert_eq!(name, "im_update");
    assert_eq!(body["message"]["is_recalled"], true);
    seen.extend(records(&body));
    assert_eq!(by_id(&site.truth("shop-a").await), seen);
    assert_eq!(
        seen[&("direct_messages".to_owned(), recalled["id"].as_str().unwrap().to_owned())]["recalled"],
        true
    );
}

#[tokio::test]
async fn comments_come_by_the_socket_and_their_notices_by_events() {
    let site = Running::start(Config::for_tests(&["shop-a"], 12)).await;
    let client = site.log_in("shop-a").await;
    let mut events = client.events().await;
    assert_eq!(events.next().await.0, "hello");
    let mut request =
        format!("{}/api/comment/ws", site.base.replace("http", "ws")).into_client_request().unwrap();
    request.headers_mut().insert("cookie", client.cookie.parse().unwrap());
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    socket.send(tungstenite::Message::text("{\"type\":\"ping\"}")).await.unwrap();
    let mut frame = async || loop {
        let frame = timeout(WAIT, socket.next()).await.expect("no frame in time").unwrap().unwrap();
        if let tungstenite::Message::Text(text) = frame {
            return serde_json::from_str::<Value>(text.as_str()).unwrap();
        }
    };
    assert_eq!(frame().await["type"], "pong");

    let pushed = client.post("/control/shop-a/push?kind=comment").await;
    let comment = frame().await;
    assert_eq!((&comment["type"], &comment["comment"]["cid"]), (&json!("comment.new"), &pushed["id"]));
    let (name, notice) = events.next().await;
    assert_eq!((name.as_str(), &notice["notice"]["comment_id"]), ("notice", &pushed["id"]));
    let deleted = client.post("/control/shop-a/push?kind=delete").await;
    let gone = frame().await;
    assert_eq!((&gone["type"], &gone["comment"]["cid"]), (&json!("comment.update"), &deleted["id"]));

    let mut seen = records(&comment);
    seen.extend(records(&notice));
    seen.extend(records(&gone));
    let truth = by_id(&site.truth("shop-a").await);
    assert_eq!(truth, seen);
    assert_eq!(truth[&("comments".to_owned(), deleted["id"].as_str().unwrap().to_owned())]["deleted"], true);
}

#[tokio::test]
async fn equal_seeds_and_starts_give_equal_data() {
    let mut config = Config::for_tests(&["shop-a"], 5);
    config.start_ms = Some(1_790_000_000_000);
    let one = Running::start(config.clone()).await;
    let two = Running::start(config.clone()).await;
    config.seed = 6;
    let other = Running::start(config).await;
    let (one, two, other) = (
        one.log_in("shop-a").await.crawl().await,
        two.log_in("shop-a").await.crawl().await,
        other.log_in("shop-a").await.crawl().await,
    );
    assert_eq!(one, two);
    assert_ne!(one, other);
}

#[tokio::test]
async fn logins_are_told_with_their_sessions_and_can_be_ended_one_by_one() {
    let site = Running::start(Config::for_tests(&["shop-a", "shop-b"], 7)).await;
    let (first, second) = (site.log_in("shop-a").await, site.log_in("shop-a").await);
    let logins = async || {
        let answer = reqwest::get(format!("{}/control/shop-a/logins", site.base)).await.unwrap();
        answer.json::<Value>().await.unwrap()["logins"].as_array().unwrap().clone()
    };
    let (_, request) = (first.page().await, second.get("/api/v1/notice/list/").await);
    assert!(request.status().is_success());
    let told = logins().await;
    assert_eq!(told.len(), 2);
    assert!(told.iter().all(|login| login["open"] == true && login["requests"] == 1), "{told:?}");
    let session = told[1]["session"].as_str().unwrap();
    assert!(second.cookie.contains(session) && !second.cookie.ends_with(session), "it is no token");

    let ended = second.post(&format!("/control/shop-a/expire?session={session}")).await;
    assert_eq!(ended["sessions_ended"], 1);
    assert!(first.page().await.contains("id=\"owner\"") && second.page().await.contains("id=\"login\""));
    let told = logins().await;
    assert_eq!((&told[0]["open"], &told[1]["open"]), (&json!(true), &json!(false)));
    assert_eq!(site.site.logins("shop-b").unwrap().len(), 0);
    assert!(site.site.logins("nobody").is_none());
}

#[tokio::test]
async fn things_happen_by_themselves_until_paused() {
    let mut config = Config::for_tests(&["shop-a", "shop-b"], 5);
    config.events_per_minute = 3_000.0;
    let site = Running::start(config).await;
    let client = site.log_in("shop-b").await;
    let mut events = client.events().await;
    for _ in 0..5 {
        events.next().await;
    }
    client.post("/control/pause").await;
    let before = client.crawl().await;
    let after = client.crawl().await;
    assert_eq!(before, after, "something happened while paused");
    let paused = site.truth("shop-b").await;
    let last =
        paused["direct_messages"].as_array().unwrap().iter().filter_map(|row| row["sent_at"].as_i64()).max();
    client.post("/control/resume").await;
    while events.next().await.1["server_time"].as_i64() <= last {}
}

#[tokio::test]
async fn every_kind_of_event_can_be_pushed_and_a_bad_one_is_refused() {
    let site = Running::start(Config::for_tests(&["shop-a"], 9)).await;
    let client = site.log_in("shop-a").await;
    for kind in
        ["message", "comment", "edit", "recall", "counter", "delete", "new_conversation", "reply_outbound"]
    {
        for _ in 0..5 {
            let pushed = client.post(&format!("/control/shop-a/push?kind={kind}")).await;
            assert_eq!(pushed["id"].as_str().map(str::len), Some(19), "{kind}: {pushed}");
        }
    }
    assert_eq!(client.post_status("/control/shop-a/push?kind=nothing").await, 400);
    assert_eq!(client.post_status("/control/nobody/push?kind=edit").await, 404);
    assert_eq!(client.get("/truth/nobody").await.status(), 404);
    assert_eq!(client.list("/api/v1/comment/list/?item_id=abc").await["status_code"], 5);
    let seen = client.crawl().await;
    assert_eq!(by_id(&site.truth("shop-a").await), seen);
    assert!(seen.values().any(|row| row["edited_at"].as_i64().is_some_and(|at| at > 1_700_000_000_000)));
}
