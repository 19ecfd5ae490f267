/** Tables of results. */

import { count, h, svg, type Child } from '../dom';

export interface Column {
  title: string;
  numeric?: boolean;
  /** Explains the column. */
  hint?: string;
}

export interface Row {
  cells: Child[];
  class?: string | undefined;
  id?: string;
}

export function table(caption: string, columns: Column[], rows: Row[]): HTMLElement {
  const heading = columns.map(({ title, numeric, hint }) =>
    h('th', { scope: 'col', class: numeric ? 'number' : null, title: hint ?? null }, title),
  );
  const body = rows.map(({ cells, class: kind, id }) =>
    h(
      'tr',
      { class: kind ?? null, 'data-id': id ?? null },
      cells.map((cell, at) => h('td', { class: columns[at]?.numeric ? 'number' : null }, cell)),
    ),
  );
  return h(
    'div',
    { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': caption },
    h('table', null, h('caption', null, caption), h('thead', null, h('tr', null, heading)), h('tbody', null, body)),
  );
}

/** A bar in a cell; the number stands beside it. */
export function bar(value: number, most: number, kind = 'series-0'): SVGElement {
  const width = most === 0 ? 0 : (100 * value) / most;
  return svg(
    'svg',
    { class: 'bar', 'aria-hidden': 'true', preserveAspectRatio: 'none', viewBox: '0 0 100 10' },
    svg('rect', { class: 'track', width: 100, height: 10 }),
    svg('rect', { class: kind, width: Math.max(width, value > 0 ? 0.5 : 0), height: 10 }),
  );
}

/** A number of something, large, with what it is. */
export function figure(label: string, value: number | string, note?: Child, kind = ''): HTMLElement {
  return h(
    'div',
    { class: `figure ${kind}` },
    h('span', { class: 'figure-label' }, label),
    h('strong', { 'data-figure': label }, typeof value === 'number' ? count(value) : value),
    note ? h('span', { class: 'hint' }, note) : null,
  );
}

/** A part of the results with a heading. */
export function section(title: string, ...children: (Child | Child[])[]): HTMLElement {
  return h('section', null, h('h2', null, title), ...children);
}

export function empty(text: string, ...advice: Child[]): HTMLElement {
  return h(
    'div',
    { class: 'empty' },
    h('p', null, text),
    advice.length > 0 ? h('p', { class: 'hint' }, ...advice) : null,
  );
}

/** Shows the first of a long list, and the others on demand. */
export function growing<T>(items: T[], first: number, make: (part: T[]) => HTMLElement): HTMLElement {
  const holder = h('div', { class: 'growing' }, make(items.slice(0, first)));
  const rest = items.slice(first);
  if (rest.length > 0) {
    const more = h(
      'button',
      { type: 'button', class: 'rest', onclick: () => grow() },
      `Show ${count(rest.length)} more`,
    );
    const grow = () => {
      more.replaceWith(make(rest));
      holder.classList.add('grown');
    };
    holder.append(more);
  }
  return holder;
}
