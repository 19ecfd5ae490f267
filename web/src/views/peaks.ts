/** When is it busy: hours of the day by weekdays, and days. */

import { heatMap } from '../charts/heat';
import { seriesChart } from '../charts/series';
import type { Context, OpenView, Shown, View } from '../context';
import { Bounds, countBuckets, perValue } from '../counting';
import { count, fragment, h, plural } from '../dom';
import { bucketOf, timeOf } from '../facets';
import { all, is, within } from '../filters';
import type { PeaksView } from '../config';
import { valuesOf } from '../search';
import { DAY, daysBetween, describeSpan, spanOf, WEEKDAYS, weekdayOf } from '../time';
import { capitalized, entryOf, rangeControl, valueChoice } from '../ui/controls';
import { bar, empty, figure, section, table } from '../ui/table';

const HOURS = Array.from({ length: 24 }, (_, hour) => String(hour).padStart(2, '0'));

export const peaks: View = {
  id: 'peaks',
  title: 'Peaks',
  question: 'When are the peak periods?',
  offered: (config) => config.views.peaks.length > 0,
  open(context): OpenView {
    const { entry, control } = entryOf(context, context.config.views.peaks);
    const document =
      entry.document &&
      valueChoice(context, {
        name: 'document',
        label: capitalized(entry.document),
        index: entry.index,
        attribute: entry.document,
      });
    return {
      controls: fragment(control, document, rangeControl(context)),
      load: () => load(context, entry),
    };
  },
};

async function load(context: Context, entry: PeaksView): Promise<Shown> {
  const { state, zone, searcher } = context;
  const bounds = new Bounds();
  const index = context.index(entry.index);
  const names = (['day', 'weekday', 'hour_of_day'] as const).map((bucket) => bucketOf(index, bucket));
  const [day = '', weekday = '', hour = ''] = names;
  const time = timeOf(index) ?? '';
  const now = context.now();
  const span = spanOf(state.get, zone, now);
  const document = entry.document && state.get('document');
  const filters = document ? is(entry.document as string, document) : '';
  const [answers, [days = new Map<string, number>()]] = await Promise.all([
    searcher.ask(
      perValue([...WEEKDAYS], weekday, {
        index: entry.index,
        filters: all(filters, within(time, span)),
        facets: [hour],
      }),
    ),
    day === ''
      ? []
      : countBuckets(
          searcher,
          { index: entry.index, bucket: day, time },
          [filters],
          { span, seconds: DAY, now },
          bounds,
        ),
  ]);
  bounds.check(...answers);
  const cells = new Map(WEEKDAYS.map((name, at) => [name as string, new Map(valuesOf(answers[at], hour))]));
  const value = (row: string, column: string) => cells.get(row)?.get(column) ?? 0;
  const total = answers.reduce((sum, answer) => sum + answer.count, 0);
  const what = document ? `${entry.document} ${document}` : entry.index;
  const heading = ['weekday', ...HOURS];
  return {
    content:
      total === 0
        ? empty(
            `No record of ${what} in this time: ${describeSpan(span, zone)}.`,
            'Choose a longer time, or all documents.',
          )
        : fragment(summary(total, value, days, zone), maps(what, zone, value), dayChart(days)),
    bounds,
    isEmpty: total === 0,
    table: () => ({
      name: `peaks-${entry.index}`,
      heading,
      rows: WEEKDAYS.map((row) => [row, ...HOURS.map((column) => value(row, column))]),
      people: [],
    }),
  };
}

type Value = (row: string, column: string) => number;

function summary(total: number, value: Value, days: Map<string, number>, zone: string): HTMLElement {
  const hours = HOURS.map((hour) => [hour, WEEKDAYS.reduce((sum, day) => sum + value(day, hour), 0)] as const);
  const weekdays = WEEKDAYS.map((day) => [day, HOURS.reduce((sum, hour) => sum + value(day, hour), 0)] as const);
  const top = (list: (readonly [string, number])[]) => [...list].sort((a, b) => b[1] - a[1])[0] ?? ['–', 0];
  const [hour, hourCount] = top(hours);
  const [weekday, weekdayCount] = top(weekdays);
  const [day, dayCount] = top([...days]);
  return h(
    'div',
    { class: 'figures' },
    figure('Records', total),
    figure(
      'Busiest hour',
      `${hour}–${String((Number(hour) + 1) % 24).padStart(2, '0')} h`,
      `${count(hourCount)} records, ${zone}`,
    ),
    figure('Busiest weekday', String(weekday), plural(Number(weekdayCount), 'record')),
    figure('Busiest day', String(day), days.size > 0 ? plural(Number(dayCount), 'record') : undefined),
  );
}

function maps(what: string, zone: string, value: Value): HTMLElement {
  return section(
    'Hour of the day by weekday',
    heatMap({
      title: `Records of ${what}; hours in ${zone}`,
      rows: [...WEEKDAYS],
      columns: HOURS,
      value,
      describe: (row, column) => `${row} ${column}:00–${column}:59`,
    }),
  );
}

function dayChart(days: Map<string, number>): HTMLElement | null {
  const names = [...days.keys()].sort();
  const [first, last] = [names[0], names.at(-1)];
  if (!first || !last) {
    return null;
  }
  const places = daysBetween(first, last);
  const busiest = [...days].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? 1 : -1)).slice(0, 10);
  const most = busiest[0]?.[1] ?? 0;
  return section(
    'Days',
    seriesChart({
      title: `Records a day, ${first} to ${last}`,
      places,
      series: [{ name: 'records', values: places.map((place) => days.get(place) ?? 0) }],
      kind: 'line',
    }),
    table(
      'The busiest days',
      [{ title: 'Day' }, { title: 'Weekday' }, { title: 'Records', numeric: true }, { title: '' }],
      busiest.map(([place, number]) => ({ cells: [place, weekdayOf(place), count(number), bar(number, most)] })),
    ),
  );
}
