/**
 * The page's configuration: what the database says of its indices, as `audit_algolia.page_config()` writes it, and which
 * view shows which of them. It holds no secret. docs/audit-page.md describes it for those who write one.
 */

export interface PageConfig {
  version: 1;
  title?: string;
  /** The page's form asks for what is not here. */
  application_id?: string;
  /** Base URLs that stand in for Algolia's own hosts. */
  hosts?: string[];
  /** The zone of the time buckets, `audit_algolia.time_zone`. */
  time_zone: string;
  indices: IndexConfig[];
  /** Views that are not here follow from the indices. */
  views?: Partial<Views>;
}

/** An index, as the rules of its sources make it. */
export interface IndexConfig {
  name: string;
  /** `inserts`: a record for each row written. `changes`: one for each change. `rows`: the rows of a mirrored table. */
  records: 'inserts' | 'changes' | 'rows';
  /** The attribute of the time column. It has `_day`, `_hour`, `_weekday` and `_hour_of_day` besides. */
  time?: string;
  attributes: AttributeConfig[];
  /** As in `index_settings()`: plain, `searchable(…)` or `filterOnly(…)`. */
  attributesForFaceting: string[];
}

export interface AttributeConfig {
  name: string;
  type: 'text' | 'number' | 'boolean' | 'time' | 'json';
  /** Its values are pseudonyms. */
  pseudonym?: boolean;
  /** It is part of the row's key. */
  key?: boolean;
}

/** Which indices a view shows. A view with an empty list is not offered. */
export interface Views {
  peaks: PeaksView[];
  access: AccessView[];
  editors: EditorsView[];
  document: DocumentView[];
  recommendations: RecommendationsView[];
  changes: ChangesView[];
  activity: ActivityView[];
}

export interface PeaksView {
  index: string;
  /** The attribute that tells documents apart. */
  document?: string;
}

export interface AccessView {
  index: string;
  document: string;
  user: string;
  action?: string;
  /** Which accesses were not authorized. */
  unauthorized?: Match;
}

export interface EditorsView {
  index: string;
  document: string;
  user: string;
  unauthorized?: Match;
}

export interface DocumentView {
  /** The attribute that tells documents apart, in all indices of this view. */
  document: string;
  /** Indices that tell what happened to the document. */
  history: string[];
  permissions?: PermissionsView;
}

export interface PermissionsView {
  index: string;
  user: string;
  level: string;
}

export interface RecommendationsView {
  index: string;
  post: string;
  user: string;
  strategy: string;
  event: string;
  /** The values of `event` that count as recommended and as viewed. */
  recommended: string;
  viewed: string;
}

export interface ChangesView {
  index: string;
}

export interface ActivityView {
  index: string;
  actor: string;
  action: string;
}

/** An attribute with one of its values, as a facet shows it. */
export interface Match {
  attribute: string;
  value: string;
}

/** A configuration with its views complete. */
export interface CompleteConfig extends PageConfig {
  views: Views;
}
