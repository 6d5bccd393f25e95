//! The official `nats` CLI looks into the running system as the `operator` user, and can change nothing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use snapfleet_testkit::process::binary;
use snapfleet_testkit::system::{Setup, System};
use snapfleet_testkit::{TestBroker, workspace};

/// The CLI: `NATS_CLI`, the project's `.tools/bin`, or PATH.
fn find_cli() -> Option<PathBuf> {
    let fetched = workspace().join(".tools/bin/nats");
    let candidates = [std::env::var_os("NATS_CLI").map(PathBuf::from), Some(fetched), Some("nats".into())];
    let runs = |path: &PathBuf| Command::new(path).arg("--version").output().is_ok();
    candidates.into_iter().flatten().find(runs)
}

struct Cli {
    path: PathBuf,
    url: String,
}

impl Cli {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        command
            .args([
                "--server",
                &self.url,
                "--user",
                "operator",
                "--password",
                TestBroker::password("operator"),
            ])
            .args(["--inbox-prefix", "_INBOX_operator"])
            .args(args)
            .env("XDG_CONFIG_HOME", std::env::temp_dir().join("snapfleet-nats-cli"))
            .stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("the nats CLI runs")
    }

    fn text(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "nats {args:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }
}

impl Cli {
    /// Runs the CLI in a terminal of its own, which its pager asks for, and answers that one page is enough.
    fn in_terminal(&self, args: &[&str]) -> String {
        let command = self.command(args);
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let quoted: Vec<String> = words.map(|word| format!("'{}'", word.to_string_lossy())).collect();
        let mut script = Command::new("script")
            .args(["-qec", &quoted.join(" "), "/dev/null"])
            .env("TERM", "dumb")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script (of util-linux) runs");
        script.stdin.take().expect("a pipe").write_all(b"n\n").expect("the answer is written");
        let output = script.wait_with_output().expect("the nats CLI ends");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// The JSON objects in what the CLI printed around them.
fn snapshots(text: &str) -> Vec<Value> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices('{') {
        let mut values = serde_json::Deserializer::from_str(&text[at..]).into_iter::<Value>();
        if let Some(Ok(value)) = values.next()
            && value.get("epoch").is_some()
        {
            found.push(value);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_sees_snapshots_streams_and_heartbeats_and_changes_nothing() {
    let Some(path) = find_cli() else {
        assert!(std::env::var_os("CI").is_none(), "the nats CLI is missing, and CI must have it");
        eprintln!("SKIPPED: no nats CLI (go install github.com/nats-io/natscli/nats@v0.5.0)");
        return;
    };
    let setup = Setup { workers: vec![vec!["shop-a"]], events_per_minute: 120.0, ..Setup::default() };
    let system = System::start(TestBroker::start(), setup).await;
    let cli = Cli { path, url: system.broker.url() };
    let decode = format!("{} decode", binary("snapfleet-master").display());
    let live = tokio::task::spawn_blocking({
        let mut command =
            cli.command(&["sub", "snapshot.>", "--translate", &decode, "--count", "2", "--timeout", "60s"]);
        move || command.output().expect("the nats CLI runs")
    });
    system.wait_for_first_records(Duration::from_secs(60)).await;
    let live =
        tokio::time::timeout(Duration::from_secs(60), live).await.expect("two live snapshots").unwrap();
    let live = snapshots(&String::from_utf8_lossy(&live.stdout));
    assert!(live.len() >= 2, "nats sub printed {} snapshots", live.len());
    assert_eq!((&live[0]["platform"], &live[0]["account"]), (&"demo".into(), &"shop-a".into()));

    let kept = snapshots(&cli.in_terminal(&["stream", "view", "SNAPSHOTS", "10", "--translate", &decode]));
    assert!(kept.iter().any(|snapshot| snapshot["kind"] == "claim"), "stream view shows the claim: {kept:?}");

    let info: Value = serde_json::from_str(&cli.text(&["stream", "info", "SNAPSHOTS", "--json"])).unwrap();
    assert_eq!(info["config"]["discard"], "new");
    assert!(info["state"]["messages"].as_u64().unwrap() > 2);
    assert!(cli.text(&["stream", "subjects", "SNAPSHOTS"]).contains("snapshot.demo.shop-a"));

    let keys = cli.text(&["kv", "ls", "workers"]);
    let instance = keys.split_whitespace().last().expect("a heartbeat's key");
    let heartbeat: Value =
        serde_json::from_str(&cli.text(&["kv", "get", "workers", instance, "--raw"])).unwrap();
    assert_eq!(heartbeat["instance"], instance);
    assert_eq!(heartbeat["accounts"][0]["account"], "demo.shop-a");

    let before = info["state"]["first_seq"].clone();
    for denied in [
        vec!["stream", "purge", "SNAPSHOTS", "--force"],
        vec!["stream", "rm", "SNAPSHOTS", "--force"],
        vec!["kv", "put", "workers", "intruder", "x"],
        vec!["pub", "--jetstream", "snapshot.demo.shop-a", "forged"],
    ] {
        let output = cli.run(&[&["--timeout", "2s"], denied.as_slice()].concat());
        assert!(!output.status.success(), "the operator may {denied:?}");
    }
    let after: Value = serde_json::from_str(&cli.text(&["stream", "info", "SNAPSHOTS", "--json"])).unwrap();
    assert_eq!(after["state"]["first_seq"], before, "nothing was purged");
    let status = system.api("status").await;
    assert_eq!(status["sync"]["rejected"], 0, "nothing forged was stored: {status}");
}
