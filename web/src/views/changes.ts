/** The change stream of a watched table: every insert, update and delete, with before and after. */

import type { Context, OpenView, Shown, View } from '../context';
import { Bounds } from '../counting';
import { count, fragment, h, plural } from '../dom';
import { facetsOf, isCounted, timeOf } from '../facets';
import { all, is, within } from '../filters';
import { inOrder, readChange, type Change } from '../history';
import { valuesOf, type Hit } from '../search';
import { describeSpan, spanOf } from '../time';
import { button, capitalized, entryOf, rangeControl, valueChoice } from '../ui/controls';
import { CHANGE_HEADING, changeList, changeRows } from '../ui/changes';
import { empty, figure } from '../ui/table';

const PAGE = 50;

export const changes: View = {
  id: 'changes',
  title: 'Changes',
  question: 'What changed in a table, and what was there before?',
  offered: (config) => config.views.changes.length > 0,
  open(context): OpenView {
    const { entry, control } = entryOf(context, context.config.views.changes);
    const filter = (attribute: string, label: string) =>
      isCounted(context.index(entry.index), attribute)
        ? valueChoice(context, { name: attribute, label, index: entry.index, attribute })
        : null;
    return {
      controls: fragment(
        control,
        filter('op', 'Operation'),
        filter('changed', 'Attribute'),
        filter('changed_by', 'Changed by'),
        own(context, entry.index).map((attribute) => filter(attribute, capitalized(attribute))),
        rangeControl(context),
      ),
      load: () => load(context, entry.index),
      every: 10,
    };
  },
};

/** The facets of the table's own columns; the first few have a control. */
function own(context: Context, name: string): string[] {
  const index = context.index(name);
  const columns = index.attributes.map((attribute) => attribute.name);
  return facetsOf(index)
    .filter((facet) => facet.counted && columns.includes(facet.attribute) && facet.attribute !== index.time)
    .map((facet) => facet.attribute)
    .slice(0, 3);
}

async function load(context: Context, name: string): Promise<Shown> {
  const { state, searcher, zone } = context;
  const index = context.index(name);
  const bounds = new Bounds();
  const span = spanOf(state.get, zone, context.now());
  const chosen = ['op', 'changed', 'changed_by', ...own(context, name)].filter(
    (attribute) => state.get(attribute) !== '',
  );
  const filters = all(...chosen.map((attribute) => is(attribute, state.get(attribute))), within('changed_at', span));
  // One query for what is shown; the pages below it are asked for when wanted.
  const answer = await searcher.one({ index: name, filters, facets: ['op'], hitsPerPage: PAGE });
  bounds.check(answer);
  if (answer.count === 0) {
    const content = empty(
      `No change in this selection: ${describeSpan(span, zone)}.`,
      'Choose a longer time, or fewer conditions.',
    );
    return { content, bounds, isEmpty: true };
  }
  const shown = new Map(answer.hits.map((hit) => [hit.objectID, hit]));
  const list = h('div', null, changeList(context, index, newest(answer.hits)));
  const ops = new Map(valuesOf(answer, 'op'));
  return {
    content: fragment(
      h(
        'div',
        { class: 'figures' },
        figure('Changes', answer.count, describeSpan(span, zone)),
        ...['insert', 'update', 'delete'].map((op) => figure(`${capitalized(op)}s`, ops.get(op) ?? 0)),
        ops.has('truncate') ? figure('Truncations', ops.get('truncate') ?? 0) : null,
      ),
      h('h2', null, 'The newest first'),
      list,
      answer.count > answer.hits.length ? older(context, { name, filters, count: answer.count }, shown, list) : null,
    ),
    bounds,
    table: () => ({
      name: `changes-${name}`,
      heading: CHANGE_HEADING,
      rows: changeRows(context, index, newest([...shown.values()])),
      people: [3, 5, 6],
    }),
  };
}

function newest(hits: Hit[]): Change[] {
  return inOrder(hits.map(readChange)).reverse();
}

/** A button that goes on below the oldest change shown. */
function older(
  context: Context,
  query: { name: string; filters: string; count: number },
  shown: Map<string, Hit>,
  list: HTMLElement,
): HTMLElement {
  const index = context.index(query.name);
  const note = h('span', { class: 'hint', role: 'status' });
  const tell = () => (note.textContent = ` ${count(shown.size)} of ${plural(query.count, 'change')} shown`);
  const more = button('Show older ones', () => void go());
  const go = async () => {
    more.disabled = true;
    // The index is ranked by this attribute.
    const at = timeOf(index) ?? 'changed_at';
    const last = [...shown.values()].at(-1)?.[at];
    const below = typeof last === 'number' ? `${at} <= ${last}` : '';
    const page = below === '' ? { page: Math.ceil(shown.size / PAGE) } : {};
    try {
      // Changes of one moment may be on both sides of the border: ask for a page more than that.
      const answer = await context.searcher.one({
        index: query.name,
        filters: all(query.filters, below),
        hitsPerPage: PAGE * 2,
        ...page,
      });
      const fresh = answer.hits.filter((hit) => !shown.has(hit.objectID));
      fresh.forEach((hit) => shown.set(hit.objectID, hit));
      list.append(changeList(context, index, newest(fresh)));
      list.classList.add('grown');
      more.hidden = fresh.length === 0 || shown.size >= query.count;
      more.disabled = false;
      tell();
    } catch (error) {
      more.disabled = false;
      note.textContent = ` That did not work: ${error instanceof Error ? error.message : String(error)}`;
    }
  };
  tell();
  return h('p', { class: 'more' }, more, note);
}
