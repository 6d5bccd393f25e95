//! What could not be applied, with an attempt to say what it was.

use std::fmt::Write;

use axum::Json;
use axum::extract::State;
use snapfleet_protocol::{RecordKind, Snapshot, decode_snapshot};

use super::ApiState;
use super::error::ApiError;
use super::params::{self, PageParams, Params};
use super::view::{DeadLetterView, PageView, SnapshotHeadView};
use crate::store::{DeadLetterRow, KindCounts, Query, StoreError};

/// Dead letters of a page at most: each may have to be unpacked.
pub(crate) const LIMIT_MAX: usize = 100;
/// How many of its bytes are shown.
const HEX_BYTES_MAX: usize = 128;

pub(crate) async fn list(
    State(state): State<ApiState>,
    Params(asked): Params<PageParams>,
) -> Result<Json<PageView<DeadLetterView>>, ApiError> {
    let limit = params::limit(asked.limit, LIMIT_MAX)?;
    let after = asked.after.as_deref().map(str::parse).transpose().map_err(|_| {
        let shown: String = asked.after.unwrap_or_default().chars().take(80).collect();
        ApiError::BadRequest(format!("after {shown:?} is not valid: use the number of a dead letter"))
    })?;
    Ok(Json(state.store.read(move |query| page(query, after.unwrap_or(0), limit)).await?))
}

/// One page, read and decoded one by one: each may be as large as the broker's largest message.
pub(crate) fn page(
    query: &Query,
    mut after: u64,
    limit: usize,
) -> Result<PageView<DeadLetterView>, StoreError> {
    let mut items = Vec::new();
    while let Some(row) = query.dead_letters(after, 1)?.pop() {
        if items.len() == limit {
            return Ok(PageView { items, next: Some(after.to_string()) });
        }
        after = row.n;
        items.push(dead_letter_view(&row));
    }
    Ok(PageView { items, next: None })
}

fn dead_letter_view(row: &DeadLetterRow) -> DeadLetterView {
    let (snapshot, decode_error) = match decode_snapshot(&row.bytes) {
        Ok(snapshot) => (Some(head(&snapshot)), None),
        Err(error) => (None, Some(error.to_string())),
    };
    DeadLetterView {
        n: row.n,
        at: row.at,
        subject: row.subject.clone(),
        stream_seq: row.stream.seq,
        headers: row.headers.clone(),
        error: row.error.clone(),
        bytes: row.bytes.len() as u64,
        hex: hex(&row.bytes, HEX_BYTES_MAX),
        snapshot,
        decode_error,
    }
}

fn head(snapshot: &Snapshot) -> SnapshotHeadView {
    let mut counts = KindCounts::default();
    counts.add(RecordKind::Content, snapshot.contents.len() as u64);
    counts.add(RecordKind::Comment, snapshot.comments.len() as u64);
    counts.add(RecordKind::Conversation, snapshot.conversations.len() as u64);
    counts.add(RecordKind::DirectMessage, snapshot.direct_messages.len() as u64);
    counts.add(RecordKind::Notification, snapshot.notifications.len() as u64);
    SnapshotHeadView {
        account: snapshot.account_id(),
        instance: snapshot.instance.clone(),
        epoch: snapshot.epoch,
        seq: snapshot.seq,
        snapshot_kind: format!("{:?}", snapshot.kind).to_lowercase(),
        captured_at: snapshot.captured_at,
        records: counts.into(),
    }
}

/// The first `most` bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8], most: usize) -> String {
    bytes.iter().take(most).fold(String::new(), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
