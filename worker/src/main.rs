//! Flags, tracing, signals and the exit code; everything else is in the library.

use std::io::{IsTerminal, Read, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use snapfleet_worker::config::{Cli, Command, KeyCommand, PlatformCommand, SealArgs};
use snapfleet_worker::{Worker, browser, platform, session, simulate};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Settings that cannot be used (EX_USAGE of sysexits.h).
const EXIT_USAGE: u8 = 64;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let directives = format!("{},{},{}", cli.log, browser::LOG_DIRECTIVE, snapfleet_broker::LOG_DIRECTIVE);
    let Ok(filter) = EnvFilter::try_new(&directives) else {
        return fail(
            &format!("--log {:?} is not a tracing directive: use for example info", cli.log),
            EXIT_USAGE,
        );
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(std::io::stdout().is_terminal())
        .init();
    match cli.command {
        Command::Platform(PlatformCommand::Check { dir }) => match platform::check(&dir) {
            Ok(report) => {
                if writeln!(std::io::stdout(), "{report}").is_err() {
                    return ExitCode::FAILURE;
                }
                if report.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
            }
            Err(error) => fail(&error.to_string(), EXIT_USAGE),
        },
        Command::Run(args) => start(Worker::new(&args)).await,
        Command::Simulate(args) if args.csv => {
            match simulate::write_csv(&mut std::io::stdout(), args.accounts, args.interval_s) {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            }
        }
        Command::Simulate(args) => start(Worker::simulated(&args)).await,
        Command::Key(KeyCommand::New) => print(session::cli::key_new()),
        Command::Seal(args) => print(seal(&args)),
    }
}

fn seal(args: &SealArgs) -> anyhow::Result<String> {
    let key = args.key.load()?.context("give the fleet's key with --session-key-file")?;
    let mut value = String::new();
    std::io::stdin().read_to_string(&mut value).context("the value cannot be read from standard input")?;
    session::cli::seal(&key, &args.account.to_string(), &args.setting, &value)
}

fn print(text: anyhow::Result<String>) -> ExitCode {
    match text {
        Ok(text) if writeln!(std::io::stdout(), "{text}").is_ok() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => fail(&format!("{error:#}"), EXIT_USAGE),
    }
}

async fn start(worker: anyhow::Result<Worker>) -> ExitCode {
    match worker {
        Ok(worker) => run(worker).await,
        Err(error) => fail(&format!("{error:#}"), EXIT_USAGE),
    }
}

async fn run(worker: Worker) -> ExitCode {
    let shutdown = CancellationToken::new();
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return fail("signals cannot be listened for", 1);
    };
    let told = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        told.cancel();
    });
    match snapfleet_worker::run(worker, shutdown.clone()).await {
        Ok(()) => ExitCode::SUCCESS,
        // Told to stop while it waited for the broker: that is no failure.
        Err(_) if shutdown.is_cancelled() => ExitCode::SUCCESS,
        Err(error) => fail(&format!("{error:#}"), 1),
    }
}

fn fail(message: &str, code: u8) -> ExitCode {
    eprintln!("snapfleet-worker: {message}");
    ExitCode::from(code)
}
