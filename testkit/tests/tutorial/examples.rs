//! The filters that the reference shows give what is said of them.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use snapfleet_testkit::process::binary;

use super::document::{ENGLISH, blocks, spans, text};

const MANIFEST: &str = "schema = 1\nname = \"forum\"\n\n[[page]]\nname = \"topic\"\n\
                        url = \"https://forum.example/t/77\"\n\n[[capture]]\nname = \"posts\"\n\
                        source = \"response\"\npath = \"/t/*/posts\"\nfilter = \"posts.jq\"\n";

/// What a check says where the filter must make these records of the body.
fn checked(folder: &Path, filter: &str, body: &Value, records: &Value) -> Result<(), String> {
    let platform = folder.join("forum");
    std::fs::create_dir_all(platform.join("fixtures")).unwrap();
    std::fs::write(platform.join("platform.toml"), MANIFEST).unwrap();
    std::fs::write(platform.join("posts.jq"), filter).unwrap();
    let fixture = json!({
        "rule": "posts",
        "request": { "url": "https://forum.example/t/77/posts?page=2" },
        "account": { "id": "forum.ann", "settings": {} },
        "now_ms": 1_747_473_144_000_i64,
        "body": body,
        "expected": { "records": records },
    });
    std::fs::write(platform.join("fixtures/posts.json"), fixture.to_string()).unwrap();
    let ran = Command::new(binary("snapfleet-worker"))
        .args(["platform", "check", "forum"])
        .current_dir(folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
    if ran.status.success() { Ok(()) } else { Err(said) }
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("lib")).unwrap();
    std::fs::write(folder.path().join("lib/snapfleet.jq"), text("platforms/lib/snapfleet.jq")).unwrap();
    folder
}

#[test]
fn posts_of_a_flat_forum_stand_below_those_that_they_answer() {
    let all = blocks(&text(ENGLISH));
    let filters: Vec<_> = all.iter().filter(|(language, _)| language == "jq").collect();
    let [(_, filter)] = filters.as_slice() else { panic!("filters that are not tried: {filters:?}") };
    let post = |number: u64, answered: Option<u64>, yours: bool| {
        json!({ "post_number": number, "reply_to_post_number": answered, "yours": yours, "username": "ann",
                "html": "<p>a &amp; b</p>", "created_at": "2025-05-16T17:42:03Z" })
    };
    let body =
        json!({ "posts": [post(21, Some(4), false), post(22, Some(21), true), post(23, None, false)] });
    let record = |id: &str, parent: Option<&str>, direction: &str| {
        let mut record = json!({ "kind": "comment", "id": id, "content_id": "77", "direction": direction,
            "author_name": "ann", "text": "a & b", "created_at": 1_747_417_323_000_i64 });
        if let Some(parent) = parent {
            record["parent_id"] = parent.into();
        }
        record
    };
    let records = json!([
        record("77-21", Some("77-4"), "inbound"),
        record("77-22", Some("77-21"), "outbound"),
        record("77-23", None, "inbound"),
    ]);
    let folder = folder();
    checked(folder.path(), filter, &body, &records).unwrap();
    let other = json!([record("77-21", None, "inbound")]);
    assert!(checked(folder.path(), filter, &body, &other).is_err());
}

#[test]
fn codes_and_addresses_are_mapped_as_the_reference_says() {
    let spans = spans(&text(ENGLISH));
    let span = |part: &str| spans.iter().find(|span| span.contains(part)).unwrap();
    let (codes, address) = (span("// \"code "), span("| absolute("));
    let folder = folder();
    let body = json!({ "list": [{ "id": 1, "code": 5 }, { "id": 2, "code": 9 }] });
    let records = json!([
        { "kind": "notification", "id": "1", "notification_type": "follow" },
        { "kind": "notification", "id": "2", "notification_type": "code 9" },
    ]);
    let filter = format!(
        "include \"snapfleet\"; .list | rows({{kind: \"notification\", id, notification_type: {codes}}})"
    );
    checked(folder.path(), &filter, &body, &records).unwrap();

    let body = json!({ "list": [{ "id": 1, "link": "/a/b" }, { "id": 2, "link": "https://x.example/c" }] });
    let records = json!([
        { "kind": "content", "id": "1", "url": "https://forum.example/a/b" },
        { "kind": "content", "id": "2", "url": "https://x.example/c" },
    ]);
    let filter = format!("include \"snapfleet\"; .list | rows({{kind: \"content\", id, url: ({address})}})");
    checked(folder.path(), &filter, &body, &records).unwrap();
}
