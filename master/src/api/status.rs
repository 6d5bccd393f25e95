//! The state of the whole in one answer: what is stored, who is online, how far reading the stream has come, and
//! every problem with since when it is one and what helps. The page and the command line show the same facts.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use snapfleet_protocol::{Heartbeat, ReaderName, UnixMs};

use super::accounts;
use super::condition::Condition;
use super::error::ApiError;
use super::live::{Intake, Moment};
use super::problems::{self, ProblemView};
use super::replicas::{self, ReplicasView};
use super::view::{AccountView, CountsView, cursor_text};
use super::{ApiState, now};
use crate::store::Totals;

/// The state of the whole.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatusView {
    /// The version of the master, or of the program that read the file at rest.
    pub version: String,
    /// When the master started; null where none runs and the file was read at rest.
    pub started_at: Option<UnixMs>,
    /// When this was written.
    pub now: UnixMs,
    /// The connection to the broker; null at rest.
    pub broker: Option<BrokerView>,
    /// The workers; null at rest.
    pub workers: Option<WorkersView>,
    /// Accounts by how they fare; null at rest.
    pub capture: Option<CaptureView>,
    /// What is stored.
    pub store: StoreView,
    /// What came out of the stream.
    pub sync: SyncView,
    /// The name of the replica that this is; null where it is the master that writes.
    #[serde(default)]
    pub replica: Option<ReaderName>,
    /// The replicas that follow the stream; null at rest.
    #[serde(default)]
    pub replicas: Option<ReplicasView>,
    /// What is wrong, the most important first; empty where nothing is.
    pub problems: Vec<ProblemView>,
}

/// The connection to the broker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BrokerView {
    /// Its address.
    pub url: String,
    /// Whether the connection stands.
    pub connected: bool,
    /// Since when it stands or is gone.
    pub since: Option<UnixMs>,
}

/// The workers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WorkersView {
    /// How many are online; null while that cannot be told: without a connection to the broker, and for some seconds
    /// after it began, until the first heartbeat comes.
    pub online: Option<u64>,
    /// Their last heartbeats.
    pub list: Vec<Heartbeat>,
}

/// Accounts by how they fare. The last six add up to the first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureView {
    /// Accounts that are configured, stored or held, without those that have ended.
    pub accounts: u64,
    /// Delivering.
    pub capturing: u64,
    /// About to.
    pub starting: u64,
    /// Held, but not delivering.
    pub unwell: u64,
    /// Held by no online worker, though they should be.
    pub unassigned: u64,
    /// Held by nobody until they are resumed.
    pub paused: u64,
    /// Not known to be held, while it cannot be told which workers are online.
    pub unknown: u64,
}

/// What is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoreView {
    /// Accounts of which a snapshot was applied.
    pub accounts: u64,
    /// Records by kind.
    #[serde(flatten)]
    pub records: CountsView,
    /// Deliveries that could not be applied and are kept.
    pub dead_letters: u64,
    /// Changes that there have ever been.
    pub changes: u64,
    /// When a record was last added or changed.
    pub last_update: Option<UnixMs>,
    /// The change log's life.
    pub feed: String,
    /// The newest change's cursor: lists read after this answer are complete with the changes that follow it.
    pub cursor: String,
}

/// What came out of the stream.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SyncView {
    /// Snapshots taken from the stream.
    pub received: u64,
    /// When the broker stored the newest of them.
    pub last_received: Option<UnixMs>,
    /// Snapshots applied.
    pub applied: u64,
    /// Records in them that were stored just so.
    pub unchanged: u64,
    /// Rejected: undecodable, over a limit, of another account.
    pub rejected: u64,
    /// Rejected because their worker's term was over.
    pub fenced: u64,
    /// The stream sequence that is applied.
    pub position: Option<u64>,
    /// Which life of the stream that is of: its creation time in nanoseconds since 1970, as text.
    pub incarnation: Option<String>,
    /// The stream's last sequence; null while it is not known.
    pub stream_last: Option<u64>,
    /// How many messages of the stream are not applied yet; null while it is not known.
    pub lag: Option<u64>,
}

pub(crate) async fn get_status(State(state): State<ApiState>) -> Result<Json<StatusView>, ApiError> {
    let read = state.store.read(|query| Ok((query.totals()?, query.accounts()?))).await;
    let (totals, rows) = read?;
    let moment = state.live.moment();
    let accounts = accounts::views(&rows, &moment, false);
    let mut view = at_rest(&totals);
    view.started_at = Some(state.settings.started_at);
    view.problems = problems::all(&state, &moment, &accounts, &totals);
    view.capture = Some(capture(&accounts));
    if let Some((last, lag)) = stream_end(view.sync.position, &moment.intake) {
        (view.sync.stream_last, view.sync.lag) = (Some(last), Some(lag));
    }
    view.broker = Some(broker(&state, &moment));
    view.replica.clone_from(&state.replica);
    view.replicas = Some(replicas::view(&moment, &totals));
    let online = moment.workers_online();
    view.workers = Some(WorkersView { online, list: moment.workers.heartbeats });
    Ok(Json(view))
}

/// What the store alone says.
#[must_use]
pub fn at_rest(totals: &Totals) -> StatusView {
    StatusView {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: None,
        now: now(),
        broker: None,
        workers: None,
        capture: None,
        store: StoreView {
            accounts: totals.accounts,
            records: totals.records.into(),
            dead_letters: totals.dead_letters,
            changes: totals.changes,
            last_update: totals.last_update,
            feed: totals.feed.to_string(),
            cursor: cursor_text(&totals.feed, totals.changes),
        },
        sync: SyncView {
            received: totals.received,
            last_received: totals.last_received,
            applied: totals.applied,
            unchanged: totals.unchanged,
            rejected: totals.rejected,
            fenced: totals.fenced,
            position: totals.position.map(|position| position.seq),
            incarnation: totals.position.map(|position| position.incarnation.to_string()),
            stream_last: None,
            lag: None,
        },
        replica: None,
        replicas: None,
        problems: problems::dead_letters(totals).into_iter().collect(),
    }
}

/// The stream's last sequence, and how far `position` is behind it. The stream is looked at each second, and the store
/// may have gone past that since.
pub(super) fn stream_end(position: Option<u64>, intake: &Intake) -> Option<(u64, u64)> {
    let (seen, position) = (intake.stream_last?, position.unwrap_or(0));
    // Where nothing of the stream was applied, a position beyond its end is of an earlier life of it.
    let other_life = seen > 0 && intake.lag == seen && position > seen;
    Some(if other_life { (seen, seen) } else { (seen.max(position), seen.saturating_sub(position)) })
}

fn broker(state: &ApiState, moment: &Moment) -> BrokerView {
    let url = state.settings.broker_url.clone();
    BrokerView { url, connected: moment.broker.connected, since: moment.broker.since }
}

fn capture(accounts: &[AccountView]) -> CaptureView {
    let mut capture = CaptureView { accounts: accounts.len() as u64, ..CaptureView::default() };
    for account in accounts {
        let number = match account.state {
            Some(Condition::Capturing) => &mut capture.capturing,
            Some(Condition::Starting) => &mut capture.starting,
            Some(Condition::Paused) => &mut capture.paused,
            Some(Condition::Unassigned) => &mut capture.unassigned,
            Some(_) => &mut capture.unwell,
            None => &mut capture.unknown,
        };
        *number += 1;
    }
    capture
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_ends_where_the_store_is_or_later_and_the_lag_fits() {
        let told = |position, stream_last, lag| {
            stream_end(position, &Intake { stream_last, lag, problems: Vec::new() })
        };
        assert_eq!(told(Some(7), None, 0), None);
        assert_eq!(told(Some(7), Some(10), 5), Some((10, 3)));
        assert_eq!(told(Some(12), Some(10), 5), Some((12, 0)));
        assert_eq!(told(Some(5), Some(0), 0), Some((5, 0)));
        assert_eq!(told(None, Some(10), 10), Some((10, 10)));
        // The stream was made anew: the store's position is not of it.
        assert_eq!(told(Some(500), Some(3), 3), Some((3, 3)));
    }
}
