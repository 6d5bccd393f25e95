//! Whoever logs in by hand keeps the page, whatever else would begin it anew; a page that is lost comes back at once.

use std::collections::HashMap;
use std::process::Command;
use std::time::{Duration, Instant};

use snapfleet_testkit::eventually;
use snapfleet_testkit::system::System;

use super::typed::store_another;
use super::{Afar, NAME, STATE_WITHIN, logged_out_system, logins, wait_for_state};

/// How long the files, the stored session and the other person get to disturb: two looks at the files and one into the
/// bucket of sessions, several times over.
const HELD_FOR: Duration = Duration::from_secs(15);
/// How long a page may take to be there again after its renderer has died.
const BACK_WITHIN: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_a_changed_platform_nor_a_stored_session_nor_who_leaves_takes_the_page_away() {
    let system = logged_out_system().await;
    let (site, afar) = (system.site_control(), Afar::of(&system));

    // A page that is lost is worth nothing to who has looked at it: it is not held back for minutes.
    afar.look("code").await;
    let lost = site.login_page(NAME).await;
    kill_renderers(&system);
    eventually(BACK_WITHIN, "the page is loaded anew", async || {
        (site.login_page(NAME).await["token"] != lost["token"]).then_some(())
    })
    .await;
    let scene = afar.look("code").await;
    assert!(scene["pending_until"].is_i64() && !scene["picture"].is_null(), "{scene}");

    let before = site.login_page(NAME).await;
    let file = system.platforms().join("demo/platform.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let changed = text.replace("{base_url}/creator/inbox", "{base_url}/creator/inbox?poll_s=2");
    assert_ne!(changed, text);
    std::fs::write(&file, changed).unwrap();
    store_another(&system).await;
    let until = Instant::now() + HELD_FOR;
    while Instant::now() < until {
        // Another person's dialog is closed beside this one.
        afar.leave().await;
        let scene = afar.look("code").await;
        assert_eq!(scene["logged_in"], false, "{scene}");
        assert_eq!(
            site.login_page(NAME).await,
            before,
            "the page was taken away while somebody looked at it"
        );
        tokio::time::sleep(Duration::from_millis(900)).await;
    }
    let log = system.workers[0].log();
    assert!(log.contains("platform is loaded anew") && !log.contains("the pages begin anew"), "{log}");

    afar.leave().await;
    let sessions = logins(&system).await;
    wait_for_state(&system, "capturing", STATE_WITHIN).await;
    assert_eq!(logins(&system).await, sessions, "it was logged in anew");
    eventually(STATE_WITHIN, "the changed platform is used once nobody logs in", async || {
        system.workers[0].log().contains("the pages begin anew").then_some(())
    })
    .await;
}

/// Kills the processes that show the pages of the only worker's browser.
fn kill_renderers(system: &System) {
    let profile = system.state_dir(0).join("browser").display().to_string();
    let shown = Command::new("ps").args(["-ww", "-eo", "pid=,ppid=,args="]).output().unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    let processes: HashMap<u32, (u32, &str)> = shown
        .lines()
        .filter_map(|line| {
            let (pid, rest) = line.trim_start().split_once(' ')?;
            let (parent, args) = rest.trim_start().split_once(' ')?;
            Some((pid.parse().ok()?, (parent.parse().ok()?, args)))
        })
        .collect();
    let is_ours = |pid: u32| {
        let above = std::iter::successors(Some(pid), |pid| processes.get(pid).map(|(parent, _)| *parent));
        above.take(8).any(|pid| processes.get(&pid).is_some_and(|(_, args)| args.contains(&profile)))
    };
    let renderers: Vec<String> = processes
        .iter()
        .filter(|(pid, (_, args))| args.contains("--type=renderer") && is_ours(**pid))
        .map(|(pid, _)| pid.to_string())
        .collect();
    assert!(!renderers.is_empty(), "no renderer of {profile} in {shown}");
    assert!(Command::new("kill").arg("-9").args(&renderers).status().unwrap().success());
}
