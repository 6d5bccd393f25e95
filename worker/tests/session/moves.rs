//! The demo platform's login moves from one browser to another: the site sees the session that it knows.

use std::time::Duration;

use snapfleet_demo_site::{Config, Login, Site, serve_site};
use snapfleet_testkit::eventually;
use snapfleet_worker::capture::Source;
use snapfleet_worker::pages::{LoginPlan, PageReport};
use snapfleet_worker::session::key::new_key;
use snapfleet_worker::session::seal::{open_session, seal_session};
use snapfleet_worker::session::{FleetKey, SessionExchange, SessionState};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::rig::{DEADLINE, Driven, TestBrowser, page, rule};

const ACCOUNT: &str = "shop-a";

struct Demo {
    site: Site,
    base: String,
    _stop: DropGuard,
}

impl Demo {
    async fn start() -> Self {
        let config = Config::for_tests(&[ACCOUNT], 7);
        let listener = TcpListener::bind(config.listen).await.unwrap();
        // By name: a cookie of a named host could come back as one of its whole domain.
        let base = format!("http://localhost:{}", listener.local_addr().unwrap().port());
        let (site, stop) = (Site::new(config).unwrap(), CancellationToken::new());
        tokio::spawn(serve_site(site.clone(), listener, stop.clone()));
        Self { site, base, _stop: stop.drop_guard() }
    }

    fn logins(&self) -> Vec<Login> {
        self.site.logins(ACCOUNT).unwrap()
    }

    /// Drives the account's page, with the markers of the demo platform.
    async fn drive(&self, browser: &TestBrowser, session: SessionExchange) -> Driven {
        let login = LoginPlan {
            logged_in: "#owner".into(),
            logged_out: Some("form#login".into()),
            submit: Some("form#login button[type=submit]".into()),
            fill: vec![
                ("form#login input[name=username]".into(), ACCOUNT.into()),
                ("form#login input[name=password]".into(), "demo".into()),
            ],
            code: None,
        };
        let pages = vec![page("inbox", format!("{}/creator/inbox", self.base))];
        let rules = vec![rule(Source::Response, "/api/v1/notice/list/")];
        let browser = browser.acquire().await;
        Driven::start_with(browser, "demo.shop-a", pages, Some(login), rules, session)
    }

    /// Drives until logged in and the page has asked for its lists, and lets go; returns the session that was left.
    async fn log_in(&self, browser: &TestBrowser) -> SessionState {
        let (session, exported) = SessionExchange::new(vec![], None);
        let mut driven = self.drive(browser, session).await;
        driven.find("login", told(|report| matches!(report, PageReport::LoggedIn))).await;
        driven.find("capture", told(|report| matches!(report, PageReport::Captured(_)))).await;
        driven.stop().await;
        let left = exported.borrow().clone();
        SessionState::clone(&left.expect("a session is left"))
    }
}

fn told(wanted: impl Fn(&PageReport) -> bool) -> impl FnMut(&PageReport) -> Option<()> {
    move |report| wanted(report).then_some(())
}

/// The way over the broker, to a worker that has the key.
fn sealed_and_opened(state: &SessionState) -> SessionState {
    let (key, account) = (FleetKey::parse(&new_key().unwrap(), "the test's").unwrap(), "demo.shop-a".parse());
    let account = account.unwrap();
    let sealed = seal_session(&key, &account, 3, state).unwrap();
    open_session(&key, &account, &sealed).unwrap().1
}

fn cookie<'a>(state: &'a SessionState, name: &str) -> &'a serde_json::Map<String, serde_json::Value> {
    state.cookies.iter().find(|cookie| cookie["name"] == name).unwrap()
}

#[tokio::test]
async fn a_session_moves_to_another_browser_and_the_site_sees_no_second_login() {
    let (demo, first) = (Demo::start().await, TestBrowser::new());
    let left = demo.log_in(&first).await;
    first.shared.close().await;
    let before = demo.logins().remove(0);
    assert_eq!((before.devices.len(), before.tabs.len()), (1, 1), "the page named its device and tab");
    assert!(!cookie(&left, "demo_sid").contains_key("expires"), "the session's cookie ends with the browser");
    assert!(cookie(&left, "demo_known").contains_key("expires"));

    let second = TestBrowser::new();
    let (session, mut exported) = SessionExchange::new(vec![sealed_and_opened(&left)], None);
    let mut driven = demo.drive(&second, session.clone()).await;
    match driven.next().await {
        PageReport::LoggedIn => {}
        other => panic!("told before the login: {other:?}"),
    }
    assert_eq!(demo.logins().len(), 1, "nobody logged in anew");
    let again = tokio::time::timeout(DEADLINE, exported.changed()).await;
    again.expect("the restored login is left, too").unwrap();
    let after = eventually(DEADLINE, "the page asks for its lists in the same session", async || {
        let login = demo.logins().remove(0);
        (login.requests > before.requests + 10).then_some(login)
    })
    .await;
    assert_eq!(demo.logins().len(), 1, "nobody logged in anew");
    assert_eq!(after.session, before.session);
    assert_eq!(after.devices, before.devices, "local storage came along");
    assert_eq!(after.tabs, before.tabs, "session storage came along");
    driven.stop().await;
    let restored = exported.borrow().clone().unwrap();
    assert_eq!(restored.cookies, left.cookies, "no cookie changed its kind on the way");
    assert_eq!((&restored.local, &restored.tabs), (&left.local, &left.tabs));

    // In the same tenure, as after the death of a browser.
    let mut driven = demo.drive(&second, session).await;
    driven.find("login", told(|report| matches!(report, PageReport::LoggedIn))).await;
    assert_eq!(demo.logins().len(), 1);
    driven.stop().await;
    second.shared.close().await;
}

#[tokio::test]
async fn a_session_that_the_site_has_ended_falls_back_to_the_one_before_and_then_to_the_form() {
    let (demo, browser) = (Demo::start().await, TestBrowser::new());
    let older = demo.log_in(&browser).await;
    let newer = demo.log_in(&browser).await;
    let logins = demo.logins();
    assert_eq!(logins.len(), 2);
    assert_eq!(demo.site.expire_session(ACCOUNT, &logins[1].session), Some(true));

    let (session, _exported) = SessionExchange::new(vec![newer.clone(), older.clone()], None);
    let mut driven = demo.drive(&browser, session.clone()).await;
    match driven.next().await {
        PageReport::LoggedIn => {}
        other => panic!("a session that is tried in vain is not told of: {other:?}"),
    }
    assert_eq!(demo.logins().len(), 2, "nobody logged in anew");
    eventually(DEADLINE, "the older session is used", async || {
        (demo.logins()[0].requests > logins[0].requests + 1).then_some(())
    })
    .await;
    assert_eq!(demo.logins().len(), 2, "nobody logged in anew");
    driven.stop().await;

    assert_eq!(demo.site.expire(ACCOUNT), Some(1));
    let (session, _exported) = SessionExchange::new(vec![newer, older], None);
    let mut driven = demo.drive(&browser, session.clone()).await;
    driven.find("login", told(|report| matches!(report, PageReport::LoggedIn))).await;
    let logins = demo.logins();
    assert_eq!(logins.len(), 3, "the form was filled in once");
    assert!(logins[2].open);
    driven.stop().await;
    let left = session.candidate().unwrap();
    let session = cookie(&left, "demo_sid")["value"].as_str().unwrap().to_owned();
    assert!(session.starts_with(&logins[2].session), "the new session is the newest");
    browser.shared.close().await;
}

#[tokio::test]
async fn a_session_that_cannot_be_read_leaves_the_account_logged_out_with_the_reason() {
    let (demo, browser) = (Demo::start().await, TestBrowser::new());
    let (session, exported) = SessionExchange::new(vec![], Some("the key is another".into()));
    let mut driven = demo.drive(&browser, session).await;
    match driven.next().await {
        PageReport::LoggedOut { reason } => assert_eq!(reason, "the key is another"),
        other => panic!("{other:?}"),
    }
    driven.find("load", told(|report| matches!(report, PageReport::PageLoaded { .. }))).await;
    // The form is looked at every two seconds, and is not filled in at the second look either.
    let wait = tokio::time::timeout(Duration::from_secs(3), driven.reports.recv()).await;
    assert!(wait.is_err(), "nothing more is told: {wait:?}");
    driven.stop().await;
    assert!(demo.logins().is_empty(), "the login form was left alone");
    assert!(exported.borrow().is_none(), "nothing is left of an account that is logged out");
    browser.shared.close().await;
}
