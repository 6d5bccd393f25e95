//! The common mistakes of the reference, made: what is told is what stands in its table.

use std::path::Path;
use std::process::Command;

use snapfleet_testkit::process::binary;

use super::document::{ENGLISH, spans, text};

const MANIFEST: &str = "schema = 1\nname = \"corner\"\n\n[[page]]\nname = \"desk\"\nurl = \"https://corner.example/\"\n\n\
                        [[capture]]\nname = \"list\"\nsource = \"response\"\npath = \"/list\"\nmethod = [\"GET\"]\n\
                        filter = \"list.jq\"\n";
const FILTER: &str = "include \"snapfleet\";\n.list | rows({ kind: \"comment\", id, content_id: 1, direction: \"inbound\", \
                      text, created_at: .at })\n";
const NOTICE: &str = "kind: \"notification\", id, notification_type: .id";
const BODY: &str = r#"{"list":[{"id":1,"text":"x","at":1747473131}]}"#;

/// What is said about a folder over a HAR of one answer.
fn said(folder: &Path, manifest: &str, filter: &str, body: Option<&str>) -> String {
    let platform = folder.join("corner");
    std::fs::create_dir_all(&platform).unwrap();
    std::fs::write(platform.join("platform.toml"), manifest).unwrap();
    std::fs::write(platform.join("list.jq"), filter).unwrap();
    let mut content = serde_json::json!({ "size": 40, "mimeType": "application/json" });
    if let Some(body) = body {
        content["text"] = body.into();
    }
    let har = serde_json::json!({ "log": { "version": "1.2", "creator": { "name": "test", "version": "1" }, "entries": [{
        "_resourceType": "fetch", "startedDateTime": "2025-05-17T09:12:03.418Z", "time": 1,
        "request": { "method": "GET", "url": "https://corner.example/list", "headers": [], "queryString": [] },
        "response": { "status": 200, "headers": [], "content": content },
    }] } });
    std::fs::write(folder.join("test.har"), har.to_string()).unwrap();
    let ran = Command::new(binary("snapfleet-worker"))
        .args(["platform", "check", "corner", "--har", "test.har"])
        .current_dir(folder)
        .output()
        .unwrap();
    String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr)
}

#[test]
fn each_common_mistake_is_told_as_the_table_says() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("lib")).unwrap();
    let library = "platforms/lib/snapfleet.jq";
    std::fs::write(folder.path().join("lib/snapfleet.jq"), text(library)).unwrap();
    let well = said(folder.path(), MANIFEST, FILTER, Some(BODY));
    assert!(well.contains("1 comment; 0 rows refused, 0 bodies not read"), "{well}");

    let manifest =
        |from: &str, to: &str| (MANIFEST.replace(from, to), FILTER.to_owned(), Some(BODY.to_owned()));
    let filter =
        |from: &str, to: &str| (MANIFEST.to_owned(), FILTER.replace(from, to), Some(BODY.to_owned()));
    let body = |from: &str, to: &str| (MANIFEST.to_owned(), FILTER.to_owned(), Some(BODY.replace(from, to)));
    let required = "name = \"corner\"\n[settings]\nrequired = [\"shop\"]";
    let made = [
        (manifest("url =", "urll ="), "is not known: is it"),
        (manifest("example/\"", "example/{shop}\""), "is not declared: name it in settings.required"),
        (
            manifest("path = \"/list\"", "path = \"/{shop}\""),
            "settings are not filled in here: write * in place of {shop}",
        ),
        (manifest("\"response\"", "\"websocket\""), "is for source = \"response\" alone"),
        (filter("include \"snapfleet\";", ""), "function rows/1 is not defined"),
        (
            filter("include \"snapfleet\"", "import \"snapfleet\" as s"),
            "import is not supported: write include",
        ),
        (manifest("\"/list\"", "\"/lists\""), "took nothing: no request's path matches"),
        (manifest("[\"GET\"]", "[\"POST\"]"), "the path of a request matched, but its method is"),
        (body("\"id\":1", "\"id\":null"), "id is missing"),
        (filter("\"inbound\"", "(.own | direction)"), "direction is missing: use inbound or outbound"),
        (filter("text, created_at", "txt: .text, created_at"), "has no field \"txt\" (is it text?)"),
        (
            filter("text, created_at", "like_count: .text, created_at"),
            "like_count must be a whole number, not a string",
        ),
        (
            filter(
                "kind: \"comment\", id, content_id: 1, direction: \"inbound\", text, created_at: .at",
                NOTICE,
            ),
            "notification_type must be a string, not a number",
        ),
        (
            filter(".list |", ".list | map(select(\"ab\" | test(\"a(?=b)\"))) |"),
            "look-around is not supported",
        ),
        (body("[{", "[7, {"), "the filter fails on this element"),
        (body("{\"list\":", "{\"list\":7,\"x\":"), "filter failed: cannot"),
        (filter(".list |", "def again: again; again |"), "filter took too many steps: does it end?"),
        (body("1747473131", "\"yesterday\""), "times unknown"),
        ((MANIFEST.to_owned(), FILTER.to_owned(), None), "the HAR was saved without this body"),
        (manifest("name = \"corner\"", required), "is not given: filters see null"),
    ];
    let told = spans(&text(ENGLISH));
    for ((manifest, filter, body), message) in &made {
        let said = said(folder.path(), manifest, filter, body.as_deref());
        assert!(said.contains(message), "no {message:?} in: {said}");
        assert!(told.iter().any(|span| span.starts_with(message)), "{message:?} is not in the table");
    }
}
