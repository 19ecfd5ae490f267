/** Times in zones, ranges, filters, and where counting is cut. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { compact } from '../../src/charts/heat';
import { labelled, shade } from '../../src/charts/scale';
import { Bounds, slicesOf } from '../../src/counting';
import { all, any, is, number, within } from '../../src/filters';
import { duration, parseEnd, parseStamp, precise, spanOf, stamp, weekdayOf, daysBetween, onAxis } from '../../src/time';
import { merge, placesOf } from '../../src/views/grouping';

const BERLIN = 'Europe/Berlin';

test('times are read and written in the zone, across changes of clocks', () => {
  for (const [text, utc] of [
    ['2026-11-20T13:05:09', '2026-11-20T12:05:09Z'],
    ['2026-07-01', '2026-06-30T22:00:00Z'],
    ['2026-03-29T01:59', '2026-03-29T00:59:00Z'],
    ['2026-03-29T03:00', '2026-03-29T01:00:00Z'],
    ['2026-10-25T03:00', '2026-10-25T02:00:00Z'],
  ] as const) {
    const seconds = parseStamp(text, BERLIN);
    assert.equal(seconds, Date.parse(utc) / 1000, text);
    assert.equal(stamp(seconds as number, BERLIN).slice(0, text.length), text);
  }
  assert.equal(parseStamp('2026-11-20 13:05:09.25', 'UTC'), Date.parse('2026-11-20T13:05:09.250Z') / 1000);
  for (const wrong of ['', 'today', '2026-13-01', '2026-1-1']) {
    assert.equal(parseStamp(wrong, 'UTC'), undefined, wrong);
  }
  assert.equal(
    precise(1_796_000_000.25, 'UTC'),
    '2026-11-29 17:33:20.250'
      .replace('17:33:20', stamp(1_796_000_000, 'UTC').slice(11))
      .replace('2026-11-29', stamp(1_796_000_000, 'UTC').slice(0, 10)),
  );
});

test('a range includes its last day', () => {
  const get = (values: Record<string, string>) => (name: string) => values[name] ?? '';
  const span = spanOf(get({ from: '2026-11-01', to: '2026-11-30' }), 'UTC', 0);
  assert.deepEqual(span, { from: Date.parse('2026-11-01Z') / 1000, to: Date.parse('2026-12-01Z') / 1000 });
  assert.deepEqual(spanOf(get({ range: '1h' }), 'UTC', 10_000), { from: 6400 });
  assert.deepEqual(spanOf(get({}), 'UTC', 10_000), {});
  assert.equal(parseEnd('2026-11-20T13:05', 'UTC'), Date.parse('2026-11-20T13:06:00Z') / 1000);
});

test('filters quote what people write', () => {
  assert.equal(is('user', 'a "b" \\'), '"user":"a \\"b\\" \\\\"');
  assert.equal(all(is('a', '1'), '', any(is('b', '2'), is('b', '3'))), '"a":"1" AND ("b":"2" OR "b":"3")');
  assert.equal(within('at', { from: 1.5, to: 1_795_180_455 }), 'at >= 1.5 AND at < 1795180455');
  assert.equal(number(1e21 / 1e9), '1000000000000');
  assert.equal(number(100), '100');
});

test('days and buckets are without gaps', () => {
  assert.deepEqual(daysBetween('2026-02-27', '2026-03-01'), ['2026-02-27', '2026-02-28', '2026-03-01']);
  assert.equal(weekdayOf('2026-11-20'), 'Fri');
  assert.deepEqual(placesOf('month', ['2026-11', '2027-01']), ['2026-11', '2026-12', '2027-01']);
  assert.deepEqual(placesOf('hour', ['2026-11-20T22', '2026-11-21T01']), [
    '2026-11-20T22',
    '2026-11-20T23',
    '2026-11-21T00',
    '2026-11-21T01',
  ]);
  assert.deepEqual(placesOf('week', ['2026-11-16', '2026-11-30']), ['2026-11-16', '2026-11-23', '2026-11-30']);
  assert.deepEqual(
    [
      ...merge(
        new Map([
          ['2026-11-17', 2],
          ['2026-11-22', 3],
          ['2026-11-23', 4],
        ]),
        'week',
      ),
    ],
    [
      ['2026-11-16', 5],
      ['2026-11-23', 4],
    ],
  );
});

test('a span is cut into slices that Algolia can list, the newest first', () => {
  assert.deepEqual(slicesOf({ from: 0, to: 250 }, 100, 0), [
    { from: 150, to: 250 },
    { from: 50, to: 150 },
    { from: 0, to: 50 },
  ]);
  assert.deepEqual(slicesOf({ from: 0, to: 90 }, 100, 0), [{ from: 0, to: 90 }]);
  assert.deepEqual(slicesOf({}, 100, 0), [{}], 'without a beginning it cannot be cut');
});

test('bounds are said once each', () => {
  const bounds = new Bounds();
  const facets = { user: Object.fromEntries(Array.from({ length: 1000 }, (_, at) => [String(at), 1])) };
  const answer = { query: { index: 'i', hitsPerPage: 1000 }, hits: [], facets, count: 2000, exact: false };
  bounds.check(answer, answer, undefined);
  assert.equal(bounds.sentences.length, 3);
  assert.match(
    bounds.sentences.join(' '),
    /estimated .* 1,000 values of “user” .* 1,000 records of a query at most; 2,000 match/s,
  );
});

test('charts have room for their labels, and readable numbers', () => {
  assert.deepEqual(labelled(10, 3), [0, 4, 8]);
  assert.deepEqual(
    [0, 1, 50, 100].map((value) => shade(value, 100)),
    [0, 1, 4, 8],
  );
  assert.deepEqual([0, 7, 999, 1234, 99_999, 1_250_000].map(compact), ['', '7', '999', '1.2k', '100k', '1.3M']);
  assert.deepEqual([0.5, 59, 7200, 86_400 * 3].map(duration), ['500 ms', '59 s', '2 h', '3 days']);
});

test('marks of an axis are told apart, whether it spans milliseconds or months', () => {
  const at = Date.parse('2026-11-20T13:05:09.250Z') / 1000;
  assert.deepEqual(
    [0.02, 60, 86_400].map((span) => onAxis(at, 'UTC', span)),
    ['13:05:09.250', '13:05:09', '2026-11-20 13:05'],
  );
});
