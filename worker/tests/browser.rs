//! The browser side against a real Chromium and a small site: capture, isolation, login, deaths.

#![allow(clippy::unwrap_used, reason = "a failure of the test rig is a failed test")]

#[path = "browser/capturing.rs"]
mod capturing;
#[path = "browser/deaths.rs"]
mod deaths;
#[path = "browser/login.rs"]
mod login;
#[path = "browser/memory.rs"]
mod memory;
#[path = "support/browser_rig.rs"]
mod rig;
#[path = "support/browser_site.rs"]
mod site;
