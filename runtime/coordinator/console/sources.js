// The page `Sources`: how far each partition is behind.

import { known, rateOf } from './live.js';
import { figures, h, row, table } from './dom.js';
import { count, duration, rate } from './format.js';
import { kindOf } from './load.js';

const SPLITS = [['Partition'], ['Pending', 'number', 'offsets that can be read now and are not yet'],
  ['Held back', 'number', 'offsets behind the first record of an open transaction'], ['By']];

export function sourcesPage() {
  const sources = known.graph.nodes.filter((node) => node.kind === 'source');
  return [h('h2', {}, 'Sources'), sources.map((node) => {
    const byName = (a, b) => a.split.localeCompare(b.split, 'en', { numeric: true });
    const splits = [...known.job.lags[node.operator] ?? []].sort(byName);
    const pending = splits.reduce((sum, one) => sum + one.pendingRecords, 0);
    const held = splits.reduce((sum, one) => sum + (one.heldBack?.records ?? 0), 0);
    const read = rateOf(node.operator, 'recordsIn');
    return h('section', { class: 'panel', 'data-key': node.operator },
      h('h3', {}, node.operator, h('small', {}, ` ${kindOf(node)}`)),
      figures([
        ['Reads', rate(read)], ['Pending', splits.length ? count(pending) : '–', splits.length ? `in ${splits.length} partitions` : null],
        splits.length > 0 && ['Time behind', pending > 0 && read > 0 ? duration(pending / read * 1_000) : pending > 0 ? '–' : 'none', 'at this rate'],
        held > 0 && ['Held back', count(held), 'by open transactions'],
        ['Records read', count(known.job.operators[node.operator]?.recordsIn)],
      ]),
      splits.length === 0
        ? h('p', { class: 'empty' }, node.connector === 'kafka'
          ? 'How far it is behind is not known yet: it is measured every few seconds while the job runs.'
          : `A source of this kind (${node.connector}) cannot say how far it is behind.`)
        : table(`Partitions of ${node.operator}`, SPLITS, splits.map(splitRow)));
  })];
}

function splitRow(lag) {
  const held = lag.heldBack;
  const who = held && (held.transactionalId ?? (held.producerId === null ? 'not visible' : `producer ${held.producerId}`));
  return row(SPLITS, [lag.split, count(lag.pendingRecords), held ? count(held.records) : '–', who ?? '–'],
    { 'data-key': lag.split });
}
