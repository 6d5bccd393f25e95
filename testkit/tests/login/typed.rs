//! A code by SMS typed from afar, and an account that goes on with a session that somebody else has stored.

use std::time::{Duration, Instant};

use serde_json::json;
use snapfleet_protocol::AccountId;
use snapfleet_testkit::eventually;
use snapfleet_testkit::system::System;
use snapfleet_worker::session::SessionState;
use snapfleet_worker::session::seal::seal_session;
use snapfleet_worker::session::store::{Saved, load, open_all, save};

use super::{
    ACCOUNT, Afar, NAME, NOTICED_WITHIN, STATE_WITHIN, STORED_WITHIN, afar, as_worker, expire, fleet_key,
    logged_out_system, login_pages, logins, wait_for_state,
};

/// Something that nobody was sent, and that stands in no log by chance.
const WRONG: &str = "q7-wrong-0x5d1";
/// How long a holder may take to go on with a session that was stored for its account.
const PICKED_UP_WITHIN: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_by_sms_is_typed_from_afar_and_a_session_from_elsewhere_is_picked_up() {
    let system = logged_out_system().await;
    let code = type_codes(&system).await;
    system.wait_for_equality(STORED_WITHIN).await;
    expire(&system).await;
    pick_up(&system).await;
    system.wait_for_equality(STORED_WITHIN).await;
    for text in [WRONG, &code] {
        stands_in_no_log(&system, text);
    }
}

/// A wrong code, and then the right one; returns that.
async fn type_codes(system: &System) -> String {
    let afar = Afar::of(system);
    let before = afar.look("page").await;
    let loads = login_pages(system).await;
    afar::picture(&before, "page");
    // To the field for the code: it is the first on the page that can be typed into.
    afar.key("tab").await;
    let typed = afar.text(WRONG).await;
    assert_ne!(typed["picture"]["base64"], before["picture"]["base64"], "what was typed does not show");
    afar.key("enter").await;
    let shown = async || afar.look("page").await["picture"]["base64"].clone();
    let refused = shown().await;
    assert_ne!(refused, typed["picture"]["base64"], "the refusal does not show");
    assert_eq!((logins(system).await, login_pages(system).await), (0, loads));
    wait_for_state(system, "logged_out", NOTICED_WITHIN).await;

    let sent = system.control(&format!("{NAME}/sms")).await;
    let code = sent["code"].as_str().unwrap().to_owned();
    // The site marks what was refused: typing replaces it.
    for key in ["backspace", "escape"] {
        afar.key(key).await;
    }
    afar.text(&code).await;
    afar.key("enter").await;
    wait_for_state(system, "capturing", NOTICED_WITHIN).await;
    assert_eq!(
        (logins(system).await, login_pages(system).await),
        (1, loads),
        "the page was loaded meanwhile"
    );
    code
}

/// What `snapfleet-worker login` stores, from a login that this test makes by itself.
pub(crate) async fn store_another(system: &System) {
    let broker = as_worker(system).await;
    let (key, id) = (fleet_key(), AccountId::parse(ACCOUNT).unwrap());
    let state = log_in_elsewhere(system).await;
    let kept = load(&broker, &id).await.unwrap();
    let epoch = open_all(&key, &id, &kept).epoch.max(1);
    let sealed = seal_session(&key, &id, epoch, &state).unwrap();
    let saved = save(&broker, &key, &id, epoch, &sealed, kept.last_seq).await.unwrap();
    assert!(matches!(saved, Saved::Stored(_)), "{saved:?}");
}

async fn pick_up(system: &System) {
    store_another(system).await;
    let stored = Instant::now();
    let sessions = logins(system).await;
    eventually(PICKED_UP_WITHIN, "the holder goes on with it", async || {
        let logins = system.site_control().logins(NAME).await;
        (logins.last()?["pages"].as_u64()? > 0).then_some(())
    })
    .await;
    eprintln!("picked up after {:?}", stored.elapsed());
    wait_for_state(system, "capturing", STATE_WITHIN).await;
    assert_eq!(logins(system).await, sessions, "it was logged in anew");
}

/// Logs in with the password that no worker has; the session as it is stored.
async fn log_in_elsewhere(system: &System) -> SessionState {
    let settings = system.demo_settings(NAME, "demo-secret");
    let (site, form) = (settings["base_url"].as_str().unwrap(), "username=shop-a&password=demo-secret");
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let request = http.post(format!("{site}/creator/login")).body(form);
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    let answer = request.send().await.unwrap();
    let cookie = answer.headers()["set-cookie"].to_str().unwrap();
    let token = cookie.strip_prefix("demo_sid=").unwrap().split(';').next().unwrap();
    let cookie = json!({
        "name": "demo_sid", "value": token, "domain": "127.0.0.1", "path": "/", "httpOnly": true,
        "secure": false, "sameSite": "Lax",
    });
    SessionState { cookies: vec![cookie.as_object().unwrap().clone()], ..SessionState::default() }
}

/// What was typed is in no line of worker and master; times are left out, whose digits are any.
pub(crate) fn stands_in_no_log(system: &System, text: &str) {
    let parts = [system.workers[0].log(), system.master.as_ref().unwrap().log()];
    for log in &parts {
        assert!(log.lines().count() > 3, "a log without lines: {log}");
        let told = log.lines().filter_map(|line| line.split_once(' ')).find(|(_, line)| line.contains(text));
        assert!(told.is_none(), "what was typed is in a log: {told:?}");
    }
    assert!(parts[0].contains("account is logged in"), "the worker's log tells nothing of the login");
}
