//! Holds a browser with one blank page until it is killed: what the test of orphaned browsers runs and kills.
//!
//! `browser_until_killed FOLDER` keeps profiles in FOLDER and writes the browser's process id to FOLDER/pid once its
//! page has loaded.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use snapfleet_worker::browser::{BrowserConfig, SharedBrowser, find_chromium};
use snapfleet_worker::pages::{AccountPlan, Desk, PagePlan, PageReport, drive_account};
use snapfleet_worker::session::SessionExchange;
use snapfleet_worker::steering::Steering;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = PathBuf::from(std::env::args_os().nth(1).context("give a folder")?);
    let mut config = BrowserConfig::new(find_chromium()?, folder.clone());
    config.sandbox = !rustix::process::geteuid().is_root();
    let browser = SharedBrowser::new(config).acquire().await?;
    let pid = browser.pid();
    let blank = PagePlan {
        name: "blank".into(),
        url: "data:text/html,blank".into(),
        refresh: None,
        refresh_jitter: 0.1,
        scroll: None,
    };
    let (sender, mut reports) = mpsc::channel(16);
    let plan = AccountPlan {
        account: "demo.a".parse()?,
        pages: vec![blank],
        login: None,
        rules: Arc::new(Vec::new()),
        session: SessionExchange::default(),
        steering: Steering::free(),
        desk: Desk::default(),
    };
    tokio::spawn(drive_account(browser, plan, sender, CancellationToken::new()));
    while let Some(report) = reports.recv().await {
        if matches!(report, PageReport::PageLoaded { .. }) {
            // Whole or not there at all.
            std::fs::write(folder.join("pid.draft"), pid.to_string())?;
            std::fs::rename(folder.join("pid.draft"), folder.join("pid"))?;
        }
    }
    anyhow::bail!("the pages ended before this was killed")
}
