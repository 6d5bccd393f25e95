//! `platforms/lib/snapfleet.jq`, definition by definition; and where modules are looked for.

use super::*;

const MODULE: &str = include_str!("../../../platforms/lib/snapfleet.jq");

/// A folder of platforms with the shared module and the platform `good`, whose filter is given.
fn shelf(filter: &str, module: &str) -> Folder {
    let folder = folder(GOOD, &[("comments.jq", filter)]);
    let library = folder.path.parent().unwrap().join("lib");
    std::fs::create_dir(&library).unwrap();
    std::fs::write(library.join("snapfleet.jq"), module).unwrap();
    folder
}

/// What an expression makes of a JSON value, as JSON.
fn value_of(expression: &str, input: &str) -> String {
    let row = r#"{kind: "comment", id: 1, content_id: 1, direction: "inbound", text: tojson}"#;
    let filter = format!(r#"include "snapfleet"; {expression} | {row}"#);
    let mapped = map(&Platform::load(&shelf(&filter, MODULE).path).unwrap(), input);
    assert_eq!((&mapped.error, &mapped.refused), (&None, &vec![]), "{expression}: {input}");
    let texts: Vec<_> = mapped
        .records
        .iter()
        .map(|record| match record {
            Record::Comment(comment) => comment.text.clone().unwrap_or_default(),
            other => panic!("{other:?}"),
        })
        .collect();
    texts.join(" ")
}

#[test]
fn each_definition_does_what_it_says() {
    for (expression, input, expected) in [
        ("map(given)", r#"[null, 0, "0", "", 7, "7", false, []]"#, r#"[null,null,null,null,7,"7",false,[]]"#),
        ("first_of(.a, .b, .c)", r#"{"a": "", "b": "x", "c": "y"}"#, r#""x""#),
        ("first_of(.a, .b)", r#"{"a": 0}"#, "null"),
        (
            "map(count)",
            r#"[12, "12", "", null, "many", "12345678901234567890"]"#,
            r#"[12,12,null,null,"many",12345678901234567890]"#,
        ),
        ("picture", r#"{"url_list": ["", "https://p/1", "https://q/1"]}"#, r#""https://p/1""#),
        ("picture", r#"{"urlList": ["https://p/1"]}"#, r#""https://p/1""#),
        (
            "map(picture)",
            r#"["https://p/1", "", null, {}, {"url_list": null}, 5]"#,
            r#"["https://p/1",null,null,null,null,null]"#,
        ),
        ("[rows(.id)]", r#"[{"id": 1}, {"id": 2}]"#, "[1,2]"),
        ("[.none | rows(.id)]", "{}", "[]"),
        ("map(direction)", r#"[true, false, null, 1, "true"]"#, r#"["outbound","inbound",null,null,null]"#),
        (
            "map(direction_of(1; 0))",
            r#"[1, 0, "1", "0", 2, null]"#,
            r#"["outbound","inbound","outbound","inbound",null,null]"#,
        ),
        (r#"map(direction_by("7"))"#, r#"["7", 7, "8", null]"#, r#"["outbound","outbound","inbound",null]"#),
        ("direction_by(null)", r#""7""#, "null"),
    ] {
        assert_eq!(value_of(expression, input), expected, "{expression}: {input}");
    }
}

#[test]
fn a_row_that_cannot_be_read_is_refused_and_quotes_nothing() {
    let row = r#"{kind: "comment", id: .id, content_id: 1, direction: "inbound"}"#;
    let filter = format!(r#"include "snapfleet"; .items | rows({row})"#);
    let platform = Platform::load(&shelf(&filter, MODULE).path).unwrap();
    let mapped = map(&platform, r#"{"items": [{"id": 1}, "what somebody wrote", {"id": 3}]}"#);
    assert_eq!((mapped.records.len(), mapped.error), (2, None));
    let [refused] = mapped.refused.as_slice() else { panic!("{:?}", mapped.refused) };
    assert!(refused.row == 1 && refused.reason == "the filter fails on this element", "{refused:?}");
    assert!(refused.detail.as_ref().is_some_and(|detail| detail.contains("somebody")), "{refused:?}");
}

#[test]
fn the_reason_for_which_a_row_cannot_be_read_is_the_filters_own() {
    let row = r#"{kind: "comment", id: .id, content_id: 1, direction: "inbound", text: (.text | HERE)}"#;
    for (here, text, says) in [
        (r#"error("boom")"#, r#""x""#, "boom"),
        ("tonumber", r#""many""#, "text is not JSON"),
        (r#"gsub("a(?=b)"; "")"#, r#""x""#, "look"),
        ("error", &format!("\"{}\"", "long ".repeat(1000)), "long long"),
        ("error", "null", "null"),
    ] {
        let filter = format!(r#"include "snapfleet"; .items | rows({})"#, row.replace("HERE", here));
        let platform = Platform::load(&shelf(&filter, MODULE).path).unwrap();
        let mapped = map(&platform, &format!(r#"{{"items": [{{"id": 1, "text": {text}}}]}}"#));
        let detail = mapped.refused[0].detail.as_deref().unwrap();
        assert!(detail.contains(says) && detail.chars().count() <= 200, "{here}: {detail:?}");
    }
}

#[test]
fn addresses_are_seen_from_where_they_were_found() {
    for (address, base, expected) in [
        ("https://p/1", "https://h/x/y", r#""https://p/1""#),
        ("data:image/png;base64,x", "https://h/", r#""data:image/png;base64,x""#),
        ("//p/1", "https://h/x/y", r#""https://p/1""#),
        ("/a/b?c#d", "https://h:8443/x/y?q=/z", r#""https://h:8443/a/b?c#d""#),
        ("a/b", "https://h/x/y", r#""https://h/x/a/b""#),
        ("../a/./b", "https://h/x/y/z", r#""https://h/x/a/b""#),
        ("../../../a", "https://h/x/y", r#""https://h/a""#),
        ("a", "https://h", r#""https://h/a""#),
        ("?p=2", "https://h/x/y?p=1", r#""https://h/x/y?p=2""#),
        ("#z", "https://h/x/y?p=1", r#""https://h/x/y?p=1#z""#),
        ("/a", "wss://h/push", r#""https://h/a""#),
        ("/a", "made up", r#""/a""#),
        ("", "https://h/", "null"),
    ] {
        let found = value_of(&format!("absolute({base:?})"), &format!("{address:?}"));
        assert_eq!(found, expected, "{address} from {base}");
        if expected != "null" && base.starts_with("https") {
            let url = url::Url::parse(base).unwrap().join(address).unwrap();
            assert_eq!(found, format!("\"{url}\""), "as a browser sees {address} from {base}");
        }
    }
    assert_eq!(value_of("absolute(\"https://h/\")", "null"), "null");
    assert_eq!(value_of("absolute($request.url)", "\"/a\""), r#""https://h/a""#);
}

#[test]
fn a_pair_of_halves_is_an_exact_integer() {
    const HALF: i128 = 4_294_967_296;
    for (high, low, unsigned, expected) in [
        ("0", "0", "false", 0),
        ("0", "-1", "false", HALF - 1),
        ("1658150", "-580104939", "false", 1_658_150 * HALF + 3_714_862_357),
        ("1658150", "3714862357", "false", 1_658_150 * HALF + 3_714_862_357),
        ("2147483647", "-1", "false", i128::from(i64::MAX)),
        ("-2147483648", "0", "false", i128::from(i64::MIN)),
        ("-1", "-1", "false", -1),
        ("-1", "-1", "true", i128::from(u64::MAX)),
        ("4294967295", "4294967295", "true", i128::from(u64::MAX)),
        ("1658150.0", "5.0", "false", 1_658_150 * HALF + 5),
    ] {
        let pair = format!(r#"{{"low": {low}, "high": {high}, "unsigned": {unsigned}}}"#);
        assert_eq!(value_of("long_pair", &pair), format!("\"{expected}\""), "{pair}");
    }
    let others = r#"[null, 5, "x", {}, {"high": 1}, {"high": "1", "low": 2}, {"high": 1.5, "low": 2},
        {"high": 4294967296, "low": 0}]"#;
    assert_eq!(value_of("map(long_pair)", others), "[null,null,null,null,null,null,null,null]");
}

#[test]
fn html_becomes_the_text_that_a_reader_sees() {
    for (html, expected) in [
        (r"<p>a &lt; b &amp;amp; c</p>\n", r#""a < b &amp; c""#),
        (r"&#233;&#xE9;&#X1f600;&quot;&#39;&apos;", r#""éé😀\"''""#),
        (r"&#0;&#xD800;&#99999999;", "\"\u{fffd}\u{fffd}\u{fffd}\""),
        (r"x&nbsp;y &unknown; & &; &#;", r#""x y &unknown; & &; &#;""#),
        (r"<a href='x'>one</a>\n<br>two", r#""one\ntwo""#),
        ("", r#""""#),
        (r"a<br>b<BR/>c<br />d<p>e</p><div>f</div>\n\n<div>g</div>", r#""a\nb\nc\nde\nf\ng""#),
        (r"<h2>a</h2><ul><li>b</li> <li>c</li></ul><blockquote>d</blockquote>e", r#""a\nb\nc\nd\ne""#),
        (r"<p>a</p><p>b</p>", r#""a\nb""#),
        (r"<img src='x.png' title=':tea:' class='e'>", r#"":tea:""#),
        (r#"x <img title='t' alt=\"a &amp; b\"/> y <img alt=z><img alt='' src=x>"#, r#""x a & b y z""#),
        (r"<broken>x</preface>y", r#""xy""#),
    ] {
        assert_eq!(value_of("html_text", &format!("\"{html}\"")), expected, "{html}");
    }
    assert_eq!(value_of("html_text", "null"), "null");
}

#[test]
fn modules_are_found_however_the_folder_is_named() {
    let folder = shelf("include \"snapfleet\"; given | empty", MODULE);
    let parent = folder.path.parent().unwrap();
    for way in [
        folder.path.clone(),
        folder.path.join("."),
        folder.path.join("fixtures/.."),
        parent.join("lib/../good/"),
    ] {
        assert!(Platform::load(&way).is_ok(), "{}", way.display());
    }
    // A link elsewhere: the modules are those beside the folder itself.
    let elsewhere = tempfile::tempdir().unwrap();
    let link = elsewhere.path().join("link");
    std::os::unix::fs::symlink(&folder.path, &link).unwrap();
    assert_eq!(Platform::load(&link).unwrap().name().as_str(), "good");
}

#[test]
fn a_file_beside_the_filter_comes_before_a_shared_one() {
    let folder = shelf("include \"snapfleet\"; mine | empty", MODULE);
    assert!(Platform::load(&folder.path).is_err());
    std::fs::write(folder.path.join("snapfleet.jq"), "def mine: 1;").unwrap();
    Platform::load(&folder.path).unwrap();
}

#[test]
fn a_folder_on_its_own_has_the_shared_module_built_in() {
    let files = |filter: &str| folder(GOOD, &[("comments.jq", filter)]);
    Platform::load(&files("include \"snapfleet\"; given | empty").path).unwrap();
    let error = Platform::load(&files("include \"snapfleets\"; .").path).unwrap_err().to_string();
    assert!(error.contains("snapfleets.jq is neither in "), "{error}");
    // Where there is one, it is the one.
    let error = Platform::load(&shelf("include \"snapfleet\"; given | empty", "def mine: 1;").path);
    assert!(error.unwrap_err().to_string().contains("given/0 is not defined"));
}

#[test]
fn a_mistake_in_a_shared_module_is_named_there() {
    for (module, line, column, expected) in [
        ("def one: 1;\ndef two: nowhere;", 2, 10, "function nowhere/0 is not defined"),
        ("def one: 1;\n\ndef two: );", 3, 10, "expected "),
    ] {
        match Platform::load(&shelf("include \"snapfleet\"; .", module).path).unwrap_err() {
            PlatformError::Filter { path, line: at, column: in_it, message } => {
                assert!(path.ends_with("lib/snapfleet.jq") && message.contains(expected), "{message}");
                assert_eq!((at, in_it), (line, column), "{module}: {message}");
            }
            other => panic!("{other}"),
        }
    }
}
