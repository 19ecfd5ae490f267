/** Explore's counts as a chart and as a table. */

import { seriesChart, type Series } from '../charts/series';
import type { IndexConfig } from '../config';
import type { Context, Table } from '../context';
import { count, fragment, h, percent } from '../dom';
import { isPerson } from '../facets';
import { capitalized } from '../ui/controls';
import { bar, growing, table, type Row } from '../ui/table';
import { person } from '../ui/values';
import type { Grouping } from './grouping';

export function chartOf(context: Context, index: IndexConfig, grouping: Grouping, group: string, time: string): Node {
  if (grouping.places.length === 0) {
    return fragment(
      grouping.note ? h('p', { class: 'hint' }, grouping.note) : null,
      group ? values(context, index, grouping, group) : null,
    );
  }
  const label = (name: string, isOthers?: boolean) =>
    group && !isOthers && isPerson(index, group) ? person(context, name) : document.createTextNode(name);
  const series = grouping.series.map(({ name, values, isOthers }): Series => ({
    name,
    values,
    label: label(name, isOthers),
  }));
  const title = `Records${group ? ` by ${group}` : ''}, ${time.replaceAll('_', ' ')}${time === 'hour_of_day' || time === 'hour' ? ` in ${context.zone}` : ''}`;
  return fragment(
    seriesChart({
      title,
      places: grouping.places,
      series,
      kind: grouping.places.length > 120 && series.length === 1 ? 'line' : 'bars',
    }),
    h(
      'details',
      { class: 'as-table' },
      h('summary', null, 'The numbers as a table'),
      places(context, grouping, group, time, label),
    ),
  );
}

function places(
  context: Context,
  grouping: Grouping,
  group: string,
  time: string,
  label: (name: string, isOthers?: boolean) => Node,
): HTMLElement {
  const { series } = grouping;
  const total = (at: number) => series.reduce((sum, one) => sum + (one.values[at] ?? 0), 0);
  const rows = grouping.places
    .map((place, at): Row & { total: number } => ({
      id: place,
      total: total(at),
      cells: [place, ...(group ? series.map((one) => count(one.values[at] ?? 0)) : []), count(total(at))],
    }))
    .filter((row) => row.total > 0);
  const heading = h('div', null);
  const columns = [
    { title: `${capitalized(time)} (${context.zone})` },
    ...(group
      ? series.map((one) => ({
          title: label(one.name, one.isOthers).textContent ?? one.name,
          hint: one.name,
          numeric: true,
        }))
      : []),
    { title: 'All', numeric: true },
  ];
  heading.append(growing(rows, 60, (part) => table('Records in each time', columns, part)));
  return heading;
}

/** The values of a facet, without time. */
function values(context: Context, index: IndexConfig, grouping: Grouping, group: string): HTMLElement {
  const most = grouping.series[0]?.total ?? 0;
  const isSomeone = isPerson(index, group);
  const rows = grouping.series.map(({ name, total }) => ({
    id: name,
    cells: [isSomeone ? person(context, name) : name, count(total), percent(total, grouping.total), bar(total, most)],
  }));
  const columns = [
    { title: capitalized(group) },
    { title: 'Records', numeric: true },
    { title: 'Share', numeric: true },
    { title: '' },
  ];
  return growing(rows, 50, (part) => table(`Records by ${group}`, columns, part));
}

/** What is shown, for CSV. */
export function countsTable(
  index: IndexConfig,
  grouping: Grouping,
  group: string,
  time: string,
  isPersonal: boolean,
): Table {
  const { series, places } = grouping;
  if (places.length === 0) {
    const rows = group ? series.map(({ name, total }) => [name, total]) : [['records', grouping.total]];
    return { name: `counts-${index.name}`, heading: [group || 'what', 'records'], rows, people: isPersonal ? [0] : [] };
  }
  const rows = places.flatMap((place, at) =>
    series
      .filter((one) => (one.values[at] ?? 0) > 0)
      .map((one) => [place, ...(group ? [one.name] : []), one.values[at] ?? 0]),
  );
  return {
    name: `counts-${index.name}`,
    heading: [time, ...(group ? [group] : []), 'records'],
    rows,
    people: isPersonal ? [1] : [],
  };
}
