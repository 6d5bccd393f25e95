//! What the command line asks for, done: each command writes to the output that it is given and ends in an exit code.
//!
//! Knows which library module does what, and nothing of how. Only `main` touches the terminal and the process.

use std::io::{Read, Write};
use std::process::ExitCode;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::{Command, KeyCommand, PlatformCommand, SealArgs, SimulateArgs};
use crate::{Worker, login_cli, platform, record, session, simulate};

/// Settings that cannot be used (EX_USAGE of sysexits.h).
pub const EXIT_USAGE: u8 = 64;

/// Why a command was not done: one line for people, and the exit code.
#[derive(Debug)]
pub struct Failed {
    /// What is wrong, and the remedy.
    pub error: anyhow::Error,
    /// [`EXIT_USAGE`] where nothing was begun; otherwise 1.
    pub code: u8,
}

/// For what was given wrongly.
pub(crate) fn usage(error: impl Into<anyhow::Error>) -> Failed {
    Failed { error: error.into(), code: EXIT_USAGE }
}

/// For what was begun and did not succeed.
pub(crate) fn failed(error: impl Into<anyhow::Error>) -> Failed {
    Failed { error: error.into(), code: 1 }
}

/// Does what the command line asks for.
///
/// # Errors
/// [`Failed`], to be shown; its code is the process's.
pub async fn run(command: Command, out: &mut (dyn Write + Send)) -> Result<ExitCode, Failed> {
    match command {
        Command::Run(args) => start(Worker::new(&args)).await,
        Command::Simulate(args) if args.csv => csv(&args, out),
        Command::Simulate(args) => start(Worker::simulated(&args)).await,
        Command::Platform(command) => platform(command, out).await,
        Command::Key(KeyCommand::New) => print(out, session::cli::key_new()),
        Command::Seal(args) => print(out, seal(&args)),
        Command::Login(args) => login_cli::run(&args, out, until_told()?).await,
    }
}

async fn platform(command: PlatformCommand, out: &mut (dyn Write + Send)) -> Result<ExitCode, Failed> {
    match command {
        PlatformCommand::Check(args) => platform::run_check(&args, out),
        PlatformCommand::Schema => print(out, Ok(platform::schema())),
        PlatformCommand::New(args) => platform::propose(&args, out),
        PlatformCommand::Record(args) => record::run(&args, out, until_told()?).await,
    }
}

fn csv(args: &SimulateArgs, mut out: &mut (dyn Write + Send)) -> Result<ExitCode, Failed> {
    simulate::write_csv(&mut out, args.accounts, args.interval_s).map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}

fn seal(args: &SealArgs) -> anyhow::Result<String> {
    let key = args.key.load()?.context("give the fleet's key with --session-key-file")?;
    let mut value = String::new();
    std::io::stdin().read_to_string(&mut value).context("the value cannot be read from standard input")?;
    session::cli::seal(&key, &args.account.to_string(), &args.setting, &value)
}

fn print(out: &mut (dyn Write + Send), text: anyhow::Result<String>) -> Result<ExitCode, Failed> {
    writeln!(out, "{}", text.map_err(usage)?).map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}

async fn start(worker: anyhow::Result<Worker>) -> Result<ExitCode, Failed> {
    let worker = worker.map_err(usage)?;
    let shutdown = until_told()?;
    match crate::run(worker, shutdown.clone()).await {
        // Told to stop while it waited for the broker: that is no failure.
        Err(error) if !shutdown.is_cancelled() => Err(failed(error)),
        Ok(()) | Err(_) => Ok(ExitCode::SUCCESS),
    }
}

/// Cancelled once the process is told to stop, by Ctrl-C or SIGTERM.
fn until_told() -> Result<CancellationToken, Failed> {
    let listening = |kind| signal(kind).context("signals cannot be listened for").map_err(failed);
    let (mut interrupt, mut terminate) =
        (listening(SignalKind::interrupt())?, listening(SignalKind::terminate())?);
    let shutdown = CancellationToken::new();
    let told = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        told.cancel();
    });
    Ok(shutdown)
}
