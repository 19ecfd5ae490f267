/** What happened to a document, and who had which permission on it over a period. */

import type { DocumentView } from '../config';
import type { Context, OpenView, Shown, View } from '../context';
import { Bounds, everyHit } from '../counting';
import { count, fragment, h, type Child } from '../dom';
import { isCounted, timeOf } from '../facets';
import { all, any, is, within } from '../filters';
import { inOrder, readChange, type Change } from '../history';
import { valuesOf, type Hit } from '../search';
import { parseStamp, spanOf } from '../time';
import { button, capitalized, field, rangeControl, rangeOf, valueChoice, type Option } from '../ui/controls';
import { CHANGE_HEADING, changeList, changeRows } from '../ui/changes';
import { empty, growing, section, table } from '../ui/table';
import { plain, shown, time } from '../ui/values';
import { permissionSection } from './permissions';

export const document: View = {
  id: 'document',
  title: 'Document',
  question: 'What happened to a document, and who was allowed to do what?',
  offered: (config) => config.views.document.length > 0,
  open(context): OpenView {
    const { views } = context.config;
    const entry =
      views.document.find((one) => one.document === context.state.get('by')) ?? (views.document[0] as DocumentView);
    const kinds = views.document.map((one) => ({ value: one.document, label: capitalized(one.document) }));
    const source = entry.permissions?.index ?? entry.history[0] ?? '';
    return {
      controls: fragment(
        kinds.length > 1 ? kindControl(context, kinds, entry.document) : null,
        valueChoice(context, {
          name: 'id',
          label: capitalized(entry.document),
          index: entry.history[0] ?? source,
          attribute: entry.document,
          all: 'Choose…',
        }),
        rangeControl(context),
        entry.permissions ? periodControl(context) : null,
      ),
      load: () => load(context, entry),
    };
  },
};

/** Which attribute tells documents apart; the view opens anew with another one. */
function kindControl(context: Context, kinds: Option[], current: string): HTMLElement {
  const open = (by: string) => context.navigate('document', { by, ...rangeOf(context.state) });
  const select = h('select', { name: 'by', onchange: () => open(select.value) });
  select.append(...kinds.map(({ value, label }) => h('option', { value, selected: value === current }, label)));
  return field('Documents told apart by', select);
}

/** The period for permissions: two moments, to the second. */
function periodControl(context: Context): Node {
  const { state, zone } = context;
  const moment = (name: string, label: string) => {
    const input = h('input', {
      type: 'datetime-local',
      step: 1,
      name,
      value: state.get(name),
      onchange: () => state.set({ [name]: input.value }),
    });
    return field(label, input);
  };
  return h(
    'fieldset',
    { class: 'period' },
    h('legend', null, `Permissions between (${zone})`),
    moment('t1', 'From'),
    moment('t2', 'To'),
  );
}

async function load(context: Context, entry: DocumentView): Promise<Shown> {
  const bounds = new Bounds();
  const id = context.state.get('id');
  if (id === '') {
    return { content: await documents(context, entry, bounds), bounds, isEmpty: true };
  }
  const [histories, permissions] = await Promise.all([
    Promise.all(entry.history.map((name) => historyOf(context, entry, name, id, bounds))),
    entry.permissions ? permissionsOf(context, entry, id, bounds) : undefined,
  ]);
  const { zone } = context;
  const period = { from: parseStamp(context.state.get('t1'), zone), to: parseStamp(context.state.get('t2'), zone) };
  const rows = histories.flatMap(({ index, changes }) =>
    changeRows(context, index, changes).map((row) => [index.name, ...row]),
  );
  const found = histories.some(({ hits }) => hits.length > 0) || (permissions?.length ?? 0) > 0;
  return {
    content: found
      ? fragment(
          entry.permissions && permissions ? permissionSection(context, entry, id, permissions, period) : null,
          histories.map((one) => historySection(context, entry, one)),
        )
      : empty(`Nothing is recorded of ${entry.document} ${id}.`, 'Check its spelling, and the time range.'),
    bounds,
    isEmpty: !found,
    table: () => ({ name: `${entry.document}-${id}`, heading: ['index', ...CHANGE_HEADING], rows, people: [4, 6, 7] }),
  };
}

/** Without a document chosen: those of which most is recorded. */
async function documents(context: Context, entry: DocumentView, bounds: Bounds): Promise<Node> {
  const source = entry.history[0] ?? entry.permissions?.index ?? '';
  const answer = await context.searcher.one({ index: source, facets: [entry.document] });
  bounds.check(answer);
  const open = (value: string) => context.navigate('document', { by: context.state.get('by'), id: value });
  const chips = valuesOf(answer, entry.document)
    .slice(0, 40)
    .map(([value, number]) => button(`${value} (${count(number)})`, () => open(value), 'chip'));
  const text = `Choose a ${entry.document} to see its history${entry.permissions ? ' and permissions' : ''}.`;
  return fragment(empty(text), h('div', { class: 'chips centred' }, chips));
}

interface History {
  index: ReturnType<Context['index']>;
  hits: Hit[];
  /** The newest first; empty for an index whose records are no changes. */
  changes: Change[];
}

async function historyOf(
  context: Context,
  entry: DocumentView,
  name: string,
  id: string,
  bounds: Bounds,
): Promise<History> {
  const index = context.index(name);
  const at = timeOf(index) ?? '';
  const span = spanOf(context.state.get, context.zone, context.now());
  const hits = await everyHit(
    context.searcher,
    { index: name, filters: all(about(context, name, entry.document, id), within(at, span)), time: at },
    bounds,
    5000,
  );
  const changes = index.records === 'changes' ? inOrder(hits.map(readChange)).reverse() : [];
  return { index, hits, changes };
}

/** Records about the document: where it is now and, if that can be asked, where it was before. */
function about(context: Context, name: string, attribute: string, id: string): string {
  const before = `previous.${attribute}`;
  return any(is(attribute, id), ...(isCounted(context.index(name), before) ? [is(before, id)] : []));
}

/** All changes of permissions on the document, whenever they were made: the state at a moment follows from those before. */
async function permissionsOf(context: Context, entry: DocumentView, id: string, bounds: Bounds): Promise<Change[]> {
  const { index = '' } = entry.permissions ?? {};
  const { searcher } = context;
  const at = timeOf(context.index(index)) ?? 'changed_at';
  const [own, truncations] = await Promise.all([
    everyHit(searcher, { index, filters: about(context, index, entry.document, id), time: at }, bounds),
    everyHit(searcher, { index, filters: is('op', 'truncate'), time: at }, bounds),
  ]);
  return inOrder([...own, ...truncations].map(readChange));
}

function historySection(context: Context, entry: DocumentView, history: History): HTMLElement {
  const { index, changes, hits } = history;
  const isChanges = index.records === 'changes';
  const heading = isChanges ? 'Modification history' : 'What was done';
  const title = `${heading}: ${index.name}`;
  if (hits.length === 0) {
    return section(title, h('p', { class: 'hint' }, 'Nothing in this time.'));
  }
  if (!isChanges) {
    return section(title, events(context, entry, history));
  }
  return section(
    title,
    growing(changes, 50, (part) => changeList(context, index, part)),
  );
}

function events(context: Context, entry: DocumentView, { index, hits }: History): Child {
  const at = timeOf(index) ?? '';
  const attributes = index.attributes.map(({ name }) => name).filter((name) => name !== at && name !== entry.document);
  const columns = [{ title: `Time (${context.zone})` }, ...attributes.map((name) => ({ title: capitalized(name) }))];
  const row = (hit: Hit) => ({
    id: hit.objectID,
    class: String(hit['authorized']) === 'false' ? 'bad' : undefined,
    cells: [
      typeof hit[at] === 'number' ? time(context, hit[at]) : plain(context, index, at, hit[at]),
      ...attributes.map((name) => shown(context, index, name, hit[name])),
    ],
  });
  return growing(hits, 20, (part) => table(`Records of ${index.name}, the newest first`, columns, part.map(row)));
}
