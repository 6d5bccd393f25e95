//! How the whole system is set up: which accounts, workers, addresses and platforms a test wants.

use std::path::Path;

use serde_json::Value;

use crate::workspace;

/// How the system is set up.
pub struct Setup {
    /// The demo accounts of each worker.
    pub workers: Vec<Vec<&'static str>>,
    /// Whether each account is held by the worker that it stands with and by no other. Otherwise the workers share
    /// all accounts as they see fit.
    pub pinned: bool,
    /// What happens to each demo account a minute.
    pub events_per_minute: f64,
    /// Where the master finds the broker, if not directly.
    pub master_broker_url: Option<String>,
    /// Where the workers find the broker, if not directly.
    pub worker_broker_url: Option<String>,
    /// The publish interval of the accounts, in seconds.
    pub interval_s: u64,
    /// How often the demo site's page fetches its lists again, in seconds.
    pub poll_s: u32,
    /// How often pages are loaded anew, in seconds, if not as their platforms say.
    pub refresh_s: Option<u32>,
    /// Whether the demo site shows a code to scan in place of its login form; its accounts then have no password.
    pub qr_login: bool,
    /// Further accounts and their settings, given to the first worker.
    pub more_accounts: Vec<(String, Value)>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            workers: vec![vec!["shop-a", "shop-b", "shop-c"], vec!["shop-d", "shop-e"]],
            pinned: true,
            events_per_minute: 60.0,
            master_broker_url: None,
            worker_broker_url: None,
            interval_s: 2,
            poll_s: 3,
            refresh_s: None,
            qr_login: false,
            more_accounts: Vec::new(),
        }
    }
}

/// A key of the fleet, made of one byte, that only its owner can read.
pub(super) fn write_key(path: &Path, byte: u8) {
    std::fs::write(path, format!("{byte:02x}").repeat(32)).expect("the key's file");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(path, private).expect("the key's permissions");
}

/// The platforms and what they share, with pages that are loaded anew so often.
pub(super) fn copy_platforms(to: &Path, refresh_s: u32) {
    for folder in std::fs::read_dir(workspace().join("platforms")).expect("the platforms").flatten() {
        if !folder.path().is_dir() {
            continue;
        }
        let to = to.join(folder.file_name());
        std::fs::create_dir_all(&to).expect("a folder for the platform");
        for file in std::fs::read_dir(folder.path()).expect("the platform's folder").flatten() {
            if file.path().is_file() {
                std::fs::copy(file.path(), to.join(file.file_name())).expect("the platform's file is copied");
            }
        }
        // What platforms share has none.
        let manifest = to.join("platform.toml");
        let Ok(text) = std::fs::read_to_string(&manifest) else { continue };
        let lines = text.lines().map(|line| match line.starts_with("refresh_s") {
            true => format!("refresh_s = {refresh_s}\n"),
            false => format!("{line}\n"),
        });
        std::fs::write(&manifest, lines.collect::<String>()).expect("the platform's manifest");
    }
}
