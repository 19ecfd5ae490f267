/** Each thing that can go wrong is told apart, and the page says what to do. */

import assert from 'node:assert/strict';
import { createServer as createHttp, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, afterEach, before, test } from 'node:test';

import type { Page, Route } from 'playwright-core';

import { exampleConfig, securedKey } from '../fixture';
import { makeRecords } from '../records';
import { figure, SEARCH, settled, skip, Stage } from './stage';

const NOW = Math.floor(Date.now() / 1000);

let stage: Stage;
let cors: Server;
let corsUrl = '';
before(async () => {
  if (skip) {
    return;
  }
  // It answers as Algolia does, but allows no page to read that.
  cors = createHttp((_, response) => response.end('{"results":[]}'));
  corsUrl = await listen(cors);
  const config = exampleConfig('report_workspace');
  stage = await Stage.start(config, ['http://127.0.0.1:*', 'https://127.0.0.1:*']);
  const { workspace_access = [], workspace_edit = [] } = makeRecords(NOW);
  await stage.fill(
    { workspace_access: workspace_access.slice(0, 50), workspace_edit: workspace_edit.slice(0, 5) },
    config.indices,
  );
});
after(async () => {
  cors?.close();
  await stage?.stop();
});
afterEach(() => stage?.closePages());

function listen(server: Server): Promise<string> {
  return new Promise((resolve) =>
    server.listen(0, '127.0.0.1', () => resolve(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)),
  );
}

async function failure(page: Page): Promise<[string, string]> {
  const panel = page.locator('.failure');
  await panel.waitFor();
  return [(await panel.getAttribute('data-kind')) ?? '', (await panel.textContent()) ?? ''];
}

const PLACE = 'access?index=workspace_access';

test('a wrong key', { skip }, async () => {
  const { page } = await stage.open(PLACE, { key: 'wrong' });
  const [kind, text] = await failure(page);
  assert.equal(kind, 'key');
  assert.match(text, /Check the application id and the key/);
  await page.getByRole('button', { name: 'Another key' }).click();
  await page.getByLabel('Search key').fill(SEARCH);
  await page.getByRole('button', { name: 'Connect' }).click();
  await settled(page);
  assert.equal(await page.locator('.failure').count(), 0);
});

test('an expired key, and one that is about to expire', { skip }, async () => {
  const expired = securedKey(SEARCH, { validUntil: String(NOW - 60) });
  const { page } = await stage.open(PLACE, { key: expired });
  const [kind, text] = await failure(page);
  assert.equal(kind, 'expired');
  assert.match(text, /The key expired on .* UTC.*Ask whoever gave you the key/);
  const valid = securedKey(SEARCH, {
    validUntil: String(NOW + 3 * 3600),
    restrictIndices: 'workspace_access',
    filters: 'report:1',
  });
  const { page: other } = await stage.open(PLACE, { key: valid });
  assert.match(
    (await other.locator('.bottom').textContent()) ?? '',
    /the key sees workspace_access · only records where report:1 · it expires in 3 h/,
  );
  assert.deepEqual(
    await other.locator('.top nav a').allTextContents(),
    ['Explore', 'Peaks', 'Access', 'Activity'],
    'views that the key may not see are not offered',
  );
});

test('an index that the key may not see, and one that is not there', { skip }, async () => {
  const key = securedKey(SEARCH, { restrictIndices: 'workspace_access' });
  const { page } = await stage.open('explore?index=other', { key });
  assert.equal((await failure(page))[0], 'index');
  const { page: missing } = await stage.open('explore?index=other');
  const [kind, text] = await failure(missing);
  assert.equal(kind, 'missing');
  assert.match(text, /queue_stats\(\)/);
});

test('a host that does not answer, and a computer that is offline and comes back', { skip }, async () => {
  const closed = createHttp();
  const url = await listen(closed);
  closed.close();
  const { page } = await stage.open(PLACE, { host: url, wait: false });
  assert.equal((await failure(page))[0], 'unreachable');
  const { page: other } = await stage.open(PLACE);
  await other.context().setOffline(true);
  await other.locator('[name=range]').selectOption('7d');
  const [kind, text] = await failure(other);
  assert.equal(kind, 'offline');
  assert.match(text, /asks again by itself/);
  await other.context().setOffline(false);
  await other.locator('.failure').waitFor({ state: 'detached' });
});

test('a host that lets no page read its answers', { skip }, async () => {
  const { page } = await stage.open(PLACE, { host: corsUrl, wait: false });
  const [kind, text] = await failure(page);
  assert.equal(kind, 'cors');
  assert.match(text, /Access-Control-Allow-Origin/);
});

test(
  'a certificate that nobody vouches for, and over TLS a key that is valid and one that has expired',
  { skip },
  async () => {
    const { page } = await stage.open(PLACE, { host: stage.https, wait: false });
    const [kind, text] = await failure(page);
    assert.equal(kind, 'unreachable');
    assert.match(text, /certificate/);
    const trusting = { browser: { ignoreHTTPSErrors: true }, host: stage.https };
    const valid = securedKey(SEARCH, { validUntil: String(NOW + 3600) });
    const { page: working } = await stage.open(PLACE, { ...trusting, key: valid });
    assert.equal(await figure(working, 'Accesses'), '50');
    const expired = securedKey(SEARCH, { validUntil: String(NOW - 60) });
    const { page: late } = await stage.open(PLACE, { ...trusting, key: expired });
    assert.equal((await failure(late))[0], 'expired');
  },
);

test('a host that the page is not allowed to reach', { skip }, async () => {
  const opened = await stage.open(PLACE, { host: 'http://localhost:9', wait: false });
  const [kind, text] = await failure(opened.page);
  assert.equal(kind, 'policy');
  assert.match(text, /npm run build -- --host http:\/\/localhost:9/);
  assert.ok(opened.problems.length > 0, 'the browser stopped it');
  await opened.page.context().close();
  stage.opened.splice(stage.opened.indexOf(opened), 1);
});

test('a configuration that cannot be used, and none at all', { skip }, async () => {
  stage.setConfig('{"version": 1, "time_zone": "UTC", "indices": {}}');
  const { page } = await stage.open(PLACE, { wait: false });
  const [kind, text] = await failure(page);
  assert.equal(kind, 'config');
  assert.match(text, /config\.json cannot be used: "indices" must be an array/);
  stage.setConfig(undefined);
  const { page: bare } = await stage.open('', { wait: false });
  await bare.getByLabel('Indices').fill('workspace_access, workspace_edit');
  await bare.getByRole('button', { name: 'Connect' }).click();
  await settled(bare);
  assert.deepEqual(await bare.locator('.top nav a').allTextContents(), [
    'Explore',
    'Peaks',
    'Access',
    'Editors',
    'Activity',
  ]);
  stage.setConfig(exampleConfig('report_workspace'));
});

test('an answer that takes long is awaited, and what is shown stays until it is there', { skip }, async () => {
  const { page } = await stage.open(PLACE);
  const held: Route[] = [];
  let isHolding = true;
  await page.route(`${stage.algolia}/**`, (route) => (isHolding ? void held.push(route) : route.continue()));
  await page.locator('[name=range]').selectOption('365d');
  await page.locator('.result.waiting[aria-busy=true]').waitFor();
  assert.equal(await figure(page, 'Accesses'), '50');
  await page.locator('.top nav a', { hasText: 'Peaks' }).click();
  await page.getByText('Asking Algolia…').waitFor();
  isHolding = false;
  await Promise.all(held.map((route) => route.continue()));
  await settled(page);
  assert.equal(await figure(page, 'Records'), '50');
});

test('nothing found says what to change', { skip }, async () => {
  const { page } = await stage.open('access?index=workspace_access&from=2020-01-01&to=2020-01-02');
  assert.match(
    (await page.locator('main').textContent()) ?? '',
    /No access matches this selection.*Choose a longer time/,
  );
});
