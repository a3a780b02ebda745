// The page `Configuration`: what the job was started with.

import { known } from './live.js';
import { figures, h, row, table } from './dom.js';

const SETTINGS = [['Setting'], ['Value']];

/** `{a: {b: 1}}` as `a.b = 1`. */
function flat(value, path) {
  if (value !== null && typeof value === 'object' && !Array.isArray(value)) {
    return Object.entries(value).flatMap(([name, one]) => flat(one, `${path}.${name}`));
  }
  return [[path, String(value)]];
}

export function configurationPage() {
  const { configuration, graph, job } = known;
  const settings = [['parallelism', String(configuration.parallelism)], ['maxParallelism', String(configuration.maxParallelism)],
    ...flat(configuration.checkpoint, 'checkpoint'), ...flat(configuration.restart, 'restart')];
  return [h('h2', {}, 'Configuration'),
    figures([['Version', configuration.version], ['Deployment', job.deployment ?? 'by hand'],
      ['Restored from', job.restoredFrom ? h('span', { class: 'path', title: job.restoredFrom }, job.restoredFrom) : 'nothing'],
      ['Graph', h('span', { class: 'path', title: graph.fingerprint }, graph.fingerprint.slice(0, 12))]]),
    h('section', { class: 'panel' }, h('h3', {}, 'Settings that hold'),
      table('Settings', SETTINGS, settings.map(([name, value]) => row(SETTINGS, [h('code', {}, name), value], { 'data-key': name })))),
    h('section', { class: 'panel' },
      h('div', { class: 'headed' }, h('h3', {}, 'Job file'), h('button', { type: 'button', 'data-action': 'copy-job' }, 'Copy')),
      h('pre', { tabindex: 0, role: 'region', 'aria-label': 'Job file', id: 'job-file' }, configuration.job))];
}
