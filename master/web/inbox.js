// The inbox page: reads the API, follows the change log, draws accounts, threads and one thread. What a platform
// wrote is hostile: it becomes text, never markup, and links only to http(s).

import { T, LANG, ago, clock, dated, exact, lasted, now, setClock } from './words.js';
import { el, keepPlace, outside, reconcile, span } from './dom.js';
import { entries, timeNode, titleOf } from './thread.js';
import { loginButton } from './login.js';

const API = '/api/v1';
const THREADS = 50; // threads of one account asked for at a time
const ROWS = 100; // comments or messages asked for at a time
const ACCOUNTS_MAX = 50; // accounts whose threads the view of all accounts merges
const NAMED_MAX = 3; // accounts that the sentence names

const S = {
  accounts: [], status: null, silentSince: null, threads: new Map(), tails: new Map(), dirty: new Set(),
  open: null, cursor: null, mode: 'connecting', awaySince: null, behind: 0, caughtUntil: 0, error: null,
};
const $ = id => document.getElementById(id);
const enc = encodeURIComponent;
const keyOf = t => `${t.account}/${t.kind}/${t.id}`;

async function get(path) {
  const answer = await fetch(API + path, { signal: AbortSignal.timeout(15000) });
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw Object.assign(new Error(body.detail || `HTTP ${answer.status}`), { status: answer.status });
  return body;
}

// ---- the address: filters and the open thread, so that a view can be sent to a colleague

function route() {
  const params = new URLSearchParams(location.hash.slice(1));
  const [account, kind, ...id] = (params.get('thread') || '').split('/');
  const thread = id.length && ['content', 'conversation'].includes(kind) ? { account, kind, id: id.join('/') } : null;
  return { account: params.get('account'), show: params.get('show'), thread };
}

function href(change) {
  const { account, show, thread } = { ...route(), ...change };
  const params = new URLSearchParams();
  if (account) params.set('account', account);
  if (show) params.set('show', show);
  if (thread) params.set('thread', keyOf(thread));
  return `#${params}`;
}

// ---- loading

async function loadStatus() {
  try {
    const status = await get('/status');
    setClock(status.now);
    const accounts = [];
    for (let next = ''; next !== null && accounts.length < 2000;) {
      const page = await get(`/accounts?removed=true&limit=500${next && `&after=${enc(next)}`}`);
      accounts.push(...page.items.filter(a => a.state !== 'erased'));
      next = page.next;
    }
    // What is stored of removed ones stays readable, below the others.
    accounts.sort((a, b) => (a.state === 'removed') - (b.state === 'removed'));
    Object.assign(S, { status, accounts, silentSince: null });
  } catch (error) {
    S.silentSince ??= now();
    throw error;
  } finally {
    draw();
  }
}

let loading = null;
const refresh = () => { loading ??= loadStatus().catch(() => {}).finally(() => { loading = null; }); };

let counting = null;
/** Reads the numbers beside the accounts again, a second after the first change that they lack. */
function countSoon() {
  counting ??= setTimeout(() => { counting = null; refresh(); }, 1000);
}

const inView = () => {
  const { account } = route();
  return account ? [account] : S.accounts.slice(0, ACCOUNTS_MAX).map(a => a.account);
};

async function loadThreads(account, older) {
  const tail = S.tails.get(account);
  if (older && !tail?.next) return;
  const page = await get(`/accounts/${enc(account)}/threads?limit=${THREADS}${older ? `&after=${enc(tail.next)}` : ''}`);
  for (const thread of page.items) S.threads.set(keyOf(thread), thread);
  const last = page.items.at(-1);
  if (older || !tail) S.tails.set(account, { next: page.next, oldest: last?.last_at ?? -Infinity });
}

/** Accounts of the view whose threads are not loaded yet, a few at a time. */
async function loadView() {
  const missing = inView().filter(account => !S.tails.has(account));
  S.error = null;
  try {
    while (missing.length) await Promise.all(missing.splice(0, 4).map(account => loadThreads(account)));
  } catch (error) {
    S.error = error.message;
  }
  draw();
}

async function openThread(thread) {
  const open = { ...thread, key: keyOf(thread), rows: new Map(), fresh: new Set(), next: null, loading: true, error: null };
  S.open = open;
  draw();
  const path = thread.kind === 'content' ? 'contents' : 'conversations';
  const head = get(`/${path}/${enc(thread.id)}?account=${enc(thread.account)}`).catch(() => null);
  try {
    await loadRows(open);
    open.head ??= await head;
  } catch (error) {
    open.error = error.message;
  }
  open.loading = false;
  draw();
}

async function loadRows(open) {
  const [path, filter] = open.kind === 'content'
    ? ['/comments', `&content=${enc(open.id)}`] : [`/conversations/${enc(open.id)}/messages`, ''];
  const after = open.next ? `&after=${enc(open.next)}` : '';
  const page = await get(`${path}?account=${enc(open.account)}${filter}&limit=${ROWS}${after}`);
  // What came live meanwhile is at least as new.
  for (const row of page.items) if (!open.rows.has(row.id)) open.rows.set(row.id, row);
  open.next = page.next;
}

// ---- live: the change log from a cursor on; after a gap from where it stopped

let source = null;
let pause = 500;

async function start() {
  source?.close();
  S.mode = 'connecting';
  try {
    await loadStatus();
    S.cursor = S.status.store.cursor; // the lists are read after it, so that what follows completes them
    S.threads.clear();
    S.tails.clear();
    await loadView();
    await follow(true);
  } catch {
    S.mode = 'away';
    S.awaySince ??= now();
    draw();
    setTimeout(start, pause);
    pause = Math.min(pause * 2, 8000);
    return;
  }
  listen();
}

function listen() {
  source?.close();
  source = new EventSource(`${API}/events?after=${enc(S.cursor)}`);
  source.addEventListener('change', event => {
    S.cursor = event.lastEventId;
    if (S.mode !== 'live') S.behind += 1;
    const change = JSON.parse(event.data);
    if (!change.record) return void start(); // something was erased: what is shown of it goes
    applyChange(change);
    if (change.operation === 'added') countSoon();
    draw();
  });
  source.addEventListener('live', event => {
    S.cursor = event.lastEventId;
    if (S.awaySince) S.caughtUntil = now() + 10000;
    Object.assign(S, { mode: 'live', awaySince: null });
    pause = 500;
    draw();
  });
  source.addEventListener('resync', start);
  source.addEventListener('failed', lost);
  source.onerror = lost;
}

function lost() {
  source?.close();
  S.mode = 'away';
  S.awaySince ??= now();
  draw();
  setTimeout(resume, pause);
  pause = Math.min(pause * 2, 8000);
}

async function resume() {
  try {
    await get(`/changes?limit=1&after=${enc(S.cursor)}`);
  } catch (error) {
    if (error.status === 410) { start(); } else { lost(); }
    return;
  }
  Object.assign(S, { mode: 'behind', behind: 0 });
  draw();
  listen();
}

function applyChange({ account, kind, record }) {
  S.dirty.add(account); // its list of threads is asked again in a moment: the store alone knows what is last in each
  const [of, id] = { content: ['content', record.id], comment: ['content', record.content_id],
    conversation: ['conversation', record.id], direct_message: ['conversation', record.conversation_id] }[kind] || [];
  const open = S.open;
  if (!open || open.key !== keyOf({ account, kind: of, id })) return;
  if (kind === of) {
    open.head = record;
  } else {
    if (!open.rows.has(record.id)) open.fresh.add(record.id);
    open.rows.set(record.id, record);
  }
}

// ---- drawing: at most once a frame, only what differs

let drawing = false;
function draw() {
  if (drawing) return;
  drawing = true;
  // A frame in a hidden tab may never come.
  (document.hidden ? setTimeout : requestAnimationFrame)(() => {
    drawing = false;
    const at = route();
    document.documentElement.dataset.view = at.thread ? 'thread' : 'list';
    drawHead();
    drawAccounts(at);
    drawThreads(at);
    drawOpen();
    drawTimes();
  });
}

/** The one sentence that is true. */
function sentence() {
  const status = S.status;
  if (S.silentSince) return T.noMaster(T.for(lasted(S.silentSince, now())));
  if (!status) return T.loading;
  const { broker, capture, sync, workers } = status;
  const last = T.last(sync.last_received && ago(sync.last_received, now()));
  if (!broker.connected) return T.noBroker(broker.since ? T.for(lasted(broker.since, now())) : '', last);
  if (workers.online === 0) return T.noWorker(last);
  if (workers.online === null) return (status.problems.some(p => p.code === 'workers_unknown') ? T.untold : T.waiting)(last);
  if (!capture.accounts) return T.noAccount;
  if (capture.paused === capture.accounts) return T.allPaused(capture.paused, last);
  const all = capture.accounts - capture.paused, end = capture.paused ? T.andPaused(last, capture.paused) : last;
  const ill = capture.unwell + capture.unassigned;
  if (!ill && !capture.starting && !capture.unknown) return T.allWell(all, end);
  if (!ill) return T.starting(capture.capturing, all, capture.starting, capture.unknown, end);
  const named = status.problems.filter(p => p.account && (['account_unwell', 'account_unassigned'].includes(p.code)
    || (p.code === 'account_unconfigured' && p.state === 'unassigned'))).slice(0, NAMED_MAX).map(p => `${p.account} ${
    p.code === 'account_unconfigured' ? T.unconfigured : T.states[p.state || 'unknown']}${p.since ? T.for(lasted(p.since, now())) : ''}${p.detail ? T.paren(p.detail.length > 80 ? `${p.detail.slice(0, 79)}…` : p.detail) : ''}`);
  if (ill > named.length) named.push(T.moreIll(ill - named.length));
  return T.ill(ill, all, named.join(T.list), end);
}

function drawHead() {
  const set = (node, text) => { if (node.textContent !== text) node.textContent = text; };
  set($('sentence'), sentence());
  const caught = S.behind > 0 && now() < S.caughtUntil;
  set($('live'), { connecting: () => T.connecting, behind: () => T.behind(S.behind), away: () => T.away(clock(S.awaySince)),
    live: () => (caught ? T.caught(S.behind) : T.live) }[S.mode]());
  $('live').className = S.mode;
  const problems = S.silentSince ? [] : S.status?.problems || [];
  $('problems').hidden = !problems.length;
  set($('problems').firstElementChild, T.problems(problems.length));
  reconcile($('problem-list'), problems.map(problem => {
    const [text, remedy] = T.problem(problem);
    const rest = `${problem.since ? T.paren(T.since(exact(problem.since))) : ''} ${remedy}`;
    const out = problem.state === 'logged_out' && problem.code === 'account_unwell';
    return { key: text, sig: rest, make: () => el('li', {}, el('b', { text: `⚠ ${text}` }), `${rest} `, out && login(problem.account)) };
  }));
}

/** A button to log an account in from here; a replica changes nothing. */
const login = account => !S.status?.replica && loginButton(account, refresh);

function drawAccounts({ account }) {
  const entry = (id, name, count, glyph, state, title, ill, out) => ({
    key: id || 'all', sig: [name, count, glyph, state, title, location.hash].join('\n'),
    make: () => el('div', {}, el('a', { href: href({ account: id || null, thread: null }), title, 'aria-current': id === (account || '') },
      span(ill && 'ill', glyph), span('cut', name),
      el('span', { class: 'count', title: T.kept(count), text: count, role: 'img', 'aria-label': T.kept(count) }), span(`state ${ill ? 'ill' : ''}`, state)),
    out && login(id)),
  });
  const counted = a => a.records.comments + a.records.direct_messages;
  const total = S.accounts.reduce((sum, a) => sum + counted(a), 0);
  reconcile($('accounts'), [
    entry('', T.all, total, '◎', T.accounts(S.accounts.length), '', false),
    ...S.accounts.map(a => {
      const state = a.state || 'unknown';
      const ill = !['capturing', 'starting', 'paused', 'removed', 'erasing', 'unknown'].includes(state);
      const word = !a.configured && state === 'unassigned' ? T.unconfigured : T.states[state] || state;
      const title = [word, a.reason, !a.configured && word !== T.unconfigured && T.unconfigured, a.since && T.since(exact(a.since)),
        a.host && T.worker(`${a.host} ${a.worker}`)].filter(Boolean).join('\n');
      const glyph = ill ? '▲' : state !== 'capturing' ? '◌' : '●';
      return entry(a.account, a.account, counted(a), glyph, word, title, ill, state === 'logged_out');
    }),
  ]);
}

function drawThreads(at) {
  reconcile(document.querySelector('.filters'), [[null, T.both], ['comments', T.comments], ['messages', T.messages]].map(([show, text]) => ({
    key: text, sig: location.hash, make: () => el('a', { text, href: href({ show }), 'aria-current': at.show === show }) })));
  const accounts = new Set(inView());
  // Of accounts that have more, only what is newer than the oldest loaded: what is missing belongs in between.
  const tails = [...accounts].map(account => S.tails.get(account)).filter(tail => tail?.next);
  const frontier = Math.max(-Infinity, ...tails.map(tail => tail.oldest));
  const rows = [...S.threads.values()].filter(t => accounts.has(t.account) && (t.count || t.last_text || t.kind === 'conversation')
    && (!at.show || (t.kind === 'content') === (at.show === 'comments')) && (t.last_at ?? -Infinity) >= frontier);
  rows.sort((a, b) => (b.last_at ?? -Infinity) - (a.last_at ?? -Infinity) || (keyOf(a) < keyOf(b) ? -1 : 1));
  const box = $('thread-scroll');
  keepPlace(box, $('thread-list'), box.scrollTop > 8, () => reconcile($('thread-list'), rows.map(t => threadEntry(t, at))));
  const newest = rows[0]?.last_at ?? -Infinity;
  if (box.scrollTop <= 8) S.seenTop = newest;
  const above = rows.filter(t => t.last_at > (S.seenTop ?? newest)).length;
  $('threads-pill').hidden = !above;
  $('threads-pill').textContent = T.fresh(above);
  const out = S.accounts.find(a => a.account === at.account && a.state === 'logged_out');
  const note = out && T.loggedOut(out.since && exact(out.since), out.reason);
  $('threads-note').hidden = !out;
  reconcile($('threads-note'), out ? [{ key: out.account, sig: note, make: () => el('div', {}, span('words', `${note} `), login(out.account)) }] : []);
  const [empty, more] = [box.querySelector('.empty'), box.querySelector('.more')];
  empty.hidden = rows.length > 0 && !S.error;
  const loading = !S.status || [...accounts].some(account => !S.tails.has(account));
  empty.textContent = S.error ? T.failed(S.error) : loading ? T.loading : out ? T.noRows : T.noThreads;
  more.hidden = !tails.length && !S.error;
  more.textContent = S.error ? T.retry : T.older;
  more.onclick = async () => {
    if (S.error) return loadView();
    const oldest = [...accounts].filter(account => S.tails.get(account)?.next && S.tails.get(account).oldest === frontier);
    await Promise.all(oldest.map(account => loadThreads(account, true))).catch(error => { S.error = error.message; });
    draw();
  };
}

function threadEntry(t, at) {
  const current = at.thread && keyOf(at.thread) === keyOf(t);
  const when = dated(t.last_at);
  const label = [t.kind === 'content' ? T.comments : T.messages, t.count].filter(Boolean).join(' · ');
  const line = [t.last_author, t.last_text].filter(Boolean).join(LANG === 'zh' ? '：' : ': ');
  return { key: keyOf(t), sig: [t.title, line, when, t.count, location.hash].join('\n'), make: () => el('li', {},
    el('a', { href: href({ thread: t }), 'aria-current': current },
      el('div', {}, span('title cut words', titleOf(t)), span('dim', at.account ? '' : t.account), when !== null && timeNode(when)),
      el('div', {}, span('cut words', line.slice(0, 200)), span('dim', label)))) };
}

function drawTimes() {
  for (const node of document.querySelectorAll('time[data-at]')) {
    const text = ago(Number(node.dataset.at), now());
    if (node.textContent !== text) node.textContent = text;
  }
}

// ---- the open thread

function drawOpen() {
  const open = S.open;
  const box = $('message-scroll');
  const [empty, more] = [box.querySelector('.empty'), box.querySelector('.more')];
  if (!open) {
    reconcile($('thread-head'), []);
    reconcile($('messages'), []);
    [empty.textContent, empty.hidden, more.hidden, $('messages-pill').hidden] = [T.choose, false, true, true];
    return;
  }
  const row = S.threads.get(open.key);
  const head = open.head || {};
  const facts = [open.account, open.kind === 'content' ? T.comments : T.messages,
    Number.isFinite(head.view_count) && T.views(head.view_count.toLocaleString()),
    Number.isFinite(head.like_count) && T.likes(head.like_count.toLocaleString()),
    ...Object.entries(head.metrics || {}).slice(0, 8).map(([name, figure]) => `${name} ${figure}`), head.deleted && T.removed];
  const title = titleOf({ ...open, title: head.title || head.name || row?.title });
  const line = facts.filter(Boolean).join(' · ');
  reconcile($('thread-head'), [{ key: open.key, sig: [title, line, head.url, location.hash].join('\n'), make: () => el('div', {},
    el('a', { id: 'back', href: href({ thread: null }), text: T.back }), el('h2', { class: 'words', dir: 'auto', text: title }),
    el('p', { class: 'dim' }, `${line} `, outside(head.url, T.open))) }]);
  const stick = !open.placed || box.scrollHeight - box.scrollTop - box.clientHeight < 40;
  $('messages').setAttribute('aria-busy', String(open.loading));
  keepPlace(box, $('messages'), !stick, () => reconcile($('messages'), entries(open)));
  if (stick) box.scrollTop = box.scrollHeight;
  open.placed = !open.loading;
  empty.hidden = !open.error && open.rows.size > 0;
  empty.textContent = open.error ? T.failed(open.error) : open.loading ? T.loading : T.noRows;
  more.hidden = !open.next;
  more.textContent = T.older;
  more.onclick = () => loadRows(open).catch(error => { open.error = error.message; }).then(draw);
  seeFresh();
}

/** What came live and is in sight is not new any more; what is not is counted on the pill. */
function seeFresh() {
  const open = S.open;
  const box = $('message-scroll').getBoundingClientRect();
  for (const id of open?.fresh || []) {
    const node = $('messages').entries?.get(id)?.node.getBoundingClientRect();
    if (!node || (node.top < box.bottom && node.bottom > box.top)) open.fresh.delete(id);
  }
  $('messages-pill').hidden = !open?.fresh.size;
  $('messages-pill').textContent = T.fresh(open?.fresh.size || 0);
}

// ---- what people do

/** Brings what is loaded in line with the address. */
async function follow(anew) {
  const { thread } = route();
  if (!thread) { S.open = null; } else if (anew || S.open?.key !== keyOf(thread)) { await openThread(thread); }
  draw();
}

window.addEventListener('hashchange', () => {
  S.seenTop = null;
  follow(false);
  loadView();
});
$('message-scroll').addEventListener('scroll', seeFresh, { passive: true });
$('thread-scroll').addEventListener('scroll', () => $('thread-scroll').scrollTop <= 8 && draw(), { passive: true });
$('messages-pill').onclick = () => {
  const [first] = S.open?.fresh || [];
  $('messages').entries?.get(first)?.node.scrollIntoView({ block: 'center' });
};
$('threads-pill').onclick = () => { $('thread-scroll').scrollTop = 0; };
document.addEventListener('keydown', event => {
  const step = { j: 1, k: -1 }[event.key];
  if (!step || event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.('dialog')) return;
  const links = [...$('thread-list').querySelectorAll('a')];
  const here = links.findIndex(link => link === document.activeElement || link.ariaCurrent);
  links[Math.max(0, Math.min(links.length - 1, here + step))]?.focus();
});

document.documentElement.lang = LANG === 'zh' ? 'zh-CN' : 'en';
$('language').textContent = T.other;
$('language').lang = T.otherCode;
$('language').onclick = () => { location.href = `?lang=${T.otherCode}${location.hash}`; };
setInterval(refresh, 5000);
setInterval(draw, 1000);
setInterval(() => {
  const accounts = [...S.dirty].filter(account => S.tails.has(account)).slice(0, 4);
  for (const account of accounts) S.dirty.delete(account);
  if (accounts.length) Promise.all(accounts.map(account => loadThreads(account))).then(draw, () => {});
}, 400);
start();
