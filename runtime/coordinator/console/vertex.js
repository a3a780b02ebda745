// What a vertex consists of: its subtasks and its operators.

import { known, now, rateOf } from './live.js';
import { h, row, table } from './dom.js';
import { bytes, count, permille, rate, watermark } from './format.js';
import { alignment, bar, kindOf, nameOf } from './load.js';

const SUBTASKS = [['Subtask'], ['Worker'], ['Load', 'load'], ['Busy', 'number'], ['Backpressured', 'number'],
  ['Idle', 'number'], ['Fullest channel', 'number', 'of the bytes that may wait in it'],
  ['Alignment', 'number', 'in the newest checkpoint, from the first barrier to the last'], ['Watermark']];
const OPERATORS = [['Operator'], ['Kind'], ['In', 'number'], ['Out', 'number'], ['Records in', 'number'],
  ['Records out', 'number'], ['Bytes', 'number'], ['Skipped', 'number'], ['Dead letters', 'number']];

/** The subtasks and operators of a vertex. */
export function vertexDetails(vertex) {
  return h('section', { class: 'panel', 'aria-labelledby': 'vertex-title', 'data-key': `details-${vertex.id}` },
    h('h3', { id: 'vertex-title' }, nameOf(vertex)),
    h('h4', {}, `Subtasks`),
    vertex.tasks.length === 0
      ? h('p', { class: 'empty' }, 'No task of it runs now.')
      : table('Subtasks', SUBTASKS, vertex.tasks.map(subtaskRow)),
    h('h4', {}, 'Operators'),
    table('Operators', OPERATORS, vertex.nodes.map((node, index) => operatorRow(vertex.operators[index], node))));
}

function subtaskRow(task) {
  const { load } = task;
  const mark = load && watermark(load.watermark, now());
  const fills = load?.channels.map((channel) => channel.queueFill) ?? [];
  return row(SUBTASKS, [
    task.subtask, h('span', { class: 'name', title: task.worker }, task.worker), bar(load), permille(load?.busy),
    permille(load?.backpressured), permille(load?.idle), fills.length ? permille(Math.max(...fills)) : '–',
    alignment(load), mark ? [mark.text, mark.behind && h('small', {}, ` ${mark.behind}`)] : '–',
  ], { 'data-key': `subtask-${task.subtask}` });
}

function operatorRow(uid, node) {
  const counters = known.job.operators[uid] ?? {};
  return row(OPERATORS, [
    uid, node ? kindOf(node) : '–', rate(rateOf(uid, 'recordsIn')), rate(rateOf(uid, 'recordsOut')),
    count(counters.recordsIn), count(counters.recordsOut), counters.bytes ? bytes(counters.bytes) : '–',
    count(counters.skipped), count(counters.deadLetters),
  ], { 'data-key': `operator-${uid}` });
}
