/** An unauthorized access is on the screen within three seconds of its arrival, whatever view is open. */

import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';

import { exampleConfig, who } from '../fixture';
import { buckets } from '../record';
import { makeRecords } from '../records';
import { go, skip, Stage } from './stage';

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

let id = 1_000_000;
function access(report: number, authorized: boolean, secondsAgo = 0) {
  id += 1;
  return {
    objectID: String(id),
    report,
    user: who(3),
    action: 'print',
    authorized,
    ...buckets('at', Math.floor(Date.now() / 1000) - secondsAgo),
  };
}

test('a new one is shown, marked, counted in the title, and told to the system', { skip }, async () => {
  const { page } = await stage.open('access?index=workspace_access', { browser: { permissions: ['notifications'] } });
  await page.evaluate(() => {
    const told: string[] = [];
    Object.assign(window, { told });
    window.Notification = class {
      static permission = 'granted';
      constructor(title: string, options: { body: string }) {
        told.push(`${title} ${options.body}`);
      }
    } as never;
  });
  await page.getByText('last answer').waitFor();
  assert.doesNotMatch(await page.title(), /^\(/, 'what was there before is no news');
  const times: number[] = [];
  for (let round = 1; round <= 3; round += 1) {
    const record = access(round, false);
    const row = page.locator(`.unauthorized tr.new[data-id="${record.objectID}"]`);
    const started = Date.now();
    await stage.add('workspace_access', [record, access(1, true)]);
    await page.waitForFunction((count) => document.title.startsWith(`(${count}) `), round, { polling: 50 });
    times.push(Date.now() - started);
    await row.waitFor();
    assert.match((await row.textContent()) ?? '', /new.*unauthorized/);
    assert.match((await page.locator('.news').textContent()) ?? '', new RegExp(`report ${round} by`));
  }
  console.log(`# on the screen after ${times.join(', ')} ms`);
  assert.ok(Math.max(...times) < 3000, `${times.join(', ')} ms`);
  const told = await page.evaluate(() => (window as never as { told: string[] }).told);
  assert.equal(told.length, 3);
  assert.ok(
    told.every((text) => !text.includes('p_')),
    'a notification names no one',
  );
  await page.locator('.news').getByRole('button', { name: 'Mark as read' }).click();
  await page.waitForFunction(() => !document.title.startsWith('('));
  assert.equal(await page.locator('.news').isVisible(), false);
});

test(
  'another view tells it as well, also of an edit, of many at once, and of one whose time is past',
  { skip },
  async () => {
    const { page } = await stage.open('access?index=workspace_access');
    await page.getByText('last answer').waitFor();
    await go(page, 'peaks?index=workspace_access');
    await stage.add('workspace_edit', [{ ...access(2, false), section: 'costs' }]);
    await page.waitForFunction(() => document.title.startsWith('(1) '));
    await stage.add(
      'workspace_access',
      Array.from({ length: 60 }, () => access(4, false)),
    );
    await page.waitForFunction(() => document.title.startsWith('(61) '));
    await stage.add('workspace_access', [access(5, false, 90 * 86_400)]);
    await page.waitForFunction(() => document.title.startsWith('(62) '));
    await page.locator('.news').getByRole('button', { name: 'Show' }).click();
    await page.waitForFunction(() => location.hash.includes('/access?'));
  },
);

test('while it is paused nothing is asked, and it goes on afterwards', { skip }, async () => {
  const { page, requests } = await stage.open('access?index=workspace_access', { clock: true });
  await page.getByText('last answer').waitFor();
  const asked = () => requests.filter((request) => (request.postData() ?? '').includes('"hitsPerPage":50')).length;
  const past = async () => {
    await page.clock.fastForward(10_000);
    await page.waitForLoadState('networkidle');
    return asked();
  };
  const first = asked();
  assert.ok((await past()) > first, 'time that passes makes the page ask');
  await page.getByRole('button', { name: 'Pause' }).click();
  await page.getByText('Paused').waitFor();
  await page.waitForLoadState('networkidle');
  const before = asked();
  assert.equal(await past(), before);
  await page.getByRole('button', { name: 'Resume' }).click();
  await stage.add('workspace_access', [access(6, false)]);
  await page.waitForFunction(() => document.title.startsWith('(1) '));
});
