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
/// What the site shows to whom it does not know: the code to scan, over a page that it knows its way around.
const OUT: &str = r#"<button id="douyin-creator-master-side-upload">new</button>
    <div id="animate_qrcode_container"><img alt="" src="data:image/gif;base64,R0lGODlhAQABAAAAACw="></div>"#;
/// And to its owner, in the creator centre and on the main site.
const CREATOR: &str = r#"<button id="douyin-creator-master-side-upload">new</button>"#;
const MAIN: &str = r#"<a href="https://www.douyin.com/user/self?from=nav"><img alt=""></a>"#;

pub(crate) struct Site {
    address: SocketAddr,
    _server: AbortOnDropHandle<()>,
}

impl Site {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        assert!(HTML.contains(SECRET));
        let mut app = Router::new();
        for (path, html) in
            [("/chat", HTML), ("/home", HTML), ("/out", OUT), ("/creator", CREATOR), ("/main", MAIN)]
        {
            app = app.route(path, get(move || async move { Html(html) }));
        }
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, _server: AbortOnDropHandle::new(server) }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}
