//! The replicas that follow the stream, as `status` shows them; and what makes the API of a replica itself one that
//! only reads.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use snapfleet_protocol::{ReaderName, UnixMs};

use super::ApiState;
use super::error::ApiError;
use super::live::Moment;
use super::params::InPath;
use super::problems::{ProblemCode, ProblemView};
use super::status::stream_end;
use crate::replica::{RemoveError, Replica};
use crate::store::Totals;

/// The replicas.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ReplicasView {
    /// Each, by name.
    pub list: Vec<ReplicaView>,
    /// The one that is furthest behind, which holds back what may be removed from the stream; null where none is
    /// behind, or that is not known.
    pub furthest_behind: Option<ReaderName>,
}

/// A replica.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReplicaView {
    /// Its name.
    pub name: ReaderName,
    /// Where it runs.
    pub host: String,
    /// The stream sequence that it has applied.
    pub position: Option<u64>,
    /// How many messages of the stream it has not; null while the stream's end is not known.
    pub behind: Option<u64>,
    /// When it last said so.
    pub last_seen: UnixMs,
    /// It has said nothing for half a minute: it does not run, or is cut off.
    pub silent: bool,
}

/// The replicas, and how far each is behind the stream.
pub(super) fn view(moment: &Moment, totals: &Totals) -> ReplicasView {
    let position = totals.position.map(|position| position.seq);
    let end = stream_end(position, &moment.intake).map(|(last, _)| last);
    let incarnation = totals.position.map(|position| position.incarnation);
    let one = |replica: &Replica| {
        let point = replica.said.position;
        // Of another life of the stream it has nothing; while we have nothing ourselves its word is taken.
        let applied = point.filter(|point| incarnation.is_none_or(|it| it == point.incarnation));
        let applied = applied.map_or(0, |point| point.seq);
        ReplicaView {
            name: replica.name.clone(),
            host: replica.said.host.clone(),
            position: point.map(|point| point.seq),
            behind: end.map(|end| end.saturating_sub(applied)),
            last_seen: replica.last_seen,
            silent: replica.silent,
        }
    };
    let list: Vec<ReplicaView> = moment.replicas.list.iter().map(one).collect();
    let behind = list.iter().filter(|replica| replica.behind > Some(0));
    let furthest_behind = behind.max_by_key(|replica| replica.behind).map(|replica| replica.name.clone());
    ReplicasView { list, furthest_behind }
}

/// What is wrong with replicas, in words.
pub(super) fn problems(moment: &Moment, totals: &Totals) -> Vec<ProblemView> {
    let own = moment.replicas.write_problem.iter().map(|problem| {
        let text = format!("this replica cannot say how far it has come: {problem}");
        let remedy = "until it can, what it still needs may be removed from the stream; see its log";
        (text, remedy.to_owned(), problem.clone())
    });
    let unread = moment.replicas.read_problem.iter().map(|problem| {
        let remedy = "see the master's log; it tries again by itself".to_owned();
        (problem.clone(), remedy, problem.clone())
    });
    let faults = own.chain(unread).map(|(text, remedy, detail)| {
        ProblemView::new(ProblemCode::ReplicaFault, None, text, &remedy).with_detail(&detail)
    });
    let replicas = view(moment, totals).list.into_iter().filter(|replica| replica.silent);
    let silent = replicas.map(|replica| {
        let (name, host) = (&replica.name, &replica.host);
        let behind = replica.behind.map_or_else(|| "an unknown number of".to_owned(), |n| n.to_string());
        let text = format!("replica {name} on {host} says nothing, and is {behind} messages behind");
        let remedy =
            format!("start it again; if it is not coming back: snapfleet-master replica remove {name}");
        let problem = ProblemView::new(ProblemCode::ReplicaSilent, Some(replica.last_seen), text, &remedy);
        problem.with_detail(&format!("{name} {host} {behind}"))
    });
    faults.chain(silent).collect()
}

/// `GET /replicas`
pub(crate) async fn list(State(state): State<ApiState>) -> Result<Json<ReplicasView>, ApiError> {
    let totals = state.store.read(|query| query.totals()).await?;
    Ok(Json(view(&state.live.moment(), &totals)))
}

/// `DELETE /replicas/{name}`: drops one that is not coming back.
pub(crate) async fn remove(
    State(state): State<ApiState>,
    InPath(name): InPath<ReaderName>,
) -> Result<Json<serde_json::Value>, ApiError> {
    let removed = state.registry.remove(&name).await;
    removed.map_err(|error| match error {
        RemoveError::Unknown(_) => ApiError::NotFound(error.to_string()),
        RemoveError::Runs(_) => ApiError::Conflict(error.to_string()),
        RemoveError::NotConnected | RemoveError::Broker { .. } => ApiError::Unavailable(error.to_string()),
    })?;
    Ok(Json(serde_json::json!({ "removed": name })))
}

/// Lets only reading requests through where this is a replica.
pub(crate) async fn read_only(State(state): State<ApiState>, request: Request, next: Next) -> Response {
    match &state.replica {
        Some(name) if ![Method::GET, Method::HEAD].contains(request.method()) => {
            ApiError::ReadOnly(name.to_string()).into_response()
        }
        _ => next.run(request).await,
    }
}
