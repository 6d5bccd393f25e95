//! The master's own binary as a process, asked over HTTP and by its command line.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use snapfleet_testkit::process::{Process, free_port};

/// A running master, killed when dropped.
pub(crate) struct Running {
    pub(crate) process: Process,
    pub(crate) url: String,
}

pub(crate) fn binary() -> Command {
    Command::new(env!("CARGO_BIN_EXE_snapfleet-master"))
}

impl Running {
    /// Starts it with its store and log in `dir`; `with` completes the command.
    pub(crate) fn start(dir: &Path, with: impl FnOnce(&mut Command)) -> Self {
        let listen = format!("127.0.0.1:{}", free_port());
        let mut command = binary();
        command.arg("run").arg("--store").arg(dir.join("master.redb")).args(["--listen", &listen]);
        with(&mut command);
        let process = Process::start(&mut command, &dir.join("master.log"));
        Self { process, url: format!("http://{listen}") }
    }

    /// What it answers at `path`, once it serves.
    pub(crate) async fn get(&self, path: &str) -> Option<Value> {
        let answer = reqwest::get(format!("{}/api/v1/{path}", self.url)).await.ok()?;
        answer.json().await.ok()
    }

    /// A command of the same binary, asking this master.
    pub(crate) fn cli(&self, arguments: &[&str]) -> Output {
        binary().args(arguments).args(["--url", &self.url]).output().unwrap()
    }

    /// What such a command prints, which must succeed.
    pub(crate) fn says(&self, arguments: &[&str]) -> String {
        let output = self.cli(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}
