//! What the operating system says of a process, and the broker of its streams.

use std::collections::BTreeMap;
use std::ops::Add;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_nats::Client;
use futures_util::StreamExt;
use serde_json::Value;

/// The unit of processor time in `/proc`, the same on all of Linux's architectures.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Broker,
    Master,
    Worker,
}

impl Part {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Part::Broker => "nats-server",
            Part::Master => "master",
            Part::Worker => "worker",
        }
    }
}

/// What a process has taken so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    pub(crate) cpu_s: f64,
    /// Its own memory and its share of what it shares.
    pub(crate) pss_bytes: u64,
    /// What it had written to disks.
    pub(crate) written_bytes: u64,
}

impl Add for Usage {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            cpu_s: self.cpu_s + other.cpu_s,
            pss_bytes: self.pss_bytes + other.pss_bytes,
            written_bytes: self.written_bytes + other.written_bytes,
        }
    }
}

/// What a process takes; nothing once it is gone.
pub(crate) fn usage(pid: u32) -> Usage {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let ticks: u64 = match read("stat").rsplit_once(')') {
        Some((_, fields)) => {
            fields.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
        }
        None => 0,
    };
    Usage {
        cpu_s: ticks as f64 / TICKS_PER_SECOND,
        pss_bytes: number_after(&read("smaps_rollup"), "Pss:") * 1024,
        written_bytes: number_after(&read("io"), "write_bytes:"),
    }
}

fn number_after(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// The process of this name that we started.
pub(crate) fn child_named(name: &str) -> Option<u32> {
    let ours = std::process::id();
    let all = std::fs::read_dir("/proc").ok()?.flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(|pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let Some((before, fields)) = stat.rsplit_once(')') else { return false };
        let parent = fields.split_whitespace().nth(1).and_then(|parent| parent.parse().ok());
        parent == Some(ours) && before.ends_with(&format!("({name}"))
    })
}

/// The broker's streams at one moment.
pub(crate) struct Streams(BTreeMap<String, u64>);

impl Streams {
    /// Reads the broker's `/jsz`.
    pub(crate) fn read(jsz: &Value) -> Self {
        let accounts = jsz["account_details"].as_array().into_iter().flatten();
        let details = accounts.flat_map(|account| account["stream_detail"].as_array().into_iter().flatten());
        let streams = details.filter_map(|detail| {
            Some((detail["name"].as_str()?.to_owned(), detail["state"]["last_seq"].as_u64()?))
        });
        Self(streams.collect())
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// How many messages a stream has ever taken.
    pub(crate) fn last_seq(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }
}

/// How many bytes were published to each stream, heard beside it: subject, headers and payload.
pub(crate) struct Wire {
    bytes: BTreeMap<&'static str, Arc<AtomicU64>>,
    _clients: [Client; 2],
}

impl Wire {
    /// Listens from now on. `operator` and `master` are users of the broker that may, to what each of them may.
    pub(crate) async fn listen(operator: Client, master: Client) -> Self {
        let mut bytes = BTreeMap::new();
        for (stream, subjects, client) in [
            ("SNAPSHOTS", "snapshot.>", &operator),
            ("KV_workers", "$KV.workers.>", &master),
            ("KV_leases", "$KV.leases.>", &master),
            ("KV_accounts", "$KV.accounts.>", &master),
        ] {
            let mut deliveries = client.subscribe(subjects).await.expect("they may listen");
            client.flush().await.expect("the broker answers");
            let heard = Arc::new(AtomicU64::new(0));
            bytes.insert(stream, heard.clone());
            tokio::spawn(async move {
                while let Some(delivery) = deliveries.next().await {
                    heard.fetch_add(delivery.length as u64, Ordering::Relaxed);
                }
            });
        }
        Self { bytes, _clients: [operator, master] }
    }

    /// Bytes so far by stream.
    pub(crate) fn bytes(&self) -> BTreeMap<&'static str, u64> {
        self.bytes.iter().map(|(stream, bytes)| (*stream, bytes.load(Ordering::Relaxed))).collect()
    }
}
