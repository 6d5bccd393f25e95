//! A real nats-server of a test's own: the project's nats.conf, a free port, a directory that goes with it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::workspace;

const START_TIMEOUT: Duration = Duration::from_secs(20);

/// The users of nats.conf and the passwords that tests give them.
pub const PASSWORDS: [(&str, &str); 4] = [
    ("worker", "test-worker"),
    ("master", "test-master"),
    ("replica", "test-replica"),
    ("operator", "test-operator"),
];

/// A running nats-server; killed when dropped.
pub struct TestBroker {
    process: Option<Child>,
    dir: TempDir,
    client_port: u16,
    monitor_port: u16,
}

impl TestBroker {
    /// Starts a server with an empty store.
    ///
    /// # Panics
    /// If there is no nats-server (`NATS_SERVER`, `.tools/bin`, PATH) or it does not start.
    #[must_use]
    pub fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut broker = Self { process: None, dir, client_port: 0, monitor_port: 0 };
        broker.spawn();
        broker
    }

    /// Starts the server again on the same port with the same store.
    ///
    /// # Panics
    /// If it does not start.
    pub fn restart(&mut self) {
        self.kill();
        self.spawn();
    }

    /// Kills the server with SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{}", self.address())
    }

    /// Its address as host and port.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.client_port)
    }

    /// Its monitoring address.
    #[must_use]
    pub fn monitor_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.monitor_port)
    }

    /// The password of one of nats.conf's users.
    ///
    /// # Panics
    /// If there is no such user.
    #[must_use]
    pub fn password(user: &str) -> &'static str {
        PASSWORDS.iter().find(|(name, _)| *name == user).expect("a user of nats.conf").1
    }

    fn spawn(&mut self) {
        let ports = self.dir.path().join("ports");
        std::fs::create_dir_all(&ports).expect("the ports directory");
        for old in std::fs::read_dir(&ports).expect("the ports directory").flatten() {
            let _ = std::fs::remove_file(old.path());
        }
        let port = |known: u16| if known == 0 { "-1".to_owned() } else { known.to_string() };
        let log = std::fs::File::create(self.dir.path().join("nats.log")).expect("the log file");
        let mut command = Command::new(nats_server());
        configure(&mut command, &self.dir.path().join("store"));
        command
            .args(["-a", "127.0.0.1", "-p", &port(self.client_port), "-m", &port(self.monitor_port)])
            .arg("--ports_file_dir")
            .arg(&ports)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log file"))
            .stderr(log);
        self.process = Some(command.spawn().expect("nats-server starts"));
        let started = Instant::now();
        loop {
            if let Some((client, monitor)) = read_ports(&ports)
                && std::net::TcpStream::connect(("127.0.0.1", client)).is_ok()
            {
                (self.client_port, self.monitor_port) = (client, monitor);
                return;
            }
            let log = || std::fs::read_to_string(self.dir.path().join("nats.log")).unwrap_or_default();
            assert!(started.elapsed() < START_TIMEOUT, "nats-server did not start: {}", log());
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }
}

impl Drop for TestBroker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Reads the client's and the monitoring port from the file that the server writes once it listens.
fn read_ports(dir: &Path) -> Option<(u16, u16)> {
    let file = std::fs::read_dir(dir).ok()?.flatten().next()?;
    let ports: Value = serde_json::from_slice(&std::fs::read(file.path()).ok()?).ok()?;
    let port = |name: &str| -> Option<u16> {
        ports.get(name)?.get(0)?.as_str()?.rsplit(':').next()?.trim_end_matches('/').parse().ok()
    };
    Some((port("nats")?, port("monitoring")?))
}

/// Gives a nats-server the project's nats.conf, with a store and the passwords of tests.
pub fn configure(command: &mut Command, store: &Path) {
    command
        .arg("-c")
        .arg(workspace().join("nats.conf"))
        .env("SNAPFLEET_NATS_STORE", format!("'{}'", store.display()));
    for (user, password) in PASSWORDS {
        command.env(format!("SNAPFLEET_NATS_{}_PASSWORD", user.to_uppercase()), password);
    }
}

/// The server's binary: `NATS_SERVER`, the project's `.tools/bin`, or PATH.
#[must_use]
pub fn nats_server() -> PathBuf {
    if let Some(path) = std::env::var_os("NATS_SERVER") {
        return path.into();
    }
    let fetched = workspace().join(".tools/bin/nats-server");
    if fetched.exists() { fetched } else { "nats-server".into() }
}
