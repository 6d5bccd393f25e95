//! The page's login dialog in a real browser, with a stand-in for the account's holder: what a person does there
//! arrives, and the login page is looked at no more often and no longer than somebody sees it.
//!
//! With `SNAPFLEET_SCREENSHOTS=<folder>` it leaves pictures there, in both languages and themes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/person.rs"]
mod person;

use std::path::Path;
use std::process::Command as Program;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chromiumoxide::cdp::browser_protocol::emulation::{MediaFeature, SetEmulatedMediaParams};
use chromiumoxide::cdp::browser_protocol::page::CaptureScreenshotFormat;
use chromiumoxide::layout::Point;
use chromiumoxide::page::ScreenshotParams;
use chromiumoxide::{Browser, Page};
use futures_util::StreamExt;
use person::{evaluate, open, wait_until};
use serde_json::json;
use snapfleet_broker::{Broker, BrokerConfig, Outgoing, publish};
use snapfleet_protocol::stream::{HEARTBEAT_TTL_S, HELD_ACCOUNTS_KEY, WORKERS_PREFIX};
use snapfleet_protocol::{
    Command, CommandAnswer, Heartbeat, InstanceId, LoginInput, LoginKey, LoginPart, LoginPicture, LoginScene,
    PlatformName, Topic, UnixMs, WorkerId,
};
use snapfleet_testkit::process::{Process, binary, free_port};
use snapfleet_testkit::{TestBroker, eventually, sample};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

const DEADLINE: Duration = Duration::from_secs(40);
/// The account that is logged out, and the size of the picture of its page.
const ACCOUNT: &str = "demo.shop-a";
const SIZE: (u32, u32) = (1280, 800);
/// When the login of the pictures is pending until: the clock of the page shows it.
const MINUTES: i64 = 3 * 60_000;

/// What the stand-in answers, and what it was asked.
#[derive(Default)]
struct Desk {
    scene: Option<LoginScene>,
    code: String,
    page: String,
    refuses: Option<String>,
    answers_after: Duration,
    asked: Vec<Command>,
    /// Of each look when it came, and when it was answered.
    looks: Vec<(Instant, Option<Instant>)>,
}

impl Desk {
    fn answer(&self, command: &Command) -> CommandAnswer {
        if let (Some(reason), Command::LoginInput { .. }) = (&self.refuses, command) {
            return CommandAnswer::Refused { reason: reason.clone() };
        }
        let mut scene = self.scene.clone().unwrap();
        let code = scene.has_code && matches!(command, Command::LoginView { part: LoginPart::Code });
        let (part, (width, height), base64) = match code {
            true => (LoginPart::Code, (210, 210), &self.code),
            false => (LoginPart::Page, SIZE, &self.page),
        };
        let picture =
            LoginPicture { part, width, height, media_type: "image/png".into(), base64: base64.clone() };
        scene.picture = (!scene.logged_in).then_some(picture);
        CommandAnswer::Login(scene)
    }
}

/// A master with a logged-out account whose holder is a stand-in.
struct Alone {
    master: Process,
    url: String,
    desk: Arc<Mutex<Desk>>,
    _tasks: Vec<AbortOnDropHandle<()>>,
    _broker: TestBroker,
    _dir: tempfile::TempDir,
}

impl Alone {
    async fn start() -> Self {
        let (broker, dir) = (TestBroker::start(), tempfile::tempdir().unwrap());
        let listen = format!("127.0.0.1:{}", free_port());
        let mut master = Program::new(binary("snapfleet-master"));
        master.arg("run").arg("--store").arg(dir.path().join("master.redb")).args(["--listen", &listen]);
        master.args(["--nats-url", &broker.url()]);
        master.env("SNAPFLEET_NATS_PASSWORD", TestBroker::password("master"));
        let master = Process::start(&mut master, &dir.path().join("master.log"));
        let url = format!("http://{listen}");
        let http = reqwest::Client::new();
        eventually(DEADLINE, "the master takes the account", async || {
            let body = json!({ "account": ACCOUNT });
            let added = http.post(format!("{url}/api/v1/accounts")).json(&body).send().await.ok()?;
            added.status().is_success().then_some(())
        })
        .await;
        let config = BrokerConfig {
            url: broker.url(),
            user: "worker".to_owned(),
            password: TestBroker::password("worker").to_owned(),
            name: "stand-in".to_owned(),
        };
        let worker = Broker::connect(&config, &CancellationToken::new()).await.unwrap();
        let desk = Arc::new(Mutex::new(Desk::default()));
        let tasks = vec![
            AbortOnDropHandle::new(tokio::spawn(beat(worker.clone()))),
            AbortOnDropHandle::new(tokio::spawn(serve(worker, Arc::clone(&desk)))),
        ];
        Self { master, url, desk, _tasks: tasks, _broker: broker, _dir: dir }
    }

    fn desk<T>(&self, look: impl FnOnce(&mut Desk) -> T) -> T {
        look(&mut self.desk.lock().unwrap())
    }

    /// What was done on the page since the last time.
    fn inputs(&self) -> Vec<LoginInput> {
        let asked = self.desk(|desk| std::mem::take(&mut desk.asked));
        let inputs = asked.into_iter().filter_map(|command| match command {
            Command::LoginInput { input } => Some(input),
            _ => None,
        });
        inputs.collect()
    }

    async fn asked(&self, what: &str, wanted: impl Fn(&Desk) -> bool) {
        eventually(DEADLINE, what, async || self.desk(|desk| wanted(desk)).then_some(())).await;
    }
}

/// Says every second that a worker is online which holds the account, and that it is logged out.
async fn beat(worker: Broker) {
    let instance = InstanceId::parse("w1").unwrap();
    let heartbeat = Heartbeat {
        host: "host-1".to_owned(),
        platforms: vec![PlatformName::parse("demo").unwrap()],
        max_accounts: 2,
        holding: 1,
        ..Heartbeat::new(instance.clone(), WorkerId::parse("w").unwrap())
    };
    let health = json!({ "account": ACCOUNT, "state": "logged_out", "since": sample::BASE.0,
        "reason": "the page shows the login form", "epoch": 1, "published": 0, "captured": 0, "refused": 0,
        "capture_errors": 0, "pending": 0, "window": 0 });
    let held = json!({ "instance": instance, "at": 1, "accounts": [health] });
    loop {
        for (key, value) in
            [(String::new(), json!(heartbeat)), (format!(".{HELD_ACCOUNTS_KEY}"), held.clone())]
        {
            let outgoing = Outgoing {
                subject: format!("{WORKERS_PREFIX}{instance}{key}"),
                payload: serde_json::to_vec(&value).unwrap().into(),
                message_id: None,
                expected_last: None,
                ttl_s: Some(HEARTBEAT_TTL_S),
                headers: Vec::new(),
            };
            publish(&worker, &outgoing).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Answers each command on its own, as slowly as it is told.
async fn serve(worker: Broker, desk: Arc<Mutex<Desk>>) {
    let client = worker.client().clone();
    let mut commands = client.subscribe(Topic::Command.subject(&sample::account(ACCOUNT))).await.unwrap();
    while let Some(request) = commands.next().await {
        let command: Command = serde_json::from_slice(&request.payload).unwrap();
        let look = matches!(command, Command::LoginView { .. });
        let (answer, after, place) = {
            let mut desk = desk.lock().unwrap();
            desk.asked.push(command.clone());
            if look {
                desk.looks.push((Instant::now(), None));
            }
            (desk.answer(&command), desk.answers_after, desk.looks.len())
        };
        let (client, desk) = (client.clone(), Arc::clone(&desk));
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            if look {
                desk.lock().unwrap().looks[place - 1].1 = Some(Instant::now());
            }
            let json = serde_json::to_vec(&answer).unwrap();
            client.publish(request.reply.unwrap(), json.into()).await.unwrap();
        });
    }
}

/// A picture in base64, as a browser draws it.
async fn drawn(page: &Page, (width, height): (u32, u32), script: &str) -> String {
    let script = format!(
        "(() => {{ const c = document.createElement('canvas'); [c.width, c.height] = [{width}, {height}];
        const g = c.getContext('2d'); g.fillStyle = '#fff'; g.fillRect(0, 0, {width}, {height}); g.fillStyle = '#223';
        {script}; return c.toDataURL('image/png').split(',')[1]; }})()"
    );
    evaluate(page, &script).await.unwrap().as_str().unwrap().to_owned()
}

/// Where something is in the window.
async fn place(page: &Page, css: &str, x: f64, y: f64) -> Point {
    let script = format!(
        "(() => {{ const r = document.querySelector('{css}').getBoundingClientRect();
        return [r.left + r.width * {x}, r.top + r.height * {y}]; }})()"
    );
    let at = evaluate(page, &script).await.unwrap();
    Point::new(at[0].as_f64().unwrap(), at[1].as_f64().unwrap())
}

const OPENS: &str = r#"document.querySelector('#accounts button[data-login="demo.shop-a"]').click()"#;
const IS_OPEN: &str = "document.querySelector('#login-dialog')?.open === true";
const IS_CLOSED: &str = "document.querySelector('#login-dialog').open === false";
const SHOWN: &str = "(p => Boolean(p && !p.hidden && p.complete && p.naturalWidth))(document.querySelector('#login-picture'))";

/// The page of a master whose account is logged out, with a picture of its login page ready.
async fn logged_out(profile: &Path) -> (Alone, Browser, Page) {
    let alone = Alone::start().await;
    let (browser, page) = open(&format!("{}/?lang=en", alone.url), profile).await;
    let form =
        "g.font = '32px sans-serif'; g.fillText('Creator centre', 480, 200); g.strokeRect(320, 380, 640, 40);
        g.fillStyle = '#25e'; g.fillRect(320, 460, 640, 40)";
    let squares = "for (let i = 0; i < 441; i++) if ((i * 7919 + i * i * 31) % 5 < 2) \
        g.fillRect(10 * (i % 21), 10 * Math.floor(i / 21), 10, 10)";
    let (form, squares) = (drawn(&page, SIZE, form).await, drawn(&page, (210, 210), squares).await);
    let until = evaluate(&page, "Date.now()").await.unwrap().as_f64().unwrap();
    #[allow(clippy::cast_possible_truncation, reason = "a time in milliseconds fits")]
    let until = until as i64 + MINUTES;
    alone.desk(|desk| {
        (desk.page, desk.code) = (form, squares);
        desk.scene = Some(LoginScene {
            logged_in: false,
            since: Some(sample::BASE),
            reason: Some("the page shows the login form".to_owned()),
            page: "inbox".to_owned(),
            pending_until: Some(UnixMs(until)),
            has_code: false,
            picture: None,
        });
    });
    let button = r#"document.querySelector('#accounts button[data-login="demo.shop-a"]') !== null"#;
    wait_until(&page, "the logged-out account has a button", button).await;
    (alone, browser, page)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_is_logged_in_by_hand_from_the_page() {
    let profile = tempfile::tempdir().unwrap();
    let (alone, mut browser, page) = logged_out(profile.path()).await;
    evaluate(
        &page,
        "window.broken = 0; addEventListener('securitypolicyviolation', () => { window.broken += 1 })",
    )
    .await;
    let sentence = evaluate(&page, "document.querySelector('#sentence').textContent").await.unwrap();
    let sentence = sentence.as_str().unwrap();
    assert!(sentence.contains("not being captured: demo.shop-a logged out for"), "{sentence}");
    evaluate(&page, "location.hash = 'account=demo.shop-a'").await;
    let note =
        "document.querySelector('#threads-note').textContent.includes('nothing newer is being captured')";
    wait_until(&page, "its list does not read as nothing new", note).await;
    evaluate(&page, OPENS).await;
    wait_until(&page, "the picture shows", SHOWN).await;
    let stands = "document.querySelector('#login-stands').textContent.startsWith('Logged out since ')";
    wait_until(&page, "it says what stands", stands).await;
    wait_until(&page, "there is no code to choose", "document.querySelector('#login-tabs').hidden").await;

    // A click lands where it was made, in the picture's own pixels.
    page.click(place(&page, "#login-picture", 0.25, 0.5).await).await.unwrap();
    alone.asked("the click arrives", |desk| desk.asked.iter().any(is_input)).await;
    let inputs = alone.inputs();
    let [LoginInput::Click { x, y }] = inputs[..] else { panic!("{inputs:?}") };
    assert!(x.abs_diff(SIZE.0 / 4) <= 2 && y.abs_diff(SIZE.1 / 2) <= 2, "({x}, {y})");

    // Enter types and presses Enter; the button only types; nothing stays in the field.
    let field = page.find_element("#login-text").await.unwrap();
    field.click().await.unwrap().type_str("12j4").await.unwrap().press_key("Enter").await.unwrap();
    let two = |desk: &Desk| desk.asked.iter().filter(|command| is_input(command)).count() == 2;
    alone.asked("text and key arrive", two).await;
    assert_eq!(alone.inputs(), [LoginInput::Text("12j4".to_owned()), LoginInput::Key(LoginKey::Enter)]);
    let typed = "document.querySelector('#login-text').value = '漢'; true";
    evaluate(&page, typed).await.unwrap();
    page.find_element("#login-send").await.unwrap().click().await.unwrap();
    page.find_element("[data-key=backspace]").await.unwrap().click().await.unwrap();
    alone.asked("text and key arrive", two).await;
    assert_eq!(alone.inputs(), [LoginInput::Text("漢".to_owned()), LoginInput::Key(LoginKey::Backspace)]);
    wait_until(&page, "the field is empty", "document.querySelector('#login-text').value === ''").await;

    // What is refused says why, until something else is done.
    alone.desk(|desk| desk.refuses = Some("nothing has the focus".to_owned()));
    evaluate(&page, "document.querySelector('[data-key=tab]').click()").await;
    let said = "document.querySelector('#login-error').textContent.includes('nothing has the focus')";
    wait_until(&page, "the refusal shows", said).await;
    let looks = alone.desk(|desk| desk.looks.len());
    alone.asked("the page is looked at again", |desk| desk.looks.len() > looks + 1).await;
    wait_until(&page, "the refusal still shows", said).await;
    alone.desk(|desk| desk.refuses = None);

    alone.desk(|desk| (desk.asked.clear(), desk.scene.as_mut().unwrap().logged_in = true));
    wait_until(
        &page,
        "it is told",
        "document.querySelector('#login-stands').textContent.includes('is logged in')",
    )
    .await;
    wait_until(&page, "the dialog closes by itself", IS_CLOSED).await;
    assert!(alone.desk(|desk| !desk.asked.contains(&Command::LoginEnd {})));
    wait_until(&page, "the policy was kept to", "window.broken === 0").await;
    assert!(!alone.master.log().contains("12j4"));
    let _ = browser.close().await;
    let _ = browser.wait().await;
}

fn is_input(command: &Command) -> bool {
    matches!(command, Command::LoginInput { .. })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_is_looked_at_once_a_second_while_it_is_in_sight_and_ends_with_its_dialog() {
    let profile = tempfile::tempdir().unwrap();
    let (alone, mut browser, page) = logged_out(profile.path()).await;
    alone.desk(|desk| {
        (desk.scene.as_mut().unwrap().has_code, desk.answers_after) = (true, Duration::from_secs(2))
    });
    evaluate(&page, OPENS).await;
    wait_until(&page, "the dialog is open", IS_OPEN).await;
    wait_until(
        &page,
        "the code shows by itself",
        &format!("{SHOWN} && document.querySelector('#login-tab-code').ariaSelected === 'true'"),
    )
    .await;
    alone
        .asked("it is looked at three times", |desk| desk.looks.len() >= 3 && desk.looks[2].1.is_some())
        .await;
    for two in alone.desk(|desk| desk.looks.clone()).windows(2) {
        let answered = two[0].1.expect("no look begins before the one before it is answered");
        let pause = two[1].0.duration_since(answered);
        assert!(pause >= Duration::from_millis(900), "looked at again after {pause:?}");
    }
    // Many changes of mind are one look, once the one under way is answered.
    let toggles = "for (const part of ['page', 'code', 'page', 'code', 'page']) document.querySelector(`#login-tab-${part}`).click()";
    evaluate(&page, toggles).await;
    alone.desk(|desk| desk.answers_after = Duration::ZERO);
    wait_until(&page, "the page shows", "document.querySelector('#login-picture').naturalWidth === 1280")
        .await;
    let unanswered =
        alone.desk(|desk| desk.looks.windows(2).any(|two| two[0].1.is_none_or(|at| at > two[1].0)));
    assert!(!unanswered, "two looks were under way at once");

    let hide = "Object.defineProperty(document, 'hidden', { configurable: true, get: () => true }); document.dispatchEvent(new Event('visibilitychange'))";
    evaluate(&page, hide).await;
    alone.asked("what is under way is answered", |desk| desk.looks.iter().all(|look| look.1.is_some())).await;
    let looks = alone.desk(|desk| desk.looks.len());
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(alone.desk(|desk| desk.looks.len()), looks, "it is looked at although nobody sees it");
    evaluate(&page, "delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))").await;
    alone.asked("it is looked at again", |desk| desk.looks.len() > looks).await;

    wait_until(&page, "the picture shows", SHOWN).await;
    evaluate(&page, "window.last = document.querySelector('#login-picture').src").await;
    page.find_element("#login-close").await.unwrap().press_key("Escape").await.unwrap();
    wait_until(&page, "the dialog is closed", IS_CLOSED).await;
    alone.asked("the login is over", |desk| desk.asked.contains(&Command::LoginEnd {})).await;
    evaluate(&page, "window.gone = false; (i => { i.onerror = () => { window.gone = true }; i.src = window.last })(new Image())").await;
    wait_until(&page, "the picture is revoked", "window.gone").await;
    wait_until(
        &page,
        "nothing of it is left",
        "!document.querySelector('#login-picture').hasAttribute('src')",
    )
    .await;
    let looks = alone.desk(|desk| desk.looks.len());
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(alone.desk(|desk| desk.looks.len()), looks, "it is looked at although it is closed");
    picture_all(&alone, &page).await;
    let _ = browser.close().await;
    let _ = browser.wait().await;
}

/// Leaves pictures of the dialog in both languages and themes.
async fn picture_all(alone: &Alone, page: &Page) {
    if std::env::var_os("SNAPFLEET_SCREENSHOTS").is_none() {
        return;
    }
    for language in ["en", "zh"] {
        for theme in ["light", "dark"] {
            let feature = MediaFeature { name: "prefers-color-scheme".into(), value: theme.into() };
            let media = SetEmulatedMediaParams::builder().features(vec![feature]).build();
            page.execute(media).await.unwrap();
            page.goto("about:blank").await.unwrap(); // else it may be the same document
            page.goto(format!("{}/?lang={language}#account={ACCOUNT}", alone.url)).await.unwrap();
            wait_until(page, "there is a button", "document.querySelector('#threads-note button') !== null")
                .await;
            evaluate(page, "document.querySelector('#problems').open = true").await;
            screenshot(page, &format!("out-{language}-{theme}.png")).await;
            for (has_code, part) in [(true, "code"), (false, "page")] {
                alone.desk(|desk| desk.scene.as_mut().unwrap().has_code = has_code);
                evaluate(page, OPENS).await;
                wait_until(page, "the picture shows", SHOWN).await;
                screenshot(page, &format!("login-{part}-{language}-{theme}.png")).await;
                evaluate(page, "document.querySelector('#login-close').click()").await;
            }
        }
    }
}

async fn screenshot(page: &Page, name: &str) {
    let Some(dir) = std::env::var_os("SNAPFLEET_SCREENSHOTS") else { return };
    let params = ScreenshotParams::builder().format(CaptureScreenshotFormat::Png).build();
    page.save_screenshot(params, Path::new(&dir).join(name)).await.unwrap();
}
