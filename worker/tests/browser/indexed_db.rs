//! Whether a page's IndexedDB can be carried to another browser: two facts that decide it, against a real Chromium.
//! What follows from them is in docs/findings/indexeddb.md.

use std::time::Duration;

use chromiumoxide::cdp::browser_protocol::browser::BrowserContextId;
use chromiumoxide::cdp::browser_protocol::indexed_db::{EnableParams, RequestDataParams};
use chromiumoxide::cdp::browser_protocol::page::AddScriptToEvaluateOnNewDocumentParams;
use chromiumoxide::cdp::browser_protocol::target::{CreateBrowserContextParams, CreateTargetParams};
use chromiumoxide::cdp::js_protocol::runtime::EvaluateParams;
use chromiumoxide::{Browser, BrowserConfig, Page};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::rig::DEADLINE;
use crate::site::Site;

/// A Chromium of its own, so that the protocol can be spoken to directly.
struct Bare {
    browser: Browser,
    _folder: tempfile::TempDir,
    _handler: AbortOnDropHandle<()>,
}

impl Bare {
    async fn launch() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = BrowserConfig::builder()
            .chrome_executable(snapfleet_worker::browser::find_chromium().unwrap())
            .user_data_dir(folder.path())
            .new_headless_mode()
            .no_sandbox()
            .respect_https_errors()
            .build()
            .unwrap();
        let (browser, mut handler) = Browser::launch(config).await.unwrap();
        let handler = tokio::spawn(async move { while handler.next().await.is_some() {} });
        Self { browser, _folder: folder, _handler: AbortOnDropHandle::new(handler) }
    }

    /// A tab in a context where nothing is kept yet.
    async fn tab(&self) -> Page {
        let context: BrowserContextId =
            self.browser.create_browser_context(CreateBrowserContextParams::default()).await.unwrap();
        let mut target = CreateTargetParams::new("about:blank");
        target.browser_context_id = Some(context);
        self.browser.new_page(target).await.unwrap()
    }

    async fn close(mut self) {
        self.browser.close().await.unwrap();
        timeout(Duration::from_secs(10), self.browser.wait()).await.unwrap().unwrap();
    }
}

/// What an expression resolves to.
async fn run(page: &Page, script: impl Into<String>) -> Value {
    let mut params = EvaluateParams::new(script.into());
    (params.await_promise, params.return_by_value) = (Some(true), Some(true));
    let answer = timeout(DEADLINE, page.execute(params)).await.unwrap().unwrap().result;
    assert!(answer.exception_details.is_none(), "{:?}", answer.exception_details);
    answer.result.value.unwrap_or(Value::Null)
}

/// Carried by a script in the page, since the protocol can read databases but not write them, and written by a script
/// that begins before the page's own. Both are asynchronous: it is the browser that lets the page's request for the
/// same database wait for the one before it.
#[tokio::test]
async fn what_json_cannot_say_is_carried_and_is_there_when_the_page_first_looks() {
    let (site, bare) = (Site::start().await, Bare::launch().await);
    let (first, second) = (bare.tab().await, bare.tab().await);
    first.goto(site.url("/page/blank")).await.unwrap();
    assert_eq!(run(&first, FILL).await, "ok");
    let exported = run(&first, format!("({EXPORT})()")).await;

    let restore = format!("({RESTORE})({exported})");
    second.execute(AddScriptToEvaluateOnNewDocumentParams::new(restore)).await.unwrap();
    second.goto(site.url("/odd/keeps")).await.unwrap();
    let expected = json!({
        "made": false, "count": 4, "index": [true, false],
        "dates": true, "buffers": true, "blobs": true, "cyclic": true,
        // The fifth was deleted: where it comes from, the next one is the sixth. The generator is not carried.
        "next": 5,
        "key": "undefined",
    });
    assert_eq!(run(&second, "window.seen").await, expected);

    // Without it, the page finds nothing.
    let third = bare.tab().await;
    third.goto(site.url("/odd/keeps")).await.unwrap();
    assert_eq!(run(&third, "window.seen").await["made"], true);
    first.goto(site.url("/odd/keeps")).await.unwrap();
    assert_eq!(run(&first, "window.seen").await["next"], 6);
    bare.close().await;
}

/// Neither a script nor the protocol gets it out of its browser: a login that is bound to one cannot move.
#[tokio::test]
async fn a_key_that_may_not_be_exported_cannot_be_carried() {
    let (site, bare) = (Site::start().await, Bare::launch().await);
    let page = bare.tab().await;
    page.goto(site.url("/page/blank")).await.unwrap();
    assert_eq!(run(&page, FILL).await, "ok");
    let exported = run(&page, format!("({EXPORT})()")).await;
    assert_eq!(exported["lost"], json!(["CryptoKey: InvalidAccessError"]));

    page.execute(EnableParams::default()).await.unwrap();
    let mut params = RequestDataParams::new("shop", "keys", 0, 10);
    params.security_origin = Some(format!("http://{}", site.address));
    let told = page.execute(params).await.unwrap().result.object_store_data_entries;
    assert_eq!(told.len(), 1);
    // A handle to an object in the page, and no value.
    assert!(told[0].value.value.is_none() && told[0].value.object_id.is_some(), "{told:?}");
    bare.close().await;
}

/// A database as sites have them: indexes, generated and compound keys, a row that was deleted, values beyond JSON, a
/// key that may not be exported.
const FILL: &str = "(async () => {
    const wait = request => new Promise((done, fail) => {
        request.onsuccess = () => done(request.result); request.onerror = () => fail(request.error);
    });
    const open = indexedDB.open('shop', 3);
    open.onupgradeneeded = () => {
        const things = open.result.createObjectStore('things', {autoIncrement: true});
        things.createIndex('by_name', 'name', {unique: false, multiEntry: true});
        open.result.createObjectStore('keys', {keyPath: ['id', 'kind']});
    };
    const db = await wait(open);
    const {privateKey} = await crypto.subtle.generateKey({name: 'ECDSA', namedCurve: 'P-256'}, false, ['sign', 'verify']);
    const cyclic = {name: 'cyclic'}; cyclic.self = cyclic;
    const change = db.transaction(['things', 'keys'], 'readwrite');
    const things = change.objectStore('things');
    for (const value of [
        {name: ['a', 'b'], at: new Date(86400000), map: new Map([['k', new Set([1, 2])]]), big: 12345678901234567890n},
        {bytes: new Uint8Array([1, 2, 255]).buffer, typed: new Float32Array([1.5]), none: undefined, nan: NaN, re: /x/gi},
        {blob: new Blob(['blob'], {type: 'text/plain'}), file: new File(['f'], 'f.txt')},
        cyclic,
        {name: 'deleted'},
    ]) things.add(value);
    things.delete(5);
    change.objectStore('keys').add({id: 1, kind: 'device', key: privateKey});
    await new Promise((done, fail) => { change.oncomplete = done; change.onerror = () => fail(change.error); });
    db.close();
    return 'ok';
})()";

/// All databases of the origin as JSON, and the kinds of what is lost.
const EXPORT: &str = r#"async () => {
    const wait = request => new Promise((done, fail) => {
        request.onsuccess = () => done(request.result); request.onerror = () => fail(request.error);
    });
    const base64 = buffer => {
        const bytes = new Uint8Array(buffer); let text = '';
        for (let at = 0; at < bytes.length; at += 0x8000) text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
        return btoa(text);
    };
    const lost = [];
    const say = async (value, seen = new Map()) => {
        if (value === null || typeof value === 'string' || typeof value === 'boolean') return value;
        if (typeof value === 'number' && Number.isFinite(value)) return value;
        if (typeof value === 'number') return {$: 'number', v: String(value)};
        if (value === undefined) return {$: 'undefined'};
        if (typeof value === 'bigint') return {$: 'bigint', v: String(value)};
        if (seen.has(value)) return {$: 'ref', v: seen.get(value)};
        seen.set(value, seen.size);
        const kind = Object.prototype.toString.call(value).slice(8, -1);
        const all = async list => { const said = []; for (const item of list) said.push(await say(item, seen)); return said; };
        if (Array.isArray(value)) return {$: 'array', v: await all(value)};
        if (kind === 'Date') return {$: kind, v: value.getTime()};
        if (kind === 'RegExp') return {$: kind, v: [value.source, value.flags]};
        if (kind === 'Map') return {$: kind, v: await all([...value].flat())};
        if (kind === 'Set') return {$: kind, v: await all(value)};
        if (kind === 'ArrayBuffer') return {$: kind, v: base64(value)};
        if (ArrayBuffer.isView(value)) return {$: 'view', t: kind, v: base64(value.buffer.slice(value.byteOffset, value.byteOffset + value.byteLength))};
        if (kind === 'Blob' || kind === 'File') return {$: kind, t: value.type, n: value.name, v: base64(await value.arrayBuffer())};
        if (kind === 'CryptoKey') {
            try { return {$: kind, v: await crypto.subtle.exportKey('jwk', value)}; }
            catch (error) { lost.push(kind + ': ' + error.name); return {$: 'lost'}; }
        }
        if (kind !== 'Object') { lost.push(kind); return {$: 'lost'}; }
        const fields = [];
        for (const [name, field] of Object.entries(value)) fields.push([name, await say(field, seen)]);
        return {$: 'object', v: fields};
    };
    const databases = [];
    for (const {name, version} of await indexedDB.databases()) {
        const db = await wait(indexedDB.open(name));
        const stores = [];
        for (const store of db.objectStoreNames) {
            const source = db.transaction(store).objectStore(store);
            const indexes = [...source.indexNames].map(name => {
                const {keyPath, unique, multiEntry} = source.index(name);
                return {name, keyPath, unique, multiEntry};
            });
            const [keys, values] = await Promise.all([wait(source.getAllKeys()), wait(source.getAll())]);
            const rows = [];
            for (let at = 0; at < keys.length; at++) rows.push([await say(keys[at]), await say(values[at])]);
            stores.push({store, keyPath: source.keyPath, autoIncrement: source.autoIncrement, indexes, rows});
        }
        db.close();
        databases.push({name, version, stores});
    }
    return {databases, lost};
}"#;

/// Makes the databases that [`EXPORT`] told, in the one transaction in which a database comes into being.
const RESTORE: &str = r#"({databases}) => {
    const bytes = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
    const hear = (said, seen = []) => {
        if (said === null || typeof said !== 'object') return said;
        const keep = value => { seen.push(value); return value; };
        switch (said.$) {
            case 'undefined': case 'lost': return undefined;
            case 'number': return Number(said.v);
            case 'bigint': return BigInt(said.v);
            case 'ref': return seen[said.v];
            case 'array': { const list = keep([]); for (const item of said.v) list.push(hear(item, seen)); return list; }
            case 'Date': return keep(new Date(said.v));
            case 'RegExp': return keep(new RegExp(...said.v));
            case 'Map': { const map = keep(new Map()); for (let at = 0; at < said.v.length; at += 2) map.set(hear(said.v[at], seen), hear(said.v[at + 1], seen)); return map; }
            case 'Set': { const set = keep(new Set()); for (const item of said.v) set.add(hear(item, seen)); return set; }
            case 'ArrayBuffer': return keep(bytes(said.v).buffer);
            case 'view': return keep(new globalThis[said.t](bytes(said.v).buffer));
            case 'Blob': return keep(new Blob([bytes(said.v)], {type: said.t}));
            case 'File': return keep(new File([bytes(said.v)], said.n, {type: said.t}));
            case 'object': { const object = keep({}); for (const [name, field] of said.v) object[name] = hear(field, seen); return object; }
        }
    };
    return Promise.all(databases.map(({name, version, stores}) => new Promise((done, fail) => {
        const open = indexedDB.open(name, version);
        open.onupgradeneeded = () => {
            for (const {store, keyPath, autoIncrement, indexes, rows} of stores) {
                const target = open.result.createObjectStore(store, {keyPath, autoIncrement});
                for (const {name, keyPath, unique, multiEntry} of indexes) target.createIndex(name, keyPath, {unique, multiEntry});
                for (const [key, value] of rows) keyPath === null ? target.put(hear(value), hear(key)) : target.put(hear(value));
            }
        };
        open.onsuccess = () => { open.result.close(); done('ok'); };
        open.onerror = () => fail(open.error);
    })));
}"#;
