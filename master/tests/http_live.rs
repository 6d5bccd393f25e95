//! The HTTP API: live changes, the state of the whole, and text that means harm.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/batches.rs"]
#[allow(dead_code, reason = "shared by several tests, each of which needs a part")]
mod batches;
#[path = "support/served.rs"]
#[allow(dead_code, reason = "shared by several tests, each of which needs a part")]
mod served;

use std::time::Duration;

use axum::http::{StatusCode, header};
use axum::response::Response;
use futures_util::StreamExt;
use serde_json::{Value, json};
use served::{Served, body, filled, request};
use snapfleet_master::accounts::Configured;
use snapfleet_master::cli::sentence;
use snapfleet_protocol::{
    AccountConfig, AccountEntry, AccountHealth, AccountState, Ended, Heartbeat, InstanceId, LeftBehind,
    UnixMs, WorkerId,
};
use snapfleet_testkit::sample;

const PATIENCE: Duration = Duration::from_secs(10);

/// Reads server-sent events until `enough`; returns each as (id, event, data).
async fn events(
    response: Response,
    enough: impl Fn(&[(String, String, Value)]) -> bool,
) -> Vec<(String, String, Value)> {
    assert_eq!(response.status(), StatusCode::OK);
    let mut stream = response.into_body().into_data_stream();
    let (mut text, mut events) = (String::new(), Vec::new());
    while !enough(&events) {
        let chunk =
            tokio::time::timeout(PATIENCE, stream.next()).await.expect("events in time").unwrap().unwrap();
        text.push_str(std::str::from_utf8(&chunk).unwrap());
        while let Some((event, rest)) = text.split_once("\n\n").map(|(a, b)| (a.to_owned(), b.to_owned())) {
            text = rest;
            let field = |name: &str| {
                let line = event.lines().find_map(|line| line.strip_prefix(name));
                line.unwrap_or_default().trim_start().to_owned()
            };
            if !field("event:").is_empty() {
                events.push((field("id:"), field("event:"), serde_json::from_str(&field("data:")).unwrap()));
            }
        }
    }
    events
}

#[tokio::test]
async fn a_live_client_that_was_away_gets_each_change_exactly_once() {
    let mut served = filled().await;
    let first = served.get("/api/v1/status").await["store"]["cursor"].as_str().unwrap().to_owned();
    let live = served.send(request("/api/v1/events")).await;
    let mut snapshot = sample::snapshot(&sample::account("demo.a"), 1, 2);
    snapshot.direct_messages = (100..110).map(|n| sample::direct_message(1, n, "live")).collect();
    served.apply(&snapshot).await;
    let has = |events: &[(String, String, Value)], number: usize| {
        events.iter().filter(|event| event.1 == "change").count() >= number
    };
    let seen = events(live, |events| has(events, 4)).await;
    assert_eq!((seen[0].0.as_str(), seen[0].1.as_str()), (first.as_str(), "live"));
    // It goes away after four; meanwhile more happens; it comes back as a browser does.
    let last = seen.iter().filter(|event| event.1 == "change").nth(3).unwrap().0.clone();
    snapshot.seq = 3;
    snapshot.direct_messages =
        vec![sample::direct_message(1, 105, "edited"), sample::direct_message(1, 110, "more")];
    served.apply(&snapshot).await;
    let mut again = request(&format!("/api/v1/events?after={first}"));
    again.headers_mut().insert("last-event-id", last.parse().unwrap());
    let rest = events(served.send(again).await, |events| events.iter().any(|event| event.1 == "live")).await;
    let changes: Vec<&(String, String, Value)> = seen
        .iter()
        .filter(|event| event.1 == "change")
        .take(4)
        .chain(rest.iter().filter(|event| event.1 == "change"))
        .collect();
    let got: Vec<(&str, &str)> = changes
        .iter()
        .map(|(_, _, data)| (data["id"].as_str().unwrap(), data["operation"].as_str().unwrap()))
        .collect();
    let numbers: Vec<String> = (100..110).map(|n| format!("m{n}")).collect();
    let mut expected: Vec<(&str, &str)> = numbers.iter().map(|id| (id.as_str(), "added")).collect();
    expected.extend([("m105", "updated"), ("m110", "added")]);
    assert_eq!(got, expected);
    assert_eq!(changes[10].2["changed"], json!(["text"]));
    assert_eq!(changes[10].2["record"]["text"], "edited");
    assert!(changes.iter().all(|(id, _, data)| data["cursor"] == json!(id)));
}

#[tokio::test]
async fn live_clients_are_counted_and_leave_when_the_master_stops() {
    let served = filled().await;
    let mut clients = Vec::new();
    for _ in 0..256 {
        let client = served.send(request("/api/v1/events")).await;
        assert_eq!(client.status(), StatusCode::OK);
        clients.push(client);
    }
    let refused = served.send(request("/api/v1/events")).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    drop(clients.pop());
    let last = served.send(request("/api/v1/events")).await;
    assert_eq!(last.status(), StatusCode::OK);
    served.shutdown.cancel();
    let ended = tokio::time::timeout(PATIENCE, axum::body::to_bytes(last.into_body(), 1 << 20)).await;
    assert!(ended.expect("the stream ends").is_ok());
}

fn health(account: &str, state: AccountState, reason: Option<&str>) -> AccountHealth {
    AccountHealth {
        account: sample::account(account),
        state,
        since: UnixMs(sample::BASE.0 + 5),
        reason: reason.map(str::to_owned),
        epoch: 1,
        captured_at: Some(sample::BASE),
        published_at: None,
        published: 1,
        captured: 1,
        refused: 0,
        capture_errors: 0,
        pending: 0,
        window: 1,
        problems: Vec::new(),
    }
}

fn heartbeat(accounts: Vec<AccountHealth>, problems: Vec<String>) -> Heartbeat {
    let (instance, worker) = (InstanceId::parse("w1").unwrap(), WorkerId::parse("host-1").unwrap());
    Heartbeat { host: "host-1".to_owned(), pid: 1, problems, accounts, ..Heartbeat::new(instance, worker) }
}

#[tokio::test]
async fn status_names_every_problem_with_what_helps() {
    let mut served = filled().await;
    let codes = |status: &Value| -> Vec<String> {
        let problems = status["problems"].as_array().unwrap().iter();
        problems
            .map(|problem| {
                assert!(!problem["text"].as_str().unwrap().is_empty());
                assert!(!problem["remedy"].as_str().unwrap().is_empty());
                problem["code"].as_str().unwrap().to_owned()
            })
            .collect()
    };
    assert_eq!(codes(&served.get("/api/v1/status").await), ["no_workers"]);

    let capturing = health("demo.a", AccountState::Capturing, None);
    let starting = health("demo.b", AccountState::Starting, None);
    served.live.note(|moment| {
        moment.workers.heartbeats = vec![heartbeat(vec![capturing.clone(), starting], vec![])]
    });
    let status = served.get("/api/v1/status").await;
    assert_eq!(codes(&status), Vec::<String>::new());
    assert_eq!(status["workers"]["online"], 1);
    assert_eq!(status["sync"]["received"], 2);
    assert_eq!(status["store"]["direct_messages"], 46);
    let capture = json!({ "accounts": 2, "capturing": 1, "starting": 1, "unwell": 0, "unassigned": 0, "paused": 0, "unknown": 0 });
    assert_eq!(status["capture"], capture);
    assert_eq!(served.get("/healthz").await, json!({ "status": "ok" }));
    served.live.note(|moment| moment.broker.copies_few = Some(1));
    let status = served.get("/api/v1/status").await;
    assert_eq!(
        (codes(&status), &status["problems"][0]["detail"]),
        (vec!["copies_few".to_owned()], &json!("1"))
    );
    served.live.note(|moment| moment.broker.copies_few = None);

    served.deliver(batches::garbage(3, "snapshot.demo.a")).await;
    let lost = health("demo.c", AccountState::LoggedOut, Some("shows the login form"));
    served.live.note(|moment| {
        moment.workers.heartbeats = vec![heartbeat(vec![capturing, lost], vec!["publish denied".to_owned()])];
        moment.intake.problems = vec![("stream is full".to_owned(), UnixMs(7))];
    });
    let status = served.get("/api/v1/status").await;
    assert_eq!(
        codes(&status),
        [
            "intake_failed",
            "account_unassigned",
            "account_unconfigured",
            "account_unwell",
            "worker_fault",
            "dead_letters"
        ]
    );
    let (code, health) = served.ask("/healthz").await;
    assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE);
    assert!(health["reasons"][0].as_str().unwrap().contains("stream is full"), "{health}");
    let unwell = &status["problems"][3];
    assert_eq!((&unwell["account"], &unwell["state"]), (&json!("demo.c"), &json!("logged_out")));
    assert_eq!(
        (&unwell["since"], &unwell["detail"]),
        (&json!(sample::BASE.0 + 5), &json!("shows the login form"))
    );

    served.live.note(|moment| (moment.broker.connected, moment.workers.heartbeats) = (false, vec![]));
    let status = served.get("/api/v1/status").await;
    assert_eq!(codes(&status), ["broker_disconnected", "dead_letters"]);
    assert_eq!((&status["workers"]["online"], &status["capture"]["unknown"]), (&Value::Null, &json!(2)));
    assert!(status["problems"][0]["text"].as_str().unwrap().contains("nats://broker.test:4222"));
    let (code, health) = served.ask("/healthz").await;
    assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE);
    assert!(health["reasons"][0].as_str().unwrap().contains("nats://broker.test:4222"), "{health}");
}

#[tokio::test]
async fn what_workers_say_beside_the_state_is_told_and_a_paused_account_is_no_problem() {
    let served = filled().await;
    let mut faulty = health("demo.a", AccountState::Capturing, None);
    faulty.problems = vec!["its session cannot be read".to_owned()];
    let left = LeftBehind { account: sample::account("demo.b"), records: 7 };
    let paused = AccountEntry::Paused(AccountConfig::default());
    served.live.note(|moment| {
        let beat = heartbeat(vec![faulty], vec![]);
        moment.workers.heartbeats = vec![Heartbeat { left_behind: vec![left], ..beat }];
        let configured = Configured { revision: 2, changed_at: Some(UnixMs(9)), entry: paused };
        moment.accounts.note(sample::account("demo.b"), configured);
    });
    let status = served.get("/api/v1/status").await;
    let problems = status["problems"].as_array().unwrap();
    let told: Vec<Value> = problems.iter().map(|it| json!([it["code"], it["account"]])).collect();
    assert_eq!(told, [json!(["account_fault", "demo.a"]), json!(["left_behind", "demo.b"])]);
    assert!(problems[1]["text"].as_str().unwrap().contains("7 records"), "{status}");
    assert_eq!((&status["capture"]["paused"], &status["capture"]["capturing"]), (&json!(1), &json!(1)));
    let said = sentence(&serde_json::from_value(status).unwrap());
    assert!(said.starts_with("The account is being captured") && said.ends_with("; 1 paused."), "{said}");
    let paused = served.get("/api/v1/accounts/demo.b").await;
    assert_eq!(
        (&paused["state"], &paused["since"], &paused["revision"]),
        (&json!("paused"), &json!(9), &json!(2))
    );
}

#[tokio::test]
async fn what_cannot_be_known_just_after_connecting_is_not_told_as_a_fault() {
    let served = filled().await;
    served.live.note(|moment| moment.workers.settled = false);
    let status = served.get("/api/v1/status").await;
    assert_eq!((&status["workers"]["online"], &status["problems"]), (&Value::Null, &json!([])));
    assert_eq!((&status["capture"]["unknown"], &status["capture"]["unassigned"]), (&json!(2), &json!(0)));
    let told = |status: Value| sentence(&serde_json::from_value(status).unwrap());
    let waiting = told(status);
    assert!(waiting.contains("waiting for the workers' heartbeats"), "{waiting}");

    // Who is heard of counts at once; who is not may still come.
    let capturing = health("demo.a", AccountState::Capturing, None);
    served.live.note(|moment| moment.workers.heartbeats = vec![heartbeat(vec![capturing], vec![])]);
    let status = served.get("/api/v1/status").await;
    assert_eq!((&status["workers"]["online"], &status["problems"]), (&json!(1), &json!([])));
    let partly = told(status);
    assert!(
        partly.starts_with("1 of 2 accounts are being captured, 1 waiting for a worker's heartbeat"),
        "{partly}"
    );

    served.live.note(|moment| moment.workers.settled = true);
    let status = served.get("/api/v1/status").await;
    assert_eq!(status["problems"][0]["code"], "account_unassigned");
    assert_eq!(status["problems"][0]["account"], "demo.b");
}

#[tokio::test]
async fn ids_with_anything_in_them_are_reached_and_hostile_text_stays_text() {
    let mut served = Served::start();
    let hostile = "<script>alert(1)</script>\"'&\u{202e}\u{0}\u{2028}\n\ndata: fake\nid: fake-1";
    let mut snapshot = sample::snapshot(&sample::account("demo.a"), 1, 1);
    let mut message = sample::direct_message(1, 1, hostile);
    message.conversation_id = sample::id("a/b?c=d&e%#\"é");
    snapshot.direct_messages = vec![message];
    served.apply(&snapshot).await;
    let list = "/api/v1/conversations/a%2Fb%3Fc%3Dd%26e%25%23%22%C3%A9/messages?account=demo.a";
    assert_eq!(served.get(list).await["items"][0]["text"], hostile);
    let start = served.get("/api/v1/status").await["store"]["feed"].as_str().unwrap().to_owned() + "-0";
    let response = served.send(request(&format!("/api/v1/events?after={start}"))).await;
    let seen = events(response, |events| events.iter().any(|event| event.1 == "live")).await;
    assert_eq!(seen.len(), 2, "text has made events of its own: {seen:?}");
    assert_eq!(seen[0].2["record"]["text"], hostile);

    let page = served.send(request("/")).await;
    let policy = page.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    for answer in [page, served.send(request(list)).await, served.send(request("/api/v1/nothing")).await] {
        assert_eq!(answer.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(answer.headers()[header::REFERRER_POLICY], "no-referrer");
    }
    let page = String::from_utf8(body(served.send(request("/")).await).await.to_vec()).unwrap();
    for forbidden in ["<style", "style=", "onclick=", "<script>"] {
        assert!(!page.contains(forbidden), "the page has {forbidden}, which its policy forbids");
    }
    for script in ["/inbox.js", "/words.js", "/dom.js", "/thread.js"] {
        let text = String::from_utf8(body(served.send(request(script)).await).await.to_vec()).unwrap();
        assert!(!text.is_empty());
        for forbidden in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
            assert!(!text.contains(forbidden), "{script} uses {forbidden}");
        }
    }
}

#[tokio::test]
async fn an_account_is_being_erased_until_its_rows_are_gone() {
    let served = Served::start();
    let id = sample::account("demo.gone");
    let entry = AccountEntry::Erased(Ended { at: UnixMs(7), upto: None, erased: None });
    served.live.note(|moment| {
        moment.accounts.note(id.clone(), Configured { revision: 1, changed_at: None, entry });
        moment.accounts.note_complete();
        moment.endings.erasing.insert(id.clone());
    });
    let shown = async || {
        let page = served.get("/api/v1/accounts?removed=true").await;
        (page["items"][0]["state"].clone(), page["items"][0]["since"].clone())
    };
    assert_eq!(shown().await, (json!("erasing"), json!(7)));
    served.live.note(|moment| moment.endings.erasing.clear());
    assert_eq!(shown().await, (json!("erased"), json!(7)));
}
