//! Live changes as server-sent events: the change log read on from a cursor, at each client's own pace.
//!
//! A client costs one place and at most one page of changes: nothing is queued for it. One that is slow reads
//! later, one that was away resumes with `Last-Event-ID`; either way each change comes once.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::changes::{self, ChangeCursor, Changes, Start};
use super::error::ApiError;
use super::params::Params;
use super::view::cursor_text;
use super::{ApiState, EVENT_CLIENTS_MAX};
use crate::store::{DataStore, FeedId};

/// Changes read for one client at a time.
const PAGE_ROWS: usize = 100;
/// The least time between two reads for a client that has everything: commits in between come together.
const READ_PAUSE: Duration = Duration::from_millis(25);
/// A comment this often tells both sides that the connection lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// What the client waits before it comes back.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventParams {
    after: Option<String>,
}

/// One client's place in the change log.
struct Reader {
    store: DataStore,
    commits: watch::Receiver<u64>,
    shutdown: CancellationToken,
    feed: FeedId,
    reached: u64,
    ready: VecDeque<Event>,
    read_at: Instant,
    told_live: bool,
    ended: bool,
    _place: OwnedSemaphorePermit,
}

pub(crate) async fn stream(
    State(state): State<ApiState>,
    Params(asked): Params<EventParams>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, ApiError> {
    let start = start(&headers, asked.after.as_deref())?;
    let place = state.event_clients.clone().try_acquire_owned();
    let place = place.map_err(|_| ApiError::TooManyClients(EVENT_CLIENTS_MAX))?;
    let mut commits = state.store.commits();
    commits.borrow_and_update();
    let first = state.store.read(move |query| changes::read(query, &start, PAGE_ROWS)).await??;
    let mut reader = Reader {
        store: state.store.clone(),
        commits,
        shutdown: state.shutdown.clone(),
        feed: first.feed.clone(),
        reached: first.reached,
        ready: VecDeque::new(),
        read_at: Instant::now(),
        told_live: false,
        ended: false,
        _place: place,
    };
    reader.take(first);
    let events = futures_util::stream::unfold(reader, Reader::next);
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    Ok(([("x-accel-buffering", "no")], Sse::new(events).keep_alive(keep_alive)))
}

/// A browser that reconnects says by itself where it was; that is newer than the address it was given.
fn start(headers: &HeaderMap, after: Option<&str>) -> Result<Start, ApiError> {
    let last = headers.get("last-event-id").map(|id| id.to_str().unwrap_or("(not text)"));
    match last.filter(|id| !id.is_empty()).or(after) {
        Some(cursor) => Ok(Start::After(ChangeCursor::parse(cursor)?)),
        None => Ok(Start::Now),
    }
}

impl Reader {
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some((Ok(event), self));
            }
            if self.ended || self.shutdown.is_cancelled() {
                return None;
            }
            if self.told_live && !self.wait().await {
                return None;
            }
            self.read().await;
        }
    }

    /// Waits for a commit; false when there will be none.
    async fn wait(&mut self) -> bool {
        let more = tokio::select! {
            changed = self.commits.changed() => changed.is_ok(),
            () = self.shutdown.cancelled() => false,
        };
        if more {
            tokio::time::sleep_until(self.read_at + READ_PAUSE).await;
            self.commits.borrow_and_update();
        }
        more
    }

    async fn read(&mut self) {
        let cursor = cursor_text(&self.feed, self.reached);
        let start = ChangeCursor::parse(&cursor).map(Start::After);
        let read = match start {
            Ok(start) => self.store.read(move |query| changes::read(query, &start, PAGE_ROWS)).await,
            Err(error) => Ok(Err(error)),
        };
        self.read_at = Instant::now();
        match read {
            Ok(Ok(changes)) => self.take(changes),
            // Trimmed while this client was slow: it must read the lists again.
            Ok(Err(_)) => self.end("resync"),
            Err(error) => {
                tracing::error!(%error, "live changes cannot be read; the client is sent away");
                self.end("failed");
            }
        }
    }

    fn take(&mut self, changes: Changes) {
        let all = changes.rows.is_empty();
        for (n, json) in changes.rows {
            self.ready.push_back(Event::default().id(cursor_text(&self.feed, n)).event("change").data(json));
        }
        self.reached = changes.reached;
        if all && !self.told_live {
            self.told_live = true;
            let cursor = cursor_text(&self.feed, self.reached);
            self.ready.push_back(Event::default().id(cursor).event("live").retry(RETRY).data("{}"));
        }
    }

    fn end(&mut self, event: &str) {
        self.ready.push_back(Event::default().event(event).data("{}"));
        self.ended = true;
    }
}
