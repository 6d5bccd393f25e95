//! What a bad setting gets: one line that names the thing and the remedy, a code that is not zero, and nothing started.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use async_nats::ConnectOptions;
use async_nats::jetstream::stream;
use snapfleet_testkit::process::{Process, binary, free_port};
use snapfleet_testkit::{Proxy, TestBroker, eventually, workspace};

fn platforms() -> PathBuf {
    workspace().join("platforms")
}

fn worker(dir: &Path, platforms: &Path, url: &str, user: &str, password: &str) -> Command {
    let mut command = Command::new(binary("snapfleet-worker"));
    command.arg("run").arg("--platforms").arg(platforms).arg("--state-dir").arg(dir.join("state"));
    command.args(["--nats-url", url, "--nats-user", user]);
    command.env("SNAPFLEET_NATS_PASSWORD", password).env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

fn master(dir: &Path, url: &str, user: &str, password: &str) -> Command {
    let mut command = Command::new(binary("snapfleet-master"));
    command.arg("run").arg("--store").arg(dir.join("master.redb"));
    command.args(["--listen", &format!("127.0.0.1:{}", free_port()), "--nats-url", url, "--nats-user", user]);
    command.env("SNAPFLEET_NATS_PASSWORD", password).env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

async fn run(mut command: Command) -> Output {
    let ended = tokio::task::spawn_blocking(move || command.output().unwrap());
    tokio::time::timeout(Duration::from_secs(60), ended).await.expect("it ends by itself").unwrap()
}

/// It failed, and its last line names all of `named`.
#[track_caller]
fn assert_refused(output: &Output, named: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "accepted: {said}");
    let last = said.lines().last().unwrap_or_default();
    for name in named {
        assert!(last.contains(name), "{last:?} does not name {name:?}; all: {said}");
    }
}

#[tokio::test]
async fn settings_of_a_worker_are_checked_before_anything_starts() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = "nats://127.0.0.1:1";
    let open_key = dir.path().join("open.key");
    std::fs::write(&open_key, "5a".repeat(32)).unwrap();
    for (arguments, named) in [
        (vec!["--label", "region"], vec!["region", "name=value"]),
        (vec!["--session-key-file", open_key.to_str().unwrap()], vec!["open.key", "600"]),
        (vec!["--session-key-file", "/nowhere/key"], vec!["/nowhere/key"]),
        (vec!["--chrome", "/nowhere/chromium"], vec!["/nowhere/chromium"]),
        (vec!["--nats-url", "nats://user:secret@127.0.0.1:1"], vec!["SNAPFLEET_NATS_PASSWORD"]),
    ] {
        let mut command = Command::new(binary("snapfleet-worker"));
        command.arg("run").arg("--platforms").arg(platforms());
        command.arg("--state-dir").arg(dir.path().join("state"));
        command.env("SNAPFLEET_NATS_PASSWORD", "x").args(&arguments);
        let said = run(command).await;
        let text = String::from_utf8_lossy(&said.stderr).into_owned();
        assert_eq!(said.status.code(), Some(64), "{arguments:?}: {text}");
        assert!(named.iter().all(|name| text.contains(name)), "{text:?} does not name {named:?}");
        assert!(!text.contains("5a5a") && !text.contains("user:secret"), "{text}");
    }
    let empty = dir.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    for folder in [empty, dir.path().join("none")] {
        let refused = run(worker(dir.path(), &folder, nowhere, "worker", "x")).await;
        assert_refused(&refused, &[folder.to_str().unwrap(), "--platforms"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_with_one_id_are_refused_but_a_restart_is_not() {
    let broker = TestBroker::start();
    let dir = tempfile::tempdir().unwrap();
    let password = TestBroker::password("master");
    let mut master = Process::start(
        &mut master(dir.path(), &broker.url(), "master", password),
        &dir.path().join("master.log"),
    );
    let named = |state: &str| {
        let mut command = Command::new(binary("snapfleet-worker"));
        command.args(["simulate", "--worker-id", "twin", "--nats-url", &broker.url()]);
        command.arg("--state-dir").arg(dir.path().join(state));
        command.env("SNAPFLEET_NATS_PASSWORD", TestBroker::password("worker")).env("NO_COLOR", "1");
        command.stdin(Stdio::null());
        command
    };
    let started = |process: &mut Process| {
        assert_eq!(process.exit_code(), None, "{}", process.log());
        process.log().contains("worker starts").then_some(())
    };
    let log = dir.path().join("one.log");
    let mut one = Process::start(&mut named("one"), &log);
    eventually(Duration::from_secs(20), "the first starts", async || started(&mut one)).await;
    // Of two that start before either has a heartbeat, any one may be refused.
    eventually(Duration::from_secs(20), "its heartbeat is stored", async || {
        master.log().contains("worker online").then_some(())
    })
    .await;
    assert_refused(&run(named("two")).await, &["twin", "--worker-id"]);
    let same_state = run(named("one")).await;
    assert_eq!(same_state.status.code(), Some(64));
    assert_refused(&same_state, &["state_dir", "its own"]);
    // As by a copied disk: the folder names a start that still runs.
    std::fs::create_dir(dir.path().join("copy")).unwrap();
    for file in ["worker-id", "instance"] {
        std::fs::copy(dir.path().join("one").join(file), dir.path().join("copy").join(file)).unwrap();
    }
    assert_refused(&run(named("copy")).await, &["twin", "--worker-id"]);
    one.kill();
    let mut again = Process::start(&mut named("one"), &log);
    eventually(Duration::from_secs(6), "a restart starts soon", async || started(&mut again)).await;
    again.kill();
    let mut elsewhere = Process::start(&mut named("two"), &dir.path().join("two.log"));
    eventually(Duration::from_secs(15), "so does one elsewhere, once the first is gone", async || {
        started(&mut elsewhere)
    })
    .await;
    assert_eq!(master.exit_code(), None, "{}", master.log());
}

#[tokio::test]
async fn a_broken_filter_is_named_with_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    let from = workspace().join("platforms/isso");
    std::fs::create_dir_all(dir.path().join("isso")).unwrap();
    for file in std::fs::read_dir(from).unwrap().flatten().filter(|file| file.path().is_file()) {
        std::fs::copy(file.path(), dir.path().join("isso").join(file.file_name())).unwrap();
    }
    std::fs::write(dir.path().join("isso/thread.jq"), "# fine\n.replies[] | {kind: \"comment\", id: }\n")
        .unwrap();
    let refused = run(worker(dir.path(), dir.path(), "nats://127.0.0.1:1", "worker", "x")).await;
    assert_eq!(refused.status.code(), Some(64));
    assert_refused(&refused, &["thread.jq:2:"]);
}

#[tokio::test]
async fn a_broker_that_refuses_is_named_with_the_remedy() {
    let broker = TestBroker::start();
    let dir = tempfile::tempdir().unwrap();
    let url = broker.url();
    let wrong = run(worker(dir.path(), &platforms(), &url, "worker", "wrong")).await;
    assert_refused(&wrong, &[&url, "worker", "SNAPFLEET_NATS_PASSWORD"]);
    let wrong = run(master(dir.path(), &url, "master", "wrong")).await;
    assert_refused(&wrong, &[&url, "master", "SNAPFLEET_NATS_PASSWORD"]);
    let powerless = run(master(dir.path(), &url, "operator", TestBroker::password("operator"))).await;
    assert_refused(&powerless, &["SNAPSHOTS", "nats.conf"]);
}

/// One that keeps leases in memory would forget who holds what.
#[tokio::test]
async fn a_bucket_with_settings_that_cannot_be_mended_is_named_with_the_remedy() {
    let broker = TestBroker::start();
    let password = TestBroker::password("master");
    let options = ConnectOptions::with_user_and_password("master".to_owned(), password.to_owned());
    let options = options.custom_inbox_prefix("_INBOX_master");
    let jetstream = async_nats::jetstream::new(options.connect(broker.url()).await.unwrap());
    let made = jetstream.create_stream(stream::Config {
        name: "KV_leases".to_owned(),
        subjects: vec!["$KV.leases.>".to_owned()],
        storage: stream::StorageType::Memory,
        ..stream::Config::default()
    });
    made.await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let refused = run(master(dir.path(), &broker.url(), "master", password)).await;
    assert_refused(&refused, &["KV_leases", "nats stream rm"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_broker_is_refused() {
    let broker = TestBroker::start();
    let wire = Proxy::start(&broker.address()).await;
    let version = version_of(&broker).await;
    // The real server, but for what it says of its age.
    let old: String = version.replacen("2.1", "2.0", 1);
    wire.replace_in_answers(&format!("\"version\":\"{version}\""), &format!("\"version\":\"{old}\""));
    let dir = tempfile::tempdir().unwrap();
    let url = wire.url();
    let refused = run(worker(dir.path(), &platforms(), &url, "worker", TestBroker::password("worker"))).await;
    assert_refused(&refused, &[&url, &old, "2.14.0"]);
    let refused = run(master(dir.path(), &url, "master", TestBroker::password("master"))).await;
    assert_refused(&refused, &[&url, &old, "2.14.0"]);
}

async fn version_of(broker: &TestBroker) -> String {
    let url = format!("{}/varz", broker.monitor_url());
    let varz: serde_json::Value = reqwest::get(url).await.unwrap().json().await.unwrap();
    varz["version"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_broker_is_named_and_tried_again_until_told_to_stop() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("nats://127.0.0.1:{}", free_port());
    let mut parts = [
        Process::start(
            &mut worker(dir.path(), &platforms(), &url, "worker", "x"),
            &dir.path().join("worker.log"),
        ),
        Process::start(&mut master(dir.path(), &url, "master", "x"), &dir.path().join("master.log")),
    ];
    for part in &mut parts {
        eventually(Duration::from_secs(20), "two attempts are told with the address", async || {
            let log = part.log();
            let told =
                log.lines().filter(|line| line.contains("broker cannot be reached") && line.contains(&url));
            (told.count() >= 2).then_some(())
        })
        .await;
        assert_eq!(part.exit_code(), None, "it gave up: {}", part.log());
        part.signal("TERM");
        eventually(Duration::from_secs(20), "it stops when told", async || part.exit_code()).await;
    }
}
