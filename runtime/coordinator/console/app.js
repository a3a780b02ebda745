// The console: which page is shown, what stands above it, and what its buttons do.

import { checkpointsPage, showAll } from './checkpoints.js';
import { configurationPage } from './configuration.js';
import { h, figures, render } from './dom.js';
import { errorPage, failuresPage } from './failures.js';
import { count, duration, rate, time } from './format.js';
import { graphPage } from './graph.js';
import { OLD, curve, follow, known, now } from './live.js';
import { askSavepoint, followSavepoint, openSavepoint, refused } from './savepoint.js';
import { sourcesPage } from './sources.js';
import { statePage } from './state.js';

const PAGES = [['', 'Graph'], ['checkpoints', 'Checkpoints'], ['failures', 'Failures'], ['sources', 'Sources'],
  ['state', 'State'], ['configuration', 'Configuration']];
const SHOWN = { '': graphPage, vertex: graphPage, checkpoints: checkpointsPage, failures: failuresPage, errors: errorPage,
  sources: sourcesPage, state: statePage, configuration: configurationPage };

const byId = (id) => document.getElementById(id);

/** `#/checkpoints/12` as page and id. */
function route() {
  const [page = '', id = null] = location.hash.replace(/^#\/?/, '').split('/').map(decodeURIComponent);
  return { page: page in SHOWN ? page : '', id };
}

function show() {
  const { job } = known;
  const at = route();
  header(job);
  pages(at);
  render(byId('notices'), notices(job));
  if (!job) {
    render(byId('main'), h('p', { class: 'empty' }, known.error ? 'Nothing to show yet.' : 'Asks the coordinator…'));
    return;
  }
  render(byId('main'), overview(job), SHOWN[at.page](at, show));
}

function header(job) {
  const name = job ? `${job.job.namespace}/${job.job.name}` : 'Millstream';
  byId('job').textContent = name;
  byId('job').title = name;
  document.title = job ? `${job.job.name} ${known.error ? '(no answer)' : job.state} – Millstream` : 'Millstream';
  const state = byId('state');
  if (state.textContent !== (job?.state ?? '')) state.textContent = job?.state ?? '';
  state.className = `state ${job?.state ?? ''}`;
  const why = refused();
  const button = byId('take-savepoint');
  button.disabled = why !== null;
  button.title = why === null ? '' : `No savepoint now: ${why}.`;
  age();
}

/** How old what is shown is. */
function age() {
  const old = Date.now() - known.heardAt;
  const stale = known.heardAt > 0 && (old > OLD || known.error !== null);
  document.body.classList.toggle('stale', stale);
  byId('fresh').textContent = known.heardAt === 0 ? '' : old < 2_000 && !stale ? 'live' : `last update ${ago(old)} ago`;
  byId('fresh').className = stale ? 'fresh old' : 'fresh';
}

/** Whole seconds, so that the text is as wide from one to the next. */
function ago(ms) {
  return ms < 10_000 ? `${Math.max(1, Math.round(ms / 1_000))} s` : duration(ms);
}

function pages(at) {
  const page = { vertex: '', errors: 'failures' }[at.page] ?? at.page;
  const failures = known.failures?.failures.length ?? 0;
  render(byId('pages'), PAGES.map(([path, title]) => h('li', {},
    h('a', { href: `#/${path}`, 'aria-current': path === page && 'page' }, title,
      path === 'failures' && failures > 0 && h('span', { class: 'badge' }, h('span', { class: 'unseen' }, ': '), count(failures))))));
}

function notices(job) {
  const list = [];
  if (known.error) {
    list.push(h('p', { class: 'notice danger', 'data-key': 'silent' }, h('strong', {}, 'The coordinator does not answer'), ` (${known.error}). `,
      known.heardAt ? `What is shown is what it said at ${time(known.heardAt)}. ` : '',
      'Asking again every second. Where it was replaced, the next one answers at the same address, unless a port-forward has ended.'));
  }
  if (!job) return list;
  if (job.message) {
    const kind = job.state === 'Failed' ? 'danger' : job.state === 'Running' ? 'warning' : 'hint';
    list.push(h('p', { class: `notice ${kind}`, 'data-key': 'message' }, h('strong', {}, `${job.state}: `), job.message));
  }
  if (job.lastFailure && job.state !== 'Running' && !job.message.includes(job.lastFailure.message)) {
    list.push(h('p', { class: 'notice warning', 'data-key': 'failure' }, h('strong', {}, 'Last failure: '),
      h('a', { href: `#/errors/${job.lastFailure.code}` }, job.lastFailure.code), ` ${job.lastFailure.message}`));
  }
  for (const { name, message } of job.warnings ?? []) {
    list.push(h('p', { class: 'notice hint', 'data-key': `warning-${name}`, title: `docs/pitfalls.md#${name}` },
      h('strong', {}, `${name}: `), message));
  }
  if (known.audit?.gaps.length > 0) {
    list.push(h('p', { class: 'notice danger', 'data-key': 'audit' }, h('strong', {}, 'Records are not accounted for: '),
      known.audit.gaps[0], ' ', h('a', { href: '#/failures' }, 'All gaps')));
  }
  return list;
}

function overview(job) {
  const { workers, slots } = workersOf(job);
  const last = job.lastCheckpoint;
  const pending = Object.values(job.lags).flat();
  const newest = curve.at(-1);
  return h('section', { class: 'overview', 'aria-label': 'Overview' }, figures([
    [`${job.state} for`, duration(now() - job.since), `since ${time(job.since, now())}`],
    ['Records in', rate(newest?.in ?? NaN), spark('in')], ['Records out', rate(newest?.out ?? NaN), spark('out')],
    ['Last checkpoint', last ? `${duration(now() - (last.completedAt ?? last.triggeredAt))} ago` : 'none yet', last ? `#${last.id}, took ${duration(last.durationMs)}` : null],
    pending.length > 0 && ['Pending', count(pending.reduce((sum, one) => sum + one.pendingRecords, 0)), 'records to read'],
    ['Restarts', count(job.restarts), `attempt ${job.attempt}`],
    ['Parallelism', count(job.parallelism), `${workers} ${workers === 1 ? 'worker' : 'workers'}, ${slots} ${slots === 1 ? 'slot' : 'slots'}`],
  ]));
}

/** Workers and their slots. */
function workersOf(job) {
  const slots = job.workers.reduce((sum, worker) => sum + worker.slots, 0);
  return { workers: job.workers.length, slots };
}

/** The last minutes of a rate as a curve. */
function spark(field) {
  const points = curve.slice(-120).map((one) => one[field]);
  if (points.filter((one) => one !== null).length < 10) return null;
  const most = Math.max(1, ...points.map((one) => one ?? 0));
  const step = 120 / Math.max(40, points.length);
  const x = (index) => (120 - (points.length - 1 - index) * step).toFixed(1);
  const at = points.map((one, index) => one === null ? null : `${x(index)},${(19 - one / most * 18).toFixed(1)}`);
  return h('svg', { class: 'spark', viewBox: '0 0 120 20', preserveAspectRatio: 'none', 'aria-hidden': 'true' },
    h('polyline', { points: at.filter(Boolean).join(' ') }));
}

const ACTIONS = {
  skip: (event) => { event.preventDefault(); byId('main').focus(); },
  savepoint: openSavepoint,
  'ask-savepoint': askSavepoint,
  'all-checkpoints': () => { showAll(); show(); },
  'close-savepoint': () => byId('savepoint').close(),
  'copy-job': (event) => {
    navigator.clipboard?.writeText(known.configuration.job).then(
      () => { event.target.textContent = 'Copied'; },
      () => getSelection().selectAllChildren(byId('job-file')));
  },
};

document.addEventListener('click', (event) => {
  const action = event.target.closest('[data-action]')?.dataset.action;
  ACTIONS[action]?.(event);
});
byId('savepoint').addEventListener('submit', (event) => { event.preventDefault(); askSavepoint(); });

const look = follow(
  () => {
    const at = route();
    return { audit: at.page === 'failures', checkpoint: at.page === 'checkpoints' && at.id !== null ? Number(at.id) : null };
  },
  () => { show(); followSavepoint(); });
setInterval(age, 1_000);
let shown = route().page;
addEventListener('hashchange', () => {
  const { page } = route();
  show();
  look();
  // Another page begins at its top. A vertex and a checkpoint open where they stand.
  const graph = ['', 'vertex'];
  if (page === shown || (graph.includes(page) && graph.includes(shown))) return;
  shown = page;
  scrollTo(0, 0);
  document.querySelector('nav [aria-current]')?.scrollIntoView({ block: 'nearest', inline: 'nearest' });
  byId('main').focus({ preventScroll: true });
});
