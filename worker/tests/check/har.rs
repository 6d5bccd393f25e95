//! What `platform check --har` makes of a HAR file.

use super::*;

const STATE: &str = "\n[[capture]]\nname = \"state\"\nsource = \"page_state\"\nscript = \"state.js\"\nfilter = \"comments.jq\"\n\
    [[capture]]\nname = \"events\"\nsource = \"event_source\"\npath = \"/events\"\nfilter = \"frames.jq\"\n\
    [[capture]]\nname = \"posted\"\nsource = \"response\"\npath = \"/api/comments\"\nmethod = [\"POST\"]\nfilter = \"comments.jq\"\n\
    [[capture]]\nname = \"elsewhere\"\nsource = \"response\"\npath = \"/api/comments\"\nhost = \"*.other.example\"\nfilter = \"comments.jq\"\n\
    [[capture]]\nname = \"nowhere\"\nsource = \"response\"\npath = \"/none\"\nfilter = \"comments.jq\"\n";

fn entry(kind: &str, url: &str, status: u16, mime_type: &str, text: &str, more: &str) -> String {
    let text = serde_json::to_string(text).unwrap();
    format!(
        r#"{{"_resourceType": "{kind}", {more} "request": {{"method": "GET", "url": "{url}"}}, "response": {{"status": {status},
        "headers": [], "content": {{"mimeType": "{mime_type}", "size": 10, "text": {text}}}}}}}"#
    )
}

fn fetched(url: &str, text: &str) -> String {
    entry("fetch", url, 200, "application/json", text, "")
}

fn visit() -> String {
    let frames = r#""_webSocketMessages": [{"type": "receive", "opcode": 1, "data": "{\"id\": 1, \"c\": 2}"},
        {"type": "receive", "opcode": 1, "data": "{\"id\": null, \"c\": 2}"}, {"type": "receive", "opcode": 1, "data": "nope"}],"#;
    let entries = [
        fetched(
            "https://h/api/comments?work=w&token=hunter2",
            r#"{"items": [{"id": 1}, {"id": null}, {"id": null}, {"id": 2}]}"#,
        ),
        entry(
            "fetch",
            "https://h/api/comments?work=w",
            304,
            "application/json",
            r#"{"items": [{"id": 3}]}"#,
            "",
        ),
        entry("fetch", "https://h/api/comments/", 403, "application/json", "{}", ""),
        fetched("https://h/api/comments", "<html>logged out</html>"),
        entry("websocket", "wss://h/a/b/push", 101, "x-unknown", "", frames),
        entry(
            "eventsource",
            "https://h/events",
            200,
            "text/event-stream",
            "data: {\"id\": 5, \"c\": 1}\n\n",
            "",
        ),
        entry(
            "fetch",
            "https://h/inbox?work=w",
            200,
            "application/json",
            r#"{"items": [{"id": 9}]}"#,
            r#""_pageState": {"rule": "state", "page": "inbox"},"#,
        ),
        entry("image", "https://h/a.png", 200, "image/png", "x", ""),
        entry("script", "https://h/app.js", 200, "text/javascript", "x", ""),
        fetched("https://h/api/user/1234567/likes?key=hunter2", "{}"),
        fetched("https://h/api/user/7654321/likes", "{}"),
        entry("fetch", "https://h/ping", 200, "text/plain", "ok", ""),
        entry("preflight", "https://h/api/comments", 200, "application/json", "{}", ""),
    ];
    format!(r#"{{"log": {{"entries": [{}]}}}}"#, entries.join(",\n"))
}

fn platform() -> Folder {
    let folder = folder(&[]);
    folder.write("state.js", "() => window.store");
    folder.write("platform.toml", format!("{MANIFEST}{STATE}"));
    folder
}

fn run(folder: &Folder, har: &str, more: &[&str]) -> (Option<i32>, String, String) {
    let har = folder.write("visit.har", har);
    let output = worker(&[&[folder.path.to_str().unwrap(), "--har", har.to_str().unwrap()], more].concat());
    (output.status.code(), stdout(&output), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn the_table_tells_what_each_rule_made_of_it_and_what_nobody_took() {
    let (code, table, _) = run(&platform(), &visit(), &["--setting", "username=ann"]);
    assert_eq!(code, Some(1));
    let lines: Vec<_> =
        table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for expected in [
        "h/api/comments comments 200 61 B 2 comment",
        "refused 2: id is missing",
        "h/api/comments comments 304 22 B 1 comment",
        "h/api/comments comments 200 23 B -",
        "not read 1: body is HTML or XML, not JSON",
        "h/a/b/push frames 101 41 B 1 direct_message, 3 pushed",
        "refused 1: id is missing",
        "h/events events 200 17 B 1 direct_message",
        "h/inbox state 200 22 B 1 comment",
        "2 JSON GET h/api/user/*/likes",
        "1 JSON GET h/api/comments (comments: its status is 403)",
        "1 GET h/ping",
        "2 pictures, fonts, styles and scripts",
        "comments took 3 bodies, gave 3 records, 2 refused, 1 not read",
        "posted took nothing: the path of a request matched, but its method is GET, at h/api/comments",
        "elsewhere took nothing: the path of a request matched, but its host is another, at h/api/comments",
        "nowhere took nothing: no request's path matches /none",
        "warning: setting base_url is not given: filters see null; give it with --setting base_url=VALUE",
    ] {
        assert!(lines.iter().any(|line| line == expected), "{expected:?} is not in\n{table}");
    }
    assert_has(&table, &["8 bodies taken: 4 comment, 2 direct_message; 3 rows refused, 2 bodies not read"]);
    // The rule that asks for 2xx of /api/comments took neither the 403 nor what the browser asks beforehand.
    assert!(!table.contains("hunter2") && !table.contains("password"), "{table}");
}

#[test]
fn the_filters_are_told_the_account() {
    let folder = platform();
    folder.write("comments.jq", "{kind: \"comment\", id: $account.id, content_id: $account.settings.tag, direction: \"inbound\", text: ($request | \"\\(.method) \\(.status)\")}");
    let har = format!(r#"{{"log": {{"entries": [{}]}}}}"#, fetched("https://h/api/comments", "{}"));
    folder.write("frames.jq", ".");
    let (code, json, _) =
        run(&folder, &har, &["--json", "--account", "shop", "--setting", "tag=t", "--setting", "username=u"]);
    assert_eq!(code, Some(0), "{json}");
    let report: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&report["account"], &report["records"]["comment"]), (&"good.shop".into(), &1.into()));
    assert_eq!(
        (&report["rows"][0]["address"], &report["rows"][0]["rule"]),
        (&"h/api/comments".into(), &"comments".into())
    );
    for (more, expected) in [
        (["--account", "demo.a"], "account demo.a is of another platform than good"),
        (["--account", "a b"], "--account"),
        (["--setting", "usernam=x"], "setting usernam is not known: is it username?"),
        (["--setting", "x"], "write it as NAME=VALUE"),
    ] {
        let (code, _, told) = run(&folder, &har, &more);
        assert_has(&told, &[expected]);
        assert!(matches!(code, Some(64 | 2)), "{code:?}");
    }
}

#[test]
fn filters_that_loop_explode_or_emit_garbage_are_reasons_and_the_run_goes_on() {
    let folder = platform();
    folder.write(
        "comments.jq",
        "if .do == \"loop\" then 0 | until(false; . + 1) elif .do == \"explode\" then range(10000000)
         elif .do == \"garbage\" then {kind: \"garbage\"}, 7 else {kind: \"comment\", id: 1, content_id: 2, direction: \"inbound\"} end",
    );
    let body =
        |what: &str| fetched(&format!("https://h/api/comments?{what}"), &format!(r#"{{"do": "{what}"}}"#));
    let broken = body("gzip")
        .replace("\"headers\": []", r#""headers": [{"name": "content-encoding", "value": "gzip"}]"#);
    let broken = broken.replace(r#""{\"do\": \"gzip\"}""#, r#""H4sIAAAAAAAA", "encoding": "base64""#);
    let huge = fetched("https://h/api/comments", &"x".repeat(33 * 1024 * 1024));
    let binary = fetched("https://h/api/comments", "\u{1}\u{2}");
    let entries =
        [body("loop"), body("explode"), body("garbage"), broken, huge, binary, body("work")].join(",");
    let (code, table, _) = run(&folder, &format!(r#"{{"log": {{"entries": [{entries}]}}}}"#), &[]);
    assert_eq!(code, Some(1));
    assert_has(
        &table,
        &[
            ": does it end? the rest of the body is not read",
            "not read 1: more than 50000 rows from one body",
            "refused 1: kind \"garbage\" is not known",
            "refused 1: row is a number, not an object",
            "not read 1: its gzip is broken",
            "not read 1: body of 34603008 bytes or more is too large",
            "not read 1: body is not JSON",
            "1 comment",
        ],
    );
}

#[test]
fn a_har_that_ends_early_is_mapped_to_its_end_and_told() {
    let visit = visit();
    let cut = &visit[..visit.find("/events").unwrap()];
    let (code, table, _) = run(&platform(), cut, &[]);
    assert_eq!(code, Some(1));
    assert_has(
        &table,
        &[
            "the rest was not read: ",
            "the HAR ends in the middle of entry 6, at byte",
            "2 comment",
            "save it again",
        ],
    );
    let (code, _, told) = run(&platform(), "<html>", &[]);
    assert_eq!(code, Some(64));
    assert_has(&told, &["visit.har is no HAR: it is HTML or XML"]);
}

#[test]
fn bodies_that_the_browser_did_not_save_are_told_with_the_remedy() {
    let without = fetched("https://h/api/comments", "x").replace(", \"text\": \"x\"", "");
    let part = fetched("https://h/api/comments", "{\"items\": [").replace("\"size\": 10", "\"size\": 4000");
    let har = format!(r#"{{"log": {{"entries": [{without}, {part}]}}}}"#);
    let (code, table, _) = run(&platform(), &har, &[]);
    assert_eq!(code, Some(1));
    assert_has(
        &table,
        &[
            "the HAR was saved without this body",
            "Export HAR (with sensitive data)",
            "the HAR holds 11 of its 4000 bytes: in Firefox",
        ],
    );
}

#[test]
fn records_and_refused_rows_are_listed_one_by_one_where_asked() {
    let folder = platform();
    folder.write(
        "comments.jq",
        r#"include "snapfleet"; (.items | rows({kind: "comment", id, content_id: 1, direction: "inbound", text: (.text | ascii_downcase), author_avatar_url: "/a"})),
        {kind: "content", id: "w"}, {kind: "complete_list", of: "comment", content_id: 1, ids: []}"#,
    );
    let body = r#"{"items": [{"id": 1, "text": "A"}, {"id": 2, "text": 5}, {"id": 3, "text": 6}]}"#;
    let har = format!(r#"{{"log": {{"entries": [{}]}}}}"#, fetched("https://h/api/comments", body));
    let listed = |more: &[&str]| {
        let (code, table, _) = run(&folder, &har, &[&["--setting", "username=u"], more].concat());
        assert_eq!(code, Some(1), "{table}");
        table
    };
    let comment = r#"    {"kind":"comment","author_avatar_url":"/a","content_id":"1","direction":"inbound","id":"1","text":"a"}"#;
    let content = r#"    {"kind":"content","id":"w"}"#;
    let complete = r#""kind":"complete_list""#;
    let refused = r#"    {"refused":"the filter fails on this element: cannot use 5 as string","row":1}"#;
    assert_has(&listed(&["--rows"]), &[comment, content, complete, refused]);
    let works = listed(&["--rows", "content"]);
    assert_has(&works, &[content, refused]);
    assert!(!works.contains(comment) && !works.contains(complete), "{works}");
    let plain = listed(&[]);
    assert!(![comment, content, complete, refused].iter().any(|line| plain.contains(line)), "{plain}");
    // What the filter said is told once, of the first row.
    let told = "    refused 2: the filter fails on this element, first row 1: cannot use 5 as string\n";
    assert_has(&plain, &[told, "warning: 1 address is not absolute: /a; absolute($request.url)"]);
    let report: Value = serde_json::from_str(&listed(&["--rows", "comment", "--json"])).unwrap();
    let rows = report["rows"][0]["rows"].as_array().unwrap();
    assert_eq!((rows.len(), &rows[0]["id"], &rows[2]["row"]), (3, &"1".into(), &2.into()), "{report}");
    let (code, _, told) = run(&folder, &har, &["--rows", "comments"]);
    assert_eq!(code, Some(2));
    assert_has(&told, &["content, comment, conversation, direct_message, notification"]);
}

#[test]
fn times_are_bounded_by_when_the_har_was_recorded() {
    let folder = platform();
    folder.write(
        "comments.jq",
        r#"{kind: "comment", id: 1, content_id: 1, direction: "inbound", created_at: .at}"#,
    );
    let body = r#"{"at": "2024-05-20T00:00:00Z"}"#;
    for (asked, unknown) in [("2024-05-19T12:00:00Z", 0), ("2024-05-17T12:00:00Z", 1)] {
        let asked = format!(r#""startedDateTime": "{asked}","#);
        let entry = entry("fetch", "https://h/api/comments", 200, "application/json", body, &asked);
        let har = format!(r#"{{"log": {{"entries": [{entry}]}}}}"#);
        let (_, json, _) = run(&folder, &har, &["--json", "--setting", "username=u"]);
        let report: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(report["rows"][0]["unknown_times"], unknown, "{asked}");
    }
}
