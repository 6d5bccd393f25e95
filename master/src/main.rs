//! Flags, logging, signals and exit codes; everything else is in the library.

use std::io::{IsTerminal, Write, stderr, stdout};
use std::process::ExitCode;

use clap::Parser;
use snapfleet_master::config::{Cli, Command, ConfigError};
use snapfleet_master::{cli, run};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// For settings that cannot be, as in sysexits.h.
const EXIT_USAGE: u8 = 64;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => return fail(EXIT_USAGE, &one_line(&error.to_string())),
        Err(help) => return help.print().map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS),
    };
    let serving = matches!(cli.command, Command::Run(_));
    if let Err(error) = init_tracing(cli.log, serving) {
        return fail(EXIT_USAGE, &error.to_string());
    }
    match cli.command {
        Command::Run(args) => match args.into_config() {
            Err(error) => fail(EXIT_USAGE, &error.to_string()),
            Ok(config) => match run(config, shutdown_on_signal()).await {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(if error.is_usage() { EXIT_USAGE } else { 1 }, &error.to_string()),
            },
        },
        command => match cli::run(command, &mut std::io::BufWriter::new(stdout())).await {
            Ok(code) => code,
            Err(error) => fail(1, &error.to_string()),
        },
    }
}

/// The log of a running master goes to standard output; the other commands' output is data.
fn init_tracing(log: Option<String>, serving: bool) -> Result<(), ConfigError> {
    // What the client library says of the connection, the broker crate says better.
    let default = if serving { "info,async_nats=off" } else { "warn,async_nats=off" };
    let text = log.or_else(|| std::env::var("RUST_LOG").ok()).unwrap_or_else(|| default.to_owned());
    let filter =
        EnvFilter::try_new(&text).map_err(|error| ConfigError::Log { text, reason: error.to_string() })?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).compact();
    if serving {
        log.with_ansi(stdout().is_terminal()).init()
    } else {
        log.with_writer(stderr).with_ansi(false).init()
    }
    Ok(())
}

/// A token that the first SIGINT or SIGTERM cancels.
fn shutdown_on_signal() -> CancellationToken {
    let shutdown = CancellationToken::new();
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        let (told, listening) = (shutdown.clone(), signal(kind));
        tokio::spawn(async move {
            match listening {
                Ok(mut signals) => drop(signals.recv().await),
                Err(error) => return tracing::error!(%error, "signals cannot be listened for"),
            }
            told.cancel();
        });
    }
    shutdown
}

/// The first paragraph of the parser's message: what is wrong, without the usage.
fn one_line(message: &str) -> String {
    let lines = message.trim_start_matches("error: ").lines().take_while(|line| !line.trim().is_empty());
    lines.map(str::trim).collect::<Vec<_>>().join(" ") + " (see --help)"
}

fn fail(code: u8, message: &str) -> ExitCode {
    // Nobody can be told that standard error is closed.
    let _ = writeln!(stderr(), "snapfleet-master: {message}");
    ExitCode::from(code)
}
