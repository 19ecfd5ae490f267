/** Controls that several views have. Each writes its value to the URL, which makes the view ask again. */

import type { Context } from '../context';
import { count, h, uniqueId } from '../dom';
import { isPerson } from '../facets';
import { MOST_VALUES, valuesOf } from '../search';
import { PRESETS, readable } from '../time';

/** A labelled control. */
export function field(label: string, control: HTMLElement, hint?: string): HTMLElement {
  const id = control.id || uniqueId('field');
  control.id = id;
  const note = hint ? h('span', { class: 'hint', id: `${id}-hint` }, hint) : null;
  if (note) {
    control.setAttribute('aria-describedby', note.id);
  }
  return h('div', { class: 'field' }, h('label', { for: id }, label), control, note);
}

export interface Option {
  value: string;
  label: string;
}

/** A choice that is kept in the URL under `name`. */
export function choice(context: Context, name: string, label: string, options: Option[], fallback = ''): HTMLElement {
  const current = context.state.get(name) || fallback;
  const select = h('select', {
    name,
    onchange: () => context.state.set({ [name]: select.value === fallback ? '' : select.value }),
  });
  fillOptions(select, options, current);
  return field(label, select);
}

function fillOptions(select: HTMLSelectElement, options: Option[], current: string): void {
  const missing = current !== '' && options.every(({ value }) => value !== current);
  const all = missing ? [...options, { value: current, label: current }] : options;
  select.replaceChildren(...all.map(({ value, label }) => h('option', { value, selected: value === current }, label)));
}

/** Which of a view's entries is meant. Without a choice, there is no control. */
export function entryOf<E extends { index: string }>(
  context: Context,
  entries: E[],
): { entry: E; control: Node | null } {
  const named = entries.find((entry) => entry.index === context.state.get('index'));
  const entry = named ?? (entries[0] as E);
  const options = entries.map(({ index }) => ({ value: index, label: index }));
  const { state } = context;
  // The view opens anew: values of one index mean nothing in another.
  const open = (index: string) => context.navigate(state.view, { index, ...rangeOf(state) });
  const select = h('select', { name: 'index', onchange: () => open(select.value) });
  fillOptions(select, options, entry.index);
  return { entry, control: entries.length > 1 ? field('Index', select) : null };
}

/** The time range stays when another index or another kind of document is chosen. */
export function rangeOf(state: Context['state']): Record<string, string> {
  return Object.fromEntries(['range', 'from', 'to'].map((name) => [name, state.get(name)]));
}

/** A value of a facet, or all of them. The values come from the index. */
export function valueChoice(
  context: Context,
  options: { name: string; label: string; index: string; attribute: string; all?: string; filters?: string },
): HTMLElement {
  const current = context.state.get(options.name);
  const set = (value: string) => context.state.set({ [options.name]: value });
  const select = h('select', { name: options.name, onchange: () => set(select.value) });
  const all = { value: '', label: options.all ?? 'All' };
  fillOptions(select, [all, ...(current ? [{ value: current, label: current }] : [])], current);
  const holder = field(options.label, select);
  const fill = async () => {
    const { index, attribute, filters = '' } = options;
    const answer = await context.searcher.one({ index, facets: [attribute], filters });
    const found = valuesOf(answer, attribute);
    const person = isPerson(context.index(index), attribute);
    const named = found.map(([value, number]) => ({
      value,
      label: `${person ? context.names.shown(value) : value} (${count(number)})`,
    }));
    named.sort((a, b) => a.label.localeCompare(b.label, 'en', { numeric: true }));
    fillOptions(select, [all, ...named], select.value);
    if (found.length >= MOST_VALUES) {
      holder.replaceChildren(...Array.from(freeChoice(options.label, select, set).childNodes));
    }
  };
  // The view itself tells what went wrong.
  fill().catch(() => undefined);
  return holder;
}

/** With more values than Algolia lists, any can be typed. */
function freeChoice(label: string, select: HTMLSelectElement, set: (value: string) => void): HTMLElement {
  const list = h('datalist', { id: uniqueId('values') });
  list.append(...Array.from(select.options, (option) => h('option', { value: option.value }, option.label)));
  const input = h('input', {
    type: 'search',
    name: select.name,
    value: select.value,
    list: list.id,
    placeholder: 'All',
    onchange: () => set(input.value.trim()),
  });
  const holder = field(label, input, `Algolia lists ${count(MOST_VALUES)} of the values; others can be typed.`);
  holder.append(list);
  return holder;
}

/** The time range: one that ends now, or days. */
export function rangeControl(context: Context): HTMLElement {
  const { state, zone } = context;
  const isCustom = state.get('from') !== '' || state.get('to') !== '';
  const current = isCustom ? 'custom' : state.get('range');
  const select = h('select', { name: 'range' });
  const presets = PRESETS.map(([value, label]) => ({ value, label }));
  fillOptions(
    select,
    [{ value: '', label: 'All time' }, ...presets, { value: 'custom', label: 'From … to …' }],
    current,
  );
  const day = (name: string, label: string) =>
    h('input', { type: 'date', name, value: state.get(name).slice(0, 10), 'aria-label': `${label}, in ${zone}` });
  const [from, to] = [day('from', 'First day'), day('to', 'Last day')];
  const days = h('span', { class: 'days', hidden: !isCustom }, from, ' – ', to);
  const apply = () => state.set({ range: '', from: from.value, to: to.value });
  from.addEventListener('change', apply);
  to.addEventListener('change', apply);
  select.addEventListener('change', () => {
    days.hidden = select.value !== 'custom';
    if (select.value === 'custom') {
      from.value ||= readable(context.now() - 7 * 86_400, zone).slice(0, 10);
      to.value ||= readable(context.now(), zone).slice(0, 10);
      apply();
    } else {
      [from.value, to.value] = ['', ''];
      state.set({ range: select.value, from: '', to: '' });
    }
  });
  const holder = field('Time', select);
  holder.append(days);
  return holder;
}

export function capitalized(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1).replaceAll('_', ' ');
}

export function checkbox(context: Context, name: string, label: string): HTMLElement {
  const input = h('input', {
    type: 'checkbox',
    name,
    id: uniqueId('check'),
    checked: context.state.get(name) === '1',
    onchange: () => context.state.set({ [name]: input.checked ? '1' : '' }),
  });
  return h('div', { class: 'field check' }, input, h('label', { for: input.id }, label));
}

export function button(label: string, onclick: () => void, kind = ''): HTMLButtonElement {
  return h('button', { type: 'button', class: kind, onclick }, label);
}
