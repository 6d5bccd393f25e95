//! Accounts, and an account's threads.

use std::collections::{BTreeMap, HashMap};

use axum::Json;
use axum::extract::State;
use snapfleet_protocol::{AccountHealth, AccountId, Heartbeat};

use super::ApiState;
use super::error::ApiError;
use super::live::Moment;
use super::params::{self, InPath, LIMIT_MAX, PageParams, Params};
use super::view::{AccountView, PageView, ThreadView};
use crate::store::AccountRow;

pub(crate) async fn list(
    State(state): State<ApiState>,
    Params(asked): Params<PageParams>,
) -> Result<Json<PageView<AccountView>>, ApiError> {
    let limit = params::limit(asked.limit, LIMIT_MAX)?;
    let after = asked.after.as_deref().map(AccountId::parse).transpose();
    let after = after.map_err(|error| ApiError::BadRequest(format!("after: {error}")))?;
    let rows = state.store.read(|query| query.accounts()).await?;
    let mut items = views(&rows, &state.live.moment());
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

/// An account that neither the store nor a worker knows is a mistake in the request, not an empty list.
pub(crate) fn check_known(
    state: &ApiState,
    account: &AccountId,
    row: Option<&AccountRow>,
) -> Result<(), ApiError> {
    if row.is_some() || held(&state.live.moment()).contains_key(account) {
        return Ok(());
    }
    Err(ApiError::NotFound(format!("account {account} is not known: see /api/v1/accounts")))
}

/// Every account of the store or of a worker, by name.
pub(crate) fn views(rows: &[AccountRow], moment: &Moment) -> Vec<AccountView> {
    let held = held(moment);
    let mut all: BTreeMap<&AccountId, Option<&AccountRow>> = held.keys().map(|id| (*id, None)).collect();
    all.extend(rows.iter().map(|row| (&row.id, Some(row))));
    all.into_iter().map(|(id, row)| AccountView::of(id.clone(), row, held.get(id).copied())).collect()
}

/// Who holds which account. Where two say so, the one with the higher term does.
fn held(moment: &Moment) -> HashMap<&AccountId, (&Heartbeat, &AccountHealth)> {
    let mut held: HashMap<&AccountId, (&Heartbeat, &AccountHealth)> = HashMap::new();
    for worker in &moment.workers.heartbeats {
        for health in &worker.accounts {
            let known = held.get(&health.account).map(|(_, known)| known.epoch);
            if known.is_none_or(|epoch| health.epoch > epoch) {
                held.insert(&health.account, (worker, health));
            }
        }
    }
    held
}
