//! `workers`: those that the master starts, with what became of each, and those that are online; and starting and
//! stopping one by hand.

use std::io::{self, Write};
use std::process::ExitCode;

use reqwest::Method;
use snapfleet_protocol::UnixMs;

use super::CliError;
use super::source::Master;
use super::text::{ago, lasted, plain, write_json};
use crate::api::now;
use crate::api::workers::{SupervisedView, WorkersList};
use crate::config::{WorkerAction, WorkersCommand};
use crate::supervise::{LastExit, SupervisedState};

pub(crate) async fn run(command: &WorkersCommand, out: &mut impl Write) -> Result<ExitCode, CliError> {
    let master = Master::at(&command.at.url)?;
    let Some(action) = &command.action else {
        let workers: WorkersList = master.get("/api/v1/workers").await?;
        if command.json {
            write_json(out, &workers, true)?
        } else {
            print(out, &workers)?
        }
        return Ok(ExitCode::SUCCESS);
    };
    let (verb, name) = match action {
        WorkerAction::Start { name } => ("start", name),
        WorkerAction::Stop { name } => ("stop", name),
        WorkerAction::Restart { name } => ("restart", name),
    };
    let name = path_segment(name);
    let worker: SupervisedView = master.send(Method::POST, &format!("/api/v1/workers/{name}/{verb}")).await?;
    if command.json {
        write_json(out, &worker, true)?;
    } else {
        writeln!(out, "{}: {}", plain(&worker.worker.name), in_words(worker.worker.state))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A name as part of a path: what could end that part is written as its number.
fn path_segment(name: &str) -> String {
    let bytes = name.bytes().map(|byte| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    });
    bytes.collect()
}

fn print(out: &mut impl Write, workers: &WorkersList) -> io::Result<()> {
    let now = now();
    if workers.supervised.is_empty() {
        writeln!(out, "this master starts no workers itself (--workers N)")?;
    }
    for view in &workers.supervised {
        print_supervised(out, view, now)?;
    }
    let online = workers.online.map_or_else(|| "unknown".to_owned(), |online| online.to_string());
    writeln!(out, "\nonline workers: {online}")?;
    for beat in &workers.list {
        writeln!(
            out,
            "  {} on {}, instance {}: process {}, {} of at most {} accounts, last heartbeat {}",
            beat.worker,
            plain(&beat.host),
            beat.instance,
            beat.pid,
            beat.holding,
            beat.max_accounts,
            ago(beat.at, now)
        )?;
    }
    Ok(())
}

fn print_supervised(out: &mut impl Write, view: &SupervisedView, now: UnixMs) -> io::Result<()> {
    let worker = &view.worker;
    let pid = worker.pid.map(|pid| format!(", process {pid}")).unwrap_or_default();
    let instance = view.instance.as_ref().map(|instance| format!(", instance {instance}"));
    let restart = worker.restart_at.map(|at| {
        let seconds = at.0.saturating_sub(now.0).max(0) as f64 / 1_000.0;
        format!(", starts in {seconds:.1} s")
    });
    writeln!(
        out,
        "{:<12} {} for {}{pid}{}{}, {} restarts",
        plain(&worker.name),
        in_words(worker.state),
        lasted(worker.since, now),
        instance.unwrap_or_default(),
        restart.unwrap_or_default(),
        worker.restarts
    )?;
    if let Some(exit) = &worker.last_exit {
        writeln!(out, "  last ended {}: {}", ago(exit.at, now), plain(&LastExit::in_words(exit)))?;
    }
    if worker.state == SupervisedState::GivenUp {
        let log = worker.log.to_string_lossy();
        let name = plain(&worker.name);
        writeln!(out, "  see {}, mend the cause, then: snapfleet-master workers start {name}", plain(&log))?;
    }
    Ok(())
}

fn in_words(state: SupervisedState) -> &'static str {
    match state {
        SupervisedState::Starting => "starting",
        SupervisedState::Running => "running",
        SupervisedState::Waiting => "waiting",
        SupervisedState::Stopping => "stopping",
        SupervisedState::Stopped => "stopped",
        SupervisedState::GivenUp => "given up",
    }
}

#[cfg(test)]
mod tests {
    use super::path_segment;

    #[test]
    fn a_name_stays_one_part_of_the_path() {
        assert_eq!(path_segment("worker-1"), "worker-1");
        assert_eq!(path_segment("../x?a#b"), "%2E%2E%2Fx%3Fa%23b");
    }
}
