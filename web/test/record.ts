/** What a record is made of, as the extension writes it. */

export type Record_ = { objectID: string } & Record<string, unknown>;
export type Records = Record<string, Record_[]>;

const WEEKDAYS = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'];

export function buckets(name: string, seconds: number): Record<string, unknown> {
  const iso = new Date(seconds * 1000).toISOString();
  return {
    [name]: seconds,
    [`${name}_day`]: iso.slice(0, 10),
    [`${name}_hour`]: iso.slice(0, 13),
    [`${name}_weekday`]: WEEKDAYS[new Date(seconds * 1000).getUTCDay()],
    [`${name}_hour_of_day`]: iso.slice(11, 13),
  };
}

export const DAY = 86_400;
export const pick = <T>(next: () => number, list: T[]): T => list[Math.floor(next() * list.length)] as T;
/** More often the first ones. */
export const skewed = <T>(next: () => number, list: T[]): T => list[Math.floor(next() ** 2 * list.length)] as T;

/** A moment in office hours, mostly. */
export function moment(next: () => number, now: number, days: number): number {
  for (;;) {
    const seconds = Math.floor(now - next() * days * DAY);
    const [hour, weekday] = [new Date(seconds * 1000).getUTCHours(), new Date(seconds * 1000).getUTCDay()];
    const office = Math.exp(-((hour - 9.5) ** 2) / 6) + 0.8 * Math.exp(-((hour - 14.5) ** 2) / 5) + 0.04;
    if (next() < office * (weekday === 0 || weekday === 6 ? 0.12 : weekday === 2 ? 1 : 0.75)) {
      return seconds;
    }
  }
}

let number = 1_838_264_786_432_000n;
const changeNumber = () => (number += 1n).toString();

interface Change {
  op: string;
  row: string;
  values: Record<string, unknown>;
  previous?: Record<string, unknown>;
  by: string;
  at: number;
}

export function change({ op, row, values, previous, by, at }: Change): Record_ {
  const changed = previous ? { changed: Object.keys(previous), previous } : {};
  return {
    objectID: `${row}@${changeNumber()}`,
    ...values,
    op,
    ...changed,
    changed_by: by,
    changed_at: at,
    transaction_id: Number(number % 100_000n),
  };
}

/** How many of the records have each value, the most frequent first. */
export function tally(list: Record_[], name: string): [string, number][] {
  const counts = new Map<string, number>();
  list.forEach((record) => counts.set(String(record[name]), (counts.get(String(record[name])) ?? 0) + 1));
  return [...counts].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1));
}
