//! Every knob of the demo site with its default and unit. Knows nothing of what the site does with them.

use std::net::SocketAddr;

use clap::{Parser, ValueEnum};
use serde::Deserialize;

/// Most accounts of one site: an account's place in the list is ten bits of its ids.
pub const ACCOUNTS_MAX: usize = 1024;

/// What the page shows to somebody without a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LoginKind {
    /// A form for name and password.
    Form,
    /// A code for the owner's phone to scan, and a field for a code by SMS.
    Qr,
}

/// How the demo site is set up. Flags and environment are read once; tests build it by hand.
#[derive(Clone, Parser)]
#[command(name = "snapfleet-demo-site", version, about = "A creator centre to capture from: a test double")]
pub struct Config {
    /// Where to listen. The control and truth endpoints ask for no login: keep it on loopback.
    #[arg(long, default_value = "127.0.0.1:8090")]
    pub listen: SocketAddr,
    /// What all generated data follows from, together with the start time and the pushes.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Login names, separated by commas; each is an account of its own.
    #[arg(long, value_delimiter = ',', default_value = "shop-a,shop-b,shop-c,shop-d,shop-e")]
    pub accounts: Vec<String>,
    /// The password of every account.
    #[arg(long, env = "SNAPFLEET_DEMO_PASSWORD", default_value = "demo", hide_env_values = true)]
    pub password: String,
    /// What the page shows to somebody without a session; `?login=` on the page's URL overrules it.
    #[arg(long, value_enum, default_value_t = LoginKind::Form)]
    pub login: LoginKind,
    /// How long a code to scan is worth something, in seconds.
    #[arg(long, default_value_t = 120)]
    pub qr_valid_s: u32,
    /// Things that happen to each account a minute, by themselves; 0 = nothing does.
    #[arg(long, default_value_t = 20.0)]
    pub events_per_minute: f64,
    /// Works of each account at the start.
    #[arg(long, default_value_t = 12)]
    pub works: usize,
    /// Top-level comments below each work at the start; a third of them have replies.
    #[arg(long, default_value_t = 12)]
    pub comments: usize,
    /// Conversations of each account at the start.
    #[arg(long, default_value_t = 14)]
    pub conversations: usize,
    /// Messages in each conversation at the start.
    #[arg(long, default_value_t = 25)]
    pub messages: usize,
    /// Notices of each account at the start.
    #[arg(long, default_value_t = 16)]
    pub notices: usize,
    /// How often the page fetches its lists again, in seconds; `?poll_s=` on the page's URL overrules it.
    #[arg(long, default_value_t = 20)]
    pub poll_s: u32,
    /// The moment before which all data of the start lies, in ms since 1970; default: the start of this UTC day,
    /// so that a second start on one day shows the same data.
    #[arg(long)]
    pub start_ms: Option<i64>,
}

impl Config {
    /// Small data for tests: the given accounts, password "demo", nothing happens by itself, a poll each 2 s.
    #[must_use]
    pub fn for_tests(accounts: &[&str], seed: u64) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            seed,
            accounts: accounts.iter().map(|name| (*name).to_owned()).collect(),
            password: "demo".to_owned(),
            login: LoginKind::Form,
            qr_valid_s: 120,
            events_per_minute: 0.0,
            works: 4,
            comments: 12,
            conversations: 5,
            messages: 23,
            notices: 12,
            poll_s: 2,
            start_ms: None,
        }
    }

    /// Checks what clap cannot.
    ///
    /// # Errors
    /// Names the account or the number that does not fit, and what would.
    pub fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            (1..=ACCOUNTS_MAX).contains(&self.accounts.len()),
            "{} accounts are given: --accounts takes 1 to {ACCOUNTS_MAX}",
            self.accounts.len()
        );
        for name in &self.accounts {
            let fits = (1..=64).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
            anyhow::ensure!(fits, "account {name:?} is not valid: use 1 to 64 of A-Z a-z 0-9 _ -");
        }
        anyhow::ensure!(
            self.events_per_minute.is_finite() && (0.0..=60_000.0).contains(&self.events_per_minute),
            "--events-per-minute {} is out of range: use 0 to 60000",
            self.events_per_minute
        );
        anyhow::ensure!(self.works > 0, "--works 0 leaves nothing to comment on: use 1 or more");
        anyhow::ensure!(self.conversations > 0, "--conversations 0 leaves nobody to write: use 1 or more");
        anyhow::ensure!(self.poll_s > 0, "--poll-s 0 would poll without a pause: use 1 or more");
        Ok(())
    }
}
