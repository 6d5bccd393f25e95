//! Development only: the real parts that tests run against, and the patience to wait for them.
//!
//! A broker of its own for each test ([`TestBroker`]), several as one ([`Cluster`]), the whole system as processes
//! ([`system`], and [`fleet`] without browsers), hosts with a network of their own ([`Hosts`]), a wire that can be cut
//! or made to lose answers ([`Proxy`]), sample records ([`sample`]), and [`eventually`]. Nothing here
//! stands in for a part of the product.

pub mod broker;
pub mod cluster;
pub mod fleet;
pub mod hosts;
pub mod process;
pub mod proxy;
pub mod sample;
pub mod system;
pub mod wait;

pub use broker::TestBroker;
pub use cluster::Cluster;
pub use fleet::Fleet;
pub use hosts::Hosts;
pub use proxy::Proxy;
pub use wait::eventually;

use std::path::PathBuf;

/// The workspace's root folder, wherever the tests are started from.
///
/// # Panics
/// If this crate was moved out of the workspace.
#[must_use]
pub fn workspace() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_owned()
}
