//! The site's URLs. `router(site)` holds no listener, so that tests can call it in-process.

mod api;
mod control;
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
        .route("/creator/login", post(page::log_in))
        .route("/creator/logout", post(page::log_out))
        .route("/creator/app.js", get(page::script))
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
        .with_state(site)
}

/// The account whose open session the request's cookie names.
fn account_of(site: &Site, headers: &HeaderMap) -> Option<String> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let token = cookies
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(name, value)| (name == SESSION_COOKIE).then_some(value))?;
    let named = |name| headers.get(name).and_then(|value| value.to_str().ok());
    site.session(token, named(DEVICE_HEADER), named(TAB_HEADER))
}
