/** Explore's figures against the same figures counted from the records, by other code. */

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import type { Page } from 'playwright-core';

import { allExamples } from '../fixture';
import { tally, type Records } from '../record';
import { makeRecords } from '../records';
import { en, figure, go, rows, settled, skip, Stage } from './stage';

let stage: Stage;
let page: Page;
let records: Records;

before(async () => {
  if (skip) {
    return;
  }
  const config = allExamples();
  stage = await Stage.start(config);
  records = makeRecords(Math.floor(Date.now() / 1000));
  await stage.fill(records, config.indices);
  ({ page } = await stage.open('explore'));
});
after(async () => {
  await stage?.closePages();
  await stage?.stop();
});

const of = (index: string) => records[index] ?? [];

test('any facet over any bucket, and the address is the report', { skip }, async () => {
  const list = of('workspace_access').filter(({ action }) => action === 'view' || action === 'print');
  await go(page, 'explore?index=workspace_access&group=report&time=month&f.action=view,print');
  assert.equal(await figure(page, 'Records'), en(list.length));
  await page.getByText('The numbers as a table').click();
  const months = [...new Set(list.map((record) => String(record['at_day']).slice(0, 7)))].sort();
  const reports = tally(list, 'report').map(([report]) => report);
  const expected = months.map((month) => {
    const own = list.filter((record) => String(record['at_day']).startsWith(month));
    return [
      month,
      ...reports.map((report) => en(own.filter((record) => String(record['report']) === report).length)),
      en(own.length),
    ];
  });
  assert.deepEqual(await rows(page, 'Records in each time'), expected);
  await page.locator('[data-facet="report"][data-key="2"]').click();
  await page.waitForFunction(() => location.hash.includes('f.report=2'));
  await settled(page);
  const hash = await page.evaluate(() => location.hash);
  assert.ok(!hash.includes('key='), 'an address can be shared');
  const two = list.filter(({ report }) => report === 2);
  assert.equal(await figure(page, 'Records'), en(two.length));
  const again = (await stage.open(hash.slice(2))).page;
  assert.equal(await figure(again, 'Records'), en(two.length));
  const hits = await rows(again, 'the newest first');
  assert.equal(hits.length, Math.min(20, two.length));
});

test('values without time, text, an index that no configuration names, and where answers end', { skip }, async () => {
  await go(page, 'explore?index=analytics_event&group=user_id&time=none');
  const text = (await page.locator('.bounds').textContent()) ?? '';
  assert.match(text, /lists 1,000 values of “user_id” at most/);
  assert.match(text, /Of 6,000 records, Algolia shows the newest 1,000/);
  await go(page, 'explore?index=scraped_raw_post&q=harbour&time=none');
  const matching = of('scraped_raw_post').filter((record) => JSON.stringify([record['body']]).includes('harbour'));
  assert.equal(await figure(page, 'Records'), en(matching.length));
  stage.setConfig(undefined);
  const unknown = (await stage.open('explore?indices=workspace_access&index=workspace_access&time=weekday')).page;
  await unknown.getByText('The numbers as a table').click();
  const weekdays = await rows(unknown, 'Records in each time');
  assert.deepEqual(
    weekdays.map(([name, number]) => [name, number]),
    ['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun'].map((name) => [
      name,
      en(of('workspace_access').filter((record) => record['at_weekday'] === name).length),
    ]),
  );
  stage.setConfig(allExamples());
});
