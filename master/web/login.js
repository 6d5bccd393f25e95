// Logging an account in by hand from afar: a dialog with the live picture of its login page, which takes clicks, text
// and keys. What is typed and pictured is kept nowhere: the field is emptied, the pictures are revoked.

import { T, clock, exact } from './words.js';
import { el } from './dom.js';

const LOOK_EVERY_MS = 1000; // from an answer to the next look
const LOOK_AGAIN_MS = 5000; // from a look that failed to the next one
const ANSWER_MS = 20000; // the master gives up after 15 s
const CLOSE_MS = 2000; // from having logged in to the dialog's end
const INPUTS_MAX = 16; // clicks, texts and keys that wait for the one before them
const TEXT_BYTES_MAX = 1024;
const PICTURES = ['image/png', 'image/jpeg'];

let open = null; // what the dialog is about; null while it is closed

/** A button that opens the dialog; `done` is called when it is over. */
export const loginButton = (account, done) => el('button', { class: 'login', type: 'button', 'data-login': account,
  'aria-haspopup': 'dialog', 'aria-label': T.loginOf(account), text: T.login, onclick: () => show(account, done) });

const parts = {};
const $ = id => parts[id] ??= document.getElementById(`login-${id}`);

function build() {
  const id = name => `login-${name}`;
  const tab = part => el('button', { id: id(`tab-${part}`), type: 'button', role: 'tab', 'aria-controls': id('view'),
    text: T.loginParts[part], onclick: () => choose(part), onkeydown: event => {
      if (!['ArrowLeft', 'ArrowRight'].includes(event.key)) return;
      choose(part === 'code' ? 'page' : 'code');
      $(`tab-${open.chosen}`).focus();
    } });
  const key = name => el('button', { type: 'button', 'data-key': name, text: T.loginKeys[name], onclick: () => send({ key: name }) });
  const picture = el('img', { id: id('picture'), alt: '', hidden: '', draggable: 'false', onload: forget, onerror: forget, onclick: click });
  document.body.append(el('dialog', { id: 'login-dialog', 'aria-labelledby': id('title'), 'aria-describedby': id('stands'), onclose: closed },
    el('div', { class: 'login-head' }, el('h2', { id: id('title') }),
      el('button', { id: id('close'), type: 'button', text: T.loginClose, onclick: () => $('dialog').close() })),
    el('p', { id: id('stands'), role: 'status' }),
    el('p', { id: id('pending'), class: 'dim' }),
    el('p', { id: id('error'), role: 'alert', hidden: '' }),
    el('div', { id: id('tabs'), role: 'tablist', 'aria-label': T.loginPicture, hidden: '' }, tab('code'), tab('page')),
    el('div', { id: id('view'), role: 'tabpanel', 'aria-label': T.loginPicture }, picture, el('p', { id: id('hint'), class: 'dim' })),
    el('form', { id: id('form'), onsubmit: typed },
      el('label', { for: id('text'), text: T.loginText }),
      el('div', {}, el('input', { id: id('text'), type: 'text', autocomplete: 'off', autocapitalize: 'off', spellcheck: 'false',
        enterkeyhint: 'send', 'aria-describedby': id('text-hint'), autofocus: '',
        onkeydown: event => {
          if (event.key !== 'Enter' || event.isComposing) return; // Enter that ends a word of an input method types it
          event.preventDefault();
          type();
          send({ key: 'enter' });
        } }),
      el('button', { id: id('send'), type: 'submit', text: T.loginType }),
      ...['enter', 'tab', 'backspace', 'escape'].map(key)),
      el('p', { id: id('text-hint'), class: 'dim', text: T.loginEnter }))));
}

function show(account, done) {
  if (!document.getElementById('login-dialog')) build();
  open = { account, done, chosen: null, scene: null, timer: null, nextAt: 0, looking: false, turn: 0, inputs: 0,
    sending: Promise.resolve(), lookError: null, inputError: null, urls: [], base64: null };
  $('title').textContent = T.loginOf(account);
  draw();
  $('dialog').showModal();
  look();
}

/** Asks the master about the account's login; the answer is the scene. */
async function ask(method, { query = '', input, keepalive } = {}) {
  const answer = await fetch(`/api/v1/accounts/${encodeURIComponent(open.account)}/login${query}`, {
    method, keepalive, cache: 'no-store', body: input && JSON.stringify(input),
    headers: input ? { 'content-type': 'application/json' } : {},
    signal: AbortSignal.timeout(ANSWER_MS),
  });
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(body.detail || `HTTP ${answer.status}`);
  return body;
}

const why = error => (error.name === 'TimeoutError' ? T.loginSlow : error.message);

/** One look at a time; the next begins a while after its answer. Nobody looks while something is typed, or unseen. */
async function look() {
  const now = open;
  if (!now || now.looking || now.inputs || document.hidden || now.scene?.logged_in) return;
  clearTimeout(now.timer);
  now.looking = true;
  const { turn } = now;
  let pause = LOOK_EVERY_MS;
  try {
    const scene = await ask('GET', { query: `?part=${now.chosen ?? 'code'}` });
    if (turn === now.turn) Object.assign(now, { scene, lookError: null });
  } catch (error) {
    if (turn === now.turn) [now.lookError, pause] = [why(error), LOOK_AGAIN_MS];
  }
  now.looking = false;
  // What was seen before something else was asked for is out of date.
  again(now, turn === now.turn ? pause : 0);
}

function again(now, pause) {
  if (now !== open) return;
  draw();
  now.nextAt = performance.now() + pause;
  wait();
}

function wait() {
  clearTimeout(open.timer);
  open.timer = setTimeout(look, Math.max(0, open.nextAt - performance.now()));
}

/** Sends what a person does, each after the one before it. */
function send(input) {
  const now = open;
  if (!now || now.inputs >= INPUTS_MAX || now.scene?.logged_in) return;
  if (!input.click) now.chosen = 'page'; // who types wants to see what comes of it
  now.inputs += 1;
  now.inputError = null;
  now.turn += 1;
  now.sending = now.sending.then(async () => {
    try {
      if (now !== open) return;
      const scene = await ask('POST', { input });
      Object.assign(now, { scene, lookError: null });
    } catch (error) {
      now.inputError = why(error);
    }
    now.inputs -= 1;
    again(now, LOOK_EVERY_MS);
  });
  draw();
}

function type() {
  const field = $('text');
  if (!field.value) return;
  if (new TextEncoder().encode(field.value).length > TEXT_BYTES_MAX) {
    open.inputError = T.loginLong;
    return draw();
  }
  send({ text: field.value });
  field.value = '';
}

function typed(event) {
  event.preventDefault();
  type();
  $('text').focus();
}

function choose(part) {
  open.chosen = part;
  open.turn += 1;
  draw();
  look(); // or as soon as the one that is under way has been answered
}

const isCode = scene => Boolean(scene?.has_code && scene.picture?.part === 'code');

/** A click in the picture, in the picture's own pixels. */
function click(event) {
  const picture = open?.scene?.picture;
  const box = $('picture').getBoundingClientRect();
  if (!picture || isCode(open.scene) || !box.width || !box.height) return;
  const at = (from, size, pixels) => Math.max(0, Math.min(pixels - 1, Math.floor((from / size) * pixels)));
  open.chosen = 'page';
  send({ click: { x: at(event.clientX - box.left, box.width, picture.width), y: at(event.clientY - box.top, box.height, picture.height) } });
}

function draw() {
  const { scene, lookError, inputError, chosen } = open;
  const set = (node, text) => { if (node.textContent !== text) node.textContent = text; node.hidden = !text; };
  set($('stands'), stands(scene));
  set($('pending'), scene?.pending_until && !scene.logged_in ? T.loginPending(clock(scene.pending_until)) : '');
  const error = inputError || lookError;
  set($('error'), error ? T.loginFailed(error) : '');
  const code = chosen ? chosen === 'code' : isCode(scene);
  $('tabs').hidden = !scene?.has_code;
  for (const part of ['code', 'page']) {
    const selected = code === (part === 'code');
    $(`tab-${part}`).setAttribute('aria-selected', selected);
    $(`tab-${part}`).tabIndex = selected ? 0 : -1;
  }
  $('dialog').classList.toggle('stale', Boolean(lookError));
  $('dialog').setAttribute('aria-busy', String(open.inputs > 0));
  picture(scene);
  set($('hint'), !scene?.picture ? '' : isCode(scene) ? T.loginScan : T.loginClick);
  if (scene?.logged_in && !open.over) {
    open.over = true;
    const now = open;
    setTimeout(() => now === open && $('dialog').close(), CLOSE_MS);
    open.done();
  }
}

/** What stands, in a line. */
function stands(scene) {
  if (!scene) return open.lookError ? '' : T.loginAsked;
  return scene.logged_in ? T.loginDone(open.account) : T.loginOut(scene.since && exact(scene.since), scene.reason);
}

function picture(scene) {
  const shown = scene?.picture;
  const image = $('picture');
  const usable = shown && !scene.logged_in && PICTURES.includes(shown.media_type);
  image.hidden = !usable;
  if (!usable || shown.base64 === open.base64) return;
  let bytes;
  try { bytes = Uint8Array.from(atob(shown.base64), char => char.charCodeAt(0)); } catch { return; }
  open.base64 = shown.base64;
  const url = URL.createObjectURL(new Blob([bytes], { type: shown.media_type }));
  open.urls.push(url);
  // Before it is loaded, so that nothing moves when it is.
  [image.width, image.height, image.alt, image.src] = [shown.width, shown.height,
    isCode(scene) ? T.loginCodeAlt : T.loginPageAlt(scene.page), url];
  image.className = isCode(scene) ? 'code' : '';
}

/** Revokes the pictures before the one that is shown. */
function forget() {
  const urls = open?.urls ?? [];
  for (const url of urls.filter(url => url !== $('picture').src)) URL.revokeObjectURL(url);
  if (open) open.urls = urls.filter(url => url === $('picture').src);
}

function end() {
  if (!open.scene?.logged_in) ask('DELETE', { keepalive: true }).catch(() => {}); // else it ends by itself in minutes
}

function closed() {
  end();
  clearTimeout(open.timer);
  for (const url of open.urls) URL.revokeObjectURL(url);
  $('picture').removeAttribute('src');
  $('text').value = '';
  const { done } = open;
  open = null;
  done();
}

document.addEventListener('visibilitychange', () => {
  if (!open) return;
  if (document.hidden) clearTimeout(open.timer); else wait();
});
window.addEventListener('pagehide', () => { if (open) end(); });
