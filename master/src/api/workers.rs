//! The workers: those that this master starts on its own host, with what became of each, and every one that is
//! online. One that the master starts can be started, stopped and restarted by hand.

use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use snapfleet_protocol::{Heartbeat, InstanceId};

use super::ApiState;
use super::error::ApiError;
use super::live::Moment;
use super::problems::{ProblemCode, ProblemView};
use crate::supervise::{Action, LastExit, OrderError, Supervised, SupervisedState};

/// All workers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WorkersList {
    /// Those that this master starts, by name.
    pub supervised: Vec<SupervisedView>,
    /// How many are online, here and elsewhere; null while that cannot be told.
    pub online: Option<u64>,
    /// Their last heartbeats.
    pub list: Vec<Heartbeat>,
}

/// A worker that this master starts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SupervisedView {
    /// The worker.
    #[serde(flatten)]
    pub worker: Supervised,
    /// The instance that its process says it is; null until its first heartbeat.
    pub instance: Option<InstanceId>,
}

impl SupervisedView {
    fn of(worker: Supervised, moment: &Moment) -> Self {
        let host = crate::host_name();
        let mut heartbeats = moment.workers.heartbeats.iter();
        let own = heartbeats.find(|beat| Some(beat.pid) == worker.pid && beat.host == host);
        Self { instance: own.map(|beat| beat.instance.clone()), worker }
    }
}

/// `GET /workers`
pub(crate) async fn list(State(state): State<ApiState>) -> Json<WorkersList> {
    let moment = state.live.moment();
    let online = moment.workers_online();
    let supervised = moment.supervised.values().cloned();
    let supervised = supervised.map(|worker| SupervisedView::of(worker, &moment)).collect();
    Json(WorkersList { supervised, online, list: moment.workers.heartbeats })
}

/// `POST /workers/{name}/{action}`: answers once it is taken up, with the worker as it is then.
pub(crate) async fn act(
    State(state): State<ApiState>,
    Path((name, action)): Path<(String, String)>,
) -> Result<Json<SupervisedView>, ApiError> {
    let action = match action.as_str() {
        "start" => Action::Start,
        "stop" => Action::Stop,
        "restart" => Action::Restart,
        _ => return Err(ApiError::NotFound("a worker is told to start, stop or restart".to_owned())),
    };
    let ordered = match &state.supervisor {
        Some(supervisor) => supervisor.order(&name, action).await,
        None => Err(OrderError::Unknown { name: name.chars().take(80).collect(), known: Vec::new() }),
    };
    ordered.map_err(|error| match error {
        OrderError::Unknown { .. } => ApiError::NotFound(error.to_string()),
        OrderError::Busy(_) => ApiError::Conflict(error.to_string()),
    })?;
    let moment = state.live.moment();
    let worker = moment.supervised.get(&name).cloned();
    let worker = worker.ok_or_else(|| ApiError::NotFound(format!("no worker {name:?}")))?;
    Ok(Json(SupervisedView::of(worker, &moment)))
}

/// A worker that was given up, in words.
pub(super) fn problem(worker: &Supervised) -> Option<ProblemView> {
    if worker.state != SupervisedState::GivenUp {
        return None;
    }
    let (name, deaths) = (&worker.name, worker.failed_starts);
    let last = worker.last_exit.as_ref();
    let how = last.map(LastExit::in_words).unwrap_or_default();
    Some(ProblemView {
        worker: Some(name.clone()),
        detail: Some(how.clone()),
        ..ProblemView::new(
            ProblemCode::WorkerGivenUp,
            Some(worker.since),
            format!("worker {name} died at start {deaths} times in a row and is given up: {how}"),
            &format!(
                "see {}, mend the cause, and start it with: snapfleet-master workers start {name}",
                worker.log.display()
            ),
        )
    })
}
