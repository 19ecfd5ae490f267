/** Keys, where they come from, and where they may go. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { choose, fromParams, originsOf, parseHost, type Connection } from '../../src/connection';
import { readSecuredKey, sees } from '../../src/secured_key';
import { parseFragment, writeFragment } from '../../src/state';
import { securedKey } from '../fixture';

const stored: Connection = { app: 'APP', key: 'stored', hosts: [], indices: ['a'] };

test('a key of the fragment wins over the stored one', () => {
  const draft = fromParams(new URLSearchParams('app=OTHER&key=new&host=http://localhost:1&indices=b,c'));
  const { connection } = choose(draft, stored, {});
  assert.deepEqual(connection, { app: 'OTHER', key: 'new', hosts: ['http://localhost:1'], indices: ['b', 'c'] });
});

test('a link without a key uses the stored one, but never at another host or application', () => {
  const use = (params: string) => choose(fromParams(new URLSearchParams(params)), stored, {}).connection?.key;
  assert.equal(use(''), 'stored');
  assert.equal(use('app=APP'), 'stored');
  assert.equal(use('app=OTHER'), undefined);
  assert.equal(use('host=https://evil.example'), undefined);
  assert.equal(use('app=APP&host=https://evil.example'), undefined);
});

test('what a configuration says is a default', () => {
  const draft = choose({ key: 'k' }, undefined, { app: 'APP', hosts: ['https://gateway.example'] });
  assert.deepEqual(draft.connection, { app: 'APP', key: 'k', hosts: ['https://gateway.example'], indices: [] });
  assert.equal(choose({}, undefined, { app: 'APP' }).connection, undefined);
});

test('hosts are read as people write them', () => {
  assert.deepEqual(parseHost('http://127.0.0.1:8108/'), { url: '127.0.0.1:8108', protocol: 'http' });
  assert.deepEqual(parseHost('gateway.example/algolia/'), { url: 'gateway.example/algolia', protocol: 'https' });
  for (const wrong of ['', 'ftp://a', 'https://', 'a b']) {
    assert.equal(parseHost(wrong), undefined, wrong);
  }
  assert.deepEqual(originsOf({ ...stored, hosts: ['https://gateway.example/x'] }), ['https://gateway.example']);
  assert.equal(originsOf(stored)[0], 'https://app-dsn.algolia.net');
});

test('a secured key tells its restrictions', () => {
  const published =
    'NjFhZmE0OGEyMTI3OThiODc0OTlkOGM0YjcxYzljY2M2NmU2NDE5ZWY0NDZjMWJhNjA2NzBkMjAwOTI2YWQyZnJlc3RyaWN0SW5kaWNlcz1Nb3ZpZXMmdmFsaWRVbnRpbD0yNTI0NjA0NDAw';
  assert.deepEqual(readSecuredKey(published), { validUntil: 2_524_604_400, indices: ['Movies'] });
  assert.equal(
    securedKey('2640659426d5107b6e47d75db9cbaef8', { restrictIndices: 'Movies', validUntil: '2524604400' }),
    published,
  );
  assert.deepEqual(readSecuredKey(securedKey('k', { filters: 'report:1', restrictIndices: 'workspace_*' })), {
    filters: 'report:1',
    indices: ['workspace_*'],
  });
  for (const plain of ['', 'plain-key', '2640659426d5107b6e47d75db9cbaef8']) {
    assert.equal(readSecuredKey(plain), undefined, plain);
  }
  const restrictions = { indices: ['workspace_*', '*_tmp', 'one'] };
  assert.deepEqual(
    ['workspace_a', 'x_tmp', 'one', 'two'].map((name) => sees(restrictions, name)),
    [true, true, true, false],
  );
  assert.equal(sees(undefined, 'anything'), true);
});

test('an address has a view and values, or values alone', () => {
  assert.equal(parseFragment('#/peaks?document=1&range=7d').view, 'peaks');
  assert.equal(parseFragment('#/peaks?document=1').params.get('document'), '1');
  assert.deepEqual([parseFragment('#app=A&key=k').view, parseFragment('#app=A&key=k').params.get('key')], ['', 'k']);
  assert.equal(writeFragment('peaks', new URLSearchParams({ document: 'a&b=c' })), '#/peaks?document=a%26b%3Dc');
});
