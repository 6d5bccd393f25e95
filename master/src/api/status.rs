//! The state of the whole in one answer: what is stored, who is online, how far reading the stream has come, and
//! every problem with since when it is one and what helps. The page and the command line show the same facts.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use snapfleet_protocol::{AccountState, Heartbeat, UnixMs};

use super::accounts;
use super::error::ApiError;
use super::live::Moment;
use super::problems::{self, ProblemView};
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
    /// How many are online.
    pub online: u64,
    /// Their last heartbeats.
    pub list: Vec<Heartbeat>,
}

/// Accounts by how they fare. The last four add up to the first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureView {
    /// Accounts of the store and of online workers.
    pub accounts: u64,
    /// Delivering.
    pub capturing: u64,
    /// About to.
    pub starting: u64,
    /// Held, but not delivering.
    pub unwell: u64,
    /// Held by no online worker.
    pub unheld: u64,
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
    let accounts = accounts::views(&rows, &moment);
    let mut view = at_rest(&totals);
    view.started_at = Some(state.settings.started_at);
    view.problems = problems::all(&state, &moment, &accounts, &totals);
    view.capture = Some(capture(&accounts));
    view.sync.stream_last = moment.intake.stream_last;
    view.sync.lag = moment.intake.stream_last.map(|_| moment.intake.lag);
    view.broker = Some(broker(&state, &moment));
    let online = moment.workers.heartbeats.len() as u64;
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
        problems: problems::dead_letters(totals).into_iter().collect(),
    }
}

fn broker(state: &ApiState, moment: &Moment) -> BrokerView {
    let url = state.settings.broker_url.clone();
    BrokerView { url, connected: moment.broker.connected, since: moment.broker.since }
}

fn capture(accounts: &[AccountView]) -> CaptureView {
    let mut capture = CaptureView { accounts: accounts.len() as u64, ..CaptureView::default() };
    for account in accounts {
        let number = match account.state {
            Some(AccountState::Capturing) => &mut capture.capturing,
            Some(AccountState::Starting) => &mut capture.starting,
            Some(_) => &mut capture.unwell,
            None => &mut capture.unheld,
        };
        *number += 1;
    }
    capture
}
