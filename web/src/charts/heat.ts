/** A heat map: a table whose cells are shaded by their numbers. */

import { count, h } from '../dom';
import { shade } from './scale';

export interface HeatMap {
  title: string;
  rows: string[];
  columns: string[];
  value: (row: string, column: string) => number;
  /** What a cell is, for its tip. */
  describe: (row: string, column: string) => string;
}

export function heatMap(map: HeatMap): HTMLElement {
  const most = Math.max(0, ...map.rows.flatMap((row) => map.columns.map((column) => map.value(row, column))));
  const cell = (row: string, column: string) => {
    const value = map.value(row, column);
    const title = `${map.describe(row, column)}: ${count(value)}`;
    const isPeak = value > 0 && value === most;
    return h(
      'td',
      { class: `heat-${shade(value, most)}${isPeak ? ' peak' : ''}`, title, 'data-cell': `${row} ${column}` },
      compact(value),
    );
  };
  const body = map.rows.map((row) =>
    h(
      'tr',
      null,
      h('th', { scope: 'row' }, row),
      map.columns.map((column) => cell(row, column)),
    ),
  );
  const heading = h(
    'tr',
    null,
    h('td', null),
    map.columns.map((column) => h('th', { scope: 'col' }, column)),
  );
  return h(
    'div',
    { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': map.title },
    h('table', { class: 'heat' }, h('caption', null, map.title), h('thead', null, heading), h('tbody', null, body)),
  );
}

/** As many characters as fit a small cell. */
export function compact(value: number): string {
  if (value === 0) {
    return '';
  }
  if (value < 1000) {
    return String(value);
  }
  const [size, unit] = value < 999_500 ? [1000, 'k'] : [1_000_000, 'M'];
  const scaled = value / size;
  return `${scaled < 9.95 ? scaled.toFixed(1) : Math.round(scaled)}${unit}`;
}
