//! An account's session: kept sealed in a real broker's bucket, and carried from one real Chromium to another.

#![allow(clippy::unwrap_used, reason = "a failure of the test rig is a failed test")]

#[path = "session/moves.rs"]
mod moves;
#[path = "support/browser_rig.rs"]
#[allow(dead_code, reason = "the browser tests use the rest of it")]
mod rig;
#[path = "session/store.rs"]
mod store;
