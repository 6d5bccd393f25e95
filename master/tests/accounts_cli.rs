//! Accounts on the command line and from files, and requests that mean harm.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/peer.rs"]
#[allow(dead_code, reason = "shared by several tests, each of which needs a part")]
mod peer;
#[path = "support/running.rs"]
#[allow(dead_code, reason = "shared by several tests, each of which needs a part")]
mod running;

use std::process::Output;

use peer::{Rig, heartbeat};
use reqwest::Method;
use serde_json::{Value, json};
use snapfleet_protocol::{AccountEntry, Heartbeat};

/// What a command that fails says on standard error: one line.
fn complaint(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!((output.status.code(), text.lines().count()), (Some(1), 1), "{text:?}");
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_are_added_shown_and_changed_by_hand_and_secrets_stay_hidden() {
    let rig = Rig::start().await;
    let _beating = rig.beats(Heartbeat { max_accounts: 9, ..heartbeat("w1") }).await;
    assert!(
        rig.master
            .says(&["status"])
            .starts_with("No account yet: add one with snapfleet-master accounts add")
    );
    assert!(rig.master.says(&["accounts", "list"]).contains("no accounts"));
    let refused = rig.master.cli(&["accounts", "add", "demo.a", "--set", "password=hunter2"]);
    let said = complaint(&refused);
    assert!(
        said.contains("password") && said.contains("snapfleet-worker seal") && !said.contains("hunter2"),
        "{said}"
    );
    let added = rig.master.says(&[
        "accounts",
        "add",
        "demo.a",
        "--set",
        "password=sealed:abc",
        "--set",
        "user=smith",
        "--set",
        "api_key=hunter2",
        "--plain-secrets",
        "--label",
        "region=eu",
        "--interval-s",
        "60",
    ]);
    assert!(added.starts_with("demo.a: added (revision 1)") && added.contains("region=eu"), "{added}");
    assert!(complaint(&rig.master.cli(&["accounts", "add", "demo.a"])).contains("exists already"));

    rig.until("accounts/demo.a", |account| account["state"] == "unassigned").await;
    let shown = rig.master.says(&["accounts", "show", "demo.a"]);
    for line in ["interval_s = 60", "label region = eu", "setting api_key = ***", "setting user = smith"] {
        assert!(shown.lines().any(|printed| printed == line), "no {line:?} in {shown}");
    }
    assert!(shown.contains("held by no worker") && shown.contains("does not carry region=eu"), "{shown}");
    // A name that is not said stays as it is, secrets too.
    rig.master.says(&["accounts", "set", "demo.a", "--set", "user=jones", "--unlabel", "region"]);
    let Some(AccountEntry::Active(config)) = rig.entry("demo.a").await else { panic!("it is not active") };
    assert_eq!((config.interval_s, config.labels.len(), config.settings["user"].as_str()), (60, 0, "jones"));
    assert_eq!(
        (config.settings["api_key"].as_str(), config.settings["password"].as_str()),
        ("hunter2", "sealed:abc")
    );
    let stale = rig.master.cli(&["accounts", "set", "demo.a", "--interval-s", "9", "--revision", "1"]);
    assert!(complaint(&stale).contains("it is at revision 2 now"), "{}", complaint(&stale));
    let already = rig.master.says(&["accounts", "set", "demo.a", "--interval-s", "60"]);
    assert!(already.contains("is so already (revision 2)"), "{already}");
    for wrong in [&["--unset", "none"][..], &["--set", "a=1", "--set", "a=2"], &[], &["--interval-s", "0"]] {
        let output = rig.master.cli(&[&["accounts", "set", "demo.a"], wrong].concat());
        assert_eq!(output.status.code(), Some(1), "{wrong:?}");
    }

    assert!(rig.master.says(&["accounts", "pause", "demo.a"]).contains("demo.a: paused"));
    rig.until("status", |status| status["capture"]["paused"] == 1).await;
    let status = rig.master.says(&["status"]);
    assert!(status.starts_with("The account is paused; no snapshot yet."), "{status}");
    assert!(!status.contains('!'), "paused is told as a problem: {status}");
    rig.master.says(&["accounts", "resume", "demo.a"]);
    let json = rig.master.says(&["accounts", "list", "--json"]);
    let listed: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&listed["account"], &listed["state"]), (&json!("demo.a"), &json!("unassigned")));
    assert!(complaint(&rig.master.cli(&["accounts", "remove", "demo.z"])).contains("not configured"));
    assert!(rig.master.says(&["accounts", "remove", "demo.a"]).contains("stays readable"));
    assert!(rig.master.says(&["accounts", "list", "--removed"]).contains("removed"));

    let answers = [
        rig.master.says(&["accounts", "show", "demo.a", "--json"]),
        rig.master.says(&["status", "--json"]),
        shown,
        added,
        json,
        rig.log(),
    ];
    for secret in ["hunter2", "sealed:abc"] {
        assert!(!answers.iter().any(|answer| answer.contains(secret)), "{secret} is shown or logged");
    }
    let nobody =
        running::binary().args(["accounts", "list", "--url", "http://127.0.0.1:1"]).output().unwrap();
    assert!(complaint(&nobody).contains("no master answers at http://127.0.0.1:1"), "{nobody:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_imported_whole_or_not_at_all() {
    let rig = Rig::start().await;
    let _beating = rig.beats(heartbeat("w1")).await;
    let file = rig.dir.path().join("accounts.csv");
    let path = file.to_str().unwrap().to_owned();
    let import = |text: &str, more: &[&str]| {
        std::fs::write(&file, text).unwrap();
        rig.master.cli(&[&["accounts", "import", &path], more].concat())
    };
    let stdout = |output: &Output| String::from_utf8(output.stdout.clone()).unwrap();
    let bad = "id,interval_s,setting.password\n\
        demo.a,60,sealed:x\n\
        demo.b,9999,sealed:x\n\
        demo.c,60,hunter2\n\
        dmeo.d,60,\n\
        nonsense,60,\n";
    let output = import(bad, &[]);
    let said = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for line in [
        "line 3: interval_s = 9999",
        "line 4: setting \"password\"",
        "line 5: no online worker knows platform dmeo",
        "line 6: account \"nonsense\"",
    ] {
        assert!(said.contains(line), "no {line:?} in {said}");
    }
    assert!(said.contains("nothing imported: 4 bad lines") && !said.contains("hunter2"), "{said}");
    assert_eq!(rig.master.get("accounts").await.unwrap()["items"], json!([]));

    let dry: Value =
        serde_json::from_str(&stdout(&import(bad, &["--skip-bad", "--dry-run", "--json"]))).unwrap();
    assert_eq!(
        (&dry["added"], &dry["bad"][3]["line"], &dry["dry_run"]),
        (&json!(1), &json!(6), &json!(true))
    );
    assert!(rig.entry("demo.a").await.is_none());
    assert!(
        stdout(&import(bad, &["--skip-bad"]))
            .contains("1 added, 0 updated, 0 unchanged, 0 skipped, 4 bad, 0 failed")
    );
    assert!(rig.entry("demo.a").await.is_some());

    let good: String =
        (0..600).map(|n| format!("demo.n{n},{},u{n}\n", if n % 2 == 0 { "yes" } else { "" })).collect();
    let good = format!("id,paused,setting.user\n{good}demo.a,,new\n");
    let output = import(&good, &[]);
    assert!(stdout(&output).contains("600 added, 0 updated, 0 unchanged, 1 skipped"), "{output:?}");
    assert!(matches!(rig.entry("demo.n0").await, Some(AccountEntry::Paused(_))));
    assert!(matches!(rig.entry("demo.n1").await, Some(AccountEntry::Active(_))));
    let output = import(&good, &["--update"]);
    assert!(stdout(&output).contains("0 added, 1 updated, 600 unchanged, 0 skipped"), "{output:?}");
    let Some(AccountEntry::Active(config)) = rig.entry("demo.a").await else {
        panic!("demo.a is not active")
    };
    assert_eq!((config.settings["user"].as_str(), config.settings["password"].as_str()), ("new", "sealed:x"));
    assert_eq!(config.interval_s, 60);
    let status = rig.until("status", |status| status["capture"]["unassigned"] == 301).await;
    assert_eq!(status["capture"]["paused"], 300);
    let problems = status["problems"].as_array().unwrap();
    assert!(problems.len() < 110, "{} problems", problems.len());
    assert!(
        problems.last().unwrap()["text"].as_str().unwrap().contains("201 more accounts"),
        "{:?}",
        problems.last()
    );

    for (text, named) in [("", "empty"), ("id,pasword\ndemo.a,x\n", "pasword"), ("demo.a,60\n", "demo.a")] {
        let said = complaint(&import(text, &[]));
        assert!(said.contains(named) && said.contains("accounts.csv"), "{said}");
    }
    let missing = rig.master.cli(&["accounts", "import", "/nowhere/accounts.csv"]);
    assert!(complaint(&missing).contains("/nowhere/accounts.csv"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_mean_harm_change_nothing() {
    let rig = Rig::start().await;
    let url = |path: &str| format!("{}/api/v1/{path}", rig.master.url);
    let post =
        |body: String| rig.http.post(url("accounts")).body(body).header("content-type", "application/json");
    let good = json!({ "account": "demo.a" }).to_string();
    for (request, status) in [
        (rig.http.post(url("accounts")).body(good.clone()), 415),
        (rig.http.post(url("accounts")).body(good.clone()).header("content-type", "text/plain"), 415),
        (post(good.clone()).header("origin", "http://evil.example"), 403),
        (post(good.clone()).header("origin", "null"), 403),
        (post(good.clone()).header("sec-fetch-site", "cross-site"), 403),
        (post(good.clone()).header("host", "evil.example"), 421),
        (rig.http.delete(url("accounts/demo.a")), 415),
        (post(json!({ "account": "demo.a", "settings": { "x": "y".repeat(1_200_000) } }).to_string()), 413),
        (rig.http.post(url("accounts/demo.a/pause")).json(&json!({ "x": "y".repeat(70_000) })), 413),
        (post(json!({ "account": "demo.a", "settings": { "x": "y".repeat(70_000) } }).to_string()), 400),
        (post("{".to_owned()), 400),
        (post("[]".to_owned()), 400),
        (post("{}".to_owned()), 400),
        (post(json!({ "account": "demo.a.b" }).to_string()), 400),
        (post(json!({ "account": "demo.*" }).to_string()), 400),
        (post(json!({ "account": "demo.>" }).to_string()), 400),
        (post(json!({ "account": "demo.undefined" }).to_string()), 400),
        (post(json!({ "account": "demo.a", "interval_s": 0 }).to_string()), 400),
        (post(json!({ "account": "demo.a", "not_before": { "incarnation": 1, "seq": 9 } }).to_string()), 400),
        (post(json!({ "account": "demo.a", "settings": { "password": 123_456_789 } }).to_string()), 400),
        (post(json!({ "account": "demo.a", "settings": { "user": "***" } }).to_string()), 400),
        (post(json!({ "account": "demo.a", "settings": { "user": "a\nb" } }).to_string()), 400),
        (post(json!({ "account": "demo.a", "labels": { "a b": "c" } }).to_string()), 400),
    ] {
        let shown = format!("{request:?}");
        let answer = request.send().await.unwrap();
        let (code, problem): (u16, Value) = (answer.status().as_u16(), answer.json().await.unwrap());
        assert_eq!(code, status, "{problem} for {shown:.300}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(!detail.is_empty() && detail.len() < 500 && !detail.contains("123456789"), "{detail}");
    }
    for path in
        ["accounts/demo.a.b/pause", "accounts/%3E/resume", "accounts/demo.*/erase", "accounts/undefined/sync"]
    {
        assert_eq!(rig.post(path, json!({})).await.0, 400, "{path}");
    }
    for (path, status) in [("accounts/demo.a/persons/erase", 400), ("accounts/demo.z/persons/erase", 404)] {
        let confirm = if status == 404 { "p" } else { "q" };
        assert_eq!(rig.post(path, json!({ "person": "p", "confirm": confirm })).await.0, status);
    }
    let (status, _) = rig.send(Method::PUT, "accounts/demo.a", json!({ "revision": 0 })).await;
    assert_eq!(status, 404);
    assert_eq!(rig.master.get("accounts?removed=true").await.unwrap()["items"], json!([]));
    assert!(rig.entry("demo.a").await.is_none());
    // As many labels and settings as there may be, with as many quotes as they may hold.
    let pairs: Value = (0..64).map(|n| (format!("s{n}"), json!("\"".repeat(4_096)))).collect();
    let full = json!({ "account": "demo.full", "labels": pairs, "settings": pairs });
    assert_eq!(rig.post("accounts", full).await.0, 201);
    // The page itself is let through.
    let ours = post(good).header("origin", rig.master.url.clone()).header("sec-fetch-site", "same-origin");
    assert_eq!(ours.send().await.unwrap().status().as_u16(), 201);
}
