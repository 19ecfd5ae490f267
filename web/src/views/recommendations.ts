/** What was recommended, what of it was viewed, and by whom. */

import type { RecommendationsView } from '../config';
import type { Context, OpenView, Shown, View } from '../context';
import { Bounds, MOST_GROUPS } from '../counting';
import { count, fragment, h, percent, plural, type Child } from '../dom';
import { timeOf } from '../facets';
import { all, is, within } from '../filters';
import { valuesOf, type Answer } from '../search';
import { describeSpan, spanOf } from '../time';
import { capitalized, entryOf, rangeControl, valueChoice } from '../ui/controls';
import { bar, empty, figure, section, table } from '../ui/table';
import { person } from '../ui/values';

export const recommendations: View = {
  id: 'recommendations',
  title: 'Recommendations',
  question: 'How effective were the recommendations?',
  offered: (config) => config.views.recommendations.length > 0,
  open(context): OpenView {
    const { entry, control } = entryOf(context, context.config.views.recommendations);
    const { index, post, strategy } = entry;
    return {
      controls: fragment(
        control,
        valueChoice(context, { name: 'strategy', label: capitalized(strategy), index, attribute: strategy }),
        valueChoice(context, { name: 'post', label: capitalized(post), index, attribute: post }),
        rangeControl(context),
      ),
      load: () => load(context, entry),
    };
  },
};

/** How often something was recommended and viewed. */
interface Effect {
  name: string;
  recommended: number;
  viewed: number;
}

async function load(context: Context, entry: RecommendationsView): Promise<Shown> {
  const { state, searcher, zone } = context;
  const { index, post, user, strategy, event } = entry;
  const bounds = new Bounds();
  const span = spanOf(state.get, zone, context.now());
  const filters = all(
    state.get('strategy') && is(strategy, state.get('strategy')),
    state.get('post') && is(post, state.get('post')),
    within(timeOf(context.index(index)) ?? '', span),
  );
  const both = (more: string, facets: string[]) =>
    [entry.recommended, entry.viewed].map((value) => ({
      index,
      filters: all(filters, more, is(event, value)),
      facets,
    }));
  const [recommended, viewed] = await searcher.ask(both('', [post, user, strategy]));
  bounds.check(recommended, viewed);
  if (!recommended || !viewed || recommended.count + viewed.count === 0) {
    const content = empty(
      `No recommendation in this selection: ${describeSpan(span, zone)}.`,
      'Choose a longer time, or all strategies and posts.',
    );
    return { content, bounds, isEmpty: true };
  }
  const strategies = effects(recommended, viewed, strategy);
  const chosen = strategies.slice(0, MOST_GROUPS).map(({ name }) => name);
  const answers = await searcher.ask(chosen.flatMap((name) => both(is(strategy, name), [post])));
  bounds.check(...answers);
  const pairs = chosen.flatMap((name, at) =>
    effects(answers[2 * at], answers[2 * at + 1], post).map((effect) => ({ ...effect, strategy: name })),
  );
  pairs.sort((a, b) => b.recommended - a.recommended || b.viewed - a.viewed);
  return {
    content: fragment(
      h(
        'div',
        { class: 'figures' },
        figure('Recommended', recommended.count, describeSpan(span, zone)),
        figure('Viewed', viewed.count),
        figure('Share viewed', percent(viewed.count, recommended.count), undefined, 'accent'),
        figure('Viewers', Object.keys(viewed.facets[user] ?? {}).length),
      ),
      section('By strategy', effectTable(`Strategies and what came of them`, strategy, strategies)),
      section(
        `By ${post} and strategy`,
        effectTable(`Each ${post}, by strategy`, post, pairs.slice(0, 200), {
          title: capitalized(strategy),
          cell: (at) => pairs[at]?.strategy,
        }),
        strategies.length > MOST_GROUPS
          ? h(
              'p',
              { class: 'hint' },
              `The ${MOST_GROUPS} most used of ${plural(strategies.length, 'strategy', 'strategies')}.`,
            )
          : null,
        pairs.length > 200
          ? h('p', { class: 'hint' }, `The first 200 of ${plural(pairs.length, 'pair')}; CSV has all.`)
          : null,
      ),
      section('By whom', people(context, entry, recommended, viewed)),
    ),
    bounds,
    table: () => ({
      name: `recommendations-${index}`,
      heading: [post, strategy, 'recommended', 'viewed', 'share'],
      rows: pairs.map((pair) => [
        pair.name,
        pair.strategy,
        pair.recommended,
        pair.viewed,
        pair.recommended === 0 ? '' : pair.viewed / pair.recommended,
      ]),
      people: [],
    }),
  };
}

/** The values of an attribute in both answers, the most recommended first. */
export function effects(recommended: Answer | undefined, viewed: Answer | undefined, attribute: string): Effect[] {
  const [given, seen] = [recommended, viewed].map((answer) => new Map(valuesOf(answer, attribute)));
  const names = new Set([...(given?.keys() ?? []), ...(seen?.keys() ?? [])]);
  const list = [...names].map((name) => ({ name, recommended: given?.get(name) ?? 0, viewed: seen?.get(name) ?? 0 }));
  return list.sort((a, b) => b.recommended - a.recommended || b.viewed - a.viewed || (a.name < b.name ? -1 : 1));
}

function effectTable(
  caption: string,
  attribute: string,
  list: Effect[],
  second?: { title: string; cell: (at: number) => Child },
  name: (value: string) => Child = (value) => value,
): HTMLElement {
  const columns = [
    { title: capitalized(attribute) },
    ...(second ? [{ title: second.title }] : []),
    { title: 'Recommended', numeric: true },
    { title: 'Viewed', numeric: true },
    { title: 'Share', numeric: true },
    { title: '' },
  ];
  const rows = list.map((one, at) => ({
    cells: [
      name(one.name),
      ...(second ? [second.cell(at)] : []),
      count(one.recommended),
      count(one.viewed),
      percent(one.viewed, one.recommended),
      bar(one.viewed, Math.max(one.recommended, one.viewed), 'series-2'),
    ],
  }));
  return table(caption, columns, rows);
}

function people(context: Context, entry: RecommendationsView, recommended: Answer, viewed: Answer): HTMLElement {
  const list = effects(recommended, viewed, entry.user).sort(
    (a, b) => b.viewed - a.viewed || b.recommended - a.recommended,
  );
  const shown = effectTable(
    'Who viewed what was recommended to them',
    entry.user,
    list.slice(0, 50),
    undefined,
    (value) => person(context, value),
  );
  return h(
    'div',
    null,
    shown,
    list.length > 50 ? h('p', { class: 'hint' }, `The first 50 of ${plural(list.length, 'user')}.`) : null,
  );
}
