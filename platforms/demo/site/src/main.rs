//! The demo site as a program: flags, log, signals, exit code. Everything else is in the library.

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use snapfleet_demo_site::{Config, serve};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Settings that cannot be used (EX_USAGE of sysexits.h).
const EXIT_USAGE: u8 = 64;

#[tokio::main]
async fn main() -> ExitCode {
    let config = Config::parse();
    if let Err(error) = config.check() {
        eprintln!("snapfleet-demo-site: {error:#}");
        return ExitCode::from(EXIT_USAGE);
    }
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "demo site failed");
            ExitCode::FAILURE
        }
    }
}

async fn run(config: Config) -> anyhow::Result<()> {
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on {}: choose another --listen", config.listen))?;
    let address = listener.local_addr().context("the listener has no address")?;
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "listens beyond loopback: the control endpoints ask for no login");
    }
    tracing::info!(%address, accounts = config.accounts.len(), seed = config.seed, "demo site listens");
    let shutdown = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch SIGTERM")?;
    let token = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        token.cancel();
    });
    serve(config, listener, shutdown).await?;
    tracing::info!("demo site stopped");
    Ok(())
}
