//! How many bytes of bodies and frames may wait for the consumer: reserved before a body is fetched, given back when
//! the last reader drops it.
//!
//! Reservations are made in the order of delivery: a body that waits for room never waits for one behind it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::BODY_BYTES_MAX;

/// What a compressed body may grow to, as a factor: text seldom shrinks to less than a tenth.
const GROWTH: u64 = 10;
/// What a body takes of which nothing is known: out of a cache, or from a service worker.
const UNKNOWN_BYTES: u64 = 1024 * 1024;
const KIB: usize = 1024;

/// How large a body probably is, in bytes, told before it is fetched by what came over the network.
pub(super) fn expected_bytes(sent_bytes: u64, compressed: bool) -> usize {
    let bytes = match (sent_bytes, compressed) {
        (0, _) => UNKNOWN_BYTES,
        (sent, true) => sent.saturating_mul(GROWTH),
        (sent, false) => sent,
    };
    usize::try_from(bytes).unwrap_or(usize::MAX).min(BODY_BYTES_MAX)
}

/// A number of bytes that may be held at once, counted in KiB.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Arc<Semaphore>);

impl Budget {
    /// Of so many bytes; at least [`BODY_BYTES_MAX`], or the largest body would never fit.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes_max.max(BODY_BYTES_MAX) / KIB)))
    }

    /// Waits for room; none within the limit.
    pub(super) async fn reserve(&self, bytes: usize, limit: Duration) -> Option<OwnedSemaphorePermit> {
        let room = Arc::clone(&self.0).acquire_many_owned(kib(bytes));
        tokio::time::timeout(limit, room).await.ok()?.ok()
    }

    /// The body, counted until its last clone is dropped. What it has grown beyond its reservation is counted as
    /// far as there is room: it is here already.
    pub(super) fn hold(&self, mut reserved: OwnedSemaphorePermit, body: Bytes) -> Bytes {
        let needed = kib(body.len());
        let had = u32::try_from(reserved.num_permits()).unwrap_or(u32::MAX);
        if needed < had {
            drop(reserved.split((had - needed) as usize));
        } else if let Ok(more) = Arc::clone(&self.0).try_acquire_many_owned(needed - had) {
            reserved.merge(more);
        }
        Bytes::from_owner(Held { body, _reserved: reserved })
    }

    /// What came unasked for, counted until its last clone is dropped; none if there is no room.
    pub(crate) fn try_hold(&self, body: Bytes) -> Option<Bytes> {
        let reserved = Arc::clone(&self.0).try_acquire_many_owned(kib(body.len())).ok()?;
        Some(Bytes::from_owner(Held { body, _reserved: reserved }))
    }
}

fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.min(BODY_BYTES_MAX).div_ceil(KIB)).unwrap_or(u32::MAX)
}

struct Held {
    body: Bytes,
    _reserved: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;
    const SOON: Duration = Duration::from_millis(10);

    #[tokio::test(start_paused = true)]
    async fn bodies_count_by_their_size_until_they_are_dropped() {
        let budget = Budget::new(64 * MIB);
        let first = budget.reserve(32 * MIB, SOON).await.unwrap();
        let second = budget.reserve(32 * MIB, SOON).await.unwrap();
        assert!(budget.reserve(1, SOON).await.is_none());
        assert!(budget.try_hold(Bytes::from_static(b"x")).is_none());

        let first = budget.hold(first, Bytes::from(vec![0; MIB]));
        assert_eq!(first.len(), MIB);
        assert_eq!(budget.0.available_permits(), 31 * 1024, "what was reserved in vain is given back");
        let copy = first.clone();
        drop(first);
        drop(second);
        assert_eq!(budget.0.available_permits(), 63 * 1024);
        drop(copy);
        assert_eq!(budget.0.available_permits(), 64 * 1024);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_grew_takes_more_and_one_that_is_too_large_still_fits() {
        let budget = Budget::new(0);
        let small = budget.reserve(expected_bytes(1, false), SOON).await.unwrap();
        let body = budget.hold(small, Bytes::from(vec![0; 2 * MIB]));
        assert_eq!(budget.0.available_permits(), 30 * 1024);
        drop(body);
        assert!(budget.reserve(expected_bytes(u64::MAX, true), SOON).await.is_some());
    }

    #[test]
    fn a_size_is_guessed_where_it_is_not_known() {
        assert_eq!(expected_bytes(0, false), MIB);
        assert_eq!(expected_bytes(5000, false), 5000);
        assert_eq!(expected_bytes(5000, true), 50_000);
        assert_eq!(expected_bytes(u64::MAX, true), BODY_BYTES_MAX);
    }
}
