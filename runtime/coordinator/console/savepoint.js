// The dialog that takes a savepoint.

import { ask, known } from './live.js';
import { h, render } from './dom.js';

const NAME = /^[a-z0-9-]{1,63}$/;

/** Why no savepoint can be asked for now; null if one can. */
export function refused() {
  const state = known.job?.state;
  if (!state || known.error) return 'the coordinator does not answer';
  if (['Stopped', 'Completed', 'Failed'].includes(state)) return `the job is ${state.toLowerCase()}`;
  if (state === 'Stopping') return 'the job is stopping';
  return null;
}

const dialog = document.getElementById('savepoint');
let request = { name: '', status: null, error: null, asks: false };

export function openSavepoint() {
  const instant = new Date().toISOString().replace(/\D/g, '').slice(0, 14);
  const base = (known.job.job.name || 'savepoint').slice(0, 40).replace(/[^a-z0-9-]/g, '-');
  request = { name: `${base}-${instant}`, status: null, error: null, asks: false };
  show();
  dialog.showModal();
  dialog.querySelector('input').select();
}

function show() {
  const { status, error, asks, name } = request;
  const asked = status !== null;
  render(dialog, h('form', { method: 'dialog' },
    h('h2', { id: 'savepoint-title' }, 'Take a savepoint'),
    h('p', {}, 'It belongs to you: nothing deletes it, and the job goes on. ', known.job.deployment === null ? null
      : ['On Kubernetes ', h('code', {}, `kubectl streamjob savepoint ${known.job.job.name}`), ' makes a resource of it as well.']),
    h('label', { for: 'savepoint-name' }, 'Name'),
    h('input', { id: 'savepoint-name', name: 'name', value: name, maxlength: 63, autocomplete: 'off', spellcheck: 'false', disabled: asked || asks,
      'aria-describedby': 'savepoint-rule' }),
    h('small', { id: 'savepoint-rule' }, '1 to 63 lower-case letters, digits and “-”.'),
    h('p', { id: 'savepoint-result', role: 'status', class: error || status?.failure ? 'failure' : null }, result()),
    h('div', { class: 'actions' },
      h('button', { type: 'button', 'data-action': 'close-savepoint' }, asked ? 'Close' : 'Cancel'),
      !asked && h('button', { type: 'button', class: 'primary', 'data-action': 'ask-savepoint', disabled: asks }, 'Take savepoint'))));
}

function result() {
  const { status, error, asks } = request;
  if (error) return error;
  if (asks) return 'Asks the coordinator…';
  if (!status) return '';
  if (status.state === 'Completed') return ['Complete: ', h('span', { class: 'path' }, status.path)];
  if (status.state === 'Failed') return `${status.failure?.code}: ${status.failure?.message}`;
  return status.id === null ? 'Waits for the job to run.' : `Checkpoint ${status.id} is under way; it is written when the next checkpoint is committed.`;
}

export async function askSavepoint() {
  const name = document.getElementById('savepoint-name').value.trim();
  Object.assign(request, { name, error: null });
  if (!NAME.test(name)) {
    request.error = 'This name is not allowed: write 1 to 63 lower-case letters, digits and “-”.';
    return show();
  }
  await send(() => ask('v1/savepoints', {
    method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ name }),
  }));
}

/** How it stands, while the dialog is open. */
export function followSavepoint() {
  if (!dialog.open || request.status?.state !== 'InProgress' || request.asks) return;
  send(() => ask(`v1/savepoints/${request.name}`));
}

async function send(asking) {
  const mine = request;
  mine.asks = mine.status === null;
  show();
  try {
    mine.status = await asking();
    mine.error = null;
  } catch (error) {
    mine.error = error.message;
  }
  mine.asks = false;
  if (mine === request) show();
}
