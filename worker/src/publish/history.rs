//! What an account's subject holds, read back from the stream by a new holder.

use snapfleet_broker::{Broker, DirectGetError, Stored, read_subject};
use snapfleet_protocol::stream::SNAPSHOTS;
use snapfleet_protocol::{Record, SnapshotKind, UnixMs, decode_snapshot};

/// What the stream knows of an account, read back by a new holder.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Highest epoch on the subject.
    pub(super) epoch: u64,
    /// Highest epoch of a message with records: a claim alone has overwritten nothing.
    pub(super) data_epoch: u64,
    /// Stream sequence of its last message; 0 if there is none.
    pub(super) last: u64,
    /// Bytes of its last full, where there is one, and of the deltas since.
    pub(super) full_bytes: Option<usize>,
    pub(super) delta_bytes: usize,
}

impl History {
    /// Takes note of one message, and gives its records in order to `restore`.
    pub(super) fn note(&mut self, stored: &Stored, restore: &mut impl FnMut(Record, UnixMs)) {
        self.last = stored.seq;
        let snapshot = match decode_snapshot(&stored.payload) {
            Ok(snapshot) => snapshot,
            Err(error) => {
                tracing::warn!(stream.seq = stored.seq, %error, "a message of the account cannot be read back");
                return;
            }
        };
        self.epoch = self.epoch.max(snapshot.epoch);
        if snapshot.kind != SnapshotKind::Claim {
            self.data_epoch = self.data_epoch.max(snapshot.epoch);
        }
        match snapshot.kind {
            SnapshotKind::Full => {
                let earlier_parts = if snapshot.part > 1 { self.full_bytes.unwrap_or(0) } else { 0 };
                self.full_bytes = Some(earlier_parts + stored.payload.len());
                self.delta_bytes = 0;
            }
            SnapshotKind::Delta => self.delta_bytes += stored.payload.len(),
            SnapshotKind::Claim => {}
        }
        let at = snapshot.captured_at;
        for record in snapshot.into_records() {
            restore(record, at);
        }
    }
}

/// Reads the subject from the last message that `history` knows to its end.
pub(super) async fn read_on(
    broker: &Broker,
    subject: &str,
    history: &mut History,
    restore: &mut impl FnMut(Record, UnixMs),
) -> Result<(), DirectGetError> {
    loop {
        let (messages, pending) = read_subject(broker, SNAPSHOTS, subject, history.last + 1).await?;
        for stored in &messages {
            history.note(stored, restore);
        }
        if pending == 0 || messages.is_empty() {
            return Ok(());
        }
    }
}
