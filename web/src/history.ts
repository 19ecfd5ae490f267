/** Reads change records: their order, what they changed, and who held what over a period. */

import type { Hit } from './search';

export interface Change {
  hit: Hit;
  op: string;
  /** Unix seconds; `undefined` for a row that a backfill found, whose insert nobody saw. */
  at: number | undefined;
  by: string | undefined;
  /** The row's key within the index. */
  row: string;
  /** The number of the change. */
  number: bigint;
  previous: Record<string, unknown>;
  changed: string[];
}

export function readChange(hit: Hit): Change {
  const at = hit.objectID.lastIndexOf('@');
  const digits = /^\d+$/.test(hit.objectID.slice(at + 1)) ? hit.objectID.slice(at + 1) : '0';
  return {
    hit,
    op: typeof hit['op'] === 'string' ? hit['op'] : 'insert',
    at: typeof hit['changed_at'] === 'number' ? hit['changed_at'] : undefined,
    by: typeof hit['changed_by'] === 'string' ? hit['changed_by'] : undefined,
    row: at < 0 ? hit.objectID : hit.objectID.slice(0, at),
    number: BigInt(digits),
    previous: (typeof hit['previous'] === 'object' && hit['previous'] ? hit['previous'] : {}) as Record<
      string,
      unknown
    >,
    changed: Array.isArray(hit['changed']) ? hit['changed'].map(String) : [],
  };
}

/** The oldest first. Changes of one millisecond are told apart by their numbers. */
export function inOrder(changes: Change[]): Change[] {
  return [...changes].sort(
    (a, b) => (a.at ?? -Infinity) - (b.at ?? -Infinity) || (a.number < b.number ? -1 : a.number > b.number ? 1 : 0),
  );
}

export interface Difference {
  attribute: string;
  before: unknown;
  after: unknown;
}

/** What a change did to the row, attribute by attribute. */
export function differences(change: Change, attributes: string[]): Difference[] {
  const value = (name: string) => change.hit[name];
  switch (change.op) {
    case 'update':
      return change.changed.map((attribute) => ({
        attribute,
        before: change.previous[attribute],
        after: value(attribute),
      }));
    case 'delete':
      return present(attributes, value).map((attribute) => ({ attribute, before: value(attribute), after: undefined }));
    default:
      return present(attributes, value).map((attribute) => ({ attribute, before: undefined, after: value(attribute) }));
  }
}

function present(attributes: string[], value: (name: string) => unknown): string[] {
  return attributes.filter((name) => value(name) !== undefined);
}

/** Somebody's permission from one moment to another. */
export interface Holding {
  user: string;
  level: string;
  /** `undefined`: since before anything was recorded. */
  from: number | undefined;
  /** `undefined`: still held at the end of what was read. */
  to: number | undefined;
  grantedBy: string | undefined;
  endedBy: string | undefined;
}

export interface PermissionRoles {
  user: string;
  level: string;
  document: string;
  /** Whether an attribute is part of the row's key: a change of it gives the row another objectID. */
  isKey: (attribute: string) => boolean;
}

/**
 * Who held which permission on a document, from all changes that are about it. Each row of the table is a grant. A grant
 * whose beginning was not recorded shows in what ended it.
 */
export function holdings(changes: Change[], document: string, roles: PermissionRoles): Holding[] {
  const open = new Map<string, Holding>();
  const closed: Holding[] = [];
  const end = (key: string, change: Change) => {
    const holding = open.get(key);
    if (holding) {
      open.delete(key);
      closed.push({ ...holding, to: change.at, endedBy: change.by });
    }
  };
  const endUnseen = (before: Grant, change: Change) => {
    if (before.document === document && change.at !== undefined) {
      const { user, level } = before;
      closed.push({ user, level, from: undefined, to: change.at, grantedBy: undefined, endedBy: change.by });
    }
  };
  for (const change of inOrder(changes)) {
    if (change.op === 'truncate') {
      [...open.keys()].forEach((key) => end(key, change));
      continue;
    }
    const after = grant(change.hit, roles);
    const before = change.op === 'update' ? grant({ ...change.hit, ...change.previous }, roles) : after;
    const hasMoved = change.op === 'update' && change.changed.some(roles.isKey);
    const former = hasMoved ? find(open, before) : open.has(change.row) ? change.row : undefined;
    if (former !== undefined && former === change.row && change.op === 'update' && equal(before, after)) {
      continue;
    }
    if (former !== undefined) {
      end(former, change);
    } else if (change.op !== 'insert') {
      endUnseen(before, change);
    }
    if (change.op !== 'delete' && after.document === document) {
      const { user, level } = after;
      open.set(change.row, { user, level, from: change.at, to: undefined, grantedBy: change.by, endedBy: undefined });
    }
  }
  const byStart = (a: Holding, b: Holding) =>
    (a.from ?? -Infinity) - (b.from ?? -Infinity) || (a.user < b.user ? -1 : 1);
  return [...closed, ...open.values()].sort(byStart);
}

interface Grant {
  user: string;
  level: string;
  document: string;
}

function grant(values: Record<string, unknown>, roles: PermissionRoles): Grant {
  const text = (name: string) => (values[name] === undefined || values[name] === null ? '' : String(values[name]));
  return { user: text(roles.user), level: text(roles.level), document: text(roles.document) };
}

function equal(a: Grant, b: Grant): boolean {
  return a.user === b.user && a.level === b.level && a.document === b.document;
}

function find(open: Map<string, Holding>, before: Grant): string | undefined {
  for (const [key, holding] of open) {
    if (holding.user === before.user && holding.level === before.level) {
      return key;
    }
  }
  return undefined;
}

/** The permissions held at a moment. A change at that very moment counts. */
export function heldAt(holdings: Holding[], moment: number): Holding[] {
  return holdings.filter((one) => (one.from ?? -Infinity) <= moment && (one.to ?? Infinity) > moment);
}

/** The holdings that touch a period, cut to it. */
export function during(holdings: Holding[], from: number, to: number): Holding[] {
  return holdings.filter(
    (one) =>
      (one.from ?? -Infinity) <= to && (one.to ?? Infinity) >= from && (one.from === undefined || one.from !== one.to),
  );
}

/** The changes that belong to a period after its beginning: the state at `from` is shown apart. */
export function changesDuring(changes: Change[], from: number, to: number): Change[] {
  return inOrder(changes).filter((change) => change.at !== undefined && change.at > from && change.at <= to);
}
