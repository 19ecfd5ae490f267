/** Where names are loaded: a file of pseudonyms and names, read from disk into memory. */

import { h, plural } from './dom';
import type { Names } from './names';
import { NamesError } from './names';
import { button } from './ui/controls';

export function namesPanel(names: Names, changed: () => void): HTMLDialogElement {
  const told = h('p', { role: 'status', class: 'told' });
  const file = h('input', { type: 'file', accept: '.csv,text/csv,text/plain', id: 'names-file' });
  const clear = button('Forget the names', () => {
    names.clear();
    show();
    changed();
  });
  const show = () => {
    told.textContent = names.size === 0 ? 'No names are loaded.' : `${plural(names.size, 'name')} in memory.`;
    told.classList.remove('wrong');
    clear.hidden = names.size === 0;
  };
  file.addEventListener('change', () => {
    const [chosen] = file.files ?? [];
    void chosen?.text().then((text) => {
      try {
        names.add(text);
        show();
        changed();
      } catch (error) {
        told.textContent = error instanceof NamesError ? error.message : String(error);
        told.classList.add('wrong');
      }
      file.value = '';
    });
  });
  show();
  const statement = `\\copy (SELECT audit_algolia.pseudonym(user_id), name FROM users) TO 'names.csv' CSV HEADER`;
  const dialog = h(
    'dialog',
    { class: 'names', 'aria-labelledby': 'names-title' },
    h('h2', { id: 'names-title' }, 'Names'),
    h(
      'p',
      null,
      'Records have pseudonyms. Whoever owns the key can tell, by another channel, whose they are. Load the file from your disk: it stays in this page’s memory, is sent nowhere, and is gone when the tab is closed or reloaded.',
    ),
    h('label', { for: 'names-file' }, 'CSV of pseudonym and name'),
    file,
    told,
    h(
      'details',
      null,
      h('summary', null, 'How such a file is made'),
      h('p', null, 'By whoever may call pseudonym(), in psql:'),
      h('pre', null, statement),
    ),
    h(
      'p',
      { class: 'buttons' },
      clear,
      button('Close', () => dialog.close(), 'primary'),
    ),
  );
  return dialog;
}
