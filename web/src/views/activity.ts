/** What happened in the last hour: actors, and events by action; the same that `activity()` counts in the database. */

import { seriesChart } from '../charts/series';
import type { ActivityView } from '../config';
import type { Context, OpenView, Shown, View } from '../context';
import { Bounds, distinctValues, MOST_GROUPS } from '../counting';
import { count, fragment, h } from '../dom';
import { timeOf } from '../facets';
import { is, within } from '../filters';
import { valuesOf } from '../search';
import { duration, parseStamp, readable, stamp } from '../time';
import { capitalized, choice, entryOf, field } from '../ui/controls';
import { bar, empty, figure, section, table } from '../ui/table';

const SPANS: [string, string, number][] = [
  ['15m', '15 minutes', 900],
  ['1h', '1 hour', 3600],
  ['6h', '6 hours', 21_600],
  ['24h', '24 hours', 86_400],
];
/** Pieces that the chart has. */
const PIECES = 24;

export const activity: View = {
  id: 'activity',
  title: 'Activity',
  question: 'What is going on now?',
  offered: (config) => config.views.activity.length > 0,
  open(context): OpenView {
    const { state, zone } = context;
    const { entry, control } = entryOf(context, context.config.views.activity);
    const until = h('input', {
      type: 'datetime-local',
      step: 1,
      name: 'at',
      value: state.get('at'),
      onchange: () => state.set({ at: until.value }),
    });
    return {
      controls: fragment(
        control,
        choice(
          context,
          'span',
          'Time',
          SPANS.map(([value, label]) => ({ value, label })),
          '1h',
        ),
        field('Until', until, state.get('at') === '' ? `now, unless a time in ${zone} is given` : `in ${zone}`),
      ),
      load: () => load(context, entry),
      every: 5,
    };
  },
};

interface Action {
  name: string;
  events: number;
  actors: number;
}

async function load(context: Context, entry: ActivityView): Promise<Shown> {
  const { state, searcher, zone } = context;
  const { index, actor, action } = entry;
  const bounds = new Bounds();
  const time = timeOf(context.index(index)) ?? '';
  const seconds = (SPANS.find(([name]) => name === state.get('span')) ?? SPANS[1])?.[2] ?? 3600;
  const at = parseStamp(state.get('at'), zone) ?? Math.floor(context.now() * 1000) / 1000;
  // activity() counts after the beginning and up to the end; times have three decimals.
  const window = { from: at - seconds + 0.001, to: at + 0.001 };
  const inside = within(time, window);
  const total = await searcher.one({ index, filters: inside, facets: [action] });
  bounds.check(total);
  const actions = valuesOf(total, action).slice(0, MOST_GROUPS);
  const distinct = (filters: string) =>
    distinctValues(searcher, { index, filters, facet: actor, time }, window, bounds);
  const edges = Array.from({ length: PIECES }, (_, piece) => window.from + (piece * seconds) / PIECES);
  const [everyone, perAction, pieces] = await Promise.all([
    distinct(''),
    Promise.all(actions.map(([name]) => distinct(is(action, name)))),
    searcher.ask(
      edges.map((from) => ({ index, filters: within(time, { from, to: from + seconds / PIECES }), facets: [action] })),
    ),
  ]);
  const list = actions.map(([name, events], place): Action => ({ name, events, actors: perAction[place]?.size ?? 0 }));
  const described = `${duration(seconds)} until ${readable(at, zone)} ${zone}`;
  return {
    content: fragment(
      h(
        'div',
        { class: 'figures' },
        figure(`Unique ${actor}s`, everyone.size, described, 'accent'),
        ...list.map(({ name, events }) => figure(capitalized(name), events)),
        figure('All events', total.count),
      ),
      total.count === 0
        ? empty(`Nothing happened in the ${described}.`, 'The figures are asked for again every five seconds.')
        : fragment(
            section(
              'Events over time',
              seriesChart({
                title: `Events in pieces of ${duration(seconds / PIECES)}`,
                places: edges.map((from) => stamp(from - 0.001, zone).slice(11, 19)),
                axis: (place) => place.slice(0, 5),
                series: actions.map(([name]) => ({
                  name,
                  values: pieces.map((piece) => piece.facets[action]?.[name] ?? 0),
                })),
                kind: 'bars',
              }),
            ),
            section('By action', byAction(entry, list, total.count, everyone.size)),
          ),
    ),
    bounds,
    table: () => ({
      name: `activity-${index}`,
      heading: [action, 'events', 'unique_actors'],
      rows: [...list.map((one) => [one.name, one.events, one.actors]), ['', total.count, everyone.size]],
      people: [],
    }),
  };
}

function byAction(entry: ActivityView, list: Action[], events: number, actors: number): HTMLElement {
  const most = list[0]?.events ?? 0;
  const rows = [
    ...list.map((one) => ({ cells: [one.name, count(one.events), count(one.actors), bar(one.events, most)] })),
    { class: 'total', cells: ['all', count(events), count(actors), null] },
  ];
  const columns = [
    { title: capitalized(entry.action) },
    { title: 'Events', numeric: true },
    { title: `Unique ${entry.actor}s`, numeric: true },
    { title: '' },
  ];
  return h(
    'div',
    null,
    table('As activity() in the database counts', columns, rows),
    h('p', { class: 'hint' }, 'Counted of records that have arrived in the index.'),
  );
}
