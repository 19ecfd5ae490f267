/** What is said when something goes wrong. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { explain, type Circumstances } from '../../src/failure';
import { securedKey } from '../fixture';

Object.assign(globalThis, { location: { origin: 'https://audit.example' } });

const about: Circumstances = {
  connection: { app: 'APP', key: 'k', hosts: [], indices: [] },
  now: 1000,
  online: true,
  blockedByPolicy: false,
  probe: () => Promise.resolve(false),
};
const refused = (status: number, message: string) => Object.assign(new Error(message), { name: 'ApiError', status });
const unreachable = Object.assign(new Error('Unreachable hosts'), { name: 'RetryError' });
const kind = async (error: unknown, more: Partial<Circumstances> = {}) =>
  (await explain(error, { ...about, ...more })).kind;

test('each failure is told from the others', async () => {
  const expired = { ...about.connection, key: securedKey('parent', { validUntil: '999' }) };
  assert.equal(await kind(refused(403, 'Invalid Application-ID or API key')), 'key');
  assert.equal(await kind(refused(403, 'Invalid Application-ID or API key'), { connection: expired }), 'expired');
  assert.equal(await kind(refused(403, '"validUntil" parameter expired')), 'expired');
  assert.equal(await kind(refused(403, 'Index not allowed with this API key')), 'index');
  assert.equal(await kind(refused(404, 'Index x does not exist')), 'missing');
  assert.equal(await kind(refused(429, 'Too many requests')), 'busy');
  assert.equal(await kind(refused(400, 'filters: Unexpected token')), 'query');
  assert.equal(await kind(unreachable), 'unreachable');
  assert.equal(await kind(unreachable, { online: false }), 'offline');
  assert.equal(await kind(unreachable, { blockedByPolicy: true }), 'policy');
  assert.equal(await kind(unreachable, { probe: () => Promise.resolve(true) }), 'cors');
  assert.equal(await kind(new TypeError('x is not a function')), 'unknown');
});

test('each failure says what to do, and none the key', async () => {
  const secret = { ...about.connection, key: 'secret-key' };
  for (const error of [
    refused(403, 'Invalid Application-ID or API key'),
    refused(404, 'Index x does not exist'),
    unreachable,
    new Error('?'),
  ]) {
    const { title, advice } = await explain(error, { ...about, connection: secret });
    assert.ok(title !== '' && advice.length > 0);
    assert.ok(!`${title} ${advice.join(' ')}`.includes('secret-key'));
  }
});
