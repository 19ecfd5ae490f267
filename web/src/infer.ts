/** What can be told of an index from a sample of its records and the facets it counts, when no configuration names it. */

import type { AttributeConfig, IndexConfig } from './config';
import { BUCKETS } from './facets';
import { isPseudonym } from './names';
import type { Answer, Searcher } from './search';

const OF_CHANGES = ['op', 'changed', 'previous', 'changed_by', 'changed_at', 'transaction_id'];

export async function inferIndex(searcher: Searcher, name: string): Promise<IndexConfig> {
  return readIndex(name, await searcher.one({ index: name, facets: ['*'], hitsPerPage: 100 }));
}

export function readIndex(name: string, { hits, facets }: Answer): IndexConfig {
  const isChanges = hits.some((hit) => hit['op'] !== undefined && hit['transaction_id'] !== undefined);
  const names = new Set(hits.flatMap((hit) => Object.keys(hit)));
  const time = [...names].find((attribute) => BUCKETS.every((bucket) => names.has(`${attribute}_${bucket}`)));
  const added = new Set([
    'objectID',
    '_highlightResult',
    ...(isChanges ? OF_CHANGES : []),
    ...BUCKETS.map((bucket) => `${time}_${bucket}`),
  ]);
  const attributes = [...names]
    .filter((attribute) => !added.has(attribute))
    .map((attribute): AttributeConfig => {
      const values = hits.map((hit) => hit[attribute]).filter((value) => value !== undefined && value !== null);
      const pseudonym = values.length > 0 && values.every(isPseudonym);
      return {
        name: attribute,
        type: attribute === time ? 'time' : typeOf(values),
        ...(pseudonym ? { pseudonym } : {}),
      };
    });
  return {
    name,
    records: isChanges ? 'changes' : 'inserts',
    attributes,
    attributesForFaceting: Object.keys(facets),
    ...(time === undefined ? {} : { time }),
  };
}

function typeOf(values: unknown[]): AttributeConfig['type'] {
  const types = new Set(values.map((value) => typeof value));
  const [only] = types;
  if (types.size !== 1) {
    return values.length === 0 ? 'text' : 'json';
  }
  return only === 'number' ? 'number' : only === 'boolean' ? 'boolean' : only === 'object' ? 'json' : 'text';
}
