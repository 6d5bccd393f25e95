//! Accounts with real pages that change their worker, lose the broker, are asked to capture at once, and end: what the
//! site sees of it, what the store holds after it, and what is shown of it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/broker.rs"]
mod broker;
#[path = "moves/commands.rs"]
mod commands;
#[path = "moves/ends.rs"]
mod ends;
#[path = "moves/outage.rs"]
mod outage;
#[path = "moves/sessions.rs"]
mod sessions;

use std::process::Output;
use std::time::Duration;

use serde_json::Value;
use snapfleet_broker::{Broker, Stored, read_subject};
use snapfleet_protocol::AccountId;
use snapfleet_protocol::stream::{SESSIONS_PREFIX, SESSIONS_STREAM, SNAPSHOTS};
use snapfleet_testkit::eventually;
use snapfleet_testkit::system::{FLEET_KEY, System};
use snapfleet_worker::session::FleetKey;
use snapfleet_worker::session::seal::open_session;

use broker::as_worker;

/// How long an account may take to get from one state to the next, pages included.
const STATE_WITHIN: Duration = Duration::from_secs(40);
/// How long the store may take until it shows all that was served.
const STORED_WITHIN: Duration = Duration::from_secs(60);

/// All messages of a subject, oldest first.
async fn messages(broker: &Broker, stream: &str, subject: &str) -> Vec<Stored> {
    let (mut all, mut from) = (Vec::new(), 1);
    loop {
        let (messages, pending) = read_subject(broker, stream, subject, from).await.unwrap();
        from = messages.last().map_or(from, |last| last.seq + 1);
        all.extend(messages);
        if pending == 0 {
            return all;
        }
    }
}

/// What the stream holds of an account, oldest first.
async fn snapshots(broker: &Broker, account: &str) -> Vec<Stored> {
    messages(broker, SNAPSHOTS, &format!("snapshot.{account}")).await
}

/// What the bucket holds of an account's session, oldest first: sequence and bytes.
async fn sealed_sessions(broker: &Broker, account: &str) -> Vec<(u64, Vec<u8>)> {
    let kept = messages(broker, SESSIONS_STREAM, &format!("{SESSIONS_PREFIX}{account}")).await;
    kept.into_iter().filter(|one| !one.is_gone()).map(|one| (one.seq, one.payload.to_vec())).collect()
}

/// Waits until an account's session is stored with all that the demo site's page keeps: its device in the local
/// storage, its tab in the session storage.
async fn wait_for_session(broker: &Broker, account: &str) {
    let key = FleetKey::parse(&format!("{FLEET_KEY:02x}").repeat(32), "the test").unwrap();
    let id = AccountId::parse(account).unwrap();
    eventually(Duration::from_secs(15), "the session is stored", async || {
        let (_, newest) = sealed_sessions(broker, account).await.pop()?;
        let (_, state) = open_session(&key, &id, &newest).unwrap();
        let whole = !(state.cookies.is_empty() || state.local.is_empty() || state.tabs.is_empty());
        whole.then_some(())
    })
    .await;
}

/// Waits until the master shows an account in this state, held by this worker if one is named.
async fn wait_for_state(system: &System, account: &str, state: &str, worker: Option<usize>) -> Value {
    let what = format!("{account} is {state} (at {worker:?})\n");
    eventually(STATE_WITHIN, &what, async || {
        let shown = system.try_api(&format!("accounts/{account}")).await?;
        let there = match worker {
            Some(worker) => holder(system, &shown).await? == worker,
            None => true,
        };
        (shown["state"] == state && there).then_some(shown)
    })
    .await
}

/// The number of the worker that an account is shown with.
async fn holder(system: &System, shown: &Value) -> Option<usize> {
    let status = system.try_api("status").await?;
    let holds = |worker: &&Value| worker["instance"] == shown["worker"];
    let worker = status["workers"]["list"].as_array()?.iter().find(holds)?;
    worker["worker"].as_str()?.strip_prefix('w')?.parse().ok()
}

/// Runs `snapfleet-master` against the running master.
async fn master(system: &System, args: &[&str]) -> Output {
    let mut command = system.master_command();
    command.args(args).env("SNAPFLEET_URL", system.master_url()).env("NO_COLOR", "1");
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// The same, which must succeed; returns what it printed.
async fn master_says(system: &System, args: &[&str]) -> String {
    let output = master(system, args).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// The same, which must fail with code 1 and one line that holds all of `named`.
async fn master_refuses(system: &System, args: &[&str], named: &[&str]) {
    let output = master(system, args).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
    let last = said.lines().last().unwrap_or_default();
    assert!(named.iter().all(|name| last.contains(name)), "{args:?}: {last:?} does not name {named:?}");
}

/// How many requests have carried the sessions of an account.
async fn requests(system: &System, account: &str) -> u64 {
    let logins = system.site_control().logins(account).await;
    logins.iter().filter_map(|login| login["requests"].as_u64()).sum()
}

/// Pushes a message to an account; how many of its open pages took it.
async fn reached(system: &System, account: &str) -> u64 {
    system.control(&format!("{account}/push?kind=message")).await["reached"].as_u64().unwrap()
}
