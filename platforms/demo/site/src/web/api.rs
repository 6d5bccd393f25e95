//! The lists that the page fetches, in the platform's envelope. Without a session they answer HTTP 200 with a
//! status code of the platform's own, as real platforms do.

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::account_of;
use crate::account::{Account, Span};
use crate::site::Site;

/// The platform's code for "not logged in".
const NOT_LOGGED_IN: i32 = 8;
/// The platform's code for a request that it does not understand.
const BAD_REQUEST: i32 = 5;

/// What a list can be asked.
#[derive(Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    cursor: String,
    count: Option<usize>,
    item_id: Option<String>,
    comment_id: Option<String>,
    conversation_id: Option<String>,
}

pub(super) async fn works(site: State<Site>, headers: HeaderMap, asked: Query<Asked>) -> Response {
    list(&site, &headers, asked.0, |account, span, _| Some(account.works(span)))
}

pub(super) async fn comments(site: State<Site>, headers: HeaderMap, asked: Query<Asked>) -> Response {
    list(&site, &headers, asked.0, |account, span, asked| {
        Some(account.comments(asked.item_id.as_ref()?.parse().ok()?, span))
    })
}

pub(super) async fn replies(site: State<Site>, headers: HeaderMap, asked: Query<Asked>) -> Response {
    list(&site, &headers, asked.0, |account, span, asked| {
        Some(account.comments(asked.comment_id.as_ref()?.parse().ok()?, span))
    })
}

pub(super) async fn conversations(site: State<Site>, headers: HeaderMap, asked: Query<Asked>) -> Response {
    list(&site, &headers, asked.0, |account, span, _| Some(account.conversations(span)))
}

pub(super) async fn messages(site: State<Site>, headers: HeaderMap, asked: Query<Asked>) -> Response {
    list(&site, &headers, asked.0, |account, span, asked| {
        Some(account.messages(asked.conversation_id.as_ref()?, span))
    })
}

pub(super) async fn notices(site: State<Site>, headers: HeaderMap, asked: Query<Asked>) -> Response {
    list(&site, &headers, asked.0, |account, span, _| Some(account.notices(span)))
}

/// Builds one page under the account's lock and wraps it.
fn list(
    site: &Site,
    headers: &HeaderMap,
    asked: Asked,
    build: impl FnOnce(&mut Account, &Span, &Asked) -> Option<Value>,
) -> Response {
    let Some(account) = account_of(site, headers) else {
        return refusal(NOT_LOGGED_IN, "用户未登录");
    };
    let span = Span { cursor: asked.cursor.clone(), count: asked.count };
    let Some(Some(mut body)) = site.with(&account, |account| build(account, &span, &asked)) else {
        return refusal(BAD_REQUEST, "参数不合法");
    };
    if let Value::Object(fields) = &mut body {
        fields.insert("status_code".to_owned(), json!(0));
        fields.insert("status_msg".to_owned(), json!(""));
        fields.insert("extra".to_owned(), json!({ "logid": format!("{:016X}", fastrand::u64(..)) }));
    }
    answer(body)
}

fn refusal(code: i32, message: &str) -> Response {
    answer(json!({ "status_code": code, "status_msg": message }))
}

fn answer(body: Value) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}
