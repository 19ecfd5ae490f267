/** Who had which permission on a document over a period, from the index alone: the state at its beginning, and each change. */

import { timeline, type TimelineRow } from '../charts/timeline';
import type { DocumentView } from '../config';
import type { Context } from '../context';
import { fragment, h, type Child } from '../dom';
import { attributeOf } from '../facets';
import { changesDuring, during, heldAt, holdings, type Change, type Holding } from '../history';
import { onAxis, precise, readable } from '../time';
import { changeList } from '../ui/changes';
import { section, table } from '../ui/table';
import { person, short, time } from '../ui/values';

export interface Period {
  from: number | undefined;
  to: number | undefined;
}

export function permissionSection(
  context: Context,
  entry: DocumentView,
  id: string,
  changes: Change[],
  period: Period,
): HTMLElement {
  const { zone } = context;
  const { index: name = '', user = '', level = '' } = entry.permissions ?? {};
  const index = context.index(name);
  const known = new Set(index.attributes.map((attribute) => attribute.name));
  const isKey = (attribute: string) => attributeOf(index, attribute).key === true || !known.has(attribute);
  const held = holdings(changes, id, { user, level, document: entry.document, isKey });
  const times = changes.flatMap((change) => change.at ?? []);
  const from = period.from ?? times[0] ?? context.now() - 86_400;
  const to = Math.max(period.to ?? context.now(), from);
  const levels = [...new Set(held.map((one) => one.level))].sort();
  const inPeriod = during(held, from, to);
  const later = changesDuring(changes, from, to);
  const title = `Permissions on ${entry.document} ${id}`;
  const description = `From ${readable(from, zone)} to ${readable(to, zone)} (${zone}), read from ${name}.`;
  if (changes.length === 0) {
    return section(title, h('p', { class: 'hint' }, `No permission on this ${entry.document} was recorded.`));
  }
  return section(
    title,
    h('p', { class: 'hint' }, description),
    inPeriod.length === 0
      ? h('p', null, 'Nobody had a permission in this period.')
      : fragment(
          timeline({
            title: `Who had which permission`,
            from,
            to,
            rows: rowsOf(context, inPeriod, levels),
            format: (moment) => onAxis(moment, zone, to - from),
          }),
          levelLegend(levels),
        ),
    h(
      'div',
      { class: 'columns' },
      h('div', null, h('h3', null, 'Held at the beginning'), stateTable(context, heldAt(held, from), from)),
      h('div', null, h('h3', null, 'Held at the end'), stateTable(context, heldAt(held, to), to)),
    ),
    h('h3', null, 'Changes in this period'),
    later.length === 0
      ? h('p', { class: 'hint' }, 'None.')
      : changeList(context, index, later, {
          subject: (change) => subject(context, change, user),
          words: WORDS,
          only: [level],
        }),
    periodTable(context, inPeriod),
  );
}

const WORDS = { insert: 'granted', update: 'changed', delete: 'withdrawn', truncate: 'all withdrawn' };

function subject(context: Context, change: Change, user: string): Child {
  return h('span', { class: 'row-key' }, 'the permission of ', person(context, String(change.hit[user] ?? '–')));
}

function rowsOf(context: Context, held: Holding[], levels: string[]): TimelineRow[] {
  const users = [...new Set(held.map((one) => one.user))];
  return users.map((user) => ({
    name: user,
    label: short(context, user),
    stretches: held
      .filter((one) => one.user === user)
      .map((one) => ({
        label: one.level,
        from: one.from,
        to: one.to,
        kind: levels.indexOf(one.level),
        tip: `${context.names.shown(user)}: ${one.level}, ${span(context, one)}`,
      })),
  }));
}

function span(context: Context, one: Holding): string {
  const at = (moment: number | undefined, open: string) =>
    moment === undefined ? open : precise(moment, context.zone);
  return `${at(one.from, 'since before recording began')} – ${at(one.to, 'still held')}`;
}

function levelLegend(levels: string[]): HTMLElement {
  const entries = levels.map((level, at) =>
    h('li', null, h('span', { class: `swatch level-${at % 6}`, 'aria-hidden': 'true' }), level),
  );
  return h('ul', { class: 'legend' }, entries);
}

function stateTable(context: Context, held: Holding[], moment: number): HTMLElement {
  if (held.length === 0) {
    return h('p', { class: 'hint' }, `Nobody, at ${precise(moment, context.zone)}.`);
  }
  const rows = held.map((one) => ({
    cells: [person(context, one.user), one.level, when(context, one.from, 'before recording')],
  }));
  return table(
    `At ${precise(moment, context.zone)}`,
    [{ title: 'Who' }, { title: 'Permission' }, { title: 'Since' }],
    rows,
  );
}

function when(context: Context, moment: number | undefined, open: string): Node {
  return moment === undefined ? h('span', { class: 'hint' }, open) : time(context, moment);
}

/** The timeline as a table. */
function periodTable(context: Context, held: Holding[]): HTMLElement {
  const by = (who: string | undefined) => (who === undefined ? '–' : person(context, who));
  const rows = held.map((one) => ({
    cells: [
      person(context, one.user),
      one.level,
      when(context, one.from, 'before recording'),
      by(one.grantedBy),
      when(context, one.to, 'still held'),
      by(one.endedBy),
    ],
  }));
  const columns = ['Who', 'Permission', 'From', 'Granted by', 'Until', 'Ended by'].map((title) => ({ title }));
  return h(
    'details',
    { class: 'as-table' },
    h('summary', null, 'The timeline as a table'),
    table('Every permission that touches the period', columns, rows),
  );
}
