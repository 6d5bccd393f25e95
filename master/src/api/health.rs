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
    let moment = state.live.moment();
    if !moment.broker.connected {
        reasons.push(format!("no connection to the broker {}", state.settings.broker_url));
    }
    if reasons.is_empty() {
        (StatusCode::OK, Json(json!({ "status": "ok" })))
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "unwell", "reasons": reasons })))
    }
}
