//! `platform new`: from a HAR file with what the demo site answers to a folder that checks, by the program itself.

#![allow(clippy::unwrap_used, reason = "a failure of the test rig is a failed test")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use snapfleet_protocol::UnixMs;
use snapfleet_testkit::workspace;
use snapfleet_worker::har::write::{Content, HarWriter, Written};
use snapfleet_worker::platform::{AccountView, Platform, Request, check};

const JWT: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl";

struct Rig {
    folder: tempfile::TempDir,
}

impl Rig {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn har(&self, entries: &[Written]) {
        let mut writer = HarWriter::create(&self.path("a.har"), 1 << 30).unwrap();
        for entry in entries {
            writer.add(&entry.to_json()).unwrap();
        }
    }

    fn run(&self, name: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_snapfleet-worker"))
            .args(["platform", "new", name, "--har"])
            .arg(self.path("a.har"))
            .arg("--into")
            .arg(self.path("platforms"))
            .output()
            .unwrap()
    }
}

fn entry(url: &str, mime_type: &str, content: Content) -> Written {
    Written {
        at_ms: 1_790_000_000_000,
        url: url.to_owned(),
        method: "GET".to_owned(),
        status: 200,
        mime_type: mime_type.to_owned(),
        content,
    }
}

/// What the demo site answers, as it was recorded for the demo platform, with secrets as real sites have them.
fn visit() -> Vec<Written> {
    let site = "http://127.0.0.1:8090";
    let document = Content::LeftOut { bytes: 900, reason: "a page" };
    let mut entries = vec![entry(&format!("{site}/creator/inbox?msToken=hunter2"), "text/html", document)];
    for file in std::fs::read_dir(workspace().join("platforms/demo/fixtures")).unwrap().flatten() {
        let fixture: Value = serde_json::from_slice(&std::fs::read(file.path()).unwrap()).unwrap();
        let url = fixture["request"]["url"].as_str().unwrap();
        let url = format!("{url}{}a_bogus=hunter2", if url.contains('?') { '&' } else { '?' });
        let body = fixture["body"].to_string();
        let content = match fixture["rule"].as_str().unwrap() {
            "push" => {
                Content::Event { name: fixture["request"]["event"].as_str().unwrap().to_owned(), data: body }
            }
            "comment_push" => Content::Frame(body),
            _ => Content::Body(body),
        };
        entries.push(entry(&url, "application/json", content));
    }
    let profile = format!(
        r#"{{"user":{{"uid":"42","email":"ann@a.example","access_token":"hunter2"}},"note":"{JWT}"}}"#
    );
    entries.push(entry(
        &format!("{site}/api/v1/users/7351234567890123456/profile"),
        "application/json",
        Content::Body(profile),
    ));
    entries.push(entry(
        &format!("{site}/logo.png"),
        "image/png",
        Content::LeftOut { bytes: 10, reason: "a picture" },
    ));
    entries
}

fn text_of_all(dir: &Path) -> String {
    let mut text = String::new();
    for file in std::fs::read_dir(dir).unwrap().flatten() {
        match file.path().is_dir() {
            true => text += &text_of_all(&file.path()),
            false => text += &std::fs::read_to_string(file.path()).unwrap(),
        }
    }
    text
}

/// What the hint in a filter's file does: the example of its rows in place of nothing.
fn begin_with_the_example(filter: &Path) {
    let text = std::fs::read_to_string(filter).unwrap();
    let lines = text.lines().filter(|line| *line != "empty");
    let lines: Vec<_> = lines.map(|line| line.strip_prefix("#> ").unwrap_or(line)).collect();
    std::fs::write(filter, lines.join("\n")).unwrap();
}

#[test]
fn a_visit_becomes_a_folder_that_checks_and_shows_what_was_found() {
    let rig = Rig::new();
    rig.har(&visit());
    let output = rig.run("shop");
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{shown}{}", String::from_utf8_lossy(&output.stderr));
    let dir = rig.path("platforms/shop");
    for expected in [
        "GET 127.0.0.1/api/v1/comment/list/  ",
        "probably comments in .comments[]: a guess",
        "probably works in .item_list[]",
        "probably messages in .data.messages[]",
        "probably conversations in ",
        "probably notices in ",
        "GET 127.0.0.1/api/v1/users/*/profile",
        ".user.nickname  (text)",
        &format!("snapfleet-worker platform check {}\n", dir.display()),
        "--har ",
        "--accept",
    ] {
        assert!(shown.contains(expected), "{expected:?} is not in\n{shown}");
    }

    let report = check(&dir).unwrap();
    assert!(report.is_ok(), "{report}");
    assert!(report.fixtures >= 8 && report.records == 0, "{report}");
    let manifest = std::fs::read_to_string(dir.join("platform.toml")).unwrap();
    assert!(
        manifest.contains("url = \"http://127.0.0.1:8090/creator/inbox?msToken=[removed]\""),
        "{manifest}"
    );
    assert!(manifest.contains("# path = \"/api/v1/users/*/profile\""), "{manifest}");
    let all = text_of_all(&dir) + &shown;
    assert!(!all.contains("hunter2") && !all.contains(JWT) && !all.contains("ann@a.example"), "{all}");
}

#[test]
fn the_examples_of_rows_in_the_filters_map() {
    let rig = Rig::new();
    rig.har(&visit());
    assert!(rig.run("shop").status.success());
    let dir = rig.path("platforms/shop");
    for (rule, kind) in [
        ("works", "content"),
        ("comments", "comment"),
        ("conversations", "conversation"),
        ("messages", "direct_message"),
        ("notices", "notification"),
    ] {
        begin_with_the_example(&dir.join(format!("{rule}.jq")));
        let platform = Platform::load(&dir).unwrap_or_else(|error| panic!("{error}"));
        let number = platform.captures().iter().position(|capture| capture.name == rule).unwrap();
        let fixture = std::fs::read(dir.join(format!("fixtures/{rule}.json"))).unwrap();
        let fixture: Value = serde_json::from_slice(&fixture).unwrap();
        let account = AccountView { id: "shop.a".parse().unwrap(), settings: Default::default() };
        let request = Request::of(fixture["request"]["url"].as_str().unwrap());
        let body = fixture["body"].to_string();
        let mapped = platform.map(number, &request, &account, body.as_bytes(), UnixMs(1_790_000_000_000));
        assert_eq!(mapped.error, None, "{rule}");
        let kinds: Vec<_> = mapped
            .records
            .iter()
            .map(|record| serde_json::to_value(record).unwrap()["kind"].clone())
            .collect();
        assert!(
            !kinds.is_empty() && kinds.iter().all(|found| found == kind),
            "{rule}: {kinds:?} {:?}",
            mapped.refused
        );
        assert!(mapped.refused.len() < kinds.len(), "{rule}: {:?}", mapped.refused);
    }
}

#[test]
fn one_endpoint_is_one_rule_and_nothing_is_guessed_that_cannot_be_known() {
    let rig = Rig::new();
    let thread = |name: &str, id: u32| {
        let post = format!(
            r#"{{"id":{id},"username":"support_anna","cooked":"<p>x</p>","reply_count":0,"yours":true,
            "actions":[{{"id":1,"text":"x","author":"y"}}]}}"#
        );
        let body = format!(r#"{{"posts":[{post}],"id":{id},"title":"t"}}"#);
        entry(&format!("https://f.example/t/{name}/{id}.json"), "application/json", Content::Body(body))
    };
    let other = |path: &str, body: &str| {
        entry(&format!("https://f.example{path}"), "application/json", Content::Body(body.to_owned()))
    };
    rig.har(&[
        thread("which-pot", 701),
        thread("refund", 702),
        thread("hours", 703),
        other(
            "/u/support_anna/notices.json",
            r#"{"notifications":[{"id":1,"notification_type":5,"text":"x"},{"id":2,"notification_type":12}]}"#,
        ),
        other("/inbox.json", r#"{"messages":[{"message_id":1,"conversation_id":2,"text":"x"}]}"#),
    ]);
    let output = rig.run("forum");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let dir = rig.path("platforms/forum");
    let manifest = std::fs::read_to_string(dir.join("platform.toml")).unwrap();
    for expected in [
        "# One rule for hours, refund, which-pot and what else may stand there: their answers look alike.\n",
        "path = \"/t/*/*.json\"",
        "# TODO: support_anna is what somebody is called: write * if it is the account's owner.\n",
    ] {
        assert!(manifest.contains(expected), "{expected:?} is not in\n{manifest}");
    }
    assert_eq!(manifest.matches("[[capture]]").count(), 3, "{manifest}");
    for (rule, expected) in [
        ("comments", "#>   direction: (.yours | direction),\n"),
        ("comments", "#>   text: (.cooked | html_text),\n"),
        ("messages", "#>   direction: null, # TODO: inbound or outbound\n"),
        ("notices", "_type: ({ \"12\": null, \"5\": null }[.notification_type | tostring]), # TODO"),
    ] {
        let filter = std::fs::read_to_string(dir.join(format!("{rule}.jq"))).unwrap();
        assert!(filter.contains(expected), "{expected:?} is not in\n{filter}");
        assert!(!filter.contains(".actions[]?"), "{filter}");
    }
    for rule in ["comments", "messages", "notices"] {
        begin_with_the_example(&dir.join(format!("{rule}.jq")));
    }
    // It lies beside no `lib`: what its filters include is built in.
    Platform::load(&dir).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn what_cannot_be_proposed_is_refused_and_nothing_is_written() {
    let rig = Rig::new();
    let refused = |name: &str, says: &str| {
        let output = rig.run(name);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{said}");
        assert!(said.contains(says), "{said:?} does not say {says:?}");
    };
    refused("shop", "a.har");
    std::fs::write(rig.path("a.har"), "<html>").unwrap();
    refused("shop", "is no HAR");
    std::fs::remove_file(rig.path("a.har")).unwrap();
    rig.har(&[entry("http://a.example/", "text/html", Content::Body("<p>".into()))]);
    refused("shop", "no JSON");
    refused("../shop", "../shop");
    refused("a.b", "a.b");
    assert!(!rig.path("platforms").exists() && !rig.path("shop").exists());
    std::fs::create_dir_all(rig.path("platforms/shop")).unwrap();
    refused("shop", "is there already");
    assert_eq!(std::fs::read_dir(rig.path("platforms/shop")).unwrap().count(), 0);
}

#[test]
fn a_har_that_is_cut_gives_what_came_before() {
    let rig = Rig::new();
    rig.har(&visit());
    let whole = std::fs::read(rig.path("a.har")).unwrap();
    std::fs::write(rig.path("a.har"), &whole[..whole.len() * 3 / 4]).unwrap();
    let output = rig.run("shop");
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && shown.contains("warning: "), "{shown}");
    assert!(check(&rig.path("platforms/shop")).unwrap().is_ok());
}
