use super::*;
use crate::capture::PathPattern;

fn rule(source: Source, path: &str) -> CaptureRule {
    CaptureRule::new("r", source, PathPattern::parse(path).unwrap())
}

fn matcher(rules: Vec<CaptureRule>) -> Matcher {
    Matcher::new(Arc::new(rules), "inbox")
}

fn head(url: &str, status: i64) -> Head<'_> {
    Head {
        url,
        status,
        mime_type: "application/json",
        content_type: None,
        content_length: 0,
        compressed: false,
        at_ms: 17,
    }
}

const WHOLE: End = End::Whole { sent_bytes: 5 };

#[test]
fn the_end_may_come_before_the_beginning() {
    let mut matcher = matcher(vec![rule(Source::Response, "/a")]);
    assert!(matches!(matcher.response("1", &head("http://x/a", 200)), Step::Nothing));
    let begun = |step| matches!(step, Step::Fetch(wanted) if wanted.began_at_ms == 17 && wanted.expected_bytes() == 5);
    assert!(begun(matcher.ended("1", WHOLE)));
    assert!(matches!(matcher.ended("2", WHOLE), Step::Nothing));
    assert!(begun(matcher.response("2", &head("http://x/a", 200))));
    assert!(matches!(matcher.ended("3", End::Failed("aborted".into())), Step::Nothing));
    assert!(
        matches!(matcher.response("3", &head("http://x/a", 200)), Step::Report(reports) if reports.len() == 1)
    );
}

#[test]
fn status_and_content_type_decide() {
    let mut json = rule(Source::Response, "/a");
    json.content_type = Some("application/json".into());
    let mut missing = rule(Source::Response, "/a");
    missing.status = vec![404];
    let mut matcher = matcher(vec![json, missing]);
    let mut rules_for = |status, mime_type, content_type| {
        let head = Head { mime_type, content_type, ..head("http://x/a", status) };
        matcher.response("1", &head);
        match matcher.ended("1", WHOLE) {
            Step::Fetch(wanted) => wanted.rules,
            _ => vec![],
        }
    };
    assert_eq!(rules_for(200, "application/json", None), [0]);
    assert_eq!(rules_for(201, "text/plain", Some("Application/JSON; charset=utf-8")), [0]);
    assert_eq!(rules_for(404, "application/json", None), [1]);
    assert!(rules_for(200, "text/html", None).is_empty());
    assert!(rules_for(204, "application/json", None).is_empty());
    assert!(rules_for(302, "application/json", None).is_empty());
    assert!(rules_for(-1, "application/json", None).is_empty());
}

#[test]
fn what_is_pushed_before_its_stream_is_known_comes_in_order() {
    let mut matcher = matcher(vec![rule(Source::WebSocket, "/ws")]);
    matcher.pushed("7", None, Bytes::from_static(b"1"), 9);
    matcher.pushed("8", None, Bytes::from_static(b"other"), 9);
    matcher.pushed("7", None, Bytes::from_static(b"2"), 9);
    let bodies = |step| match step {
        Step::Report(reports) => reports
            .into_iter()
            .map(|report| match report {
                PageReport::Captured(captured) => captured.body,
                other => panic!("{other:?}"),
            })
            .collect::<Vec<_>>(),
        _ => vec![],
    };
    assert_eq!(bodies(matcher.opened(Source::WebSocket, "7", &Head::bare("ws://x/ws", 1))), ["1", "2"]);
    assert_eq!(bodies(matcher.pushed("7", None, Bytes::from_static(b"3"), 9)), ["3"]);
    assert!(bodies(matcher.opened(Source::WebSocket, "8", &Head::bare("ws://x/else", 1))).is_empty());
    assert!(bodies(matcher.pushed("8", None, Bytes::from_static(b"4"), 9)).is_empty());
}

#[test]
fn one_url_asked_for_twice_counts_twice_and_each_rule_gets_it() {
    let mut matcher = matcher(vec![rule(Source::Response, "/a"), rule(Source::Response, "/*")]);
    for request in ["1", "2"] {
        matcher.response(request, &head("http://x/a", 200));
        assert!(matches!(matcher.ended(request, WHOLE), Step::Fetch(wanted) if wanted.rules == [0, 1]));
    }
}

#[test]
fn what_is_kept_is_bounded_and_what_gives_way_is_told() {
    let mut matcher = matcher(vec![rule(Source::Response, "/a")]);
    for n in 0..OPEN_MAX {
        assert!(matches!(matcher.response(&n.to_string(), &head("http://x/a", 200)), Step::Nothing));
    }
    assert!(matches!(matcher.response("last", &head("http://x/a", 200)), Step::Report(r) if r.len() == 1));
    for n in 0..2 * EARLY_MAX {
        matcher.ended(&format!("e{n}"), WHOLE);
        matcher.pushed(&format!("p{n}"), None, Bytes::from_static(&[0; 4096]), 9);
    }
    assert_eq!(matcher.ended.len(), EARLY_MAX);
    assert!(matcher.early_bytes <= EARLY_BYTES_MAX);
    assert!(matcher.early.len() <= EARLY_MAX);
}

fn fetched(step: Step) -> Vec<usize> {
    match step {
        Step::Fetch(wanted) => wanted.rules,
        Step::Nothing => vec![],
        Step::Report(reports) => panic!("{reports:?}"),
    }
}

fn posted(path: &str) -> CaptureRule {
    CaptureRule { methods: vec!["POST".into()], ..rule(Source::Response, path) }
}

fn settled(matcher: &mut Matcher) -> Option<(String, Vec<usize>)> {
    matcher.settle(Some(Instant::now())).map(|(request, step)| (request, fetched(step)))
}

#[tokio::test(start_paused = true)]
async fn a_method_that_is_known_decides_at_once_unless_a_redirect_may_change_it() {
    let mut matcher = matcher(vec![posted("/a"), rule(Source::Response, "/a")]);
    matcher.sent("1", "GET", "http://x/a");
    matcher.response("1", &head("http://x/a", 200));
    assert_eq!(fetched(matcher.ended("1", WHOLE)), [1]);
    assert_eq!(matcher.settles_at(), None);

    matcher.sent("2", "POST", "http://x/a");
    matcher.response("2", &head("http://x/a", 200));
    assert_eq!(fetched(matcher.ended("2", WHOLE)), [1], "a rule without method does not wait");
    assert_eq!(settled(&mut matcher), None);
    tokio::time::advance(SETTLE_TIME).await;
    assert_eq!(settled(&mut matcher), Some(("2".into(), vec![0])));

    // The form's answer sends the page to the same address again, which is told last.
    matcher.sent("3", "POST", "http://x/a");
    matcher.response("3", &head("http://x/a", 200));
    assert_eq!(fetched(matcher.ended("3", WHOLE)), [1]);
    matcher.sent("3", "GET", "http://x/a");
    tokio::time::advance(SETTLE_TIME).await;
    assert_eq!(settled(&mut matcher), Some(("3".into(), vec![])));
}

#[tokio::test(start_paused = true)]
async fn a_method_that_is_told_late_or_never_loses_no_capture() {
    let mut matcher = matcher(vec![posted("/a")]);
    matcher.response("1", &head("http://x/a", 200));
    assert_eq!(fetched(matcher.ended("1", WHOLE)), Vec::<usize>::new());
    matcher.sent("1", "POST", "http://x/a");
    matcher.response("2", &head("http://x/a", 200));
    matcher.ended("2", WHOLE);
    matcher.response("3", &head("http://x/a", 200));
    matcher.sent("3", "GET", "http://x/a");
    matcher.ended("3", WHOLE);
    matcher.response("4", &head("http://x/a", 200));
    matcher.ended("4", End::Failed("cut".into()));
    // The end comes first: nothing is waited for any more.
    let mut rest = std::iter::from_fn(|| matcher.settle(None));
    let (request, step) = rest.next().unwrap();
    assert_eq!(request, "1");
    assert!(matches!(step, Step::Fetch(wanted) if wanted.method.as_deref() == Some("POST")));
    let (request, step) = rest.next().unwrap();
    assert_eq!(request, "2");
    assert!(matches!(step, Step::Fetch(wanted) if wanted.method.is_none()));
    let (request, step) = rest.next().unwrap();
    assert_eq!(request, "4", "the one before asks for nothing");
    assert!(matches!(step, Step::Report(reports) if reports.len() == 1));
    assert!(rest.next().is_none());
}

#[test]
fn those_who_wait_for_their_method_are_bounded() {
    let mut matcher = matcher(vec![posted("/a")]);
    for n in 0..=UNSETTLED_MAX {
        let request = n.to_string();
        matcher.response(&request, &head("http://x/a", 200));
        let decided = fetched(matcher.ended(&request, WHOLE));
        assert_eq!(decided.len(), usize::from(n == UNSETTLED_MAX), "request {n}");
    }
    assert_eq!(matcher.unsettled.len(), UNSETTLED_MAX);
}

#[test]
fn a_body_that_is_known_to_be_too_large_is_not_fetched() {
    let mut matcher = matcher(vec![rule(Source::Response, "/a")]);
    let limit = BODY_BYTES_MAX as u64;
    let mut told = |content_length, sent_bytes, compressed| {
        matcher.response("1", &Head { content_length, compressed, ..head("http://x/a", 200) });
        matches!(matcher.ended("1", End::Whole { sent_bytes }), Step::Report(reports)
            if matches!(&reports[..], [PageReport::CaptureFailed { reason, .. }] if reason.contains("bytes are more")))
    };
    assert!(told(limit + 1, 0, false));
    assert!(told(0, 2 * limit, false));
    assert!(told(limit + 1, 0, true), "unpacked, it is larger still");
    assert!(!told(limit, limit + 500, false));
    assert!(!told(0, limit + 500, false), "its headers are counted, too");
}
