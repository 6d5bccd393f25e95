// The rows that the creator's chat page shows, as its components were given them: messages of the open conversation,
// and the list of conversations. Reads only, and takes fields by name: nothing else of the page leaves it.
// Only rows that are rendered exist; which elements hold them is told by the shape of their props, not by class names.
() => {
  const ELEMENTS_MAX = 20000, CLIMB_MAX = 15, PROPS_MAX = 60, ROWS_MAX = 200, TEXT_MAX = 4096;
  const SECRET = /token|cookie|ticket|secret|session|passport|csrf|skey|sign|device|webid|fingerprint|__internal/i;
  const SECRET_KEY = /"[^"]*(token|cookie|ticket|secret|session|passport|csrf|skey|sign|device|webid|fingerprint|__internal)[^"]*"\s*:/i;
  const messages = new Map(), conversations = new Map(), seen = new Set();

  const has = (value, ...keys) => {
    try { return value !== null && typeof value === 'object' && keys.every((key) => key in value); } catch { return false; }
  };
  const read = (value, key) => { try { return value[key]; } catch { return undefined; } };
  const text = (value) => (typeof value === 'string' ? value.slice(0, TEXT_MAX) : undefined);
  // Exact or nothing: a number that JavaScript has rounded is no id.
  const id = (value) => {
    if (typeof value === 'string') return value.slice(0, 256);
    if (typeof value === 'bigint' || Number.isSafeInteger(value)) return String(value);
    if (has(value, 'low', 'high')) return ((BigInt(value.high) << 32n) + BigInt(value.low >>> 0)).toString();
    return undefined;
  };
  const time = (value) => {
    if (Object.prototype.toString.call(value) === '[object Date]') return Number.isNaN(value.getTime()) ? undefined : value.toISOString();
    return typeof value === 'number' || typeof value === 'string' ? value : undefined;
  };
  // What a message carries, without keys that name a secret.
  const plain = (value, depth = 0) => {
    if (typeof value === 'string') return inner(value, depth);
    if (value === null || typeof value === 'number' || typeof value === 'boolean') return value;
    if (typeof value === 'bigint') return String(value);
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
  const sender = (value) =>
    value !== null && typeof value === 'object' && !has(value, 'low')
      ? { uid: id(value.uid), secUid: text(value.secUid), nickName: text(value.nickName) } : id(value);
  const message = (row) => ({
    serverId: id(row.serverId), conversationId: id(row.conversationId), conversationType: row.conversationType === undefined ? undefined : Number(row.conversationType),
    sender: sender(row.sender), secSender: text(row.secSender), secReceiver: text(row.secReceiver),
    isFromMe: typeof row.isFromMe === 'boolean' ? row.isFromMe : undefined, isRecalled: row.isRecalled === true || undefined,
    type: typeof row.type === 'number' ? row.type : undefined, content: content(row.content), createdAt: time(row.createdAt), nickname: text(row.nickname),
  });
  const conversation = (row) => ({
    id: id(row.id), shortId: id(row.shortId), secUid: text(row.secUid), isGroupChat: row.isGroupChat === true,
    createdTime: time(row.createdTime), content: plain(row.content), coreInfo: { name: text(row.coreInfo?.name) },
  });

  const look = (value) => {
    try {
      if (has(value, 'serverId', 'conversationId')) {
        if (messages.size < ROWS_MAX) messages.set(`${value.conversationId} ${id(value.serverId)}`, message(value));
      } else if (has(value, 'id', 'shortId', 'secUid')) {
        if (conversations.size < ROWS_MAX) conversations.set(id(value.id), conversation(value));
      }
    } catch { /* a row that cannot be read now is read again in a second */ }
  };
  const props = (value) => {
    if (value === null || typeof value !== 'object' || seen.has(value)) return;
    seen.add(value);
    look(value);
    for (const key of Object.keys(value).slice(0, PROPS_MAX)) if (key !== 'children') look(read(value, key));
  };
  // From an element's own node up to the next element's, which has its turn by itself.
  const climb = (fiber) => {
    for (let at = fiber, steps = 0; at && steps < CLIMB_MAX && !seen.has(at); at = at.return, steps++) {
      if (steps > 0 && typeof at.type === 'string') return;
      seen.add(at);
      props(at.memoizedProps);
    }
  };

  const walker = document.createTreeWalker(document.body ?? document, NodeFilter.SHOW_ELEMENT);
  for (let element = walker.currentNode, n = 0; element && n < ELEMENTS_MAX; element = walker.nextNode(), n++) {
    for (const key of Object.keys(element)) {
      if (key.startsWith('__reactFiber$') || key.startsWith('__reactInternalInstance$')) climb(element[key]);
      else if (key.startsWith('__reactProps$')) props(element[key]);
    }
  }
  if (messages.size === 0 && conversations.size === 0) return null;
  return { messages: [...messages.values()], conversations: [...conversations.values()] };
}
