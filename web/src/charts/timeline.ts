/** A timeline: for each row, stretches of time with what held in them. */

import { scaleLinear } from 'd3-scale';

import { h, svg } from '../dom';

export interface Stretch {
  label: string;
  /** `undefined`: before the timeline begins, after it ends. */
  from: number | undefined;
  to: number | undefined;
  /** Which colour it has. */
  kind: number;
  tip: string;
}

export interface TimelineRow {
  name: string;
  label: string;
  stretches: Stretch[];
}

export interface Timeline {
  title: string;
  from: number;
  to: number;
  rows: TimelineRow[];
  /** Moments to mark, and their labels. */
  format: (seconds: number) => string;
}

const [WIDTH, LEFT, RIGHT, ROW, TOP] = [960, 170, 12, 34, 30];

export function timeline(chart: Timeline): HTMLElement {
  const height = TOP + chart.rows.length * ROW + 8;
  const span = Math.max(0.001, chart.to - chart.from);
  const x = scaleLinear([chart.from, chart.from + span], [LEFT, WIDTH - RIGHT]).clamp(true);
  const marks = [0, 0.25, 0.5, 0.75, 1].map((part) => chart.from + part * span);
  const anchor = (at: number) => (at === 0 ? 'start' : at === marks.length - 1 ? 'end' : 'middle');
  const rows = chart.rows.flatMap((row, at) => [
    svg(
      'text',
      { class: 'row-name', x: 4, y: TOP + at * ROW + 21 },
      shorten(row.label, 20),
      svg('title', null, row.name),
    ),
    svg('line', { class: 'grid', x1: LEFT, x2: WIDTH - RIGHT, y1: TOP + (at + 1) * ROW, y2: TOP + (at + 1) * ROW }),
    ...row.stretches.map((stretch) => drawn(stretch, TOP + at * ROW + 5, x, chart)),
  ]);
  const drawing = svg(
    'svg',
    {
      class: 'chart timeline',
      viewBox: `0 0 ${WIDTH} ${height}`,
      role: 'img',
      'aria-label': `${chart.title}; the table below says the same`,
    },
    marks
      .map((moment, at) => [
        svg('line', { class: 'grid', x1: x(moment), x2: x(moment), y1: TOP - 6, y2: height - 8 }),
        svg('text', { class: 'tick', x: x(moment), y: 16, 'text-anchor': anchor(at) }, chart.format(moment)),
      ])
      .flat(),
    rows,
  );
  return h(
    'figure',
    { class: 'series wide' },
    h('figcaption', null, chart.title),
    h('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': chart.title }, drawing),
  );
}

function drawn(stretch: Stretch, y: number, x: (seconds: number) => number, chart: Timeline): SVGElement {
  const [from, to] = [x(stretch.from ?? chart.from), x(stretch.to ?? chart.to)];
  const width = Math.max(3, to - from);
  const text = width > stretch.label.length * 8 + 10;
  return svg(
    'g',
    { class: 'stretch' },
    svg('title', null, stretch.tip),
    svg('rect', { class: `level-${stretch.kind % 6}`, x: from, y, width, height: ROW - 10, rx: 3 }),
    text ? svg('text', { class: `on-level-${stretch.kind % 6}`, x: from + 8, y: y + 16 }, stretch.label) : null,
  );
}

function shorten(text: string, most: number): string {
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}
