//! The built binary: what it prints, on which stream, and its exit codes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/batches.rs"]
#[allow(dead_code, reason = "shared by several tests, each of which needs a part")]
mod batches;

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use snapfleet_broker::{Broker, BrokerConfig, Outgoing, publish};
use snapfleet_protocol::stream::{HEARTBEAT_TTL_S, WORKERS_PREFIX};
use snapfleet_protocol::{Heartbeat, InstanceId, Snapshot, WorkerId, encode_snapshot};
use snapfleet_testkit::{TestBroker, sample};
use tokio_util::sync::CancellationToken;

/// How long a master may be silent.
const PATIENCE: Duration = Duration::from_secs(30);
/// A port that nothing listens on: the first of all, which needs rights that nobody has here.
const NO_MASTER: &str = "http://127.0.0.1:1";

fn master(args: &[&str], input: &[u8]) -> Output {
    master_with("very-secret", args, input)
}

fn master_with(password: &str, args: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_snapfleet-master"));
    for name in
        ["SNAPFLEET_STORE", "SNAPFLEET_URL", "SNAPFLEET_LISTEN", "SNAPFLEET_LOG", "RUST_LOG", "NATS_URL"]
    {
        command.env_remove(name);
    }
    command.env("SNAPFLEET_NATS_PASSWORD", password).env("http_proxy", "http://127.0.0.1:1");
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    // A process that refuses its arguments does not read.
    let _ = process.stdin.take().unwrap().write_all(input);
    process.wait_with_output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The one line on standard error.
fn complaint(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "not one line: {text:?}");
    text
}

fn snapshot(comments: u64) -> Snapshot {
    let mut snapshot = sample::snapshot(&sample::account("demo.a"), 1, 1);
    snapshot.comments = (1..=comments).map(|n| sample::comment(1, n, &format!("评论 {n}"))).collect();
    snapshot
}

/// A store at rest with one snapshot of 30 comments, one of them hostile to terminals, and one dead letter.
async fn store_in(dir: &Path) -> String {
    let store = batches::open(dir);
    let mut snapshot = snapshot(30);
    snapshot.comments[0].text = Some("\u{1b}[2J\u{9b}31m".to_owned());
    let mut garbage = batches::garbage(2, "snapshot.demo.a");
    garbage.headers = "X: \u{1b}[2J".to_owned();
    store.apply(batches::batch(0, vec![batches::delivery(1, &snapshot), garbage])).await.unwrap();
    store.close().await;
    dir.join("master.redb").to_str().unwrap().to_owned()
}

#[test]
fn decode_prints_plain_and_compressed_snapshots_as_json() {
    for comments in [0, 1, 200] {
        let snapshot = snapshot(comments);
        let bytes = encode_snapshot(&snapshot).unwrap();
        assert_eq!(bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]), comments == 200);
        let output = master(&["decode"], &bytes);
        assert!(output.status.success());
        let back: Snapshot = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(back, snapshot);
    }
}

#[test]
fn decode_answers_what_it_cannot_read_in_one_line_of_json() {
    let whole = encode_snapshot(&snapshot(200)).unwrap();
    for bad in [&b""[..], b"garbage", &whole[..whole.len() / 2], &[0x28, 0xb5, 0x2f, 0xfd, 1, 2, 3]] {
        let output = master(&["decode"], bad);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(stdout(&output).lines().count(), 1);
        let error: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(error["bytes"], bad.len());
        assert!(!error["error"].as_str().unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_store_at_rest_is_read_without_a_master() {
    let dir = tempfile::tempdir().unwrap();
    let path = store_in(dir.path()).await;
    for at in [&["--store", &path][..], &["--url", NO_MASTER, "--store", &path]] {
        let output = master(&[&["status"], at].concat(), b"");
        assert!(output.status.success(), "{output:?}");
        let text = stdout(&output);
        assert!(text.starts_with("No master is running"), "{text}");
        for line in
            ["accounts           1", "comments           30", "received           2", "dead letters       1"]
        {
            assert!(text.lines().any(|printed| printed == line), "no {line:?} in {text}");
        }
        assert!(text.contains("snapfleet-master dead-letters"), "{text}");
    }
    let status: Value =
        serde_json::from_slice(&master(&["status", "--json", "--store", &path], b"").stdout).unwrap();
    assert_eq!((&status["store"]["comments"], &status["sync"]["rejected"]), (&30.into(), &1.into()));
    assert_eq!(status["workers"], Value::Null);

    let changes = stdout(&master(&["changes", "--json", "--store", &path], b""));
    let changes: Vec<Value> = changes.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(changes.len(), 30);
    let cursor = changes[9]["cursor"].as_str().unwrap();
    let rest = stdout(&master(&["changes", "--after", cursor, "--limit", "3", "--store", &path], b""));
    let ids: Vec<&str> = rest.lines().map(|line| line.split_whitespace().last().unwrap()).collect();
    let expected: Vec<&str> = changes[10..13].iter().map(|change| change["id"].as_str().unwrap()).collect();
    assert_eq!(ids, expected);
    let newest = stdout(&master(&["changes", "--newest", "--limit", "3", "--store", &path], b""));
    let ids: Vec<&str> = newest.lines().map(|line| line.split_whitespace().last().unwrap()).collect();
    let expected: Vec<&str> = changes[27..].iter().map(|change| change["id"].as_str().unwrap()).collect();
    assert_eq!(ids, expected);

    for args in [&["dead-letters"][..], &["dead-letters", "--json"], &["changes", "--json"]] {
        let output = master(&[args, &["--store", &path]].concat(), b"");
        assert!(output.status.success());
        let text = stdout(&output);
        assert!(!text.contains(['\u{1b}', '\u{9b}']), "{args:?} lets text steer the terminal: {text:?}");
    }
    let letters = stdout(&master(&["dead-letters", "--store", &path], b""));
    assert!(letters.contains("snapshot.demo.a") && letters.contains("ff67617262616765"), "{letters}");
}

#[tokio::test]
async fn what_cannot_be_read_is_one_line_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let path = store_in(dir.path()).await;
    let foreign = dir.path().join("notes.txt");
    std::fs::write(&foreign, "not a database").unwrap();
    let foreign = foreign.to_str().unwrap();
    let missing = dir.path().join("missing.redb");
    let missing = missing.to_str().unwrap();
    for (args, named) in [
        (&["status", "--store", foreign][..], "not a redb database"),
        (&["status", "--store", missing], "does not exist"),
        (&["status", "--url", NO_MASTER, "--store", missing], "does not exist"),
        (&["status", "--url", "nonsense", "--store", &path], "nonsense"),
        (&["changes", "--follow", "--store", &path], "--follow needs a running master"),
        (&["changes", "--after", "nonsense", "--store", &path], "\"nonsense\""),
        (&["changes", "--after", "0123456789abcdef-1", "--store", &path], "another change log"),
        (&["run", "--listen", "127.0.0.1:0", "--store", foreign], "not a redb database"),
    ] {
        let output = master(args, b"");
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(complaint(&output).contains(named), "{args:?}: {}", complaint(&output));
    }
    assert_eq!(std::fs::read(foreign).unwrap(), b"not a database");

    let open = batches::open(dir.path());
    let busy = master(&["run", "--listen", "127.0.0.1:0", "--store", &path], b"");
    assert_eq!(busy.status.code(), Some(1));
    assert!(complaint(&busy).contains("in use by another process"), "{}", complaint(&busy));
    let locked = master(&["status", "--url", NO_MASTER, "--store", &path], b"");
    assert_eq!(locked.status.code(), Some(1));
    let said = complaint(&locked);
    assert!(said.contains("in use by another process") && said.contains("--url"), "{said}");
    drop(open);
}

#[test]
fn bad_settings_end_with_64_before_anything_starts() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("master.redb");
    let store = store.to_str().unwrap();
    for (args, named) in [
        (&["run", "--store", store, "--listen", "0.0.0.0:7070"][..], "no sign-in yet"),
        (&["run", "--store", store, "--listen", "here"], "\"here\""),
        (&["run", "--store", store, "--nats-url", "nats://u:p@h:1"], "SNAPFLEET_NATS_PASSWORD"),
        (&["run", "--store", store, "--nats-user", "a.>"], "\"a.>\""),
        (&["run", "--store", store, "--log", "a=b=c"], "a=b=c"),
        (&["run", "--stroe", store], "--stroe"),
        (&["changes", "--limit", "many"], "many"),
        (&["changes", "--newest"], "--limit"),
        (&["changes", "--newest", "--limit", "1", "--after", "a-1"], "--after"),
        (&["walk"], "walk"),
    ] {
        let output = master(args, b"");
        assert_eq!(output.status.code(), Some(64), "{args:?}: {output:?}");
        assert!(complaint(&output).contains(named), "{args:?}: {}", complaint(&output));
    }
    let output = master_with("", &["run", "--store", store, "--listen", "127.0.0.1:0"], b"");
    assert_eq!(output.status.code(), Some(64), "{output:?}");
    assert!(complaint(&output).contains("SNAPFLEET_NATS_PASSWORD is not set"), "{}", complaint(&output));
    let output = master(&["run", "--store", store, "--nats-url", "nats://u:hunter2@h:1"], b"");
    assert!(!complaint(&output).contains("hunter2") && stdout(&output).is_empty(), "{output:?}");
    assert!(!Path::new(store).exists());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = master(&["run", "--store", store, "--listen", &address], b"");
    assert_eq!(output.status.code(), Some(1));
    assert!(complaint(&output).contains(&address));
    assert!(!Path::new(store).exists());
}

#[test]
fn help_says_what_there_is_and_no_secret() {
    let output = master(&["run", "--help"], b"");
    assert!(output.status.success());
    let help = stdout(&output);
    for flag in ["--store", "--listen", "--nats-url", "SNAPFLEET_NATS_PASSWORD"] {
        assert!(help.contains(flag), "no {flag} in {help}");
    }
    assert!(!help.contains("very-secret"));
}

/// A running master whose log is gathered line by line; killed when dropped.
struct Running {
    process: std::process::Child,
    log: std::sync::mpsc::Receiver<String>,
}

impl Running {
    fn start(store: &str, nats_url: &str, user: &str, password: &str) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_snapfleet-master"))
            .args(["run", "--listen", "127.0.0.1:0", "--store", store])
            .args(["--nats-url", nats_url, "--nats-user", user, "--log", "info"])
            .env("SNAPFLEET_NATS_PASSWORD", password)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (lines, log) = std::sync::mpsc::channel();
        let stdout = std::io::BufReader::new(process.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in std::io::BufRead::lines(stdout).map_while(Result::ok) {
                if lines.send(line).is_err() {
                    return;
                }
            }
        });
        Self { process, log }
    }

    /// The rest of the first line that holds `text`, from there on.
    fn says(&self, text: &str) -> String {
        let mut seen = Vec::new();
        while let Ok(line) = self.log.recv_timeout(PATIENCE) {
            if let Some(at) = line.find(text) {
                return line[at + text.len()..].to_owned();
            }
            seen.push(line);
        }
        panic!("no {text:?} in {seen:?}");
    }

    /// Sends SIGTERM and waits for the end; with the signal or without it the exit code and standard error.
    fn ended(mut self, told: bool) -> (Option<i32>, String) {
        if told {
            let pid = self.process.id().to_string();
            assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        }
        while self.log.recv_timeout(PATIENCE).is_ok() {}
        let code = self.process.wait().unwrap().code();
        let mut complaint = String::new();
        self.process.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
        (code, complaint)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_broker_that_refuses_ends_the_start_with_one_line() {
    let broker = TestBroker::start();
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("new").join("master.redb");
    let store = store.to_str().unwrap();
    for (user, password, named) in [
        ("master", "wrong", "refuses user \"master\""),
        ("operator", TestBroker::password("operator"), "SNAPSHOTS"),
    ] {
        let (code, complaint) = Running::start(store, &broker.url(), user, password).ended(false);
        assert_eq!((code, complaint.lines().count()), (Some(1), 1), "{complaint}");
        assert!(complaint.contains(named) && !complaint.contains(password), "{complaint}");
    }
}

#[test]
fn a_master_serves_before_its_broker_is_there_and_stops_when_told() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("master.redb");
    let store = store.to_str().unwrap();
    let running = Running::start(store, "nats://127.0.0.1:1", "master", "any");
    let url = running.says("serving url=");
    assert!(running.says("broker cannot be reached").contains("nats://127.0.0.1:1"));
    let status = master(&["status", "--url", &url], b"");
    assert!(status.status.success(), "{status:?}");
    assert!(stdout(&status).starts_with("No connection to the broker"), "{}", stdout(&status));
    let status: Value =
        serde_json::from_slice(&master(&["status", "--json", "--url", &url], b"").stdout).unwrap();
    assert_eq!(status["broker"]["connected"], false);
    assert_eq!(status["workers"]["online"], Value::Null);
    let changes = master(&["changes", "--url", &url, "--after", "0123456789abcdef-1"], b"");
    assert_eq!(changes.status.code(), Some(1));
    assert!(complaint(&changes).contains("another change log"));
    let letters = master(&["dead-letters", "--url", &url], b"");
    assert_eq!(stdout(&letters), "no dead letters\n");
    assert_eq!(running.ended(true), (Some(0), String::new()));
    assert!(master(&["status", "--store", store], b"").status.success(), "the store was not left at rest");
}

/// Says once that worker `w1` runs; again after a moment while the broker is coming back.
async fn beat(worker: &Broker) {
    let (instance, worker_id) = (InstanceId::parse("w1").unwrap(), WorkerId::parse("worker").unwrap());
    let heartbeat = Heartbeat { host: "host-1".to_owned(), ..Heartbeat::new(instance, worker_id) };
    let outgoing = Outgoing {
        subject: format!("{WORKERS_PREFIX}w1"),
        payload: serde_json::to_vec(&heartbeat).unwrap().into(),
        message_id: None,
        expected_last: None,
        ttl_s: Some(HEARTBEAT_TTL_S),
        headers: Vec::new(),
    };
    let beaten = async { while publish(worker, &outgoing).await.is_err() {} };
    tokio::time::timeout(PATIENCE, beaten).await.unwrap();
}

/// Asks for the status until `wanted` finds what it looks for, and that before anything that is `wrong`.
fn status_until(url: &str, wanted: impl Fn(&Value) -> bool, wrong: impl Fn(&Value) -> bool) {
    let until = std::time::Instant::now() + PATIENCE;
    loop {
        let answer = master(&["status", "--json", "--url", url], b"");
        let status: Value = serde_json::from_slice(&answer.stdout).unwrap();
        assert!(!wrong(&status), "{status}");
        if wanted(&status) {
            return;
        }
        assert!(std::time::Instant::now() < until, "{status}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_online_is_told_only_once_it_can_be_known() {
    let mut server = TestBroker::start();
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("master.redb");
    let running =
        Running::start(store.to_str().unwrap(), &server.url(), "master", TestBroker::password("master"));
    let url = running.says("serving url=");
    let none = |status: &Value| status["workers"]["online"] == 0;
    running.says("connected to the broker");
    status_until(&url, |status| status["broker"]["connected"] == true, none);
    let config = BrokerConfig {
        url: server.url(),
        user: "worker".to_owned(),
        password: TestBroker::password("worker").to_owned(),
        name: "test-worker".to_owned(),
    };
    let worker = Broker::connect(&config, &CancellationToken::new()).await.unwrap();
    let one = |status: &Value| status["workers"]["online"] == 1;
    beat(&worker).await;
    assert!(running.says("worker online").contains("host-1"));
    status_until(&url, one, none);
    server.kill();
    status_until(&url, |status| status["workers"]["online"].is_null(), none);
    let status: Value =
        serde_json::from_slice(&master(&["status", "--json", "--url", &url], b"").stdout).unwrap();
    assert_eq!(status["problems"][0]["code"], "broker_disconnected");
    server.restart();
    status_until(&url, |status| status["broker"]["connected"] == true, none);
    beat(&worker).await;
    status_until(&url, one, none);
    // It says nothing any more.
    status_until(&url, none, |status| status["broker"]["connected"] != true);
    assert!(running.says("worker gone").contains("host-1"));
    assert_eq!(running.ended(true), (Some(0), String::new()));
}
