//! The site's URLs. `router(site)` holds no listener, so that tests can call it in-process.

mod api;
mod control;
mod login;
mod page;
mod push;

use axum::Router;
use axum::http::{HeaderMap, header};
use axum::routing::{get, post};

use crate::site::Site;

/// The cookie that names the session.
pub(crate) const SESSION_COOKIE: &str = "demo_sid";
/// The headers in which the page names its device and its tab.
const DEVICE_HEADER: &str = "x-demo-device";
const TAB_HEADER: &str = "x-demo-tab";

/// Every route of the site.
pub fn router(site: Site) -> Router {
    Router::new()
        .route("/", get(page::home))
        .route("/creator/inbox", get(page::inbox))
        .route("/creator/login", post(login::log_in))
        .route("/creator/qr.svg", get(login::code))
        .route("/creator/qr/state", get(login::code_state))
        .route("/creator/verify", post(login::verify))
        .route("/creator/logout", post(page::log_out))
        .route("/creator/app.js", get(page::script))
        .route("/creator/qr.js", get(page::code_script))
        .route("/creator/app.css", get(page::style))
        .route("/creator/sw.js", get(page::service_worker))
        .route("/api/v1/creator/item/list/", get(api::works))
        .route("/api/v1/comment/list/", get(api::comments))
        .route("/api/v1/comment/list/reply/", get(api::replies))
        .route("/api/v1/im/conversation/list/", get(api::conversations))
        .route("/api/v1/im/message/list/", get(api::messages))
        .route("/api/v1/notice/list/", get(api::notices))
        .route("/api/push", get(push::events))
        .route("/api/comment/ws", get(push::socket))
        .route("/truth", get(control::truth_counts))
        .route("/truth/{account}", get(control::truth))
        .route("/control/pause", post(control::pause))
        .route("/control/resume", post(control::resume))
        .route("/control/{account}/push", post(control::push))
        .route("/control/{account}/expire", post(control::expire))
        .route("/control/{account}/logins", get(control::logins))
        .route("/control/{account}/scan", post(control::scan))
        .route("/control/{account}/sms", post(control::sms))
        .route("/control/{account}/login-page", get(control::login_page))
        .with_state(site)
}

/// The account whose open session the request's cookie names.
fn account_of(site: &Site, headers: &HeaderMap) -> Option<String> {
    let token = cookie(headers, SESSION_COOKIE)?;
    let named = |name| headers.get(name).and_then(|value| value.to_str().ok());
    site.session(token, named(DEVICE_HEADER), named(TAB_HEADER))
}

/// The value of the request's cookie with this name.
fn cookie<'a>(headers: &'a HeaderMap, wanted: &str) -> Option<&'a str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find_map(|(name, value)| (name == wanted).then_some(value))
}
