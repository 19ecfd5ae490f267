/** The order of changes, what they did, and who held what because of them. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import {
  changesDuring,
  differences,
  during,
  heldAt,
  holdings,
  inOrder,
  readChange,
  type Holding,
} from '../../src/history';
import type { Hit } from '../../src/search';

const roles = {
  user: 'user',
  level: 'level',
  document: 'report',
  isKey: (name: string) => ['report', 'user'].includes(name),
};

function hit(id: string, op: string, at: number | undefined, values: object, more: object = {}): Hit {
  return {
    objectID: id,
    op,
    ...(at === undefined ? {} : { changed_at: at }),
    changed_by: 'boss',
    ...values,
    ...more,
  } as Hit;
}

function held(hits: Hit[], document = '1'): string[] {
  const line = ({ user, level, from, to }: Holding) => `${user} ${level} ${from ?? 'ever'}-${to ?? 'now'}`;
  return holdings(hits.map(readChange), document, roles).map(line);
}

const grant = (user: string, level: string) => ({ report: 1, user, level });

test('changes of one millisecond are told apart by their numbers', () => {
  const ids = ['1:a@1838264786432010', '1:a@1838264786432009', '1:b@9', '1:c@0'];
  const hits = ids.map((id, at) => hit(id, 'insert', at === 2 ? 5 : at === 3 ? undefined : 7, {}));
  assert.deepEqual(
    inOrder(hits.map(readChange)).map(({ hit: { objectID } }) => objectID),
    [ids[3], ids[2], ids[1], ids[0]],
  );
});

test('the worked example: alice could write all the time, ben read and then wrote, carol lost it, dave had nothing', () => {
  const hits = [
    hit('1:alice@1', 'insert', 10, grant('alice', 'write')),
    hit('1:ben@2', 'insert', 10, grant('ben', 'read')),
    hit('1:carol@3', 'insert', 10, grant('carol', 'read')),
    hit('1:dave@4', 'insert', 10, grant('dave', 'read')),
    hit('1:dave@5', 'delete', 11, grant('dave', 'read')),
    hit('1:ben@6', 'update', 30, grant('ben', 'write'), { changed: ['level'], previous: { level: 'read' } }),
    hit('1:carol@7', 'delete', 31, grant('carol', 'read')),
    hit('1:dave@8', 'insert', 50, grant('dave', 'read')),
  ].reverse();
  const all = holdings(hits.map(readChange), '1', roles);
  assert.deepEqual(
    heldAt(all, 20)
      .map(({ user, level }) => `${user} ${level}`)
      .sort(),
    ['alice write', 'ben read', 'carol read'],
  );
  assert.deepEqual(
    heldAt(all, 40)
      .map(({ user, level }) => `${user} ${level}`)
      .sort(),
    ['alice write', 'ben write'],
  );
  assert.deepEqual([...new Set(during(all, 20, 40).map(({ user }) => user))].sort(), ['alice', 'ben', 'carol']);
  assert.deepEqual(
    changesDuring(hits.map(readChange), 20, 40).map(({ op, row }) => `${op} ${row}`),
    ['update 1:ben', 'delete 1:carol'],
  );
});

test('a change at the very moment counts', () => {
  const all = holdings(
    [hit('1:a@1', 'insert', 10, grant('a', 'read')), hit('1:a@2', 'delete', 20, grant('a', 'read'))].map(readChange),
    '1',
    roles,
  );
  assert.deepEqual(
    [9.999, 10, 19.999, 20].map((moment) => heldAt(all, moment).length),
    [0, 1, 1, 0],
  );
});

test('what was held before recording began shows in what ended it', () => {
  assert.deepEqual(held([hit('1:a@0', 'insert', undefined, grant('a', 'read'))]), ['a read ever-now']);
  assert.deepEqual(held([hit('1:a@5', 'delete', 20, grant('a', 'read'))]), ['a read ever-20']);
  assert.deepEqual(
    held([hit('1:a@5', 'update', 20, grant('a', 'write'), { changed: ['level'], previous: { level: 'read' } })]),
    ['a read ever-20', 'a write 20-now'],
  );
});

test('a key that changes moves the grant to whom it goes', () => {
  const start = hit('1:a@1', 'insert', 10, grant('a', 'read'));
  const moved = hit('1:b@2', 'update', 20, grant('b', 'read'), { changed: ['user'], previous: { user: 'a' } });
  assert.deepEqual(held([start, moved]), ['a read 10-20', 'b read 20-now']);
  const away = hit(
    '2:a@2',
    'update',
    20,
    { report: 2, user: 'a', level: 'read' },
    { changed: ['report'], previous: { report: 1 } },
  );
  assert.deepEqual(held([start, away]), ['a read 10-20']);
  const here = hit('1:a@2', 'update', 20, grant('a', 'read'), { changed: ['report'], previous: { report: 2 } });
  assert.deepEqual(held([here]), ['a read 20-now']);
});

test('an update of something else ends nothing', () => {
  const start = hit('1:a@1', 'insert', 10, { ...grant('a', 'read'), note: 'x' });
  const other = hit(
    '1:a@2',
    'update',
    20,
    { ...grant('a', 'read'), note: 'y' },
    { changed: ['note'], previous: { note: 'x' } },
  );
  assert.deepEqual(held([start, other]), ['a read 10-now']);
});

test('a truncation ends everything', () => {
  const hits = [
    hit('1:a@1', 'insert', 10, grant('a', 'read')),
    hit('1:b@2', 'insert', 12, grant('b', 'write')),
    { objectID: '@3', op: 'truncate', changed_at: 20 } as Hit,
  ];
  assert.deepEqual(held(hits), ['a read 10-20', 'b write 12-20']);
});

test('several rows of one person are followed each by itself', () => {
  const row = (id: string, op: string, at: number, level: string) => hit(id, op, at, grant('a', level));
  assert.deepEqual(
    held([row('7@1', 'insert', 10, 'read'), row('8@2', 'insert', 11, 'write'), row('7@3', 'delete', 20, 'read')]),
    ['a read 10-20', 'a write 11-now'],
  );
});

test('a change tells what was before and after', () => {
  const update = readChange(
    hit(
      '1@1',
      'update',
      1,
      { title: 'b', status: 'x' },
      { changed: ['title', 'note'], previous: { title: 'a', note: null } },
    ),
  );
  assert.deepEqual(differences(update, ['title', 'status']), [
    { attribute: 'title', before: 'a', after: 'b' },
    { attribute: 'note', before: null, after: undefined },
  ]);
  const removed = readChange(hit('1@2', 'delete', 2, { title: 'b' }));
  assert.deepEqual(differences(removed, ['title', 'status']), [{ attribute: 'title', before: 'b', after: undefined }]);
});
