//! Logging in from afar over HTTP, with a real broker and a stand-in for the account's holder: what is asked of it and
//! what comes back, who may ask, and that nothing of it is kept.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/peer.rs"]
#[allow(dead_code, reason = "shared by several tests, each of which needs a part")]
mod peer;
#[path = "support/running.rs"]
#[allow(dead_code, reason = "shared by several tests, each of which needs a part")]
mod running;

use std::sync::{Arc, Mutex};
use std::time::Instant;

use futures_util::StreamExt;
use peer::{Rig, heartbeat};
use reqwest::Method;
use serde_json::{Value, json};
use snapfleet_protocol::login::{LOGIN_PICTURE_BYTES_MAX, LOGIN_TEXT_BYTES_MAX};
use snapfleet_protocol::{
    AccountState, Command, CommandAnswer, LoginInput, LoginKey, LoginPart, LoginPicture, LoginScene, Topic,
    UnixMs,
};
use snapfleet_testkit::{TestBroker, sample};
use tokio_util::task::AbortOnDropHandle;

const LOGIN: &str = "accounts/demo.a/login";

/// Answers in place of the holder of `demo.a`.
struct Holder {
    asked: Arc<Mutex<Vec<Command>>>,
    _task: AbortOnDropHandle<()>,
}

impl Holder {
    /// Answers each command as `answer` says; none where that is `None`.
    async fn start(rig: &Rig, answer: impl Fn(&Command) -> Option<CommandAnswer> + Send + 'static) -> Self {
        let client = rig.worker.client().clone();
        let mut commands =
            client.subscribe(Topic::Command.subject(&sample::account("demo.a"))).await.unwrap();
        client.flush().await.unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            while let Some(request) = commands.next().await {
                let command: Command = serde_json::from_slice(&request.payload).unwrap();
                let answer = answer(&command);
                told.lock().unwrap().push(command);
                let Some(answer) = answer else { continue };
                let json = serde_json::to_vec(&answer).unwrap();
                client.publish(request.reply.unwrap(), json.into()).await.unwrap();
            }
        });
        Self { asked, _task: AbortOnDropHandle::new(task) }
    }

    fn asked(&self) -> Vec<Command> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

fn scene(base64: &str) -> LoginScene {
    let picture = LoginPicture {
        part: LoginPart::Code,
        width: 3,
        height: 2,
        media_type: "image/png".to_owned(),
        base64: base64.to_owned(),
    };
    LoginScene {
        logged_in: false,
        since: Some(UnixMs(5)),
        reason: Some("shows the login form".to_owned()),
        page: "inbox".to_owned(),
        pending_until: Some(UnixMs(6)),
        has_code: true,
        picture: Some(picture),
    }
}

async fn get(rig: &Rig, path: &str) -> (u16, Value) {
    let answer = rig.http.get(format!("{}/api/v1/{path}", rig.master.url)).send().await.unwrap();
    assert_eq!(answer.headers()["cache-control"], "no-store", "{path}");
    (answer.status().as_u16(), answer.json().await.unwrap())
}

fn detail(answer: &Value) -> &str {
    answer["detail"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_holder_is_asked_and_what_is_typed_and_pictured_is_kept_nowhere() {
    let rig = Rig::logging("trace").await;
    assert_eq!(rig.post("accounts", json!({ "account": "demo.a" })).await.0, 201);
    // The largest picture there may be.
    let mut picture = "c2VjcmV0LXBpY3R1cmU".repeat(LOGIN_PICTURE_BYTES_MAX * 4 / 3 / 19);
    picture.truncate(LOGIN_PICTURE_BYTES_MAX * 4 / 3);
    let shown = scene(&picture);
    let answer = shown.clone();
    let holder = Holder::start(&rig, move |_| Some(CommandAnswer::Login(answer.clone()))).await;

    let (status, seen) = get(&rig, &format!("{LOGIN}?part=code")).await;
    assert_eq!((status, serde_json::from_value::<LoginScene>(seen).unwrap()), (200, shown.clone()));
    assert_eq!(get(&rig, LOGIN).await.0, 200);
    for input in [
        json!({ "text": "hunter2-by-sms" }),
        json!({ "click": { "x": 7, "y": 8 } }),
        json!({ "key": "enter" }),
    ] {
        let (status, seen) = rig.post(LOGIN, input).await;
        assert_eq!((status, serde_json::from_value::<LoginScene>(seen).unwrap()), (200, shown.clone()));
    }
    let ended = rig.http.delete(format!("{}/api/v1/{LOGIN}", rig.master.url)).send().await.unwrap();
    assert_eq!(ended.status(), 200);
    let input = |input| Command::LoginInput { input };
    assert_eq!(
        holder.asked(),
        [
            Command::LoginView { part: LoginPart::Code },
            Command::LoginView { part: LoginPart::Page },
            input(LoginInput::Text("hunter2-by-sms".to_owned())),
            input(LoginInput::Click { x: 7, y: 8 }),
            input(LoginInput::Key(LoginKey::Enter)),
            Command::LoginEnd {},
        ]
    );
    let file = std::fs::read(rig.dir.path().join("master.redb")).unwrap();
    let log = rig.log();
    assert!(log.contains("TRACE"), "the log is not as full as it gets: {log:.300}");
    for secret in ["hunter2", "c2VjcmV0LXBpY3R1cmU", TestBroker::password("master")] {
        assert!(!log.contains(secret), "the log has {secret}");
        assert!(!file.windows(secret.len()).any(|bytes| bytes == secret.as_bytes()), "the file has {secret}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nobody_can_be_asked_it_says_why_and_what_helps() {
    let rig = Rig::start().await;
    let all = async || {
        let [get, post, delete] = [
            get(&rig, LOGIN).await,
            rig.post(LOGIN, json!({ "key": "tab" })).await,
            rig.send(Method::DELETE, LOGIN, json!({})).await,
        ];
        assert_eq!((&get, &get), (&post, &delete));
        get
    };
    assert_eq!(all().await.0, 404);
    rig.post("accounts", json!({ "account": "demo.a" })).await;
    rig.until("accounts/demo.a", |account| account["state"] == "unassigned").await;
    let (status, nobody) = all().await;
    let said = detail(&nobody);
    let wanted = ["no worker holds it", "no worker is online", "snapfleet-worker login demo.a"];
    assert!(status == 409 && wanted.iter().all(|words| said.contains(words)), "{said}");

    // What is paused or removed is not asked for, although its holder is still there.
    let holder = Holder::start(&rig, |_| Some(CommandAnswer::Login(scene("")))).await;
    rig.post("accounts/demo.a/pause", json!({})).await;
    let (status, paused) = all().await;
    let said = detail(&paused);
    assert!(status == 409 && said.contains("it is paused: resume it first"), "{said}");
    assert!(said.contains("accounts resume demo.a"), "{said}");
    rig.send(Method::DELETE, "accounts/demo.a", json!({})).await;
    let (status, removed) = all().await;
    assert!(status == 409 && detail(&removed).contains("it is removed: add it first"), "{removed}");
    assert_eq!(holder.asked(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_refuses_or_is_slow_is_not_waited_for() {
    let rig = Rig::start().await;
    rig.post("accounts", json!({ "account": "demo.a" })).await;
    let holder = Holder::start(&rig, |command| match command {
        Command::LoginView { .. } => None,
        Command::LoginEnd {} => Some(CommandAnswer::Synced {
            instance: heartbeat("w1").instance,
            records: 0,
            stream_seq: 0,
            captured: 0,
        }),
        _ => Some(CommandAnswer::Refused { reason: "nothing has the focus: click into a field".to_owned() }),
    })
    .await;
    let (status, refused) = rig.post(LOGIN, json!({ "text": "1234" })).await;
    assert!(status == 409 && detail(&refused).ends_with(": nothing has the focus: click into a field"));
    let (status, other) = rig.send(Method::DELETE, LOGIN, json!({})).await;
    assert!(status == 503 && detail(&other).contains("answered something else"), "{other}");
    let began = Instant::now();
    let (status, late) = get(&rig, LOGIN).await;
    assert!(status == 504 && detail(&late).contains("has not answered within 15 s"), "{late}");
    assert!((14..20).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    assert_eq!(holder.asked().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_person_at_the_page_sends_does_not_reach_the_holder() {
    let rig = Rig::start().await;
    rig.post("accounts", json!({ "account": "demo.a" })).await;
    let holder = Holder::start(&rig, |_| Some(CommandAnswer::Login(scene("")))).await;
    let url = format!("{}/api/v1/{LOGIN}", rig.master.url);
    let look = || rig.http.get(&url);
    let post = |body: Value| rig.http.post(&url).json(&body);
    let longest = "验".repeat(LOGIN_TEXT_BYTES_MAX / 3) + "x";
    for (request, status) in [
        (look().header("sec-fetch-site", "cross-site"), 403),
        (look().header("sec-fetch-site", "same-site"), 403),
        (look().header("origin", "http://evil.example"), 403),
        (look().header("host", "evil.example"), 421),
        (rig.http.head(&url).header("sec-fetch-site", "cross-site"), 403),
        (rig.http.get(format!("{url}?part=all")), 400),
        (rig.http.get(format!("{url}?page=code")), 400),
        (post(json!({ "key": "enter" })).header("sec-fetch-site", "same-site"), 403),
        (rig.http.delete(&url).header("origin", "http://evil.example"), 403),
        (rig.http.post(&url).body("{\"key\":\"enter\"}"), 415),
        (post(json!({ "text": format!("{longest}x") })), 400),
        (post(json!({ "text": "x".repeat(70_000) })), 413),
        (post(json!({ "key": "f5" })), 400),
        (post(json!({ "click": { "x": -1, "y": 0 } })), 400),
        (post(json!({ "text": "a", "key": "enter" })), 400),
        (post(json!({})), 400),
    ] {
        let shown = format!("{request:?}");
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status, "{shown:.300}");
        assert!(!answer.text().await.unwrap().contains("xxxx"), "{shown:.300}");
    }
    assert_eq!(holder.asked(), []);
    // Of the page itself, and the longest text there may be.
    assert_eq!(look().header("sec-fetch-site", "same-origin").send().await.unwrap().status(), 200);
    assert_eq!(post(json!({ "text": longest })).send().await.unwrap().status(), 200);
    assert_eq!(holder.asked().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logged_out_is_told_with_its_time_and_its_remedy_and_is_no_capturing() {
    let rig = Rig::start().await;
    rig.post("accounts", json!({ "account": "demo.a" })).await;
    let _beating = rig.beats(heartbeat("w1")).await;
    rig.leases("w1", "demo.a").await;
    rig.holds("w1", "demo.a", AccountState::LoggedOut, Some("shows the login form")).await;
    let status = rig.until("status", |status| status["problems"][0]["state"] == "logged_out").await;
    assert_eq!((&status["capture"]["capturing"], &status["capture"]["unwell"]), (&json!(0), &json!(1)));
    let problem = &status["problems"][0];
    assert_eq!(problem["since"], 5);
    let remedy = problem["remedy"].as_str().unwrap();
    assert!(remedy.starts_with("log in on the master's page, or with: snapfleet-worker login demo.a;"));
    let said = rig.master.says(&["status"]);
    let first = said.lines().next().unwrap();
    assert!(first.starts_with("1 of 1 accounts is not being captured: demo.a logged out for "), "{first}");
    assert!(said.contains("demo.a is logged out, and is not being captured: shows the login form (since "));
    assert!(said.contains("snapfleet-worker login demo.a"), "{said}");
    for command in [&["accounts", "list"][..], &["accounts", "show", "demo.a"]] {
        let said = rig.master.says(command);
        assert!(said.contains("logged out") && said.contains("since 1970-01-01"), "{command:?}: {said}");
    }
}
