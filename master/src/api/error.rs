//! Every failure of the API in one place: its HTTP status, its words, and its JSON (RFC 9457).
//!
//! A client's mistake is answered and not logged; a failure of ours is logged here, once, and answered without
//! the file's details.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::accounts::AccountError;
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
    /// The thing is there already, or not in a state for what is asked; the text names both.
    Conflict(String),
    /// The change names another write than the last as the one that it replaces.
    Stale {
        /// What is so.
        detail: String,
        /// The last write.
        revision: u64,
    },
    /// The change does not say which write it replaces.
    NoRevision,
    /// The body is not said to be JSON.
    NotJson,
    /// The body is larger than is taken.
    TooLarge,
    /// A page of another site had a browser send a change.
    OtherSite(String),
    /// Something that is needed for it is not there at present; the text says what and how to go on.
    Unavailable(String),
    /// Who was asked has not answered in time.
    NoAnswer(String),
    /// The request was meant for another host's name: the sign of a page that points its own name at us.
    WrongHost(String),
    /// This is a replica, of this name, and the request would change something.
    ReadOnly(String),
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
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
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
            ApiError::Conflict(_) => (StatusCode::CONFLICT, "conflict", "it cannot be done as things are"),
            ApiError::Stale { .. } => {
                (StatusCode::PRECONDITION_FAILED, "stale", "it was changed by somebody else meanwhile")
            }
            ApiError::NoRevision => {
                (StatusCode::PRECONDITION_REQUIRED, "no-revision", "the change does not say what it replaces")
            }
            ApiError::NotJson => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-json", "the body must be JSON"),
            ApiError::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "the body is too large"),
            ApiError::OtherSite(_) => (StatusCode::FORBIDDEN, "other-site", "the request is of another site"),
            ApiError::Unavailable(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "it cannot be done at present")
            }
            ApiError::NoAnswer(_) => {
                (StatusCode::GATEWAY_TIMEOUT, "no-answer", "there was no answer in time")
            }
            ApiError::WrongHost(_) => {
                (StatusCode::MISDIRECTED_REQUEST, "wrong-host", "the request is for another host")
            }
            ApiError::ReadOnly(_) => (StatusCode::FORBIDDEN, "read-only", "a replica only reads"),
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
            ApiError::Conflict(detail) | ApiError::Unavailable(detail) => detail.clone(),
            ApiError::NoAnswer(detail) | ApiError::Stale { detail, .. } => detail.clone(),
            ApiError::NoRevision => {
                "say which revision is replaced: If-Match, or revision in the body".to_owned()
            }
            ApiError::NotJson => "send JSON, and say so: content-type: application/json".to_owned(),
            ApiError::TooLarge => format!(
                "the body is over {} bytes, or over {} where an account's settings are given",
                super::BODY_BYTES_MAX,
                super::ACCOUNT_BYTES_MAX
            ),
            ApiError::OtherSite(site) => {
                format!("changes from pages of other sites are refused, and this one says {site:?}")
            }
            ApiError::MethodNotAllowed => "nothing here takes this method".to_owned(),
            ApiError::WrongHost(host) => {
                format!("host {host:?} is not this machine's own name: use 127.0.0.1 or localhost")
            }
            ApiError::ReadOnly(name) => {
                format!("this is the replica {name}, which changes nothing: ask the master that writes")
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
        let revision = if let ApiError::Stale { revision, .. } = &self { Some(*revision) } else { None };
        let problem =
            Problem { r#type: &kind, title, status: status.as_u16(), detail: &detail, resync, revision };
        let mut response = (status, Json(problem)).into_response();
        let content_type = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
        response
    }
}

impl From<AccountError> for ApiError {
    fn from(error: AccountError) -> Self {
        let detail = error.to_string();
        match error {
            AccountError::Exists { .. } | AccountError::Ended { .. } => ApiError::Conflict(detail),
            AccountError::Unknown(_) => ApiError::NotFound(detail),
            AccountError::Stale { revision, .. } => ApiError::Stale { detail, revision },
            AccountError::Settings(_) => ApiError::BadRequest(detail),
            AccountError::NotReached(_) => ApiError::Unavailable(detail),
            AccountError::Unreadable { .. } | AccountError::Broker(_) | AccountError::StreamEnd(_) => {
                tracing::warn!(error = detail, "an account could not be changed");
                ApiError::Unavailable(detail)
            }
        }
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
