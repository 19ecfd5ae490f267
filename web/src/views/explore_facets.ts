/** Explore's facet lists and records, by InstantSearch. The URL has the state; InstantSearch follows it. */

import instantsearch from 'instantsearch.js';
import {
  connectConfigure,
  connectHits,
  connectPagination,
  connectRefinementList,
} from 'instantsearch.js/es/connectors';
import type { InstantSearch, UiState } from 'instantsearch.js';

import type { IndexConfig } from '../config';
import type { Context } from '../context';
import type { Bounds } from '../counting';
import { count, fragment, h } from '../dom';
import { facetOf, isPerson } from '../facets';
import { MOST_HITS, MOST_VALUES, type Hit } from '../search';
import { WEEKDAYS } from '../time';
import { button, capitalized } from '../ui/controls';
import { person } from '../ui/values';
import { recordTable } from './explore_records';

/** `f.user=a,b` in the URL: the values of a facet that are chosen. */
export function readRefinements(entries: [string, string][]): Record<string, string[]> {
  const chosen = entries.filter(([name]) => name.startsWith('f.'));
  return Object.fromEntries(chosen.map(([name, text]) => [name.slice(2), text.split(',').map(decodeURIComponent)]));
}

interface Wanted {
  text: string;
  refined: Record<string, string[]>;
  spanFilter: string;
  page: number;
}

interface Item {
  value: string;
  label: string;
  count: number;
  isRefined: boolean;
}

const [FEW, PER_PAGE] = [8, 20];
/** On a small screen the lists are closed until they are wanted. */
const isNarrow = () => window.matchMedia('(max-width: 640px)').matches;

export class FacetLists {
  readonly element: HTMLElement;
  private readonly search: InstantSearch;
  private readonly hits = h('div', { class: 'records' });
  private readonly pages = h('nav', { class: 'pages', 'aria-label': 'Pages of records' });
  private found = 0;
  private cut: string[] = [];

  constructor(
    private readonly context: Context,
    private readonly index: IndexConfig,
    attributes: string[],
  ) {
    this.element = h('div', { class: 'facets' });
    this.search = instantsearch({
      indexName: index.name,
      searchClient: context.searcher.client as never,
      insights: false,
      // Whatever a widget wants goes to the URL first.
      onStateChange: ({ uiState }) => this.write(uiState),
    });
    this.search.on('error', () => undefined);
    this.search.addWidgets([
      connectConfigure(() => undefined)({ searchParameters: {} }),
      ...attributes.map((attribute) => this.list(attribute)),
      this.hitsWidget(),
      this.pagesWidget(),
    ]);
    if (attributes.length === 0) {
      this.element.append(
        h(
          'p',
          { class: 'hint' },
          'This index declares no facets. watch(…, facets => …) and configure_index() add them.',
        ),
      );
    }
  }

  dispose(): void {
    if (this.search.started) {
      this.search.dispose();
    }
  }

  /** Brings lists and records to what is wanted; resolves when they are there. */
  show(wanted: Wanted): Promise<Node> {
    const { searchParameters, state } = this.states(wanted);
    const content = fragment(h('h2', null, 'Records'), this.hits, this.pages);
    return new Promise((resolve, reject) => {
      const stop = () => {
        this.search.removeListener('render', done);
        this.search.removeListener('error', failed);
      };
      const done = () => {
        if (this.search.status === 'idle') {
          stop();
          resolve(content);
        }
      };
      const failed = ({ error }: { error: unknown }) => {
        stop();
        reject(error);
      };
      this.search.on('render', done);
      this.search.on('error', failed);
      if (!this.search.started) {
        this.search.start();
      }
      // The second argument keeps it from telling us what it was told.
      const set = this.search.setUiState.bind(this.search) as (uiState: UiState, tell: boolean) => void;
      set({ [this.index.name]: { ...state, configure: searchParameters } }, false);
    });
  }

  /** What the lists and the records leave out. */
  note(bounds: Bounds): void {
    for (const attribute of this.cut) {
      bounds.say(`Algolia lists ${count(MOST_VALUES)} values of “${attribute}” at most, the most frequent ones.`);
    }
    if (this.found > MOST_HITS) {
      bounds.say(
        `Of ${count(this.found)} records, Algolia shows the newest ${count(MOST_HITS)}. The counts are of all of them.`,
      );
    }
  }

  private states({ text, refined, spanFilter, page }: Wanted) {
    const searchParameters = {
      filters: spanFilter,
      hitsPerPage: PER_PAGE,
      analytics: false,
      attributesToHighlight: [],
      maxValuesPerFacet: MOST_VALUES,
    };
    return { searchParameters, state: { query: text, refinementList: refined, page: page + 1 } };
  }

  private write(uiState: UiState): void {
    const own = uiState[this.index.name] ?? {};
    const refined = own.refinementList ?? {};
    const before = readRefinements(this.context.state.entries);
    const names = new Set([...Object.keys(before), ...Object.keys(refined)]);
    const values = [...names].map((name) => [`f.${name}`, (refined[name] ?? []).map(encodeURIComponent).join(',')]);
    this.context.state.set({
      ...Object.fromEntries(values),
      page: own.page && own.page > 1 ? String(own.page - 1) : '',
    });
  }

  private list(attribute: string) {
    const holder = h('details', { class: 'facet', open: !isNarrow() });
    const person = isPerson(this.index, attribute);
    this.element.append(holder);
    let filter = '';
    let expanded = false;
    const make = connectRefinementList(({ items, refine, searchForItems }) => {
      const all = this.ordered(attribute, items as Item[]);
      if (all.length >= MOST_VALUES && filter === '') {
        this.cut = [...new Set([...this.cut, attribute])];
      }
      const fits = (item: Item) => this.matches(item, filter, person);
      const focused = holder.contains(document.activeElement)
        ? (document.activeElement as HTMLElement).dataset['key']
        : undefined;
      const fitting = all.filter(fits);
      const visible = expanded || filter !== '' ? fitting.slice(0, 100) : fitting.slice(0, FEW);
      const input = h('input', {
        type: 'search',
        'data-key': 'filter',
        value: filter,
        placeholder: `Find ${attribute}`,
        'aria-label': `Find among the values of ${attribute}`,
        oninput: () => {
          filter = input.value;
          // Beyond what is listed, Algolia has to look; it gets no name.
          const asks = all.length >= MOST_VALUES && facetOf(this.index, attribute)?.searchable && !person;
          searchForItems(asks ? this.context.names.screen(filter).text : '');
        },
      });
      const more =
        fitting.length > visible.length && filter === ''
          ? button(
              `Show more (${count(fitting.length)})`,
              () => {
                expanded = true;
                searchForItems('');
              },
              'link',
            )
          : null;
      holder.replaceChildren(
        h('summary', null, capitalized(attribute)),
        all.length > FEW || filter !== '' ? input : '',
        h(
          'ul',
          null,
          visible.map((item) => this.item(attribute, item, person, () => refine(item.value))),
        ),
        all.length === 0 ? h('p', { class: 'hint' }, 'No values.') : '',
        more ?? '',
      );
      if (focused !== undefined) {
        const again = holder.querySelector<HTMLInputElement>(`[data-key="${CSS.escape(focused)}"]`);
        again?.focus();
        if (again?.type === 'search') {
          again.setSelectionRange(again.value.length, again.value.length);
        }
      }
    });
    return make({
      attribute,
      limit: MOST_VALUES,
      operator: 'or',
      sortBy: ['isRefined:desc', 'count:desc', 'name:asc'],
    });
  }

  /** Weekdays and hours of the day have an order of their own. */
  private ordered(attribute: string, items: Item[]): Item[] {
    const place = {
      [`${this.index.time}_weekday`]: (label: string) => WEEKDAYS.indexOf(label as never),
      [`${this.index.time}_hour_of_day`]: Number,
    }[attribute];
    return place ? [...items].sort((a, b) => place(a.label) - place(b.label)) : items;
  }

  private matches(item: Item, filter: string, isSomeone: boolean): boolean {
    if (filter === '') {
      return true;
    }
    const wanted = filter.toLowerCase();
    return (
      item.label.toLowerCase().includes(wanted) ||
      (isSomeone && this.context.names.shown(item.label).toLowerCase().includes(wanted))
    );
  }

  private item(attribute: string, item: Item, isSomeone: boolean, refine: () => void): HTMLElement {
    const box = h('input', {
      type: 'checkbox',
      checked: item.isRefined,
      'data-key': item.label,
      'data-facet': attribute,
      onchange: refine,
    });
    const name = isSomeone ? person(this.context, item.label) : item.label;
    return h(
      'li',
      null,
      h(
        'label',
        null,
        box,
        h('span', { class: 'value', title: item.label }, name),
        h('span', { class: 'number' }, count(item.count)),
      ),
    );
  }

  private hitsWidget() {
    const make = connectHits<object>(({ items, results }) => {
      this.found = results?.nbHits ?? 0;
      this.hits.replaceChildren(recordTable(this.context, this.index, items as unknown as Hit[], this.found));
    });
    return make({ escapeHTML: false });
  }

  private pagesWidget() {
    const make = connectPagination(({ currentRefinement, nbPages, refine, isFirstPage, isLastPage }) => {
      const previous = button('Newer', () => refine(currentRefinement - 1));
      const next = button('Older', () => refine(currentRefinement + 1));
      [previous.disabled, next.disabled] = [isFirstPage, isLastPage];
      const place =
        nbPages > 1
          ? [previous, h('span', { class: 'hint' }, `page ${count(currentRefinement + 1)} of ${count(nbPages)}`), next]
          : [];
      this.pages.replaceChildren(...place);
    });
    return make({});
  }
}
