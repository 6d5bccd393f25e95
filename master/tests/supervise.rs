//! Workers that the master starts itself, as real processes: killed, dying at start, stopped, orphaned. Small shell
//! scripts stand for the worker's program where what a worker does is of no matter.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/running.rs"]
#[allow(dead_code, reason = "shared by several tests, each of which needs a part")]
mod running;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use running::Running;
use serde_json::Value;
use snapfleet_master::api::Live;
use snapfleet_master::supervise::{SupervisedState, Supervisor, WorkersConfig};
use snapfleet_testkit::process::binary;
use snapfleet_testkit::{TestBroker, eventually, workspace};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(15);
/// How long a worker that died may be without a follower.
const RESTART: Duration = Duration::from_secs(5);

/// How long a browser may take to start on a busy machine, and to stop.
const ONLINE: Duration = Duration::from_secs(60);

/// What each script does first: takes its folder's path, which follows `run --state-dir`.
const BEGIN: &str = "#!/bin/sh\nstate=$3\n";

fn program(dir: &Path, script: &str) -> PathBuf {
    let path = dir.join("worker.sh");
    std::fs::write(&path, format!("{BEGIN}{script}\n")).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path
}

/// A master with workers of a script, and no broker: workers must not wait for that.
fn start(dir: &Path, workers: usize, script: &str) -> Running {
    let program = program(dir, script);
    Running::start(dir, |command: &mut Command| {
        command
            .args(["--workers", &workers.to_string(), "--worker-program"])
            .arg(program)
            .arg("--workers-dir")
            .arg(dir.join("workers"))
            .args(["--worker-arg=--max-accounts", "--worker-arg", "7"])
            .env("NATS_URL", "nats://127.0.0.1:1")
            .env("SNAPFLEET_NATS_PASSWORD", "master-secret")
            .env("SNAPFLEET_NATS_OPERATOR_PASSWORD", "operator-secret")
            .env("SNAPFLEET_WORKER_NATS_PASSWORD", "worker-secret")
            .env("SNAPFLEET_SESSION_KEY", "session-key");
    })
}

impl Running {
    async fn worker(&self, number: usize) -> Option<Value> {
        self.get("workers").await?["supervised"].get(number - 1).cloned()
    }

    /// Waits until a worker is in a state, and returns it.
    async fn reaches(&self, number: usize, state: &str, within: Duration) -> Value {
        eventually(within, &format!("worker-{number} is {state}"), async || {
            self.worker(number).await.filter(|worker| worker["state"] == state)
        })
        .await
    }

    /// Waits until a worker runs as another process than `before`.
    async fn runs(&self, number: usize, before: Option<u64>, within: Duration) -> u64 {
        eventually(within, &format!("worker-{number} runs anew"), async || {
            self.worker(number).await?["pid"].as_u64().filter(|pid| Some(*pid) != before)
        })
        .await
    }
}

fn lives(pid: u64) -> bool {
    // One that nobody has waited for yet has no command line.
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

async fn gone(pid: u64, within: Duration) {
    eventually(within, &format!("process {pid} is gone"), async || (!lives(pid)).then_some(())).await;
}

fn kill(pid: u64) {
    assert!(Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap().success());
}

async fn starts(dir: &TempDir, wanted: usize) -> usize {
    let file = dir.path().join("workers/worker-1/starts");
    let count = || std::fs::read_to_string(&file).unwrap_or_default().lines().count();
    eventually(SOON, "the script has been started so often", async || (count() >= wanted).then_some(()))
        .await;
    count()
}

#[tokio::test]
async fn a_worker_that_dies_is_started_again_and_a_stopped_master_leaves_none() {
    let dir = tempfile::tempdir().unwrap();
    let mut master = start(dir.path(), 2, "echo started; exec sleep 1000");
    let (first, other) = (master.runs(1, None, SOON).await, master.runs(2, None, SOON).await);
    let mut before = first;
    for restarts in [1, 2] {
        let killed = Instant::now();
        kill(before);
        let pid = master.runs(1, Some(before), RESTART).await;
        assert!(lives(pid) && killed.elapsed() < RESTART);
        let worker = master.worker(1).await.unwrap();
        assert_eq!(
            (&worker["restarts"], &worker["last_exit"]["how"]),
            (&restarts.into(), &"signal 9".into())
        );
        assert_eq!(worker["last_exit"]["last_line"], "started");
        before = pid;
    }
    let now = before;
    assert_eq!(master.worker(2).await.unwrap()["pid"], other, "the other one is left alone");
    let listed = master.says(&["workers"]);
    assert!(listed.contains(&format!("process {now}")) && listed.contains("2 restarts"), "{listed}");
    assert!(listed.contains("signal 9 after") && listed.contains("it last said: started"), "{listed}");

    master.process.signal("TERM");
    let code = eventually(SOON, "the master ends", async || master.process.exit_code()).await;
    assert_eq!((code, lives(now), lives(other)), (0, false, false));
    let log = std::fs::read_to_string(dir.path().join("workers/worker-1/worker.log")).unwrap();
    assert_eq!(log, "started\nstarted\nstarted\n", "each start's output is kept");
}

#[tokio::test]
async fn a_worker_gets_its_own_secrets_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let master = start(dir.path(), 1, r#"echo "$@" >"$state/args"; env >"$state/env"; exec sleep 1000"#);
    let state = dir.path().canonicalize().unwrap().join("workers/worker-1");
    let environment = eventually(SOON, "the script has run", async || {
        std::fs::read_to_string(state.join("env")).ok().filter(|text| text.contains("SNAPFLEET_NATS_USER"))
    })
    .await;
    let lines: Vec<&str> = environment.lines().collect();
    for line in [
        "NATS_URL=nats://127.0.0.1:1",
        "SNAPFLEET_NATS_USER=worker",
        "SNAPFLEET_NATS_PASSWORD=worker-secret",
        "SNAPFLEET_SESSION_KEY=session-key",
    ] {
        assert!(lines.contains(&line), "{line} is missing in {environment}");
    }
    assert!(
        !environment.contains("master-secret") && !environment.contains("operator-secret"),
        "{environment}"
    );
    let arguments = std::fs::read_to_string(state.join("args")).unwrap();
    assert!(
        arguments.starts_with(&format!("run --state-dir {} --worker-id ", state.display())),
        "{arguments}"
    );
    assert!(arguments.ends_with("-1 --max-accounts 7\n"), "{arguments}");
    let mode = std::fs::metadata(&state).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "what a worker keeps is not for others");
    assert!(!master.process.log().contains("-secret"));
}

#[tokio::test]
async fn a_worker_that_only_dies_at_start_is_given_up_until_started_by_hand() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"echo >>"$state/starts"; [ -e "$state/mended" ] && exec sleep 1000
        echo "there is no platform of that name" >&2; exit 3"#;
    let master = start(dir.path(), 1, script);
    let worker = master.reaches(1, "given_up", SOON).await;
    assert_eq!(worker["failed_starts"], 5);
    assert_eq!(worker["last_exit"]["how"], "exit code 3");
    assert_eq!((worker["restarts"].as_u64(), starts(&dir, 5).await), (Some(4), 5));

    let status = master.get("status").await.unwrap();
    let problems = status["problems"].as_array().unwrap();
    let problem = problems.iter().find(|problem| problem["code"] == "worker_given_up").unwrap();
    let (text, remedy) = (problem["text"].as_str().unwrap(), problem["remedy"].as_str().unwrap());
    assert!(text.contains("worker-1") && text.contains("no platform of that name"), "{text}");
    assert!(remedy.contains("workers start worker-1") && remedy.contains("worker.log"), "{remedy}");
    let listed = master.says(&["workers"]);
    assert!(listed.contains("given up") && listed.contains("no platform of that name"), "{listed}");

    // By hand, it is one try: nothing but proven health makes it new.
    master.says(&["workers", "start", "worker-1"]);
    assert_eq!(starts(&dir, 6).await, 6);
    let again = master.reaches(1, "given_up", SOON).await;
    assert_eq!(again["failed_starts"], 6);

    std::fs::write(dir.path().join("workers/worker-1/mended"), "").unwrap();
    master.says(&["workers", "start", "worker-1"]);
    let pid = master.runs(1, None, SOON).await;
    let status = master.get("status").await.unwrap();
    let problems = status["problems"].as_array().unwrap();
    assert!(problems.iter().all(|problem| problem["code"] != "worker_given_up"), "{problems:?}");

    let restarted = master.says(&["workers", "restart", "worker-1"]);
    assert!(restarted.starts_with("worker-1: "), "{restarted}");
    let next = master.runs(1, Some(pid), SOON).await;
    eventually(SOON, "the new one lives in the old one's place", async || {
        (!lives(pid) && lives(next)).then_some(())
    })
    .await;
    master.says(&["workers", "stop", "worker-1"]);
    let stopped = master.reaches(1, "stopped", SOON).await;
    assert!(stopped["pid"].is_null() && !lives(next));
    let refused = master.cli(&["workers", "start", "worker-9"]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && said.contains("worker-9") && said.contains("worker-1"), "{said}");
}

#[tokio::test]
async fn workers_that_do_not_stop_are_killed_all_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"trap '' TERM; touch "$state/deaf"; while :; do sleep 0.1; done"#;
    let limit = Duration::from_secs(2);
    let config = WorkersConfig {
        count: 3,
        program: program(dir.path(), script),
        dir: dir.path().join("workers"),
        args: Vec::new(),
        host: "here".to_owned(),
        nats_url: String::new(),
        nats_password: String::new(),
        stop_timeout: limit,
    };
    let (live, shutdown) = (Live::default(), CancellationToken::new());
    let supervisor = Supervisor::start(config, &live, &shutdown).unwrap();
    let deaf = |number| dir.path().join(format!("workers/worker-{number}/deaf")).exists();
    eventually(SOON, "all are deaf", async || (1..=3).all(deaf).then_some(())).await;
    let pids: Vec<u32> = live.moment().supervised.values().map(|worker| worker.pid.unwrap()).collect();
    let told = Instant::now();
    shutdown.cancel();
    supervisor.ended().await;
    assert!((limit..2 * limit).contains(&told.elapsed()), "{:?}", told.elapsed());
    assert_eq!(pids.iter().filter(|pid| lives(u64::from(**pid))).count(), 0);
    assert_eq!(pids.len(), 3);
}

#[tokio::test]
async fn a_killed_master_leaves_no_worker_and_its_follower_waits_for_those_that_still_stop() {
    let dir = tempfile::tempdir().unwrap();
    // Like a worker: it must be alone in its folder, and takes its time to stop.
    let script = r#"mkdir "$state/alone" || exit 1
        trap 'sleep 1; rmdir "$state/alone"; exit 0' TERM
        while :; do sleep 0.1; done"#;
    let mut master = start(dir.path(), 2, script);
    let pids = [master.runs(1, None, SOON).await, master.runs(2, None, SOON).await];
    for number in [1, 2] {
        let alone = dir.path().join(format!("workers/worker-{number}/alone"));
        eventually(SOON, "the script has begun", async || alone.exists().then_some(())).await;
    }
    master.process.kill();
    let next = start(dir.path(), 2, script);
    for (number, before) in [(1, pids[0]), (2, pids[1])] {
        next.runs(number, Some(before), SOON).await;
        gone(before, SOON).await;
        assert_eq!(next.worker(number).await.unwrap()["failed_starts"], 0);
    }
}

#[tokio::test]
async fn a_worker_of_a_master_before_that_hangs_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"trap '' TERM; echo >>"$state/starts"; for i in $(seq 600); do sleep 0.1; done"#;
    let limit = Duration::from_secs(2);
    let config = |program: PathBuf| WorkersConfig {
        count: 1,
        program,
        dir: dir.path().join("workers"),
        args: Vec::new(),
        host: "here".to_owned(),
        nats_url: String::new(),
        nats_password: String::new(),
        stop_timeout: limit,
    };
    // What a master leaves behind that was killed: a worker that leads a group of its own.
    let state = dir.path().canonicalize().unwrap().join("workers/worker-1");
    std::fs::create_dir_all(&state).unwrap();
    let leave = |id: &str| {
        let mut command = Command::new(program(dir.path(), script));
        command.arg("run").arg("--state-dir").arg(&state).args(["--worker-id", id]).process_group(0);
        command.spawn().unwrap()
    };
    let mut hanging = leave("here-1");
    assert_eq!(starts(&dir, 1).await, 1);
    let (live, shutdown) = (Live::default(), CancellationToken::new());
    let began = Instant::now();
    let supervisor = Supervisor::start(config(program(dir.path(), script)), &live, &shutdown).unwrap();
    let worker = || live.moment().supervised["worker-1"].clone();
    eventually(SOON, "the one that is waited for is shown", async || {
        (worker().pid == Some(hanging.id())).then_some(())
    })
    .await;
    assert_eq!(worker().state, SupervisedState::Waiting);
    assert_eq!(starts(&dir, 2).await, 2);
    assert!(began.elapsed() >= limit, "{:?}", began.elapsed());
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&hanging.wait().unwrap()), Some(9));
    assert_ne!(worker().pid, Some(hanging.id()));
    shutdown.cancel();
    supervisor.ended().await;
}

#[tokio::test]
async fn an_order_that_was_not_taken_up_is_not_carried_out_later() {
    let dir = tempfile::tempdir().unwrap();
    // It takes longer to stop than an order waits.
    let script = r#"trap 'sleep 4; exit 0' TERM; touch "$state/begun"; while :; do sleep 0.1; done"#;
    let master = start(dir.path(), 1, script);
    let first = master.runs(1, None, SOON).await;
    let begun = dir.path().join("workers/worker-1/begun");
    eventually(SOON, "the script has begun", async || begun.exists().then_some(())).await;
    master.says(&["workers", "restart", "worker-1"]);
    let refused = master.cli(&["workers", "stop", "worker-1"]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && said.contains("about to stop"), "{said}");
    let next = master.runs(1, Some(first), SOON).await;
    // Orders are taken in turn: when this one is answered, the other one has had its turn.
    master.says(&["workers", "start", "worker-1"]);
    let worker = master.worker(1).await.unwrap();
    assert_eq!((worker["pid"].as_u64(), &worker["state"]), (Some(next), &"starting".into()), "{worker}");
}

/// The real worker with its real browser: what it is started with must be what it takes.
#[tokio::test]
async fn the_workers_own_program_comes_online_again_after_it_was_killed() {
    let dir = tempfile::tempdir().unwrap();
    let broker = TestBroker::start();
    let mut master = Running::start(dir.path(), |command| {
        command.args(["--workers", "1", "--worker-program"]).arg(binary("snapfleet-worker"));
        command.arg("--workers-dir").arg(dir.path().join("workers"));
        command.arg(format!("--worker-arg=--platforms={}", workspace().join("platforms").display()));
        command.env("NATS_URL", broker.url());
        command.env("SNAPFLEET_NATS_PASSWORD", TestBroker::password("master"));
        command.env("SNAPFLEET_WORKER_NATS_PASSWORD", TestBroker::password("worker"));
    });
    let online = async |before: &Value| {
        eventually(ONLINE, "the worker shows its heartbeat", async || {
            let worker = master.worker(1).await?;
            (worker["instance"].is_string() && worker["instance"] != *before).then_some(worker)
        })
        .await
    };
    let first = online(&Value::Null).await;
    kill(first["pid"].as_u64().unwrap());
    let second = online(&first["instance"]).await;
    assert_ne!(first["pid"], second["pid"]);
    // The browser lies in the worker's folder, by which its processes are known.
    assert!(!of_folder(dir.path()).is_empty());
    master.process.kill();
    eventually(ONLINE, "worker and browser are gone", async || {
        of_folder(dir.path()).is_empty().then_some(())
    })
    .await;
}

/// The processes that have a folder in their command line.
fn of_folder(dir: &Path) -> Vec<u32> {
    let dir = dir.to_str().unwrap();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|process| process.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(dir)
    })
    .collect()
}

#[tokio::test]
async fn settings_that_cannot_be_are_refused_before_anything_starts() {
    let dir = tempfile::tempdir().unwrap();
    let run = |with: &[&str], password: &str| {
        let mut command = running::binary();
        command.args(["run", "--listen", "127.0.0.1:0", "--store"]).arg(dir.path().join("s.redb")).args(with);
        command.env("SNAPFLEET_NATS_PASSWORD", "x").env("SNAPFLEET_WORKER_NATS_PASSWORD", password);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for (with, password, named) in [
        (vec!["--workers", "1", "--worker-program", "/nowhere/worker"], "x", "/nowhere/worker"),
        (vec!["--workers", "65"], "x", "at most 64"),
        (vec!["--workers", "1", "--worker-program", "/bin/sh"], "", "SNAPFLEET_WORKER_NATS_PASSWORD"),
        (vec!["--workers", "1", "--replica", "r"], "x", "--replica"),
        (vec!["--replica", "a.b"], "x", "a.b"),
    ] {
        let (code, said) = run(&with, password);
        assert!(code == Some(64) && said.contains(named), "{with:?}: {code:?} {said}");
    }
    let holder = start(dir.path(), 1, "exec sleep 1000");
    holder.runs(1, None, SOON).await;
    let workers = dir.path().join("workers");
    let with =
        ["--workers", "1", "--worker-program", "/bin/true", "--workers-dir", workers.to_str().unwrap()];
    let (code, said) = run(&with, "x");
    assert!(code == Some(64) && said.contains("another master uses it"), "{code:?} {said}");
}
