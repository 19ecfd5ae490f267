/** The form that asks for what the page needs to reach Algolia. */

import { list, parseHost, type Connection, type Draft } from './connection';
import { h } from './dom';
import { field } from './ui/controls';

export interface FormOptions {
  draft: Draft;
  /** Indices come from a configuration. */
  hasConfig: boolean;
  /** Why the configuration could not be used. */
  problem?: string;
  connect: (connection: Connection) => void;
}

export function connectForm({ draft, hasConfig, problem, connect }: FormOptions): HTMLElement {
  const input = (name: string, value: string, more: Record<string, string | boolean> = {}) =>
    h('input', { name, value, autocomplete: 'off', spellcheck: 'false', autocapitalize: 'off', ...more });
  const app = input('app', draft.app ?? '', { required: true, placeholder: 'YourApplicationID' });
  const key = input('key', draft.key ?? '', { required: true, type: 'password', placeholder: 'a search key' });
  const host = input('host', (draft.hosts ?? []).join(' '), { placeholder: 'only for a gateway or a local server' });
  const indices = input('indices', (draft.indices ?? []).join(' '), {
    required: !hasConfig,
    placeholder: 'names, separated by spaces',
  });
  const submit = (event: Event) => {
    event.preventDefault();
    const hosts = list(host.value);
    const wrong = hosts.find((one) => parseHost(one) === undefined);
    host.setCustomValidity(wrong === undefined ? '' : `“${wrong}” is no address like https://gateway.example`);
    if (form.reportValidity()) {
      connect({ app: app.value.trim(), key: key.value.trim(), hosts, indices: list(indices.value) });
    }
  };
  host.addEventListener('input', () => host.setCustomValidity(''));
  const form = h(
    'form',
    { class: 'connect', novalidate: true, onsubmit: submit, 'aria-label': 'Connection' },
    h('h1', null, 'Audit'),
    h(
      'p',
      null,
      'This page asks Algolia for what the audit tables hold. It needs a key that can search, and talks to nobody else.',
    ),
    problem ? h('div', { class: 'failure', role: 'alert', 'data-kind': 'config' }, h('p', null, problem)) : null,
    field('Application id', app),
    field(
      'Search key',
      key,
      'Kept in this tab only, until it is closed. audit_algolia.secured_key() makes one that sees certain indices, for some time.',
    ),
    hasConfig && (draft.indices ?? []).length === 0
      ? null
      : field(
          'Indices',
          indices,
          'Views follow from what their records have. A config.json beside the page names them, and tells more.',
        ),
    h(
      'details',
      { open: (draft.hosts ?? []).length > 0 },
      h('summary', null, 'Another host than Algolia’s'),
      field('Host', host, 'The page’s content security policy must allow it.'),
    ),
    h('button', { class: 'primary' }, 'Connect'),
  );
  return form;
}
