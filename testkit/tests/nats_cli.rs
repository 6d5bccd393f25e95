//! The official `nats` CLI looks into the running system as the `operator` user, and can change nothing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/terminal.rs"]
mod terminal;

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use snapfleet_testkit::process::{Process, binary};
use snapfleet_testkit::system::{Setup, System};
use snapfleet_testkit::{TestBroker, eventually, workspace};

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
        terminal::run(&quoted.join(" "), |_| {})
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

/// `nats kv` and `nats micro` show who is online, who holds which account, and how it fares.
async fn shows_the_fleet(cli: &Cli, system: &System) {
    let status = eventually(Duration::from_secs(30), "both accounts are captured", async || {
        let status = system.api("status").await;
        (status["capture"]["capturing"] == 2).then_some(status)
    })
    .await;
    let online = status["workers"]["list"].as_array().expect("a list");
    let instances = ["w0", "w1"].map(|id| {
        let worker = online.iter().find(|worker| worker["worker"] == id).expect("both are online");
        worker["instance"].as_str().expect("text").to_owned()
    });
    let keys = cli.text(&["kv", "ls", "workers"]);
    for (index, instance) in instances.iter().enumerate() {
        let account = ["demo.shop-a", "demo.shop-b"][index];
        let get = |bucket, key: &str| json(&cli.text(&["kv", "get", bucket, key, "--raw"]));
        let heartbeat = get("workers", instance);
        assert_eq!((&heartbeat["worker"], &heartbeat["holding"]), (&format!("w{index}").into(), &1.into()));
        let held = get("workers", &format!("{instance}.accounts"));
        assert_eq!(
            (&held["accounts"][0]["account"], &held["instance"]),
            (&account.into(), &instance[..].into())
        );
        assert_eq!(held["accounts"][0]["state"], "capturing", "{held}");
        assert_eq!(get("leases", account)["instance"], instance[..]);
        assert!(keys.lines().any(|key| key == instance), "{keys}");
    }
    // For people, with the revision and when it was written.
    let lease = cli.text(&["kv", "get", "leases", "demo.shop-a"]);
    assert!(lease.contains("revision") && lease.contains(&instances[0]), "{lease}");
    for instance in &instances {
        watch_until_seen_twice(cli, instance).await;
    }

    let info = json(&cli.text(&["micro", "ls", "--json"]));
    let ids = instances.each_ref().map(|instance| {
        let of = |service: &&Value| service["metadata"]["instance"] == instance[..];
        let service = info.as_array().expect("a list").iter().find(of).expect("each worker is a service");
        assert_eq!(service["endpoints"][0]["subject"], format!("worker.{instance}.accounts"), "{service}");
        service["id"].as_str().expect("text").to_owned()
    });
    let listed = cli.text(&["micro", "ls"]);
    assert!(listed.contains("snapfleet-worker") && ids.iter().all(|id| listed.contains(id)), "{listed}");
    let stats = json(&cli.text(&["micro", "stats", "snapfleet-worker", "--json"]));
    for (index, id) in ids.iter().enumerate() {
        let told = cli.text(&["micro", "info", "snapfleet-worker", id]);
        assert!(told.contains(&instances[index]) && told.contains(&format!("w{index}")), "{told}");
        let of = |service: &&Value| service["id"] == id[..];
        let service = stats.as_array().expect("a list").iter().find(of).expect("each has figures");
        let figures = &service["endpoints"][0]["data"];
        assert_eq!((&figures["accounts"], &figures["well"]), (&1.into(), &1.into()), "{figures}");
        assert!(figures["published"].as_u64() > Some(0), "{figures}");
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// `nats kv watch workers` runs until it is told to stop: here, until it has shown two heartbeats of an instance.
async fn watch_until_seen_twice(cli: &Cli, instance: &str) {
    let dir = tempfile::tempdir().unwrap();
    let mut command = cli.command(&["kv", "watch", "workers"]);
    let watch = Process::start(&mut command, &dir.path().join("watch.log"));
    let shown = format!("PUT workers > {instance}: ");
    eventually(Duration::from_secs(15), "nats kv watch shows heartbeats", async || {
        (watch.log().matches(&shown).count() >= 2).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_sees_snapshots_streams_and_heartbeats_and_changes_nothing() {
    let Some(path) = find_cli() else {
        assert!(std::env::var_os("CI").is_none(), "the nats CLI is missing, and CI must have it");
        eprintln!("SKIPPED: no nats CLI (go install github.com/nats-io/natscli/nats@v0.5.0)");
        return;
    };
    let workers = vec![vec!["shop-a"], vec!["shop-b"]];
    let setup = Setup { workers, events_per_minute: 120.0, ..Setup::default() };
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
    assert!(live.iter().all(|snapshot| snapshot["platform"] == "demo"), "{live:?}");

    let kept = snapshots(&cli.in_terminal(&["stream", "view", "SNAPSHOTS", "10", "--translate", &decode]));
    assert!(kept.iter().any(|snapshot| snapshot["kind"] == "claim"), "stream view shows the claim: {kept:?}");

    let info = json(&cli.text(&["stream", "info", "SNAPSHOTS", "--json"]));
    assert_eq!(info["config"]["discard"], "new");
    assert!(info["state"]["messages"].as_u64().unwrap() > 2);
    assert!(cli.text(&["stream", "subjects", "SNAPSHOTS"]).contains("snapshot.demo.shop-a"));

    shows_the_fleet(&cli, &system).await;

    let before = info["state"]["first_seq"].clone();
    for denied in [
        vec!["stream", "purge", "SNAPSHOTS", "--force"],
        vec!["stream", "rm", "SNAPSHOTS", "--force"],
        vec!["kv", "put", "workers", "intruder", "x"],
        vec!["kv", "put", "accounts", "demo.shop-z", "{}"],
        vec!["kv", "del", "leases", "demo.shop-a", "--force"],
        vec!["kv", "get", "sessions", "demo.shop-a"],
        vec!["pub", "--jetstream", "snapshot.demo.shop-a", "forged"],
    ] {
        let output = cli.run(&[&["--timeout", "2s"], denied.as_slice()].concat());
        assert!(!output.status.success(), "the operator may {denied:?}");
    }
    let after = json(&cli.text(&["stream", "info", "SNAPSHOTS", "--json"]));
    assert_eq!(after["state"]["first_seq"], before, "nothing was purged");
    let status = system.api("status").await;
    assert_eq!(status["sync"]["rejected"], 0, "nothing forged was stored: {status}");
}
