/** A chart of numbers over time: stacked bars, or a line. */

import { count, h, svg } from '../dom';
import { labelled, ticks } from './scale';

export interface Series {
  name: string;
  /** How the name is shown, when it is someone's. */
  label?: Node;
  values: number[];
}

export interface SeriesChart {
  title: string;
  /** The name of each place on the time axis. */
  places: string[];
  series: Series[];
  kind: 'bars' | 'line';
  /** Shortens the name of a place for the axis. */
  axis?: (place: string) => string;
}

const [LEFT, BOTTOM, TOP] = [52, 26, 12];

/** A small screen gets a smaller drawing, so that its texts stay readable. */
function size(): [number, number] {
  return window.matchMedia('(max-width: 640px)').matches ? [420, 220] : [960, 260];
}

export function seriesChart(chart: SeriesChart): HTMLElement {
  const { places, series, kind, title } = chart;
  const [width, height] = size();
  const totals = places.map((_, at) => series.reduce((sum, one) => sum + (one.values[at] ?? 0), 0));
  const scale = ticks(Math.max(0, ...totals));
  const top = scale.at(-1) ?? 1;
  const step = (width - LEFT - 8) / Math.max(1, places.length);
  const y = (value: number) => height - BOTTOM - ((height - BOTTOM - TOP) * value) / top;
  const x = (at: number) => LEFT + at * step;
  const axis = chart.axis ?? ((place: string) => place);
  const room = Math.floor((width - LEFT) / 92);
  const drawing = svg(
    'svg',
    { class: 'chart', viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': summary(title, places, totals) },
    scale
      .map((value) => [
        svg('line', { class: 'grid', x1: LEFT, x2: width - 8, y1: y(value), y2: y(value) }),
        svg('text', { class: 'tick', x: LEFT - 8, y: y(value) + 4, 'text-anchor': 'end' }, count(value)),
      ])
      .flat(),
    labelled(places.length, room).map((at) =>
      svg(
        'text',
        {
          class: 'tick', // A label at the edge stays inside.
          x: Math.min(x(at) + step / 2, width - 38),
          y: height - 8,
          'text-anchor': 'middle',
        },
        axis(places[at] ?? ''),
      ),
    ),
    kind === 'bars' ? bars(chart, x, y, step) : lines(chart, x, y, step),
    places.map((place, at) =>
      svg(
        'rect',
        { class: 'reach', x: x(at), y: TOP, width: step, height: height - BOTTOM - TOP },
        svg('title', null, tip(place, series, at, totals[at] ?? 0)),
      ),
    ),
  );
  return h(
    'figure',
    { class: 'series' },
    h('figcaption', null, title),
    drawing,
    series.length > 1 ? legend(series) : null,
  );
}

function bars(chart: SeriesChart, x: (at: number) => number, y: (value: number) => number, step: number): SVGElement[] {
  const gap = step > 6 ? Math.min(4, step * 0.2) : 0;
  return chart.places.flatMap((_, at) => {
    let base = 0;
    return chart.series.flatMap((one, number) => {
      const value = one.values[at] ?? 0;
      if (value <= 0) {
        return [];
      }
      const bottom = y(base);
      base += value;
      return [
        svg('rect', {
          class: `series-${number % 11}`,
          x: x(at) + gap / 2,
          y: y(base),
          width: Math.max(0.6, step - gap),
          height: Math.max(0.6, bottom - y(base)),
        }),
      ];
    });
  });
}

function lines(
  chart: SeriesChart,
  x: (at: number) => number,
  y: (value: number) => number,
  step: number,
): SVGElement[] {
  return chart.series.flatMap((one, number) => {
    const points = one.values.map((value, at) => `${(x(at) + step / 2).toFixed(1)},${y(value).toFixed(1)}`);
    const first = points[0]?.split(',')[0] ?? LEFT;
    const last = points.at(-1)?.split(',')[0] ?? LEFT;
    const alone =
      points.length === 1
        ? [svg('circle', { class: `series-${number}`, cx: first, cy: y(one.values[0] ?? 0), r: 4 })]
        : [];
    return [
      svg('polygon', {
        class: `area series-${number}`,
        points: `${first},${y(0)} ${points.join(' ')} ${last},${y(0)}`,
      }),
      svg('polyline', { class: `line line-${number}`, points: points.join(' ') }),
      ...alone,
    ];
  });
}

export function legend(series: { name: string; label?: Node }[]): HTMLElement {
  const entries = series.map((one, number) =>
    h(
      'li',
      null,
      svg(
        'svg',
        { viewBox: '0 0 10 10', 'aria-hidden': 'true' },
        svg('rect', { class: `series-${number % 11}`, width: 10, height: 10, rx: 2 }),
      ),
      one.label ?? one.name,
    ),
  );
  return h('ul', { class: 'legend' }, entries);
}

function tip(place: string, series: Series[], at: number, total: number): string {
  const parts = series
    .filter((one) => (one.values[at] ?? 0) > 0)
    .map((one) => `${one.label?.textContent ?? one.name}: ${count(one.values[at] ?? 0)}`);
  return [`${place}: ${count(total)}`, ...(series.length > 1 ? parts : [])].join('\n');
}

/** What a screen reader says of the chart; the table below it has the numbers. */
function summary(title: string, places: string[], totals: number[]): string {
  const most = Math.max(0, ...totals);
  const peak = totals.indexOf(most);
  return places.length === 0 || most === 0
    ? `${title}: nothing`
    : `${title}: from ${places[0]} to ${places.at(-1)}, the highest is ${count(most)} at ${places[peak]}`;
}
