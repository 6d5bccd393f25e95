//! `platforms/douyin`: what was expected of its mapping before it was written, which traffic it takes, and its
//! page-state scripts in a real Chromium on a page built like the site's.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use snapfleet_protocol::{AccountId, UnixMs};
use snapfleet_worker::platform::{AccountView, Mapped, Platform, Request, Settings};

#[path = "douyin/claims.rs"]
mod claims;
#[path = "douyin/page.rs"]
mod page;
#[path = "support/browser_rig.rs"]
#[allow(dead_code, reason = "shared with the browser's tests, which use more of it")]
mod rig;
#[path = "douyin/scripts.rs"]
mod scripts;
#[path = "douyin/traffic.rs"]
mod traffic;

/// A moment after everything in the fixtures.
const NOW: UnixMs = UnixMs(1_761_998_490_000);

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../platforms/douyin")
}

fn douyin() -> Platform {
    Platform::load(&folder()).unwrap_or_else(|error| panic!("{error}"))
}

/// The number of a rule.
fn rule(platform: &Platform, name: &str) -> usize {
    platform.captures().iter().position(|rule| rule.name == name).unwrap()
}

/// What a rule makes of a body for an account without settings.
fn map(platform: &Platform, name: &str, request: &Request, body: &[u8]) -> Mapped {
    let account = AccountView { id: AccountId::parse("douyin.shop").unwrap(), settings: Settings::new() };
    platform.map(rule(platform, name), request, &account, body, NOW)
}

/// The request of a script that ran on a page.
fn state_of(page: &str) -> Request {
    Request { page: Some(page.to_owned()), ..Request::of("https://www.douyin.com/") }
}
