// What the tasks of the job say, summed up by vertex.

import { known, rateOf } from './live.js';
import { h } from './dom.js';
import { duration, permille } from './format.js';

/** The vertices with what their tasks say, summed up. */
export function vertices() {
  const { graph, job } = known;
  const nodes = new Map(graph.nodes.map((node) => [node.operator, node]));
  const ofOperator = new Map();
  const all = graph.vertices.map((vertex) => {
    vertex.operators.forEach((operator) => ofOperator.set(operator, vertex.id));
    const tasks = job.tasks.filter((task) => task.vertex === vertex.id);
    return { ...vertex, nodes: vertex.operators.map((uid) => nodes.get(uid)), tasks, load: loadOf(tasks) };
  });
  const edges = graph.edges
    .map((edge) => ({ ...edge, fromVertex: ofOperator.get(edge.from), toVertex: ofOperator.get(edge.to) }))
    .filter((edge) => edge.fromVertex !== edge.toVertex);
  return { all, edges };
}

function loadOf(tasks) {
  const loads = tasks.map((task) => task.load).filter(Boolean);
  if (loads.length === 0) return null;
  const mean = (field) => loads.reduce((sum, load) => sum + load[field], 0) / loads.length;
  const largest = (field) => loads.reduce((most, load) => Math.max(most, load[field]), 0);
  const marks = loads.map((load) => load.watermark);
  const fills = loads.flatMap((load) => load.channels.map((channel) => channel.queueFill));
  const keys = loads.map((load) => load.state).filter(Boolean);
  return {
    busy: mean('busy'), backpressured: mean('backpressured'), idle: mean('idle'),
    busyMost: largest('busy'), backpressuredMost: largest('backpressured'),
    watermark: marks.includes(null) ? null : Math.min(...marks),
    fill: fills.length ? Math.max(...fills) : null,
    keys: keys.length ? keys.reduce((sum, state) => sum + state.keys, 0) : null,
  };
}

/** Records per second into a vertex and out of it: those of its first node, and of its last ones. */
export function ratesOf(vertex, edges) {
  const inside = (uid) => known.graph.edges.some((edge) => edge.from === uid && vertex.operators.includes(edge.to));
  const last = vertex.operators.filter((uid) => !inside(uid));
  const sum = (uids, field) => uids.reduce((all, uid) => {
    const one = rateOf(uid, field);
    return one === null ? all : (all ?? 0) + one;
  }, null);
  return { in: sum([vertex.operators[0]], 'recordsIn'), out: sum(last, 'recordsOut') };
}

export function kindOf(node) {
  return node.connector ? `${node.connector} ${node.kind}` : node.kind;
}

export function nameOf(vertex) {
  return vertex.operators.join(' → ');
}

/** Busy, backpressured and idle as parts of a line. */
export function bar(load) {
  const part = (kind, value) => h('span', { class: kind, style: { width: `${value / 10}%` } });
  const text = load && `busy ${permille(load.busy)}, backpressured ${permille(load.backpressured)}, idle ${permille(load.idle)}`;
  return h('span', { class: 'bar', title: text },
    load && [part('busy', load.busy), part('backpressured', load.backpressured)]);
}

/** How long the slowest task of a vertex waited for its barriers. */
export function alignment(load) {
  const times = load?.channels.map((channel) => channel.alignmentMs).filter((ms) => ms !== null);
  return times?.length ? duration(Math.max(...times)) : '–';
}
