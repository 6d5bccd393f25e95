//! One connection to the broker: made with patience, checked once, and watched for as long as it lives.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::connection::State;
use async_nats::{ConnectErrorKind, ConnectOptions, Event};
use snapfleet_protocol::stream::SERVER_LEAST;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The shortest and the longest pause between two attempts to connect.
const RETRY_PAUSE_MIN: Duration = Duration::from_millis(200);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(2);
/// An established connection that broke is retried faster: others wait for it.
const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long one attempt may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A silent connection is found dead after two of these.
const PING_EVERY: Duration = Duration::from_secs(5);
/// How many faults are kept to be shown.
const PROBLEMS_MAX: usize = 8;
/// How long a fault is shown after it was last reported: the broker does not say when it is over.
const PROBLEM_SHOWN: Duration = Duration::from_secs(10 * 60);
/// What is shown in place of an address that holds a password.
const ADDRESS_HIDDEN: &str = "***@***";

/// How to reach the broker, and as whom.
#[derive(Clone)]
pub struct BrokerConfig {
    /// Address, such as `nats://127.0.0.1:4222`; several are separated by commas. It is logged and shown, so it
    /// must not hold user or password.
    pub url: String,
    /// User of nats.conf; its inboxes begin with `_INBOX_<user>`.
    pub user: String,
    /// The user's password.
    pub password: String,
    /// The connection's name, as the broker's monitoring shows it.
    pub name: String,
}

impl BrokerConfig {
    /// Refuses addresses with a user or password in them, without repeating them.
    ///
    /// [`Broker::connect`] does this before it logs anything; whoever shows the address earlier calls it earlier.
    ///
    /// # Errors
    /// [`ConnectError::Address`], with the address hidden.
    pub fn check_address(&self) -> Result<(), ConnectError> {
        // Only a user before it puts this sign into a host and port; a password may hold commas and slashes, so
        // the addresses are not taken apart.
        if !self.url.contains('@') {
            return Ok(());
        }
        let error = "give user and password in SNAPFLEET_NATS_USER and SNAPFLEET_NATS_PASSWORD".to_owned();
        Err(ConnectError::Address { url: ADDRESS_HIDDEN.to_owned(), error })
    }
}

impl std::fmt::Debug for BrokerConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let url = if self.check_address().is_ok() { &self.url } else { ADDRESS_HIDDEN };
        f.debug_struct("BrokerConfig").field("url", &url).field("user", &self.user).finish_non_exhaustive()
    }
}

/// Why there is no connection. Each names the thing and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The broker does not take the user or password.
    #[error(
        "broker {url} refuses user {user:?}: check the password in SNAPFLEET_NATS_PASSWORD against nats.conf"
    )]
    Credentials {
        /// Where.
        url: String,
        /// Who.
        user: String,
    },
    /// The broker is too old.
    #[error(
        "broker {url} is nats-server {version}, but {}.{}.{} or later is needed: update it",
        SERVER_LEAST.0,
        SERVER_LEAST.1,
        SERVER_LEAST.2
    )]
    ServerTooOld {
        /// Where.
        url: String,
        /// What runs there.
        version: String,
    },
    /// The broker runs without JetStream or refuses to tell.
    #[error("broker {url} has no JetStream: start it with the project's nats.conf")]
    NoJetStream {
        /// Where.
        url: String,
    },
    /// The address cannot be read.
    #[error("broker address {url:?} is not valid ({error}): write it as nats://host:4222")]
    Address {
        /// What was given.
        url: String,
        /// What is wrong with it.
        error: String,
    },
    /// Told to stop before the broker was reached.
    #[error("stopped before the broker {url} was reached")]
    Stopped {
        /// Where.
        url: String,
    },
}

/// A watched connection. Clones share it.
#[derive(Clone)]
pub struct Broker {
    client: async_nats::Client,
    jetstream: async_nats::jetstream::Context,
    connections: watch::Receiver<u64>,
    problems: watch::Receiver<Problems>,
    url: String,
    user: String,
}

impl Broker {
    /// Connects, and keeps trying with back-off while the broker cannot be reached, logging each attempt.
    ///
    /// # Errors
    /// At once for what waiting does not mend: refused credentials, an old server, no JetStream, an address
    /// that is none or holds a password; [`ConnectError::Stopped`] when `shutdown` is cancelled first.
    pub async fn connect(config: &BrokerConfig, shutdown: &CancellationToken) -> Result<Self, ConnectError> {
        config.check_address()?;
        let mut pause = RETRY_PAUSE_MIN;
        loop {
            match Self::attempt(config).await {
                Ok(broker) => return broker.checked(config).await,
                Err(error) => {
                    if let Some(fatal) = fatal(&error, config) {
                        return Err(fatal);
                    }
                    tracing::warn!(broker.url = %config.url, %error, retry_ms = pause.as_millis() as u64,
                        "broker cannot be reached; is nats-server running there?");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(jittered(pause)) => {}
                () = shutdown.cancelled() => return Err(ConnectError::Stopped { url: config.url.clone() }),
            }
            pause = (pause * 2).min(RETRY_PAUSE_MAX);
        }
    }

    async fn attempt(config: &BrokerConfig) -> Result<Self, async_nats::ConnectError> {
        let (count, connections) = watch::channel(0);
        let (report, problems) = watch::channel(Problems::default());
        let (count, report) = (Arc::new(count), Arc::new(report));
        let url = config.url.clone();
        let urls: Vec<&str> = config.url.split(',').map(str::trim).collect();
        let client = ConnectOptions::with_user_and_password(config.user.clone(), config.password.clone())
            .name(&config.name)
            .custom_inbox_prefix(format!("_INBOX_{}", config.user))
            .connection_timeout(CONNECT_TIMEOUT)
            .ping_interval(PING_EVERY)
            .max_reconnects(None)
            .reconnect_delay_callback(|attempt| {
                let doubling = Duration::from_millis(50) * 2_u32.saturating_pow(attempt.min(8) as u32);
                jittered(doubling.min(RECONNECT_PAUSE_MAX))
            })
            .event_callback(move |event| {
                observe(&event, &url, &count, &report);
                std::future::ready(())
            })
            .connect(&urls[..])
            .await?;
        let jetstream = async_nats::jetstream::new(client.clone());
        Ok(Self {
            client,
            jetstream,
            connections,
            problems,
            url: config.url.clone(),
            user: config.user.clone(),
        })
    }

    async fn checked(self, config: &BrokerConfig) -> Result<Self, ConnectError> {
        let info = self.client.server_info();
        let (major, minor, patch) = SERVER_LEAST;
        if !self.client.is_server_compatible(major, minor, patch) {
            return Err(ConnectError::ServerTooOld { url: config.url.clone(), version: info.version });
        }
        if !info.jetstream {
            return Err(ConnectError::NoJetStream { url: config.url.clone() });
        }
        tracing::info!(broker.url = %config.url, broker.version = %info.version, broker.user = %config.user,
            max_payload = info.max_payload, "connected to the broker");
        Ok(self)
    }

    /// The client, for core messages.
    #[must_use]
    pub fn client(&self) -> &async_nats::Client {
        &self.client
    }

    /// The client's JetStream side.
    #[must_use]
    pub fn jetstream(&self) -> &async_nats::jetstream::Context {
        &self.jetstream
    }

    /// Where it is connected to.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// As whom.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Counts connections: the number changes each time the connection comes back.
    #[must_use]
    pub fn connections(&self) -> watch::Receiver<u64> {
        self.connections.clone()
    }

    /// Whether the connection stands right now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// The largest message that the broker takes, headers included, as it said when connecting, in bytes.
    #[must_use]
    pub fn max_payload(&self) -> usize {
        self.client.server_info().max_payload
    }

    /// The name of the cluster that the broker is a node of, as it said when connecting; `None` for a single one.
    #[must_use]
    pub fn cluster(&self) -> Option<String> {
        self.client.server_info().cluster.filter(|name| !name.is_empty())
    }

    /// The last faults that the connection reported, such as a denied permission; at most eight, newest last, each
    /// for ten minutes after it was last reported.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        self.problems.borrow().current(Instant::now())
    }

    /// Waits for a fault that `wanted` takes; one that was reported before and is still shown counts.
    pub(crate) async fn problem(&self, wanted: impl Fn(&str) -> bool) -> String {
        let mut problems = self.problems.clone();
        loop {
            let shown = problems.borrow_and_update().current(Instant::now());
            if let Some(problem) = shown.into_iter().rev().find(|problem| wanted(problem)) {
                return problem;
            }
            if problems.changed().await.is_err() {
                // The connection is closed and will not report any more.
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Faults and when each was last reported, oldest first.
#[derive(Debug, Default)]
struct Problems(VecDeque<(String, Instant)>);

impl Problems {
    fn add(&mut self, text: String, at: Instant) {
        self.0.retain(|(known, _)| *known != text);
        self.0.push_back((text, at));
        if self.0.len() > PROBLEMS_MAX {
            self.0.pop_front();
        }
    }

    fn current(&self, now: Instant) -> Vec<String> {
        let shown = |at: &Instant| now.saturating_duration_since(*at) <= PROBLEM_SHOWN;
        self.0.iter().filter(|(_, at)| shown(at)).map(|(text, _)| text.clone()).collect()
    }
}

/// The error to give up with, where trying again would not help.
fn fatal(error: &async_nats::ConnectError, config: &BrokerConfig) -> Option<ConnectError> {
    let (url, user) = (config.url.clone(), config.user.clone());
    match error.kind() {
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            Some(ConnectError::Credentials { url, user })
        }
        ConnectErrorKind::ServerParse => Some(ConnectError::Address { url, error: error.to_string() }),
        ConnectErrorKind::Dns
        | ConnectErrorKind::TimedOut
        | ConnectErrorKind::Tls
        | ConnectErrorKind::Io
        | ConnectErrorKind::MaxReconnects => None,
    }
}

/// Logs what the connection reports. A denied publish is told here and nowhere else.
fn observe(event: &Event, url: &str, count: &watch::Sender<u64>, problems: &watch::Sender<Problems>) {
    match event {
        Event::Connected => {
            if *count.borrow() > 0 {
                tracing::info!(broker.url = %url, "connection to the broker is back");
            }
            count.send_modify(|connections| *connections += 1);
        }
        Event::Disconnected => {
            tracing::warn!(broker.url = %url, "connection to the broker lost; trying to get it back");
        }
        // Each attempt of a reconnect that fails: the loss was told, and so will be the return.
        Event::ClientError(error) => {
            let text = error.to_string();
            if text.to_lowercase().contains("authoriz") {
                let known = problems.borrow().0.iter().any(|(known, _)| *known == text);
                problems.send_modify(|problems| problems.add(text.clone(), Instant::now()));
                if !known {
                    tracing::error!(broker.url = %url, error = text,
                        "the broker refuses our user since it is back: correct the password, and restart");
                }
            } else {
                tracing::debug!(broker.url = %url, %error, "not connected yet");
            }
        }
        Event::LameDuckMode => tracing::warn!(broker.url = %url, "the broker is about to stop"),
        Event::Draining | Event::Closed => {
            tracing::debug!(broker.url = %url, event = %event, "connection ends")
        }
        Event::SlowConsumer(_) | Event::ServerError(_) => {
            tracing::error!(broker.url = %url, event = %event, "the broker reports a fault");
            problems.send_modify(|problems| problems.add(event.to_string(), Instant::now()));
        }
    }
}

/// Whether a fault is the broker's denial of something that the user sent or subscribed to.
pub(crate) fn is_denial(problem: &str) -> bool {
    problem.to_lowercase().contains("permissions violation")
}

/// Up to a quarter more, so that many clients do not come back in step.
fn jittered(pause: Duration) -> Duration {
    pause + pause.mul_f64(fastrand::f64() / 4.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_forgotten_ten_minutes_after_it_was_last_reported() {
        let (start, minute) = (Instant::now(), Duration::from_secs(60));
        let mut problems = Problems::default();
        problems.add("denied".to_owned(), start);
        problems.add("slow".to_owned(), start + minute);
        problems.add("denied".to_owned(), start + 2 * minute);
        assert_eq!(problems.current(start + 10 * minute), ["slow", "denied"]);
        assert_eq!(problems.current(start + 12 * minute), ["denied"]);
        assert!(problems.current(start + 13 * minute).is_empty());
        for number in 0..=PROBLEMS_MAX {
            problems.add(number.to_string(), start);
        }
        assert_eq!(problems.current(start), ["1", "2", "3", "4", "5", "6", "7", "8"]);
    }
}
