//! What workers and master both need of NATS, and nothing else: a watched connection ([`connection`]), the
//! streams ([`streams`]), the user's rights ([`access`]), publishing with the broker's proof ([`mod@publish`]) and
//! reading back without a consumer ([`read`]), key-value
//! buckets ([`bucket`]).
//!
//! It is the meeting point of two crates that must not know each other; it knows neither browsers nor the
//! store, and keeps no state of its own beyond the connection.

pub mod access;
pub mod bucket;
pub mod connection;
pub mod publish;
pub mod read;
pub mod streams;

/// What a tracing filter must hold so that the client's faults are not logged twice: they arrive as events, which
/// [`connection`] logs and keeps.
pub const LOG_DIRECTIVE: &str = "async_nats=off";

pub use access::{AccessError, check_access};
pub use bucket::{Tail, delete_key, last_at_leader, purge_key, put_key, replace_key, withdraw_key};
pub use connection::{Broker, BrokerConfig, ConnectError};
pub use publish::{Ack, Outgoing, PublishError, publish, publish_batch};
pub use read::{DirectGetError, Stored, last_per_subject, read_subject};
pub use streams::{COPIES_SAFE, StreamError, ensure_streams};
