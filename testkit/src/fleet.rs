//! A fleet of simulated accounts: a master and workers as processes, anywhere that a command can be run, and what the
//! master then shows of them.
//!
//! It knows no hosts and no broker: commands and addresses are given.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use tempfile::TempDir;

use crate::TestBroker;
use crate::process::{Process, binary, free_port};
use crate::system::encode;

const PAGE_ROWS: usize = 500;
const HTTP_TIMEOUT: Duration = Duration::from_secs(10);
/// How often something is looked at that takes a while.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What is simulated.
#[derive(Debug, Clone, Copy)]
pub struct Simulated {
    /// How many accounts.
    pub accounts: u32,
    /// How many records each begins with.
    pub records: u64,
    /// The part of them that changes in each second.
    pub change_rate: f64,
    /// From what the records are made.
    pub seed: u64,
    /// After so many seconds nothing changes any more.
    pub steps: u64,
}

/// What the store holds, by account, kind and id.
pub type Stored = BTreeMap<(String, String, String), Value>;

/// The fleet's processes; killed when dropped.
pub struct Fleet {
    /// The workers by their ids.
    pub workers: BTreeMap<String, Process>,
    /// The master.
    pub master: Option<Process>,
    /// A replica of it.
    pub replica: Option<Process>,
    simulated: Simulated,
    since_ms: u128,
    port: u16,
    replica_port: u16,
    dir: TempDir,
}

impl Fleet {
    /// A fleet of which nothing runs yet. The simulation begins now.
    ///
    /// # Panics
    /// If there is no temporary folder.
    #[must_use]
    pub fn new(simulated: Simulated) -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock after 1970");
        Self {
            workers: BTreeMap::new(),
            master: None,
            replica: None,
            simulated,
            since_ms: since.as_millis(),
            port: free_port(),
            replica_port: free_port(),
            dir: tempfile::tempdir().expect("a temporary directory"),
        }
    }

    /// The path of one of our programs, to make the commands that the others take.
    #[must_use]
    pub fn program(name: &str) -> std::path::PathBuf {
        binary(name)
    }

    /// Starts the master by a command that runs `snapfleet-master`.
    pub fn start_master(&mut self, command: Command, broker: &str, arguments: &[&str]) {
        self.master = Some(self.serve("master", command, self.port, broker, arguments));
    }

    /// Starts a replica of the master by a command that runs `snapfleet-master`.
    pub fn start_replica(&mut self, command: Command, broker: &str) {
        let arguments = ["--replica", "replica"];
        self.replica = Some(self.serve("replica", command, self.replica_port, broker, &arguments));
    }

    fn serve(
        &self,
        user: &str,
        mut command: Command,
        port: u16,
        broker: &str,
        arguments: &[&str],
    ) -> Process {
        command.arg("run").arg("--store").arg(self.dir.path().join(format!("{user}.redb")));
        command.args(["--listen", &format!("127.0.0.1:{port}")]).args(arguments);
        as_user(&mut command, user, broker);
        Process::start(&mut command, &self.dir.path().join(format!("{user}.log")))
    }

    /// Starts a worker by a command that runs `snapfleet-worker`; once more, if it runs.
    pub fn start_worker(&mut self, id: &str, mut command: Command, broker: &str) {
        let Simulated { accounts: _, records, change_rate, seed, steps } = self.simulated;
        drop(self.workers.remove(id));
        command
            .args(["simulate", "--worker-id", id, "--records", &records.to_string()])
            .args(["--change-rate", &change_rate.to_string(), "--seed", &seed.to_string()])
            .args(["--steps", &steps.to_string(), "--since-ms", &self.since_ms.to_string()])
            .arg("--state-dir")
            .arg(self.dir.path().join(id));
        as_user(&mut command, "worker", broker);
        let process = Process::start(&mut command, &self.dir.path().join(format!("{id}.log")));
        self.workers.insert(id.to_owned(), process);
    }

    /// Gives the master its accounts, by a command that runs `snapfleet-master`; waits until it takes them.
    ///
    /// # Panics
    /// If it does not within a minute.
    pub fn import_accounts(&self, command: impl Fn() -> Command) {
        let table = self.dir.path().join("accounts.csv");
        let rows = self.accounts().map(|account| format!("{account},1\n")).collect::<String>();
        std::fs::write(&table, format!("id,interval_s\n{rows}")).expect("the table of accounts");
        let started = Instant::now();
        loop {
            let mut command = command();
            command.args(["accounts", "import", "--url", &self.url()]).arg(&table);
            let output = command.output().expect("snapfleet-master runs");
            if output.status.success() {
                return;
            }
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(started.elapsed() < Duration::from_secs(60), "{said}\n{}", self.logs());
            std::thread::park_timeout(LOOK_EVERY);
        }
    }

    /// The accounts' ids.
    pub fn accounts(&self) -> impl Iterator<Item = String> {
        (0..self.simulated.accounts).map(|number| format!("sim.a{number:04}"))
    }

    /// The master's address, on its host.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What the master answers below `/api/v1/`, if it answers well.
    pub async fn api(&self, path: &str) -> Option<Value> {
        get(&format!("{}/api/v1/{path}", self.url())).await
    }

    /// The instance that captures each account, by the master's word; accounts that nobody captures are left out.
    pub async fn holders(&self) -> BTreeMap<String, String> {
        let mut holders = BTreeMap::new();
        for row in rows(&self.url(), "accounts").await.unwrap_or_default() {
            if let (Some(account), Some(worker), "capturing") =
                (row["account"].as_str(), row["worker"].as_str(), row["state"].as_str().unwrap_or_default())
            {
                holders.insert(account.to_owned(), worker.to_owned());
            }
        }
        holders
    }

    /// Waits until every account is captured, and by workers of which `wanted` approves; says by whom.
    ///
    /// # Panics
    /// When `deadline` has passed.
    pub async fn wait_for_holders(
        &self,
        deadline: Duration,
        wanted: impl Fn(&BTreeMap<String, String>) -> bool,
    ) -> BTreeMap<String, String> {
        let started = Instant::now();
        loop {
            let holders = self.holders().await;
            if holders.len() == self.simulated.accounts as usize && wanted(&holders) {
                return holders;
            }
            let logs = || self.logs();
            assert!(started.elapsed() < deadline, "held are {holders:?}\n{}", logs());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until the master's store shows exactly these records.
    ///
    /// # Panics
    /// With the first differences, when `deadline` has passed; if something was added twice.
    pub async fn wait_until_stored(&self, deadline: Duration, truth: &Stored) {
        self.wait_until_shown(&self.url(), deadline, truth).await;
    }

    /// Waits until the replica's store shows exactly these records.
    ///
    /// # Panics
    /// As [`Fleet::wait_until_stored`].
    pub async fn wait_until_replicated(&self, deadline: Duration, truth: &Stored) {
        let url = format!("http://127.0.0.1:{}", self.replica_port);
        self.wait_until_shown(&url, deadline, truth).await;
    }

    async fn wait_until_shown(&self, url: &str, deadline: Duration, truth: &Stored) {
        let started = Instant::now();
        loop {
            let stored = stored(url).await.unwrap_or_default();
            let differ = |key: &&(String, String, String)| stored.get(*key) != truth.get(*key);
            let differing: Vec<_> = truth.keys().chain(stored.keys()).filter(differ).take(5).collect();
            if differing.is_empty() {
                return;
            }
            let logs = || self.logs();
            let (has, wants) = (stored.len(), truth.len());
            assert!(
                started.elapsed() < deadline,
                "{has} of {wants} records; these differ: {differing:?}\n{}",
                logs()
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The last lines of each process.
    #[must_use]
    pub fn logs(&self) -> String {
        let mut logs = String::new();
        let masters = [("master", &self.master), ("replica", &self.replica)];
        let masters = masters.into_iter().filter_map(|(name, process)| Some((name, process.as_ref()?)));
        for (name, process) in self.workers.iter().map(|(id, worker)| (id.as_str(), worker)).chain(masters) {
            let text = process.log();
            let tail: Vec<&str> = text.lines().rev().take(30).collect();
            logs += &format!("--- {name}\n");
            logs.extend(tail.into_iter().rev().map(|line| format!("{line}\n")));
        }
        logs
    }

    /// The fleet's folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

fn as_user(command: &mut Command, user: &str, broker: &str) {
    command
        .env("NATS_URL", broker)
        .env("SNAPFLEET_NATS_USER", user)
        .env("SNAPFLEET_NATS_PASSWORD", TestBroker::password(user));
}

/// What a store holds, as its change log tells it: each record added once, and from then on only changed.
///
/// # Panics
/// If something was added twice, or changed without a change.
async fn stored(url: &str) -> Option<Stored> {
    let mut stored = Stored::new();
    for mut change in rows(url, "changes").await? {
        let text = |name: &str| change[name].as_str().unwrap_or_default().to_owned();
        let key = (text("account"), text("kind"), text("id"));
        let operation = text("operation");
        let mut record = change["record"].take();
        for field in ["account", "first_seen_at", "updated_at"] {
            record.as_object_mut()?.remove(field);
        }
        let before = stored.insert(key.clone(), record.clone());
        assert_eq!(before.is_none(), operation == "added", "{key:?} was {operation}");
        assert_ne!(before.as_ref(), Some(&record), "{key:?} was {operation} and is as before");
    }
    Some(stored)
}

async fn rows(url: &str, path: &str) -> Option<Vec<Value>> {
    let (mut rows, mut after) = (Vec::new(), String::new());
    loop {
        let page = get(&format!("{url}/api/v1/{path}?limit={PAGE_ROWS}{after}")).await?;
        let items = page["items"].as_array()?;
        rows.extend(items.iter().cloned());
        match page["next"].as_str() {
            Some(next) if !items.is_empty() => after = format!("&after={}", encode(next)),
            _ => return Some(rows),
        }
    }
}

async fn get(url: &str) -> Option<Value> {
    // A client of its own: the next request may be made on another host.
    let http = reqwest::Client::builder().timeout(HTTP_TIMEOUT).build().ok()?;
    let answer = http.get(url).send().await.ok()?;
    if answer.status().is_success() { answer.json().await.ok() } else { None }
}
