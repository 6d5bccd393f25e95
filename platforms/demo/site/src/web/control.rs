//! What tests and people drive the site with: pushes by hand, pause, expiry, the owner's phone, and the truth. Asks
//! for no login.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use crate::events::EventKind;
use crate::site::Site;

#[derive(Deserialize)]
pub(super) struct Pushing {
    kind: EventKind,
}

pub(super) async fn push(
    site: State<Site>,
    Path(account): Path<String>,
    pushing: Query<Pushing>,
) -> Response {
    if site.truth(&account).is_none() {
        return unknown(&account);
    }
    match site.push(&account, pushing.kind) {
        Some(answer) => Json(answer).into_response(),
        None => {
            let error = format!("there is nothing that {:?} could happen to yet", pushing.kind);
            (StatusCode::CONFLICT, Json(json!({ "error": error }))).into_response()
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Expiring {
    /// One session of the account; all of them where it is left out.
    session: Option<String>,
}

pub(super) async fn expire(
    site: State<Site>,
    Path(account): Path<String>,
    expiring: Query<Expiring>,
) -> Response {
    let ended = match &expiring.session {
        Some(session) => site.expire_session(&account, session).map(usize::from),
        None => site.expire(&account),
    };
    match ended {
        Some(ended) => Json(json!({ "sessions_ended": ended })).into_response(),
        None => unknown(&account),
    }
}

pub(super) async fn logins(site: State<Site>, Path(account): Path<String>) -> Response {
    match site.logins(&account) {
        Some(logins) => Json(json!({ "logins": logins })).into_response(),
        None => unknown(&account),
    }
}

#[derive(Deserialize)]
pub(super) struct Scanning {
    /// The code's token; the one that was shown last where it is left out.
    token: Option<String>,
}

pub(super) async fn scan(
    site: State<Site>,
    Path(account): Path<String>,
    scanning: Query<Scanning>,
) -> Response {
    match site.scan(&account, scanning.token.as_deref()) {
        Some(Ok(token)) => Json(json!({ "token": token })).into_response(),
        Some(Err(error)) => (StatusCode::CONFLICT, Json(json!({ "error": error }))).into_response(),
        None => unknown(&account),
    }
}

pub(super) async fn sms(site: State<Site>, Path(account): Path<String>) -> Response {
    match site.send_sms(&account) {
        Some(code) => Json(json!({ "code": code })).into_response(),
        None => unknown(&account),
    }
}

pub(super) async fn login_page(site: State<Site>, Path(account): Path<String>) -> Response {
    match site.login_page(&account) {
        Some(told) => Json(told).into_response(),
        None => unknown(&account),
    }
}

pub(super) async fn pause(site: State<Site>) -> Response {
    site.pause();
    Json(json!({ "paused": true })).into_response()
}

pub(super) async fn resume(site: State<Site>) -> Response {
    site.resume();
    Json(json!({ "paused": false })).into_response()
}

pub(super) async fn truth(site: State<Site>, Path(account): Path<String>) -> Response {
    match site.truth(&account) {
        Some(truth) => Json(truth).into_response(),
        None => unknown(&account),
    }
}

pub(super) async fn truth_counts(site: State<Site>) -> Response {
    Json(site.truth_counts()).into_response()
}

fn unknown(account: &str) -> Response {
    let error = format!("there is no account {account:?}: see /truth for the list");
    (StatusCode::NOT_FOUND, Json(json!({ "error": error }))).into_response()
}
