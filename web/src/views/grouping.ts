/** Explore's question: how many records, by a facet's values and by buckets of time. */

import type { IndexConfig } from '../config';
import type { Context } from '../context';
import { countBuckets, MOST_GROUPS, perValue, type Bounds } from '../counting';
import { bucketOf, timeOf, type Bucket } from '../facets';
import { all, within, type Span } from '../filters';
import { valuesOf, type Query } from '../search';
import { addDays, DAY, daysBetween, stamp, WEEKDAYS } from '../time';

export interface Grouping {
  /** Places on the time axis, or none. */
  places: string[];
  series: { name: string; isOthers?: boolean; values: number[]; total: number }[];
  total: number;
  /** Why there is no chart over time. */
  note?: string;
}

/** Buckets of time, by their names in the URL; what they are read from, and how long one is. */
export const TIMES: { name: string; label: string; from: Bucket; seconds: number }[] = [
  { name: 'hour', label: 'Hours', from: 'hour', seconds: 3600 },
  { name: 'day', label: 'Days', from: 'day', seconds: DAY },
  { name: 'week', label: 'Weeks', from: 'day', seconds: DAY },
  { name: 'month', label: 'Months', from: 'day', seconds: DAY },
  { name: 'weekday', label: 'Weekdays', from: 'weekday', seconds: DAY * 7 },
  { name: 'hour_of_day', label: 'Hours of the day', from: 'hour_of_day', seconds: DAY },
];

export interface Question {
  index: IndexConfig;
  text: string;
  filters: string;
  span: Span;
  group: string;
  time: string;
}

export async function ask(context: Context, question: Question, bounds: Bounds): Promise<Grouping> {
  const { searcher } = context;
  const { index, text, filters, span, group, time } = question;
  const at = timeOf(index) ?? '';
  const query: Query = {
    index: index.name,
    filters: all(filters, at === '' ? '' : within(at, span)),
    ...(text ? { query: text } : {}),
    facets: group ? [group] : [],
  };
  const total = await searcher.one(query);
  bounds.check(total);
  const groups = group ? valuesOf(total, group) : [];
  const most = time === 'none' ? groups : groups.slice(0, MOST_GROUPS);
  if (time === 'none') {
    const series = most.map(([name, number]) => ({ name, values: [], total: number }));
    return { places: [], series, total: total.count };
  }
  const counted = await overTime(
    context,
    question,
    most.map(([name]) => name),
    bounds,
  );
  if (typeof counted === 'string') {
    return {
      places: [],
      series: most.map(([name, number]) => ({ name, values: [], total: number })),
      total: total.count,
      note: counted,
    };
  }
  const { places, totals, groups: perGroup } = counted;
  const series: Grouping['series'] = most.map(([name, number], place) => ({
    name,
    values: perGroup[place] ?? [],
    total: number,
  }));
  if (!group) {
    return { places, series: [{ name: 'records', values: totals, total: total.count }], total: total.count };
  }
  const others = totals.map((value, place) =>
    Math.max(0, value - perGroup.reduce((sum, one) => sum + (one[place] ?? 0), 0)),
  );
  const rest = others.reduce((sum, value) => sum + value, 0);
  if (rest > 0) {
    series.push({
      name: groups.length > most.length ? `${groups.length - most.length} others` : 'without a value',
      isOthers: true,
      values: others,
      total: rest,
    });
  }
  if (groups.length > most.length) {
    bounds.say(
      `The chart has the ${MOST_GROUPS} most frequent of ${groups.length.toLocaleString('en')} values of “${group}”; the rest is under “others”.`,
    );
  }
  return { places, series, total: total.count };
}

interface Counted {
  places: string[];
  totals: number[];
  groups: number[][];
}

async function overTime(
  context: Context,
  question: Question,
  values: string[],
  bounds: Bounds,
): Promise<Counted | string> {
  const { index, filters, group, span, text } = question;
  const unit = TIMES.find((one) => one.name === question.time) ?? TIMES[1];
  const bucket = unit && bucketOf(index, unit.from);
  if (!unit || !bucket) {
    return pieces(context, question, values);
  }
  const wanted = [filters, ...perValue(values, group, { index: index.name, filters }).map((one) => one.filters ?? '')];
  const query = { index: index.name, bucket, time: timeOf(index) ?? '', query: text };
  const found = await countBuckets(
    context.searcher,
    query,
    wanted,
    { span, seconds: unit.seconds, now: context.now() },
    bounds,
  );
  const merged = found.map((counts) => merge(counts, unit.name));
  const places = placesOf(unit.name, [...(merged[0]?.keys() ?? [])]);
  const [totals = [], ...groups] = merged.map((counts) => places.map((place) => counts.get(place) ?? 0));
  return { places, totals, groups };
}

const PIECES = 24;

/** Without buckets in its records, an index is asked for pieces of time. */
async function pieces(context: Context, question: Question, values: string[]): Promise<Counted | string> {
  const { index, filters, group, span, text } = question;
  const at = timeOf(index);
  if (!at) {
    return 'The records of this index have no time.';
  }
  if (span.from === undefined) {
    return 'The records of this index have no buckets of time. Choose a time range, and the chart shows it in pieces.';
  }
  const from = span.from;
  const size = ((span.to ?? context.now()) - from) / PIECES;
  const edges = Array.from({ length: PIECES }, (_, piece) => from + piece * size);
  const wanted = [filters, ...perValue(values, group, { index: index.name, filters }).map((one) => one.filters ?? '')];
  const queries = wanted.flatMap((filter) =>
    edges.map((edge): Query => ({
      index: index.name,
      filters: all(filter, within(at, { from: edge, to: edge + size })),
      ...(text ? { query: text } : {}),
    })),
  );
  const answers = await context.searcher.ask(queries);
  const counts = wanted.map((_, place) =>
    answers.slice(place * PIECES, (place + 1) * PIECES).map((answer) => answer.count),
  );
  const [totals = [], ...groups] = counts;
  return { places: edges.map((edge) => stamp(edge, context.zone).replace('T', ' ').slice(0, 16)), totals, groups };
}

/** Days become weeks or months. */
export function merge(counts: Map<string, number>, unit: string): Map<string, number> {
  if (unit !== 'week' && unit !== 'month') {
    return counts;
  }
  const merged = new Map<string, number>();
  for (const [day, number] of counts) {
    const place = unit === 'month' ? day.slice(0, 7) : mondayOf(day);
    merged.set(place, (merged.get(place) ?? 0) + number);
  }
  return merged;
}

function mondayOf(day: string): string {
  return addDays(day, -((new Date(`${day}T00:00:00Z`).getUTCDay() + 6) % 7));
}

/** All places from the first to the last, also those without records. */
export function placesOf(unit: string, found: string[]): string[] {
  const sorted = [...found].sort();
  const [first, last] = [sorted[0], sorted.at(-1)];
  if (unit === 'weekday') {
    return [...WEEKDAYS];
  }
  if (unit === 'hour_of_day') {
    return Array.from({ length: 24 }, (_, hour) => String(hour).padStart(2, '0'));
  }
  if (!first || !last) {
    return [];
  }
  const days = daysBetween(first.slice(0, 10).padEnd(10, '-01'), last.slice(0, 10).padEnd(10, '-01'));
  switch (unit) {
    case 'month':
      return [...new Set(days.map((day) => day.slice(0, 7)))];
    case 'week':
      return days.filter((_, at) => at % 7 === 0);
    case 'hour': {
      const hours = days.flatMap((day) =>
        Array.from({ length: 24 }, (_, hour) => `${day}T${String(hour).padStart(2, '0')}`),
      );
      const all = hours.filter((hour) => hour >= first && hour <= last);
      return all.length <= 2000 ? all : sorted;
    }
    default:
      return days.length <= 4000 ? days : sorted;
  }
}
