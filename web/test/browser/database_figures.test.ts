/** Each view's figures against SQL over the tables of the worked examples, with real workers in between. */

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import type { Page } from 'playwright-core';

import { flush, rows, run, value } from '../database';
import { count, openExamples, skip, sorted } from './examples';
import { en, figure, go, rows as shownRows, share, type Stage } from './stage';

let stage: Stage;
let page: Page;
before(async () => {
  if (!skip) {
    ({ stage, page } = await openExamples());
  }
});
after(async () => {
  await stage?.closePages();
  await stage?.stop();
});

test('peaks are those of the table: each hour of each weekday, and days', { skip }, async () => {
  for (const [place, condition] of [
    ['', 'true'],
    ['&document=3', 'report_id = 3'],
  ] as const) {
    await go(page, `peaks?index=workspace_access${place}`);
    const from = `report_workspace.access_log where ${condition}`;
    assert.equal(await figure(page, 'Records'), en(count(from)));
    const cells = await page
      .locator('[data-cell]')
      .evaluateAll((all) =>
        all.map((cell) => [cell.getAttribute('data-cell') ?? '', Number((cell.textContent || '0').replace(/,/g, ''))]),
      );
    assert.equal(cells.length, 7 * 24);
    const hours = rows<{ name: string; n: number }>(
      `select to_char(at, 'Dy HH24') as name, count(*) as n from ${from} group by 1`,
    );
    assert.deepEqual(
      Object.fromEntries(cells.filter(([, n]) => n !== 0)),
      Object.fromEntries(hours.map(({ name, n }) => [name, n])),
    );
    const days = rows<{ day: string; n: number }>(
      `select to_char(at, 'YYYY-MM-DD') as day, count(*) as n from ${from} group by 1`,
    );
    const busiest = await shownRows(page, 'The busiest days');
    assert.equal(busiest[0]?.[2], en(Math.max(...days.map(({ n }) => n))));
    for (const [day, , number] of busiest) {
      assert.equal(number, en(days.find((one) => one.day === day)?.n ?? 0), day);
    }
  }
});

test(
  'accesses are those of the table, by report and by user, and the unauthorized ones are first',
  { skip },
  async () => {
    await go(page, 'access?index=workspace_access');
    assert.equal(await figure(page, 'Accesses'), en(count('report_workspace.access_log')));
    assert.equal(await figure(page, 'Unauthorized'), en(count('report_workspace.access_log where not authorized')));
    const ids = await page
      .locator('.unauthorized tbody tr')
      .evaluateAll((all) => all.map((row) => row.getAttribute('data-id')));
    const newest = rows<{ id: string }>(
      'select access_id::text as id from report_workspace.access_log where not authorized order by at desc, id limit 25',
    );
    assert.deepEqual(
      ids,
      newest.map(({ id }) => id),
    );
    for (const [caption, key] of [
      ['By report', 'report_id::text'],
      ['By user', 'audit_algolia.pseudonym(user_id)'],
    ] as const) {
      const expected = rows<{ name: string; n: number; bad: number }>(
        `select ${key} as name, count(*) as n, count(*) filter (where not authorized) as bad
       from report_workspace.access_log group by 1`,
      );
      assert.deepEqual(
        sorted(await shownRows(page, caption)),
        sorted(expected.map(({ name, n, bad }) => [name, en(n), en(bad), ''])),
      );
    }
  },
);

test('editors are those of the table, with their refused attempts apart', { skip }, async () => {
  for (const [place, condition] of [
    ['', 'true'],
    ['&document=1', 'report_id = 1'],
    ['&from=2026-01-01', "at >= '2026-01-01'"],
  ] as const) {
    await go(page, `editors?index=workspace_edit${place}`);
    const expected = rows<{ name: string; good: number; bad: number }>(
      `select audit_algolia.pseudonym(user_id) as name, count(*) filter (where authorized) as good,
           count(*) filter (where not authorized) as bad
       from report_workspace.report_edit where ${condition} group by 1`,
    );
    const total = expected.reduce((sum, { good }) => sum + good, 0);
    const perReport = rows<{ report: string; good: number }>(
      `select report_id::text as report, count(*) filter (where authorized) as good
       from report_workspace.report_edit where ${condition} group by 1 order by 2 desc, 1`,
    );
    assert.equal(await figure(page, 'Changes'), en(total));
    const found = (await shownRows(page, 'Editors by their changes')).map((row) => row.slice(1, 5));
    assert.deepEqual(
      sorted(found),
      sorted(expected.map(({ name, good, bad }) => [name, en(good), share(good, total), en(bad)])),
    );
    if (!place.includes('document=')) {
      const each = (await shownRows(page, 'Who changed each report most')).map((row) => row.slice(0, 2));
      assert.deepEqual(
        each,
        perReport.map(({ report, good }) => [report, en(good)]),
      );
    }
  }
});

test('recommendations are those of the tables, per post, strategy and user', { skip }, async () => {
  await go(page, 'recommendations');
  const [given, seen] = [count('report_workspace.recommendation'), count('report_workspace.recommendation_view')];
  assert.equal(await figure(page, 'Recommended'), en(given));
  assert.equal(await figure(page, 'Viewed'), en(seen));
  assert.equal(await figure(page, 'Share viewed'), share(seen, given));
  const joined =
    'report_workspace.recommendation as r left join report_workspace.recommendation_view as v using (recommendation_id)';
  const pairs = rows<{ post: string; strategy: string; n: number; seen: number }>(
    `select r.post, r.strategy, count(*) as n, count(v.recommendation_id) as seen from ${joined} group by 1, 2`,
  );
  assert.deepEqual(
    sorted((await shownRows(page, 'Each post, by strategy')).map((row) => row.slice(0, 5))),
    sorted(pairs.map(({ post, strategy, n, seen }) => [post, strategy, en(n), en(seen), share(seen, n)])),
  );
  const users = rows<{ name: string; n: number; seen: number }>(
    `select audit_algolia.pseudonym(r.user_id) as name, count(*) as n, count(v.recommendation_id) as seen
     from ${joined} group by 1`,
  );
  assert.deepEqual(
    sorted((await shownRows(page, 'Who viewed')).map((row) => row.slice(0, 3))),
    sorted(users.map(({ name, n, seen }) => [name, en(n), en(seen)])),
  );
});

test('activity is what activity() counts, for more users than an index lists', { skip }, async () => {
  const at = value<string>(
    "select to_char(date_trunc('second', now()) - interval '10 minutes', 'YYYY-MM-DD\"T\"HH24:MI:SS')",
  );
  await go(page, `activity?index=analytics_event&at=${at}`);
  const counted = rows<{ action: string | null; events: number; unique_actors: number }>(
    `select * from audit_algolia.activity('user_analytics.event', timestamptz '${at}+00')`,
  );
  assert.ok((counted.find(({ action }) => action === null)?.unique_actors ?? 0) > 1000);
  assert.deepEqual(
    sorted((await shownRows(page, 'As activity()')).map((row) => row.slice(0, 3))),
    sorted(counted.map(({ action, events, unique_actors }) => [action ?? 'all', en(events), en(unique_actors)])),
  );
});

test('explore counts what the table has, by a facet over each bucket of time', { skip }, async () => {
  for (const [time, place, days] of [
    ['hour', `to_char(at, 'YYYY-MM-DD"T"HH24')`, 4],
    ['day', "to_char(at, 'YYYY-MM-DD')", 50],
    ['week', "to_char(date_trunc('week', at), 'YYYY-MM-DD')", 50],
    ['month', "to_char(at, 'YYYY-MM')", 50],
    ['weekday', "to_char(at, 'Dy')", 50],
    ['hour_of_day', "to_char(at, 'HH24')", 50],
  ] as const) {
    const from = value<string>(`select to_char(now() - interval '${days} days', 'YYYY-MM-DD')`);
    await go(page, `explore?index=workspace_access&group=action&time=${time}&from=${from}`);
    await page.getByText('The numbers as a table').click();
    const [, ...names] = await page.locator('.as-table thead th').allTextContents();
    const shown = (await shownRows(page, 'Records in each time')).flatMap(([name, ...numbers]) =>
      names.map((action, at) => [`${name} ${action}`, numbers[at]] as const),
    );
    const counted = rows<{ name: string; n: number }>(
      `select place || ' ' || coalesce(action, 'All') as name, n
       from (
           select ${place} as place, action, count(*) as n
           from report_workspace.access_log where at >= '${from}'
           group by grouping sets ((1, 2), (1))) as counts`,
    );
    assert.ok(counted.length > 3, time);
    assert.deepEqual(
      Object.fromEntries(shown.filter(([, number]) => number !== '0')),
      Object.fromEntries(counted.map(({ name, n }) => [name, en(n)])),
      time,
    );
  }
});

test('explore shows what is in a mirrored table, also after rows have changed and gone', { skip }, async () => {
  const compare = async () => {
    await go(page, 'explore?index=scan_observation&group=service&time=none');
    assert.equal(await figure(page, 'Records'), en(count('scan_ingest.observation')));
    await go(page, 'explore?index=scan_observation&group=service&time=none&f.state=open');
    assert.equal(await figure(page, 'Records'), en(count("scan_ingest.observation where state = 'open'")));
    const services = rows<{ service: string; n: number }>(
      "select service, count(*) as n from scan_ingest.observation where state = 'open' group by 1",
    );
    const shown = await page
      .locator('[data-facet="service"]')
      .evaluateAll((all) =>
        all.map((box) => [box.getAttribute('data-key') ?? '', box.closest('label')?.textContent?.trim() ?? '']),
      );
    assert.deepEqual(
      shown.map(([name = '', text = '']) => [name, text.slice(name.length).trim()]).sort(),
      services.map(({ service, n }) => [service, en(n)]).sort(),
    );
  };
  await compare();
  run(
    "update scan_ingest.observation set state = 'closed' where port = 80 and state = 'open'",
    "select scan_ingest.forget(now() - interval '7 days')",
  );
  flush();
  await compare();
});
