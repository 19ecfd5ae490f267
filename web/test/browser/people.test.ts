/** Names stay in the page, keys stay out of addresses, and what is shown can be taken away as CSV. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, afterEach, before, test } from 'node:test';

import type { Page } from 'playwright-core';

import { parseCsv } from '../../src/csv';
import { exampleConfig, namesCsv, PEOPLE, who } from '../fixture';
import { makeRecords } from '../records';
import { go, SEARCH, settled, skip, Stage, type Opened } from './stage';

const NOW = Math.floor(Date.now() / 1000);

let stage: Stage;
before(async () => {
  if (skip) {
    return;
  }
  const config = exampleConfig('report_workspace');
  stage = await Stage.start(config);
  await stage.fill(makeRecords(NOW), config.indices);
});
after(() => stage?.stop());
afterEach(() => stage?.closePages());

async function loadNames(page: Page, csv = namesCsv()): Promise<void> {
  await page.getByRole('button', { name: /^Names/ }).click();
  await page
    .locator('#names-file')
    .setInputFiles({ name: 'names.csv', mimeType: 'text/csv', buffer: Buffer.from(csv) });
}

const closeNames = (page: Page) => page.getByRole('button', { name: 'Close' }).click();

/** Everything that left the browser. */
function sent({ requests }: Opened): string {
  return requests
    .map(
      (request) =>
        `${request.method()} ${request.url()} ${JSON.stringify(request.headers())} ${request.postData() ?? ''}`,
    )
    .join('\n');
}

test('names take the place of pseudonyms, and no request contains one', { skip }, async () => {
  const opened = await stage.open('access?index=workspace_access');
  const { page } = opened;
  await loadNames(page);
  await page.getByText(`${PEOPLE.length} names in memory`).waitFor();
  await closeNames(page);
  await page.locator('tbody .person', { hasText: 'Alice Adams' }).first().waitFor();
  assert.equal(
    await page.locator('tbody .person', { hasText: 'Alice Adams' }).first().getAttribute('title'),
    who(0),
    'the pseudonym is on hover',
  );
  for (const place of [
    'editors?index=workspace_edit',
    'document?by=report&id=1',
    'recommendations',
    'changes',
    'activity',
    'peaks',
  ]) {
    await go(page, place);
  }
  await go(page, 'access?index=workspace_access');
  await page.waitForFunction(() => document.querySelectorAll('[name=user] option').length > 1);
  await page
    .locator('[name=user]')
    .selectOption({ label: (await page.locator('[name=user] option', { hasText: 'Ben Brown' }).textContent()) ?? '' });
  await page.waitForFunction((value) => location.hash.includes(value), who(1));
  await settled(page);
  await go(page, 'explore?index=workspace_access&group=user');
  const search = page.getByLabel('Text', { exact: true });
  for (const typed of ['Alice Adams', 'gábor', 'print Carol Clark']) {
    await search.fill(typed);
    await search.press('Enter');
    await page.getByText('Names are not sent').waitFor();
    await page.waitForFunction(
      () => location.hash.includes('q=') && !document.querySelector('.result')?.hasAttribute('aria-busy'),
    );
    await settled(page);
  }
  assert.equal(await search.inputValue(), `print ${who(2)}`);
  await page.getByLabel('Find among the values of user').fill('esra');
  await page.locator('.facet .person', { hasText: 'Esra Ekinci' }).waitFor();
  await page.locator('.facet label', { hasText: 'Esra Ekinci' }).click();
  await page.waitForFunction((value) => location.hash.includes(value), who(4));
  await settled(page);
  const all = sent(opened).toLowerCase();
  const words = PEOPLE.flatMap((name) => name.toLowerCase().split(' ')).filter((word) => word.length > 3);
  for (const name of words) {
    assert.ok(!all.includes(name) && !all.includes(encodeURIComponent(name).toLowerCase()), name);
  }
  assert.ok(all.includes(who(0)), 'the pseudonym was asked for instead');
  const kept = await page.evaluate(() =>
    JSON.stringify([{ ...sessionStorage }, { ...localStorage }, document.cookie, location.href]),
  );
  assert.ok(!words.some((word) => kept.toLowerCase().includes(word)), 'no storage has a name');
  await page.reload();
  await settled(page);
  assert.equal(await page.getByText('Alice Adams').count(), 0, 'a reload forgets them');
});

test('a file that is something else is refused with a reason', { skip }, async () => {
  const { page } = await stage.open('access');
  await loadNames(page, 'a,b\n1,2\n');
  await page.getByText('No line has a pseudonym').waitFor();
});

async function csv(page: Page, name: string): Promise<string[][]> {
  const [download] = await Promise.all([
    page.waitForEvent('download'),
    page.getByRole('button', { name, exact: true }).click(),
  ]);
  return parseCsv(readFileSync((await download.path()) ?? '', 'utf8'));
}

test('CSV has what is shown, with pseudonyms unless names are asked for', { skip }, async () => {
  const { page } = await stage.open('editors?index=workspace_edit');
  await loadNames(page);
  await closeNames(page);
  await page.locator('tbody .person').first().waitFor();
  const [heading, ...rows] = await csv(page, 'CSV');
  assert.deepEqual(heading, ['user', 'changes', 'unauthorized']);
  assert.ok(rows.length > 3 && rows.every(([user]) => user?.startsWith('p_')));
  await page.getByLabel('with names').check();
  const named = await csv(page, 'CSV');
  assert.deepEqual(
    named
      .slice(1)
      .map(([name]) => name)
      .sort(),
    rows.map(([user]) => PEOPLE[Array.from(PEOPLE, (_, at) => who(at)).indexOf(user ?? '')]).sort(),
  );
  await go(page, 'explore?index=workspace_access&f.action=print');
  const records = await csv(page, 'CSV of records');
  const at = records[0]?.indexOf('action') ?? -1;
  assert.ok(records.length > 100 && records.slice(1).every((row) => row[at] === 'print'));
});

test('the key is in no address, and in no request but those to Algolia', { skip }, async () => {
  const opened = await stage.open('access?index=workspace_access');
  const { page, requests } = opened;
  assert.ok(!(await page.evaluate(() => location.href)).includes(SEARCH));
  await go(page, 'peaks');
  await page.goBack();
  await settled(page);
  for (const request of requests) {
    assert.ok(!request.url().includes(SEARCH), request.url());
    const isAlgolia = request.url().startsWith(stage.algolia);
    assert.ok(isAlgolia || !JSON.stringify(request.headers()).includes(SEARCH));
    assert.ok(isAlgolia || request.url().startsWith(stage.url), `${request.url()} is neither the page nor Algolia`);
  }
  assert.equal(await page.evaluate(() => document.cookie), '');
  await page.reload();
  await settled(page);
  const other = await page.context().newPage();
  await other.goto(await page.evaluate(() => location.href));
  await other.getByLabel('Search key').waitFor();
  assert.equal(
    await other.getByLabel('Application id').inputValue(),
    'STANDIN',
    'a shared link asks for the key alone',
  );
  await page.getByRole('button', { name: 'Disconnect' }).click();
  await page.getByLabel('Search key').waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
});

test('what is behind # reaches no server, but for what is asked of Algolia', { skip }, async () => {
  const opened = await stage.open('explore?index=workspace_access&f.action=print&note=stays-in-the-browser');
  const { page } = opened;
  await go(page, 'access?index=workspace_access&note=stays-in-the-browser');
  await page.reload();
  await settled(page);
  assert.ok((await page.evaluate(() => location.href)).includes('stays-in-the-browser'));
  const all = sent(opened);
  assert.ok(!all.includes('stays-in-the-browser') && !all.includes('#'), 'no address, header or body has it');
  assert.ok(opened.requests.every((request) => request.url().startsWith(stage.algolia) || !request.postData()));
});
