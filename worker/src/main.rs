//! Flags, tracing and the exit code; everything else is in the library.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use snapfleet_worker::commands::{self, EXIT_USAGE};
use snapfleet_worker::{browser, config::Cli};
use tracing_subscriber::EnvFilter;

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
    match commands::run(cli.command, &mut std::io::stdout()).await {
        Ok(code) => code,
        Err(failed) => fail(&format!("{:#}", failed.error), failed.code),
    }
}

fn fail(message: &str, code: u8) -> ExitCode {
    eprintln!("snapfleet-worker: {message}");
    ExitCode::from(code)
}
