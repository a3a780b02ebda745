// The page `Checkpoints`: their history, and how each task took part in one.

import { known, now } from './live.js';
import { figures, h, row, table } from './dom.js';
import { bytes, count, duration, time } from './format.js';

const LIST = [['Checkpoint'], ['Kind'], ['State'], ['Triggered'], ['Duration', 'number'],
  ['Alignment', 'number', 'the longest that a task waited for its barriers'], ['Size', 'number', 'bytes of everything that it names'], ['State size', 'number', 'bytes of the keyed state in it, with what older checkpoints have written'],
  ['New', 'number', 'bytes of keyed state that it has written itself: its increment']];
const PARTS = [['Vertex'], ['Subtask'], ['Acknowledged after', 'number'],
  ['Alignment', 'number', 'from the first barrier at any channel to the last'], ['State size', 'number'], ['New', 'number']];
/** Checkpoints that the chart shows. */
const CHARTED = 60;
/** Checkpoints that are listed at first. */
const LISTED = 20;
let listed = LISTED;

/** Lists all of them from now on. */
export function showAll() {
  listed = Infinity;
}

const KINDS = { checkpoint: 'Checkpoint', savepoint: 'Savepoint' };

/** In words: a kind is a name, or an object with one. */
function kindOf(kind) {
  const name = typeof kind === 'string' ? kind : Object.keys(kind ?? {})[0] ?? '';
  if (name.toLowerCase() === 'stopwithsavepoint') return 'Stop with savepoint';
  return KINDS[name] ?? KINDS[name.toLowerCase()] ?? name;
}

/** Milliseconds of a duration in the job file, such as `1m30s`. */
export function millisOf(text) {
  const units = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };
  const parts = [...String(text ?? '').matchAll(/(\d+(?:\.\d+)?)(ms|[smhd])/g)];
  return parts.reduce((sum, [, number, unit]) => sum + Number(number) * units[unit], 0);
}

export function checkpointsPage(route) {
  const { checkpoints: { counts, checkpoints }, configuration } = known;
  const running = checkpoints.filter((one) => one.state === 'InProgress').length;
  const newest = checkpoints.find((one) => one.state === 'Completed');
  const interval = configuration.checkpoint.interval;
  const last = checkpoints.findIndex((one) => String(one.id) === route.id);
  const some = checkpoints.slice(0, Math.max(listed, last + 1));
  return [
    h('h2', {}, 'Checkpoints'),
    figures([
      ['Completed', count(counts.completed)], ['Failed', count(counts.failed)], ['In progress', count(running)],
      newest && ['Newest', `#${newest.id}`, `${duration(now() - (newest.completedAt ?? newest.triggeredAt))} ago`],
      newest && ['Took', duration(newest.durationMs), `every ${interval}`],
      newest && ['Size', bytes(newest.sizeBytes)],
    ]),
    slow(newest, interval),
    durations(checkpoints, interval),
    checkpoints.length === 0
      ? h('p', { class: 'empty' }, known.job.state === 'Running'
        ? `None yet: the first is due ${interval} after the job began to run.`
        : 'None since this coordinator began. They are taken while the job runs.')
      : table('Checkpoints', LIST, some.flatMap((one) => entry(one, route))),
    some.length < checkpoints.length && h('p', { class: 'after' },
      h('button', { type: 'button', 'data-action': 'all-checkpoints' }, `Show all ${checkpoints.length}`)),
    h('p', { class: 'note' }, 'The newest 100 since this coordinator began. ',
      h('code', {}, 'millstream checkpoints list'), ' shows what lies in the storage.'),
  ];
}

/** A checkpoint that takes most of the interval leaves no room for the next. */
function slow(newest, interval) {
  const every = millisOf(interval);
  if (!newest || !every || newest.durationMs <= 0.8 * every) return null;
  return h('p', { class: 'notice warning' }, `Checkpoint ${newest.id} took ${duration(newest.durationMs)}, more than 80 % of the interval (${interval}). `,
    'Its tasks below show which subtask acknowledged last, and whether it waited for barriers.');
}

function entry(one, route) {
  const chosen = route.id === String(one.id);
  const key = `${one.attempt}-${one.id}`;
  const kind = kindOf(one.kind);
  const line = row(LIST, [
    h('a', { href: chosen ? '#/checkpoints' : `#/checkpoints/${one.id}`, 'aria-expanded': String(chosen) }, `#${one.id}`),
    [kind, one.unaligned && h('small', {}, ' unaligned')], h('span', { class: `outcome ${one.state}` }, one.state === 'InProgress' ? 'In progress' : one.state),
    h('span', { title: new Date(one.triggeredAt).toISOString() }, time(one.triggeredAt, now())),
    duration(one.durationMs ?? now() - one.triggeredAt), duration(one.alignmentMs), bytes(one.sizeBytes), bytes(one.stateSize), bytes(one.checkpointedSize),
  ], { 'data-key': key, class: chosen ? 'chosen' : null });
  if (!chosen) return [line];
  return [line, h('tr', { 'data-key': `${key}-detail`, class: 'detail' }, h('td', { colspan: LIST.length }, detail(one)))];
}

function detail(one) {
  const found = known.details.get(one.id);
  const parts = found?.subtasks ?? [];
  const names = new Map(known.graph.vertices.map((vertex) => [vertex.id, vertex.operators.join(' → ')]));
  return h('div', { class: 'inside' },
    one.failure && failureOf(one.failure),
    figures([
      ['Acknowledged', found ? `${found.acknowledged} of ${found.tasks} tasks` : '…'],
      ['Completed', time(one.completedAt, now())], ['Attempt', one.attempt],
      one.inFlightSize && ['In flight', bytes(one.inFlightSize), 'records that its barriers have overtaken'],
      one.path && ['Path', h('span', { class: 'path', title: one.path }, one.path)],
    ]),
    parts.length > 0
      ? table(`Tasks of checkpoint ${one.id}`, PARTS, [...parts].reverse().map((part) => row(PARTS, [
        h('span', { class: 'name', title: names.get(part.vertex) }, names.get(part.vertex) ?? part.vertex), part.subtask, duration(part.acknowledgedAfterMs),
        part.alignmentMs === null ? '–' : duration(part.alignmentMs), bytes(part.stateSize), bytes(part.checkpointedSize),
      ], { 'data-key': `${part.vertex}-${part.subtask}` })))
      : h('p', { class: 'empty' }, found ? 'How its tasks took part is not known: an earlier coordinator has taken it, or no task has acknowledged it.' : 'Asks the coordinator…'));
}

/** An error with its page. */
export function failureOf(failure, page) {
  const name = page ?? failure.code;
  return h('p', { class: 'failure' }, h('a', { href: `#/errors/${encodeURIComponent(name)}` }, page ? `${page} ${failure.code}` : failure.code), ` ${failure.message}`);
}

/** Bars of values over checkpoints, the oldest on the left. Two values of a bar are drawn into each other. */
function chart(title, bars, format, limit) {
  if (bars.length < 2) return null;
  const [width, height, step] = [CHARTED * 10, 72, 10];
  const most = Math.max(1, ...bars.map((one) => one.value));
  const top = (value) => height - Math.max(1, value / most * (height - 4));
  const first = CHARTED - bars.length;
  const rect = (one, index, value, kind) => h('rect', {
    x: (first + index) * step + 1, width: step - 2, y: top(value), height: height - top(value), class: `${kind} ${one.state}`, rx: 1,
  });
  const line = limit && limit < most && h('line', { x1: 0, x2: width, y1: top(limit), y2: top(limit), class: 'limit' });
  return h('figure', { class: 'chart' },
    h('figcaption', {}, h('span', {}, title), h('span', {}, `highest ${format(most)}`)),
    h('svg', { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: 'none', 'aria-hidden': 'true' },
      bars.map((one, index) => [rect(one, index, one.value, one.part === undefined ? 'part' : 'all'), one.part !== undefined && rect(one, index, one.part, 'part')]), line));
}

function durations(checkpoints, interval) {
  const bars = checkpoints.filter((one) => one.durationMs !== null).slice(0, CHARTED).reverse()
    .map((one) => ({ value: one.durationMs, state: one.state }));
  return chart('Duration of the newest checkpoints', bars, duration, millisOf(interval));
}

/** How large the keyed state in the newest checkpoints is, and how much of it each has written. */
export function sizes(checkpoints) {
  const bars = checkpoints.filter((one) => one.stateSize !== undefined && one.state === 'Completed').slice(0, CHARTED).reverse()
    .map((one) => ({ value: one.stateSize, part: one.checkpointedSize ?? 0, state: one.state }));
  return chart('State in the newest checkpoints; darker: what each has written anew', bars, bytes);
}
