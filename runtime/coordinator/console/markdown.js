// As much of Markdown as the pages of errors use: headings, paragraphs, lists, code, tables, links, emphasis.

import { h } from './dom.js';

/** The elements of a text. */
export function markdown(text) {
  const lines = text.split('\n');
  const out = [];
  let at = 0;
  const while_ = (is) => {
    const begin = at;
    while (at < lines.length && is(lines[at])) at += 1;
    return lines.slice(begin, at);
  };
  while (at < lines.length) {
    const line = lines[at];
    const heading = line.match(/^(#{1,4}) (.*)/);
    if (line.trim() === '') {
      at += 1;
    } else if (heading) {
      // The page has a heading of the first rank already.
      out.push(h(`h${Math.min(6, heading[1].length + 1)}`, {}, inline(heading[2])));
      at += 1;
    } else if (line.startsWith('```')) {
      at += 1;
      const code = while_((one) => !one.startsWith('```'));
      at += 1;
      out.push(h('pre', { tabindex: 0 }, code.join('\n')));
    } else if (/^\s*[-*] /.test(line)) {
      out.push(h('ul', {}, items(while_((one) => /^\s*[-*] /.test(one) || /^\s+\S/.test(one)), /^\s*[-*] /)));
    } else if (/^\d+\. /.test(line)) {
      out.push(h('ol', {}, items(while_((one) => /^\d+\. /.test(one) || /^\s+\S/.test(one)), /^\d+\. /)));
    } else if (line.startsWith('|')) {
      out.push(rows(while_((one) => one.startsWith('|'))));
    } else {
      const ends = (one) => one.trim() === '' || /^(#{1,4} |```|\s*[-*] |\d+\. |\|)/.test(one);
      out.push(h('p', {}, inline(while_((one) => !ends(one)).join(' '))));
    }
  }
  return out;
}

function items(lines, bullet) {
  const texts = [];
  for (const line of lines) {
    if (bullet.test(line)) texts.push(line.replace(bullet, ''));
    else texts.push(`${texts.pop() ?? ''} ${line.trim()}`);
  }
  return texts.map((text) => h('li', {}, inline(text)));
}

function rows(lines) {
  const cells = (line) => line.replace(/^\||\|\s*$/g, '').split('|').map((cell) => cell.trim());
  const [head, , ...body] = lines;
  return h('div', { class: 'scrolls', tabindex: 0 }, h('table', {},
    h('thead', {}, h('tr', {}, cells(head).map((cell) => h('th', { scope: 'col' }, inline(cell))))),
    h('tbody', {}, body.map((line) => h('tr', {}, cells(line).map((cell) => h('td', {}, inline(cell))))))));
}

const PIECES = /`([^`]+)`|\[([^\]]+)\]\(([^)\s]+)\)|\*\*([^*]+)\*\*|\*([^*]+)\*/g;

function inline(text) {
  const out = [];
  let at = 0;
  for (const piece of text.matchAll(PIECES)) {
    out.push(text.slice(at, piece.index));
    const [all, code, link, target, strong, emphasis] = piece;
    if (code !== undefined) out.push(h('code', {}, code));
    else if (link !== undefined) out.push(linked(link, target));
    else if (strong !== undefined) out.push(h('strong', {}, strong));
    else out.push(h('em', {}, emphasis));
    at = piece.index + all.length;
  }
  out.push(text.slice(at));
  return out;
}

/** Pages of errors are here; other pages of the documentation are named. */
function linked(text, target) {
  const error = target.match(/(MS\d{4})\.md/);
  if (error) return h('a', { href: `#/errors/${error[1]}` }, inline(text));
  if (/^https:\/\//.test(target)) return h('a', { href: target, rel: 'noreferrer' }, inline(text));
  return h('span', { title: `docs/${target.replace(/^(\.\.\/)+/, '')}` }, inline(text));
}
