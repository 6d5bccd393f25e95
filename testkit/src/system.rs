//! The whole system as an operator starts it, each part a process of its own: nats-server, the demo site, the
//! master, workers with their browsers. What it stores is compared with what the site says it has served.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::{Process, binary, free_port};
use crate::{TestBroker, eventually, workspace};
use setup::{copy_platforms, write_key};

mod equality;
mod setup;
mod site;

pub use setup::Setup;
pub use site::SiteControl;

/// The password of every account of the demo site.
const PASSWORD: &str = "demo-secret";
/// What the fleet's key is made of.
pub const FLEET_KEY: u8 = 0x5a;
const READY_TIMEOUT: Duration = Duration::from_secs(60);
const PAGE_ROWS: usize = 500;

/// The running system.
pub struct System {
    /// The broker.
    pub broker: TestBroker,
    /// The demo site.
    pub site: Process,
    /// The master; `None` while it is dead.
    pub master: Option<Process>,
    /// The workers.
    pub workers: Vec<Process>,
    setup: Setup,
    dir: TempDir,
    site_port: u16,
    master_port: u16,
    http: reqwest::Client,
}

/// A record's kind and id.
pub type Key = (String, String);
/// Records by kind and id.
pub type Records = BTreeMap<Key, Value>;
/// What was served to each demo account, by its name.
pub type Truths = BTreeMap<&'static str, Records>;

impl System {
    /// Starts everything on `broker` and waits until the master answers.
    ///
    /// # Panics
    /// If a part does not start.
    pub async fn start(broker: TestBroker, setup: Setup) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (site_port, master_port) = (free_port(), free_port());
        let accounts = setup.workers.concat().join(",");
        let mut site = Command::new(binary("snapfleet-demo-site"));
        site.args(["--listen", &format!("127.0.0.1:{site_port}"), "--accounts", &accounts])
            .args(["--events-per-minute", &setup.events_per_minute.to_string()])
            .args(["--poll-s", &setup.poll_s.to_string()])
            .args(["--works", "4", "--comments", "8", "--conversations", "5"])
            .args(["--messages", "15", "--login", if setup.qr_login { "qr" } else { "form" }])
            .env("SNAPFLEET_DEMO_PASSWORD", PASSWORD);
        let site = Process::start(&mut site, &dir.path().join("site.log"));
        let http =
            reqwest::Client::builder().timeout(Duration::from_secs(20)).build().expect("an HTTP client");
        let mut system = Self {
            broker,
            site,
            master: None,
            workers: Vec::new(),
            setup,
            dir,
            site_port,
            master_port,
            http,
        };
        if let Some(refresh_s) = system.setup.refresh_s {
            copy_platforms(&system.platforms(), refresh_s);
        }
        system.start_master();
        system.wait_for_master().await;
        system.add_accounts().await;
        for _ in 0..system.setup.workers.len() {
            system.add_worker(FLEET_KEY);
        }
        system
    }

    /// Starts the master on the store it had before.
    pub fn start_master(&mut self) {
        let mut master = self.master_command();
        master
            .arg("run")
            .arg("--store")
            .arg(self.store_path())
            .args(["--listen", &format!("127.0.0.1:{}", self.master_port)]);
        self.master = Some(Process::start(&mut master, &self.dir.path().join("master.log")));
    }

    /// The master's binary with the broker's address and password in its environment.
    #[must_use]
    pub fn master_command(&self) -> Command {
        let mut command = Command::new(binary("snapfleet-master"));
        command
            .env("NATS_URL", self.setup.master_broker_url.clone().unwrap_or_else(|| self.broker.url()))
            .env("SNAPFLEET_NATS_USER", "master")
            .env("SNAPFLEET_NATS_PASSWORD", TestBroker::password("master"));
        command
    }

    /// Waits until the master answers.
    ///
    /// # Panics
    /// If it does not within a minute.
    pub async fn wait_for_master(&self) {
        eventually(READY_TIMEOUT, "the master answers", async || self.try_api("status").await).await;
    }

    /// Starts the worker with this number anew, after a kill.
    pub fn restart_worker(&mut self, index: usize) {
        self.workers[index].kill();
        self.workers[index] = self.spawn_worker(index);
    }

    /// Starts one more worker, with a key made of this byte; all have [`FLEET_KEY`] otherwise.
    pub fn add_worker(&mut self, key: u8) {
        let index = self.workers.len();
        write_key(&self.key_path(index), key);
        let worker = self.spawn_worker(index);
        self.workers.push(worker);
    }

    /// How many processes of the browser of the worker with this number there are, whether that worker lives or not.
    ///
    /// # Panics
    /// If `ps` does not run.
    #[must_use]
    pub fn browser_processes(&self, index: usize) -> usize {
        let profile = self.state_dir(index).join("browser").display().to_string();
        let processes = Command::new("ps").args(["-ww", "-eo", "args"]).output().expect("ps runs");
        let processes = String::from_utf8_lossy(&processes.stdout).into_owned();
        processes.lines().filter(|line| line.contains("chrom") && line.contains(&profile)).count()
    }

    /// The folder of platforms of its workers; a copy of its own where the setup says how often pages are loaded anew.
    #[must_use]
    pub fn platforms(&self) -> PathBuf {
        let copied = self.setup.refresh_s.is_some();
        if copied { self.dir.path().to_owned() } else { workspace() }.join("platforms")
    }

    /// What the worker with this number keeps on disk.
    #[must_use]
    pub fn state_dir(&self, index: usize) -> PathBuf {
        self.dir.path().join(format!("worker-{index}"))
    }

    fn key_path(&self, index: usize) -> PathBuf {
        self.dir.path().join(format!("worker-{index}.key"))
    }

    fn spawn_worker(&self, index: usize) -> Process {
        let mut worker = Command::new(binary("snapfleet-worker"));
        worker
            .arg("run")
            .arg("--platforms")
            .arg(self.platforms())
            .arg("--state-dir")
            .arg(self.state_dir(index))
            .args(["--worker-id", &format!("w{index}"), "--label", &format!("worker=w{index}")])
            .arg("--session-key-file")
            .arg(self.key_path(index))
            .env("NATS_URL", self.setup.worker_broker_url.clone().unwrap_or_else(|| self.broker.url()))
            .env("SNAPFLEET_NATS_USER", "worker")
            .env("SNAPFLEET_NATS_PASSWORD", TestBroker::password("worker"));
        Process::start(&mut worker, &self.dir.path().join(format!("worker-{index}.log")))
    }

    async fn add_accounts(&self) {
        for (worker, names) in self.setup.workers.iter().enumerate() {
            for name in names {
                let settings = match self.setup.qr_login {
                    true => json!({ "base_url": self.site_url() }),
                    false => self.demo_settings(name, PASSWORD),
                };
                self.add_account(&format!("demo.{name}"), worker, settings).await;
            }
        }
        for (account, settings) in &self.setup.more_accounts {
            self.add_account(account, 0, settings.clone()).await;
        }
    }

    /// What the demo platform asks of an account that logs in as `user`.
    #[must_use]
    pub fn demo_settings(&self, user: &str, password: &str) -> Value {
        json!({ "base_url": self.site_url(), "username": user, "password": password })
    }

    /// Adds an account; where accounts are pinned, it is for the worker with this number, by a label that it alone
    /// carries.
    ///
    /// # Panics
    /// If the master refuses it, or does not take it within a minute.
    pub async fn add_account(&self, account: &str, worker: usize, settings: Value) {
        let labels = if self.setup.pinned { json!({ "worker": format!("w{worker}") }) } else { json!({}) };
        let body = json!({
            "account": account,
            "interval_s": self.setup.interval_s,
            "labels": labels,
            "settings": settings,
            "plain_secrets": true,
        });
        let url = format!("{}/api/v1/accounts", self.master_url());
        eventually(READY_TIMEOUT, "the master takes an account", async || {
            let answer = self.http.post(&url).json(&body).send().await.ok()?;
            // Until the broker is reached, the master takes none.
            assert!(
                answer.status().is_success() || answer.status().is_server_error(),
                "{account}: {}",
                answer.text().await.unwrap_or_default()
            );
            answer.status().is_success().then_some(())
        })
        .await;
    }

    /// The master's file.
    #[must_use]
    pub fn store_path(&self) -> PathBuf {
        self.dir.path().join("master.redb")
    }

    /// The system's own folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The master's address.
    #[must_use]
    pub fn master_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.master_port)
    }

    fn site_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.site_port)
    }

    /// The logs of all parts, for a failing test's message.
    #[must_use]
    pub fn logs(&self) -> String {
        let mut logs = String::new();
        for part in ["master", "worker-0", "worker-1", "site"] {
            let text =
                std::fs::read_to_string(self.dir.path().join(format!("{part}.log"))).unwrap_or_default();
            let tail: Vec<&str> = text.lines().rev().take(40).collect();
            logs += &format!("--- {part}\n");
            logs.extend(tail.into_iter().rev().map(|line| format!("{line}\n")));
        }
        logs
    }

    /// What the master answers below `/api/v1/`, if it answers well.
    pub async fn try_api(&self, path: &str) -> Option<Value> {
        let answer = self.http.get(format!("{}/api/v1/{path}", self.master_url())).send().await.ok()?;
        if !answer.status().is_success() {
            return None;
        }
        answer.json().await.ok()
    }

    /// What the master answers below `/api/v1/`.
    ///
    /// # Panics
    /// If it does not answer well.
    pub async fn api(&self, path: &str) -> Value {
        self.try_api(path).await.unwrap_or_else(|| panic!("no answer to {path}\n{}", self.logs()))
    }

    /// Every row of a paged list of the API.
    ///
    /// # Panics
    /// If the master does not answer well.
    pub async fn rows(&self, path: &str) -> Vec<Value> {
        let (mut rows, mut after) = (Vec::new(), None::<String>);
        let joined = if path.contains('?') { "&" } else { "?" };
        loop {
            let cursor = after.map(|after| format!("&after={}", encode(&after))).unwrap_or_default();
            let page = self.api(&format!("{path}{joined}limit={PAGE_ROWS}{cursor}")).await;
            let items = page["items"].as_array().expect("a list").clone();
            let done = items.is_empty();
            rows.extend(items);
            after = page["next"].as_str().map(str::to_owned);
            if done || after.is_none() {
                return rows;
            }
        }
    }

    /// Records by kind and id that the master's API shows of an account.
    ///
    /// # Panics
    /// If the master does not answer, or shows a record twice or under another account.
    pub async fn store(&self, account: &str) -> Records {
        let known = self.api("accounts").await;
        if !known["items"].as_array().expect("a list").iter().any(|known| known["account"] == account) {
            return BTreeMap::new();
        }
        let mut rows = Vec::new();
        for list in ["contents", "comments", "notifications"] {
            rows.extend(self.rows(&format!("{list}?account={account}")).await);
        }
        let conversations = self.rows(&format!("accounts/{account}/conversations")).await;
        for thread in self.rows(&format!("accounts/{account}/threads")).await {
            if thread["kind"] == "conversation" {
                let id = encode(thread["id"].as_str().expect("an id"));
                rows.extend(self.rows(&format!("conversations/{id}/messages?account={account}")).await);
            }
        }
        rows.extend(conversations);
        let mut records = BTreeMap::new();
        for mut row in rows {
            let fields = row.as_object_mut().expect("an object");
            let of = fields.remove("account").expect("an account");
            assert_eq!(of, account, "a record under the wrong account");
            fields.remove("first_seen_at");
            fields.remove("updated_at");
            let kind = fields.remove("kind").expect("a kind").as_str().expect("text").to_owned();
            let id = fields["id"].as_str().expect("an id").to_owned();
            let before = records.insert((kind.clone(), id.clone()), row);
            assert!(before.is_none(), "{kind} {id} is shown twice");
        }
        records
    }

    /// Waits until something of the first account is stored.
    ///
    /// # Panics
    /// If nothing comes within `deadline`.
    pub async fn wait_for_first_records(&self, deadline: Duration) {
        let account = format!("demo.{}", self.setup.workers[0][0]);
        eventually(deadline, "the first records are stored", async || {
            let page = self.try_api(&format!("comments?account={account}")).await?;
            page["items"].as_array().is_some_and(|items| !items.is_empty()).then_some(())
        })
        .await;
    }
}

impl Drop for System {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
    }
}

/// Percent-encodes what is not safe in a part of a URL.
#[must_use]
pub fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded += &format!("%{byte:02X}");
        }
    }
    encoded
}
