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

mod equality;

const PASSWORD: &str = "demo-secret";
const READY_TIMEOUT: Duration = Duration::from_secs(60);
const PAGE_ROWS: usize = 500;

/// How the system is set up.
pub struct Setup {
    /// The demo accounts of each worker.
    pub workers: Vec<Vec<&'static str>>,
    /// What happens to each demo account a minute.
    pub events_per_minute: f64,
    /// Where the master finds the broker, if not directly.
    pub master_broker_url: Option<String>,
    /// Where the workers find the broker, if not directly.
    pub worker_broker_url: Option<String>,
    /// The publish interval of the accounts, in seconds.
    pub interval_s: u64,
    /// How often the demo site's page fetches its lists again, in seconds.
    pub poll_s: u32,
    /// Whether pages are loaded anew now and then, as their platforms say.
    pub refresh: bool,
    /// Further accounts and their settings, given to the first worker.
    pub more_accounts: Vec<(String, Value)>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            workers: vec![vec!["shop-a", "shop-b", "shop-c"], vec!["shop-d", "shop-e"]],
            events_per_minute: 60.0,
            master_broker_url: None,
            worker_broker_url: None,
            interval_s: 2,
            poll_s: 3,
            refresh: true,
            more_accounts: Vec::new(),
        }
    }
}

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

/// The demo site as a test drives it; it does not hold the system, whose parts may be killed meanwhile.
#[derive(Clone)]
pub struct SiteControl {
    url: String,
    http: reqwest::Client,
}

impl SiteControl {
    /// Tells the demo site to do something.
    ///
    /// # Panics
    /// If the site does not.
    pub async fn post(&self, path: &str) -> Value {
        let url = format!("{}/control/{path}", self.url);
        let answer = self.http.post(&url).send().await.expect("the site answers");
        assert!(answer.status().is_success(), "{url}: {}", answer.status());
        answer.json().await.unwrap_or(Value::Null)
    }
}

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
            .args(["--messages", "15"])
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
        write_key(&system.dir.path().join("fleet.key"));
        if !system.setup.refresh {
            copy_platforms_without_refresh(&system.platforms());
        }
        system.start_master();
        system.wait_for_master().await;
        system.add_accounts().await;
        for index in 0..system.setup.workers.len() {
            let worker = system.spawn_worker(index);
            system.workers.push(worker);
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

    fn platforms(&self) -> PathBuf {
        if self.setup.refresh { workspace() } else { self.dir.path().to_owned() }.join("platforms")
    }

    fn spawn_worker(&self, index: usize) -> Process {
        let mut worker = Command::new(binary("snapfleet-worker"));
        worker
            .arg("run")
            .arg("--platforms")
            .arg(self.platforms())
            .arg("--state-dir")
            .arg(self.dir.path().join(format!("worker-{index}")))
            .args(["--label", &format!("worker=w{index}")])
            .arg("--session-key-file")
            .arg(self.dir.path().join("fleet.key"))
            .env("NATS_URL", self.setup.worker_broker_url.clone().unwrap_or_else(|| self.broker.url()))
            .env("SNAPFLEET_NATS_USER", "worker")
            .env("SNAPFLEET_NATS_PASSWORD", TestBroker::password("worker"));
        Process::start(&mut worker, &self.dir.path().join(format!("worker-{index}.log")))
    }

    /// Gives each worker its accounts, by a label that it alone carries.
    async fn add_accounts(&self) {
        let mut accounts: Vec<(usize, String, Value)> = Vec::new();
        for (worker, names) in self.setup.workers.iter().enumerate() {
            accounts.extend(names.iter().map(|name| {
                let base_url = format!("http://127.0.0.1:{}", self.site_port);
                let settings = json!({ "base_url": base_url, "username": name, "password": PASSWORD });
                (worker, format!("demo.{name}"), settings)
            }));
        }
        accounts
            .extend(self.setup.more_accounts.iter().map(|(id, settings)| (0, id.clone(), settings.clone())));
        for (worker, account, settings) in accounts {
            let body = json!({
                "account": account,
                "interval_s": self.setup.interval_s,
                "labels": { "worker": format!("w{worker}") },
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

    /// Tells the demo site to do something.
    ///
    /// # Panics
    /// If the site does not.
    pub async fn control(&self, path: &str) -> Value {
        self.site_control().post(path).await
    }

    /// The demo site, to be driven beside what else happens.
    #[must_use]
    pub fn site_control(&self) -> SiteControl {
        SiteControl { url: format!("http://127.0.0.1:{}", self.site_port), http: self.http.clone() }
    }

    /// Records by kind and id that the site says it has served to an account.
    ///
    /// # Panics
    /// If the site does not answer.
    pub async fn truth(&self, account: &str) -> Records {
        let url = format!("http://127.0.0.1:{}/truth/{account}", self.site_port);
        let truth: Value =
            self.http.get(&url).send().await.expect("the site answers").json().await.expect("JSON");
        let lists = [
            ("contents", "content"),
            ("comments", "comment"),
            ("conversations", "conversation"),
            ("direct_messages", "direct_message"),
            ("notifications", "notification"),
        ];
        let mut records = BTreeMap::new();
        for (list, kind) in lists {
            for record in truth[list].as_array().expect("a list") {
                let id = record["id"].as_str().expect("an id").to_owned();
                records.insert((kind.to_owned(), id), record.clone());
            }
        }
        records
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

/// A key of the fleet that only its owner can read.
fn write_key(path: &Path) {
    std::fs::write(path, "5a".repeat(32)).expect("the key's file");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(path, private).expect("the key's permissions");
}

/// The platforms without the wish to load their pages anew.
fn copy_platforms_without_refresh(to: &Path) {
    for platform in ["demo", "isso"] {
        let (from, to) = (workspace().join("platforms").join(platform), to.join(platform));
        std::fs::create_dir_all(&to).expect("a folder for the platform");
        for file in std::fs::read_dir(from).expect("the platform's folder").flatten() {
            if file.path().is_file() {
                std::fs::copy(file.path(), to.join(file.file_name())).expect("the platform's file is copied");
            }
        }
        let manifest = to.join("platform.toml");
        let text = std::fs::read_to_string(&manifest).expect("the platform's manifest");
        let kept = text.lines().filter(|line| !line.starts_with("refresh_s")).collect::<Vec<_>>().join("\n");
        std::fs::write(&manifest, kept).expect("the platform's manifest");
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
