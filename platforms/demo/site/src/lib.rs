//! The demo platform: a creator centre that pages, pushes, edits and recalls, and states what it has served.
//!
//! It stands in for a real platform in tests and in the first run, and for nothing else. Everything lives in memory
//! and follows from a seed, a start time and what was pushed. `Site` is the state, [`router`] the web over it, and
//! [`serve`] both together with the things that happen by themselves. It shares no type with the programs that
//! capture from it: its truth (`GET /truth/{account}`) is written by hand.

mod account;
mod body;
mod codes;
mod config;
mod events;
mod model;
mod push;
mod seed;
mod sessions;
mod site;
mod text;
mod truth;
mod web;

use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use config::{ACCOUNTS_MAX, Config, LoginKind};
pub use events::EventKind;
pub use sessions::Login;
pub use site::{PushAnswer, Site};
pub use web::router;

/// How long open connections may take to end once the site stops.
const GRACE: Duration = Duration::from_secs(2);

/// Serves a new site on `listener` until `shutdown`.
///
/// # Errors
/// A configuration that does not fit, or a listener that fails.
pub async fn serve(config: Config, listener: TcpListener, shutdown: CancellationToken) -> anyhow::Result<()> {
    serve_site(Site::new(config)?, listener, shutdown).await
}

/// Serves `site`, which the caller may go on driving, on `listener` until `shutdown`.
///
/// # Errors
/// A listener that fails.
pub async fn serve_site(
    site: Site,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let live = tokio::spawn(site.clone().live(shutdown.clone()));
    let stopping = shutdown.clone();
    let at_stop = site.clone();
    let server = axum::serve(listener, router(site)).with_graceful_shutdown(async move {
        stopping.cancelled().await;
        at_stop.cut_all();
    });
    let served = tokio::select! {
        served = server.into_future() => served.context("the demo site's listener failed"),
        () = async { shutdown.cancelled().await; tokio::time::sleep(GRACE).await } => {
            tracing::warn!(grace_ms = GRACE.as_millis() as u64, "connections still open at stop are cut");
            Ok(())
        }
    };
    live.abort();
    served
}
