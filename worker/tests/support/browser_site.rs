//! A small web site for the browser tests: pages that fetch, get pushed to, log in, hang.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::extract::{Form, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{any, get};
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

#[path = "browser_odd.rs"]
mod odd;

pub(crate) const PUSHES: usize = 9;
pub(crate) const PASSWORD: &str = "pässword 1!";

#[derive(Default)]
pub(crate) struct Shared {
    /// Sessions from before this number are ended.
    pub(crate) session: AtomicU64,
    pub(crate) logins: AtomicU64,
    pub(crate) hung: AtomicU64,
    /// Documents that were left for the blank page, which told so.
    pub(crate) left: AtomicU64,
    /// Lets the late push go, and the late body end.
    push: Notify,
    body: Notify,
}

pub(crate) struct Site {
    pub(crate) address: SocketAddr,
    pub(crate) shared: Arc<Shared>,
    _server: AbortOnDropHandle<()>,
}

impl Site {
    pub(crate) async fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = router(shared.clone());
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, shared, _server: AbortOnDropHandle::new(server) }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/page/{name}", get(page))
        .route("/api/item", get(item))
        .route("/api/large", get(large))
        .route("/api/moved", get(|| async { Redirect::to("/api/item?n=moved") }))
        .route("/api/broken", get(|| async { (StatusCode::INTERNAL_SERVER_ERROR, "{}") }))
        .route("/api/cookies", get(cookies))
        .route("/api/push", get(push))
        .route("/api/socket", any(socket))
        .route("/api/late-push", get(late_push))
        .route("/api/late-body", get(late_body))
        .route("/api/echo", any(echo))
        .route("/api/let", get(let_go))
        .route("/api/left", get(left))
        .route("/sw.js", get(|| async { ([(header::CONTENT_TYPE, "text/javascript")], SERVICE_WORKER) }))
        .route("/login", get(|| async { Html(LOGIN) }).post(log_in))
        .route("/home", get(home))
        .route("/api/me", get(me))
        .merge(odd::router())
        .with_state(shared)
}

async fn page(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let script = match name.as_str() {
        "burst" => BURST,
        "pushed" => PUSHED,
        "worker" => WORKER,
        "steady" => STEADY,
        "growing" => GROWING,
        "identity" => IDENTITY,
        "hang" if shared.hung.fetch_add(1, Ordering::SeqCst) == 0 => HANG,
        "hang" => STEADY,
        "large" => LARGE,
        "scroll" => SCROLL,
        "dialog" => DIALOG,
        "blank" => BLANK,
        "late" => LATE,
        "late-marker" => LATE_MARKER,
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    let html = Html(format!("<!doctype html><title>{name}</title><script>{script}</script>"));
    match query.get("me") {
        Some(me) => ([(header::SET_COOKIE, format!("me-{me}=1; HttpOnly; Path=/"))], html).into_response(),
        None => html.into_response(),
    }
}

async fn item(Query(query): Query<HashMap<String, String>>) -> impl IntoResponse {
    let body = serde_json::json!({ "n": query.get("n"), "padding": "x".repeat(30_000) });
    ([(header::CACHE_CONTROL, "no-store")], axum::Json(body))
}

async fn large(Query(query): Query<HashMap<String, usize>>) -> impl IntoResponse {
    let size = query.get("mib").copied().unwrap_or(1) * 1024 * 1024;
    ([(header::CONTENT_TYPE, "application/json")], format!("\"{}\"", "x".repeat(size - 2)))
}

async fn cookies(headers: HeaderMap) -> impl IntoResponse {
    let cookies = headers.get(header::COOKIE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    axum::Json(serde_json::json!({ "cookies": cookies }))
}

async fn push() -> impl IntoResponse {
    let events = futures_util::stream::unfold(0, |n| async move {
        if n == PUSHES {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        let event = Event::default().event("news").data(format!("{{\"n\":{n}}}"));
        Some((Ok::<_, std::convert::Infallible>(event), n + 1))
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}

async fn socket(upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(|mut socket| async move {
        for n in 0..PUSHES {
            let frame = match n % 3 {
                0 => Message::binary(format!("{{\"n\":{n}}}").into_bytes()),
                _ => Message::text(format!("{{\"n\":{n}}}")),
            };
            if socket.send(frame).await.is_err() {
                return;
            }
        }
        while socket.recv().await.is_some() {}
    })
}

/// One event, when it is let go.
async fn late_push(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let events = futures_util::stream::unfold((shared, 0), |(shared, n)| async move {
        if n > 0 {
            std::future::pending::<()>().await;
        }
        shared.push.notified().await;
        Some((Ok::<_, std::convert::Infallible>(Event::default().data("pushed")), (shared, n + 1)))
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}

/// A body whose first half is there at once, and the second when it is let go.
async fn late_body(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let halves = futures_util::stream::unfold((shared, 0), |(shared, n)| async move {
        let half = match n {
            0 => "[\"late\",",
            1 => {
                shared.body.notified().await;
                "\"body\"]"
            }
            _ => return None,
        };
        Some((Ok::<_, std::convert::Infallible>(half), (shared, n + 1)))
    });
    ([(header::CONTENT_TYPE, "application/json")], axum::body::Body::from_stream(halves))
}

async fn echo(upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(|mut socket| async move {
        while let Some(Ok(frame)) = socket.recv().await {
            if socket.send(frame).await.is_err() {
                return;
            }
        }
    })
}

async fn let_go(State(shared): State<Arc<Shared>>, Query(query): Query<HashMap<String, String>>) {
    match query.get("go").map(String::as_str) {
        Some("push") => shared.push.notify_one(),
        _ => shared.body.notify_one(),
    }
}

async fn left(State(shared): State<Arc<Shared>>) {
    shared.left.fetch_add(1, Ordering::SeqCst);
}

async fn log_in(State(shared): State<Arc<Shared>>, Form(form): Form<HashMap<String, String>>) -> Response {
    shared.logins.fetch_add(1, Ordering::SeqCst);
    let field = |name| form.get(name).map(String::as_str);
    if field("username") != Some("Ann") || field("password") != Some(PASSWORD) {
        return Html(LOGIN).into_response();
    }
    let cookie = format!("session={}; HttpOnly; Path=/", shared.session.load(Ordering::SeqCst));
    ([(header::SET_COOKIE, cookie)], Redirect::to("/home?welcome=1")).into_response()
}

fn logged_in(shared: &Shared, headers: &HeaderMap) -> bool {
    let session = format!("session={}", shared.session.load(Ordering::SeqCst));
    headers.get(header::COOKIE).is_some_and(|value| value == session.as_str())
}

async fn home(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    if !logged_in(&shared, &headers) {
        return Redirect::to("/login").into_response();
    }
    Html(format!("<!doctype html><div id=owner>Ann</div><script>{HOME}</script>")).into_response()
}

async fn me(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    if !logged_in(&shared, &headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    axum::Json(serde_json::json!({ "user": "Ann" })).into_response()
}

/// 100 items with 20 in flight, one of them three times over, and away as soon as the last has arrived.
const BURST: &str = "
    const queue = Array.from({length: 100}, (_, n) => '/api/item?n=' + n);
    queue.push('/api/item?n=0', '/api/item?n=0', '/api/moved', '/api/broken');
    const work = async () => { while (queue.length) await (await fetch(queue.shift())).text(); };
    Promise.all(Array.from({length: 20}, work)).then(() => location.href = '/page/blank');
";
const BLANK: &str = "fetch('/api/left').then(answer => answer.text());";
/// A response begins, then something is pushed both ways, then the response ends.
const LATE: &str = "
    (async () => {
        const source = new EventSource('/api/late-push');
        const socket = new WebSocket('ws://' + location.host + '/api/echo');
        const once = (target, name) => new Promise(done => target.addEventListener(name, done, {once: true}));
        await Promise.all([once(source, 'open'), once(socket, 'open')]);
        const late = await fetch('/api/late-body');
        await new Promise(done => setTimeout(done, 50));
        const pushed = [once(source, 'message'), once(socket, 'message')];
        socket.send('pushed');
        await fetch('/api/let?go=push');
        await Promise.all(pushed);
        await fetch('/api/let?go=body');
        await late.text();
    })();
";
/// The marker of a login appears later than it is waited for.
const LATE_MARKER: &str = "
    setTimeout(() => {
        const owner = document.createElement('div');
        owner.id = 'owner';
        document.body.append(owner);
    }, 17000);
";
const PUSHED: &str = "
    window.source = new EventSource('/api/push');
    source.addEventListener('news', () => {});
    window.socket = new WebSocket('ws://' + location.host + '/api/socket');
";
const WORKER: &str = "
    (async () => {
        const begun = performance.now();
        navigator.serviceWorker.register('/sw.js', {scope: '/'});
        await navigator.serviceWorker.ready;
        if (!navigator.serviceWorker.controller)
            await new Promise(done => navigator.serviceWorker.addEventListener('controllerchange', done, {once: true}));
        const ms = Math.round(performance.now() - begun);
        for (let n = 0; n < 20; n++) await (await fetch('/api/item?n=' + n + '&ready_ms=' + ms)).text();
    })();
";
const SERVICE_WORKER: &str = "
    self.addEventListener('install', () => self.skipWaiting());
    self.addEventListener('activate', event => event.waitUntil(self.clients.claim()));
    self.addEventListener('fetch', event => event.respondWith(fetch(event.request)));
";
const STEADY: &str = "
    let n = 0;
    setInterval(() => fetch('/api/item?n=' + n++).then(answer => answer.text()), 200);
";
/// Like the steady one, and 300 MB of arrays.
const GROWING: &str = "
    let n = 0;
    window.kept = [];
    setInterval(() => {
        fetch('/api/item?n=' + n++).then(answer => answer.text());
        if (kept.length < 30) kept.push(new Array(1250000).fill(n + 0.5));
    }, 200);
";
const IDENTITY: &str = "
    const me = new URLSearchParams(location.search).get('me');
    localStorage.setItem('me-' + me, '1');
    const look = async () => {
        await (await fetch('/api/cookies?me=' + me + '&storage=' + Object.keys(localStorage).join())).text();
        setTimeout(look, 50);
    };
    look();
";
const HANG: &str = "
    fetch('/api/item?n=hang').then(answer => answer.text()).then(() => { for (;;) {} });
";
const DIALOG: &str = "
    alert('hello'); confirm('sure?'); prompt('who?');
    fetch('/api/item?n=after').then(answer => answer.text());
";
const LARGE: &str = "
    (async () => {
        await (await fetch('/api/large?mib=20')).arrayBuffer();
        await (await fetch('/api/large?mib=34')).arrayBuffer();
        await (await fetch('/api/large?mib=1')).arrayBuffer();
    })();
";
const SCROLL: &str = "
    let next = 0, busy = false;
    const more = async () => {
        if (busy || next >= 5) return;
        busy = true;
        await (await fetch('/api/item?n=' + next++)).text();
        const block = document.createElement('div');
        block.style.height = '2000px';
        document.body.append(block);
        if (next === 5) { const end = document.createElement('p'); end.className = 'end'; document.body.append(end); }
        busy = false;
    };
    addEventListener('scroll', () => {
        if (innerHeight + scrollY >= document.documentElement.scrollHeight - 500) more();
    });
    addEventListener('load', more);
";
const LOGIN: &str = "<!doctype html><form id=login method=post action=/login>
    <input name=username value='someone else'><input name=password type=password><button>Log in</button></form>";
/// Counts its looks in the local storage.
const HOME: &str = "
    setInterval(async () => {
        localStorage.setItem('looks', Number(localStorage.getItem('looks')) + 1);
        if ((await fetch('/api/me')).status === 401) location.href = '/login';
    }, 300);
";
