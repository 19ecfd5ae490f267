/** The configurations of the worked examples, what follows from them, and what is refused. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { ConfigError, parseConfig } from '../../src/read_config';
import { parseFacet } from '../../src/facets';
import { readIndex } from '../../src/infer';
import { EXAMPLES, exampleConfig } from '../fixture';
import { makeRecords } from '../records';

test('every worked example has a configuration that can be read', () => {
  for (const name of EXAMPLES) {
    assert.ok(parseConfig(exampleConfig(name)).indices.length > 0, name);
  }
});

test('the views of the report workspace follow from its indices', () => {
  const { views } = parseConfig(exampleConfig('report_workspace'));
  const unauthorized = { attribute: 'authorized', value: 'false' };
  assert.deepEqual(views.access, [
    { index: 'workspace_access', document: 'report', user: 'user', action: 'action', unauthorized },
    { index: 'workspace_edit', document: 'report', user: 'user', action: 'section', unauthorized },
  ]);
  assert.deepEqual(views.editors, [
    { index: 'workspace_edit', document: 'report', user: 'user', unauthorized },
    { index: 'workspace_report', document: 'report', user: 'changed_by' },
  ]);
  assert.deepEqual(views.document, [
    {
      document: 'report',
      history: ['workspace_report', 'workspace_edit'],
      permissions: { index: 'workspace_permission', user: 'user', level: 'level' },
    },
  ]);
  assert.deepEqual(views.recommendations, [
    {
      index: 'workspace_recommendation',
      post: 'post',
      user: 'user',
      strategy: 'strategy',
      event: 'event',
      recommended: 'recommended',
      viewed: 'viewed',
    },
  ]);
  assert.deepEqual(views.changes, [{ index: 'workspace_permission' }, { index: 'workspace_report' }]);
  assert.deepEqual(
    views.peaks.map(({ index }) => index),
    ['workspace_access', 'workspace_edit', 'workspace_recommendation'],
  );
});

test('the other examples offer what they have', () => {
  const offered = (name: string) => {
    const { views } = parseConfig(exampleConfig(name));
    return Object.entries(views)
      .filter(([, list]) => list.length > 0)
      .map(([view]) => view)
      .sort();
  };
  assert.deepEqual(offered('user_analytics'), ['activity', 'peaks']);
  assert.deepEqual(offered('scraped_content'), ['changes']);
  assert.deepEqual(offered('scan_ingest'), []);
  const all = ['access', 'activity', 'changes', 'document', 'editors', 'peaks', 'recommendations'];
  assert.deepEqual(offered('demo'), all);
});

test('an alert of a source says what is unauthorized', () => {
  const config = exampleConfig('report_workspace');
  const [access] = config.indices;
  access?.attributes.push({ name: 'alert', type: 'boolean' });
  access?.attributesForFaceting.push('alert');
  assert.deepEqual(parseConfig(config).views.access[0]?.unauthorized, { attribute: 'alert', value: 'true' });
});

test('a configuration that is wrong is refused where it is wrong', () => {
  const index = { name: 'i', records: 'inserts', attributes: [{ name: 'a', type: 'text' }], attributesForFaceting: [] };
  const good = { version: 1, time_zone: 'UTC', indices: [index] };
  assert.ok(parseConfig(good));
  for (const [wrong, expected] of [
    [null, 'the configuration must be an object'],
    [{ ...good, version: 2 }, '"version" must be 1'],
    [{ ...good, time_zone: 'Mars/Base' }, '"time_zone" is "Mars/Base"'],
    [{ ...good, indices: {} }, '"indices" must be an array'],
    [{ ...good, indices: [{ ...index, records: 'logs' }] }, 'indices[0].records must be one of inserts'],
    [
      { ...good, indices: [{ ...index, attributes: [{ name: 'a', type: 'int' }] }] },
      'indices[0].attributes[0].type must be one of',
    ],
    [{ ...good, views: { peeks: [] } }, '"views" has "peeks", which is not a view'],
    [{ ...good, views: { peaks: [{ index: 'other' }] } }, 'views.peaks[0].index names "other"'],
    [{ ...good, views: { editors: [{ index: 'i', user: 'u' }] } }, 'views.editors[0].document must be a text'],
    [{ ...good, views: { document: [{ document: 'd', history: ['x'] }] } }, 'views.document[0].history names "x"'],
  ] as const) {
    assert.throws(
      () => parseConfig(wrong),
      (error: Error) => error instanceof ConfigError && error.message.includes(expected),
      expected,
    );
  }
});

test('modifiers of facets are understood', () => {
  assert.deepEqual(parseFacet('afterDistinct(searchable(user))'), {
    attribute: 'user',
    counted: true,
    searchable: true,
  });
  assert.deepEqual(parseFacet('filterOnly(email)'), { attribute: 'email', counted: false, searchable: false });
  assert.deepEqual(parseFacet('previous.level'), { attribute: 'previous.level', counted: true, searchable: false });
});

test('an index that no configuration names is told from its records', () => {
  const records = makeRecords(1_796_000_000);
  for (const config of [exampleConfig('report_workspace'), exampleConfig('scraped_content'), exampleConfig('demo')]) {
    // A record of a mirrored table looks like one of an insert.
    for (const index of config.indices.filter((one) => one.records !== 'rows')) {
      const hits = records[index.name]?.slice(0, 100) ?? [];
      const facets = Object.fromEntries(index.attributesForFaceting.map((entry) => [parseFacet(entry).attribute, {}]));
      const read = readIndex(index.name, {
        query: { index: index.name },
        hits,
        facets,
        count: hits.length,
        exact: true,
      });
      const plain = (one: typeof index) => [
        one.records,
        one.time,
        one.attributes.map(({ name, type, pseudonym }) => `${name} ${type} ${pseudonym ?? ''}`).sort(),
      ];
      assert.deepEqual(plain(read), plain(index));
    }
  }
});
