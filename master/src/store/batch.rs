//! What goes into the store, and what came of it: deliveries of the stream in their order, decoded and hashed
//! before they reach the writer.

use std::fmt::Write;

use bytes::Bytes;
use snapfleet_protocol::{AccountId, InstanceId, Record, RecordKind, Snapshot, SnapshotKind, UnixMs};

use super::codec;
use super::error::StoreError;

/// A run of deliveries without a gap, to be applied in one durable transaction.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Which stream it is of: the stream's creation time in nanoseconds since 1970.
    pub incarnation: u64,
    /// The stream sequence that it follows; 0 at the stream's beginning. Must be the stored position.
    pub after: u64,
    /// The sequence of its last delivery: the position once it is applied.
    pub through: u64,
    /// When it is applied, by the master's clock. The store itself has no clock.
    pub committed_at: UnixMs,
    /// The deliveries, in the order of their sequences.
    pub deliveries: Vec<Delivery>,
}

/// One message of the stream, decoded as far as that went.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Its stream sequence.
    pub seq: u64,
    /// Its subject.
    pub subject: String,
    /// When the broker stored it, by the broker's clock.
    pub stored_at: UnixMs,
    /// Its headers as text, one `name: value` a line.
    pub headers: String,
    /// Its bytes, kept should it be rejected.
    pub payload: Bytes,
    /// What it says, or why that cannot be told.
    pub outcome: Result<Incoming, String>,
}

/// A snapshot made ready for the writer: each record encoded and hashed.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// The account.
    pub account: AccountId,
    /// Who published it.
    pub instance: InstanceId,
    /// The holder's term.
    pub epoch: u64,
    /// Its count within the term.
    pub seq: u64,
    /// What it is for.
    pub kind: SnapshotKind,
    /// When its newest record was captured, by the worker's clock.
    pub captured_at: UnixMs,
    pub(crate) records: Vec<IncomingRecord>,
}

/// A record with its stored form and that form's hash.
#[derive(Debug, Clone)]
pub(crate) struct IncomingRecord {
    pub(crate) record: Record,
    pub(crate) bytes: Vec<u8>,
    pub(crate) hash: u128,
}

impl Incoming {
    /// Encodes and hashes a snapshot's records. Costs time, so it is done beside the writer.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] where a record cannot be encoded.
    pub fn new(snapshot: Snapshot) -> Result<Self, StoreError> {
        let mut incoming = Self {
            account: snapshot.account_id(),
            instance: snapshot.instance.clone(),
            epoch: snapshot.epoch,
            seq: snapshot.seq,
            kind: snapshot.kind,
            captured_at: snapshot.captured_at,
            records: Vec::with_capacity(snapshot.record_count()),
        };
        for record in snapshot.into_records() {
            let bytes = codec::encode_record(&record)?;
            let hash = codec::hash(&bytes);
            incoming.records.push(IncomingRecord { record, bytes, hash });
        }
        Ok(incoming)
    }

    /// How many records it holds.
    #[must_use]
    pub fn record_count(&self) -> usize {
        self.records.len()
    }

    /// How large its records are as they are stored, in bytes.
    #[must_use]
    pub fn record_bytes(&self) -> usize {
        self.records.iter().map(|record| record.bytes.len()).sum()
    }
}

/// A number for each kind of record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KindCounts([u64; RecordKind::ALL.len()]);

impl KindCounts {
    /// The number of one kind.
    #[must_use]
    pub fn get(&self, kind: RecordKind) -> u64 {
        self.0[kind as usize - 1]
    }

    /// All kinds together.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Adds to the number of one kind.
    pub fn add(&mut self, kind: RecordKind, number: u64) {
        self.0[kind as usize - 1] += number;
    }

    /// The numbers in the order of [`RecordKind::ALL`].
    #[must_use]
    pub fn as_array(&self) -> [u64; RecordKind::ALL.len()] {
        self.0
    }

    /// From numbers in the order of [`RecordKind::ALL`].
    #[must_use]
    pub fn from_array(numbers: [u64; RecordKind::ALL.len()]) -> Self {
        Self(numbers)
    }
}

impl std::fmt::Display for KindCounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut first = true;
        for kind in RecordKind::ALL.into_iter().filter(|kind| self.get(*kind) > 0) {
            if !std::mem::take(&mut first) {
                f.write_char(' ')?;
            }
            write!(f, "{kind}={}", self.get(kind))?;
        }
        if first { f.write_str("none") } else { Ok(()) }
    }
}

/// What came of a batch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Applied {
    /// One entry for each delivery, in order.
    pub deliveries: Vec<AppliedDelivery>,
    /// The number of the newest change before the batch.
    pub changes_before: u64,
    /// The number of the newest change after it; the batch's own are those in between.
    pub changes_after: u64,
}

/// What came of one delivery.
#[derive(Debug, Clone, PartialEq)]
pub struct AppliedDelivery {
    /// Its stream sequence.
    pub seq: u64,
    /// What became of it.
    pub outcome: DeliveryOutcome,
}

/// What became of a delivery.
#[derive(Debug, Clone, PartialEq)]
pub enum DeliveryOutcome {
    /// It is in the store.
    Applied(AppliedSnapshot),
    /// It is among the dead letters.
    Rejected {
        /// Its subject.
        subject: String,
        /// Why.
        error: String,
        /// Whether its holder's term was over: something published that must not.
        fenced: bool,
    },
    /// It is nowhere: what it is of was erased, or has begun anew since.
    Discarded {
        /// Its account.
        account: AccountId,
        /// Why.
        reason: String,
    },
}

/// What a snapshot brought.
#[derive(Debug, Clone, PartialEq)]
pub struct AppliedSnapshot {
    /// The account.
    pub account: AccountId,
    /// What it was for.
    pub kind: SnapshotKind,
    /// The records it held.
    pub records: KindCounts,
    /// Records that the store did not have.
    pub added: u64,
    /// Records of which something changed.
    pub updated: u64,
    /// Records that were stored just so.
    pub unchanged: u64,
    /// Records that were dropped, and are not stored, because their person was erased.
    pub erased: u64,
}
