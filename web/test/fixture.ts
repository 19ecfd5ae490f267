/** Configurations, index settings, people and keys for the tests. */

import { createHash, createHmac } from 'node:crypto';
import { readFileSync } from 'node:fs';

import type { IndexConfig, PageConfig } from '../src/config';
import { facetsOf, timeOf } from '../src/facets';

const FOLDER = process.env['WEB_FOLDER'] ?? '.';

export function exampleConfig(name: string): PageConfig {
  return JSON.parse(readFileSync(`${FOLDER}/examples/${name}.json`, 'utf8')) as PageConfig;
}

export const EXAMPLES = ['report_workspace', 'user_analytics', 'scraped_content', 'scan_ingest', 'demo'];

/** All examples on one page, as the demo shows them. */
export const allExamples = (): PageConfig => exampleConfig('demo');

/** What configure_index() sends. */
export function settingsOf(index: IndexConfig): Record<string, unknown> {
  const time = timeOf(index);
  const numbers = index.attributes.filter(
    ({ name, type }) => type === 'number' && facetsOf(index).some((facet) => facet.attribute === name),
  );
  return {
    attributesForFaceting: index.attributesForFaceting,
    customRanking: time ? [`desc(${time})`] : [],
    numericAttributesForFiltering: [...numbers.map(({ name }) => name), ...(time ? [time] : [])],
    searchableAttributes: index.attributes
      .filter(({ type }) => type !== 'time')
      .map(({ name }) => `unordered(${name})`),
    attributesToHighlight: [],
    maxValuesPerFacet: 1000,
  };
}

const BASE32 = 'abcdefghijklmnopqrstuvwxyz234567';

export function pseudonym(value: string): string {
  const digest = createHmac('sha256', 'the key of the tests').update(value).digest();
  let [bits, text] = [BigInt(`0x${digest.toString('hex')}`) >> 126n, ''];
  for (let place = 0; place < 26; place += 1) {
    text = (BASE32[Number(bits & 31n)] as string) + text;
    bits >>= 5n;
  }
  return `p_${text}`;
}

export const PEOPLE = [
  'Alice Adams',
  'Ben Brown',
  'Carol Clark',
  'Dave Dunn',
  'Esra Ekinci',
  'Frida Fjord',
  'Gábor Gál',
  'Hanna Hall',
  'Ivan Ilić',
  'Jun Jung',
];
export const who = (place: number) => pseudonym(PEOPLE[place] as string);
export const namesCsv = () =>
  `pseudonym,name\r\n${PEOPLE.map((name) => `${pseudonym(name)},${name}`).join('\r\n')}\r\n`;

/** Numbers that are the same in each run. */
export function random(seed: string): () => number {
  let state = createHash('sha256').update(seed).digest().readUInt32LE(0);
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

/** A secured key, as audit_algolia.secured_key() makes it. */
export function securedKey(parent: string, params: Record<string, string>): string {
  const text = Object.keys(params)
    .sort()
    .map((name) => `${name}=${encodeURIComponent(params[name] as string)}`)
    .join('&');
  const hash = createHmac('sha256', parent).update(text).digest('hex');
  return Buffer.from(hash + text).toString('base64');
}
