//! An account is logged in through its form, logged in again when its session ends, and given up when it is refused.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use snapfleet_worker::capture::{CaptureRule, Source};
use snapfleet_worker::pages::{AccountPlan, Desk, LoginPlan, PageReport, drive_account};
use snapfleet_worker::session::{SessionExchange, SessionState};
use snapfleet_worker::steering::Steering;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::rig::{Driven, TestBrowser, page, rule};
use crate::site::{PASSWORD, Site};

fn plan(password: &str) -> LoginPlan {
    LoginPlan {
        logged_in: "#owner".into(),
        logged_out: Some("form#login".into()),
        submit: Some("form#login button".into()),
        fill: vec![
            ("input[name=username]".into(), "Ann".into()),
            ("input[name=password]".into(), password.into()),
        ],
        code: None,
    }
}

async fn start(site: &Site, browser: &TestBrowser, password: &str) -> Driven {
    let pages = vec![page("home", site.url("/home")), page("second", site.url("/home?second=1"))];
    let rules = vec![rule(Source::Response, "/api/me")];
    Driven::start(browser.acquire().await, "demo.ann", pages, Some(plan(password)), rules)
}

fn logged_in(report: &PageReport) -> Option<()> {
    matches!(report, PageReport::LoggedIn).then_some(())
}

fn logged_out(report: &PageReport) -> Option<String> {
    match report {
        PageReport::LoggedOut { reason } => Some(reason.clone()),
        _ => None,
    }
}

fn loaded(report: &PageReport) -> Option<()> {
    matches!(report, PageReport::PageLoaded { .. }).then_some(())
}

fn not_captured(report: &PageReport) -> Option<&PageReport> {
    (!matches!(report, PageReport::Captured(_))).then_some(report)
}

fn captured(report: &PageReport) -> Option<()> {
    matches!(report, PageReport::Captured(_)).then_some(())
}

#[tokio::test]
async fn an_account_is_logged_in_and_again_after_its_session_ended() {
    let (site, browser) = (Site::start().await, TestBrowser::new());
    let mut driven = start(&site, &browser, PASSWORD).await;
    let first = driven.find("login", |report| not_captured(report).cloned()).await;
    assert!(
        matches!(first, PageReport::LoggedIn),
        "neither a logout nor a load is told before it: {first:?}"
    );
    driven.find("load", loaded).await;
    driven.find("capture", captured).await;
    assert_eq!(site.shared.logins.load(Ordering::SeqCst), 1, "two pages share one login");

    site.shared.session.fetch_add(1, Ordering::SeqCst);
    let reason = driven.find("logout", logged_out).await;
    assert!(reason.contains("session has ended"), "{reason}");
    driven.find("second login", logged_in).await;
    driven.find("capture", captured).await;
    assert_eq!(site.shared.logins.load(Ordering::SeqCst), 2);
    driven.stop().await;

    let mut driven = start(&site, &browser, PASSWORD).await;
    let first = driven.find("login", |report| not_captured(report).cloned()).await;
    assert!(matches!(first, PageReport::LoggedIn), "told again in a new context: {first:?}");
    driven.stop().await;
    browser.shared.close().await;
}

#[tokio::test]
async fn a_refused_login_is_told_after_three_attempts_and_not_tried_further() {
    let (site, browser) = (Site::start().await, TestBrowser::new());
    let mut driven = start(&site, &browser, "wrong").await;
    let first = driven.find("logout", |report| not_captured(report).cloned()).await;
    let reason = logged_out(&first).unwrap_or_else(|| panic!("told before the logout: {first:?}"));
    driven.find("load of the login form", loaded).await;
    assert!(reason.contains("3 login attempts failed"), "{reason}");
    assert!(reason.contains("credentials"), "{reason}");
    assert!(!reason.contains("wrong"), "a reason never shows what was typed: {reason}");
    let rest = driven.stop().await;
    assert!(!rest.iter().any(|report| logged_in(report).is_some()));
    assert_eq!(site.shared.logins.load(Ordering::SeqCst), 3);
    browser.shared.close().await;
}

#[tokio::test]
async fn a_new_browser_does_not_try_again_what_was_refused() {
    let (site, browser) = (Site::start().await, TestBrowser::new());
    let desk = Desk::default();
    for round in 0..2 {
        let (sender, reports) = mpsc::channel(64);
        let shutdown = CancellationToken::new();
        let plan = AccountPlan {
            desk: desk.clone(),
            account: "demo.ann".parse().unwrap(),
            pages: vec![page("home", site.url("/home"))],
            login: Some(plan("wrong")),
            rules: Arc::default(),
            session: SessionExchange::default(),
            steering: Steering::free(),
        };
        let drive = drive_account(browser.acquire().await, plan, sender, shutdown.clone());
        let mut driven = Driven { reports, shutdown, task: tokio::spawn(drive) };
        let reason = driven.find("logout", logged_out).await;
        assert!(reason.contains("3 login attempts failed"), "round {round}: {reason}");
        driven.find("load of the login form", loaded).await;
        driven.stop().await;
        assert_eq!(site.shared.logins.load(Ordering::SeqCst), 3, "round {round}");
    }
    browser.shared.close().await;
}

#[tokio::test]
async fn a_form_that_shows_for_a_moment_is_no_logout() {
    let (site, browser) = (Site::start().await, TestBrowser::new());
    let flaps = "() => {
        if (window.flaps) return null;
        document.body.innerHTML = '<p id=owner></p>';
        window.flaps = setInterval(() => {
            document.body.innerHTML = '<form id=login></form>';
            setTimeout(() => { document.body.innerHTML = '<p id=owner></p>'; }, 300);
        }, 1300);
        return null;
    }";
    let rule = CaptureRule { script: Some(Arc::from(flaps)), ..rule(Source::PageState, "/**") };
    let login = LoginPlan { submit: None, fill: Vec::new(), ..plan(PASSWORD) };
    let pages = vec![page("state", site.url("/odd/state"))];
    let mut driven = Driven::start(browser.acquire().await, "demo.ann", pages, Some(login), vec![rule]);
    driven.find("login", logged_in).await;
    // Looks and forms come at every distance from each other.
    let told = async {
        loop {
            if let PageReport::LoggedOut { reason } = driven.next().await {
                return reason;
            }
        }
    };
    let told = tokio::time::timeout(Duration::from_secs(26), told).await;
    assert!(told.is_err(), "{told:?}");
    driven.stop().await;
    browser.shared.close().await;
}

#[tokio::test]
async fn a_page_whose_marker_comes_late_has_failed_and_is_then_told_as_loaded() {
    let (site, browser) = (Site::start().await, TestBrowser::new());
    let pages = vec![page("late-marker", site.url("/page/late-marker"))];
    let mut driven = Driven::start(browser.acquire().await, "demo.ann", pages, Some(plan(PASSWORD)), vec![]);
    assert!(
        matches!(driven.next().await, PageReport::PageFailed { reason, .. } if reason.contains("marker"))
    );
    assert!(matches!(driven.next().await, PageReport::LoggedIn));
    assert!(matches!(driven.next().await, PageReport::PageLoaded { .. }));
    driven.stop().await;
    browser.shared.close().await;
}

/// How often the page had looked when the session was left.
fn looks(state: &SessionState) -> u64 {
    let entries = state.local.values().next().map_or("[]", String::as_str);
    let entries: Vec<(String, String)> = serde_json::from_str(entries).unwrap();
    entries.iter().find(|(key, _)| key == "looks").map_or(0, |(_, count)| count.parse().unwrap())
}

#[tokio::test]
async fn the_session_is_left_as_it_is_when_the_account_is_let_go_but_not_once_it_has_ended() {
    let (site, browser) = (Site::start().await, TestBrowser::new());
    let (session, exported) = SessionExchange::new(vec![], None);
    let drive = async |login: LoginPlan| {
        let pages = vec![page("home", site.url("/home"))];
        let rules = vec![rule(Source::Response, "/api/me")];
        let session = session.clone();
        Driven::start_with(browser.acquire().await, "demo.ann", pages, Some(login), rules, session)
    };
    let left = || exported.borrow().clone().expect("a session is left");

    let mut driven = drive(plan(PASSWORD)).await;
    driven.find("login", logged_in).await;
    // The page has looked several times since the session was left for the first time.
    for _ in 0..4 {
        driven.find("capture", captured).await;
    }
    let first = left();
    driven.stop().await;
    assert!(looks(&left()) >= looks(&first) + 2, "{} after {}", looks(&left()), looks(&first));

    // Without a way to log in, what ends stays ended.
    let mut driven = drive(LoginPlan { submit: None, ..plan(PASSWORD) }).await;
    driven.find("login", logged_in).await;
    driven.find("capture", captured).await;
    assert_eq!(site.shared.logins.load(Ordering::SeqCst), 1);
    site.shared.session.fetch_add(1, Ordering::SeqCst);
    driven.find("logout", logged_out).await;
    let last = left();
    driven.stop().await;
    assert!(std::sync::Arc::ptr_eq(&last, &left()), "nothing is left of a session that has ended");
    browser.shared.close().await;
}

#[test]
fn a_plan_does_not_show_what_is_typed() {
    let shown = format!("{:?}", plan("hunter2"));
    assert!(shown.contains("input[name=password]") && !shown.contains("hunter2"), "{shown}");
}
