//! The change log, page by page: what was added or changed, in the order of commits, each once.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::value::RawValue;

use super::ApiState;
use super::error::ApiError;
use super::params::{self, ChangeParams, LIMIT_MAX, Params};
use super::view::{ChangeView, cursor_text};
use crate::store::{ChangeBounds, FeedId, Query, StoreError};

/// Rows read at a time, so that large ones do not gather in memory.
const READ_ROWS: usize = 50;
/// A page ends early once its rows hold this many bytes of JSON.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// One page of changes, each already JSON.
#[derive(Debug, Serialize)]
pub(crate) struct ChangesView {
    items: Vec<Box<RawValue>>,
    /// What `after` takes to go on; never null, since changes may follow at any time.
    next: String,
}

/// A place in the change log, as a client names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChangeCursor {
    feed: String,
    n: u64,
}

impl ChangeCursor {
    pub(crate) fn parse(text: &str) -> Result<Self, ApiError> {
        let parsed = text.rsplit_once('-').and_then(|(feed, n)| {
            let n = if n.bytes().all(|byte| byte.is_ascii_digit()) { n.parse().ok()? } else { return None };
            (!feed.is_empty()).then(|| Self { feed: feed.to_owned(), n })
        });
        let shown: String = text.chars().take(80).collect();
        parsed.ok_or_else(|| {
            ApiError::BadRequest(format!("cursor {shown:?} is not valid: use one that this API gave out"))
        })
    }

    /// The number to read on from, if the log can be read on there without a gap.
    fn resume(&self, bounds: &ChangeBounds) -> Result<u64, ApiError> {
        let gone = |what: &str| ApiError::CursorGone {
            detail: format!("cursor {}-{}: {what}", self.feed.chars().take(80).collect::<String>(), self.n),
            resync: format!(
                "read the lists again, then go on with after={}",
                cursor_text(&bounds.feed, bounds.newest)
            ),
        };
        if self.feed != bounds.feed.0 || self.n > bounds.newest {
            return Err(gone("it belongs to another change log"));
        }
        if self.n + 1 < bounds.oldest {
            return Err(gone("changes that follow it were trimmed"));
        }
        Ok(self.n)
    }
}

/// Where to start reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Start {
    /// At the oldest change that is kept.
    Oldest,
    /// At the last so many; where fewer are kept, at the oldest.
    Last(u64),
    /// Behind the newest.
    Now,
    /// Behind a cursor.
    After(ChangeCursor),
}

/// Changes read in one go: number and JSON of each, and the number they reach.
pub(crate) struct Changes {
    pub(crate) feed: FeedId,
    pub(crate) rows: Vec<(u64, String)>,
    pub(crate) reached: u64,
}

/// Reads up to `limit` changes, fewer where they are large. The inner error is the client's.
pub(crate) fn read(
    query: &Query,
    start: &Start,
    limit: usize,
) -> Result<Result<Changes, ApiError>, StoreError> {
    let bounds = query.change_bounds()?;
    let from = match start {
        Start::Oldest => Ok(bounds.oldest.saturating_sub(1)),
        Start::Last(number) => Ok(bounds.newest.saturating_sub(*number).max(bounds.oldest.saturating_sub(1))),
        Start::Now => Ok(bounds.newest),
        Start::After(cursor) => cursor.resume(&bounds),
    };
    let mut reached = match from {
        Ok(n) => n,
        Err(error) => return Ok(Err(error)),
    };
    let (mut rows, mut bytes) = (Vec::new(), 0);
    while rows.len() < limit && bytes < PAGE_BYTES {
        let asked = READ_ROWS.min(limit - rows.len());
        let read = query.changes(reached, asked)?;
        let last = read.len() < asked;
        for row in read {
            reached = row.n;
            let view = ChangeView::of(&bounds.feed, row);
            let json = serde_json::to_string(&view).map_err(|error| no_json(reached, &error))?;
            bytes += json.len();
            rows.push((reached, json));
        }
        if last {
            break;
        }
    }
    Ok(Ok(Changes { feed: bounds.feed, rows, reached }))
}

/// A page of changes and where it ends.
pub(crate) type ChangePage = (Vec<Box<RawValue>>, String);

/// Reads a page behind the cursor `after`, or of the `last` so many, or from the oldest change kept. The inner error
/// is the client's.
pub(crate) fn page(
    query: &Query,
    after: Option<&str>,
    last: Option<u64>,
    limit: usize,
) -> Result<Result<ChangePage, ApiError>, StoreError> {
    let start = match (after, last) {
        (Some(_), Some(_)) => {
            return Ok(Err(ApiError::BadRequest("after and last exclude each other: give one".to_owned())));
        }
        (Some(after), None) => match ChangeCursor::parse(after) {
            Ok(cursor) => Start::After(cursor),
            Err(error) => return Ok(Err(error)),
        },
        (None, last) => last.map_or(Start::Oldest, Start::Last),
    };
    let changes = match read(query, &start, limit)? {
        Ok(changes) => changes,
        Err(error) => return Ok(Err(error)),
    };
    let next = cursor_text(&changes.feed, changes.reached);
    let items = changes.rows.into_iter().map(|(_, json)| RawValue::from_string(json));
    let items = items.collect::<Result<_, _>>().map_err(|error| no_json(changes.reached, &error))?;
    Ok(Ok((items, next)))
}

fn no_json(n: u64, error: &serde_json::Error) -> StoreError {
    StoreError::Damaged { table: "changes", reason: format!("change {n} has no JSON: {error}") }
}

pub(crate) async fn list(
    State(state): State<ApiState>,
    Params(asked): Params<ChangeParams>,
) -> Result<Json<ChangesView>, ApiError> {
    let limit = params::limit(asked.limit, LIMIT_MAX)?;
    let read = state.store.read(move |query| page(query, asked.after.as_deref(), asked.last, limit)).await;
    let (items, next) = read??;
    Ok(Json(ChangesView { items, next }))
}
