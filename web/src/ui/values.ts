/** How values of records are shown. */

import type { IndexConfig } from '../config';
import type { Context } from '../context';
import { h } from '../dom';
import { attributeOf } from '../facets';
import { isPseudonym } from '../names';
import { precise } from '../time';

/** A name, or the beginning of a pseudonym, which is enough to tell people apart. */
export function short(context: Context, value: string): string {
  const shown = context.names.shown(value);
  return isPseudonym(shown) ? `${shown.slice(0, 10)}…` : shown;
}

/** Someone: the name if it is known, and the pseudonym on hover. */
export function person(context: Context, value: string): HTMLElement {
  const name = context.names.of(value);
  if (name !== undefined) {
    return h('span', { class: 'person', title: value, 'data-value': value }, name);
  }
  if (!isPseudonym(value)) {
    return h('span', { class: 'person', 'data-value': value }, value);
  }
  return h('code', { class: 'pseudonym', title: value, 'data-value': value }, short(context, value));
}

/** A value of an attribute. */
export function shown(context: Context, index: IndexConfig, attribute: string, value: unknown): Node {
  if (value === undefined || value === null) {
    return h('span', { class: 'none', title: 'no value' }, '–');
  }
  if (isPseudonym(value) || (typeof value === 'string' && attributeOf(index, attribute).pseudonym)) {
    return person(context, value);
  }
  if (typeof value === 'number' && attributeOf(index, attribute).type === 'time') {
    return time(context, value);
  }
  if (Array.isArray(value) && value.every((item) => typeof item !== 'object')) {
    return h('span', null, value.map(String).join(', '));
  }
  if (typeof value === 'object') {
    return h('code', null, JSON.stringify(value));
  }
  return h('span', { class: typeof value === 'boolean' ? `is-${value}` : null }, String(value));
}

export function time(context: Context, seconds: number): HTMLElement {
  const iso = new Date(seconds * 1000).toISOString();
  return h(
    'time',
    { datetime: iso, title: `${precise(seconds, context.zone)} ${context.zone}` },
    precise(seconds, context.zone).slice(0, 19),
  );
}

/** A value as text, for CSV. */
export function plain(context: Context, index: IndexConfig, attribute: string, value: unknown): string {
  if (value === undefined || value === null) {
    return '';
  }
  if (typeof value === 'number' && attributeOf(index, attribute).type === 'time') {
    return precise(value, context.zone);
  }
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}
