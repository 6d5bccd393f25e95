//! `GET /healthz`: whether the master does its work, for whoever restarts or alarms.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::ApiState;

pub(crate) async fn healthz(State(state): State<ApiState>) -> (StatusCode, Json<Value>) {
    let mut reasons = Vec::new();
    if let Err(error) = state.store.read(|query| query.totals()).await {
        tracing::error!(%error, "the store cannot be read");
        reasons.push(format!("the store cannot be read: {error}"));
    }
    if let Some(failure) = state.store.failure() {
        reasons.push(format!("the store's writer stopped: {failure}"));
    }
    state.live.look(|moment| {
        if !moment.broker.connected {
            return reasons.push(format!("no connection to the broker {}", state.settings.broker_url));
        }
        let intake = moment.intake.problems.iter();
        reasons.extend(intake.map(|(reason, _)| format!("the stream is not well: {reason}")));
        reasons.extend(moment.accounts.read().problem().map(|(reason, _)| reason.clone()));
        reasons.extend(moment.endings.problems.iter().map(|(reason, _)| reason.clone()));
    });
    if reasons.is_empty() {
        (StatusCode::OK, Json(json!({ "status": "ok" })))
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "unwell", "reasons": reasons })))
    }
}
