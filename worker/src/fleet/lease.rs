//! Taking a lease and giving it back: one write each, on the condition that nobody else has written since.

use bytes::Bytes;
use snapfleet_broker::{Broker, PublishError, delete_key, put_key};
use snapfleet_protocol::stream::LEASES_PREFIX;
use snapfleet_protocol::{AccountId, Lease};

use super::Identity;
use crate::roster::now;

/// Takes the account's lease, whose last sequence is `expected`; returns the new one.
///
/// # Errors
/// [`PublishError::Conflict`] where somebody else was first. After [`PublishError::Unanswered`] it may be taken all
/// the same: the next look at the bucket tells.
pub(super) async fn acquire(
    broker: &Broker,
    account: &AccountId,
    identity: &Identity,
    expected: u64,
) -> Result<(u64, Lease), PublishError> {
    let lease = Lease { instance: identity.instance.clone(), worker: identity.worker.clone(), at: now() };
    let value = serde_json::to_vec(&lease).map_err(|error| PublishError::Failed(error.to_string()))?;
    let ack =
        put_key(broker, format!("{LEASES_PREFIX}{account}"), Bytes::from(value), Some(expected)).await?;
    Ok((ack.seq, lease))
}

/// Gives the lease back, which was taken under `seq`.
///
/// # Errors
/// [`PublishError`]; a lease that stays is free once this instance's heartbeat has expired.
pub(super) async fn give_back(broker: &Broker, account: &AccountId, seq: u64) -> Result<u64, PublishError> {
    delete_key(broker, format!("{LEASES_PREFIX}{account}"), Some(seq)).await.map(|ack| ack.seq)
}
