/** Who accessed what, unauthorized accesses first. */

import type { AccessView } from '../config';
import type { Context, OpenView, Shown, View } from '../context';
import { Bounds } from '../counting';
import { count, fragment, h, plural, type Child } from '../dom';
import { timeOf } from '../facets';
import { all, is, within } from '../filters';
import type { Answer, Hit } from '../search';
import { valuesOf } from '../search';
import { describeSpan, spanOf } from '../time';
import { button, capitalized, entryOf, rangeControl, valueChoice } from '../ui/controls';
import { bar, empty, figure, growing, section, table, type Row } from '../ui/table';
import { person, plain, shown, time } from '../ui/values';
import { liveBar } from './live';

const MOST_ROWS = 200;

export const access: View = {
  id: 'access',
  title: 'Access',
  question: 'Who accessed what, and was any of it unauthorized?',
  offered: (config) => config.views.access.length > 0,
  open(context): OpenView {
    const { entry, control } = entryOf(context, context.config.views.access);
    const { index, document, user } = entry;
    const stop = context.watcher.listen((fresh) => {
      if (fresh.some((alarm) => alarm.view.index === entry.index)) {
        context.reload();
      }
    });
    return {
      controls: fragment(
        control,
        valueChoice(context, { name: 'document', label: capitalized(document), index, attribute: document }),
        valueChoice(context, { name: 'user', label: capitalized(user), index, attribute: user }),
        rangeControl(context),
      ),
      load: () => load(context, entry),
      every: 15,
      close: stop,
    };
  },
};

async function load(context: Context, entry: AccessView): Promise<Shown> {
  const { state, searcher, zone } = context;
  const { index, document, user, unauthorized } = entry;
  const bounds = new Bounds();
  const at = timeOf(context.index(index)) ?? '';
  const span = spanOf(state.get, zone, context.now());
  const filters = all(
    state.get('document') && is(document, state.get('document')),
    state.get('user') && is(user, state.get('user')),
    within(at, span),
  );
  const bad = unauthorized && is(unauthorized.attribute, unauthorized.value);
  const [accesses, refused] = await searcher.ask([
    { index, filters, facets: [document, user], hitsPerPage: MOST_ROWS },
    ...(bad ? [{ index, filters: all(filters, bad), facets: [document, user], hitsPerPage: MOST_ROWS }] : []),
  ]);
  bounds.check(accesses, refused);
  const hits = accesses?.hits ?? [];
  const describe = describeSpan(span, zone);
  return {
    content: fragment(
      context.watcher.views.length > 0 ? liveBar(context) : null,
      h(
        'div',
        { class: 'figures' },
        bad ? figure('Unauthorized', refused?.count ?? 0, describe, refused?.count ? 'alarm' : 'good') : null,
        figure('Accesses', accesses?.count ?? 0, describe),
        figure(`${capitalized(document)}s`, Object.keys(accesses?.facets[document] ?? {}).length),
        figure(`${capitalized(user)}s`, Object.keys(accesses?.facets[user] ?? {}).length),
      ),
      bad ? unauthorizedSection(context, entry, refused) : null,
      accesses?.count ? counted(context, entry, accesses, refused) : null,
      section('Newest accesses', listing(context, entry, accesses)),
    ),
    bounds,
    isEmpty: !accesses?.count,
    table: () => {
      const attributes = [
        at,
        document,
        user,
        ...(entry.action ? [entry.action] : []),
        ...(unauthorized ? [unauthorized.attribute] : []),
      ];
      const rows = hits.map((hit) => attributes.map((name) => plain(context, context.index(index), name, hit[name])));
      return { name: `access-${index}`, heading: attributes, rows, people: [2] };
    },
  };
}

function unauthorizedSection(context: Context, entry: AccessView, refused: Answer | undefined): HTMLElement {
  const heading = `Unauthorized`;
  if (!refused || refused.count === 0) {
    return section(heading, h('p', { class: 'good-news' }, 'No unauthorized access in this selection.'));
  }
  return h(
    'section',
    { class: 'unauthorized' },
    h('h2', null, heading),
    rowsOf(context, entry, refused.hits, `Unauthorized, the newest first`),
    more(refused),
  );
}

function more(answer: Answer): Child {
  return answer.count > answer.hits.length
    ? h(
        'p',
        { class: 'hint' },
        `The newest ${count(answer.hits.length)} of ${count(answer.count)}. A shorter time range, or Explore, shows the others.`,
      )
    : null;
}

function listing(context: Context, entry: AccessView, answer: Answer | undefined): Child[] {
  if (!answer || answer.count === 0) {
    return [
      empty(
        'No access matches this selection.',
        'Choose a longer time or all documents and users. If you expected some: has the index been filled?',
      ),
    ];
  }
  return [rowsOf(context, entry, answer.hits, 'Accesses, the newest first'), more(answer)];
}

function rowsOf(context: Context, entry: AccessView, hits: Hit[], caption: string): HTMLElement {
  const index = context.index(entry.index);
  const at = timeOf(index) ?? '';
  const { action, document, user, unauthorized } = entry;
  const isBad = (hit: Hit) => unauthorized !== undefined && String(hit[unauthorized.attribute]) === unauthorized.value;
  const row = (hit: Hit): Row => {
    const isNew = context.watcher.isNew(entry.index, hit.objectID);
    return {
      id: hit.objectID,
      class: [isBad(hit) ? 'bad' : '', isNew ? 'new' : ''].join(' ').trim() || undefined,
      cells: [
        fragment(
          typeof hit[at] === 'number' ? time(context, hit[at]) : '–',
          isNew ? h('span', { class: 'badge' }, 'new') : null,
        ),
        shown(context, index, document, hit[document]),
        shown(context, index, user, hit[user]),
        ...(action ? [shown(context, index, action, hit[action])] : []),
        ...(unauthorized
          ? [
              isBad(hit)
                ? h('strong', { class: 'verdict' }, '✕ unauthorized')
                : h('span', { class: 'hint' }, 'authorized'),
            ]
          : []),
      ],
    };
  };
  const columns = [
    { title: `Time (${context.zone})` },
    { title: capitalized(document) },
    { title: capitalized(user) },
    ...(action ? [{ title: capitalized(action) }] : []),
    ...(unauthorized ? [{ title: 'Verdict' }] : []),
  ];
  return growing(hits, 25, (part) => table(caption, columns, part.map(row)));
}

/** Documents and users with how often, and how often unauthorized. */
function counted(context: Context, entry: AccessView, accesses: Answer, refused: Answer | undefined): HTMLElement {
  const one = (attribute: string, isUser: boolean) => {
    const values = valuesOf(accesses, attribute);
    const bad = refused?.facets[attribute] ?? {};
    const most = values[0]?.[1] ?? 0;
    const name = (value: string) => (isUser ? person(context, value) : document.createTextNode(value));
    const select = (value: string) => {
      const choose = button(
        '',
        () => context.navigate('access', { index: entry.index, [isUser ? 'user' : 'document']: value }),
        'link',
      );
      choose.append(name(value));
      return choose;
    };
    return h(
      'div',
      null,
      table(
        `By ${attribute}`,
        [
          { title: capitalized(attribute) },
          { title: 'Accesses', numeric: true },
          ...(entry.unauthorized ? [{ title: 'Unauthorized', numeric: true }] : []),
          { title: '' },
        ],
        values.slice(0, 12).map(([value, number]) => ({
          cells: [
            select(value),
            count(number),
            ...(entry.unauthorized ? [bad[value] ? h('strong', { class: 'verdict' }, count(bad[value])) : '0'] : []),
            bar(number, most),
          ],
        })),
      ),
      values.length > 12 ? h('p', { class: 'hint' }, `The first 12 of ${plural(values.length, 'value')}.`) : null,
    );
  };
  return section('Who and what', h('div', { class: 'columns' }, one(entry.document, false), one(entry.user, true)));
}
