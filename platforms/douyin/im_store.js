// The main site's own store of messages: what was just pushed (a buffer that is emptied within a second), the list of
// conversations with each newest message, and the people in it. Reads only, and takes fields by name. Of
// __internal_ctx, which also holds tokens, the owner's own uid is read and nothing else.
// Tells anew only what changed, and everything once a minute.
() => {
  const ELEMENTS_MAX = 20000, CLIMB_MAX = 80, HOOKS_MAX = 40, PROPS_MAX = 60, ROWS_MAX = 200, TEXT_MAX = 4096;
  const SEARCH_PAUSE_MS = 2000, STORE_FRESH_MS = 30000, TELL_AGAIN_MS = 60000;
  const SECRET = /token|cookie|ticket|secret|session|passport|csrf|skey|sign|device|webid|fingerprint|__internal/i;
  const SECRET_KEY = /"[^"]*(token|cookie|ticket|secret|session|passport|csrf|skey|sign|device|webid|fingerprint|__internal)[^"]*"\s*:/i;
  const kept = (window.__snapfleet_douyin_im ??= { store: null, foundAt: 0, soughtAt: 0, told: '', toldAt: 0 });
  const now = Date.now();

  const has = (value, ...keys) => {
    try { return value !== null && typeof value === 'object' && keys.every((key) => key in value); } catch { return false; }
  };
  const read = (value, key) => { try { return value[key]; } catch { return undefined; } };
  const isStore = (value) => has(value, 'converSationListOrigin') || has(value, 'msgListToPush');

  // What one node of the component tree was given or holds: props, a context's value, hooks, contexts it reads.
  const held = function* (fiber) {
    yield fiber.memoizedProps;
    for (let hook = fiber.memoizedState, n = 0; has(hook, 'memoizedState') && n < HOOKS_MAX; hook = hook.next, n++) {
      yield Array.isArray(hook.memoizedState) ? hook.memoizedState[0] : hook.memoizedState;
    }
    for (let read = fiber.dependencies?.firstContext, n = 0; read && n < HOOKS_MAX; read = read.next, n++) yield read.memoizedValue;
  };
  const storeIn = (value) => {
    if (value === null || typeof value !== 'object' || value instanceof Node) return null;
    if (isStore(value)) return value;
    for (const key of Object.keys(value).slice(0, PROPS_MAX)) {
      const below = key === 'children' ? null : read(value, key);
      if (isStore(below)) return below;
      if (/^(value|store|stores|rootStore|current)$/.test(key) && below !== null && typeof below === 'object') {
        const deeper = read(below, 'imStore');
        if (isStore(deeper)) return deeper;
      }
    }
    return null;
  };
  const seek = () => {
    const seen = new Set();
    const walker = document.createTreeWalker(document.body ?? document, NodeFilter.SHOW_ELEMENT);
    for (let element = walker.currentNode, n = 0; element && n < ELEMENTS_MAX; element = walker.nextNode(), n++) {
      const key = Object.keys(element).find((name) => name.startsWith('__reactFiber$') || name.startsWith('__reactInternalInstance$'));
      for (let fiber = key && element[key], steps = 0; fiber && steps < CLIMB_MAX && !seen.has(fiber); fiber = fiber.return, steps++) {
        seen.add(fiber);
        try {
          for (const value of held(fiber)) {
            const store = storeIn(value);
            if (store) return store;
          }
        } catch { /* a node that cannot be read is passed over */ }
      }
    }
    return null;
  };
  if (!kept.store || now - kept.foundAt > STORE_FRESH_MS) {
    if (now - kept.soughtAt < SEARCH_PAUSE_MS) return null;
    kept.soughtAt = now;
    kept.store = seek();
    kept.foundAt = now;
  }
  const store = kept.store;
  if (!store) return null;

  const list = (value) => (Array.isArray(value) ? value.slice(0, ROWS_MAX) : typeof value?.slice === 'function' ? [...value.slice(0, ROWS_MAX)] : []);
  const entry = (map, key) => (typeof map?.get === 'function' ? map.get(key) : map?.[key]);
  const text = (value) => (typeof value === 'string' ? value.slice(0, TEXT_MAX) : undefined);
  // Exact or nothing: a number that JavaScript has rounded is no id.
  const id = (value) => {
    if (typeof value === 'string') return value.slice(0, 256);
    if (typeof value === 'bigint' || Number.isSafeInteger(value)) return String(value);
    if (has(value, 'low', 'high')) return ((BigInt(value.high) << 32n) + BigInt(value.low >>> 0)).toString();
    return undefined;
  };
  const number = (value) => (typeof value === 'number' ? value : undefined);
  const time = (value) => {
    if (Object.prototype.toString.call(value) === '[object Date]') return Number.isNaN(value.getTime()) ? undefined : value.toISOString();
    return typeof value === 'number' || typeof value === 'string' ? value : undefined;
  };
  const plain = (value, depth = 0) => {
    if (typeof value === 'string') return inner(value, depth);
    if (value === null || typeof value === 'number' || typeof value === 'boolean') return value;
    if (typeof value !== 'object' || depth > 5) return undefined;
    if (Array.isArray(value)) return value.slice(0, 50).map((each) => plain(each, depth + 1));
    const copy = {};
    for (const key of Object.keys(value).slice(0, PROPS_MAX)) if (!SECRET.test(key)) copy[key] = plain(value[key], depth + 1);
    return copy;
  };
  // JSON in a text can name a secret as well; what only looks like it is what somebody wrote.
  const inner = (value, depth) => {
    if (!SECRET_KEY.test(value)) return value.slice(0, TEXT_MAX);
    try { return JSON.stringify(plain(JSON.parse(value), depth + 1)); } catch { return value.slice(0, TEXT_MAX); }
  };
  const content = (value) => {
    if (typeof value !== 'string') return plain(value);
    if (!SECRET_KEY.test(value)) return value.slice(0, TEXT_MAX);
    try { return JSON.stringify(plain(JSON.parse(value))); } catch { return undefined; }
  };
  const avatar = (value) => ({ url_list: list(value?.url_list ?? value?.urlList).slice(0, 1).map(text) });

  let self, uids = new Set();
  const message = (row) => {
    if (!has(row, 'serverId')) return null;
    self ??= id(row.__internal_ctx?.option?.userId);
    const person = row.sender !== null && typeof row.sender === 'object' && !has(row.sender, 'low');
    const uid = id(person ? row.sender.uid : row.sender);
    if (uid) uids.add(uid);
    return {
      serverId: id(row.serverId), conversationId: id(row.conversationId), conversationType: number(row.conversationType),
      sender: person ? { uid, secUid: text(row.sender.secUid), nickName: text(row.sender.nickName) } : uid,
      secSender: text(row.secSender), secReceiver: text(row.secReceiver),
      isFromMe: typeof row.isFromMe === 'boolean' ? row.isFromMe : undefined, isRecalled: row.isRecalled === true || undefined,
      type: number(row.type), content: content(row.content), createdAt: time(row.createdAt), nickname: text(row.nickname),
      ext: { 's:server_message_create_time': text(row.ext?.['s:server_message_create_time']) },
    };
  };
  const conversation = (row) => {
    if (!has(row, 'id')) return null;
    const participants = list(row.firstPageParticipant?.participants).slice(0, 20);
    const to = id(row.toParticipantUserId);
    if (to) uids.add(to);
    return {
      id: id(row.id), shortId: id(row.shortId), type: number(row.type), _badgeCount: number(row._badgeCount), toParticipantUserId: to,
      updatedAt: time(row.updatedAt), lastMessage: message(row.lastMessage ?? row._lastMessage), coreInfo: { name: text(row.coreInfo?.name) },
      firstPageParticipant: { participants: participants.map((each) => ({ user_id: id(each?.user_id), sec_uid: text(each?.sec_uid) })) },
    };
  };
  const picked = (rows, pick) => list(rows).flatMap((row) => { try { return pick(row) ?? []; } catch { return []; } });
  const answer = {
    msgListToPush: picked(store.msgListToPush, message),
    messageList: picked(store.messageList, message),
    converSationListOrigin: picked(store.converSationListOrigin, conversation),
  };
  answer.userInfoFromServerMap = {};
  for (const uid of [...uids].slice(0, ROWS_MAX)) {
    const user = entry(store.userInfoFromServerMap, uid);
    if (user) answer.userInfoFromServerMap[uid] = { uid: id(user.uid), sec_uid: text(user.sec_uid), nickname: text(user.nickname), unique_id: text(user.unique_id), avatar_thumb: avatar(user.avatar_thumb) };
  }
  answer.self = { userId: self };
  if (answer.msgListToPush.length + answer.messageList.length + answer.converSationListOrigin.length === 0) return null;

  const told = JSON.stringify(answer);
  if (told === kept.told && now - kept.toldAt < TELL_AGAIN_MS) return null;
  kept.told = told;
  kept.toldAt = now;
  return answer;
}
