//! Accounts as they are and fare, and an account's threads. Answered from memory and the store.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use snapfleet_protocol::AccountId;

use super::ApiState;
use super::condition::Holders;
use super::error::ApiError;
use super::live::Moment;
use super::params::{self, AccountsParams, InPath, LIMIT_MAX, PageParams, Params};
use super::view::{AccountDetailView, AccountView, LeaseView, PageView, ThreadView};
use crate::accounts::Known;
use crate::store::AccountRow;

pub(crate) async fn list(
    State(state): State<ApiState>,
    Params(asked): Params<AccountsParams>,
) -> Result<Json<PageView<AccountView>>, ApiError> {
    let limit = params::limit(asked.limit, LIMIT_MAX)?;
    let after = asked.after.as_deref().map(AccountId::parse).transpose();
    let after = after.map_err(|error| ApiError::BadRequest(format!("after: {error}")))?;
    let rows = state.store.read(|query| query.accounts()).await?;
    let mut items = views(&rows, &state.live.moment(), asked.removed);
    items.retain(|view| after.as_ref().is_none_or(|after| view.account > *after));
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(|view| view.account.to_string());
    Ok(Json(PageView { items, next }))
}

pub(crate) async fn threads(
    State(state): State<ApiState>,
    InPath(account): InPath<AccountId>,
    Params(asked): Params<PageParams>,
) -> Result<Json<PageView<ThreadView>>, ApiError> {
    let limit = params::limit(asked.limit, LIMIT_MAX)?;
    let after = params::cursor(asked.after.as_deref())?;
    let id = account.clone();
    let read =
        move |query: &crate::store::Query| Ok((query.account(&id)?, query.threads(&id, after, limit)?));
    let (row, page) = state.store.read(read).await?;
    check_known(&state, &account, row.as_ref())?;
    Ok(Json(PageView::of(page, ThreadView::from)))
}

/// An account that nobody knows is a mistake in the request, not an empty list.
pub(crate) fn check_known(
    state: &ApiState,
    account: &AccountId,
    row: Option<&AccountRow>,
) -> Result<(), ApiError> {
    let known = row.is_some()
        || state.live.look(|moment| {
            let mut held = moment.workers.heartbeats.iter().flat_map(|worker| &worker.accounts);
            moment.accounts.read().accounts().contains_key(account)
                || held.any(|health| health.account == *account)
        });
    if known { Ok(()) } else { Err(unknown(account)) }
}

pub(crate) fn unknown(account: &AccountId) -> ApiError {
    ApiError::NotFound(format!("account {account} is not known: see /api/v1/accounts"))
}

/// Every account that is configured, in the store, or held by a worker, by name; with `ended` also those that were
/// removed or erased.
pub(crate) fn views(rows: &[AccountRow], moment: &Moment, ended: bool) -> Vec<AccountView> {
    let known = moment.accounts.read();
    let holders = Holders::of(moment, &known);
    let mut all: BTreeMap<&AccountId, Option<&AccountRow>> =
        holders.accounts().map(|id| (id, None)).collect();
    all.extend(known.accounts().keys().map(|id| (id, None)));
    all.extend(rows.iter().map(|row| (&row.id, Some(row))));
    let shown = all.into_iter().filter(|(id, _)| {
        ended || known.accounts().get(id).is_none_or(|configured| configured.entry.config().is_some())
    });
    shown.map(|(id, row)| view(id, row, moment, &known, &holders)).collect()
}

fn view(
    id: &AccountId,
    row: Option<&AccountRow>,
    moment: &Moment,
    known: &Known,
    holders: &Holders<'_>,
) -> AccountView {
    let configured = known.accounts().contains_key(id);
    AccountView::of(id.clone(), configured, row, holders.fares(id, moment, known), holders.health(id))
}

/// One account in full; `None` where nobody knows it.
pub(crate) async fn detail(state: &ApiState, id: &AccountId) -> Result<Option<AccountDetailView>, ApiError> {
    let asked = id.clone();
    let row = state.store.read(move |query| query.account(&asked)).await?;
    Ok(state.live.look(|moment| detail_at(moment, id, row.as_ref())))
}

/// Looked up, not copied: of a large fleet the moment is large, and every change of an account is answered with this.
fn detail_at(moment: &Moment, id: &AccountId, row: Option<&AccountRow>) -> Option<AccountDetailView> {
    let known = moment.accounts.read();
    let holders = Holders::of_one(moment, &known, id);
    let configured = known.accounts().get(id);
    if row.is_none() && configured.is_none() && holders.health(id).is_none() {
        return None;
    }
    let lease = known.lease(id).map(|lease| LeaseView {
        instance: lease.instance.clone(),
        worker: lease.worker.clone(),
        at: lease.at,
        alive: holders.lives(&lease.instance),
    });
    let account = view(id, row, moment, &known, &holders);
    Some(AccountDetailView::of(account, configured, lease, holders.health(id)))
}

pub(crate) async fn show(
    State(state): State<ApiState>,
    InPath(id): InPath<AccountId>,
) -> Result<Response, ApiError> {
    let detail = detail(&state, &id).await?.ok_or_else(|| unknown(&id))?;
    Ok(tagged(StatusCode::OK, &detail))
}

/// An answer with its revision as entity tag, which a change gives back as If-Match.
pub(crate) fn tagged(status: StatusCode, detail: &AccountDetailView) -> Response {
    let mut response = (status, Json(detail)).into_response();
    let tag = detail.revision.and_then(|revision| HeaderValue::from_str(&format!("\"{revision}\"")).ok());
    if let Some(tag) = tag {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}
