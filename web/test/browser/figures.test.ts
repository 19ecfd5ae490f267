/** Each view's figures against the same figures counted from the records, by other code. */

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import type { Page } from 'playwright-core';

import { allExamples, who } from '../fixture';
import { tally, type Record_, type Records } from '../record';
import { makeRecords } from '../records';
import { permissions } from '../workspace_records';
import { en, figure, go, rows, share, skip, Stage } from './stage';

const NOW = Math.floor(Date.now() / 1000);
const DAY = 86_400;

let stage: Stage;
let records: Records;

before(async () => {
  if (skip) {
    return;
  }
  const config = allExamples();
  stage = await Stage.start(config);
  records = makeRecords(NOW);
  await stage.fill(records, config.indices);
});
after(async () => {
  await stage?.closePages();
  await stage?.stop();
});

const of = (index: string) => records[index] ?? [];
const day = (daysAgo: number) => new Date((NOW - daysAgo * DAY) * 1000).toISOString().slice(0, 10);
const dayStart = (text: string) => Date.parse(`${text}T00:00:00Z`) / 1000;

let page: Page | undefined;

/** One tab goes from view to view, as a person does. */
async function view(place: string): Promise<Page> {
  page ??= (await stage.open('explore')).page;
  await go(page, place);
  return page;
}

test('peaks: every cell of the heat map, the days, and one report alone', { skip }, async () => {
  for (const [place, list] of [
    ['peaks?index=workspace_access', of('workspace_access')],
    ['peaks?index=workspace_access&document=3', of('workspace_access').filter(({ report }) => report === 3)],
    [
      `peaks?index=workspace_access&from=${day(40)}&to=${day(20)}`,
      of('workspace_access').filter(({ at }) => Number(at) >= dayStart(day(40)) && Number(at) < dayStart(day(19))),
    ],
  ] as const) {
    const page = await view(place);
    assert.equal(await figure(page, 'Records'), en(list.length), place);
    const cells = await page
      .locator('[data-cell]')
      .evaluateAll((all) => all.map((cell) => [cell.getAttribute('data-cell'), cell.textContent || '0']));
    assert.equal(cells.length, 7 * 24);
    for (const [name, text] of cells) {
      const expected = list.filter(
        (record) => `${String(record['at_weekday'])} ${String(record['at_hour_of_day'])}` === name,
      ).length;
      assert.equal(text, String(expected), `${place}: ${name}`);
    }
    const busiest = await rows(page, 'The busiest days');
    const expected = tally(list, 'at_day');
    assert.equal(busiest[0]?.[2], en(expected[0]?.[1] ?? 0));
    busiest.forEach(([name, , number]) =>
      assert.equal(number, en(expected.find(([one]) => one === name)?.[1] ?? 0), name),
    );
  }
});

test('access: unauthorized ones first, by report and by user', { skip }, async () => {
  const page = await view('access?index=workspace_access');
  const list = of('workspace_access');
  const bad = list.filter(({ authorized }) => authorized === false);
  assert.ok(bad.length > 5);
  assert.equal(await figure(page, 'Accesses'), en(list.length));
  assert.equal(await figure(page, 'Unauthorized'), en(bad.length));
  const ids = await page
    .locator('.unauthorized tbody tr')
    .evaluateAll((all) => all.map((row) => row.getAttribute('data-id')));
  const newest = [...bad].sort((a, b) => Number(b['at']) - Number(a['at'])).map(({ objectID }) => objectID);
  assert.deepEqual(ids, newest.slice(0, ids.length));
  assert.equal(ids.length, Math.min(25, bad.length));
  const expected = (name: string) =>
    tally(list, name).map(([value, number]) => [
      value,
      en(number),
      en(bad.filter((record) => String(record[name]) === value).length),
      '',
    ]);
  assert.deepEqual(await rows(page, 'By report'), expected('report'));
  assert.deepEqual(await rows(page, 'By user'), expected('user'));
  const one = await view(`access?index=workspace_access&user=${who(2)}&document=1`);
  const own = list.filter(({ user, report }) => user === who(2) && report === 1);
  assert.equal(await figure(one, 'Accesses'), en(own.length));
});

test('editors: who changed most, for all reports and for one, and refused attempts apart', { skip }, async () => {
  const since = day(30);
  for (const [place, list] of [
    ['editors?index=workspace_edit', of('workspace_edit')],
    ['editors?index=workspace_edit&document=1', of('workspace_edit').filter(({ report }) => report === 1)],
    [
      `editors?index=workspace_edit&from=${since}`,
      of('workspace_edit').filter(({ at }) => Number(at) >= dayStart(since)),
    ],
  ] as const) {
    const page = await view(place);
    const good = list.filter(({ authorized }) => authorized === true);
    assert.equal(await figure(page, 'Changes'), en(good.length), place);
    assert.equal(await figure(page, 'Unauthorized'), en(list.length - good.length), place);
    const found = (await rows(page, 'Editors by their changes')).map((row) => row.slice(1, 5));
    const counts = new Map(tally(good, 'user'));
    const users = [...new Set(list.map(({ user }) => String(user)))];
    const expected = users.map((user) => {
      const number = counts.get(user) ?? 0;
      const refused = list.filter((record) => record['user'] === user && record['authorized'] === false).length;
      return [user, en(number), share(number, good.length), en(refused)];
    });
    const sort = (list: string[][]) => [...list].sort((a, b) => (String(a[0]) < String(b[0]) ? -1 : 1));
    assert.deepEqual(sort(found), sort(expected), place);
    assert.deepEqual(
      found.map((row) => row[1]),
      [...found.map((row) => row[1])].sort((a, b) => Number(b) - Number(a)),
      'in order',
    );
  }
});

test('document: the history with what was before and after', { skip }, async () => {
  const page = await view('document?by=report&id=1');
  const history = page.locator('section', { hasText: 'Modification history' }).locator('.change');
  const texts = await history.evaluateAll((list) =>
    list.map((item) => [item.getAttribute('data-id'), [...item.querySelectorAll('dd')].map((dd) => dd.textContent)]),
  );
  const expected = of('workspace_report')
    .filter(({ report }) => report === 1)
    .reverse();
  assert.deepEqual(
    texts.map(([id]) => id),
    expected.map(({ objectID }) => objectID),
  );
  const title = await history.nth(2).textContent();
  assert.match(title ?? '', /title.*before: Quarterly→after: Quarterly figures/);
});

/** Who held what at a moment, by going through the records in order. */
function heldAt(moment: number): string[] {
  const state = new Map<string, string>();
  for (const record of permissions(NOW).filter(({ report }) => report === 1)) {
    if (Number(record['changed_at'] ?? 0) <= moment) {
      record['op'] === 'delete'
        ? state.delete(String(record['user']))
        : state.set(String(record['user']), String(record['level']));
    }
  }
  return [...state].map(([user, level]) => `${user} ${level}`).sort();
}

test('document: who had which permission at both ends of a period, and each change between', { skip }, async () => {
  const stampOf = (seconds: number) => new Date(seconds * 1000).toISOString().slice(0, 19);
  for (const [ago, until] of [
    [60, 1],
    [72, 20],
    [39, 8],
  ] as const) {
    const [from, to] = [NOW - ago * DAY, NOW - until * DAY];
    const page = await view(`document?by=report&id=1&t1=${stampOf(from)}&t2=${stampOf(to)}`);
    const [start, end] = [
      await rows(page, `At ${stampOf(from).replace('T', ' ')}`),
      await rows(page, `At ${stampOf(to).replace('T', ' ')}`),
    ];
    const lines = (list: string[][]) => list.map(([user, level]) => `${user} ${level}`).sort();
    assert.deepEqual(lines(start), heldAt(from));
    assert.deepEqual(lines(end), heldAt(to));
    const changes = page.locator('section', { hasText: 'Changes in this period' }).locator('.change');
    const ids = await changes.evaluateAll((list) =>
      list.map((item) => String(item.getAttribute('data-id')).split('@')[0]),
    );
    const between = permissions(NOW).filter(
      (record) => record['report'] === 1 && Number(record['changed_at']) > from && Number(record['changed_at']) <= to,
    );
    assert.deepEqual(
      ids,
      between.map(({ objectID }) => objectID.split('@')[0]),
    );
    const people = await page.locator('.timeline .row-name title').allTextContents();
    const holders = new Set(
      [...heldAt(from), ...between.map((record) => String(record['user']))].map((line) => line.split(' ')[0]),
    );
    assert.deepEqual([...people].sort(), [...holders].sort());
  }
});

test('recommendations: recommended and viewed per post, strategy and user', { skip }, async () => {
  const page = await view('recommendations');
  const list = of('workspace_recommendation');
  const [given, seen] = ['recommended', 'viewed'].map((event) =>
    list.filter((record) => record['event'] === event),
  ) as [Record_[], Record_[]];
  assert.equal(await figure(page, 'Recommended'), en(given.length));
  assert.equal(await figure(page, 'Viewed'), en(seen.length));
  assert.equal(await figure(page, 'Share viewed'), share(seen.length, given.length));
  const count = (records: Record_[], values: Record<string, string>) =>
    records.filter((record) => Object.entries(values).every(([name, value]) => record[name] === value)).length;
  const pairs = await rows(page, 'Each post, by strategy');
  assert.equal(pairs.length, new Set(list.map(({ post, strategy }) => `${String(post)} ${String(strategy)}`)).size);
  for (const [post = '', strategy = '', recommended, viewed, part] of pairs) {
    const [all, some] = [count(given, { post, strategy }), count(seen, { post, strategy })];
    assert.deepEqual([recommended, viewed, part], [en(all), en(some), share(some, all)], `${post} ${strategy}`);
  }
  for (const [user = '', recommended, viewed] of await rows(page, 'Who viewed')) {
    assert.deepEqual([recommended, viewed], [en(count(given, { user })), en(count(seen, { user }))]);
  }
});

test('changes: the stream by operation, and older ones on demand', { skip }, async () => {
  const page = await view('changes?index=scraped_raw_post');
  const list = of('scraped_raw_post');
  assert.equal(await figure(page, 'Changes'), en(list.length));
  for (const op of ['insert', 'update', 'delete']) {
    assert.equal(
      await figure(page, `${op.charAt(0).toUpperCase()}${op.slice(1)}s`),
      en(list.filter((record) => record['op'] === op).length),
    );
  }
  const ids = () => page.locator('.change').evaluateAll((all) => all.map((item) => item.getAttribute('data-id')));
  const expected = [...list].reverse().map(({ objectID }) => objectID);
  assert.deepEqual(await ids(), expected.slice(0, 50));
  await page.getByRole('button', { name: 'Show older ones' }).click();
  await page.waitForFunction(() => document.querySelectorAll('.change').length > 100);
  const shown = await ids();
  assert.deepEqual(shown, expected.slice(0, shown.length));
  const deleted = await view('changes?index=scraped_raw_post&op=delete');
  assert.equal(await figure(deleted, 'Changes'), en(list.filter(({ op }) => op === 'delete').length));
});

test('activity: the window of activity(), and exact users beyond what one answer lists', { skip }, async () => {
  const at = NOW - 600;
  const page = await view(`activity?index=analytics_event&at=${new Date(at * 1000).toISOString().slice(0, 19)}`);
  const inside = of('analytics_event').filter(
    (record) => Number(record['at']) > at - 3600 && Number(record['at']) <= at,
  );
  const users = (list: Record_[]) => new Set(list.map(({ user_id }) => user_id)).size;
  assert.ok(users(inside) > 1000, 'more than Algolia lists');
  assert.equal(await figure(page, 'Unique user_ids'), en(users(inside)));
  const actions = tally(inside, 'event').map(([name, number]) => [
    name,
    en(number),
    en(users(inside.filter(({ event }) => event === name))),
    '',
  ]);
  assert.deepEqual(await rows(page, 'As activity()'), [...actions, ['all', en(inside.length), en(users(inside)), '']]);
  assert.equal(await page.locator('.bounds').count(), 0, 'nothing is bounded');
});

test('a control asks again at once, and another index opens the view anew', { skip }, async () => {
  const page = await view(`access?index=workspace_access&user=${who(2)}&from=${day(30)}`);
  const since = (index: string) => of(index).filter(({ at }) => Number(at) >= dayStart(day(30)));
  const shows = (number: number) =>
    page.waitForFunction(
      (text) => document.querySelector('[data-figure="Accesses"]')?.textContent === text,
      en(number),
    );
  await shows(since('workspace_access').filter(({ user }) => user === who(2)).length);
  await page.locator('[name=user]').selectOption('');
  await shows(since('workspace_access').length);
  await page.locator('[name=index]').selectOption('workspace_edit');
  await shows(since('workspace_edit').length);
  await page.locator('[name=document]').selectOption('2');
  await shows(since('workspace_edit').filter(({ report }) => report === 2).length);
  await page.locator('[name=range]').selectOption('');
  await shows(of('workspace_edit').filter(({ report }) => report === 2).length);
  await page.goBack();
  await shows(since('workspace_edit').filter(({ report }) => report === 2).length);
});
