//! The creator page, its login form at the same URL, and its static files, embedded in the program.

use axum::Form;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{AppendHeaders, Html, IntoResponse, Redirect, Response};
use serde::Deserialize;

use super::{SESSION_COOKIE, account_of};
use crate::model::OWNER;
use crate::site::Site;

const INBOX_HTML: &str = include_str!("../../assets/inbox.html");
const LOGIN_HTML: &str = include_str!("../../assets/login.html");
const SCRIPT: &str = include_str!("../../assets/app.js");
const STYLE: &str = include_str!("../../assets/app.css");
const SERVICE_WORKER: &str = include_str!("../../assets/sw.js");

#[derive(Deserialize)]
pub(super) struct Asked {
    poll_s: Option<u32>,
    error: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Login {
    username: String,
    password: String,
}

pub(super) async fn home() -> Redirect {
    Redirect::to("/creator/inbox")
}

pub(super) async fn inbox(site: State<Site>, headers: HeaderMap, asked: Query<Asked>) -> Response {
    let owner = account_of(&site, &headers)
        .and_then(|account| site.with(&account, |account| account.data.users[OWNER].nickname.clone()));
    let page = match owner {
        Some(owner) => {
            let poll_s = asked.poll_s.unwrap_or(site.config().poll_s).max(1);
            INBOX_HTML.replace("{{owner}}", &escaped(&owner)).replace("{{poll_s}}", &poll_s.to_string())
        }
        None => LOGIN_HTML.replace("{{error}}", if asked.error.is_some() { "账号或密码错误" } else { "" }),
    };
    ([(header::CACHE_CONTROL, "no-store")], Html(page)).into_response()
}

pub(super) async fn log_in(site: State<Site>, login: Form<Login>) -> Response {
    match site.log_in(&login.username, &login.password) {
        Some(token) => {
            // The session ends with the browser; that somebody was here once is remembered for a year.
            let cookies = [
                format!("{SESSION_COOKIE}={token}; Path=/; HttpOnly; SameSite=Lax"),
                "demo_known=1; Path=/; Max-Age=31536000; SameSite=Lax".to_owned(),
            ];
            let cookies = AppendHeaders(cookies.map(|cookie| (header::SET_COOKIE, cookie)));
            (cookies, Redirect::to("/creator/inbox")).into_response()
        }
        None => Redirect::to("/creator/inbox?error=1").into_response(),
    }
}

pub(super) async fn log_out(site: State<Site>, headers: HeaderMap) -> Response {
    let ended = account_of(&site, &headers).and_then(|account| site.expire(&account));
    let status = if ended.is_some() { StatusCode::SEE_OTHER } else { StatusCode::FORBIDDEN };
    (status, [(header::LOCATION, "/creator/inbox")]).into_response()
}

pub(super) async fn script() -> Response {
    file("text/javascript; charset=utf-8", SCRIPT)
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
