//! The part of the test site that answers oddly: redirects, forms, bodies that are not what they are called, and pages
//! that keep their state to themselves.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query};
use axum::http::{Method, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{any, get};

use super::Shared;

const MIB: usize = 1024 * 1024;

pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/odd/{name}", get(page))
        .route("/api/where", get(place))
        .route("/api/slash", get(|| async { moved("/api/slash/") }))
        .route("/api/slash/", any(method))
        .route("/api/submit", any(method))
        // Answers a form by sending the page to the same address again.
        .route("/api/form", get(method).post(|| async { Redirect::to("/api/form") }))
        .route("/api/bad", get(bad))
        .route("/api/kept", get(|| async { ([(header::CACHE_CONTROL, "max-age=60")], axum::Json(())) }))
}

fn moved(to: &'static str) -> Response {
    (StatusCode::MOVED_PERMANENTLY, [(header::LOCATION, to)]).into_response()
}

async fn place() -> impl IntoResponse {
    ([(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")], axum::Json(serde_json::json!({})))
}

async fn method(method: Method) -> impl IntoResponse {
    axum::Json(serde_json::json!({ "method": method.as_str() }))
}

/// Called JSON, all of them.
async fn bad(Query(query): Query<HashMap<String, String>>) -> Response {
    let json = (header::CONTENT_TYPE, "application/json");
    let gzip = (header::CONTENT_ENCODING, "gzip");
    let cut = || {
        let halves = futures_util::stream::unfold(0, |n| async move {
            // The first half is on its way before the connection breaks.
            tokio::time::sleep(Duration::from_millis(100 * n)).await;
            let half = if n == 0 { Ok("[1,") } else { Err(std::io::Error::other("the test ends it here")) };
            Some((half, n + 1))
        });
        Body::from_stream(halves)
    };
    match query.get("kind").map(String::as_str) {
        Some("html") => ([json], "<!doctype html><title>Log in</title>").into_response(),
        Some("binary") => ([json], vec![0x89, b'P', b'N', b'G', 0, 1, 2, 255]).into_response(),
        Some("no-gzip") => ([json, gzip], "[1, 2, 3]").into_response(),
        Some("cut-gzip") => {
            let packed = packed(MIB);
            ([json, gzip], packed[..packed.len() / 2].to_vec()).into_response()
        }
        Some("bomb") => ([json, gzip], packed(100 * MIB)).into_response(),
        Some("cut") => ([json], cut()).into_response(),
        Some("short") => ([json, (header::CONTENT_LENGTH, "1000")], cut()).into_response(),
        _ => ([json], "[1, 2, 3]").into_response(),
    }
}

fn packed(size: usize) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(b"\"").unwrap();
    encoder.write_all(&vec![b'x'; size - 2]).unwrap();
    encoder.write_all(b"\"").unwrap();
    encoder.finish().unwrap()
}

async fn page(Path(name): Path<String>) -> Response {
    let script = match name.as_str() {
        "places" => PLACES,
        "methods" => METHODS,
        "bad" => BAD,
        "kept" => KEPT,
        "huge" => HUGE,
        "state" => STATE,
        "keeps" => KEEPS,
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    Html(format!("<!doctype html><title>{name}</title><script>{script}</script>")).into_response()
}

/// The same path, from two hosts; and pushes from one.
const PLACES: &str = "
    (async () => {
        for (const host of [location.host, location.host.replace('127.0.0.1', 'localhost')])
            await (await fetch('http://' + host + '/api/where')).text();
        window.source = new EventSource('/api/push');
        source.addEventListener('news', () => {});
        window.socket = new WebSocket('ws://' + location.host + '/api/socket');
    })();
";
const METHODS: &str = "
    (async () => {
        const ask = async (path, method) => (await fetch(path, {method})).text();
        await ask('/api/submit', 'POST');
        await ask('/api/submit', 'GET');
        await ask('/api/slash', 'GET');
        for (let n = 0; n < 20; n++) await ask('/api/form', 'POST');
        await ask('/api/item?n=end', 'GET');
    })();
";
const BAD: &str = "
    (async () => {
        for (const kind of ['html', 'binary', 'no-gzip', 'cut-gzip', 'bomb', 'cut', 'short', 'fine'])
            await fetch('/api/bad?kind=' + kind).then(answer => answer.text()).catch(() => {});
    })();
";
/// The second answer comes out of the browser's cache.
const KEPT: &str = "
    (async () => {
        await (await fetch('/api/kept')).text();
        await new Promise(done => setTimeout(done, 3000));
        await (await fetch('/api/kept')).text();
        await (await fetch('/api/item?n=end')).text();
    })();
";
const HUGE: &str = "
    (async () => {
        for (const mib of [100, 1]) await (await fetch('/api/large?mib=' + mib)).arrayBuffer();
    })();
";
/// Looks into its database with its first statement, as pages do; a database that is not there yet is made.
const KEEPS: &str = "
    window.seen = new Promise((done, fail) => {
        const open = indexedDB.open('shop', 3);
        const seen = {made: false};
        open.onupgradeneeded = () => {
            seen.made = true;
            open.result.createObjectStore('things', {autoIncrement: true}).createIndex('by_name', 'name');
            open.result.createObjectStore('keys', {keyPath: ['id', 'kind']});
        };
        open.onerror = () => fail(open.error);
        open.onsuccess = () => {
            const change = open.result.transaction(['things', 'keys'], 'readwrite');
            const things = change.objectStore('things'), index = things.index('by_name');
            const values = things.getAll(), keys = change.objectStore('keys').getAll(), added = things.add({});
            seen.index = [index.multiEntry, index.unique];
            change.oncomplete = async () => {
                const [dates, buffers, blobs, cyclic] = values.result;
                seen.count = values.result.length;
                if (dates) seen.dates = dates.at instanceof Date && dates.at.getTime() === 86400000
                    && dates.map.get('k').has(2) && dates.big === 12345678901234567890n;
                if (buffers) seen.buffers = new Uint8Array(buffers.bytes)[2] === 255 && buffers.typed[0] === 1.5
                    && 'none' in buffers && Number.isNaN(buffers.nan) && buffers.re.flags === 'gi';
                if (blobs) seen.blobs = await blobs.blob.text() === 'blob' && blobs.file.name === 'f.txt';
                if (cyclic) seen.cyclic = cyclic.self === cyclic;
                seen.key = String(keys.result[0]?.key);
                seen.next = added.result;
                done(seen);
            };
        };
    });
";
/// Something that changes twice, something that comes late, and a fetch now and then.
const STATE: &str = "
    location.hash = 'part';
    window.store = {n: 1, text: 'one'};
    setTimeout(() => { store.n = 2; }, 1500);
    setTimeout(() => { store.n = 3; }, 2500);
    setTimeout(() => { window.late = ['there']; }, 1500);
    let n = 0;
    setInterval(() => fetch('/api/item?n=' + n++).then(answer => answer.text()), 200);
";
