/** A list of change records, with what was before and after. */

import type { IndexConfig } from '../config';
import type { Context } from '../context';
import { h, type Child } from '../dom';
import { differences, type Change } from '../history';
import { person, plain, shown, time } from './values';

const OPS: Record<string, string> = { insert: 'created', update: 'changed', delete: 'deleted', truncate: 'emptied' };

export interface ChangeListOptions {
  /** Names the row; without it, the row's key does. */
  subject?: (change: Change) => Child;
  /** Shows these attributes alone. */
  only?: string[];
  /** What the operations are called. */
  words?: Record<string, string>;
}

/** The changes in the order given. */
export function changeList(
  context: Context,
  index: IndexConfig,
  changes: Change[],
  options: ChangeListOptions = {},
): HTMLElement {
  return h(
    'ol',
    { class: 'changes' },
    changes.map((change) =>
      h(
        'li',
        { class: `change op-${change.op}`, 'data-id': change.hit.objectID },
        ...entry(context, index, change, options),
      ),
    ),
  );
}

function entry(
  context: Context,
  index: IndexConfig,
  change: Change,
  { subject, only, words = OPS }: ChangeListOptions,
): Child[] {
  const when =
    change.at === undefined ? h('span', { class: 'hint' }, 'before recording began') : time(context, change.at);
  const who = change.by === undefined ? null : h('span', { class: 'by' }, ' by ', person(context, change.by));
  const head = h(
    'div',
    { class: 'change-head' },
    when,
    h('span', { class: `op op-${change.op}` }, words[change.op] ?? change.op),
    subject ? subject(change) : h('span', { class: 'row-key' }, change.row || index.name),
    who,
  );
  return [
    head,
    change.op === 'truncate'
      ? h('p', { class: 'hint' }, 'All rows of the table were removed at once.')
      : diff(context, index, change, only),
  ];
}

function diff(context: Context, index: IndexConfig, change: Change, only?: string[]): HTMLElement {
  const attributes = index.attributes.map(({ name }) => name);
  const found = differences(change, attributes).filter(({ attribute }) => only?.includes(attribute) ?? true);
  return h(
    'dl',
    { class: 'diff' },
    found.flatMap(({ attribute, before, after }) => [
      h('dt', null, attribute),
      h(
        'dd',
        null,
        change.op === 'insert'
          ? null
          : h('del', null, h('span', { class: 'sr' }, 'before: '), shown(context, index, attribute, before)),
        change.op === 'update' ? h('span', { class: 'arrow', 'aria-hidden': 'true' }, '→') : null,
        change.op === 'delete'
          ? null
          : h('ins', null, h('span', { class: 'sr' }, 'after: '), shown(context, index, attribute, after)),
      ),
    ]),
  );
}

export const CHANGE_HEADING = ['changed_at', 'op', 'row', 'changed_by', 'attribute', 'before', 'after'];

/** One CSV row for each attribute that a change touched. */
export function changeRows(context: Context, index: IndexConfig, changes: Change[]): string[][] {
  const attributes = index.attributes.map(({ name }) => name);
  return changes.flatMap((change) => {
    const start = [plain(context, index, 'changed_at', change.at), change.op, change.row, change.by ?? ''];
    const found = differences(change, attributes);
    const text = (name: string, value: unknown) => plain(context, index, name, value);
    return found.length === 0
      ? [[...start, '', '', '']]
      : found.map(({ attribute, before, after }) => [
          ...start,
          attribute,
          text(attribute, before),
          text(attribute, after),
        ]);
  });
}
