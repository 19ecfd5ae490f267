/** Explore's records as a table. */

import type { IndexConfig } from '../config';
import type { Context } from '../context';
import { plural } from '../dom';
import { BUCKETS } from '../facets';
import type { Hit } from '../search';
import { capitalized } from '../ui/controls';
import { table } from '../ui/table';
import { shown } from '../ui/values';

/** What InstantSearch adds to a record. */
const ADDED = ['_highlightResult', '_snippetResult', '__position', '__queryID'];

export function recordTable(context: Context, index: IndexConfig, hits: Hit[], found: number): HTMLElement {
  const hidden = new Set(['objectID', ...ADDED, ...BUCKETS.map((bucket) => `${index.time}_${bucket}`)]);
  const present = new Set(hits.flatMap((hit) => Object.keys(hit)).filter((name) => !hidden.has(name)));
  const first = [index.time, 'changed_at', 'op', ...index.attributes.map(({ name }) => name)].filter(
    (name): name is string => name !== undefined && present.has(name),
  );
  const names = [...new Set([...first, ...present])];
  const rows = hits.map((hit) => ({
    id: hit.objectID,
    cells: names.map((name) => shown(context, index, name, hit[name])),
  }));
  const columns = names.map((name) => ({ title: capitalized(name) }));
  return table(`${plural(found, 'record')}, the newest first; times in ${context.zone}`, columns, rows);
}
