//! Lists of records: conversations, messages, works, comments, notices.

use axum::Json;
use axum::extract::State;
use snapfleet_protocol::{AccountId, RecordId, RecordKind};

use super::ApiState;
use super::accounts::check_known;
use super::error::ApiError;
use super::params::{
    self, AccountParams, CommentParams, InPath, LIMIT_MAX, OneParams, Order, OrderedParams, Params,
};
use super::view::{PageView, RecordView};
use crate::store::RecordQuery;

type Answer = Result<Json<PageView<RecordView>>, ApiError>;

pub(crate) async fn conversations(
    State(state): State<ApiState>,
    InPath(account): InPath<AccountId>,
    Params(asked): Params<OrderedParams>,
) -> Answer {
    let query = query(account, RecordKind::Conversation, asked.order, asked.after.as_deref(), asked.limit)?;
    list(&state, query).await
}

pub(crate) async fn messages(
    State(state): State<ApiState>,
    InPath(conversation): InPath<RecordId>,
    Params(asked): Params<AccountParams>,
) -> Answer {
    let mut query = account_query(RecordKind::DirectMessage, asked)?;
    query.thread = Some(conversation);
    list(&state, query).await
}

pub(crate) async fn contents(State(state): State<ApiState>, Params(asked): Params<AccountParams>) -> Answer {
    list(&state, account_query(RecordKind::Content, asked)?).await
}

pub(crate) async fn comments(State(state): State<ApiState>, Params(asked): Params<CommentParams>) -> Answer {
    let mut query =
        query(asked.account, RecordKind::Comment, asked.order, asked.after.as_deref(), asked.limit)?;
    query.thread = asked.content;
    list(&state, query).await
}

pub(crate) async fn notifications(
    State(state): State<ApiState>,
    Params(asked): Params<AccountParams>,
) -> Answer {
    list(&state, account_query(RecordKind::Notification, asked)?).await
}

pub(crate) async fn content(
    State(state): State<ApiState>,
    InPath(id): InPath<RecordId>,
    Params(asked): Params<OneParams>,
) -> Result<Json<RecordView>, ApiError> {
    one(&state, asked.account, RecordKind::Content, id).await
}

pub(crate) async fn conversation(
    State(state): State<ApiState>,
    InPath(id): InPath<RecordId>,
    Params(asked): Params<OneParams>,
) -> Result<Json<RecordView>, ApiError> {
    one(&state, asked.account, RecordKind::Conversation, id).await
}

async fn one(
    state: &ApiState,
    account: AccountId,
    kind: RecordKind,
    id: RecordId,
) -> Result<Json<RecordView>, ApiError> {
    let missing = ApiError::NotFound(format!("{kind} {id} of account {account} is not known"));
    let row = state.store.read(move |query| query.record(&account, kind, &id)).await?;
    row.map(|row| Json(row.into())).ok_or(missing)
}

fn account_query(kind: RecordKind, asked: AccountParams) -> Result<RecordQuery, ApiError> {
    query(asked.account, kind, asked.order, asked.after.as_deref(), asked.limit)
}

fn query(
    account: AccountId,
    kind: RecordKind,
    order: Order,
    after: Option<&str>,
    limit: Option<usize>,
) -> Result<RecordQuery, ApiError> {
    Ok(RecordQuery {
        account,
        kind,
        thread: None,
        newest_first: order == Order::Newest,
        after: params::cursor(after)?,
        limit: params::limit(limit, LIMIT_MAX)?,
    })
}

async fn list(state: &ApiState, query: RecordQuery) -> Answer {
    let account = query.account.clone();
    let read =
        move |store: &crate::store::Query| Ok((store.account(&query.account)?, store.records(&query)?));
    let (row, page) = state.store.read(read).await?;
    check_known(state, &account, row.as_ref())?;
    Ok(Json(PageView::of(page, RecordView::from)))
}
