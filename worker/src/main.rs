//! Flags, tracing, signals and the exit code; everything else is in the library.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use snapfleet_worker::config::{Cli, Command, PlatformCommand};
use snapfleet_worker::{Worker, browser, platform};
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
        Command::Run(args) => match Worker::new(&args) {
            Ok(worker) => run(worker).await,
            Err(error) => fail(&format!("{error:#}"), EXIT_USAGE),
        },
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
