//! The worker's half of the line: `capture` (page to bodies) > `map` (bodies to records) > `diff` (records to
//! what is new) > `encode` > `publish` > the broker's stream.
//!
//! [`run`] holds one browser and one task for each account until told to stop.

pub mod account;
pub mod config;
pub mod fleet;
pub mod outbox;
pub mod publish;
pub mod roster;
pub mod window;
