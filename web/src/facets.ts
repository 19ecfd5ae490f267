/** What the entries of `attributesForFaceting` allow, and what an index's attributes are. */

import type { AttributeConfig, IndexConfig } from './config';

export interface Facet {
  attribute: string;
  /** Its values can be counted, not only filtered on. */
  counted: boolean;
  /** Its values can be searched. */
  searchable: boolean;
}

/** Attributes that the extension adds to change records. */
export const CHANGE_ATTRIBUTES: AttributeConfig[] = [
  { name: 'op', type: 'text' },
  { name: 'changed', type: 'json' },
  { name: 'previous', type: 'json' },
  { name: 'changed_by', type: 'text' },
  { name: 'changed_at', type: 'time' },
  { name: 'transaction_id', type: 'number' },
];

export const BUCKETS = ['day', 'hour', 'weekday', 'hour_of_day'] as const;
export type Bucket = (typeof BUCKETS)[number];

/** `afterDistinct(searchable(user))` taken apart. */
export function parseFacet(entry: string): Facet {
  const parts = /^\s*(\w+)\((.*)\)\s*$/.exec(entry);
  if (!parts) {
    return { attribute: entry.trim(), counted: true, searchable: false };
  }
  const inner = parseFacet(parts[2] ?? '');
  return {
    attribute: inner.attribute,
    counted: inner.counted && parts[1] !== 'filterOnly',
    searchable: inner.searchable || parts[1] === 'searchable',
  };
}

export function facetsOf(index: IndexConfig): Facet[] {
  return index.attributesForFaceting.map(parseFacet);
}

export function facetOf(index: IndexConfig, attribute: string): Facet | undefined {
  return facetsOf(index).find((facet) => facet.attribute === attribute);
}

export function isCounted(index: IndexConfig, attribute: string): boolean {
  return facetOf(index, attribute)?.counted ?? false;
}

/** The attribute that tells when: the row's own time, else the time of the change. */
export function timeOf(index: IndexConfig): string | undefined {
  return index.time ?? (index.records === 'changes' ? 'changed_at' : undefined);
}

export function bucketOf(index: IndexConfig, bucket: Bucket): string | undefined {
  const name = index.time === undefined ? undefined : `${index.time}_${bucket}`;
  return name !== undefined && isCounted(index, name) ? name : undefined;
}

export function isBucket(index: IndexConfig, attribute: string): boolean {
  return BUCKETS.some((bucket) => attribute === `${index.time}_${bucket}`);
}

/** An index's attribute, also one of those that change records have, or a path into `previous`. */
export function attributeOf(index: IndexConfig, name: string): AttributeConfig {
  const plain = name.replace(/^previous\./, '');
  const own = index.attributes.find((attribute) => attribute.name === plain);
  if (own) {
    return own;
  }
  const added = CHANGE_ATTRIBUTES.find((attribute) => attribute.name === plain);
  if (added?.name === 'changed_by') {
    return { ...added, pseudonym: hasPseudonyms(index) };
  }
  return added ?? { name, type: 'text' };
}

export function hasPseudonyms(index: IndexConfig): boolean {
  return index.attributes.some((attribute) => attribute.pseudonym);
}

/** Whether the attribute's values stand for people. */
export function isPerson(index: IndexConfig, name: string): boolean {
  return attributeOf(index, name).pseudonym ?? false;
}
