//! Where a command reads: a running master over HTTP, or the file of one that does not run.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Method;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::CliError;
use crate::accounts::COMMAND_TIMEOUT;
use crate::config::{DEFAULT_STORE, DEFAULT_URL, ReadArgs};
use crate::store::{Query, StoreError};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// An account is captured meanwhile: longer than the master waits for that.
pub(crate) const SYNC_TIMEOUT: Duration = COMMAND_TIMEOUT.saturating_add(Duration::from_secs(10));
/// The largest answer that is read.
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Where a command reads.
pub(crate) enum Source {
    /// A running master.
    Master(Master),
    /// A file that no master has open.
    File(Box<Query>),
}

/// A running master's address and the means to ask it.
pub(crate) struct Master {
    url: String,
    http: reqwest::Client,
}

#[derive(Deserialize)]
struct Problem {
    detail: String,
}

/// Finds where to read. With an address that is asked first; with a file alone, the file.
pub(crate) async fn open(args: &ReadArgs) -> Result<Source, CliError> {
    let url = args.url.clone().unwrap_or_else(|| DEFAULT_URL.to_owned());
    let master = Master::new(url.trim_end_matches('/').to_owned())?;
    let file = args.store.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_STORE));
    if args.url.is_none() && args.store.is_some() {
        return match at_rest(&file).await {
            Err(locked @ StoreError::Locked { .. }) => match master.answers().await {
                Ok(()) => Ok(Source::Master(master)),
                Err(CliError::Unreachable { url, .. }) => Err(CliError::Locked { store: locked, url }),
                Err(error) => Err(error),
            },
            opened => Ok(Source::File(Box::new(opened?))),
        };
    }
    let unreachable = match master.answers().await {
        Ok(()) => return Ok(Source::Master(master)),
        Err(error @ CliError::Unreachable { .. }) => error,
        Err(error) => return Err(error),
    };
    match at_rest(&file).await {
        Ok(query) => Ok(Source::File(Box::new(query))),
        Err(StoreError::Missing { .. }) if args.store.is_none() => Err(unreachable),
        Err(store @ StoreError::Locked { .. }) => Err(CliError::Locked { store, url: master.url }),
        Err(error) => Err(error.into()),
    }
}

async fn at_rest(path: &Path) -> Result<Query, StoreError> {
    let path = path.to_owned();
    let opened = tokio::task::spawn_blocking(move || Query::open_at_rest(&path)).await;
    opened.map_err(|error| StoreError::Database(error.to_string()))?
}

impl Master {
    fn new(url: String) -> Result<Self, CliError> {
        Self::waiting(url, ANSWER_TIMEOUT)
    }

    /// The same master, waited for until `timeout`.
    pub(crate) fn patient(self, timeout: Duration) -> Result<Self, CliError> {
        Self::waiting(self.url, timeout)
    }

    fn waiting(url: String, timeout: Duration) -> Result<Self, CliError> {
        let http = reqwest::Client::builder()
            // A proxy has no business between us and this machine's own master.
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(timeout)
            .build();
        match http {
            Ok(http) => Ok(Self { url, http }),
            Err(error) => Err(CliError::Unreachable { url, reason: cause(&error) }),
        }
    }

    /// The master at an address that was given.
    pub(crate) fn at(url: &str) -> Result<Self, CliError> {
        Self::new(url.trim_end_matches('/').to_owned())
    }

    async fn answers(&self) -> Result<(), CliError> {
        self.get::<Box<RawValue>>("/api/v1/changes?limit=1").await.map(|_| ())
    }

    /// Asks for `path` and reads the answer as a `T`.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        self.send(Method::GET, path).await
    }

    /// Sends a request without a body to `path` and reads the answer as a `T`.
    pub(crate) async fn send<T: DeserializeOwned>(&self, method: Method, path: &str) -> Result<T, CliError> {
        self.answered(self.http.request(method, format!("{}{path}", self.url))).await
    }

    /// Sends `body` to `path` and reads the answer as a `T`.
    pub(crate) async fn change<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, CliError> {
        self.answered(self.http.request(method, format!("{}{path}", self.url)).json(body)).await
    }

    async fn answered<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<T, CliError> {
        let asked = request.send().await;
        let mut answer = asked.map_err(|error| match error.is_builder() {
            true => self.not_a_master(format!("its address cannot be used: {}", cause(&error))),
            false => CliError::Unreachable { url: self.url.clone(), reason: cause(&error) },
        })?;
        let status = answer.status();
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| self.not_a_master(cause(&error)))? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(self.not_a_master(format!("its answer exceeds {ANSWER_BYTES_MAX} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| self.not_a_master(error.to_string()));
        }
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => Err(CliError::Refused { url: self.url.clone(), detail: problem.detail }),
            Err(_) => Err(self.not_a_master(format!("status {status}"))),
        }
    }

    fn not_a_master(&self, reason: String) -> CliError {
        CliError::NotAMaster { url: self.url.clone(), reason }
    }
}

/// The innermost reason: the outer ones only repeat the address.
fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
