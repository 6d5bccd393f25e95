//! The wire contract between workers and master.
//!
//! A worker tells the master what it saw of one account in a [`Snapshot`]: a set of upserts of typed
//! records. It is encoded as MessagePack with field names ([`codec`]), published on a subject named for the
//! account ([`subject`]) and kept by the stream described in [`stream`].
//!
//! This crate holds values only: no clock, no environment, no network, no store. Everything a peer could
//! get wrong (an identifier, a subject, a version, a size) is a type that is checked where it is made.

pub mod account;
pub mod codec;
pub mod erasure;
pub mod fleet;
pub mod heartbeat;
pub mod login;
pub mod records;
pub mod snapshot;
pub mod stream;
pub mod subject;
pub mod time;

pub use account::{AccountId, AccountName, IdError, InstanceId, PlatformName, ReaderName, WorkerId};
pub use codec::{DecodeError, EncodeError, decode_snapshot, encode_snapshot};
pub use erasure::{Erasure, Erasures, PersonHash, PersonHashError};
pub use fleet::{
    AccountConfig, AccountEntry, Command, CommandAnswer, ConfigError, Ended, Erased, Lease, ReaderPosition,
    StreamPoint,
};
pub use heartbeat::{AccountHealth, AccountState, Heartbeat, HeldAccounts, LeftBehind};
pub use login::{LoginInput, LoginKey, LoginPart, LoginPicture, LoginScene};
pub use records::{
    Comment, Content, ContentType, Conversation, ConversationType, DirectMessage, Direction, MessageType,
    Metrics, MetricsError, Notification, NotificationType, Record, RecordId, RecordKind,
};
pub use snapshot::{Snapshot, SnapshotId, SnapshotKind, WireVersion};
pub use subject::Topic;
pub use time::UnixMs;
