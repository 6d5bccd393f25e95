//! The creator page and its static files, embedded in the program. Who has no session is shown the login page at the
//! same URL.

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use serde::Deserialize;

use super::{SESSION_COOKIE, account_of, cookie, login};
use crate::LoginKind;
use crate::model::OWNER;
use crate::site::Site;

const INBOX_HTML: &str = include_str!("../../assets/inbox.html");
const SCRIPT: &str = include_str!("../../assets/app.js");
const CODE_SCRIPT: &str = include_str!("../../assets/qr.js");
const STYLE: &str = include_str!("../../assets/app.css");
const SERVICE_WORKER: &str = include_str!("../../assets/sw.js");

#[derive(Deserialize)]
pub(super) struct Asked {
    poll_s: Option<u32>,
    error: Option<String>,
    login: Option<LoginKind>,
}

pub(super) async fn home() -> Redirect {
    Redirect::to("/creator/inbox")
}

pub(super) async fn inbox(site: State<Site>, headers: HeaderMap, asked: Query<Asked>) -> Response {
    let owner = account_of(&site, &headers)
        .and_then(|account| site.with(&account, |account| account.data.users[OWNER].nickname.clone()));
    let Some(owner) = owner else {
        let kind = asked.login.unwrap_or(site.config().login);
        return login::page(&site, kind, asked.error.is_some(), &headers);
    };
    site.page_served(cookie(&headers, SESSION_COOKIE).unwrap_or_default());
    let poll_s = asked.poll_s.unwrap_or(site.config().poll_s).max(1);
    let page = INBOX_HTML.replace("{{owner}}", &escaped(&owner)).replace("{{poll_s}}", &poll_s.to_string());
    ([(header::CACHE_CONTROL, "no-store")], Html(page)).into_response()
}

pub(super) async fn log_out(site: State<Site>, headers: HeaderMap) -> Response {
    let ended = account_of(&site, &headers).and_then(|account| site.expire(&account));
    let status = if ended.is_some() { StatusCode::SEE_OTHER } else { StatusCode::FORBIDDEN };
    (status, [(header::LOCATION, "/creator/inbox")]).into_response()
}

pub(super) async fn script() -> Response {
    file("text/javascript; charset=utf-8", SCRIPT)
}

pub(super) async fn code_script() -> Response {
    file("text/javascript; charset=utf-8", CODE_SCRIPT)
}

pub(super) async fn style() -> Response {
    file("text/css; charset=utf-8", STYLE)
}

pub(super) async fn service_worker() -> Response {
    file("text/javascript; charset=utf-8", SERVICE_WORKER)
}

fn file(content_type: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, "no-cache")], text).into_response()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}
