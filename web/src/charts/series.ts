/** A chart of numbers over time: stacked bars, or a line. */

import { scaleBand, scaleLinear, type ScaleBand, type ScaleLinear } from 'd3-scale';
import { area, line, stack } from 'd3-shape';

import { count, h, svg } from '../dom';
import { labelled } from './scale';

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

const [LEFT, RIGHT, BOTTOM, TOP] = [52, 8, 26, 12];

/** So many bars stand without gaps. */
const MANY = 150;

/** A small screen gets a smaller drawing, so that its texts stay readable. */
function size(): [number, number] {
  return window.matchMedia('(max-width: 640px)').matches ? [420, 220] : [960, 260];
}

type X = ScaleBand<number>;
type Y = ScaleLinear<number, number>;

export function seriesChart(chart: SeriesChart): HTMLElement {
  const { places, series, kind, title } = chart;
  const [width, height] = size();
  const totals = places.map((_, at) => series.reduce((sum, one) => sum + (one.values[at] ?? 0), 0));
  const y = scaleLinear([0, Math.max(1, ...totals)], [height - BOTTOM, TOP]).nice(4);
  const x = scaleBand([...places.keys()], [LEFT, width - RIGHT]).paddingInner(places.length > MANY ? 0 : 0.2);
  const axis = chart.axis ?? ((place: string) => place);
  const room = Math.floor((width - LEFT) / 92);
  const drawing = svg(
    'svg',
    { class: 'chart', viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': summary(title, places, totals) },
    y
      .ticks(4)
      .filter(Number.isInteger)
      .flatMap((value) => [
        svg('line', { class: 'grid', x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }),
        svg('text', { class: 'tick', x: LEFT - 8, y: y(value) + 4, 'text-anchor': 'end' }, count(value)),
      ]),
    labelled(places.length, room).map((at) =>
      svg(
        'text',
        {
          class: 'tick',
          // A label at the edge stays inside.
          x: Math.min(middle(x, at), width - 38),
          y: height - 8,
          'text-anchor': 'middle',
        },
        axis(places[at] ?? ''),
      ),
    ),
    kind === 'bars' ? bars(chart, x, y) : lines(chart, x, y),
    places.map((place, at) =>
      svg(
        'rect',
        { class: 'reach', x: x(at) ?? 0, y: TOP, width: x.step(), height: height - BOTTOM - TOP },
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

function middle(x: X, place: number): number {
  return (x(place) ?? 0) + x.bandwidth() / 2;
}

function bars({ places, series }: SeriesChart, x: X, y: Y): SVGElement[] {
  const stacked = stack<number, Series>()
    .keys(series)
    .value((at, one) => one.values[at] ?? 0)([...places.keys()]);
  return stacked.flatMap((layer, number) =>
    layer.flatMap(([low, high], at) =>
      high > low
        ? svg('rect', {
            class: `series-${number % 11}`,
            x: x(at) ?? 0,
            y: y(high),
            width: Math.max(0.6, x.bandwidth()),
            height: Math.max(0.6, y(low) - y(high)),
          })
        : [],
    ),
  );
}

function lines({ series }: SeriesChart, x: X, y: Y): SVGElement[] {
  const along = (_: number, at: number) => middle(x, at);
  return series.flatMap(({ values }, number) => [
    svg('path', { class: `area series-${number}`, d: area<number>(along, y(0), y)(values) }),
    svg('path', { class: `line line-${number}`, d: line<number>(along, y)(values) }),
    ...(values.length === 1
      ? [svg('circle', { class: `series-${number}`, cx: middle(x, 0), cy: y(values[0] ?? 0), r: 4 })]
      : []),
  ]);
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
