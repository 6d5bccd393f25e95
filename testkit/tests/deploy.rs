//! What docs/deploy.md tells an operator to type, typed: each command and each setting of it, with the units under
//! scripts/systemd started as systemd would start them. Paths, ports and names are those of a test.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use snapfleet_testkit::broker::nats_server;
use snapfleet_testkit::process::{Process, binary, free_port};
use snapfleet_testkit::{eventually, workspace};
use tempfile::TempDir;

const READY: Duration = Duration::from_secs(60);
const UNITS: [&str; 3] = ["snapfleet-nats.service", "snapfleet-master.service", "snapfleet-worker@.service"];

/// A section's fenced blocks, each with its language.
fn blocks(section: &str) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(workspace().join("docs/deploy.md")).unwrap();
    let heading = format!("\n## {section}\n");
    let text = text.split_once(&heading).unwrap_or_else(|| panic!("no section {section:?}")).1;
    let text = text.split("\n## ").next().unwrap();
    let fenced = text.split("```").skip(1).step_by(2);
    fenced.map(|block| block.split_once('\n').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap()).collect()
}

/// The commands of a section's block of commands with this number, a line each.
fn commands(section: &str, index: usize) -> Vec<String> {
    let typed = blocks(section).into_iter().filter(|(language, _)| language == "sh");
    typed.map(|(_, block)| lines(&block)).nth(index).unwrap()
}

/// A block's lines; those that go on are joined.
fn lines(block: &str) -> Vec<String> {
    block.replace("\\\n", "").lines().map(str::to_owned).collect()
}

/// The official `nats` program, where there is one.
fn nats_cli() -> Option<PathBuf> {
    let given = std::env::var_os("NATS_CLI").map(PathBuf::from);
    let fetched = workspace().join(".tools/bin/nats");
    let known = given.or_else(|| fetched.exists().then_some(fetched)).unwrap_or_else(|| "nats".into());
    let found = Command::new(&known).arg("--version").output().is_ok().then(|| which(&known));
    assert!(
        found.is_some() || std::env::var_os("CI").is_none(),
        "the nats CLI is missing, and CI must have it"
    );
    found
}

/// A host with its files in a folder of its own, and what runs on it.
struct Machine {
    root: TempDir,
    running: BTreeMap<String, Process>,
    /// What stands in the document, and what stands in its place here.
    places: Vec<(String, String)>,
    listen: String,
    /// What the shell knows: variables that were set.
    known: String,
}

impl Machine {
    /// A host on which nothing is installed but nats-server, and Chromium and shell as everywhere.
    fn new(places: &[(&str, String)]) -> Self {
        let root = tempfile::tempdir().unwrap();
        let path = |below: &str| root.path().join(below).display().to_string();
        for folder in ["local/bin", "local/share", "units", "state", "home", "etc"] {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        std::os::unix::fs::symlink(which(&nats_server()), path("local/bin/nats-server")).unwrap();
        nats_cli().iter().for_each(|cli| std::os::unix::fs::symlink(cli, path("local/bin/nats")).unwrap());
        let programs = binary("snapfleet-master").parent().unwrap().display().to_string();
        let listen = format!("127.0.0.1:{}", free_port());
        let mut all = vec![
            ("/etc/systemd/system".to_owned(), path("units")),
            ("/etc/snapfleet".to_owned(), path("etc")),
            ("/usr/local".to_owned(), path("local")),
            ("/var/lib/snapfleet".to_owned(), path("state")),
            ("target/release".to_owned(), programs),
            ("-o snapfleet ".to_owned(), String::new()),
            ("sudo ".to_owned(), String::new()),
            ("useradd ".to_owned(), format!("useradd --prefix {} ", root.path().display())),
            ("0.0.0.0".to_owned(), "127.0.0.1".to_owned()),
        ];
        all.extend(places.iter().map(|(from, to)| ((*from).to_owned(), to.clone())));
        all.extend([":8222", ":4222", ":6222"].map(|from| (from.to_owned(), format!(":{}", port()))));
        Self { root, running: BTreeMap::new(), places: all, listen, known: String::new() }
    }

    fn here(&self, text: &str) -> String {
        self.places.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
    }

    /// Does what a section says, in its order: types its commands and sets its settings.
    fn follow(&mut self, section: &str) {
        self.follow_only(section, &["sh", "env"]);
    }

    /// Does what a section says in these languages.
    fn follow_only(&mut self, section: &str, wanted: &[&str]) {
        let all = blocks(section);
        assert!(
            all.iter().any(|(language, _)| wanted.contains(&language.as_str())),
            "{section:?}: nothing to do"
        );
        for (language, block) in all {
            match language.as_str() {
                skipped if !wanted.contains(&skipped) => {}
                "sh" => lines(&block).iter().for_each(|command| self.type_in(command)),
                _ => self.set(&block),
            }
        }
    }

    /// Installs everything, as "Every host" says.
    fn install(&mut self) {
        self.follow("Every host");
        for folder in ["etc", "units"] {
            for file in std::fs::read_dir(self.root.path().join(folder)).unwrap().flatten() {
                let name = file.file_name().to_string_lossy().into_owned();
                if name.starts_with("snapfleet-") || name.ends_with(".env") || name.ends_with(".conf") {
                    let text = std::fs::read_to_string(file.path()).unwrap();
                    std::fs::write(file.path(), self.here(&text)).unwrap();
                }
            }
        }
    }

    fn type_in(&mut self, command: &str) {
        let words: Vec<&str> = command.trim_start_matches("sudo ").split_whitespace().collect();
        match words.as_slice() {
            [] => {}
            ["nats", ..] if nats_cli().is_none() => eprintln!("skipped: {command}: there is no nats CLI"),
            [set, ..] if *set == "export" || is_assignment(set) => self.known += &format!("{command}\n"),
            ["systemctl", "daemon-reload"] => {}
            ["systemctl", "enable", "--now", units @ ..] | ["systemctl", "start", units @ ..] => {
                units.iter().for_each(|unit| self.start(unit));
            }
            ["systemctl", "restart", units @ ..] => units.iter().for_each(|unit| {
                self.stop(unit);
                self.start(unit);
            }),
            ["systemctl", "stop", units @ ..] | ["systemctl", "disable", "--now", units @ ..] => {
                units.iter().for_each(|unit| self.stop(unit))
            }
            _ => drop(self.shell(command)),
        }
    }

    /// What a command says; it may have to wait until what was started answers.
    fn shell(&self, command: &str) -> String {
        let typed = self.here(&format!("{}{command}", self.known));
        let script = format!("set -euo pipefail\ncd {}\n{typed}", self.folder(command));
        let mut last = String::new();
        for _ in 0..60 {
            let output = Command::new("bash")
                .args(["-c", &script])
                .env("PATH", format!("{}:{}", self.here("/usr/local/bin"), std::env::var("PATH").unwrap()))
                .env("SNAPFLEET_URL", format!("http://{}", self.listen))
                .output()
                .unwrap();
            last = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            if output.status.success() {
                return last;
            }
            std::thread::park_timeout(Duration::from_millis(500));
        }
        panic!("{script}\n{last}\n{}", self.logs());
    }

    /// What is installed comes from the project's folder; everything else is done at home.
    fn folder(&self, command: &str) -> String {
        let from_project = command.contains("target/release")
            || command.contains("scripts/")
            || command.contains("nats.conf")
            || command.contains("cp -r platforms");
        if from_project { workspace() } else { self.root.path().join("home") }.display().to_string()
    }

    /// Sets what a block says in the files that its first line names.
    fn set(&self, block: &str) {
        let (files, lines) = block.split_once('\n').unwrap();
        let files = files.trim_start_matches("# ").split(',').next().unwrap();
        for file in files.split(" and ") {
            let path = self.here(file);
            let mut text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
            text += &self.here(lines);
            std::fs::write(path, text).unwrap();
        }
    }

    /// Starts a unit as systemd would.
    fn start(&mut self, name: &str) {
        let (file, instance) = match name.split_once('@') {
            Some((template, instance)) => (format!("{template}@.service"), instance),
            None => (format!("{name}.service"), ""),
        };
        let unit = std::fs::read_to_string(self.root.path().join("units").join(file)).unwrap();
        let unit = unit.replace("%i", instance).replace("%l", "host");
        let of = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key)).map(str::to_owned);
        let environment = environment(&of("EnvironmentFile=").unwrap());
        let mut words = of("ExecStart=").unwrap();
        for (key, value) in &environment {
            words = words.replace(&format!("${{{key}}}"), value).replace(&format!("${key}"), value);
        }
        assert!(!words.contains('$'), "{name}: a variable of {words:?} is not set");
        let state = self.root.path().join("state").join(of("StateDirectory=snapfleet/").unwrap());
        std::fs::create_dir_all(state).unwrap();
        let mut words = words.split_whitespace();
        let mut command = Command::new(words.next().unwrap());
        command.args(words).envs(environment).env("SNAPFLEET_LISTEN", &self.listen);
        let log = self.root.path().join(format!("{name}.log"));
        assert!(!self.running.contains_key(name), "{name} runs already");
        self.running.insert(name.to_owned(), Process::start(&mut command, &log));
    }

    fn stop(&mut self, name: &str) {
        let mut process = self.running.remove(name).unwrap_or_else(|| panic!("{name} does not run"));
        process.signal("TERM");
        for _ in 0..600 {
            if let Some(code) = process.exit_code() {
                let wanted = [0, 1].contains(&code) && name == "snapfleet-nats" || code == 0;
                assert!(wanted, "{name} ended with {code}: {}", process.log());
                return;
            }
            std::thread::park_timeout(Duration::from_millis(50));
        }
        panic!("{name} does not stop: {}", process.log());
    }

    fn logs(&self) -> String {
        let tail = |process: &Process| {
            let log = process.log();
            let lines: Vec<&str> = log.lines().rev().take(25).collect();
            lines.into_iter().rev().map(|line| format!("{line}\n")).collect::<String>()
        };
        self.running.iter().map(|(name, process)| format!("--- {name}\n{}", tail(process))).collect()
    }

    async fn status(&self) -> Option<Value> {
        let url = format!("http://{}/api/v1/status", self.listen);
        reqwest::get(url).await.ok()?.json().await.ok()
    }

    /// Waits until `status` satisfies a condition.
    async fn status_shows(&self, what: &str, condition: impl Fn(&Value) -> bool) {
        let logs = || self.logs();
        let started = std::time::Instant::now();
        loop {
            let status = self.status().await.unwrap_or_default();
            if condition(&status) {
                return;
            }
            assert!(started.elapsed() < READY, "status does not show that {what}: {status}\n{}", logs());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn broker_is_well(&self) {
        let url = self.here("http://127.0.0.1:8222/healthz");
        eventually(READY, "the broker is well", async || {
            reqwest::get(&url).await.ok()?.status().is_success().then_some(())
        })
        .await;
    }
}

/// The variables of an environment file, as systemd reads it.
fn environment(path: &str) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let set = |line: &str| {
        let (key, value) = line.split_once('=')?;
        let outer = ['"', '\''].into_iter().find(|quote| value.starts_with(*quote));
        let value = outer.map_or(value, |quote| value.trim_matches(quote));
        Some((key.to_owned(), value.to_owned()))
    };
    text.lines().filter(|line| !line.starts_with('#')).filter_map(set).collect()
}

/// Whether a word sets a variable of the shell.
fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| name.bytes().all(|byte| byte.is_ascii_lowercase()))
}

/// A program's whole path.
fn which(program: &Path) -> PathBuf {
    let found = Command::new("which").arg(program).output().unwrap();
    std::fs::canonicalize(String::from_utf8_lossy(&found.stdout).trim()).unwrap()
}

/// A free port that does not begin like one that stands in the document.
fn port() -> u16 {
    loop {
        let port = free_port();
        if !["8222", "4222", "6222"].iter().any(|known| port.to_string().starts_with(known)) {
            return port;
        }
    }
}

#[test]
fn every_block_is_one_that_a_test_follows() {
    let text = std::fs::read_to_string(workspace().join("docs/deploy.md")).unwrap();
    let fences = text.lines().filter(|line| line.starts_with("```") && line.len() > 3);
    assert!(fences.clone().count() > 10);
    assert!(
        fences.clone().all(|fence| ["```sh", "```env"].contains(&fence)),
        "{:?}",
        fences.collect::<Vec<_>>()
    );
    // The one command that stands in the text: it builds what scripts/run builds.
    let build = "cargo build --release --locked -p snapfleet-master -p snapfleet-worker";
    assert!(text.contains(build));
    assert!(std::fs::read_to_string(workspace().join("scripts/run")).unwrap().contains(build));
}

#[test]
fn systemd_takes_the_units() {
    let mut machine = Machine::new(&[]);
    machine.install();
    machine.type_in(&commands("Workers that the master starts", 0)[1]);
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        eprintln!("skipped: there is no systemd-analyze");
        return;
    }
    for unit in UNITS {
        let path = machine.root.path().join("units").join(unit);
        let verified =
            Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(path).output().unwrap();
        let said = String::from_utf8_lossy(&verified.stderr).into_owned();
        assert!(verified.status.success() && said.trim().is_empty(), "{unit}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_machine_becomes_several_hosts_is_upgraded_and_backed_up() {
    let site_port = port();
    let mut site = Command::new(binary("snapfleet-demo-site"));
    site.args(["--listen", &format!("127.0.0.1:{site_port}"), "--accounts", "shop-b"]);
    site.env("SNAPFLEET_DEMO_PASSWORD", "secret");
    let places = [(":8090", format!(":{site_port}")), ("broker.example", "localhost".to_owned())];
    let mut machine = Machine::new(&places);
    let _site = Process::start(&mut site, &machine.root.path().join("site.log"));
    machine.install();
    machine.follow("One machine");
    machine.status_shows("two workers are online", |status| status["workers"]["online"] == 2).await;
    machine.type_in("snapfleet-master accounts resume demo.shop-b");
    machine.status_shows("data comes", |status| status["sync"]["received"].as_u64() > Some(0)).await;
    machine.follow("Several hosts");
    let secure =
        |status: &Value| status["broker"]["url"].as_str().is_some_and(|url| url.starts_with("tls://"));
    machine.status_shows("the broker is reached by TLS", secure).await;
    machine.status_shows("three workers are online", |status| status["workers"]["online"] == 3).await;
    machine.follow("Upgrades");
    machine.status_shows("the new master is at work", secure).await;
    machine.follow("What to back up");
    assert!(machine.root.path().join("home/master.tar.gz").metadata().unwrap().len() > 0);
    assert!(machine.root.path().join("home/broker-backup/SNAPSHOTS").exists() || nats_cli().is_none());
    let again =
        |status: &Value| status["workers"]["online"] == 3 && status["sync"]["received"].as_u64() > Some(0);
    machine.status_shows("everything runs again", again).await;
    for unit in machine.running.keys().rev().cloned().collect::<Vec<_>>() {
        machine.stop(&unit);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_masters_own_workers_take_the_place_of_the_units() {
    let mut machine = Machine::new(&[]);
    machine.install();
    commands("One machine", 0).iter().for_each(|command| machine.type_in(command));
    machine.status_shows("two workers are online", |status| status["workers"]["online"] == 2).await;
    machine.follow("Workers that the master starts");
    let own = |status: &Value| {
        let state_dirs = machine.root.path().join("state/master/workers");
        status["workers"]["online"] == 2 && state_dirs.join("worker-2/worker.log").exists()
    };
    machine.status_shows("two workers of the master are online", own).await;
    let listed = machine.shell("snapfleet-master workers");
    assert!(listed.contains("worker-2") && listed.contains("0 of at most 40 accounts"), "{listed}");
    machine.stop("snapfleet-master");
    let left =
        Command::new("pgrep").arg("-f").arg(machine.root.path().join("state/master")).output().unwrap();
    assert!(left.stdout.is_empty(), "still running: {left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_loses_a_node_and_a_replica_follows() {
    let mut places = Vec::new();
    let ports: Vec<[u16; 2]> = (0..3).map(|_| [port(), port()]).collect();
    let names = ["broker-1.example", "broker-2.example", "broker-3.example"];
    for (name, [client, route]) in names.iter().zip(&ports) {
        places.push((format!("{name}:4222"), format!("localhost:{client}")));
        places.push((format!("{name}:6222"), format!("localhost:{route}")));
    }
    places.push(("broker.example".to_owned(), "localhost".to_owned()));
    let places: Vec<(&str, String)> = places.iter().map(|(from, to)| (from.as_str(), to.clone())).collect();
    let certificates = tempfile::tempdir().unwrap();
    let mut brokers = Vec::new();
    for (index, [client, route]) in ports.iter().enumerate() {
        let name = ("NAME=broker-1", format!("NAME=broker-{}", index + 1));
        let own = [name, (":4222", format!(":{client}")), (":6222", format!(":{route}"))];
        let mut broker = Machine::new(&[&places[..], &own].concat());
        broker.install();
        broker.certify(certificates.path());
        broker.follow_only("A cluster of three", &["env"]);
        broker.start("snapfleet-nats");
        brokers.push(broker);
    }
    let [well, restore] = [0, 1].map(|index| commands("A cluster of three", index));
    for broker in &mut brokers {
        well.iter().for_each(|command| broker.type_in(command));
    }
    let mut host = Machine::new(&places);
    host.install();
    host.certify(certificates.path());
    host.follow_only("Several hosts", &["env"]);
    host.follow_only("A cluster of three", &["env"]);
    host.type_in(&commands("One machine", 0)[0]);
    if let Some(backup) = backup_of_a_single_broker(&places, certificates.path()).await {
        std::fs::rename(backup.path().join("streams"), host.root.path().join("home/broker-backup")).unwrap();
        restore.iter().for_each(|command| host.type_in(command));
    }
    host.start("snapfleet-master");
    host.start("snapfleet-worker@1");
    host.status_shows("a worker is online", |status| status["workers"]["online"] == 1).await;
    assert_eq!(brokers[0].copies_of_snapshots().await, 3);
    assert!(host.shell("snapfleet-master accounts list").contains("demo.kept") || nats_cli().is_none());

    let mut replica = Machine::new(&places);
    replica.install();
    replica.certify(certificates.path());
    replica.follow_only("Several hosts", &["env"]);
    replica.follow_only("A cluster of three", &["env"]);
    replica.follow_only("A read replica", &["env"]);
    replica.start("snapfleet-master");
    let connected = |status: &Value| status["broker"]["connected"] == true;
    replica.status_shows("the replica is connected", connected).await;
    host.status_shows("the replica is known", |status| status.to_string().contains("reports")).await;

    for broker in &mut brokers {
        broker.stop("snapfleet-nats");
        let well = |status: &Value| connected(status) && status["workers"]["online"] == 1;
        host.status_shows("the fleet goes on with two nodes", well).await;
        broker.start("snapfleet-nats");
        broker.broker_is_well().await;
    }
}

/// A backup, as "What to back up" makes it, of a broker that knows one account; `None` without the nats CLI.
async fn backup_of_a_single_broker(places: &[(&str, String)], certificates: &Path) -> Option<TempDir> {
    nats_cli()?;
    let mut single = Machine::new(places);
    single.install();
    single.certify(certificates);
    single.follow_only("Several hosts", &["env"]);
    single.start("snapfleet-nats");
    single.start("snapfleet-master");
    single.shell("snapfleet-master accounts add demo.kept --paused");
    let commands = commands("What to back up", 0);
    commands.iter().filter(|command| !command.contains("sudo")).for_each(|command| single.type_in(command));
    single.stop("snapfleet-master");
    let backup = tempfile::tempdir().unwrap();
    std::fs::rename(single.root.path().join("home/broker-backup"), backup.path().join("streams")).unwrap();
    Some(backup)
}

impl Machine {
    /// Installs the certificates that stand in a folder, which are made as "Several hosts" says if it is empty.
    fn certify(&mut self, kept: &Path) {
        let home = self.root.path().join("home");
        let files = ["ca.pem", "ca.key", "broker.pem", "broker.key"];
        let make = blocks("Several hosts")[0].1.replace("\\\n", "");
        let (make, install): (Vec<&str>, Vec<&str>) =
            make.lines().partition(|line| line.starts_with("openssl"));
        let known = kept.join("broker.pem").exists();
        files
            .iter()
            .filter(|_| known)
            .for_each(|file| assert!(std::fs::copy(kept.join(file), home.join(file)).unwrap() > 0));
        make.iter().filter(|_| !known).for_each(|command| self.type_in(command));
        files.iter().for_each(|file| assert!(std::fs::copy(home.join(file), kept.join(file)).unwrap() > 0));
        install.iter().for_each(|command| self.type_in(command));
    }

    /// How many copies of the stream of snapshots the broker keeps.
    async fn copies_of_snapshots(&self) -> u64 {
        let url = self.here("http://127.0.0.1:8222/jsz?streams=true&config=true");
        let info: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
        let streams = info["account_details"][0]["stream_detail"].as_array().unwrap();
        let snapshots = streams.iter().find(|stream| stream["name"] == "SNAPSHOTS").unwrap();
        snapshots["config"]["num_replicas"].as_u64().unwrap()
    }
}
