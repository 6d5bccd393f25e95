//! This worker among the others: its heartbeat in the bucket `workers`, with a time to live of its own.
//!
//! The heartbeat is a raw publish: the client's key-value calls would drop the time to live on an update.

use std::time::Duration;

use bytes::Bytes;
use snapfleet_broker::{Broker, Outgoing, PublishError, publish};
use snapfleet_protocol::stream::{HEARTBEAT_EVERY_MS, HEARTBEAT_TTL_S, WORKERS_PREFIX};
use snapfleet_protocol::{Heartbeat, InstanceId, UnixMs, WorkerId};
use tokio_util::sync::CancellationToken;

use crate::roster::{Roster, now};

/// Who this worker is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// This start.
    pub instance: InstanceId,
    /// The worker through all its starts.
    pub worker: WorkerId,
    /// The host's name.
    pub host: String,
    /// When it started.
    pub started_at: UnixMs,
}

impl Identity {
    /// A new random instance on this host.
    ///
    /// # Errors
    /// Never in practice: the random id is always a valid name.
    pub fn new() -> Result<Self, snapfleet_protocol::IdError> {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Ok(Self {
            instance: InstanceId::parse(&format!("{:016x}", fastrand::u64(..)))?,
            worker: WorkerId::parse("worker")?,
            host: host.trim().to_owned(),
            started_at: now(),
        })
    }
}

/// Publishes heartbeats until `stop`, then withdraws the key so that the worker is gone at once.
pub async fn beat(broker: Broker, identity: Identity, roster: Roster, pages: u32, stop: CancellationToken) {
    let mut every = tokio::time::interval(Duration::from_millis(HEARTBEAT_EVERY_MS));
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        tokio::select! {
            _ = every.tick() => {}
            () = stop.cancelled() => break,
        }
        let beat = heartbeat(&broker, &identity, &roster, pages);
        let sent = tokio::select! {
            sent = send(&broker, &identity, &beat) => sent,
            () = stop.cancelled() => break,
        };
        match &sent {
            Ok(()) if failing => tracing::info!("heartbeats are stored again"),
            Ok(()) => {}
            Err(error) if failing => tracing::debug!(%error, "heartbeat is not stored"),
            Err(error) => {
                tracing::warn!(%error, "heartbeat is not stored: status will show this worker as gone");
            }
        }
        failing = sent.is_err();
    }
    let mut farewell = message(&identity, Bytes::new());
    farewell.headers = vec![("KV-Operation", "DEL".to_owned())];
    if let Err(error) = publish(&broker, &farewell).await {
        tracing::warn!(%error, "the heartbeat key is not withdrawn: it expires by itself");
    }
}

fn heartbeat(broker: &Broker, identity: &Identity, roster: &Roster, pages: u32) -> Heartbeat {
    Heartbeat {
        host: identity.host.clone(),
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: identity.started_at,
        at: now(),
        pages,
        memory_bytes: resident_bytes().unwrap_or(0),
        problems: broker.problems(),
        accounts: roster.all(),
        ..Heartbeat::new(identity.instance.clone(), identity.worker.clone())
    }
}

async fn send(broker: &Broker, identity: &Identity, beat: &Heartbeat) -> Result<(), PublishError> {
    let payload = serde_json::to_vec(beat).map_err(|error| PublishError::Failed(error.to_string()))?;
    publish(broker, &message(identity, Bytes::from(payload))).await.map(|_| ())
}

fn message(identity: &Identity, payload: Bytes) -> Outgoing {
    Outgoing {
        subject: format!("{WORKERS_PREFIX}{}", identity.instance),
        payload,
        message_id: None,
        expected_last: None,
        ttl_s: Some(HEARTBEAT_TTL_S),
        headers: Vec::new(),
    }
}

/// Resident memory of this process, from the second field of /proc/self/statm (proc(5)), in pages of 4 KiB.
fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(statm.split_whitespace().nth(1)?.parse::<u64>().ok()? * 4096)
}
