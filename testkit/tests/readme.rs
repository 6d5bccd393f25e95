//! What README tells an operator to type works as it stands there; and both languages show the same commands.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/terminal.rs"]
mod terminal;

use std::process::Command;
use std::time::Duration;

use snapfleet_testkit::process::binary;
use snapfleet_testkit::system::{Setup, System};
use snapfleet_testkit::{TestBroker, eventually, workspace};

/// The fenced blocks of a file, in order, each with its language.
fn blocks(file: &str) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(workspace().join(file)).unwrap();
    let mut blocks = Vec::new();
    let mut parts = text.split("```");
    while let (Some(_), Some(block)) = (parts.next(), parts.next()) {
        let (language, body) = block.split_once('\n').unwrap();
        blocks.push((language.to_owned(), body.to_owned()));
    }
    blocks
}

/// A block's lines without comments: what is the same in every language.
fn without_comments(body: &str) -> Vec<String> {
    let lines = body.lines().map(|line| line.split(" #").next().unwrap_or_default().trim_end().to_owned());
    lines.filter(|line| !line.is_empty()).collect()
}

#[test]
fn both_languages_show_the_same_commands() {
    let (english, chinese) = (blocks("README.md"), blocks("README.zh-CN.md"));
    assert!(english.len() > 5);
    assert_eq!(english.len(), chinese.len());
    for ((_, english), (_, chinese)) in english.iter().zip(&chinese) {
        assert_eq!(without_comments(english), without_comments(chinese));
    }
}

/// The commands of the blocks that begin with `first`, a line each; lines that go on are joined.
fn commands(first: &str) -> Vec<String> {
    let (_, body) = blocks("README.md").into_iter().find(|(_, body)| body.starts_with(first)).unwrap();
    without_comments(&body.replace("\\\n", "")).into_iter().collect()
}

struct Terminal {
    prelude: String,
    dir: std::path::PathBuf,
}

impl Terminal {
    /// Runs a command in bash in a terminal of its own; the answer to any question is no.
    fn run(&self, command: &str) -> String {
        let script = self.dir.join("command.sh");
        std::fs::write(&script, format!("set -euo pipefail\n{}\n{command}\n", self.prelude)).unwrap();
        let said = terminal::run(&format!("bash {}", script.display()), |command| {
            command
                .current_dir(workspace())
                .env("SNAPFLEET_NATS_OPERATOR_PASSWORD", TestBroker::password("operator"));
        });
        assert!(!said.trim().is_empty(), "{command} says nothing");
        said
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_that_look_into_it_work_as_written() {
    let cli = std::env::var("NATS_CLI").ok().or_else(|| {
        let fetched = workspace().join(".tools/bin/nats");
        fetched.exists().then(|| fetched.display().to_string())
    });
    if cli.is_none() && Command::new("nats").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "the nats CLI is missing, and CI must have it");
        eprintln!("SKIPPED: no nats CLI (go install github.com/nats-io/natscli/nats@v0.5.0)");
        return;
    }
    let setup = Setup { workers: vec![vec!["shop-a"]], events_per_minute: 600.0, ..Setup::default() };
    let system = System::start(TestBroker::start(), setup).await;
    system.wait_for_first_records(Duration::from_secs(60)).await;
    // More than a page of `nats stream view`, which then asks whether to go on.
    let status = eventually(Duration::from_secs(60), "more than 25 snapshots are stored", async || {
        let status = system.api("status").await;
        (status["sync"]["received"].as_u64()? > 30).then_some(status)
    })
    .await;
    let instance = status["workers"]["list"][0]["instance"].as_str().unwrap().to_owned();

    let programs = binary("snapfleet-master").parent().unwrap().display().to_string();
    let here = |command: &str| {
        let command = command.replace("target/release/", &format!("{programs}/"));
        let command = command.replace("nats://127.0.0.1:4222", &system.broker.url());
        let command =
            command.replace("command nats", &cli.clone().unwrap_or_else(|| "command nats".to_owned()));
        command.replace("<instance>", &instance)
    };
    let nats: Vec<String> = commands(". data/secrets.env").iter().map(|command| here(command)).collect();
    // The first line reads the passwords that scripts/run made; the second defines what the others use.
    let prelude = format!("export SNAPFLEET_URL={}\n{}", system.master_url(), nats[1]);
    let terminal = Terminal { prelude, dir: system.dir().to_owned() };
    let mut ran = 0;
    for command in &nats[2..] {
        let ends = if command.starts_with("nats sub") { " --count 1 --timeout 60s" } else { "" };
        let said = terminal.run(&format!("{command}{ends}"));
        if command.contains("decode") {
            assert!(said.contains("\"epoch\""), "{command} shows no snapshot as JSON: {said}");
        }
        ran += 1;
    }
    for command in commands("target/release/snapfleet-master status") {
        terminal.run(&here(&command).replace("dead-letters", "dead-letters; echo done"));
        ran += 1;
    }
    for command in commands("target/release/snapfleet-worker platform check") {
        terminal.run(&here(&command));
        ran += 1;
    }
    assert!(ran >= 10, "only {ran} commands were found in README.md");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_that_change_accounts_work_in_their_order_as_written() {
    let setup =
        Setup { workers: vec![vec!["shop-a", "shop-b"]], events_per_minute: 60.0, ..Setup::default() };
    let system = System::start(TestBroker::start(), setup).await;
    system.wait_for_first_records(Duration::from_secs(60)).await;
    let site = system.demo_settings("shop-a", "demo-secret");
    let programs = binary("snapfleet-master").parent().unwrap().display().to_string();
    let here = |command: &str| {
        let command = command.replace("fleet.key", &system.dir().join("worker-0.key").display().to_string());
        let command =
            command.replace("accounts.csv", &system.dir().join("accounts.csv").display().to_string());
        command.replace("http://127.0.0.1:8090", site["base_url"].as_str().unwrap())
    };
    std::fs::write(
        system.dir().join("accounts.csv"),
        "id,interval_s,setting.base_url\ndemo.shop-z,30,http://x\n",
    )
    .unwrap();
    let commands: Vec<String> = commands("sealed=").iter().map(|command| here(command)).collect();
    let prelude = format!(
        "export SNAPFLEET_URL={} PASSWORD=demo-secret PATH={programs}:$PATH\n{}",
        system.master_url(),
        commands[0]
    );
    let terminal = Terminal { prelude, dir: system.dir().to_owned() };
    // The account is there already; README adds it.
    terminal.run("snapfleet-master accounts remove demo.shop-a");
    for command in &commands[1..] {
        if command.contains(" resume ") {
            eventually(Duration::from_secs(40), "its worker has let go of it", async || {
                system.api("accounts/demo.shop-a").await["lease"].is_null().then_some(())
            })
            .await;
        }
        if command.contains(" sync ") {
            eventually(Duration::from_secs(40), "the account is captured", async || {
                // What is shown may be from before it was paused, for as long as a heartbeat takes.
                let shown = system.api("accounts/demo.shop-a").await;
                let at = |value: &serde_json::Value| value.as_i64();
                let (resumed, leased) = (at(&shown["changed_at"])?, at(&shown["lease"]["at"])?);
                let anew = resumed <= leased && leased <= at(&shown["health"]["since"])?;
                (shown["state"] == "capturing" && anew).then_some(())
            })
            .await;
        }
        terminal.run(command);
    }
    assert!(commands.len() >= 10, "only {} commands were found in README.md", commands.len());
    assert_eq!(system.api("accounts/demo.shop-a").await["state"], "erased");
}
