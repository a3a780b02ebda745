// The page `State`: what operators keep by key.

import { sizes } from './checkpoints.js';
import { known } from './live.js';
import { figures, h, row, table } from './dom.js';
import { bytes, count } from './format.js';
import { nameOf, vertices } from './load.js';

const STATES = [['Operator'], ['State'], ['Type']];
const TASKS = [['Subtask'], ['Worker'], ['Keys', 'number'], ['Changed keys', 'number', 'since the last barrier'],
  ['In memory', 'number'], ['On disk', 'number', 'keys that are on the local disk and not in memory, and their bytes'], ['Runs', 'number', 'files that the next checkpoint names'], ['In checkpoints', 'number']];

export function statePage() {
  const stateful = vertices().all.filter((vertex) => vertex.states.length > 0);
  const title = h('h2', {}, 'State');
  if (stateful.length === 0) {
    return [title, h('p', { class: 'empty' }, 'No operator of this job keeps state by key. Positions of sources and prepared transactions of sinks are in every checkpoint.')];
  }
  return [title, sizes(known.checkpoints.checkpoints), stateful.map((vertex) => {
    const loads = vertex.tasks.filter((task) => task.load?.state);
    const sum = (field) => loads.reduce((all, task) => all + task.load.state[field], 0);
    return h('section', { class: 'panel', 'data-key': vertex.id },
      h('h3', {}, nameOf(vertex)),
      loads.length > 0 && figures([['Keys', count(sum('keys'))], ['Changed keys', count(sum('dirtyKeys')), 'since the last barrier'],
        ['In memory', bytes(sum('bytes'))],
        sum('coldKeys') > 0 && ['On disk', `${count(sum('coldKeys'))} keys`, bytes(sum('coldBytes'))], ['In checkpoints', bytes(sum('runBytes')), `${count(sum('runs'))} files`]]),
      table('States', STATES, vertex.states.map((state) =>
        row(STATES, [state.operator, state.name, h('code', {}, state.type)], { 'data-key': `${state.operator}-${state.name}` }))),
      loads.length > 0 && table('Subtasks', TASKS, loads.map((task) => stateRow(task))));
  })];
}

function stateRow(task) {
  const { state } = task.load;
  return row(TASKS, [task.subtask, h('span', { class: 'name', title: task.worker }, task.worker), count(state.keys),
    count(state.dirtyKeys), bytes(state.bytes),
    state.coldKeys ? `${count(state.coldKeys)}, ${bytes(state.coldBytes)}` : '–', count(state.runs), bytes(state.runBytes)], { 'data-key': task.subtask });
}
