//! What the ingest shows of itself.

use std::sync::{Mutex, PoisonError};

use snapfleet_protocol::UnixMs;

/// What an operator sees of the ingest, shared between it and whoever shows it.
#[derive(Debug, Default)]
pub struct IngestState {
    status: Mutex<IngestStatus>,
}

/// The ingest at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IngestStatus {
    /// Whether a consumer is open on the stream.
    pub reading: bool,
    /// The stream's last sequence, as of the last look (each second).
    pub stream_last: Option<u64>,
    /// Messages stored in the stream that are not yet applied, as of the last look.
    pub lag: u64,
    /// How often reading started anew: after reconnects, gaps and errors.
    pub restarts: u64,
    /// Why reading last stopped, and when; kept after it has started again.
    pub last_error: Option<(UnixMs, String)>,
    /// Why nothing is being read right now.
    pub problem: Option<String>,
    /// What is wrong with the stream, as of the last look.
    pub stream_problem: Option<String>,
}

impl IngestState {
    /// The status as of now.
    #[must_use]
    pub fn status(&self) -> IngestStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is wrong right now, in words; empty when all is well.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let status = self.status();
        status.problem.into_iter().chain(status.stream_problem).collect()
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut IngestStatus)) {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
