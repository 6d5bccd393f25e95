// Elements, lists that change only where they differ, and nobody's place lost.

/** An element. Children that are strings become text; `onclick` and the like become listeners. */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === 'text') node.textContent = value;
    else if (name === 'class') node.className = value;
    else if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value);
  }
  node.append(...children.filter(child => child || child === 0));
  return node;
}

/** Text of its own direction, whatever is around it. */
export const span = (name, text) => el('span', { class: name, text, dir: 'auto' });

/** A link to the outside, or null where the address is not plain http(s). Never loaded by itself. */
export function outside(url, label) {
  let parsed;
  try { parsed = new URL(url); } catch { return null; }
  if (parsed.protocol !== 'http:' && parsed.protocol !== 'https:') return null;
  const title = parsed.href.slice(0, 200);
  return el('a', { href: parsed.href, target: '_blank', rel: 'noopener noreferrer', title, text: `${label} ↗` });
}

/** Makes `list` show `entries` ({key, sig, make}): rows are made anew where `sig` differs, and moved where they must. */
export function reconcile(list, entries) {
  const had = list.entries || new Map();
  const has = new Map();
  const focused = [...had].find(([, row]) => row.node.contains(document.activeElement))?.[0];
  for (const { key, sig, make } of entries) {
    const row = had.get(key);
    has.set(key, row?.sig === sig ? row : { sig, node: make() });
  }
  for (const [key, row] of had) if (has.get(key)?.node !== row.node) row.node.remove();
  let at = list.firstChild;
  for (const { node } of has.values()) {
    if (node === at) at = at.nextSibling;
    else list.insertBefore(node, at);
  }
  list.entries = has;
  const again = focused !== undefined && has.get(focused)?.node;
  if (again && !again.contains(document.activeElement)) {
    (again.matches('a') ? again : again.querySelector('a, button'))?.focus({ preventScroll: true });
  }
}

/** Runs `change` so that the first row in sight stays where it is, if `keep`. */
export function keepPlace(box, list, keep, change) {
  const edge = box.getBoundingClientRect().top;
  const first = keep && [...(list.entries || [])].find(([, row]) => row.node.getBoundingClientRect().bottom > edge);
  const before = first && first[1].node.getBoundingClientRect().top;
  change();
  const after = first && list.entries.get(first[0])?.node.getBoundingClientRect().top;
  if (after !== undefined && after !== false && after !== null) box.scrollTop += after - before;
}
