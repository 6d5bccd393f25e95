//! `platform.toml`: what its keys become, and each mistake with file, line and remedy.

use super::*;

/// Page state, to stand below the good manifest.
const STATE: &str = r#"
[[capture]]
name = "state"
source = "page_state"
script = "state.js"
page = ["inbox"]
every_ms = 500
filter = "comments.jq"
"#;
const SCRIPT: &str = "() => window.store ?? null";

fn with_state(find: &str, replace: &str, script: &str) -> Result<Platform, PlatformError> {
    assert!(STATE.contains(find), "{find} is not in the good one");
    let manifest = format!("{GOOD}{}", STATE.replacen(find, replace, 1));
    Platform::load(&folder(&manifest, &[("state.js", script)]).path)
}

/// The line of the good manifest with page state where a text stands in the latter.
fn line_of(text: &str) -> usize {
    let at = STATE.find(text).unwrap();
    GOOD.lines().count() + STATE[..at].matches('\n').count() + 1
}

#[test]
fn every_key_reaches_the_side_of_the_browser() {
    let more = "status = [200, 203]\nmethod = [\"GET\", \"POST\"]\nhost = \"*.Example.com\"";
    let manifest = GOOD
        .replace("refresh_s = 30", "refresh_s = 30\nrefresh_jitter = 0")
        .replace("submit =", "code = \"img#qr\"\nsubmit =")
        .replace("status = [200, 203]", more);
    let folder = folder(&format!("{manifest}{STATE}"), &[("state.js", SCRIPT)]);
    let platform = Platform::load(&folder.path).unwrap();
    let pages = platform.pages(&full()).unwrap();
    assert_eq!(pages.iter().map(|page| page.refresh_jitter).collect::<Vec<_>>(), [0.0, 0.1]);
    assert_eq!(platform.login(&full()).unwrap().unwrap().code.as_deref(), Some("img#qr"));
    let [comments, frames, state] = platform.captures() else { panic!("not three rules") };
    assert_eq!(comments.methods, ["GET", "POST"]);
    assert_eq!(comments.host.as_deref(), Some("*.example.com"));
    assert_eq!((&frames.methods, &frames.host, &frames.script), (&vec![], &None, &None));
    assert_eq!((state.source, state.path.as_str()), (CaptureSource::PageState, ""));
    assert_eq!((state.script.as_deref(), state.pages.as_slice()), (Some(SCRIPT), &["inbox".to_owned()][..]));
    assert_eq!(state.every, Duration::from_millis(500));
    let every = with_state("every_ms = 500\n", "", SCRIPT).unwrap().captures()[2].every;
    assert_eq!(every, Duration::from_secs(1));
    let pages = with_state("page = [\"inbox\"]\n", "", SCRIPT).unwrap().captures()[2].pages.clone();
    assert_eq!(pages, Vec::<String>::new());
}

#[test]
fn a_bad_page_state_rule_is_named_with_file_line_and_remedy() {
    let file = "script = \"state.js\"";
    let no_file = "must be the name of a .js file beside platform.toml";
    let response = "is for source = \"response\" alone";
    let network = "is for what comes over the network, not for source = \"page_state\"";
    for (find, replace, at, expected) in [
        ("script = \"state.js\"\n", "", "name =", "capture \"state\" has no script: name a .js file beside"),
        (file, "script = \"other.js\"", "script", "good/other.js cannot be read: "),
        (file, "script = \"a/state.js\"", "script", no_file),
        (file, "script = \"state.mjs\"", "script", no_file),
        (file, "script = '..\\state.js'", "script", no_file),
        (file, "script = \"../state.js\"", "script", no_file),
        ("[\"inbox\"]", "[\"inbx\"]", "page =", "page \"inbx\" is not there: is it inbox?"),
        (
            "[\"inbox\"]",
            "[\"everything\"]",
            "page =",
            "page \"everything\" is not there: there are inbox, works",
        ),
        ("[\"inbox\"]", "[]", "page =", "page is empty: name pages, or leave it out for all"),
        ("= 500", "= 199", "every_ms", "every_ms is 199: from 200 to 600000"),
        ("= 500", "= 600001", "every_ms", "every_ms is 600001: from 200 to 600000"),
        ("every_ms = 500", "path = \"/a\"", "every_ms", network),
        ("every_ms = 500", "host = \"h\"", "every_ms", network),
        ("every_ms = 500", "status = [200]", "every_ms", response),
        ("every_ms = 500", "method = [\"GET\"]", "every_ms", response),
        ("every_ms = 500", "content_type = \"a\"", "every_ms", response),
        ("every_ms = 500", "evry_ms = 500", "every_ms", "key evry_ms is not known: is it every_ms?"),
        ("page_state", "page_sate", "source", "value page_sate is not known: is it page_state?"),
    ] {
        let error = with_state(find, replace, SCRIPT).unwrap_err().to_string();
        let place = format!("platform.toml:{}: ", line_of(at));
        assert!(error.contains(&place) && error.contains(expected), "{replace}: {error}");
    }
    let large = format!("() => {{}}{}", " ".repeat(256 * 1024));
    for (script, expected) in [(large.as_str(), "at most 262144 bytes"), (" \n", "state.js is empty")] {
        let error = with_state("", "", script).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_key_that_is_not_known_is_named_at_every_level() {
    for (after, line, expected) in [
        ("schema = 1\n", 2, "is it capture?"),
        ("[settings]\n", 5, "expected one of `required`, `optional`, `secret`"),
        ("refresh_s = 30\n", 13, "expected one of `name`, `url`, "),
        ("[page.scroll]\n", 14, "expected one of `selector`, `steps_max`, `pause_ms`, `until`"),
        ("[login]\n", 24, "expected one of `logged_in`, `logged_out`, `code`, `submit`, `fill`"),
        ("[[login.fill]]\n", 28, "expected `selector` or `value`"),
        ("source = \"response\"\n", 37, "expected one of `name`, `source`, "),
    ] {
        let manifest = GOOD.replacen(after, &format!("{after}captur = 1\n"), 1);
        assert_ne!(manifest, GOOD);
        let error = Platform::load(&folder(&manifest, &[]).path).unwrap_err().to_string();
        let place = format!("good/platform.toml:{line}: key captur is not known: ");
        assert!(error.contains(&place) && error.contains(expected), "{after}: {error}");
    }
}

#[test]
fn lists_and_files_are_bounded() {
    let page = |number: usize| format!("[[page]]\nname = \"p{number}\"\nurl = \"http://h/\"\n");
    let head = "schema = 1\nname = \"good\"\n";
    let many = |count: usize| format!("{head}{}", (0..count).map(page).collect::<String>());
    Platform::load(&folder(&many(64), &[]).path).unwrap();
    let names: Vec<_> = (0..65).map(|number| format!("\"s{number}\"")).collect();
    let settings = format!("{head}[settings]\nrequired = [{}]", names.join(","));
    for (manifest, line, expected) in [
        (many(65), 2 + 64 * 3 + 2, "there are too many [[page]]: at most 64"),
        (settings, 4, "there are too many settings: at most 64"),
    ] {
        let error = Platform::load(&folder(&manifest, &[]).path).unwrap_err().to_string();
        assert!(error.contains(&format!("platform.toml:{line}: {expected}")), "{error}");
    }
    let large = format!("{GOOD}#{}", "x".repeat(256 * 1024));
    let error = Platform::load(&folder(&large, &[]).path).unwrap_err().to_string();
    assert!(error.contains("platform.toml cannot be read: it is too large: at most 262144 bytes"), "{error}");
}

#[test]
fn a_bad_manifest_is_named_with_file_line_and_remedy() {
    const PATH: &str = "path = \"**/push\"";
    for (find, replace, line, expected) in [
        ("schema = 1", "schema = 2", 1, "schema 2 is not known: this version reads schema 1"),
        ("schema = 1\n", "", 1, "missing field `schema`"),
        ("name = \"good\"", "name = \"bad\"", 2, "name \"bad\" must be the folder's, which is \"good\""),
        ("name = \"good\"", "name = \"a b\"", 2, "platform \"a b\" is not valid"),
        ("name = \"good\"", "name = ", 2, ""),
        ("refresh_s = 30", "refesh_s = 30", 12, "key refesh_s is not known: is it refresh_s?"),
        (
            "refresh_s = 30",
            "zzzzzzzzzzz = 30",
            12,
            "key zzzzzzzzzzz is not known: expected one of `name`, `url`",
        ),
        ("refresh_s = 30", "refresh_s = \"30\"", 12, "invalid type: string \"30\", expected u64"),
        ("refresh_s = 30", "refresh_s = 100000", 12, "refresh_s is 100000: at most 86400"),
        ("steps_max = 5", "steps_max = 5000", 15, "steps_max is 5000: at most 1000"),
        ("steps_max = 5", "steps = 5", 15, "key steps is not known"),
        ("/creator/inbox", "/{user}/inbox", 11, "setting user is not declared"),
        ("/creator/inbox", "/{usernam}/inbox", 11, "setting usernam is not declared: is it username?"),
        ("/creator/inbox", "/{password}/inbox", 11, "url has the secret setting password"),
        ("/creator/inbox", "/{/inbox", 11, "url has {"),
        (
            "{base_url}/creator/works",
            "javascript:alert(1)",
            21,
            "url \"javascript:alert(1)\" is no address: begin",
        ),
        (
            "{base_url}/creator/works",
            "www.example.com",
            21,
            "url \"www.example.com\" is no address: begin it with",
        ),
        (
            "secret = [\"password\"]",
            "secret = [\"passwort\"]",
            7,
            "setting passwort is not declared: is it password?",
        ),
        ("optional = [\"tag\"]", "optional = [\"username\"]", 6, "setting \"username\" is there twice"),
        ("optional = [\"tag\"]", "optional = [\"Tag\"]", 6, "setting \"Tag\" must be"),
        ("name = \"works\"", "name = \"inbox\"", 20, "page \"inbox\" is there twice"),
        ("name = \"frames\"", "name = \"comments\"", 43, "capture \"comments\" is there twice"),
        (
            "source = \"websocket\"",
            "source = \"sse\"",
            44,
            "value sse is not known: expected one of `response`, ",
        ),
        (
            "source = \"websocket\"",
            "source = \"web_socket\"",
            44,
            "value web_socket is not known: is it websocket?",
        ),
        (
            "source = \"websocket\"",
            "source = \"websocket\"\nstatus = [200]",
            45,
            "status is for source = \"response\" alone",
        ),
        ("status = [200, 203]", "status = [20]", 38, "status must list statuses from 100 to 599"),
        ("path = \"**/push\"", "path = \"\"", 45, "path pattern is empty"),
        (
            PATH,
            "path = \"/u/{username}/inbox\"",
            45,
            "settings are not filled in here: write * in place of {username}",
        ),
        (PATH, "path = \"/u/{\"", 45, "settings are not filled in here"),
        (PATH, "", 43, "capture \"frames\" has no path: write the path to capture"),
        (PATH, "path = \"/\"\nmethod = [\"GET\"]", 46, "method is for source = \"response\" alone"),
        (PATH, "path = \"/\"\ncontent_type = \"a\"", 46, "content_type is for source = \"response\" alone"),
        (PATH, "path = \"/\"\nscript = \"state.js\"", 46, "script is for source = \"page_state\" alone"),
        (PATH, "path = \"/\"\npage = [\"inbox\"]", 46, "page is for source = \"page_state\" alone"),
        (PATH, "path = \"/\"\nevery_ms = 500", 46, "every_ms is for source = \"page_state\" alone"),
        (PATH, "path = \"/\"\nhost = \"https://h\"", 46, "host pattern \"https://h\" holds ':'"),
        (PATH, "path = \"/\"\nhost = \"\"", 46, "host pattern is empty"),
        ("status = [200, 203]", "method = [\"get\"]", 38, "method must list methods in capitals"),
        ("status = [200, 203]", "method = []", 38, "method must list methods in capitals"),
        ("status = [200, 203]", "status = []", 38, "status must list statuses from 100 to 599"),
        ("refresh_s = 30", "refresh_s = 30\nrefresh_jitter = 0.6", 13, "refresh_jitter is 0.6: at most 0.5"),
        (
            "refresh_s = 30",
            "refresh_s = 30\nrefresh_jitter = -0.1",
            13,
            "refresh_jitter is -0.1: from 0 to 0.5",
        ),
        (
            "refresh_s = 30",
            "refresh_s = 30\nrefresh_jitter = nan",
            13,
            "refresh_jitter is NaN: from 0 to 0.5",
        ),
        ("refresh_s = 30", "refresh_jitter = 0.1", 12, "refresh_jitter varies refresh_s: give that too"),
        ("submit = \"#login button\"", "submit = \"b\"\ncode = \" \"", 27, "code is empty"),
        (
            "filter = \"frames.jq\"",
            "filter = \"../x.jq\"",
            46,
            "filter \"../x.jq\" must be the name of a .jq file",
        ),
        ("filter = \"frames.jq\"", "", 42, "missing field `filter`"),
        ("submit = \"#login button\"", "", 28, "[[login.fill]] without login.submit"),
        (
            "logged_in = \"#owner\"",
            "logged_inn = \"#owner\"",
            24,
            "key logged_inn is not known: is it logged_in?",
        ),
    ] {
        assert!(GOOD.contains(find), "{find} is not in the good one");
        let folder = folder(&GOOD.replacen(find, replace, 1), &[]);
        let error = Platform::load(&folder.path).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains(&format!("platform.toml:{line}: ")) && text.contains(expected),
            "{replace}: {text}"
        );
        assert!(!text.contains('\n'), "{text}");
    }
}
