//! Flags, logging, signals and exit codes; everything else is in the library.

use std::io::{IsTerminal, Write, stderr, stdout};
use std::process::ExitCode;

use clap::Parser;
use snapfleet_master::config::{Cli, Command, log_filter, one_line};
use snapfleet_master::{cli, run};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// For settings that cannot be, as in sysexits.h.
const EXIT_USAGE: u8 = 64;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => return fail(EXIT_USAGE, &one_line(&error)),
        Err(help) => return help.print().map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS),
    };
    let filter = match log_filter(&cli) {
        Ok(filter) => filter,
        Err(error) => return fail(EXIT_USAGE, &error.to_string()),
    };
    let log = tracing_subscriber::fmt().compact().with_env_filter(filter);
    match cli.command {
        Command::Run(args) => {
            log.with_ansi(stdout().is_terminal()).init();
            let config = match args.into_config() {
                Ok(config) => config,
                Err(error) => return fail(EXIT_USAGE, &error.to_string()),
            };
            let stop = CancellationToken::new();
            tokio::spawn(cancel_on_signal(SignalKind::interrupt(), stop.clone()));
            tokio::spawn(cancel_on_signal(SignalKind::terminate(), stop.clone()));
            let ended = run(config, stop).await;
            ended.map_or_else(|error| fail(error.exit_code(), &error.to_string()), |()| ExitCode::SUCCESS)
        }
        command => {
            log.with_writer(stderr).with_ansi(false).init(); // standard output is for data
            let ended = cli::run(command, &mut std::io::BufWriter::new(stdout())).await;
            ended.unwrap_or_else(|error| fail(1, &error.to_string()))
        }
    }
}

async fn cancel_on_signal(kind: SignalKind, stop: CancellationToken) {
    match signal(kind) {
        Ok(mut signals) => drop(signals.recv().await),
        Err(error) => return tracing::error!(%error, "a signal cannot be listened for"),
    }
    stop.cancel();
}

fn fail(code: u8, message: &str) -> ExitCode {
    let _ = writeln!(stderr(), "snapfleet-master: {message}");
    ExitCode::from(code)
}
