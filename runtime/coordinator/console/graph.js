// The page `Graph`: the vertices of the job and what goes between them.

import { now } from './live.js';
import { h, row, table } from './dom.js';
import { count, permille, rate, watermark } from './format.js';
import { CARD, layout, path } from './layout.js';
import { bar, kindOf, nameOf, ratesOf, vertices } from './load.js';
import { vertexDetails } from './vertex.js';

/** Nodes of a vertex that its card names. */
const NAMED = 4;
/** From which part of a second on a vertex is at its limit, or held up, in thousandths. */
const BUSY = 800;
const HELD_UP = 300;

/** How the records of an edge are shared out, in words. */
export function sharing(edge) {
  const by = edge.partitionBy?.length ? ` by ${edge.partitionBy.join(', ')}` : '';
  return `${edge.partitioning}${by}`;
}

/** The vertex that holds up those before it, if one does. */
function bottleneck(all, edges) {
  const byId = new Map(all.map((vertex) => [vertex.id, vertex]));
  const behind = edges
    .filter((edge) => (byId.get(edge.fromVertex)?.load?.backpressured ?? 0) >= HELD_UP)
    .map((edge) => byId.get(edge.toVertex))
    .filter((vertex) => (vertex?.load?.busyMost ?? 0) >= BUSY);
  return behind.sort((a, b) => b.load.busyMost - a.load.busyMost)[0] ?? null;
}

export function graphPage(route) {
  const { all, edges } = vertices();
  const selected = all.find((vertex) => String(vertex.id) === route.id) ?? null;
  const slow = bottleneck(all, edges);
  return [
    h('h2', {}, 'Graph'),
    slow && h('p', { class: 'notice hint' },
      h('strong', {}, nameOf(slow)), ` is busy ${permille(slow.load.busyMost)} of its time and holds up those before it.`),
    drawing(all, edges, selected),
    list(all, edges, selected),
    selected ? vertexDetails(selected, edges) : h('p', { class: 'empty' }, 'Choose a vertex to see its subtasks and operators.'),
    h('details', { class: 'more', 'data-key': 'as-table' },
      h('summary', {}, 'Vertices and edges as tables'), verticesTable(all, edges), edgesTable(edges)),
  ];
}

function heightOf(vertex) {
  const named = Math.min(vertex.operators.length, NAMED) + (vertex.operators.length > NAMED ? 1 : 0);
  return 104 + named * 20;
}

function drawing(all, edges, selected) {
  const unique = [...new Map(edges.map((edge) => [`${edge.fromVertex} ${edge.toVertex}`, edge])).values()];
  const shape = layout(
    all.map((vertex) => ({ id: vertex.id, height: heightOf(vertex) })),
    unique.map((edge) => ({ from: edge.fromVertex, to: edge.toVertex })));
  const size = { width: `${shape.width}px`, height: `${shape.height}px` };
  const lines = unique.map((edge, index) => h('path', {
    d: path(shape.ways[index]), class: `edge ${edge.deadLetters ? 'dead' : ''}`, 'marker-end': 'url(#arrow)',
  }));
  const arrow = h('defs', {}, h('marker', {
    id: 'arrow', viewBox: '0 0 8 8', refX: 8, refY: 4, markerWidth: 8, markerHeight: 8, orient: 'auto', class: 'arrow',
  }, h('path', { d: 'M0 0L8 4L0 8z' })));
  const labels = unique.map((edge, index) => label(edge, shape.ways[index], edges, unique));
  const cards = all.map((vertex) => {
    const place = shape.places.get(vertex.id);
    const style = { left: `${place.x}px`, top: `${place.y}px`, width: `${place.width}px`, height: `${place.height}px` };
    return card(vertex, edges, selected, style);
  });
  return h('div', { class: 'scrolls drawing', role: 'region', 'aria-label': 'Graph of the job', tabindex: 0 },
    h('div', { class: 'canvas', style: size },
      h('svg', { width: shape.width, height: shape.height, 'aria-hidden': 'true' }, arrow, lines), labels, cards));
}

/** What stands at an edge: how its records are shared out, and what they may change. */
function label(edge, points, edges, unique) {
  const same = edges.filter((one) => one.fromVertex === edge.fromVertex && one.toVertex === edge.toVertex);
  // At its end, where no other edge is; several that end at one vertex stand below each other.
  const end = points.at(-1);
  const place = unique.filter((one) => one.toVertex === edge.toVertex).indexOf(edge);
  const texts = [...new Set(same.map(sharing))];
  const columns = [...new Set(same.flatMap((one) => one.partitionBy ?? []))].join(', ');
  const kinds = [...new Set(same.map((one) => one.partitioning))].join(', ');
  const changes = [...new Set(same.map((one) => one.deadLetters ? 'dead letters' : one.changelog))];
  return h('span', {
    class: 'label', 'aria-hidden': 'true', title: [...texts, ...changes].join(', '),
    style: { left: `${end.x - CARD.gapX + 24}px`, top: `${end.y + place * 48}px`, width: `${CARD.gapX - 40}px` },
  },
  h('span', { class: 'above' }, h('span', {}, kinds), columns && h('span', {}, columns)),
  h('span', { class: 'below' }, changes.join(', ')));
}

/** On a narrow page the vertices stand below each other, with what each reads. */
function list(all, edges, selected) {
  return h('ol', { class: 'stack' }, all.map((vertex) => {
    const inputs = edges.filter((edge) => edge.toVertex === vertex.id);
    return h('li', { 'data-key': `stack-${vertex.id}` },
      inputs.map((edge) => h('p', { class: 'input' }, `from ${edge.from}${edge.deadLetters ? ' (dead letters)' : ''}: `,
        h('span', {}, sharing(edge), edge.changelog !== 'append' && h('em', {}, ` ${edge.changelog}`)))),
      card(vertex, edges, selected, {}));
  }));
}

function card(vertex, edges, selected, style) {
  const { load } = vertex;
  const rates = ratesOf(vertex, edges);
  const chosen = selected?.id === vertex.id;
  const mark = load && load.backpressured >= HELD_UP ? 'held' : load && load.busyMost >= BUSY ? 'busy' : '';
  const names = vertex.operators.slice(0, NAMED).map((uid, index) =>
    h('span', { class: 'operator', title: uid }, h('span', { class: 'uid' }, uid),
      vertex.nodes[index] && vertex.nodes[index].kind !== 'sql' && h('small', {}, kindOf(vertex.nodes[index]))));
  const rest = vertex.operators.length - NAMED;
  return h('a', {
    class: `card ${mark}`, 'data-key': `card-${vertex.id}`, style,
    href: chosen ? '#/' : `#/vertex/${vertex.id}`, 'aria-current': chosen && 'true',
  },
  h('span', { class: 'operators' }, names, rest > 0 && h('span', { class: 'operator rest' }, `and ${rest} more`)),
  h('span', { class: 'rates' },
    h('span', {}, h('span', { class: 'unseen' }, 'in '), `${rate(rates.in)} in`),
    h('span', {}, `${rate(rates.out)} out`),
    h('span', { class: 'times', title: `parallelism ${vertex.parallelism}` }, `× ${vertex.parallelism}`)),
  bar(load),
  h('span', { class: 'facts' }, vertex.tasks.length === 0 ? 'no task of it runs' : facts(load)));
}

function facts(load) {
  if (!load) return 'not measured yet';
  const mark = watermark(load.watermark, now());
  const held = load.backpressured >= 10 ? ` · backpressured ${permille(load.backpressured)}` : '';
  return [h('span', {}, `busy ${permille(load.busy)}${held}`),
    h('span', { title: mark.text }, `watermark ${mark.behind ?? mark.text}`)];
}

const VERTICES = [['Vertex'], ['Parallelism', 'number'], ['In', 'number'], ['Out', 'number'], ['Busy', 'number'],
  ['Backpressured', 'number'], ['Idle', 'number'], ['Fullest channel', 'number'], ['Watermark']];

function verticesTable(all, edges) {
  return table('Vertices', VERTICES, all.map((vertex) => {
    const { load } = vertex;
    const rates = ratesOf(vertex, edges);
    const mark = load && watermark(load.watermark, now());
    return row(VERTICES, [
      h('a', { href: `#/vertex/${vertex.id}` }, nameOf(vertex)), count(vertex.parallelism), rate(rates.in), rate(rates.out),
      permille(load?.busy), permille(load?.backpressured), permille(load?.idle), load?.fill === null ? '–' : permille(load?.fill),
      mark ? [mark.text, mark.behind && h('small', {}, ` ${mark.behind}`)] : '–',
    ], { 'data-key': `vertex-${vertex.id}` });
  }));
}

const EDGES = [['From'], ['To'], ['Shared out'], ['Changelog mode']];

function edgesTable(edges) {
  if (edges.length === 0) return h('p', { class: 'empty' }, 'All nodes run in one chain: no records go from task to task.');
  return table('Edges between vertices', EDGES, edges.map((edge) => row(EDGES, [
    `${edge.from}${edge.deadLetters ? ' (dead letters)' : ''}`, edge.to, sharing(edge), edge.changelog,
  ], { 'data-key': `edge-${edge.from}-${edge.to}-${edge.input}-${edge.deadLetters}` })));
}
