//! `platform record`: the demo site through a real Chromium into a HAR file, by the program itself.

#![allow(clippy::unwrap_used, reason = "a failure of the test rig is a failed test")]

#[path = "support/lone_rig.rs"]
mod rig;

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rig::{DEADLINE, JWT, LONG_ID, PASSWORD, Rig, Running};
use snapfleet_demo_site::EventKind;
use snapfleet_protocol::UnixMs;
use snapfleet_testkit::eventually;
use snapfleet_worker::har::{HarEntry, read};
use snapfleet_worker::platform::{AccountView, HarCheck, Listed, Platform, check_har};

fn entries(har: &Path) -> Vec<HarEntry> {
    let mut entries = Vec::new();
    // It may be written to at this very moment: what came before is read.
    let _ = read(har, &mut |entry| {
        entries.push(entry);
        ControlFlow::Continue(())
    });
    entries
}

fn path_of(entry: &HarEntry) -> String {
    let url = entry.url.split('?').next().unwrap();
    url.splitn(4, '/').nth(3).unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_recording_maps_like_the_site_itself_and_holds_no_secret() {
    let rig = Rig::start().await;
    let har = rig.path("a.har");
    let mut arguments = vec!["platform", "record", "demo", "--account", "shop-a", "--headless", "--out"];
    let (out, settings) = (har.display().to_string(), rig.settings());
    arguments.push(&out);
    arguments.extend(settings.iter().map(String::as_str));
    let mut running = Running::start(&mut rig.worker(&arguments));
    let wanted = [
        "api/v1/creator/item/list/",
        "api/v1/comment/list/",
        "api/v1/comment/list/reply/",
        "api/v1/im/conversation/list/",
        "api/v1/im/message/list/",
        "api/v1/notice/list/",
        "api/push",
        "api/comment/ws",
        "api/echo",
        "extra",
    ];
    eventually(DEADLINE, "everything is recorded while it runs", async || {
        assert!(running.is_running(), "it has ended");
        rig.site.push("shop-a", EventKind::Message).unwrap();
        rig.site.push("shop-a", EventKind::Comment).unwrap();
        let found = entries(&har);
        let paths: BTreeSet<_> = found.iter().map(path_of).collect();
        let all = wanted.iter().all(|path| paths.contains(*path));
        (all && found.iter().any(|entry| entry.page_state.is_some())).then_some(())
    })
    .await;
    running.interrupt();
    let (code, said) = running.end().await;
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("logged in") && said.contains("platform check") && said.contains("--har"),
        "{said}"
    );

    assert_eq!(rig.logins().len(), 1, "a page logged in although another had");
    let text = std::fs::read_to_string(&har).unwrap();
    let seen = rig.seen.lock().unwrap().clone();
    assert!(!seen.is_empty(), "no session was seen");
    let quoted = serde_json::Value::from(PASSWORD).to_string();
    let quoted = quoted.trim_matches('"');
    let secrets = [PASSWORD, quoted, "pä", "w%C3%B6rd", "demo_sid", "hunter2", JWT];
    for secret in secrets.into_iter().chain(seen.iter().map(String::as_str)) {
        assert!(!text.contains(secret) && !said.contains(secret), "{secret} was written");
    }
    assert!(text.contains(LONG_ID) && text.contains("item_id=7&msToken=[removed]"), "ids are gone");
    assert_eq!(std::fs::metadata(&har).unwrap().mode() & 0o777, 0o600);
    let state = entries(&har).into_iter().find_map(|entry| entry.page_state);
    assert_eq!(state, Some(("state".to_owned(), "extra".to_owned())));

    let platform = Platform::load(&rig.path("platforms/demo")).unwrap();
    let account = AccountView { id: "demo.shop-a".parse().unwrap(), settings: Default::default() };
    let now = UnixMs(i64::MAX / 2);
    let report = check_har(
        &HarCheck { platform: &platform, account: &account, har: &har, now, listed: Listed::Nothing },
        &mut |_| {},
    );
    let report = report.unwrap();
    assert!(report.is_ok(), "{report}");
    for kind in ["content", "comment", "conversation", "direct_message", "notification"] {
        assert!(report.records.get(kind).is_some_and(|count| *count > 0), "no {kind}: {report}");
    }
    for rule in &report.rules {
        assert!(rule.bodies > 0, "rule {} took nothing: {report}", rule.rule);
    }
    let left: Vec<_> =
        std::fs::read_dir(rig.path("snapfleet-browser-0")).into_iter().flatten().flatten().collect();
    assert!(left.is_empty(), "the browser's profile is left: {left:?}");
}

#[tokio::test]
async fn what_cannot_be_recorded_is_refused_before_a_browser_starts() {
    let rig = Rig::start().await;
    std::fs::write(rig.path("there.har"), "mine").unwrap();
    let (there, fresh) =
        (rig.path("there.har").display().to_string(), rig.path("b.har").display().to_string());
    let base = format!("base_url={}", rig.base);
    let user = vec!["--setting", base.as_str(), "--setting", "username=x"];
    for (platform, account, out, more, says) in [
        ("demo", "shop-a", &there, [user.clone(), vec!["--setting", "password=x"]].concat(), "--out"),
        ("demo", "shop-a", &fresh, user.clone(), "log in by hand"),
        ("demo", "shop-a", &fresh, vec!["--setting", "username=x"], "setting base_url is missing"),
        ("demo", "shop-a", &fresh, vec!["--setting", "pass"], "NAME=VALUE"),
        ("demo", "isso.x", &fresh, vec!["--setting", &base], "another platform"),
        ("nowhere", "shop-a", &fresh, vec!["--setting", &base], "no platform nowhere"),
        ("demo", "shop-a", &fresh, vec![], "--session-key-file"),
        (
            "demo",
            "shop-a",
            &fresh,
            [user, vec!["--setting", "password=x", "--redact", "*"]].concat(),
            "everything",
        ),
    ] {
        let mut arguments =
            vec!["platform", "record", platform, "--account", account, "--headless", "--out", out];
        arguments.extend(more);
        let (code, said) = Running::start(&mut rig.worker(&arguments)).end().await;
        assert!(
            matches!(code, Some(2 | 64)) && said.contains(says),
            "{code:?} {said:?} does not say {says:?}"
        );
    }
    assert_eq!(std::fs::read_to_string(rig.path("there.har")).unwrap(), "mine");
    assert!(!rig.path("b.har").exists() && rig.logins().is_empty());
}

#[tokio::test]
async fn a_full_file_ends_the_recording_and_reads() {
    let rig = Rig::start().await;
    let har = rig.path("a.har");
    let (out, settings) = (har.display().to_string(), rig.settings());
    let mut arguments = vec![
        "platform",
        "record",
        "demo",
        "--account",
        "shop-a",
        "--headless",
        "--file-mib",
        "1",
        "--out",
        &out,
    ];
    arguments.extend(settings.iter().map(String::as_str));
    let running = Running::start(&mut rig.worker(&arguments));
    let pushing = async {
        loop {
            for _ in 0..50 {
                rig.site.push("shop-a", EventKind::Message).unwrap();
                rig.site.push("shop-a", EventKind::NewConversation).unwrap();
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let (code, said) = tokio::select! { ended = running.end() => ended, () = pushing => unreachable!() };
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("--file-mib"), "{said}");
    assert!(std::fs::metadata(&har).unwrap().len() <= 1024 * 1024);
    let platform = Platform::load(&rig.path("platforms/demo")).unwrap();
    let account = AccountView { id: "demo.shop-a".parse().unwrap(), settings: Default::default() };
    let check = HarCheck {
        platform: &platform,
        account: &account,
        har: &har,
        now: UnixMs(i64::MAX / 2),
        listed: Listed::Nothing,
    };
    let report = check_har(&check, &mut |_| {}).unwrap();
    assert_eq!(report.cut_short, None);
}
