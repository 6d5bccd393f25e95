use std::time::Instant;

use super::*;

const NOTHING: [&str; 2] = ["{}", "{}"];

fn compiled(files: &[(&str, &str)]) -> Result<Filter, FilterError> {
    let dir = tempfile::tempdir().unwrap();
    for (name, code) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, code).unwrap();
    }
    Filter::compile(&dir.path().join("a/main.jq"), &dir.path().join("lib"))
}

pub(super) fn filter(code: &str) -> Filter {
    compiled(&[("a/main.jq", code)]).unwrap()
}

pub(super) fn run_with(
    filter: &Filter,
    body: &str,
    limits: Limits,
) -> (Vec<Result<String, String>>, Result<(), String>) {
    let mut rows = Vec::new();
    let outcome = filter.run(body.as_bytes(), NOTHING, limits, &mut |row| rows.push(row.map(str::to_owned)));
    (rows, outcome)
}

fn run(code: &str, body: &str) -> (Vec<Result<String, String>>, Result<(), String>) {
    run_with(&filter(code), body, Limits::default())
}

fn row(code: &str, body: &str) -> String {
    let (rows, outcome) = run(code, body);
    assert_eq!((rows.len(), &outcome), (1, &Ok(())), "{code}: {rows:?}");
    rows[0].clone().unwrap()
}

pub(super) fn error(code: &str, body: &str) -> String {
    run(code, body).1.unwrap_err()
}

#[test]
fn a_compiled_filter_is_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Filter>();
}

#[test]
fn numbers_keep_every_digit() {
    for number in [
        "7123456789012345678",
        "-9223372036854775808",
        "1234567890123456789012345678901234567890",
        "1790000000.1239872",
    ] {
        assert_eq!(row(".x", &format!(r#"{{"x":{number}}}"#)), number);
        assert_eq!(row(".x|fromjson", &format!(r#"{{"x":"{number}"}}"#)), number);
        assert_eq!(
            row("{x}|tojson|fromjson|.x|tostring", &format!(r#"{{"x":{number}}}"#)),
            format!("\"{number}\"")
        );
    }
}

#[test]
fn text_comes_through_as_written() {
    let text = r#""a\"\\\n\u0001 好 😀 \u007f""#;
    let written: String = serde_json::from_str(&row(".", text)).unwrap();
    assert_eq!(written, serde_json::from_str::<String>(text).unwrap());
    assert_eq!(row(".", "\u{feff} [1]"), "[1]");
}

/// A text that somebody cut in the middle of an emoji lost its whole body.
#[test]
fn half_a_surrogate_pair_is_one_letter_lost_and_not_the_body() {
    for (text, expected) in [
        (r#""a\ud83d""#, "a\u{fffd}"),
        (r#""\uDE00b""#, "\u{fffd}b"),
        (r#""\ud83d\ud83d\ude00\ude00""#, "\u{fffd}😀\u{fffd}"),
        (r#""\ud83dude00\n""#, "\u{fffd}ude00\n"),
        (r#""\\ud83d \\\ud83d \u4f60""#, "\\ud83d \\\u{fffd} 你"),
        (r#""\ud83d\u0041""#, "\u{fffd}A"),
    ] {
        let written: String = serde_json::from_str(&row(".", text)).unwrap();
        assert_eq!(written, expected, "{text}");
        let inside = serde_json::to_string(text).unwrap();
        let written: String = serde_json::from_str(&row("fromjson", &inside)).unwrap();
        assert_eq!(written, expected, "{text}");
    }
}

#[test]
fn the_built_ins_of_jq_work_with_the_steps_between_them() {
    for (code, expected) in [
        ("[range(5)]|map(.*2)|add", "20"),
        ("[range(0;10;3)]", "[0,3,6,9]"),
        ("[limit(3;repeat(1))]", "[1,1,1]"),
        ("[1|while(.<50;.*2)]|length", "6"),
        ("1|until(.>100;.*3)", "243"),
        ("[[1,[2]]|recurse|numbers]", "[1,2]"),
        ("[{\"a\":1}|paths|join(\".\")]", "[\"a\"]"),
        ("[[1,[2]]|..|numbers]", "[1,2]"),
        ("{\"a\":[{\"b\":1}]}|(.a[]|select(.b==1)|.b)|=7|.a[0].b", "7"),
        ("[[1,[2,3]]|path(recurse(.[]?))]|length", "5"),
        ("[[3,4]|recurse(.[]?)|=.]|length", "1"),
        ("def f: if .<3 then .+1|f else . end; 0|f", "3"),
        ("def f: .a|if .b then .b else f end; {\"a\":{\"a\":{\"b\":5}}}|f", "5"),
        ("def leaf: if type == \"object\" then .a|leaf else . end; {\"a\":{\"a\":1}}|leaf|=2|.a.a", "2"),
        ("reduce range(4) as $i (0;.+$i)", "6"),
        ("[foreach (1,2,3) as $i (0;.+$i;[$i,.])]|last|.[1]", "6"),
        ("\"a-b-c\"|gsub(\"-\";\"\")", "\"abc\""),
        ("[1,2]|combinations(2)?//[.[]]|length", "2"),
        ("[{\"k\":1},{\"k\":2}]|group_by(.k)|map(.[0].k)", "[1,2]"),
        ("{\"a\":1}|with_entries(.value+=1)|.a", "2"),
        ("try error(\"x\") catch .", "\"x\""),
        ("[1,2,3]|first(.[]|select(.>1))", "2"),
        ("[label $out|1,break $out,2]", "[1]"),
        ("\"2026-09-21T14:13:20Z\"|fromdate", "1790000000"),
        ("(1|debug),empty", "1"),
    ] {
        let (rows, outcome) = run(&format!("[{code}]|.[0]"), "null");
        assert_eq!((rows, outcome), (vec![Ok(expected.to_owned())], Ok(())), "{code}");
    }
}

/// jaq kept what each turn of a loop had made until the loop ended: a text of some 100 kB with a tag at each third letter
/// took gigabytes, whoever wrote it.
#[test]
fn a_loop_does_not_keep_what_its_turns_made() {
    let mut body = String::from("\"");
    body.extend(std::iter::repeat_n("<i>a", 30_000));
    body.push('"');
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    };
    for code in [
        r#"gsub("<[^>]*>"; "") | length"#,
        "def f: .[:1]; reduce (./\"a\")[] as $x (\"\"; . + ([$x, \"b\"] | add)) | length",
        "[foreach (./\"a\")[] as $x (\"\"; . + ([$x, \"b\"] | add); 1)] | length",
    ] {
        let limits = Limits { run_time: Duration::from_secs(60), ..Limits::default() };
        let before = resident();
        let (rows, outcome) = run_with(&filter(code), &body, limits);
        assert_eq!((rows.len(), outcome), (1, Ok(())), "{code}");
        let grown = resident() - before;
        assert!(grown < 300, "{code}: {grown} MiB");
    }
    for (code, expected) in [
        ("[reduce (1, 2) as $i (0; . + $i, 10)]", "[3,10,12,10]"),
        ("[limit(3; reduce 1 as $i (0; 1, 2, 3))]", "[1,2,3]"),
        ("[foreach (1, 2) as $i (0; . + $i, 5; [$i, .])]", "[[1,1],[2,3],[2,5],[1,5],[2,7],[2,5]]"),
        ("[reduce (1, 2) as $i (0; empty)]", "[]"),
        ("try reduce (1, 2) as $i (0; error(\"x\"), halt) catch .", "\"x\""),
        ("[label $out | reduce (1, 2) as $i (0; if $i == 2 then break $out else 7 end)]", "[]"),
        ("{\"a\":{\"b\":1}} | reduce (\"a\", \"b\") as $k (.; .[$k]) |= 5 | .a.b", "5"),
        ("{\"a\":{\"b\":1}} | [path(reduce (\"a\", \"b\") as $k (.; .[$k]))][0]", "[\"a\",\"b\"]"),
        ("{\"a\":{\"b\":1}} | [path(foreach (\"a\", \"b\") as $k (.; .[$k]))] | length", "2"),
        ("[\"abab\" | sub(\"a\"; \"1\", \"2\")]", "[\"1bab\",\"2bab\"]"),
    ] {
        assert_eq!(row(&format!("[{code}]|.[0]"), "null"), expected, "{code}");
    }
}

#[test]
fn a_broken_filter_is_named_with_file_line_and_column() {
    for (code, place, expected) in [
        ("", "main.jq:1:1", "expected term, found the end of the file"),
        ("# only a comment\n", "main.jq:2:1", "expected term, found the end of the file"),
        (".a |\n  .b[ ", "main.jq:2:7", "expected closing bracket, found the end of the file"),
        (".a |\n  好", "main.jq:2:3", "expected token, found \"好\""),
        (".a |\n  \"好\" | if . then 1", "main.jq:2:20", "expected else or end, found the end of the file"),
        (".a ) .b", "main.jq:1:4", "expected token, found \") .b\""),
        (".a\n| nosuch(1; 2)", "main.jq:2:3", "function nosuch/2 is not defined"),
        ("\n\n $foo", "main.jq:3:2", "variable $foo is not defined: beside its own, a filter has $request"),
        ("now", "main.jq:1:1", "function now/0 is not defined"),
        ("env", "main.jq:1:1", "function env/0 is not defined"),
        ("$ENV", "main.jq:1:1", "variable $ENV is not defined"),
        ("input", "main.jq:1:1", "function input/0 is not defined"),
        ("import \"x\" as x; .", "main.jq:1:1", "import is not supported: write include"),
        ("include \"x\"; .", "main.jq:1:9", "x.jq is neither in "),
        ("include \"../x\"; .", "main.jq:1:9", "include \"../x\" is not valid"),
        ("include \"main\"; .", "main.jq:1:9", "main.jq includes itself"),
    ] {
        let error =
            compiled(&[("a/main.jq", code)]).err().unwrap_or_else(|| panic!("{code:?} compiled")).to_string();
        assert!(error.contains(&format!("{place}: ")) && error.contains(expected), "{code:?}: {error}");
    }
}

#[test]
fn a_filter_includes_files_beside_it_and_from_the_library() {
    let files = [
        ("a/main.jq", "include \"one\";\ninclude \"two\";\none, two, three"),
        ("a/one.jq", "include \"three\"; def one: three + 1;"),
        ("a/two.jq", "include \"three\"; def two: $__none; "),
        ("lib/three.jq", "def three: 3;"),
    ];
    let error = compiled(&files).err().unwrap();
    assert!(error.to_string().contains("two.jq:1:27: variable $__none is not defined"), "{error}");
    let filter = compiled(&[files[0], files[1], ("a/two.jq", "def two: 2;"), files[3]]).unwrap();
    let rows: Vec<_> =
        run_with(&filter, "null", Limits::default()).0.into_iter().map(Result::unwrap).collect();
    assert_eq!(rows, ["4", "2", "3"]);
    let error = compiled(&[files[0], ("a/one.jq", "include \"two\";"), ("a/two.jq", "include \"one\";")])
        .err()
        .unwrap();
    assert!(
        error.to_string().contains("two.jq:1:9: ") && error.to_string().contains("includes itself"),
        "{error}"
    );
}

#[test]
fn a_body_that_is_no_json_is_named_for_what_it_is() {
    for (body, expected) in [
        ("", "body is empty"),
        (" \n", "body is empty"),
        ("<!doctype html>", "body is HTML or XML, not JSON"),
        ("hello", "body is not JSON: expected value at line 1 column 1"),
        ("{\"a\":1", "body is not JSON: EOF"),
        ("[1] [2]", "body is not JSON: trailing"),
        ("[NaN]", "body is not JSON"),
        ("[1] # \"", "body is not JSON"),
    ] {
        let error = error(".", body);
        assert!(error.starts_with(expected), "{body:?}: {error}");
    }
    let outcome = filter(".").run(b"[\"\xff\"]", NOTHING, Limits::default(), &mut |_| {});
    assert_eq!(outcome, Err("body is not UTF-8, from byte 2 on".into()));
    let large = vec![b' '; BODY_BYTES_MAX + 1];
    let outcome = filter(".").run(&large, NOTHING, Limits::default(), &mut |_| {});
    assert!(outcome.unwrap_err().contains("is too large"));
}

#[test]
fn deep_nesting_is_refused_and_does_not_end_the_process() {
    let nested =
        |open: &str, close: &str, depth: usize| format!("{}{}", open.repeat(depth), close.repeat(depth));
    for depth in [DEPTH_MAX + 1, 100_000, 1_000_000] {
        assert!(error(".", &nested("[", "]", depth)).starts_with("body is nested too deep"));
        assert!(error(".", &nested("[{\"\\\"[\":", "1}]", depth)).starts_with("body is "));
        let inside = serde_json::to_string(&nested("[", "]", depth)).unwrap();
        assert!(error("fromjson", &inside).contains("fromjson: text is nested too deep"));
    }
    let deepest = nested("[", "]", DEPTH_MAX);
    assert_eq!(row("[..]|length", &deepest), DEPTH_MAX.to_string());
    assert_eq!(row("(.. |= .) | [.. | tojson | fromjson] | length", &deepest), DEPTH_MAX.to_string());
    assert_eq!(run(".", &deepest).0, [Err("row is nested deeper than 8 levels".into())]);
    // Brackets in strings are no nesting.
    assert_eq!(row("length", &format!("\"{}\\\"[[\"", "[".repeat(1000))), "1003");
}

#[test]
fn a_filter_that_does_not_end_is_stopped_whatever_it_catches() {
    let limits = Limits { run_time: Duration::from_millis(200), steps: u64::MAX, ..Limits::default() };
    for code in [
        "def f: f; f",
        "def f: def g: f; g; f",
        "repeat(.) | select(false)",
        "[repeat(1)] | length",
        "last(range(1e18))",
        "reduce repeat(1) as $i (0; .)",
        "foreach range(0; 1; 0) as $i (0; .) | empty",
        "try (1 | until(false; .)) catch 0",
        "[.[] as $a | .[] as $b | .[] as $c | .[] as $d | select(false)]",
        "first(recurse(.) | select(false))",
        "label $x | while(true; .) | select(false)",
    ] {
        let started = Instant::now();
        let body = format!("[{}1]", "1,".repeat(10_000));
        let outcome = run_with(&filter(code), &body, limits).1;
        let spent = started.elapsed();
        assert!(outcome.as_ref().unwrap_err().contains("ran out of time"), "{code}: {outcome:?}");
        assert!(spent < Duration::from_secs(60), "{code} ran for {spent:?}");
    }
    let limits = Limits { steps: 1000, ..Limits::default() };
    let outcome = run_with(&filter("[range(1e9)] | length"), "0", limits).1;
    assert!(outcome.unwrap_err().contains("too many steps"));
}

#[test]
fn a_filter_that_recurses_without_end_is_stopped_before_its_stack_is() {
    for code in [
        "def f: 1 + f; f",
        "def f: try f catch f; f",
        "def f: [f]; f",
        "def f: {a: f} | .a; f",
        "def f: f | f; f",
        "def f: (1, f) | select(. == 2); f",
        "def f(g): g | f(g|g) | g; f(.)",
    ] {
        let limits = Limits { run_time: Duration::from_millis(500), ..Limits::default() };
        let (_, outcome) = run_with(&filter(code), "0", limits);
        let reason = outcome.unwrap_err();
        assert!(
            reason.contains("recursed too deep") || reason.contains("ran out of time"),
            "{code}: {reason}"
        );
    }
}

/// Doubling takes few steps and little time: it ended the process.
#[test]
fn a_filter_that_doubles_a_value_is_stopped_before_memory_is_full() {
    for code in [
        r#"reduce range(60) as $i ("x"; . + .)"#,
        r#"last(foreach range(60) as $i ("x"; "\(.)\(.)"; length))"#,
        "reduce range(60) as $i ([1]; . + .) | length",
        r#"def f: try (. + . | f) catch 1; "x" | f"#,
        r#""x" | until(false; . * 2)"#,
    ] {
        let reason = error(code, "0");
        assert!(reason.contains("makes a text or list too large"), "{code}: {reason}");
    }
}

#[test]
fn rows_and_bytes_are_bounded_and_what_came_before_counts() {
    let limits = Limits { rows: 3, ..Limits::default() };
    let (rows, outcome) = run_with(&filter("range(10)"), "0", limits);
    assert_eq!((rows.len(), outcome.unwrap_err().contains("more than 3 rows")), (3, true));
    let limits = Limits { output_bytes: 10, ..Limits::default() };
    let (rows, outcome) = run_with(&filter("\"abc\", \"de\", \"f\""), "0", limits);
    assert_eq!((rows.len(), outcome.unwrap_err().contains("more than 10 bytes")), (2, true));
}

#[test]
fn an_error_is_told_without_the_values_it_is_about() {
    for (code, expected) in [
        (".secret.x", "filter failed: cannot index a string with \"x\""),
        (".[\"secret\"] | keys", "filter failed: cannot use a string as iterable (array or object)"),
        (". + 1", "filter failed: cannot calculate with values of these types"),
        ("error", "filter failed: an object was thrown"),
        ("error([.secret])", "filter failed: an array was thrown"),
        ("error(\"no items\")", "filter failed: no items"),
        ("error(\"a\\u001b[2J\")", "filter failed: a\\u001b[2J"),
        (".secret | fromjson", "filter failed: fromjson: text is not JSON"),
        ("halt", "filter called halt(0)"),
        ("try halt_error catch 1", "filter called halt(5)"),
    ] {
        let error = error(code, r#"{"secret":"what somebody wrote"}"#);
        assert!(error.starts_with(expected) && !error.contains("somebody"), "{code}: {error}");
    }
    let (rows, outcome) = run("1, 2, error(\"x\"), 3", "0");
    assert_eq!((rows.len(), outcome), (2, Err("filter failed: x".into())));
}

#[test]
fn a_row_that_json_cannot_say_is_refused_alone() {
    let (rows, outcome) = run("nan, infinite, (\"x\"|tobytes), {(1|tostring): 1}, {([1]|.[0]): 2}, 5", "0");
    let rows: Vec<_> = rows.iter().map(|row| row.as_ref().map_or("refused", String::as_str)).collect();
    assert_eq!(
        (rows, outcome),
        (vec!["refused", "refused", "refused", r#"{"1":1}"#, "refused", "5"], Ok(()))
    );
}
