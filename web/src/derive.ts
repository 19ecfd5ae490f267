/**
 * Which views follow from the indices, when the configuration does not say: by the kind of their records, and by names
 * that attributes commonly have. docs/audit-page.md lists the rules.
 */

import type {
  AccessView,
  DocumentView,
  EditorsView,
  IndexConfig,
  Match,
  PermissionsView,
  RecommendationsView,
  Views,
} from './config';
import { bucketOf, hasPseudonyms, isBucket, isCounted } from './facets';

const USER = ['user', 'user_id', 'actor', 'author', 'holder', 'viewer', 'reader', 'employee', 'account'];
const DOCUMENT = ['document', 'document_id', 'report', 'report_id', 'file', 'file_id', 'page', 'page_id'];
const ACTION = ['event', 'action', 'event_type', 'activity'];
const AUTHORIZED = ['authorized', 'authorised', 'allowed', 'permitted'];
const LEVEL = ['level', 'permission', 'role', 'right', 'privilege', 'access_level'];
const POST = ['post', 'post_id', 'item', 'item_id', 'content', ...DOCUMENT];
const EDITS = /edit|change|modif|update|revision/i;

export function deriveViews(indices: IndexConfig[]): Views {
  const recommendations = indices.flatMap((index) => recommendationsOf(index));
  const isRecommendation = (index: IndexConfig) => recommendations.some((view) => view.index === index.name);
  return {
    peaks: indices
      .filter((index) => bucketOf(index, 'hour_of_day') && bucketOf(index, 'weekday') && index.records !== 'rows')
      .map((index) => ({ index: index.name, ...optional('document', first(index, DOCUMENT)) })),
    access: indices.filter((index) => index.records === 'inserts' && !isRecommendation(index)).flatMap(accessOf),
    editors: indices.flatMap(editorsOf),
    document: documentsOf(indices),
    recommendations,
    changes: indices.filter((index) => index.records === 'changes').map((index) => ({ index: index.name })),
    activity: indices
      .filter((index) => index.records === 'inserts' && index.time !== undefined)
      .flatMap((index) => {
        const [actor, action] = [userOf(index), first(index, ACTION)];
        return actor && action ? [{ index: index.name, actor, action }] : [];
      }),
  };
}

function accessOf(index: IndexConfig): AccessView[] {
  const [document, user] = [first(index, DOCUMENT), userOf(index)];
  if (!document || !user || index.time === undefined) {
    return [];
  }
  const action = first(index, [...ACTION, 'section']);
  return [
    {
      index: index.name,
      document,
      user,
      ...optional('action', action),
      ...optional('unauthorized', unauthorized(index)),
    },
  ];
}

function editorsOf(index: IndexConfig): EditorsView[] {
  const document = first(index, DOCUMENT);
  if (!document) {
    return [];
  }
  if (index.records === 'changes') {
    const isPermission = first(index, LEVEL) !== undefined;
    return isPermission ? [] : [{ index: index.name, document, user: 'changed_by' }];
  }
  const user = userOf(index);
  const tellsEdits = index.records === 'inserts' && index.time !== undefined && EDITS.test(index.name);
  return tellsEdits && user
    ? [{ index: index.name, document, user, ...optional('unauthorized', unauthorized(index)) }]
    : [];
}

function documentsOf(indices: IndexConfig[]): DocumentView[] {
  const names = [...new Set(indices.flatMap((index) => first(index, DOCUMENT) ?? []))];
  return names.flatMap((document) => {
    const changes = indices.filter((index) => index.records === 'changes' && isCounted(index, document));
    const permissions = changes.flatMap((index): PermissionsView[] => {
      const [user, level] = [userOf(index), first(index, LEVEL)];
      return user && level ? [{ index: index.name, user, level }] : [];
    });
    const others = changes.filter((index) => permissions.every((view) => view.index !== index.name));
    const edits = indices.filter(
      (index) => index.records === 'inserts' && isCounted(index, document) && EDITS.test(index.name),
    );
    const history = [...others, ...edits].map((index) => index.name);
    return changes.length === 0 ? [] : [{ document, history, ...optional('permissions', permissions[0]) }];
  });
}

function recommendationsOf(index: IndexConfig): RecommendationsView[] {
  const [user, post, event] = [userOf(index), first(index, POST), first(index, ACTION)];
  const strategy = first(index, ['strategy', 'algorithm', 'model']);
  if (index.records !== 'inserts' || !user || !post || !event || !strategy) {
    return [];
  }
  return [{ index: index.name, post, user, strategy, event, recommended: 'recommended', viewed: 'viewed' }];
}

/** Who: a pseudonym that can be counted, else an attribute with a usual name. */
function userOf(index: IndexConfig): string | undefined {
  const pseudonym = index.attributes.find((attribute) => attribute.pseudonym && isCounted(index, attribute.name));
  return pseudonym?.name ?? (hasPseudonyms(index) ? undefined : first(index, USER));
}

function unauthorized(index: IndexConfig): Match | undefined {
  if (isCounted(index, 'alert')) {
    return { attribute: 'alert', value: 'true' };
  }
  const attribute = index.attributes.find(
    ({ name, type }) => type === 'boolean' && AUTHORIZED.includes(name) && isCounted(index, name),
  );
  return attribute && { attribute: attribute.name, value: 'false' };
}

/** The first of these names that the index counts. */
function first(index: IndexConfig, names: string[]): string | undefined {
  return names.find((name) => isCounted(index, name) && !isBucket(index, name));
}

/** For members that may be left out. */
function optional<K extends string, V>(key: K, value: V | undefined): { [key in K]?: V } {
  return value === undefined ? {} : ({ [key]: value } as { [key in K]?: V });
}
