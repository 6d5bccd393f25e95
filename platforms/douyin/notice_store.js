// Notices in the main site's own state: those just pushed (a buffer that is soon emptied), and the panel's list where
// somebody has it open. Reads only, and takes fields by name.
// Tells anew only what changed, and everything once a minute.
() => {
  const ELEMENTS_MAX = 20000, CLIMB_MAX = 80, HOOKS_MAX = 40, PROPS_MAX = 60, ROWS_MAX = 100, TEXT_MAX = 4096;
  const SEARCH_PAUSE_MS = 2000, STORE_FRESH_MS = 30000, TELL_AGAIN_MS = 60000;
  const kept = (window.__snapfleet_douyin_notice ??= { store: null, foundAt: 0, soughtAt: 0, told: '', toldAt: 0 });
  const now = Date.now();

  const has = (value, ...keys) => {
    try { return value !== null && typeof value === 'object' && keys.every((key) => key in value); } catch { return false; }
  };
  const read = (value, key) => { try { return value[key]; } catch { return undefined; } };
  const isStore = (value) => has(value, 'noticePushList');

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
        const deeper = read(below, 'noticeStore');
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
  const text = (value) => (typeof value === 'string' ? value.slice(0, TEXT_MAX) : undefined);
  const number = (value) => (typeof value === 'number' ? value : undefined);
  // Exact or nothing: a number that JavaScript has rounded is no id.
  const id = (value) => {
    if (typeof value === 'string') return value.slice(0, 256);
    if (typeof value === 'bigint' || Number.isSafeInteger(value)) return String(value);
    if (has(value, 'low', 'high')) return ((BigInt(value.high) << 32n) + BigInt(value.low >>> 0)).toString();
    return undefined;
  };
  const picture = (value) => (value ? { url_list: list(value.url_list ?? value.urlList).slice(0, 1).map(text) } : undefined);
  const person = (value) =>
    value ? { uid: id(value.uid), sec_uid: text(value.sec_uid), nickname: text(value.nickname), avatar_thumb: picture(value.avatar_thumb) } : undefined;
  const comment = (value) =>
    value ? {
      cid: id(value.cid), aweme_id: id(value.aweme_id), text: text(value.text), create_time: number(value.create_time),
      reply_id: id(value.reply_id), reply_to_reply_id: id(value.reply_to_reply_id), label_text: text(value.label_text),
      digg_count: number(value.digg_count), reply_comment_total: number(value.reply_comment_total), user: person(value.user),
      image_list: list(value.image_list).map((each) => ({ ...picture(each), origin_url: picture(each?.origin_url) })),
    } : undefined;
  const work = (value) =>
    value ? {
      aweme_id: id(value.aweme_id), desc: text(value.desc), create_time: number(value.create_time), aweme_type: number(value.aweme_type),
      media_type: number(value.media_type), author: person(value.author), author_user_id: id(value.author_user_id),
      video: { cover: picture(value.video?.cover) }, status: { is_delete: value.status?.is_delete === true },
    } : undefined;
  const notice = (row) => {
    if (!has(row, 'nid_str') && !has(row, 'nid')) return null;
    const about = row.comment, told = row.general_notice;
    return {
      nid_str: id(row.nid_str) ?? id(row.nid), type: number(row.type), create_time: number(row.create_time), user_id: id(row.user_id),
      comment: about ? { comment: comment(about.comment), aweme: work(about.aweme), forward_id: id(about.forward_id), parent_id: id(about.parent_id) } : undefined,
      general_notice: told ? { title: text(told.title), content: text(told.content), message_extra: text(told.message_extra) } : undefined,
    };
  };
  const picked = (rows) => list(rows).flatMap((row) => { try { return notice(row) ?? []; } catch { return []; } });
  const answer = { noticePushList: picked(store.noticePushList), noticeList: picked(store.noticeListObj?.noticeList) };
  if (answer.noticePushList.length + answer.noticeList.length === 0) return null;

  const told = JSON.stringify(answer);
  if (told === kept.told && now - kept.toldAt < TELL_AGAIN_MS) return null;
  kept.told = told;
  kept.toldAt = now;
  return answer;
}
