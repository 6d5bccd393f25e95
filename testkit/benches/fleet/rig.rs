//! The processes: nats-server, one master, and workers that simulate their accounts.

use std::fmt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use snapfleet_testkit::TestBroker;
use snapfleet_testkit::process::{Process, binary, free_port};
use tempfile::TempDir;

use crate::observe::{Part, Streams, child_named};

/// A worker takes this many times its share, so that others can go without an account being left alone.
const SPARE: u64 = 2;
/// How long workers may take to publish what they have and give back their accounts.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    pub(crate) accounts: u64,
    pub(crate) workers: u64,
    /// Of each account.
    pub(crate) records: u64,
    /// Of an account's records in each interval.
    pub(crate) change_rate: f64,
    pub(crate) interval_s: u64,
    /// How long is measured while records change.
    pub(crate) measure_s: u64,
}

impl Options {
    pub(crate) fn parse(args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            accounts: 1_000,
            workers: 4,
            records: 200,
            change_rate: 0.01,
            interval_s: 30,
            measure_s: 60,
        };
        // Cargo adds a flag of its own.
        let mut args = args.filter(|arg| arg != "--bench");
        while let Some(name) = args.next() {
            let text = args.next().unwrap_or_default();
            let number = || match text.parse() {
                Ok(number @ 1..=1_000_000) => Ok(number),
                _ => Err(format!("{name} {text:?} is not a number from 1 to 1000000")),
            };
            match name.as_str() {
                "--accounts" => options.accounts = number()?,
                "--workers" => options.workers = number()?,
                "--records" => options.records = number()?,
                "--interval-s" => options.interval_s = number()?,
                "--measure-s" => options.measure_s = number()?,
                "--change-rate" => {
                    options.change_rate =
                        text.parse().map_err(|_| format!("{name} {text:?} is not a number"))?;
                }
                _ => {
                    return Err(format!(
                        "{name} is not known: use --accounts, --workers, --records, --change-rate, --interval-s, \
                         --measure-s"
                    ));
                }
            }
        }
        Ok(options)
    }

    /// Changes in a second, of all accounts together.
    pub(crate) fn asked_changes(&self) -> f64 {
        (self.accounts * self.records) as f64 * self.change_rate / self.interval_s as f64
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { accounts, workers, records, change_rate, interval_s, .. } = self;
        write!(
            f,
            "{accounts} accounts of {records} records on {workers} workers, interval {interval_s} s, change rate {change_rate}"
        )
    }
}

/// The running fleet.
pub(crate) struct Rig {
    pub(crate) options: Options,
    pub(crate) broker: TestBroker,
    workers: Vec<Process>,
    master: Process,
    master_url: String,
    http: reqwest::Client,
    dir: TempDir,
}

impl Rig {
    pub(crate) async fn start(options: Options) -> Self {
        let (broker, dir) = (TestBroker::start(), tempfile::tempdir().expect("a temporary directory"));
        let listen = format!("127.0.0.1:{}", free_port());
        let mut master = Command::new(binary("snapfleet-master"));
        master
            .args(["run", "--listen", &listen, "--store"])
            .arg(dir.path().join("master.redb"))
            .env("NATS_URL", broker.url())
            .env("SNAPFLEET_NATS_PASSWORD", TestBroker::password("master"));
        let master = Process::start(&mut master, &dir.path().join("master.log"));
        let http =
            reqwest::Client::builder().timeout(Duration::from_secs(20)).build().expect("an HTTP client");
        let master_url = format!("http://{listen}");
        let rig = Self { options, broker, workers: Vec::new(), master, master_url, http, dir };
        let started = Instant::now();
        while !rig.status().await.is_some_and(|status| status["broker"]["connected"] == true) {
            assert!(
                started.elapsed() < READY_TIMEOUT,
                "the master does not reach the broker\n{}",
                rig.logs()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        rig
    }

    /// Configures the accounts; returns how long it took.
    pub(crate) fn import(&self) -> Duration {
        let number = |number: u64| number.to_string();
        let mut table = Command::new(binary("snapfleet-worker"));
        table.args(["simulate", "--csv", "--accounts", &number(self.options.accounts)]);
        table.args(["--interval-s", &number(self.options.interval_s)]);
        let path = self.dir.path().join("accounts.csv");
        std::fs::write(&path, said(table)).expect("the table is written");
        let started = Instant::now();
        let mut import = Command::new(binary("snapfleet-master"));
        import.args(["accounts", "import"]).arg(path).env("SNAPFLEET_URL", &self.master_url);
        said(import);
        started.elapsed()
    }

    /// Starts all workers, each on the folder that it had before.
    pub(crate) fn start_workers(&mut self, change_rate: f64) {
        let options = self.options;
        let share = options.accounts.div_ceil(options.workers) * SPARE;
        for number in 0..options.workers {
            let name = format!("worker-{number}");
            let mut worker = Command::new(binary("snapfleet-worker"));
            worker
                .args(["simulate", "--seed", "1", "--worker-id", &name])
                .args(["--records", &options.records.to_string(), "--change-rate", &change_rate.to_string()])
                .args(["--max-accounts", &share.to_string(), "--state-dir"])
                .arg(self.dir.path().join(&name))
                .env("NATS_URL", self.broker.url())
                .env("SNAPFLEET_NATS_PASSWORD", TestBroker::password("worker"))
                .env("SNAPFLEET_LOG", "warn");
            self.workers.push(Process::start(&mut worker, &self.log(&name)));
        }
    }

    /// Has all workers stop in order.
    pub(crate) async fn stop_workers(&mut self) {
        for worker in &self.workers {
            worker.signal("TERM");
        }
        let started = Instant::now();
        for worker in &mut self.workers {
            while worker.exit_code().is_none() && started.elapsed() < STOP_TIMEOUT {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            assert_eq!(worker.exit_code(), Some(0), "a worker did not stop in order\n{}", worker.log());
        }
        self.workers.clear();
    }

    /// The master's status, if it answers.
    pub(crate) async fn status(&self) -> Option<Value> {
        self.api("status").await
    }

    /// What the master answers below `/api/v1/`, if it answers well.
    pub(crate) async fn api(&self, path: &str) -> Option<Value> {
        let answer = self.http.get(format!("{}/api/v1/{path}", self.master_url)).send().await.ok()?;
        if answer.status().is_success() { answer.json().await.ok() } else { None }
    }

    /// A connection to the broker of our own.
    pub(crate) async fn client(&self, user: &str) -> async_nats::Client {
        async_nats::ConnectOptions::with_user_and_password(
            user.to_owned(),
            TestBroker::password(user).to_owned(),
        )
        .custom_inbox_prefix(format!("_INBOX_{user}"))
        .connect(self.broker.url())
        .await
        .expect("the broker takes its users")
    }

    /// The broker's streams at this moment.
    pub(crate) async fn streams(&self) -> Streams {
        let url = format!("{}/jsz?acc=FLEET&streams=true", self.broker.monitor_url());
        let answer = self.http.get(url).send().await.expect("the broker's monitoring answers");
        Streams::read(&answer.json().await.expect("the broker's monitoring answers with JSON"))
    }

    /// The processes by what they are.
    pub(crate) fn parts(&self) -> Vec<(Part, u32)> {
        let mut parts = vec![(Part::Master, self.master.id())];
        parts.extend(child_named("nats-server").map(|pid| (Part::Broker, pid)));
        parts.extend(self.workers.iter().map(|worker| (Part::Worker, worker.id())));
        parts
    }

    fn log(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.log"))
    }

    /// The ends of some logs, for a failure's message.
    pub(crate) fn logs(&self) -> String {
        let mut logs = String::new();
        for name in ["master", "worker-0"] {
            let text = std::fs::read_to_string(self.log(name)).unwrap_or_default();
            let tail: Vec<&str> = text.lines().rev().take(20).collect();
            logs += &format!("--- {name}\n");
            logs.extend(tail.into_iter().rev().map(|line| format!("{line}\n")));
        }
        logs
    }
}

/// Runs a command to its end; what it wrote to standard output.
fn said(mut command: Command) -> String {
    let output = command.output().expect("the project's binaries run");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let (out, error) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success(), "{command:?}: {out}{error}");
    out
}

/// The records in a master's status.
pub(crate) fn stored(status: &Value) -> u64 {
    let kinds = ["contents", "comments", "conversations", "direct_messages", "notifications"];
    kinds.iter().filter_map(|kind| status["store"][kind].as_u64()).sum()
}
