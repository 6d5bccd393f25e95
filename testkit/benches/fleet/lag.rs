//! From a worker's capture to the master's commit: snapshots are heard as the broker takes them, changes are read from
//! the master, and what belongs together is compared.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt;
use snapfleet_protocol::{Snapshot, SnapshotKind, decode_snapshot};

use crate::rig::Rig;
use crate::summary;

/// Account, and kind with id, of a record to when it was captured, in milliseconds, and whether it is inbound.
type Captured = Arc<Mutex<HashMap<(String, String), (i64, bool)>>>;

/// Compares capture times with commit times.
pub(crate) struct Lags {
    captured: Captured,
    cursor: String,
    /// Of what is inbound, and so is published at once.
    inbound_ms: Vec<u64>,
    /// Of the rest, which waits for the account's interval.
    other_ms: Vec<u64>,
    _client: async_nats::Client,
}

impl Lags {
    /// Listens from now on.
    pub(crate) async fn listen(rig: &Rig) -> Self {
        let client = rig.client("operator").await;
        let mut deliveries = client.subscribe("snapshot.>").await.expect("an operator may listen");
        client.flush().await.expect("the broker answers");
        let captured = Captured::default();
        let heard = captured.clone();
        tokio::spawn(async move {
            while let Some(delivery) = deliveries.next().await {
                if let Ok(snapshot) = decode_snapshot(&delivery.payload) {
                    note(&heard, snapshot);
                }
            }
        });
        let status = rig.status().await.expect("the master answers");
        let cursor = status["store"]["cursor"].as_str().expect("a cursor").to_owned();
        Self { captured, cursor, inbound_ms: Vec::new(), other_ms: Vec::new(), _client: client }
    }

    /// Reads the changes since the last time.
    pub(crate) async fn poll(&mut self, rig: &Rig) {
        while let Some(changes) = rig.api(&format!("changes?after={}&limit=500", self.cursor)).await {
            let items = changes["items"].as_array().map_or(&[][..], Vec::as_slice);
            let Some(last) = items.last() else { return };
            self.cursor = last["cursor"].as_str().expect("a cursor").to_owned();
            let mut captured = self.captured.lock().unwrap_or_else(PoisonError::into_inner);
            for item in items {
                let text = |name: &str| item[name].as_str().unwrap_or_default().to_owned();
                let Some((at, inbound)) = captured.remove(&(text("account"), text("kind") + &text("id")))
                else {
                    continue;
                };
                let committed = item["at"].as_i64().expect("a time");
                let millis = if inbound { &mut self.inbound_ms } else { &mut self.other_ms };
                millis.push(u64::try_from(committed - at).unwrap_or(0));
            }
        }
    }

    /// Of what is inbound, and of the rest.
    pub(crate) fn summaries(&mut self) -> [String; 2] {
        [summary(&mut self.inbound_ms, "ms"), summary(&mut self.other_ms, "ms")]
    }
}

/// Remembers when each record of a snapshot was captured. A full repeats what is known and changes nothing.
fn note(captured: &Captured, snapshot: Snapshot) {
    if snapshot.kind != SnapshotKind::Delta {
        return;
    }
    let (account, at) = (snapshot.account_id().to_string(), snapshot.captured_at.0);
    let mut captured = captured.lock().unwrap_or_else(PoisonError::into_inner);
    for record in snapshot.into_records() {
        let key = (account.clone(), format!("{}{}", record.kind(), record.id()));
        captured.insert(key, (at, record.is_inbound()));
    }
}
