/** Times in a named zone. Records have Unix seconds; people pick days and hours of the zone that buckets are made in. */

import type { Span } from './filters';

const WEEKDAYS = ['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun'] as const;
export { WEEKDAYS };
export const DAY = 86_400;

const formats = new Map<string, Intl.DateTimeFormat>();

function format(zone: string): Intl.DateTimeFormat {
  let found = formats.get(zone);
  if (!found) {
    found = new Intl.DateTimeFormat('en-CA', {
      timeZone: zone,
      hourCycle: 'h23',
      year: 'numeric',
      month: '2-digit',
      day: '2-digit',
      hour: '2-digit',
      minute: '2-digit',
      second: '2-digit',
    });
    formats.set(zone, found);
  }
  return found;
}

/** `2026-11-20T13:05:09` in the zone. */
export function stamp(seconds: number, zone: string): string {
  const parts = new Map(
    format(zone)
      .formatToParts(new Date(seconds * 1000))
      .map((part) => [part.type, part.value]),
  );
  const get = (name: Intl.DateTimeFormatPartTypes) => parts.get(name) ?? '00';
  const date = `${get('year').padStart(4, '0')}-${get('month')}-${get('day')}`;
  return `${date}T${get('hour')}:${get('minute')}:${get('second')}`;
}

/** As a person reads it: `2026-11-20 13:05:09`. */
export function readable(seconds: number, zone: string): string {
  return stamp(seconds, zone).replace('T', ' ');
}

/** With the milliseconds, where there are some. */
export function precise(seconds: number, zone: string): string {
  const thousandths = Math.round((seconds - Math.floor(seconds)) * 1000) % 1000;
  return readable(seconds, zone) + (thousandths === 0 ? '' : `.${String(thousandths).padStart(3, '0')}`);
}

/** A moment on an axis that spans so many seconds: no more precise than it takes to tell its marks apart. */
export function onAxis(seconds: number, zone: string, span: number): string {
  if (span < 20) {
    return precise(seconds, zone).slice(11);
  }
  return span < 1200 ? readable(seconds, zone).slice(11) : readable(seconds, zone).slice(0, 16);
}

export function dayOf(seconds: number, zone: string): string {
  return stamp(seconds, zone).slice(0, 10);
}

/** Unix seconds of `2026-11-20`, `2026-11-20T13:05` or `2026-11-20T13:05:09` in the zone; `undefined` if it is none. */
export function parseStamp(text: string, zone: string): number | undefined {
  const match = /^(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}):(\d{2})(?::(\d{2})(\.\d{1,3})?)?)?$/.exec(text.trim());
  if (!match) {
    return undefined;
  }
  const [, day, hour = '00', minute = '00', second = '00', fraction = ''] = match;
  const wall = Date.parse(`${day}T${hour}:${minute}:${second}Z`) / 1000;
  if (Number.isNaN(wall)) {
    return undefined;
  }
  // The offset of the guess may be that of the other side of a change of clocks: ask again at the better guess.
  let guess = wall - offset(wall, zone);
  guess = wall - offset(guess, zone);
  return guess + (fraction === '' ? 0 : Number(fraction));
}

/** How far the zone's clocks are ahead of UTC. */
function offset(seconds: number, zone: string): number {
  return Date.parse(`${stamp(seconds, zone)}Z`) / 1000 - Math.floor(seconds);
}

/** The day after, or `count` days later. */
export function addDays(day: string, count: number): string {
  return new Date(Date.parse(`${day}T00:00:00Z`) + count * DAY * 1000).toISOString().slice(0, 10);
}

export function weekdayOf(day: string): string {
  return WEEKDAYS[(new Date(`${day}T00:00:00Z`).getUTCDay() + 6) % 7] ?? '';
}

/** All days from the first to the last. */
export function daysBetween(first: string, last: string): string[] {
  const days: string[] = [];
  for (let day = first; day <= last && days.length < 36_600; day = addDays(day, 1)) {
    days.push(day);
  }
  return days;
}

/** Ranges that end now, by the names they have in the URL. */
export const PRESETS: [string, string, number][] = [
  ['1h', 'Last hour', 3600],
  ['24h', 'Last 24 hours', DAY],
  ['7d', 'Last 7 days', 7 * DAY],
  ['30d', 'Last 30 days', 30 * DAY],
  ['90d', 'Last 90 days', 90 * DAY],
  ['365d', 'Last 365 days', 365 * DAY],
];

/** The span that the URL's `range`, `from` and `to` mean. `to` names a day or a minute that is included. */
export function spanOf(get: (name: string) => string, zone: string, now: number): Span {
  const preset = PRESETS.find(([name]) => name === get('range'));
  if (preset) {
    return { from: now - preset[2] };
  }
  const from = parseStamp(get('from'), zone);
  const to = parseEnd(get('to'), zone);
  return { ...(from === undefined ? {} : { from }), ...(to === undefined ? {} : { to }) };
}

/** The moment after a day or a minute. */
export function parseEnd(text: string, zone: string): number | undefined {
  if (/^\d{4}-\d{2}-\d{2}$/.test(text)) {
    return parseStamp(addDays(text, 1), zone);
  }
  const start = parseStamp(text, zone);
  return start === undefined ? undefined : start + (text.length <= 16 ? 60 : 0.001);
}

export function describeSpan(span: Span, zone: string): string {
  if (span.from === undefined && span.to === undefined) {
    return 'all time';
  }
  const from = span.from === undefined ? 'the beginning' : readable(span.from, zone).slice(0, 16);
  const to = span.to === undefined ? 'now' : readable(span.to, zone).slice(0, 16);
  return `${from} – ${to}`;
}

/** `3 min`, `2 h`, `5 days`. */
export function duration(seconds: number): string {
  const units: [number, string][] = [
    [DAY, 'day'],
    [3600, 'h'],
    [60, 'min'],
    [1, 's'],
  ];
  for (const [size, name] of units) {
    if (seconds >= size) {
      const count = Math.round(seconds / size);
      return `${count} ${name}${name === 'day' && count !== 1 ? 's' : ''}`;
    }
  }
  return `${Math.round(seconds * 1000)} ms`;
}
