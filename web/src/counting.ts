/** Counts that need more than one query, and where Algolia's answers end. */

import { all, is, within, type Span } from './filters';
import { MOST_HITS, MOST_VALUES, valuesOf, type Answer, type Hit, type Query, type Searcher } from './search';
import { DAY } from './time';

/** Sentences about what an answer leaves out. Each is said once. */
export class Bounds {
  private readonly said = new Set<string>();

  say(sentence: string): void {
    this.said.add(sentence);
  }

  /** Notes what is bounded in the answer to a query. */
  check(...answers: (Answer | undefined)[]): void {
    for (const answer of answers) {
      if (!answer) {
        continue;
      }
      if (!answer.exact) {
        this.say(
          'Algolia estimated some of these counts, because so many records match. A shorter time range gives exact ones.',
        );
      }
      for (const [attribute, counts] of Object.entries(answer.facets)) {
        if (Object.keys(counts).length >= MOST_VALUES) {
          this.say(
            `Algolia lists ${MOST_VALUES.toLocaleString('en')} values of “${attribute}” at most, the most frequent ones. A filter or a shorter time range shows the others.`,
          );
        }
      }
      const asked = answer.query.hitsPerPage ?? 0;
      if (asked > 0 && answer.count > answer.hits.length && asked >= MOST_HITS) {
        this.say(
          `Algolia shows ${MOST_HITS.toLocaleString('en')} records of a query at most; ${answer.count.toLocaleString('en')} match. A filter or a shorter time range shows the others.`,
        );
      }
    }
  }

  get sentences(): string[] {
    return [...this.said];
  }
}

/** How many records there are in each bucket of time, named as in the bucket's attribute; for each of the filters. */
export async function countBuckets(
  searcher: Searcher,
  query: { index: string; query?: string; bucket: string; time: string },
  filters: string[],
  range: { span: Span; seconds: number; now: number },
  bounds: Bounds,
): Promise<Map<string, number>[]> {
  const slices = slicesOf(range.span, range.seconds * (MOST_VALUES - 50), range.now);
  const { index, bucket, time, query: text } = query;
  const queries = filters.flatMap((filter) =>
    slices.map((slice): Query => ({
      index,
      filters: all(filter, within(time, slice)),
      facets: [bucket],
      ...(text ? { query: text } : {}),
    })),
  );
  const answers = await searcher.ask(queries);
  bounds.check(...answers);
  return filters.map((_, at) => {
    const counts = new Map<string, number>();
    for (const answer of answers.slice(at * slices.length, (at + 1) * slices.length)) {
      valuesOf(answer, bucket).forEach(([value, count]) => counts.set(value, (counts.get(value) ?? 0) + count));
    }
    return counts;
  });
}

/** Most slices that one question is cut into. */
const MOST_SLICES = 40;

/** A span in parts that are short enough, if it has a beginning; the newest first. */
export function slicesOf(span: Span, longest: number, now: number): Span[] {
  const to = span.to ?? now + DAY;
  if (span.from === undefined || to - span.from <= longest || (to - span.from) / longest > MOST_SLICES) {
    return [span];
  }
  const slices: Span[] = [];
  for (let end = to; end > span.from; end -= longest) {
    slices.push({ from: Math.max(span.from, end - longest), to: end });
  }
  return slices;
}

/**
 * The different values of a facet in a span of time. Where one query would list too many, the span is halved, so that the
 * number stays exact.
 */
export async function distinctValues(
  searcher: Searcher,
  query: { index: string; filters: string; facet: string; time: string },
  span: { from: number; to: number },
  bounds: Bounds,
): Promise<Set<string>> {
  const found = new Set<string>();
  let spans = [span];
  for (let asked = 0; spans.length > 0;) {
    asked += spans.length;
    const answers = await searcher.ask(
      spans.map((one) => ({
        index: query.index,
        filters: all(query.filters, within(query.time, one)),
        facets: [query.facet],
      })),
    );
    const next: { from: number; to: number }[] = [];
    answers.forEach((answer, at) => {
      const values = valuesOf(answer, query.facet);
      values.forEach(([value]) => found.add(value));
      const one = spans[at];
      if (values.length < MOST_VALUES || !one) {
        return;
      }
      if (one.to - one.from < 0.002 || asked > 200) {
        bounds.check(answer);
        return;
      }
      const middle = Math.round(((one.from + one.to) / 2) * 1000) / 1000;
      next.push({ from: one.from, to: middle }, { from: middle, to: one.to });
    });
    spans = next;
  }
  return found;
}

/**
 * The records that match, the newest first, beyond the hits of one query: it goes on below the last record's time.
 * Records without a time come in no query but the first.
 */
export async function everyHit(
  searcher: Searcher,
  query: { index: string; filters: string; time: string },
  bounds: Bounds,
  most = 20_000,
): Promise<Hit[]> {
  const found = new Map<string, Hit>();
  const first = await searcher.one({ index: query.index, filters: query.filters, hitsPerPage: MOST_HITS });
  first.hits.forEach((hit) => found.set(hit.objectID, hit));
  const timeOf = (hit: Hit | undefined) => hit?.[query.time];
  let last = timeOf(first.hits.at(-1));
  while (found.size < first.count && found.size < most && typeof last === 'number') {
    const before = found.size;
    const filters = all(query.filters, `${query.time} <= ${last}`);
    const answer = await searcher.one({ index: query.index, filters, hitsPerPage: MOST_HITS });
    answer.hits.forEach((hit) => found.set(hit.objectID, hit));
    last = timeOf(answer.hits.at(-1));
    if (found.size === before) {
      break;
    }
  }
  if (found.size < first.count) {
    bounds.say(
      `${(first.count - found.size).toLocaleString('en')} of ${first.count.toLocaleString('en')} records could not be read: Algolia shows ${MOST_HITS.toLocaleString('en')} of one moment or without a time at most. What is shown may lack them.`,
    );
  }
  return [...found.values()];
}

/** The most values of a facet for which a question is asked each. */
export const MOST_GROUPS = 10;

/** One query for each value of a facet. */
export function perValue(values: string[], attribute: string, query: Query): Query[] {
  return values.map((value) => ({ ...query, filters: all(query.filters ?? '', is(attribute, value)) }));
}
