/** Who made the most changes in a time frame, for all documents or one, and for each document. */

import type { EditorsView } from '../config';
import type { Context, OpenView, Shown, View } from '../context';
import { Bounds, MOST_GROUPS, perValue } from '../counting';
import { count, fragment, h, percent, plural } from '../dom';
import { timeOf } from '../facets';
import { all, is, within } from '../filters';
import { valuesOf, type Query } from '../search';
import { describeSpan, spanOf } from '../time';
import { capitalized, entryOf, rangeControl, valueChoice } from '../ui/controls';
import { bar, empty, figure, section, table } from '../ui/table';
import { person } from '../ui/values';

export const editors: View = {
  id: 'editors',
  title: 'Editors',
  question: 'Who made the most changes?',
  offered: (config) => config.views.editors.length > 0,
  open(context): OpenView {
    const { entry, control } = entryOf(context, context.config.views.editors);
    const { index, document } = entry;
    return {
      controls: fragment(
        control,
        valueChoice(context, { name: 'document', label: capitalized(document), index, attribute: document }),
        rangeControl(context),
      ),
      load: () => load(context, entry),
    };
  },
};

interface Editor {
  user: string;
  changes: number;
  refused: number;
}

async function load(context: Context, entry: EditorsView): Promise<Shown> {
  const { state, searcher, zone } = context;
  const { index, document, user, unauthorized } = entry;
  const bounds = new Bounds();
  const span = spanOf(state.get, zone, context.now());
  const only = state.get('document') && is(document, state.get('document'));
  const filters = all(only, within(timeOf(context.index(index)) ?? '', span));
  const bad = unauthorized && is(unauthorized.attribute, unauthorized.value);
  const query: Query = { index, filters, facets: [user, document] };
  const [every, refused] = await searcher.ask([query, ...(bad ? [{ ...query, filters: all(filters, bad) }] : [])]);
  bounds.check(every, refused);
  const list = valuesOf(every, user).map(([value, number]): Editor => {
    const bad = refused?.facets[user]?.[value] ?? 0;
    return { user: value, changes: number - bad, refused: bad };
  });
  list.sort((a, b) => b.changes - a.changes || b.refused - a.refused || (a.user < b.user ? -1 : 1));
  const documents = valuesOf(every, document).map(([value, number]): [string, number] => [
    value,
    number - (refused?.facets[document]?.[value] ?? 0),
  ]);
  documents.sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0], 'en', { numeric: true }));
  const groups = only ? [] : documents.slice(0, MOST_GROUPS).map(([value]) => value);
  const authorized = unauthorized ? all(filters, `NOT ${bad}`) : filters;
  const perDocument = await searcher.ask(perValue(groups, document, { index, filters: authorized, facets: [user] }));
  bounds.check(...perDocument);
  const total = list.reduce((sum, one) => sum + one.changes, 0);
  const describe = describeSpan(span, zone);
  if (!every || every.count === 0) {
    const content = empty(`No change in this selection: ${describe}.`, 'Choose a longer time, or all documents.');
    return { content, bounds, isEmpty: true };
  }
  return {
    content: fragment(
      h(
        'div',
        { class: 'figures' },
        figure('Changes', total, describe),
        unauthorized
          ? figure(
              'Unauthorized',
              refused?.count ?? 0,
              'attempts, not counted as changes',
              refused?.count ? 'alarm' : 'good',
            )
          : null,
        figure('Editors', list.filter((one) => one.changes > 0).length),
        figure(`${capitalized(document)}s`, documents.length),
      ),
      section('Most changes', ranking(context, entry, list, total)),
      groups.length > 0
        ? section(`By ${document}`, byDocument(context, entry, groups, perDocument, documents.length))
        : null,
    ),
    bounds,
    table: () => ({
      name: `editors-${index}`,
      heading: [user, 'changes', ...(unauthorized ? ['unauthorized'] : [])],
      rows: list.map((one) => [one.user, one.changes, ...(unauthorized ? [one.refused] : [])]),
      people: [0],
    }),
  };
}

function ranking(context: Context, entry: EditorsView, list: Editor[], total: number): HTMLElement {
  const most = list[0]?.changes ?? 0;
  const rows = list.slice(0, 50).map((one, at) => ({
    id: one.user,
    cells: [
      String(at + 1),
      person(context, one.user),
      count(one.changes),
      percent(one.changes, total),
      ...(entry.unauthorized ? [one.refused > 0 ? h('strong', { class: 'verdict' }, count(one.refused)) : '0'] : []),
      bar(one.changes, most),
    ],
  }));
  const columns = [
    { title: '#', numeric: true },
    { title: capitalized(entry.user) },
    { title: 'Changes', numeric: true },
    { title: 'Share', numeric: true },
    ...(entry.unauthorized ? [{ title: 'Unauthorized', numeric: true, hint: 'attempts, not counted as changes' }] : []),
    { title: '' },
  ];
  return fragmentOf(
    table('Editors by their changes', columns, rows),
    list.length > 50 ? `The first 50 of ${plural(list.length, 'editor')}; CSV has all.` : '',
  );
}

function fragmentOf(node: HTMLElement, note: string): HTMLElement {
  return h('div', null, node, note ? h('p', { class: 'hint' }, note) : null);
}

function byDocument(
  context: Context,
  entry: EditorsView,
  groups: string[],
  answers: Awaited<ReturnType<Context['searcher']['ask']>>,
  documents: number,
): HTMLElement {
  const rows = groups.map((value, at) => {
    const found = valuesOf(answers[at], entry.user);
    const names = found
      .slice(0, 3)
      .flatMap(([user, number]) => [h('span', { class: 'pair' }, person(context, user), ` ${count(number)}`)]);
    return {
      cells: [value, count(answers[at]?.count ?? 0), h('span', { class: 'pairs' }, names.length > 0 ? names : '–')],
    };
  });
  const columns = [{ title: capitalized(entry.document) }, { title: 'Changes', numeric: true }, { title: 'Most by' }];
  const note =
    documents > groups.length ? `The ${groups.length} with the most changes, of ${plural(documents, 'document')}.` : '';
  return fragmentOf(table(`Who changed each ${entry.document} most`, columns, rows), note);
}
