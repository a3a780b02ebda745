// What the coordinator says, asked for again and again: all of it comes from its REST interface.

/** From one look to the next, milliseconds. */
const INTERVAL = 1_000;
/** After how long without an answer what is shown counts as old, milliseconds. */
export const OLD = 4_000;
/** How long an answer may take, milliseconds. */
const PATIENCE = 5_000;
/** Rates are averages over this time, milliseconds: counters come about every second. */
const WINDOW = 6_000;
/** How many totals are kept, for the curve of the last minutes. */
const KEPT = 300;

/** The newest answers; null before the first. */
export const known = {
  job: null, graph: null, configuration: null, checkpoints: null, failures: null, audit: null,
  details: new Map(),
  /** When the job was heard of last, by the clock of the browser. */
  heardAt: 0,
  /** Why the last request failed. */
  error: null,
  /** What to add to the clock of the browser to have the coordinator's. */
  skew: 0,
};

/** Totals per operator at instants of one attempt, the newest last. */
let totals = [];
/** Records per second into the job and out of it, the newest last. */
export const curve = [];

/** The time by the coordinator's clock: now, or when it was heard of last while it does not answer. */
export function now() {
  return (known.error ? known.heardAt : Date.now()) + known.skew;
}

/** Asks for JSON. Throws what the coordinator says is wrong, or that it does not answer. */
export async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, cache: 'no-store', signal: AbortSignal.timeout(PATIENCE) });
  } catch (error) {
    const slow = error.name === 'TimeoutError';
    throw new Error(slow ? `no answer within ${PATIENCE / 1_000} s` : 'the coordinator cannot be reached');
  }
  const body = await response.json().catch(() => null);
  if (!response.ok) throw new Error(body?.message ?? `the answer was ${response.status} ${response.statusText}`);
  if (body === null) throw new Error('the answer is not JSON');
  const date = Date.parse(response.headers.get('date') ?? '');
  // The header has whole seconds.
  if (Number.isFinite(date) && Math.abs(date - Date.now() - known.skew) > 2_000) known.skew = date - Date.now();
  return body;
}

async function look(wanted) {
  const before = known.job;
  const job = await ask('v1/job');
  const anew = !known.graph || known.error || before?.parallelism !== job.parallelism;
  const graph = anew ? await ask('v1/job/graph') : known.graph;
  const configuration = anew ? await ask('v1/job/config') : known.configuration;
  const failed = !known.failures || before?.restarts !== job.restarts || before?.state !== job.state;
  const failures = failed || known.error ? await ask('v1/job/failures') : known.failures;
  const checkpoints = await ask('v1/checkpoints');
  const audit = wanted.audit || !known.audit ? await ask('v1/audit') : known.audit;
  Object.assign(known, { job, graph, configuration, failures, checkpoints, audit });
  if (wanted.checkpoint !== null) await lookAtCheckpoint(wanted.checkpoint, checkpoints);
  known.heardAt = Date.now();
  known.error = null;
  note(job, graph);
}

/** One that is over does not change any more, but for what tasks say of it in their next report. */
async function lookAtCheckpoint(id, checkpoints) {
  const summary = checkpoints.checkpoints.find((one) => one.id === id);
  const detail = known.details.get(id);
  const over = detail && detail.state !== 'InProgress' && now() - (detail.completedAt ?? 0) > 5_000;
  if (!summary) known.details.delete(id);
  else if (!over || detail.attempt !== summary.attempt) known.details.set(id, await ask(`v1/checkpoints/${id}`));
}

function note(job, graph) {
  const last = totals.at(-1);
  if (last && last.attempt !== job.attempt) totals = [];
  totals.push({ at: performance.now(), attempt: job.attempt, operators: job.operators });
  const kept = totals.findIndex((one) => one.at > performance.now() - WINDOW);
  totals = totals.slice(Math.max(0, kept - 1));
  const sum = (kind, field) => graph.nodes
    .filter((node) => node.kind === kind)
    .map((node) => rateOf(node.operator, field))
    .reduce((all, one) => one === null ? all : (all ?? 0) + one, null);
  curve.push({ in: sum('source', 'recordsIn'), out: sum('sink', 'recordsOut') });
  if (curve.length > KEPT) curve.shift();
}

/** Of a counter of an operator, what it grows by in a second; null if that is not known yet. */
export function rateOf(operator, field) {
  const [first, last] = [totals[0], totals.at(-1)];
  if (!first || last.at - first.at < 900) return null;
  const grown = (last.operators[operator]?.[field] ?? 0) - (first.operators[operator]?.[field] ?? 0);
  return Math.max(0, grown) * 1_000 / (last.at - first.at);
}

/** Asks again and again while the page can be seen, and calls back after each look. */
export function follow(wanted, changed) {
  let running = false;
  const turn = async () => {
    if (running || document.hidden) return;
    running = true;
    try {
      await look(wanted());
    } catch (error) {
      known.error = error.message;
    }
    running = false;
    changed();
  };
  setInterval(turn, INTERVAL);
  document.addEventListener('visibilitychange', turn);
  turn();
  return turn;
}
