/** Any index: text, facets and time, counted by any facet over any bucket of time. */

import type { IndexConfig } from '../config';
import type { Context, OpenView, Shown, Table } from '../context';
import { Bounds } from '../counting';
import { count, fragment, h } from '../dom';
import { bucketOf, facetsOf, isBucket, isPerson, timeOf } from '../facets';
import { inferIndex } from '../infer';
import { all, any, is, within } from '../filters';
import { MOST_HITS } from '../search';
import { spanOf } from '../time';
import { button, capitalized, choice, field, rangeControl } from '../ui/controls';
import { empty } from '../ui/table';
import { plain } from '../ui/values';
import { chartOf, countsTable } from './explore_chart';
import { FacetLists, readRefinements } from './explore_facets';
import { ask, TIMES } from './grouping';

export async function openExplore(context: Context): Promise<OpenView> {
  const name = context.state.get('index') || context.config.indices[0]?.name || '';
  if (name === '') {
    const nothing: Shown = { content: empty('Name an index to explore.'), bounds: new Bounds(), isEmpty: true };
    return { controls: indexControl(context, ''), load: () => Promise.resolve(nothing) };
  }
  if (!context.knows(name)) {
    context.learn(await inferIndex(context.searcher, name));
  }
  const index = context.index(name);
  const lists = new FacetLists(context, index, facetNames(index));
  return {
    controls: fragment(
      indexControl(context, name),
      textControl(context),
      rangeControl(context),
      groupControl(context, index),
      timeControl(context, index),
    ),
    aside: lists.element,
    load: () => load(context, index, lists),
    close: () => lists.dispose(),
  };
}

/** The facets that get a list. Days and hours are chosen by the time range. */
function facetNames(index: IndexConfig): string[] {
  const hidden = [`${index.time}_day`, `${index.time}_hour`];
  const names = facetsOf(index).filter((facet) => facet.counted && !hidden.includes(facet.attribute));
  return [
    ...names.filter(({ attribute }) => !isBucket(index, attribute)),
    ...names.filter(({ attribute }) => isBucket(index, attribute)),
  ].map(({ attribute }) => attribute);
}

const OTHER = '…';

/** An index of the configuration, or any other by its name. */
function indexControl(context: Context, current: string): HTMLElement {
  const names = context.config.indices.map(({ name }) => name);
  const known = current === '' || names.includes(current) ? names : [...names, current];
  const go = (name: string) => context.navigate('explore', name === '' ? {} : { index: name });
  const select = h('select', { name: 'index', onchange: () => (select.value === OTHER ? typed() : go(select.value)) });
  select.append(
    ...known.map((name) => h('option', { value: name, selected: name === current }, name)),
    h('option', { value: OTHER }, 'Another index…'),
  );
  const holder = field('Index', select);
  const typed = () => {
    const input = h('input', {
      name: 'index',
      placeholder: 'name of the index',
      onchange: () => go(input.value.trim()),
    });
    holder.replaceChildren(...Array.from(field('Index', input).childNodes));
    input.focus();
  };
  if (known.length === 0) {
    typed();
  }
  return holder;
}

/** The text is sent as it is typed; once names are known, only when it is complete, and without names. */
function textControl(context: Context): HTMLElement {
  const { state, names } = context;
  const input = h('input', {
    type: 'search',
    name: 'q',
    value: state.get('q'),
    placeholder: 'words…',
    maxlength: 500,
    autocomplete: 'off',
  });
  const note = h('span', { class: 'hint', role: 'status' });
  let timer: ReturnType<typeof setTimeout> | undefined;
  const apply = () => {
    clearTimeout(timer);
    const screened = names.screen(input.value);
    const told = [
      screened.replaced.length > 0 ? 'Names are not sent: their pseudonyms are.' : '',
      screened.withheld.length > 0
        ? `Not sent, because more than one person has it in their name: ${screened.withheld.join(', ')}.`
        : '',
    ];
    if (screened.replaced.length + screened.withheld.length > 0) {
      note.textContent = told.join(' ').trim();
      input.value = screened.text;
    }
    if (screened.text !== state.get('q')) {
      state.set({ q: screened.text, page: '' }, true);
    }
  };
  input.addEventListener('change', apply);
  input.addEventListener('search', apply);
  input.addEventListener('input', () => {
    clearTimeout(timer);
    note.textContent = '';
    if (names.size === 0) {
      timer = setTimeout(apply, 250);
    }
  });
  const holder = field('Text', input);
  holder.append(note);
  return holder;
}

function groupControl(context: Context, index: IndexConfig): HTMLElement {
  const options = facetsOf(index)
    .filter((facet) => facet.counted && !isBucket(index, facet.attribute))
    .map(({ attribute }) => ({ value: attribute, label: capitalized(attribute) }));
  return choice(context, 'group', 'Group by', [{ value: '', label: 'Nothing' }, ...options]);
}

function timeControl(context: Context, index: IndexConfig): HTMLElement {
  const offered = TIMES.filter(({ from }) => bucketOf(index, from)).map(({ name, label }) => ({ value: name, label }));
  const pieces = offered.length === 0 && timeOf(index) ? [{ value: 'pieces', label: 'Pieces of the range' }] : [];
  const list = [...offered, ...pieces, { value: 'none', label: 'No time' }];
  return choice(context, 'time', 'Over', list, defaultTime(index));
}

function defaultTime(index: IndexConfig): string {
  return bucketOf(index, 'day') ? 'day' : timeOf(index) ? 'pieces' : 'none';
}

async function load(context: Context, index: IndexConfig, lists: FacetLists): Promise<Shown> {
  const { state, zone } = context;
  const bounds = new Bounds();
  const span = spanOf(state.get, zone, context.now());
  const at = timeOf(index) ?? '';
  const refined = readRefinements(state.entries);
  const filters = all(
    ...Object.entries(refined).map(([attribute, values]) => any(...values.map((value) => is(attribute, value)))),
  );
  const spanFilter = at === '' ? '' : within(at, span);
  const [group, time] = [state.get('group'), state.get('time') || defaultTime(index)];
  const text = context.names.screen(state.get('q')).text;
  const [grouping, hits] = await Promise.all([
    ask(context, { index, text, filters, span, group, time }, bounds),
    lists.show({ text, refined, spanFilter, page: Number(state.get('page')) || 0 }),
  ]);
  lists.note(bounds);
  const person = group !== '' && isPerson(index, group);
  return {
    content: fragment(
      chips(context, index, refined),
      h(
        'p',
        { class: 'stats', role: 'status' },
        h('strong', { 'data-figure': 'Records' }, count(grouping.total)),
        ` ${grouping.total === 1 ? 'record' : 'records'} in ${index.name}`,
      ),
      grouping.total === 0
        ? empty('No record matches.', 'Remove a filter, or choose a longer time.')
        : fragment(chartOf(context, index, grouping, group, time), hits),
    ),
    bounds,
    isEmpty: grouping.total === 0,
    table: () => countsTable(index, grouping, group, time, person),
    records: () => records(context, index, all(filters, spanFilter), text),
  };
}

/** The filters that are set, each with a button that removes it. */
function chips(context: Context, index: IndexConfig, refined: Record<string, string[]>): HTMLElement | null {
  const entries = Object.entries(refined).flatMap(([attribute, values]) =>
    values.map((value) => [attribute, value] as const),
  );
  if (entries.length === 0 && context.state.get('q') === '') {
    return null;
  }
  const chip = ([attribute, value]: readonly [string, string]) => {
    const shown = isPerson(index, attribute) ? context.names.shown(value) : value;
    const rest = (refined[attribute] ?? []).filter((one) => one !== value);
    const remove = button(
      `${capitalized(attribute)}: ${shown} ✕`,
      () => context.state.set({ [`f.${attribute}`]: rest.map(encodeURIComponent).join(','), page: '' }),
      'chip',
    );
    remove.title = value;
    remove.setAttribute('aria-label', `Remove the filter ${attribute}: ${shown}`);
    return remove;
  };
  const clear = button('Clear all', () => context.navigate('explore', { index: index.name }), 'link');
  return h('div', { class: 'chips' }, entries.map(chip), clear);
}

/** The newest records that match, for CSV. */
async function records(context: Context, index: IndexConfig, filters: string, text: string): Promise<Table> {
  const answer = await context.searcher.one({ index: index.name, filters, query: text, hitsPerPage: MOST_HITS });
  const heading = [
    'objectID',
    ...new Set(
      answer.hits.flatMap((hit) =>
        Object.keys(hit).filter((name) => name !== 'objectID' && name !== '_highlightResult'),
      ),
    ),
  ];
  const rows = answer.hits.map((hit) => heading.map((name) => plain(context, index, name, hit[name])));
  return { name: `records-${index.name}`, heading, rows, people: heading.map((_, at) => at) };
}
