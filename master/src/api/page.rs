//! The inbox page: a few files of ours, built into the binary.

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::response::IntoResponse;
use axum::routing::get;

use super::ApiState;

/// Each file of the page: path, type, text.
const FILES: [(&str, &str, &str); 8] = [
    ("/", "text/html; charset=utf-8", include_str!("../../web/inbox.html")),
    ("/inbox.css", "text/css; charset=utf-8", include_str!("../../web/inbox.css")),
    ("/inbox.js", "text/javascript; charset=utf-8", include_str!("../../web/inbox.js")),
    ("/dom.js", "text/javascript; charset=utf-8", include_str!("../../web/dom.js")),
    ("/login.js", "text/javascript; charset=utf-8", include_str!("../../web/login.js")),
    ("/thread.js", "text/javascript; charset=utf-8", include_str!("../../web/thread.js")),
    ("/words.js", "text/javascript; charset=utf-8", include_str!("../../web/words.js")),
    ("/icon.svg", "image/svg+xml", include_str!("../../web/icon.svg")),
];

pub(crate) fn routes() -> Router<ApiState> {
    FILES.into_iter().fold(Router::new(), |routes, (path, kind, text)| {
        routes.route(path, get(move || std::future::ready(file(kind, text))))
    })
}

/// Always asked for anew: it is small, and an old page must not talk to a new master.
fn file(kind: &'static str, text: &'static str) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, text)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_is_small() {
        let bytes: usize = super::FILES.iter().map(|(_, _, text)| text.len()).sum();
        assert!(bytes < 64 * 1024, "the page has grown to {bytes} bytes");
    }
}
