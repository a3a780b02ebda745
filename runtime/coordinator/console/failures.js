// The page `Failures`: what has gone wrong, where, and what to do about it.

import { known, now } from './live.js';
import { figures, h, row, table } from './dom.js';
import { count, duration, time } from './format.js';
import { failureOf } from './checkpoints.js';
import { markdown } from './markdown.js';

const LIST = [['When'], ['Attempt', 'number'], ['Error'], ['What happened'], ['Then']];

export function failuresPage() {
  const { job, failures, audit } = known;
  const list = failures.failures;
  return [
    h('h2', {}, 'Failures'),
    figures([['Restarts', count(job.restarts), 'since this coordinator began'], ['Attempt', count(job.attempt)],
      ['Audit', audit.gaps.length === 0 ? audit.checkpoint === null ? 'no checkpoint yet' : 'no gaps' : `${audit.gaps.length} gaps`,
        audit.checkpoint === null ? null : `up to checkpoint ${audit.checkpoint}`]]),
    audit.gaps.length > 0 && h('section', { class: 'panel' }, h('h3', {}, 'Records that are not accounted for'),
      h('ul', {}, audit.gaps.map((gap) => h('li', {}, gap)))),
    job.givenUp && h('section', { class: 'panel' }, h('h3', {}, `Went back from checkpoint ${job.givenUp.checkpoint} to ${job.givenUp.wentBackTo}`),
      h('p', {}, 'All of its output was aborted before it could be committed, so nothing is lost.'), failureOf(job.givenUp.failure)),
    job.checkpointFailures && h('section', { class: 'panel' },
      h('h3', {}, `${job.checkpointFailures.inARow} checkpoints in a row have failed; ${job.checkpointFailures.tolerable} are tolerated`),
      failureOf(job.checkpointFailures.last)),
    list.length === 0
      ? [job.lastFailure && failureOf(job.lastFailure),
        h('p', { class: 'empty' }, 'No attempt has failed since this coordinator began.')]
      : table('Failures', LIST, list.map((one, index) => row(LIST, [
        h('span', { title: new Date(one.at).toISOString() }, time(one.at, now())), one.attempt,
        h('a', { href: `#/errors/${one.page}` }, one.page, h('small', {}, ` ${one.failure.code}`)),
        h('span', { class: 'message' }, one.failure.message),
        one.restartDelayMs === null ? 'the job was given up' : `restarted after ${duration(one.restartDelayMs)}`,
      ], { 'data-key': `${one.attempt}-${one.at}-${list.length - index}` }))),
  ];
}

const texts = new Map();

/** The page of an error, which the coordinator has with it. */
export function errorPage(route, changed) {
  const back = h('p', { class: 'after' }, h('a', { href: '#/failures' }, 'All failures'));
  const text = texts.get(route.id);
  if (text === undefined) {
    texts.set(route.id, null);
    fetch(`console/errors/${encodeURIComponent(route.id)}`)
      .then(async (answer) => texts.set(route.id, answer.ok ? await answer.text() : `# ${route.id}\n\nThis coordinator has no page of this error.`))
      .catch(() => texts.delete(route.id))
      .finally(changed);
  }
  return [back, h('article', { class: 'panel prose', 'data-key': route.id }, text ? markdown(text) : h('p', { class: 'empty' }, 'Asks the coordinator…'))];
}
