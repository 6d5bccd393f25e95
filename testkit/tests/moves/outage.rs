//! The broker goes away while pages go on receiving, and a worker dies meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use snapfleet_testkit::process::Process;
use snapfleet_testkit::system::{Key, Setup, SiteControl, System, Truths};
use snapfleet_testkit::{TestBroker, eventually};
use tokio::task::JoinHandle;

use super::{STORED_WITHIN, holder, wait_for_state};

const ACCOUNTS: [&str; 2] = ["shop-a", "shop-b"];
/// Pages are loaded anew this often, if they may be driven.
const REFRESH_S: u32 = 2;
const NEVER_S: u32 = 3_600;

fn is_long() -> bool {
    std::env::var_os("SNAPFLEET_TEST_LONG").is_some()
}

/// How long the broker is away.
fn away() -> Duration {
    Duration::from_secs(if is_long() { 600 } else { 20 })
}

/// Something that was pushed once to an account.
struct Pushed {
    account: &'static str,
    key: Key,
    reached: u64,
}

/// Pushes messages and comments, and edits among them, at a steady pace to the first so many of `accounts`.
fn push(site: SiteControl, accounts: [&'static str; 2], first: Arc<AtomicUsize>) -> JoinHandle<Vec<Pushed>> {
    tokio::spawn(async move {
        let mut pace = tokio::time::interval(Duration::from_millis(if is_long() { 500 } else { 50 }));
        let mut pushed = Vec::new();
        // No edits: a list that the page had asked for before one may reach it after, and then shows the older text until
        // the page asks again, which it cannot here.
        for kind in ["message", "comment"].into_iter().cycle() {
            let first = first.load(Ordering::SeqCst);
            if first == 0 {
                break;
            }
            for account in &accounts[..first] {
                pace.tick().await;
                let answer = site.post(&format!("{account}/push?kind={kind}")).await;
                let text = |name: &str| answer[name].as_str().unwrap().to_owned();
                let reached = answer["reached"].as_u64().unwrap();
                pushed.push(Pushed { account, key: (text("record"), text("id")), reached });
            }
        }
        pushed
    })
}

/// How many documents the site has served to each account. What they fetch is no sign of driving: a page whose push
/// channel ended opens it again and fetches its lists by itself.
async fn pages(system: &System) -> [u64; 2] {
    let mut pages = [0; 2];
    for (account, pages) in ACCOUNTS.into_iter().zip(&mut pages) {
        *pages = system.site_control().pages(account).await;
    }
    pages
}

/// Waits until no page is loaded any more, as it would be every few seconds if it might be driven.
async fn wait_until_left_alone(system: &System) -> [u64; 2] {
    eventually(Duration::from_secs(20), "the workers know that they may not act", async || {
        let doubts = |worker: &Process| worker.log().contains("the lease is in doubt");
        system.workers.iter().all(doubts).then_some(())
    })
    .await;
    let longer_than_a_refresh = Duration::from_secs(u64::from(REFRESH_S) + 3);
    eventually(Duration::from_secs(30), "the pages are left alone", async || {
        let before = pages(system).await;
        tokio::time::sleep(longer_than_a_refresh).await;
        (pages(system).await == before).then_some(before)
    })
    .await
}

/// What the site has served, once nothing is on its way to a page.
async fn settled_truths(system: &System) -> Truths {
    eventually(Duration::from_secs(30), "the pages ask for nothing more", async || {
        let before = system.truths().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        (system.truths().await == before).then_some(before)
    })
    .await
}

/// What the site has served to an account, and the store does not show so.
async fn unsent(system: &System, account: &str) -> Vec<Key> {
    let (served, stored) = (system.truth(account).await, system.store(&format!("demo.{account}")).await);
    let differing = served.into_iter().filter(|(key, record)| stored.get(key) != Some(record));
    differing.map(|(key, _)| key).collect()
}

/// Waits until this worker has on its disk what the site has served of these records.
async fn wait_until_on_disk(system: &System, worker: usize, account: &str, pushed: &[Key]) {
    let path = system.state_dir(worker).join(format!("outbox/demo.{account}.outbox"));
    let truth = system.truth(account).await;
    eventually(Duration::from_secs(20), "all that was pushed is in the outbox", async || {
        let bytes = std::fs::read(&path).unwrap_or_default();
        let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        let told = pushed.iter().flat_map(|key| [Some(key.1.as_str()), truth[key]["text"].as_str()]);
        told.flatten().all(holds).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_pages_receive_while_the_broker_is_away_arrives_and_no_page_is_driven_meanwhile() {
    let setup = Setup {
        workers: ACCOUNTS.map(|account| vec![account]).to_vec(),
        events_per_minute: 0.0,
        poll_s: NEVER_S,
        refresh_s: Some(REFRESH_S),
        ..Setup::default()
    };
    let mut system = System::start(TestBroker::start(), setup).await;
    system.wait_for_equality(STORED_WITHIN).await;
    let mut holders = [0; 2];
    for (account, held_by) in ACCOUNTS.into_iter().zip(&mut holders) {
        let shown = wait_for_state(&system, &format!("demo.{account}"), "capturing", None).await;
        *held_by = holder(&system, &shown).await.unwrap();
    }
    assert_eq!(holders, [0, 1]);
    let before = pages(&system).await;
    eventually(Duration::from_secs(20), "every page is loaded anew", async || {
        let now = pages(&system).await;
        now.iter().zip(&before).all(|(now, before)| now > before).then_some(())
    })
    .await;

    system.broker.kill();
    let gone = Instant::now();
    let first = Arc::new(AtomicUsize::new(2));
    let pushing = push(system.site_control(), ACCOUNTS, first.clone());
    let left_alone = wait_until_left_alone(&system).await;
    tokio::time::sleep((away() / 2).saturating_sub(gone.elapsed())).await;
    // From here on only the first account is pushed to; the holder of the second dies with all that it was pushed.
    first.store(1, Ordering::SeqCst);
    let victim = holders[1];
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    wait_until_on_disk(&system, victim, ACCOUNTS[1], &unsent(&system, ACCOUNTS[1]).await).await;
    system.restart_worker(victim);
    tokio::time::sleep(away().saturating_sub(gone.elapsed())).await;
    first.store(0, Ordering::SeqCst);
    let pushed = pushing.await.unwrap();
    assert_eq!(pages(&system).await, left_alone, "a page was driven");

    let served = settled_truths(&system).await;
    assert_eq!(pages(&system).await, left_alone, "a page was driven");
    for account in ACCOUNTS {
        let unsent = unsent(&system, account).await;
        let heard = pushed.iter().filter(|one| one.account == account && one.reached > 0);
        let heard = heard.filter(|one| unsent.contains(&one.key)).count();
        assert!(heard > 20, "only {heard} pushes to {account} were heard and are not stored yet");
    }
    // No page can be fetched: what arrives now comes from the workers alone.
    system.site.signal("STOP");
    system.broker.restart();
    system.wait_until_equal(STORED_WITHIN, async || served.clone()).await;
    system.site.signal("CONT");
    system.wait_for_equality(STORED_WITHIN).await;
    system.check_change_log().await;
    for (account, held_by) in ACCOUNTS.into_iter().zip(holders) {
        wait_for_state(&system, &format!("demo.{account}"), "capturing", Some(held_by)).await;
        assert_eq!(system.site_control().logins(account).await.len(), 1, "{account} was logged in anew");
    }
    let status = system.api("status").await;
    assert_eq!((&status["sync"]["rejected"], &status["sync"]["fenced"]), (&0.into(), &0.into()), "{status}");
}
