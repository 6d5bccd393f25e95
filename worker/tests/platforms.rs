//! Platforms as data: every folder in `platforms/` maps its fixtures as they say, and what is wrong with a folder,
//! a setting, a fixture or a body is told with its place.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "platforms/library.rs"]
mod library;
#[path = "platforms/manifest.rs"]
mod manifest;
#[path = "platforms/schema.rs"]
mod schema;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use snapfleet_protocol::{AccountId, Record, UnixMs};
use snapfleet_worker::platform::{
    AccountView, CaptureSource, FillSpec, Limits, LoginSpec, Mapped, Platform, PlatformError, Request,
    Settings, check,
};

/// 2026-10-01T00:00:00Z.
const NOW: UnixMs = UnixMs(1_790_812_800_000);

const GOOD: &str = include_str!("fixtures/good.toml");
const COMMENTS: &str = include_str!("fixtures/comments.jq");
const FRAMES: &str = "{kind: \"direct_message\", id, conversation_id: .c, direction: \"inbound\"}";

struct Folder {
    _parent: tempfile::TempDir,
    path: PathBuf,
}

/// A platform's folder named `good`.
fn folder(manifest: &str, files: &[(&str, &str)]) -> Folder {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("good");
    std::fs::create_dir_all(path.join("fixtures")).unwrap();
    std::fs::write(path.join("platform.toml"), manifest).unwrap();
    for (name, text) in [("comments.jq", COMMENTS), ("frames.jq", FRAMES)].iter().chain(files) {
        std::fs::write(path.join(name), text).unwrap();
    }
    Folder { _parent: parent, path }
}

fn good() -> Platform {
    Platform::load(&folder(GOOD, &[]).path).unwrap()
}

fn settings(pairs: &[(&str, &str)]) -> Settings {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn full() -> Settings {
    settings(&[("base_url", "http://127.0.0.1:1/x"), ("username", "ann"), ("password", "hunter2")])
}

fn map(platform: &Platform, body: &str) -> Mapped {
    let request = Request::of("https://h/api/comments?work=9007199254740993&work=2");
    let account = AccountView { id: AccountId::parse("good.a").unwrap(), settings: full() };
    platform.map(0, &request, &account, body.as_bytes(), NOW)
}

#[test]
fn every_platform_maps_its_fixtures_as_they_say() {
    let platforms = Path::new(env!("CARGO_MANIFEST_DIR")).join("../platforms");
    let mut checked = Vec::new();
    for entry in std::fs::read_dir(platforms).unwrap() {
        let dir = entry.unwrap().path();
        if dir.join("platform.toml").is_file() {
            let report = check(&dir).unwrap_or_else(|error| panic!("{error}"));
            assert!(report.is_ok() && report.fixtures > 0, "{report}");
            assert_eq!(report.warnings, Vec::<String>::new());
            checked.push(report.platform);
        }
    }
    for expected in ["demo", "isso"] {
        assert!(checked.iter().any(|name| name == expected), "{expected} is not in {checked:?}");
    }
}

#[test]
fn pages_and_login_are_filled_in_for_an_account() {
    let platform = good();
    let pages = platform.pages(&full()).unwrap();
    assert_eq!(pages.len(), 2);
    assert_eq!(pages[0].url.as_str(), "http://127.0.0.1:1/x/creator/inbox?q={ann}".replace(['{', '}'], ""));
    assert_eq!(pages[0].refresh, Some(Duration::from_secs(30)));
    let scroll = pages[0].scroll.as_ref().unwrap();
    assert_eq!((scroll.steps_max, scroll.pause), (5, Duration::from_millis(100)));
    assert_eq!((pages[1].refresh, &pages[1].scroll), (None, &None));
    let login: LoginSpec = platform.login(&full()).unwrap().unwrap();
    let user = FillSpec { selector: "#user".into(), value: "ann".into() };
    let password = FillSpec { selector: "#password".into(), value: "hunter2".into() };
    assert_eq!(login.fill, [user, password]);
    let [first, second] = platform.captures() else { panic!("not two rules") };
    assert_eq!((first.source, first.status.as_slice()), (CaptureSource::Response, &[200, 203][..]));
    assert_eq!((second.source, second.path.as_str()), (CaptureSource::Websocket, "**/push"));
}

#[test]
fn a_setting_that_is_missing_or_unknown_is_named() {
    let platform = good();
    for (change, expected) in [
        (("username", ""), "platform good: setting username is missing"),
        (("pasword", "x"), "platform good: setting pasword is not known: is it password?"),
        (("something_else", "x"), "setting something_else is not known: it has base_url, "),
        (("base_url", "127.0.0.1"), "page inbox: \"127.0.0.1/creator/inbox?q=ann\" is no address"),
        (("base_url", "file:///etc"), "is neither http nor https"),
    ] {
        let mut settings = full();
        settings.insert(change.0.into(), change.1.into());
        let error = platform.pages(&settings).unwrap_err().to_string();
        assert!(error.contains(expected), "{change:?}: {error}");
    }
    let error = platform.pages(&settings(&[("base_url", "http://h")])).unwrap_err().to_string();
    assert!(error.contains("setting password is missing"), "{error}");
}

#[test]
fn secrets_are_in_no_debug_output_and_no_filter() {
    let platform = good();
    let account = AccountView { id: AccountId::parse("good.a").unwrap(), settings: full() };
    let login = platform.login(&full()).unwrap();
    let pages = platform.pages(&full()).unwrap();
    let shown = format!("{platform:?} {account:?} {login:?} {pages:?}");
    assert!(shown.contains("#password") && !shown.contains("hunter2"), "{shown}");
    let folder = folder(GOOD, &[("comments.jq", "error($account | tojson)")]);
    let mapped = map(&Platform::load(&folder.path).unwrap(), "{}");
    let error = mapped.error.unwrap();
    assert!(error.contains("ann") && error.contains("good.a") && !error.contains("hunter2"), "{error}");
}

#[test]
fn a_folder_without_manifest_and_a_filter_that_is_missing_or_broken_are_named() {
    let empty = tempfile::tempdir().unwrap();
    let error = Platform::load(empty.path()).unwrap_err();
    assert!(error.to_string().contains("platform.toml cannot be read: "), "{error}");
    let error = Platform::load(&empty.path().join("nowhere")).unwrap_err();
    assert!(error.to_string().contains("nowhere cannot be read: "), "{error}");
    let folder = folder(GOOD, &[("comments.jq", "# comments\n.items[] |\n  {id, kind: comment}")]);
    match Platform::load(&folder.path).unwrap_err() {
        PlatformError::Filter { path, line: 3, column: 14, message } => {
            assert!(
                path.ends_with("good/comments.jq")
                    && message
                        .starts_with("function comment/0 is not defined: if it is one that platforms share"),
                "{message}"
            );
        }
        other => panic!("{other}"),
    }
    std::fs::remove_file(folder.path.join("comments.jq")).unwrap();
    let error = Platform::load(&folder.path).unwrap_err();
    assert!(error.to_string().contains("comments.jq:1:1: file cannot be read"), "{error}");
}

#[test]
fn a_bad_row_is_refused_and_the_rest_goes_on() {
    let platform = good();
    let mapped = map(
        &platform,
        r#"{"items": [
            {"id": 7123456789012345678, "at": 1790000000, "text": "one"},
            {"id": null, "at": 1790000000, "text": "two"},
            {"id": "3", "at": "soon", "text": 5},
            {"id": "4", "at": "soon", "text": "four"}]}"#,
    );
    let [Record::Comment(first), Record::Comment(fourth)] = mapped.records.as_slice() else {
        panic!("{mapped:?}")
    };
    assert_eq!(first.id.as_str(), "7123456789012345678");
    // Of a key that is there twice the last counts; it was a string in the address, and stays one.
    assert_eq!(first.content_id.as_str(), "2");
    assert_eq!(first.created_at, Some(UnixMs(1_790_000_000_000)));
    assert_eq!((fourth.id.as_str(), fourth.created_at), ("4", None));
    let refused: Vec<_> =
        mapped.refused.iter().map(|refused| (refused.row, refused.reason.as_str())).collect();
    assert_eq!(refused, [(1, "id is missing"), (2, "text must be a string, not a number")]);
    assert_eq!((mapped.unknown_times, mapped.error), (1, None));
}

#[test]
fn what_came_before_an_error_counts() {
    let platform = good();
    let mapped = map(&platform, r#"{"items": [{"id": 1, "at": null, "text": null}, "what somebody wrote"]}"#);
    assert_eq!(mapped.records.len(), 1);
    assert_eq!(mapped.error.as_deref(), Some("filter failed: cannot index a string with \"id\""));
    for (body, expected) in [
        ("<html></html>", "body is HTML or XML, not JSON"),
        ("", "body is empty"),
        ("nope", "body is not JSON"),
    ] {
        let mapped = map(&platform, body);
        assert!(mapped.records.is_empty() && mapped.error.unwrap().starts_with(expected), "{body}");
    }
    let request = Request::of(String::new());
    let account = AccountView { id: AccountId::parse("good.a").unwrap(), settings: BTreeMap::new() };
    let mapped = platform.map(2, &request, &account, b"{}", NOW);
    assert_eq!(mapped.error.as_deref(), Some("platform good has no rule number 2"));
}

#[test]
fn a_filter_that_does_not_end_ends_and_the_next_body_is_mapped() {
    let folder = folder(GOOD, &[("comments.jq", "if .wait then 0 | until(false; . + 1) else empty end")]);
    let limits = Limits { run_time: Duration::from_millis(100), steps: u64::MAX, ..Limits::default() };
    let platform = Platform::load(&folder.path).unwrap().with_limits(limits);
    assert!(map(&platform, r#"{"wait": true}"#).error.unwrap().contains("ran out of time"));
    assert_eq!(map(&platform, r#"{"wait": false}"#), Mapped::default());
}

#[test]
fn a_bad_fixture_is_named() {
    for (fixture, expected) in [
        ("{", "bad.json:1: EOF"),
        ("{\"rule\": \"comments\",\n \"rules\": 1}", "bad.json:2: unknown field `rules`"),
        (&include_str!("fixtures/differs.json").replace("good.a", "good"), "account \"good\" is not valid"),
    ] {
        let folder = folder(GOOD, &[("fixtures/bad.json", fixture)]);
        let error = check(&folder.path).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let other = include_str!("fixtures/differs.json").replace("good.a", "demo.a");
    let folder = folder(GOOD, &[("fixtures/other.json", &other)]);
    let text = check(&folder.path).unwrap().to_string();
    assert!(text.contains("account demo.a is of another platform than good"), "{text}");
    let other = include_str!("fixtures/differs.json").replace("\"comments\"", "\"comment\"");
    std::fs::write(folder.path.join("fixtures/other.json"), other).unwrap();
    let text = check(&folder.path).unwrap().to_string();
    assert!(text.contains("rule \"comment\" is not in platform.toml, which has comments, frames"), "{text}");
}

#[test]
fn a_body_that_is_no_json_is_a_fixture_too() {
    let fixture = r#"{"rule": "comments", "request": {"url": "http://h/api/comments"}, "now_ms": 1790000000000,
        "account": {"id": "good.a"}, "body": {"text": "<html>"}, "expected": {"records": [], "error": "HTML"}}"#;
    let folder = folder(GOOD, &[("fixtures/html.json", fixture)]);
    let report = check(&folder.path).unwrap();
    assert!(report.is_ok(), "{report}");
}
