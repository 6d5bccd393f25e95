//! What a request may say: path and query read into types, paging bounded, mistakes named. Nothing is ignored:
//! an unknown parameter is a mistake too.

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use snapfleet_protocol::{AccountId, RecordId};

use super::error::ApiError;
use crate::store::PageCursor;

/// Rows of a page where the request does not say, and at most.
pub(crate) const LIMIT_DEFAULT: usize = 50;
pub(crate) const LIMIT_MAX: usize = 500;

/// The query string as a `T`.
pub(crate) struct Params<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let read = Query::<T>::from_request_parts(parts, state).await;
        read.map(|Query(params)| Self(params)).map_err(|error| {
            let text = error.body_text();
            let reason = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
            ApiError::BadRequest(format!("query: {}", reason.trim_end()))
        })
    }
}

/// The path's one variable as a `T`.
pub(crate) struct InPath<T>(pub(crate) T);

impl<T: TryFrom<String, Error: std::fmt::Display> + Send, S: Send + Sync> FromRequestParts<S> for InPath<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|error| ApiError::BadRequest(format!("path: {}", error.body_text())))?;
        T::try_from(text).map(Self).map_err(|error| ApiError::BadRequest(error.to_string()))
    }
}

/// Which end of a list comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Order {
    #[default]
    Newest,
    Oldest,
}

/// A page of a list that has an order.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OrderedParams {
    pub(crate) limit: Option<usize>,
    pub(crate) after: Option<String>,
    #[serde(default)]
    pub(crate) order: Order,
}

/// A page of a list in the one order that it has.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PageParams {
    pub(crate) limit: Option<usize>,
    pub(crate) after: Option<String>,
}

/// A page of the accounts.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AccountsParams {
    pub(crate) limit: Option<usize>,
    pub(crate) after: Option<String>,
    /// Also those that were removed or erased.
    #[serde(default)]
    pub(crate) removed: bool,
}

/// A page of the change log.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeParams {
    pub(crate) limit: Option<usize>,
    pub(crate) after: Option<String>,
    /// Starts at the last so many changes, in place of `after`.
    pub(crate) last: Option<u64>,
}

/// One record of an account.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OneParams {
    pub(crate) account: AccountId,
}

/// A page of one account's records.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AccountParams {
    pub(crate) account: AccountId,
    pub(crate) limit: Option<usize>,
    pub(crate) after: Option<String>,
    #[serde(default)]
    pub(crate) order: Order,
}

/// A page of one account's comments, of all its works or of one.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CommentParams {
    pub(crate) account: AccountId,
    pub(crate) content: Option<RecordId>,
    pub(crate) limit: Option<usize>,
    pub(crate) after: Option<String>,
    #[serde(default)]
    pub(crate) order: Order,
}

/// How many rows the request asks for.
pub(crate) fn limit(asked: Option<usize>, most: usize) -> Result<usize, ApiError> {
    match asked {
        None => Ok(LIMIT_DEFAULT.min(most)),
        Some(rows) if (1..=most).contains(&rows) => Ok(rows),
        Some(rows) => Err(ApiError::BadRequest(format!("limit {rows} is not valid: use 1 to {most}"))),
    }
}

/// Where the page starts.
pub(crate) fn cursor(after: Option<&str>) -> Result<Option<PageCursor>, ApiError> {
    after.map(|text| text.parse::<PageCursor>().map_err(ApiError::from)).transpose()
}
