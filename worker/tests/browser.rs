//! The browser side against a real Chromium and a small site: capture, isolation, login, deaths.

#![allow(clippy::unwrap_used, reason = "a failure of the test rig is a failed test")]

#[path = "browser/bad_bodies.rs"]
mod bad_bodies;
#[path = "browser/capturing.rs"]
mod capturing;
#[path = "browser/conditions.rs"]
mod conditions;
#[path = "browser/deaths.rs"]
mod deaths;
#[path = "browser/driven.rs"]
mod driven;
#[path = "browser/indexed_db.rs"]
mod indexed_db;
#[path = "browser/login.rs"]
mod login;
#[path = "browser/memory.rs"]
mod memory;
#[path = "browser/page_state.rs"]
mod page_state;
#[path = "support/browser_rig.rs"]
mod rig;
#[path = "support/browser_site.rs"]
mod site;
