// The creator page: opens the push channels, fetches the first page of every list, pages on when its one scrolling
// element nears its end, and fetches what it shows again every few seconds. It asks the platform alone.
"use strict";

const NEAR_END_PX = 400;
const AT_ONCE_MAX = 4;
const RECONNECT_MS = 1000;
const $ = (id) => document.getElementById(id);
const feed = $("feed");
const pollMs = Number(document.body.dataset.pollS) * 1000;
const lists = [];
let leaving = false;

// What names this device for ever and this tab until it is closed, as platforms have it: a session that goes on shows
// the same names.
function named(storage) {
  if (!storage.getItem("demo_name")) storage.setItem("demo_name", Math.random().toString(36).slice(2));
  return storage.getItem("demo_name");
}
const names = { "x-demo-device": named(localStorage), "x-demo-tab": named(sessionStorage) };

function say(text) { $("state").textContent = text; }

function leave() {
  // The session is over: the same URL now shows the login form.
  if (leaving) return;
  leaving = true;
  say("登录已过期");
  setTimeout(() => location.reload(), 300);
}

async function ask(path, params) {
  const response = await fetch(`${path}?${new URLSearchParams(params)}`, { headers: names });
  const body = await response.json();
  if (body.status_code === 8) leave();
  if (body.status_code !== 0) throw new Error(`${path}: ${body.status_code} ${body.status_msg}`);
  return body;
}

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function clock(ms) { return new Date(ms).toLocaleString("zh-CN", { hour12: false }); }

// One list of the platform: where it comes from, how far it is loaded, and its rows, the newest first.
class List {
  constructor({ path, params, read, place, count }) {
    Object.assign(this, { path, params, read, place, count, cursor: "0", started: false, more: true, rows: new Map() });
    this.end = null;
    lists.push(this);
  }
  async fetchPage(cursor) {
    const body = await ask(this.path, { ...this.params, cursor, count: this.count });
    const { rows, cursor: next, more } = this.read(body);
    for (const row of rows) this.show(row);
    return { next, more: Boolean(more) };
  }
  async page() {
    const { next, more } = await this.fetchPage(this.cursor);
    this.started = true;
    this.cursor = next;
    this.setMore(more);
  }
  // Fetches again all that is loaded. Cursors fall from page to page and compare as text.
  async refresh() {
    let cursor = "0", more = true;
    do {
      ({ next: cursor, more } = await this.fetchPage(cursor));
    } while (more && cursor > this.cursor);
    if (!more || cursor < this.cursor) { this.cursor = cursor; this.setMore(more); }
  }
  setMore(more) {
    this.more = more;
    this.end?.remove();
    this.end = null;
    if (!more) { this.end = element("div", "list-end", "— 没有更多了 —"); this.place.append(this.end); }
  }
  show({ key, order, who, when, text, notes, self, gone, below }) {
    let shown = this.rows.get(key);
    if (!shown) {
      const node = element("div", "row");
      const head = element("div", "head");
      shown = { node, who: element("span"), when: element("time"), text: element("div", "text"), notes: element("div", "note"), order: "" };
      head.append(shown.who, shown.when);
      node.append(head, shown.text, shown.notes);
      this.rows.set(key, shown);
    }
    shown.who.textContent = who;
    shown.when.textContent = when ? clock(when) : "";
    shown.text.textContent = text;
    shown.notes.textContent = notes || "";
    shown.node.classList.toggle("self", Boolean(self));
    shown.node.classList.toggle("gone", Boolean(gone));
    if (shown.order !== order) {
      shown.order = order;
      shown.node.dataset.order = order;
      const after = [...this.place.children].find((child) => child !== shown.node && (child.dataset.order || "") < order);
      this.place.insertBefore(shown.node, after || null);
    }
    if (below) below(shown.node);
  }
}

// What the platform's bodies mean to this page.
const asWork = (work) => ({
  key: work.item_id_str, order: work.item_id_str, who: work.author.nickname, when: work.publish_time * 1000,
  text: work.desc.item_title, gone: work.status.is_delete,
  notes: `播放 ${work.metrics.view_count} · 赞 ${work.statistics.digg_count} · 评论 ${work.statistics.comment_count}`,
  below: () => commentsBelow(work),
});
const asComment = (comment) => ({
  key: comment.cid, order: comment.cid, who: comment.user.nickname, when: comment.create_time * 1000, text: comment.text,
  self: comment.is_author, gone: comment.status === 0,
  notes: `赞 ${comment.digg_count} · 回复 ${comment.reply_comment_total}${comment.modify_time ? " · 已编辑" : ""}`,
  below: comment.reply_comment_total > 0 ? (node) => repliesBelow(comment, node) : null,
});
const asConversation = (talk) => ({
  key: talk.conversation_id, order: `${talk.last_message?.create_time ?? 0}.${talk.conversation_id}`,
  who: (talk.group_info ? talk.group_info.group_name : talk.participant.nickname) + (talk.badge_count ? ` (${talk.badge_count})` : ""),
  when: talk.last_message?.create_time, text: talk.last_message?.digest ?? "", gone: talk.is_deleted,
  below: (node) => messagesBelow(talk, node),
});
const asMessage = (message) => {
  const content = JSON.parse(message.content);
  return {
    key: message.client_message_id, order: `${message.create_time}.${message.client_message_id}`, who: message.sender.nickname,
    when: message.create_time, text: content.text ?? content.product?.title ?? "[图片]", self: message.from_self === 1,
    gone: message.is_recalled, notes: message.is_recalled ? "已撤回" : message.edit_time ? "已编辑" : "",
  };
};
const asNotice = (notice) => ({
  key: `${notice.create_at}${notice.content}`, order: notice.create_at, who: notice.from_user?.nickname ?? "系统",
  when: Date.parse(notice.create_at), text: notice.content,
});

const threads = new Map();

function commentList(id, path, params, place) {
  if (threads.has(id)) return;
  threads.set(id, new List({
    path, params, place, count: params.comment_id ? 5 : 10,
    read: (body) => ({ rows: body.comments.map(asComment), cursor: body.cursor, more: body.has_more }),
  }));
}

function commentsBelow(work) {
  if (threads.has(work.item_id_str)) return;
  const place = element("div", "row");
  place.dataset.order = work.item_id_str;
  place.append(element("div", "note", work.desc.item_title));
  const after = [...$("comments").children].find((child) => child.dataset.order < work.item_id_str);
  $("comments").insertBefore(place, after || null);
  const rows = element("div");
  place.append(rows);
  commentList(work.item_id_str, "/api/v1/comment/list/", { item_id: work.item_id_str }, rows);
}

function repliesBelow(comment, node) {
  if (threads.has(comment.cid)) return;
  const rows = element("div");
  node.append(rows);
  commentList(comment.cid, "/api/v1/comment/list/reply/", { comment_id: comment.cid }, rows);
}

function messagesBelow(talk, node) {
  if (threads.has(talk.conversation_id)) return;
  const rows = element("div");
  node.append(rows);
  threads.set(talk.conversation_id, new List({
    path: "/api/v1/im/message/list/", params: { conversation_id: talk.conversation_id }, place: rows, count: 20,
    read: (body) => ({ rows: body.data.messages.map(asMessage), cursor: body.data.next_cursor, more: body.data.has_more }),
  }));
}

const works = new List({
  path: "/api/v1/creator/item/list/", params: {}, place: $("works"), count: 8,
  read: (body) => ({ rows: body.item_list.map(asWork), cursor: body.cursor, more: body.has_more }),
});
const conversations = new List({
  path: "/api/v1/im/conversation/list/", params: {}, place: $("conversations"), count: 10,
  read: (body) => ({ rows: body.data.conversations.map(asConversation), cursor: body.data.next_cursor, more: body.data.has_more }),
});
new List({
  path: "/api/v1/notice/list/", params: {}, place: $("notices"), count: 10,
  read: (body) => ({ rows: body.notice_list.map(asNotice), cursor: body.max_cursor, more: body.has_more }),
});

// A few lists at once: the connections to one host are few, and one of them is the push channel's.
async function each(chosen, act) {
  const waiting = [...chosen];
  const failed = [];
  await Promise.all(Array.from({ length: AT_ONCE_MAX }, async () => {
    for (let list = waiting.shift(); list; list = waiting.shift()) await act(list).catch((error) => failed.push(error));
  }));
  if (failed.length) throw failed[0];
}

// Lists come up while others load: a work brings its comments, a comment its replies.
async function settle() {
  for (let fresh = unstarted(); fresh.length; fresh = unstarted()) await each(fresh, (list) => list.page());
}
function unstarted() { return lists.filter((list) => !list.started); }

// One thing at a time, and no step waits twice.
let queue = Promise.resolve();
const queued = new Set();
function enqueue(name, step) {
  if (queued.has(name) || leaving) return queue;
  queued.add(name);
  queue = queue.then(async () => {
    queued.delete(name);
    let went = true;
    try {
      await step();
      await settle();
      say(`在线 · ${clock(Date.now())}`);
      document.body.dataset.ready = "1";
    } catch (error) {
      went = false;
      say(`加载失败，稍后重试：${error.message}`);
    }
    markEnd(went);
  });
  return queue;
}

// After a failure the next poll or scroll tries again, not this.
function markEnd(went) {
  const done = lists.every((list) => list.started && !list.more);
  feed.querySelector(":scope > .end")?.remove();
  if (done) feed.append(element("div", "end", "全部加载完毕"));
  else if (went && nearEnd()) advance();
}
function nearEnd() { return feed.scrollTop + feed.clientHeight > feed.scrollHeight - NEAR_END_PX; }
function advance() { return enqueue("advance", () => each(lists.filter((list) => list.started && list.more), (list) => list.page())); }
function refresh() { return enqueue("refresh", () => each(lists.filter((list) => list.started), (list) => list.refresh())); }

function openEvents(onOpenAgain) {
  return new Promise((opened) => {
    const events = new EventSource("/api/push");
    let before = false;
    events.addEventListener("open", () => { if (before) onOpenAgain(); before = true; opened(); });
    events.addEventListener("error", () => {
      // Refused for good: the next fetch tells whether the session is over.
      if (events.readyState === EventSource.CLOSED) { opened(); refresh(); setTimeout(() => openEvents(onOpenAgain).then(onOpenAgain), RECONNECT_MS); }
    });
    const onMessage = (event) => {
      const { message, conversation } = JSON.parse(event.data);
      if (conversation) conversations.show(asConversation(conversation));
      const thread = threads.get(message.conversation_id);
      if (thread) thread.show(asMessage(message));
      else enqueue("conversations", () => conversations.refresh());
      settleSoon();
    };
    events.addEventListener("im_message", onMessage);
    events.addEventListener("im_update", onMessage);
    events.addEventListener("notice", (event) => lists.find((list) => list.place === $("notices")).show(asNotice(JSON.parse(event.data).notice)));
  });
}

function openSocket(onOpenAgain, before = false) {
  return new Promise((opened) => {
    const socket = new WebSocket(`${location.origin.replace(/^http/, "ws")}/api/comment/ws`);
    const ping = setInterval(() => socket.readyState === WebSocket.OPEN && socket.send('{"type":"ping"}'), 15000);
    socket.addEventListener("open", () => { if (before) onOpenAgain(); opened(); });
    socket.addEventListener("message", (event) => {
      const { comment } = JSON.parse(event.data);
      if (!comment) return;
      // The frame's work id is a bare integer that a page cannot hold exactly: an id that is known shows the place.
      const above = comment.reply_id !== "0" ? comment.reply_id : [...works.rows.keys()].find((id) => Number(id) === comment.item_id);
      const thread = threads.get(above);
      if (thread) thread.show(asComment(comment));
      settleSoon();
    });
    socket.addEventListener("close", () => {
      clearInterval(ping);
      opened();
      if (!leaving) setTimeout(() => openSocket(onOpenAgain, true), RECONNECT_MS);
    });
  });
}
function settleSoon() { if (unstarted().length) enqueue("settle", async () => {}); }

async function start() {
  if (navigator.serviceWorker) {
    await navigator.serviceWorker.register("/creator/sw.js");
    await navigator.serviceWorker.ready;
  }
  await Promise.all([openEvents(refresh), openSocket(refresh)]);
  await enqueue("start", async () => {});
  setInterval(refresh, pollMs);
}
feed.addEventListener("scroll", () => { if (nearEnd()) advance(); });
start().catch((error) => say(`启动失败：${error.message}`));
