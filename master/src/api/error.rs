//! Every failure of the API in one place: its HTTP status, its words, and its JSON (RFC 9457).
//!
//! A client's mistake is answered and not logged; a failure of ours is logged here, once, and answered without
//! the file's details.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::store::StoreError;

/// What a request is answered with when it cannot be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiError {
    /// The request says something that cannot be; the text names it and what would be accepted.
    BadRequest(String),
    /// The thing asked for is not there; the text names it.
    NotFound(String),
    /// The method is not one of the path's.
    MethodNotAllowed,
    /// The cursor is of another change log, or what follows it was trimmed.
    CursorGone {
        /// What is wrong with it.
        detail: String,
        /// How to go on.
        resync: String,
    },
    /// The request was meant for another host's name: the sign of a page that points its own name at us.
    WrongHost(String),
    /// All places for live clients are taken.
    TooManyClients(usize),
    /// The master is stopping.
    Stopping,
    /// The store failed; the log says how.
    Store,
}

#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'a str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    resync: Option<&'a str>,
}

impl ApiError {
    /// The HTTP status it is answered with.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.parts().0
    }

    fn parts(&self) -> (StatusCode, &'static str, &'static str) {
        match self {
            ApiError::BadRequest(_) => (StatusCode::BAD_REQUEST, "bad-request", "the request is not valid"),
            ApiError::NotFound(_) => (StatusCode::NOT_FOUND, "not-found", "there is no such thing"),
            ApiError::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "the method is not allowed here")
            }
            ApiError::CursorGone { .. } => (StatusCode::GONE, "cursor-gone", "the cursor cannot be resumed"),
            ApiError::WrongHost(_) => {
                (StatusCode::MISDIRECTED_REQUEST, "wrong-host", "the request is for another host")
            }
            ApiError::TooManyClients(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "too-many-clients", "all places for live clients are taken")
            }
            ApiError::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping", "the master is stopping"),
            ApiError::Store => (StatusCode::INTERNAL_SERVER_ERROR, "store", "the store failed"),
        }
    }

    fn detail(&self) -> String {
        match self {
            ApiError::BadRequest(detail) | ApiError::NotFound(detail) => detail.clone(),
            ApiError::CursorGone { detail, .. } => detail.clone(),
            ApiError::MethodNotAllowed => "use GET".to_owned(),
            ApiError::WrongHost(host) => {
                format!("host {host:?} is not this machine's own name: use 127.0.0.1 or localhost")
            }
            ApiError::TooManyClients(most) => {
                format!("{most} clients listen already: close some, or read /api/v1/changes instead")
            }
            ApiError::Stopping => "the master is stopping: try again once it runs".to_owned(),
            ApiError::Store => "the store cannot be read: see the master's log".to_owned(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, name, title) = self.parts();
        let resync =
            if let ApiError::CursorGone { resync, .. } = &self { Some(resync.as_str()) } else { None };
        let kind = format!("urn:snapfleet:problem:{name}");
        let detail = self.detail();
        let problem = Problem { r#type: &kind, title, status: status.as_u16(), detail: &detail, resync };
        let mut response = (status, Json(problem)).into_response();
        let content_type = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::BadCursor(_) => ApiError::BadRequest(error.to_string()),
            StoreError::Closed => ApiError::Stopping,
            error => {
                tracing::error!(%error, "a request could not be served");
                ApiError::Store
            }
        }
    }
}
