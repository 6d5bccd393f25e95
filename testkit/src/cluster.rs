//! Real nats-servers as one JetStream cluster on loopback: the project's nats.conf, a folder that goes with them.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::broker::{configure, nats_server};
use crate::eventually;
use crate::process::{Process, free_port};

/// How long a cluster may take to agree on a leader, and a node to have all that it missed.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// A running cluster; killed when dropped.
pub struct Cluster {
    nodes: Vec<Node>,
    dir: TempDir,
    http: reqwest::Client,
}

struct Node {
    process: Option<Process>,
    client_port: u16,
    monitor_port: u16,
    route_port: u16,
}

impl Cluster {
    /// Starts `size` servers with empty stores and waits until they have a leader.
    ///
    /// # Panics
    /// If they do not start or do not agree.
    pub async fn start(size: usize) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let node = || Node {
            process: None,
            client_port: free_port(),
            monitor_port: free_port(),
            route_port: free_port(),
        };
        let http =
            reqwest::Client::builder().timeout(Duration::from_secs(5)).build().expect("an HTTP client");
        let mut cluster = Self { nodes: std::iter::repeat_with(node).take(size).collect(), dir, http };
        for index in 0..size {
            cluster.spawn(index);
        }
        cluster.wait_until_healthy().await;
        cluster
    }

    /// How many servers there are.
    #[must_use]
    pub fn size(&self) -> usize {
        self.nodes.len()
    }

    /// All addresses, separated by commas.
    #[must_use]
    pub fn urls(&self) -> String {
        let url = |node: &Node| format!("nats://127.0.0.1:{}", node.client_port);
        self.nodes.iter().map(url).collect::<Vec<_>>().join(",")
    }

    /// Kills a node with SIGKILL.
    pub fn kill(&mut self, index: usize) {
        self.nodes[index].process = None;
    }

    /// Starts a node again with its own ports and store.
    pub fn restart(&mut self, index: usize) {
        self.kill(index);
        self.spawn(index);
    }

    /// Waits until all nodes run, know a leader, and have all that they missed.
    ///
    /// # Panics
    /// With the nodes' logs, if that takes over a minute.
    pub async fn wait_until_healthy(&self) {
        let what = format!("all nodes are healthy; they write to {}", self.dir.path().display());
        eventually(READY_TIMEOUT, &what, async || {
            for node in &self.nodes {
                let health = self.get(node, "healthz").await?;
                let peers = self.get(node, "jsz").await?["meta_cluster"].clone();
                if health["status"] != "ok"
                    || peers["cluster_size"] != self.nodes.len()
                    || peers["leader"].as_str().is_none_or(str::is_empty)
                {
                    return None;
                }
            }
            Some(())
        })
        .await;
    }

    /// Which node leads a stream, as a node that runs says; `None` while there is no leader.
    pub async fn leader_of(&self, stream: &str) -> Option<usize> {
        for node in self.nodes.iter().filter(|node| node.process.is_some()) {
            let info = self.get(node, "jsz?streams=true").await?;
            let streams = info["account_details"][0]["stream_detail"].as_array().cloned().unwrap_or_default();
            let leader = streams.iter().find(|one| one["name"] == stream)?["cluster"]["leader"].clone();
            if let Some(index) = (0..self.size()).find(|index| leader == name(*index)) {
                return Some(index);
            }
        }
        None
    }

    /// The last lines of each node's log.
    #[must_use]
    pub fn logs(&self) -> String {
        let mut logs = String::new();
        for index in 0..self.size() {
            let text = std::fs::read_to_string(self.log_path(index)).unwrap_or_default();
            let tail: Vec<&str> = text.lines().rev().take(30).collect();
            logs += &format!("--- {}\n", name(index));
            logs.extend(tail.into_iter().rev().map(|line| format!("{line}\n")));
        }
        logs
    }

    async fn get(&self, node: &Node, path: &str) -> Option<Value> {
        let url = format!("http://127.0.0.1:{}/{path}", node.monitor_port);
        self.http.get(url).send().await.ok()?.json().await.ok()
    }

    fn log_path(&self, index: usize) -> PathBuf {
        self.dir.path().join(format!("{}.log", name(index)))
    }

    fn spawn(&mut self, index: usize) {
        let route = |node: &Node| format!("nats://127.0.0.1:{}", node.route_port);
        let routes = self.nodes.iter().map(route).collect::<Vec<_>>().join(",");
        let node = &self.nodes[index];
        let mut command = Command::new(nats_server());
        configure(&mut command, &self.dir.path().join(name(index)));
        command
            .args(["-a", "127.0.0.1", "-p", &node.client_port.to_string()])
            .args(["-m", &node.monitor_port.to_string(), "--server_name", &name(index)])
            .args(["--cluster_name", "test", "--cluster", &route(node), "--routes", &routes])
            .arg("--no_advertise");
        self.nodes[index].process = Some(Process::start(&mut command, &self.log_path(index)));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
    }
}

fn name(index: usize) -> String {
    format!("node-{index}")
}
