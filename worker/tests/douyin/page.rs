//! A site of one page that keeps its data as the real one does: in component props and in stores, with secrets planted
//! wherever the real ones have some.

use std::net::SocketAddr;

use axum::Router;
use axum::response::Html;
use axum::routing::get;
use tokio_util::task::AbortOnDropHandle;

/// What must never leave the page.
pub(crate) const SECRET: &str = "planted-secret";
const HTML: &str = include_str!("page.html");

pub(crate) struct Site {
    address: SocketAddr,
    _server: AbortOnDropHandle<()>,
}

impl Site {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        assert!(HTML.contains(SECRET));
        let app = Router::new()
            .route("/chat", get(|| async move { Html(HTML) }))
            .route("/home", get(|| async move { Html(HTML) }));
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, _server: AbortOnDropHandle::new(server) }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}
