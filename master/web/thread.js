// The rows of one thread: in order of time, comments as a tree, each with what is known of it. All of it is what a
// platform wrote, so it goes in as text.

import { T, ago, clock, dated, day, exact, now } from './words.js';
import { el, outside, span } from './dom.js';

const TEXT_MAX = 4000; // characters of one text shown without asking
const DEPTH_MAX = 4;

const timeOf = row => dated(row.created_at ?? row.sent_at);
const goneOf = row => Boolean(row.recalled || row.deleted);

export const titleOf = t => t.title || `${t.kind === 'content' ? T.work : T.conversation} ${t.id}`;


export const timeNode = at => el('time', { datetime: new Date(at).toISOString(), title: exact(at), 'data-at': at, text: ago(at, now()) });

/** The rows in their order with day separators; comments as a tree. */
export function entries(open) {
  const order = (a, b) => (timeOf(a) ?? -Infinity) - (timeOf(b) ?? -Infinity) || (a.id < b.id ? -1 : 1);
  const rows = [...open.rows.values()].sort(order);
  const children = new Map();
  for (const row of rows) {
    const parent = open.rows.has(row.parent_id) && row.parent_id !== row.id ? row.parent_id : '';
    if (!children.has(parent)) children.set(parent, []);
    children.get(parent).push(row);
  }
  const list = [];
  const placed = new Set();
  let [lastDay, before] = [null, null];
  const place = (top, depthOfTop) => {
    const stack = [[top, depthOfTop]];
    while (stack.length) {
      const [row, depth] = stack.pop();
      if (placed.has(row.id)) continue; // a hostile ring of parents ends here
      placed.add(row.id);
      const at = timeOf(row);
      const today = at === null ? T.undated : day(at);
      if (!depth && today !== lastDay) {
        list.push({ key: `day ${today} ${list.length}`, sig: today, make: () => el('li', { class: 'day', text: today }) });
        [lastDay, before] = [today, null];
      }
      const joined = open.kind === 'conversation' && before && before.direction === row.direction
        && before.sender_id === row.sender_id && at - timeOf(before) < 300000;
      before = row;
      const orphan = Boolean(row.parent_id) && !depth;
      list.push({ key: row.id, sig: JSON.stringify([row, joined, depth, orphan]), make: () => rowNode(open, row, joined, depth, orphan) });
      for (const child of (children.get(row.id) || []).toReversed()) stack.push([child, Math.min(depth + 1, DEPTH_MAX)]);
    }
  };
  for (const row of children.get('') || []) place(row, 0);
  for (const row of rows) place(row, 0);
  return list;
}

function rowNode(open, row, joined, depth, orphan) {
  const gone = goneOf(row);
  const at = timeOf(row);
  const bubble = el('div', { class: 'bubble words', dir: 'auto' });
  const text = gone ? (row.recalled ? T.recalledBy : T.deletedBy) : row.text || '';
  bubble.append(text.slice(0, TEXT_MAX));
  if (text.length > TEXT_MAX) {
    bubble.append('…', el('button', { class: 'cutoff', text: T.readOn, onclick: () => bubble.replaceChildren(text) }));
  }
  const kind = row.message_type;
  if (!gone && kind && kind !== 'text') {
    const label = span('dim', `${text && ' '}[${T.kinds[kind] || kind}]`);
    if (row.raw) label.title = row.raw.slice(0, 1000); // what it carries, as the platform wrote it
    bubble.append(label);
  }
  const media = gone ? [] : [[row.media_url, T.open], ...(row.image_urls || []).slice(0, 20).map((url, i) => [url, T.picture(i + 1)])];
  for (const [url, label] of media) { const link = outside(url, label); if (link) bubble.append(' ', link); }
  const own = row.direction === 'outbound';
  const name = row.author_name || row.sender_name || (own ? T.own : row.author_id || row.sender_id || T.nobody);
  const marks = [orphan && T.earlier, !gone && dated(row.edited_at) !== null && T.edited,
    row.like_count > 0 && T.likes(row.like_count)].filter(Boolean).join(' · ');
  const when = at !== null && (open.kind === 'content' ? timeNode(at) : el('time', { title: exact(at), text: clock(at) }));
  const above = !joined && el('div', { class: 'dim' }, span('words', name.slice(0, 100)), ' ', when);
  const title = [at !== null && exact(at), dated(row.edited_at) !== null && `${T.edited} ${exact(row.edited_at)}`].filter(Boolean).join('\n');
  const classes = ['row', own && 'own', joined && 'joined', gone && 'gone', depth && 'reply', `d${depth}`].filter(Boolean).join(' ');
  return el('li', { class: classes, title }, above, bubble, marks && el('div', { class: 'dim', text: marks }));
}
