//! `snapfleet-worker login`: a person types into the window that the program has opened, and the session is with the
//! fleet. The window is on a screen of its own (Xvfb) where there is one, and none otherwise.

#![allow(clippy::unwrap_used, reason = "a failure of the test rig is a failed test")]

#[path = "support/lone_rig.rs"]
#[allow(dead_code, reason = "the tests of recording use the rest of it")]
mod rig;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use chromiumoxide::cdp::browser_protocol::input::InsertTextParams;
use chromiumoxide::{Browser, Page};
use futures_util::StreamExt;
use rig::{ACCOUNT, DEADLINE, PASSWORD, Rig, Running};
use serde_json::json;
use snapfleet_broker::{Broker, BrokerConfig, ensure_streams, put_key};
use snapfleet_protocol::AccountId;
use snapfleet_protocol::stream::ACCOUNTS_PREFIX;
use snapfleet_testkit::{TestBroker, eventually};
use snapfleet_worker::session::key::new_key;
use snapfleet_worker::session::seal::{open_session, seal_session, seal_setting};
use snapfleet_worker::session::store::load;
use snapfleet_worker::session::{FleetKey, SessionState};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// A screen, gone when dropped.
struct Screen {
    process: Child,
    display: String,
}

impl Screen {
    fn start() -> Option<Self> {
        let xvfb = Command::new("Xvfb")
            .args(["-displayfd", "1", "-screen", "0", "1280x1024x24", "-nolisten", "tcp"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut process) = xvfb else {
            eprintln!("Xvfb is not installed: the login is tested without a window");
            return None;
        };
        let mut number = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut number).unwrap();
        Some(Self { process, display: format!(":{}", number.trim()) })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The rig with a broker that knows the account, whose password is sealed.
struct Fleet {
    rig: Rig,
    server: TestBroker,
    broker: Broker,
    key: FleetKey,
    account: AccountId,
    screen: Option<Screen>,
}

impl Fleet {
    async fn start() -> Self {
        let (rig, server) = (Rig::start().await, TestBroker::start());
        let master = connect(&server, "master").await;
        ensure_streams(&master, 1).await.unwrap();
        let (text, account) = (new_key().unwrap(), AccountId::parse(&format!("demo.{ACCOUNT}")).unwrap());
        let key = FleetKey::parse(&text, "the test's").unwrap();
        std::fs::write(rig.path("key"), &text).unwrap();
        std::fs::set_permissions(rig.path("key"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();
        let password = seal_setting(&key, &account, "password", PASSWORD).unwrap();
        let settings = json!({ "base_url": rig.base, "username": ACCOUNT, "password": password });
        let entry = json!({ "state": "active", "settings": settings }).to_string();
        put_key(&master, format!("{ACCOUNTS_PREFIX}{account}"), entry.into(), None).await.unwrap();
        let broker = connect(&server, "worker").await;
        Self { rig, server, broker, key, account, screen: Screen::start() }
    }

    /// The program with everything that it needs.
    fn worker(&self, arguments: &[&str]) -> Command {
        let mut command = self.rig.worker(arguments);
        command
            .env("NATS_URL", self.server.url())
            .env("SNAPFLEET_NATS_PASSWORD", TestBroker::password("worker"))
            .env("SNAPFLEET_SESSION_KEY_FILE", self.rig.path("key"));
        command
    }

    /// The login, in a window if there is a screen.
    fn log_in(&self) -> Running {
        let mut command = self.worker(&["login", &self.account.to_string()]);
        match &self.screen {
            Some(screen) => command.env("DISPLAY", &screen.display),
            None => command.arg("--headless"),
        };
        Running::start(&mut command)
    }

    /// What is stored, newest first.
    async fn stored(&self) -> Vec<(u64, SessionState)> {
        let kept = load(&self.broker, &self.account).await.unwrap();
        kept.versions
            .iter()
            .map(|(_, bytes)| open_session(&self.key, &self.account, bytes).unwrap())
            .collect()
    }

    async fn store(&self, key: &FleetKey, epoch: u64, name: &str) -> Bytes {
        let mut state = SessionState::default();
        state.local.insert("https://a.example".into(), format!("[[\"name\",\"{name}\"]]"));
        let sealed = seal_session(key, &self.account, epoch, &state).unwrap();
        put_key(&self.broker, format!("$KV.sessions.{}", self.account), sealed.clone(), None).await.unwrap();
        sealed
    }
}

async fn connect(server: &TestBroker, user: &str) -> Broker {
    let config = BrokerConfig {
        url: server.url(),
        user: user.to_owned(),
        password: TestBroker::password(user).to_owned(),
        name: format!("test {user}"),
    };
    Broker::connect(&config, &CancellationToken::new()).await.unwrap()
}

/// A person at the window that the program has opened.
struct Person {
    page: Page,
    browser: Browser,
    _polling: AbortOnDropHandle<()>,
}

impl Person {
    async fn sits_down(folder: &Path) -> Self {
        let address = eventually(DEADLINE, "a browser is there", async || {
            let profiles = std::fs::read_dir(folder).ok()?.flatten();
            let port = profiles
                .map(|profile| profile.path().join("DevToolsActivePort"))
                .find(|port| port.exists())?;
            let text = std::fs::read_to_string(port).ok()?;
            let (port, path) = text.trim().split_once('\n')?;
            Some(format!("ws://127.0.0.1:{port}{path}"))
        })
        .await;
        let (mut browser, mut handler) = Browser::connect(address).await.unwrap();
        let polling =
            AbortOnDropHandle::new(tokio::spawn(async move { while handler.next().await.is_some() {} }));
        browser.fetch_targets().await.unwrap();
        let page = eventually(DEADLINE, "the login form is shown", async || {
            for page in browser.pages().await.ok()? {
                if page.find_element("form#login").await.is_ok() {
                    return Some(page);
                }
            }
            None
        })
        .await;
        Self { page, browser, _polling: polling }
    }

    async fn types(&self, field: &str, text: &str) {
        let field = self.page.find_element(format!("form#login input[name={field}]")).await.unwrap();
        field.click().await.unwrap();
        self.page.execute(InsertTextParams::new(text)).await.unwrap();
    }

    async fn logs_in(&self) {
        self.types("username", ACCOUNT).await;
        self.types("password", PASSWORD).await;
        self.page.find_element("form#login button[type=submit]").await.unwrap().click().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_by_hand_goes_to_the_fleet_and_is_used_without_another() {
    let fleet = Fleet::start().await;
    fleet.store(&fleet.key, 7, "an old one").await;
    let running = fleet.log_in();
    let person = Person::sits_down(&fleet.rig.path("snapfleet-browser-0")).await;
    assert!(fleet.rig.logins().is_empty(), "the form was filled in by nobody");
    person.logs_in().await;
    let (code, said) = running.end().await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("its session is stored") && said.contains("/creator/inbox"), "{said}");
    assert!(!said.contains(PASSWORD), "{said}");
    let stored = fleet.stored().await;
    let (epoch, state) = &stored[0];
    assert_eq!((stored.len(), *epoch), (2, 7), "it is the newest, of the highest epoch");
    assert!(state.cookies.iter().any(|cookie| cookie.get("name") == Some(&json!("demo_sid"))), "{state:?}");
    assert!(!state.local.is_empty() && state.tabs.contains_key("inbox"), "{state:?}");

    // Whoever has the fleet's key goes on with it.
    let har = fleet.rig.path("a.har");
    let out = har.display().to_string();
    let arguments = ["platform", "record", "demo", "--account", ACCOUNT, "--headless", "--out", &out];
    let recording = Running::start(&mut fleet.worker(&arguments));
    eventually(DEADLINE, "the account's works are recorded", async || {
        std::fs::read_to_string(&har).ok().filter(|text| text.contains("/api/v1/creator/item/list/"))
    })
    .await;
    recording.interrupt();
    let (code, said) = recording.end().await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(fleet.rig.logins().len(), 1, "nobody has logged in again");
    assert_eq!(fleet.stored().await.len(), 2, "a recording stores no session");
    let text = std::fs::read_to_string(&har).unwrap();
    let value = state.cookies.iter().find(|cookie| cookie.get("name") == Some(&json!("demo_sid")));
    let value = value.and_then(|cookie| cookie.get("value")).and_then(|value| value.as_str()).unwrap();
    assert!(!text.contains(value) && !text.contains(PASSWORD));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_given_up_stores_nothing_and_says_so() {
    let fleet = Fleet::start().await;
    let folder = fleet.rig.path("snapfleet-browser-0");
    let said_nothing = |code: Option<i32>, said: &str, why: &str| {
        assert!(
            code == Some(1) && said.contains(why) && said.contains("nothing is stored"),
            "{code:?} {said}"
        );
    };
    let running = fleet.log_in();
    let person = Person::sits_down(&folder).await;
    running.interrupt();
    let (code, said) = running.end().await;
    drop(person);
    said_nothing(code, &said, "told to stop");

    let running = fleet.log_in();
    let person = Person::sits_down(&folder).await;
    person.page.close().await.unwrap();
    let (code, said) = running.end().await;
    said_nothing(code, &said, "closed");

    let running = fleet.log_in();
    let mut person = Person::sits_down(&folder).await;
    let _ = person.browser.close().await;
    let (code, said) = running.end().await;
    said_nothing(code, &said, "the browser was closed");
    assert!(fleet.stored().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_logged_in_is_refused_before_a_window_opens() {
    let fleet = Fleet::start().await;
    let refused = async |command: &mut Command, says: &str| {
        let (code, said) = Running::start(command).end().await;
        assert!(code == Some(64) && said.contains(says), "{code:?} {said:?} does not say {says:?}");
    };
    let account = fleet.account.to_string();
    refused(&mut fleet.worker(&["login", &account]), "\"Log in\"").await;
    refused(&mut fleet.worker(&["login", "demo.nobody", "--headless"]), "accounts add").await;
    refused(&mut fleet.rig.worker(&["login", &account, "--headless"]), "--session-key-file").await;
    let other = FleetKey::parse(&new_key().unwrap(), "another").unwrap();
    let theirs = fleet.store(&other, 3, "theirs").await;
    refused(&mut fleet.worker(&["login", &account, "--headless"]), &other.id().to_string()).await;
    assert_eq!(load(&fleet.broker, &fleet.account).await.unwrap().versions[0].1, theirs);
    let manifest = fleet.rig.path("platforms/demo/platform.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let (before, rest) = text.split_once("[login]").unwrap();
    let (_, after) = rest.split_once("[[capture]]").unwrap();
    std::fs::write(&manifest, format!("{before}[[capture]]{after}")).unwrap();
    refused(&mut fleet.worker(&["login", &account, "--headless"]), "has no [login]").await;
    assert!(fleet.rig.logins().is_empty());
}
