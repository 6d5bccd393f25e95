//! Accounts that no stored password logs in: the login page of a headless worker is looked at and typed into from the
//! master, a code on it is scanned, and what is not logged in is shown as such and never taken for "nothing new".

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "login/afar.rs"]
mod afar;
#[path = "support/broker.rs"]
mod broker;
#[path = "login/page.rs"]
mod page;
#[path = "support/person.rs"]
mod person;
#[path = "login/typed.rs"]
mod typed;
#[path = "login/undisturbed.rs"]
mod undisturbed;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use snapfleet_broker::Broker;
use snapfleet_protocol::AccountId;
use snapfleet_testkit::system::{FLEET_KEY, Setup, System};
use snapfleet_testkit::{TestBroker, eventually};
use snapfleet_worker::session::FleetKey;
use snapfleet_worker::session::store::{load, open_all};

use afar::Afar;
use broker::as_worker;

const ACCOUNT: &str = "demo.shop-a";
const NAME: &str = "shop-a";
/// Pages are loaded anew this often, if nobody logs in by hand.
const REFRESH_S: u32 = 2;
/// How long an account may take to get from one state to the next, a browser's start included.
const STATE_WITHIN: Duration = Duration::from_secs(40);
/// How long a page that stands, or is loaded anew in a moment, may take to be noticed as logged in or out, and shown
/// by the master.
const NOTICED_WITHIN: Duration = Duration::from_secs(REFRESH_S as u64 + 6);
/// How long the store may take until it shows all that was served.
const STORED_WITHIN: Duration = Duration::from_secs(60);

/// One account without a password, on a site that shows a code to scan, once it was found logged out.
async fn logged_out_system() -> System {
    let setup = Setup {
        workers: vec![vec![NAME]],
        events_per_minute: 0.0,
        qr_login: true,
        refresh_s: Some(REFRESH_S),
        ..Setup::default()
    };
    let system = System::start(TestBroker::start(), setup).await;
    wait_for_state(&system, "logged_out", STATE_WITHIN).await;
    system
}

async fn wait_for_state(system: &System, state: &str, deadline: Duration) -> Value {
    eventually(deadline, &format!("{ACCOUNT} is {state}"), async || {
        let shown = system.try_api(&format!("accounts/{ACCOUNT}")).await?;
        (shown["state"] == state).then_some(shown)
    })
    .await
}

/// How many sessions the site has opened for the account.
async fn logins(system: &System) -> usize {
    system.site_control().logins(NAME).await.len()
}

/// How often the site has served its login page.
async fn login_pages(system: &System) -> u64 {
    system.site_control().login_page(NAME).await["loads"].as_u64().unwrap()
}

fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

fn fleet_key() -> FleetKey {
    FleetKey::parse(&format!("{FLEET_KEY:02x}").repeat(32), "the test").unwrap()
}

/// Waits until a session of the account is stored with all that the site's page keeps.
async fn wait_for_stored_session(broker: &Broker) {
    let (key, id) = (fleet_key(), AccountId::parse(ACCOUNT).unwrap());
    eventually(Duration::from_secs(15), "the session is stored", async || {
        let newest = open_all(&key, &id, &load(broker, &id).await.ok()?).candidates.into_iter().next()?;
        let has_cookie = newest.cookies.iter().any(|cookie| cookie["name"] == "demo_sid");
        (has_cookie && !newest.local.is_empty() && !newest.tabs.is_empty()).then_some(())
    })
    .await;
}

/// Ends every session of the account on the site, and waits until that is noticed and shown.
async fn expire(system: &System) -> Value {
    let (before, sessions) = (now_ms(), logins(system).await);
    system.control(&format!("{NAME}/expire")).await;
    let shown = wait_for_state(system, "logged_out", NOTICED_WITHIN).await;
    let since = shown["since"].as_i64().unwrap();
    assert!((before..=now_ms()).contains(&since), "logged out since {since}, not since {before}: {shown}");
    assert_eq!(logins(system).await, sessions, "it logged in by itself");
    shown
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_is_shown_from_afar_and_scanned_and_an_ended_session_is_noticed_within_a_cycle() {
    let mut system = logged_out_system().await;
    says_that_it_is_logged_out(&system).await;
    the_code_stands_still_while_somebody_looks(&system).await;

    let afar = Afar::of(&system);
    let scanned = Instant::now();
    system.control(&format!("{NAME}/scan")).await;
    // Somebody looks all the time, as the master's page does: that puts nothing off, nor has it to wait for long.
    let scene = eventually(NOTICED_WITHIN, "who looks sees that it is logged in", async || {
        let scene = afar.look("code").await;
        (scene["logged_in"] == true).then_some(scene)
    })
    .await;
    assert!(scene["picture"].is_null() && scene["pending_until"].is_null(), "{scene}");
    eprintln!("told {:?} after the scan", scanned.elapsed());
    wait_for_state(&system, "capturing", NOTICED_WITHIN).await;
    eprintln!("capturing {:?} after the scan", scanned.elapsed());
    let records = system.wait_for_equality(STORED_WITHIN).await;
    assert_eq!(system.store(ACCOUNT).await.len(), records);

    // The session is the fleet's: the next start of the worker goes on with it.
    wait_for_stored_session(&as_worker(&system).await).await;
    let pages = system.site_control().pages(NAME).await;
    system.restart_worker(0);
    eventually(STATE_WITHIN, "its page is loaded again in the same session", async || {
        (system.site_control().pages(NAME).await > pages).then_some(())
    })
    .await;
    wait_for_state(&system, "capturing", STATE_WITHIN).await;
    assert_eq!(logins(&system).await, 1, "it was logged in anew");

    let shown = expire(&system).await;
    assert!(shown["reason"].as_str().unwrap().contains("log"), "{shown}");
    // Pages that show a login form are no capture that brought nothing.
    let captured = shown["last_captured"].clone();
    let loads = login_pages(&system).await;
    eventually(Duration::from_secs(20), "its page is loaded anew again and again", async || {
        (login_pages(&system).await > loads + 2).then_some(())
    })
    .await;
    let shown = wait_for_state(&system, "logged_out", NOTICED_WITHIN).await;
    assert_eq!(shown["last_captured"], captured, "something was captured while it was logged out");

    let missed = system.control(&format!("{NAME}/push?kind=message")).await;
    afar.look("code").await;
    system.control(&format!("{NAME}/scan")).await;
    wait_for_state(&system, "capturing", NOTICED_WITHIN).await;
    let missed = ("direct_message".to_owned(), missed["id"].as_str().unwrap().to_owned());
    eventually(STORED_WITHIN, "what came meanwhile is stored", async || {
        system.store(ACCOUNT).await.contains_key(&missed).then_some(())
    })
    .await;
    system.wait_for_equality(STORED_WITHIN).await;
    assert_eq!(logins(&system).await, 2);
}

/// The account, `status`, and what they tell to do about it.
async fn says_that_it_is_logged_out(system: &System) {
    let shown = system.api(&format!("accounts/{ACCOUNT}")).await;
    assert!((now_ms() - 60_000..=now_ms()).contains(&shown["since"].as_i64().unwrap()), "{shown}");
    assert!(shown["reason"].as_str().unwrap().contains("by hand"), "{shown}");
    assert!(shown["last_captured"].is_null(), "{shown}");
    let records = shown["records"].as_object().unwrap();
    assert!(!records.is_empty() && records.values().all(|count| *count == 0), "{shown}");
    let status = system.api("status").await;
    let problems = status["problems"].as_array().unwrap();
    let told = problems.iter().find(|problem| problem["account"] == ACCOUNT).unwrap_or_else(|| {
        panic!("status tells nothing of it: {status}");
    });
    assert_eq!((&told["state"], &told["since"]), (&"logged_out".into(), &shown["since"]), "{told}");
    let remedy = told["remedy"].as_str().unwrap();
    assert!(remedy.contains(&format!("snapfleet-worker login {ACCOUNT}")), "{remedy}");
    assert!(remedy.contains("master's page"), "{remedy}");
}

/// The page is loaded anew every few seconds until somebody looks at it, and again once they are gone.
async fn the_code_stands_still_while_somebody_looks(system: &System) {
    let (site, afar) = (system.site_control(), Afar::of(system));
    let loads = login_pages(system).await;
    eventually(Duration::from_secs(20), "nobody looks: the page is loaded anew", async || {
        (login_pages(system).await > loads).then_some(())
    })
    .await;

    let whole = afar.look("page").await;
    let page = afar::picture(&whole, "page");
    assert!(page.0 >= 640 && page.1 >= 400, "{page:?}");
    let before = site.login_page(NAME).await;
    let until = Instant::now() + Duration::from_secs(u64::from(REFRESH_S) * 4);
    while Instant::now() < until {
        let scene = afar.look("code").await;
        assert_eq!((&scene["logged_in"], &scene["has_code"]), (&false.into(), &true.into()), "{scene}");
        assert!(scene["pending_until"].as_i64().unwrap() > now_ms() + 60_000, "{scene}");
        assert!(scene["since"].is_i64() && scene["page"] == "inbox", "{scene}");
        let (width, height) = afar::picture(&scene, "code");
        assert!(width == height && width >= 200, "the code is {width} x {height}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(site.login_page(NAME).await, before, "the page was loaded while somebody looked at it");

    afar.leave().await;
    eventually(Duration::from_secs(20), "they are gone: the page is loaded anew", async || {
        (site.login_page(NAME).await["token"] != before["token"]).then_some(())
    })
    .await;
    // What they saw is worth nothing any more, what is seen now is.
    afar.look("code").await;
}
