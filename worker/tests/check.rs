//! `platform check`: what it finds in fixtures, writes into them, and makes of a HAR file.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "check/har.rs"]
mod har;

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;
use snapfleet_worker::platform::{CheckReport, accept, check};

const MANIFEST: &str = include_str!("fixtures/good.toml");
const COMMENTS: &str = include_str!("fixtures/comments.jq");
const FRAMES: &str = "{kind: \"direct_message\", id, conversation_id: .c, direction: \"inbound\"}";
const DIFFERS: &str = include_str!("fixtures/differs.json");

struct Folder {
    _parent: tempfile::TempDir,
    path: PathBuf,
}

impl Folder {
    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path.join(name)).unwrap()
    }

    fn check(&self) -> CheckReport {
        check(&self.path).unwrap_or_else(|error| panic!("{error}"))
    }

    fn accept(&self) -> CheckReport {
        accept(&self.path).unwrap_or_else(|error| panic!("{error}"))
    }
}

/// A platform's folder named `good`, with these fixtures.
fn folder(fixtures: &[(&str, &str)]) -> Folder {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("good");
    std::fs::create_dir_all(path.join("fixtures")).unwrap();
    let folder = Folder { _parent: parent, path };
    folder.write("platform.toml", MANIFEST);
    folder.write("comments.jq", COMMENTS);
    folder.write("frames.jq", FRAMES);
    for (name, text) in fixtures {
        folder.write(&format!("fixtures/{name}"), text);
    }
    folder
}

/// A fixture of the rule `comments` with this body and this expected part.
fn fixture(body: &str, expected: &str) -> String {
    format!(
        r#"{{"rule": "comments", "request": {{"url": "http://h/api/comments?work=w"}}, "account": {{"id": "good.a",
        "settings": {{"username": "ann"}}}}, "now_ms": 1790000000000, "body": {body}, "expected": {expected}}}"#
    )
}

fn worker(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_snapfleet-worker"));
    command.args(["platform", "check"]).args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[track_caller]
fn assert_has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
}

#[test]
fn a_difference_is_told_record_by_record_and_field_by_field() {
    let folder = folder(&[("differs.json", DIFFERS), ("notes.txt", "")]);
    let report = folder.check();
    assert!(!report.is_ok());
    let text = report.to_string();
    let record = "  comment 1
    + created_at: 1790000000000
    - like_count: 3
    - text:       \"ein\"
    + text:       \"one\"
  comment 2
    - text: \"two\"
    + text: \"zwei\"
  comment 3: not expected
    + {\"content_id\":";
    assert_has(
        &text,
        &[
            "fixtures/differs.json\n",
            record,
            "  refused row 5: missing\n    - \"id\"\n",
            "  refused row 1: not expected\n    + \"id is missing\"\n",
            "  unknown_times\n    - 0\n    + 1\n",
            "  error: missing\n    - \"boom\"\n",
            "warning: capture frames has no fixture",
            "notes.txt is no .json file",
            "platform good: 0 of 1 fixtures as expected, 3 records, 1 row refused",
        ],
    );
}

#[test]
fn one_missing_record_does_not_make_all_differ() {
    let item = |id: usize| format!(r#"{{"id": {id}, "text": "t{id}"}}"#);
    let record = |id: usize| {
        format!(
            r#"{{"kind": "comment", "id": "{id}", "content_id": "w", "direction": "inbound", "text": "t{id}"}}"#
        )
    };
    let list = |of: &dyn Fn(usize) -> String, ids: &[usize]| {
        ids.iter().map(|id| of(*id)).collect::<Vec<_>>().join(", ")
    };
    let fixture = |body: &[usize], expected: &[usize]| {
        let body = format!(r#"{{"items": [{}]}}"#, list(&item, body));
        fixture(&body, &format!(r#"{{"records": [{}]}}"#, list(&record, expected)))
    };
    let missing = folder(&[("f.json", &fixture(&[2, 3, 4], &[1, 2, 3, 4]))]).check();
    let places: Vec<_> = missing.failures[0].differences.iter().map(|one| one.place.as_str()).collect();
    assert_eq!(places, ["comment 1"], "{missing}");
    let other_id = folder(&[("f.json", &fixture(&[1, 22, 3], &[1, 2, 3]))]).check();
    let fields: Vec<_> = other_id.failures[0].differences.iter().map(|one| one.field.as_deref()).collect();
    assert_eq!(fields, [Some("id"), Some("text")], "{other_id}");
    let order = folder(&[("f.json", &fixture(&[1, 3, 2], &[1, 2, 3]))]).check();
    assert_has(
        &order.to_string(),
        &["  order of the records\n    - [\"comment 1\",\"comment 2\",\"comment 3\"]\n"],
    );
    assert!(folder(&[("f.json", &fixture(&[3, 1], &[3, 1]))]).check().is_ok());
}

#[test]
fn long_values_are_shown_where_they_begin_to_differ() {
    let long = "word ".repeat(100);
    let body = format!(r#"{{"items": [{{"id": 1, "text": "{long}END{long}"}}]}}"#);
    let record = format!(
        r#"{{"records": [{{"kind": "comment", "id": "1", "content_id": "w", "direction": "inbound", "text": "{long}end{long}"}}]}}"#
    );
    let text = folder(&[("f.json", &fixture(&body, &record))]).check().to_string();
    assert_has(&text, &["- text: …", "word endword word", "+ text: …", "word ENDword word"]);
    assert!(text.lines().all(|line| line.chars().count() < 130), "{text}");
}

#[test]
fn accepting_writes_the_expected_part_and_nothing_else() {
    let folder = folder(&[("differs.json", DIFFERS)]);
    let report = folder.accept();
    // It had expected an error before.
    assert!(report.is_ok() && report.accepted.len() == 1, "{report}");
    assert_has(&report.to_string(), &["accepted: ", "fixtures/differs.json: 2 -> 3 records\n"]);
    let text = folder.read("fixtures/differs.json");
    let (before, _) = DIFFERS.split_once("\"expected\": ").unwrap();
    let expected = text.strip_prefix(before).unwrap().strip_prefix("\"expected\": ").unwrap();
    assert_has(
        expected,
        &[
            "{\n    \"records\": [\n      {\n        \"kind\": \"comment\",\n        \"content_id\": \"w\",",
            "\"unknown_times\": 1\n  }\n}\n",
        ],
    );
    assert!(!expected.contains("error"), "{expected}");
    let report = folder.check();
    assert!(report.is_ok(), "{report}");
    // What is as expected is not touched, and neither is what somebody has shortened.
    let shortened = text.replace("\"id is missing\"", "\"id\"");
    folder.write("fixtures/differs.json", &shortened);
    assert!(folder.accept().accepted.is_empty());
    let last = shortened.rfind("\"one\"").unwrap();
    let differing = format!("{}\"1\"{}", &shortened[..last], &shortened[last + 5..]);
    folder.write("fixtures/differs.json", &differing);
    assert_eq!(folder.accept().accepted.len(), 1);
    let accepted = folder.read("fixtures/differs.json");
    assert_has(&accepted, &["\"reason\": \"id\""]);
    assert!(folder.check().is_ok());
}

#[test]
fn rows_on_which_the_filter_fails_are_not_accepted_unless_that_was_expected() {
    let body = r#"{"items": [{"id": 1, "text": "A"}, {"id": 2, "text": 5}]}"#;
    let text = fixture(body, r#"{"records": []}"#);
    let folder = folder(&[("fails.json", &text)]);
    folder.write(
        "comments.jq",
        r#"include "snapfleet"; .items | rows({kind: "comment", id, content_id: "w", direction: "inbound", text: (.text | ascii_downcase)})"#,
    );
    let report = folder.accept();
    assert!(!report.is_ok() && report.accepted.is_empty(), "{report}");
    // With the filter's own words: what it shows is for whoever checks it.
    assert_has(
        &report.to_string(),
        &["not accepted: 1 rows", "the first of them row 1", "cannot use 5 as string"],
    );
    assert_eq!(folder.read("fixtures/fails.json"), text, "it was touched");
    let meant = r#"{"records": [], "refused": [{"row": 1, "reason": "the filter fails on this element"}]}"#;
    folder.write("fixtures/fails.json", fixture(body, meant));
    let report = folder.accept();
    assert!(report.is_ok(), "{report}");
    assert_has(&report.to_string(), &["fails.json: 0 -> 1 records\n"]);
    assert!(folder.check().is_ok());
}

#[test]
fn a_fixture_without_expected_gets_one() {
    let text =
        fixture(r#"{"items": [{"id": 7123456789012345678}]}"#, "").replace(", \"expected\": }", "\n}\n");
    let folder = folder(&[("new.json", &text)]);
    let report = folder.check();
    assert!(!report.is_ok());
    assert_has(
        &report.to_string(),
        &["it expects nothing yet", "--accept", "comment 7123456789012345678: not expected"],
    );
    assert!(folder.accept().is_ok());
    let accepted = folder.read("fixtures/new.json");
    assert!(accepted.starts_with(text.trim_end_matches(['\n', '}'])), "{accepted}");
    assert!(folder.check().is_ok(), "{accepted}");
}

#[test]
fn an_expected_that_is_null_is_written_where_it_stands() {
    let text = fixture(r#"{"items": [{"id": 7123456789012345678}]}"#, "null");
    let folder = folder(&[("null.json", &text)]);
    assert_has(&folder.check().to_string(), &["it expects nothing yet"]);
    assert!(folder.accept().is_ok());
    let accepted = folder.read("fixtures/null.json");
    assert_eq!(accepted.matches("\"expected\"").count(), 1, "{accepted}");
    assert!(folder.check().is_ok(), "{accepted}");
}

#[test]
fn an_error_is_accepted_only_where_one_was_expected() {
    let broken = r#"{"items": [{"id": 1}, 5]}"#;
    let folder = folder(&[
        ("a.json", &fixture(broken, r#"{"records": []}"#)),
        ("b.json", &fixture(broken, r#"{"records": [], "error": "cannot index a number"}"#)),
        ("c.json", &fixture(broken, r#"{"records": [], "error": "something else"}"#)),
    ]);
    let before = folder.read("fixtures/a.json");
    let report = folder.accept();
    assert_eq!(report.accepted.len(), 2, "{report}");
    assert_eq!(report.failures.len(), 1);
    assert_has(
        &report.to_string(),
        &["not accepted, for the run ended in an error: filter failed: cannot index"],
    );
    assert_eq!(folder.read("fixtures/a.json"), before);
    assert_has(&folder.read("fixtures/b.json"), &["\"error\": \"cannot index a number\""]);
    assert_has(&folder.read("fixtures/c.json"), &["\"error\": \"filter failed: cannot index a number"]);
}

#[test]
fn a_body_may_lie_in_a_file_of_its_own() {
    let with = |file: &str| {
        fixture("0", r#"{"records": [], "error": "HTML"}"#)
            .replace("\"body\": 0", &format!("\"body_file\": {file:?}"))
    };
    let folder = folder(&[("page.json", &with("page.body.html")), ("page.body.html", "<html>")]);
    let report = folder.check();
    assert!(report.is_ok() && report.fixtures == 1, "{report}");
    assert!(!report.to_string().contains("page.body.html"), "{report}");
    // One that is named like JSON is no fixture either.
    folder.write("fixtures/other.body.json", "{}");
    assert_has(&folder.check().to_string(), &["other.body.json is no .json file and no fixture's body_file"]);
    let outside = folder.write("secret.body.txt", "x");
    std::os::unix::fs::symlink(&outside, folder.path.join("fixtures/link.body.txt")).unwrap();
    for (file, expected) in [
        ("../secret.body.txt", "must be a file beside the fixture"),
        (outside.to_str().unwrap(), "must be a file beside the fixture"),
        ("page.html", "must be a file beside the fixture"),
        ("link.body.txt", "leads out of the folder"),
        ("none.body.txt", "cannot be read: No such file"),
    ] {
        folder.write("fixtures/page.json", with(file));
        let error = check(&folder.path).unwrap_err().to_string();
        assert_has(&error, &["page.json:1: body_file", expected]);
    }
    folder
        .write("fixtures/page.json", with("page.body.html").replace("\"now_ms\"", "\"body\": 1, \"now_ms\""));
    assert_has(&check(&folder.path).unwrap_err().to_string(), &["body and body_file are both given"]);
    folder.write("fixtures/page.json", "{\"rule\": \"comments\", \"request\": {\"url\": \"x\"}, \"account\": {\"id\": \"good.a\"}, \"now_ms\": 1}");
    assert_has(&check(&folder.path).unwrap_err().to_string(), &["missing field `body`, or `body_file`"]);
    folder.write("fixtures/page.json", fixture("1", "{\n\n\"record\": []}"));
    assert_has(&check(&folder.path).unwrap_err().to_string(), &["page.json:4: unknown field `record`"]);
}

#[test]
fn what_is_probably_a_mistake_is_warned_about() {
    let folder = folder(&[(
        "far.json",
        &fixture("{\"items\": []}", r#"{"records": []}"#).replace("/api/comments", "/api/other"),
    )]);
    folder.write("used.jq", "def f: .;");
    folder.write("comments.jq", format!("include \"used\";\n{COMMENTS}"));
    folder.write("unused.jq", ".");
    folder.write("unused.js", "() => 1");
    folder.write("platform.toml", format!("{MANIFEST}\n[[capture]]\nname = \"again\"\nsource = \"websocket\"\npath = \"**/push\"\nfilter = \"frames.jq\"\n"));
    let warnings = folder.check().warnings.join("\n");
    assert_has(
        &warnings,
        &[
            "capture again has no fixture",
            "capture again is the same as frames",
            "far.json: capture comments would not take it, for its path",
            "unused.jq is used by no capture",
            "unused.js is used by no capture",
        ],
    );
    assert!(!warnings.contains(" used.jq") && !warnings.contains("comments.jq is"), "{warnings}");
}

#[test]
fn addresses_that_are_not_absolute_are_warned_about() {
    let folder = folder(&[("f.json", &fixture(r#"{"items": [{"id": 1}, {"id": 2}]}"#, "null"))]);
    let filter = |avatar: &str| {
        format!(
            r#"include "snapfleet"; .items[] | {{kind: "comment", id, content_id: 1, direction: "inbound", author_avatar_url: ({avatar})}}"#
        )
    };
    folder.write("comments.jq", filter(r#""/pictures/\(.id)""#));
    let warnings = folder.check().warnings.join("\n");
    assert_has(&warnings, &["2 addresses are not absolute, such as /pictures/1; absolute($request.url)"]);
    folder.write("comments.jq", filter(r#""/pictures/\(.id)" | absolute($request.url)"#));
    assert!(!folder.check().to_string().contains("not absolute"));
    assert!(folder.accept().is_ok());
    assert_has(&folder.read("fixtures/f.json"), &["\"http://h/pictures/2\""]);
}

#[test]
fn the_exit_code_and_the_json_tell_programs() {
    let folder = folder(&[("differs.json", DIFFERS)]);
    let dir = folder.path.to_str().unwrap();
    let output = worker(&[dir, "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let difference = &report["failures"][0]["differences"][1];
    assert_eq!(difference["place"], "comment 1");
    assert_eq!(
        (&difference["field"], &difference["expected"], &difference["got"]),
        (&"like_count".into(), &3.into(), &Value::Null)
    );
    let output = worker(&[dir, "--accept"]);
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    assert_eq!(worker(&[dir]).status.code(), Some(0));
    folder.write("comments.jq", ".items[] |");
    let output = worker(&[dir]);
    assert_eq!(output.status.code(), Some(64));
    assert_has(&String::from_utf8(output.stderr).unwrap(), &["comments.jq:1:"]);
    assert_eq!(worker(&[dir, "--har", "none.har"]).status.code(), Some(64));
}
