// Elements, and how what is on the page becomes what it should be.
//
// A page is rendered anew every second. What is there is changed in place, so that focus, selection,
// scroll positions and opened details stay.

const SVG = 'http://www.w3.org/2000/svg';
const SVG_TAGS = new Set(['svg', 'g', 'path', 'rect', 'line', 'polyline', 'circle', 'text', 'defs', 'marker']);

/**
 * An element. Attributes that are null, undefined or false are left out; `style` is an object, because the
 * page's security policy allows no style in attributes. Children are nodes, texts, and lists of them.
 */
export function h(tag, attributes = {}, ...children) {
  const element = SVG_TAGS.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === 'style') {
      for (const [property, one] of Object.entries(value)) element.style.setProperty(property, one);
    } else {
      element.setAttribute(name, value === true ? '' : String(value));
    }
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    if (Array.isArray(child)) append(element, child);
    else element.append(child);
  }
}

/** Makes the children of an element equal to these. */
export function render(element, ...children) {
  const wanted = h('div', {}, ...children);
  morphChildren(element, wanted);
}

function morphChildren(old, wanted) {
  const keyed = new Map();
  for (const child of old.children) {
    if (child.dataset.key) keyed.set(child.dataset.key, child);
  }
  let place = old.firstChild;
  for (const next of [...wanted.childNodes]) {
    const found = match(place, next, keyed);
    if (!found) {
      old.insertBefore(next, place);
      continue;
    }
    if (found === place) place = place.nextSibling;
    else old.insertBefore(found, place);
    morph(found, next);
  }
  while (place) {
    const after = place.nextSibling;
    place.remove();
    place = after;
  }
}

/** What is there and can become `next`. */
function match(place, next, keyed) {
  const key = next.dataset?.key;
  if (key) {
    const found = keyed.get(key);
    return found?.nodeName === next.nodeName ? found : null;
  }
  if (!place || place.nodeType !== next.nodeType || place.nodeName !== next.nodeName) return null;
  return place.dataset?.key ? null : place;
}

function morph(old, next) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== next.nodeValue) old.nodeValue = next.nodeValue;
    return;
  }
  for (const { name } of [...old.attributes]) {
    // Whether details are open is the reader's choice.
    const stays = name === 'style' || (name === 'open' && old.nodeName === 'DETAILS');
    if (!stays && !next.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of next.attributes) {
    if (name !== 'style' && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  if (old.style.cssText !== next.style.cssText) old.style.cssText = next.style.cssText;
  morphChildren(old, next);
}

/** A table that scrolls sideways where it is wider than the page. Columns: title, and whether numbers. */
export function table(caption, columns, rows, attributes = {}) {
  const head = columns.map(([title, kind, hint]) =>
    h('th', { scope: 'col', class: kind, title: hint }, title));
  return h('div', { class: 'scrolls', tabindex: 0, role: 'region', 'aria-label': caption, ...attributes },
    h('table', {},
      h('caption', { class: 'unseen' }, caption),
      h('thead', {}, h('tr', {}, head)),
      h('tbody', {}, rows)));
}

/** A row of a table, with the classes of its columns. The first cell heads it. */
export function row(columns, cells, attributes = {}) {
  return h('tr', attributes, cells.map((cell, index) => {
    const kind = columns[index]?.[1];
    return index === 0 ? h('th', { scope: 'row', class: kind }, cell) : h('td', { class: kind }, cell);
  }));
}

/** Figures with their names. */
export function figures(list) {
  return h('dl', { class: 'figures' }, list.filter(Boolean).map(([name, value, hint]) =>
    h('div', {}, h('dt', {}, name), h('dd', {}, value, hint && h('small', {}, hint)))));
}
