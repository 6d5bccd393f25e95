//! What docs/platforms.md has its reader type works as it stands there, in a fresh folder, and prints what it says; its
//! reference names what there is; and both languages say the same.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "tutorial/document.rs"]
mod document;
#[path = "tutorial/examples.rs"]
mod examples;
#[path = "tutorial/mistakes.rs"]
mod mistakes;
#[path = "tutorial/reference.rs"]
mod reference;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use snapfleet_testkit::process::{Process, binary, free_port};
use snapfleet_testkit::{TestBroker, eventually, workspace};
use tempfile::TempDir;

use document::{ENGLISH, blocks, difference, text};

/// Reading the account's settings, a browser's start and a page that does not work.
const SHOWN_WITHIN: Duration = Duration::from_secs(60);

/// A folder as the reader's: the project's, as far as the tutorial needs it. A worker wants a platform to begin with.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let programs = binary("snapfleet-worker").parent().unwrap().to_owned();
    std::fs::create_dir_all(folder.path().join("target")).unwrap();
    std::os::unix::fs::symlink(programs, folder.path().join("target/release")).unwrap();
    for part in ["docs/tutorial", "platforms/lib", "platforms/demo"] {
        std::fs::create_dir_all(folder.path().join(part)).unwrap();
        let files = std::fs::read_dir(workspace().join(part)).unwrap().flatten();
        for file in files.filter(|file| file.path().is_file()) {
            std::fs::copy(file.path(), folder.path().join(part).join(file.file_name())).unwrap();
        }
    }
    folder
}

/// A terminal in that folder.
struct Shell {
    folder: PathBuf,
    master: String,
    /// What was exported so far.
    known: String,
}

impl Shell {
    /// What the lines print, errors among it.
    ///
    /// # Errors
    /// The same, if one of them fails.
    fn run(&mut self, lines: &str) -> Result<String, String> {
        let script = format!("exec 2>&1\nset -euo pipefail\n{}\n{lines}", self.known);
        let ran = Command::new("bash")
            .args(["-c", &script])
            .current_dir(&self.folder)
            .env("SNAPFLEET_URL", &self.master)
            .env_remove("SNAPFLEET_LOG")
            .output()
            .unwrap();
        for line in lines.lines().filter(|line| line.starts_with("export ")) {
            self.known += &format!("{line}\n");
        }
        let said = String::from_utf8_lossy(&ran.stdout).into_owned();
        if ran.status.success() { Ok(said) } else { Err(said) }
    }
}

/// What `scripts/run` runs, as far as the tutorial needs it.
struct Fleet {
    _broker: TestBroker,
    _parts: Vec<Process>,
    url: String,
}

impl Fleet {
    fn start(folder: &Path) -> Self {
        let (broker, port) = (TestBroker::start(), free_port());
        let data = folder.join("data");
        std::fs::create_dir(&data).unwrap();
        let part = |name: &str, user: &str, arguments: &[&str]| {
            let mut command = Command::new(binary(name));
            command.args(arguments).current_dir(folder).env("NATS_URL", broker.url());
            command.env("SNAPFLEET_NATS_PASSWORD", TestBroker::password(user));
            Process::start(&mut command, &data.join(format!("{name}.log")))
        };
        let listen = format!("127.0.0.1:{port}");
        let master = ["run", "--store", "data/master.redb", "--listen", &listen];
        let worker = ["run", "--platforms", "platforms", "--state-dir", "data/worker"];
        let parts =
            vec![part("snapfleet-master", "master", &master), part("snapfleet-worker", "worker", &worker)];
        Self { _broker: broker, _parts: parts, url: format!("http://{listen}") }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ten_steps_work_as_written_and_print_what_is_said() {
    let folder = folder();
    let fleet = Fleet::start(folder.path());
    let status = format!("{}/api/v1/status", fleet.url);
    eventually(SHOWN_WITHIN, "a worker is online", async || {
        let answer = reqwest::get(&status).await.ok()?.text().await.ok()?;
        let status: serde_json::Value = serde_json::from_str(&answer).ok()?;
        (status["workers"]["online"] == 1).then_some(())
    })
    .await;

    let all = text(ENGLISH);
    let (tutorial, _) = all.split_once("\n# Reference\n").unwrap();
    let steps: Vec<&str> = tutorial.split("\n## ").skip(1).collect();
    assert_eq!(steps.len(), 10, "a tutorial of ten steps");
    let mut shell =
        Shell { folder: folder.path().to_owned(), master: fleet.url.clone(), known: String::new() };
    for (number, step) in (1..).zip(steps) {
        assert!(step.starts_with(&format!("{number}. ")), "step {number} is not numbered");
        let blocks = blocks(step);
        assert!(blocks.iter().any(|(language, _)| language == "sh"), "step {number} has nothing to do");
        for (at, (language, lines)) in blocks.iter().enumerate() {
            if language != "sh" {
                assert_eq!(language, "text", "step {number}");
                continue;
            }
            let said_to_print = blocks.get(at + 1).filter(|(language, _)| language == "text");
            let wanted = said_to_print.map_or("", |(_, wanted)| wanted.as_str());
            // What workers take up is seen a little later, and the document says so.
            if lines.starts_with("snapfleet-master") {
                eventually(SHOWN_WITHIN, "the master says what it is said to", async || {
                    difference(wanted, &shell.run(lines).ok()?).is_none().then_some(())
                })
                .await;
                continue;
            }
            let said =
                shell.run(lines).unwrap_or_else(|said| panic!("step {number} fails:\n{lines}\n{said}"));
            if let Some(line) = difference(wanted, &said) {
                panic!("step {number} does not print {line:?} in its place:\n{lines}\n{said}");
            }
        }
    }
    assert!(!folder.path().join("platforms/corner").exists(), "nothing is left of it");
}
