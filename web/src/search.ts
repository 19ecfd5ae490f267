/** Asks Algolia. The only file that names its client. */

import { liteClient, type LiteClient } from 'algoliasearch/lite';
import { createMemoryCache, createNullCache } from '@algolia/client-common';

import { parseHost, type Connection } from './connection';

/** Algolia's own bound for a request to several indices. */
const QUERIES_PER_REQUEST = 50;
/** The most hits that one query shows, and the most values that it lists for a facet. */
export const MOST_HITS = 1000;
export const MOST_VALUES = 1000;

export interface Query {
  index: string;
  filters?: string;
  query?: string;
  facets?: string[];
  hitsPerPage?: number;
  page?: number;
  attributes?: string[];
}

/** A record as it is in the index. */
export type Hit = { objectID: string } & Record<string, unknown>;

export interface Answer {
  query: Query;
  hits: Hit[];
  count: number;
  facets: Record<string, Record<string, number>>;
  /** Whether Algolia counted every record, and did not estimate. */
  exact: boolean;
}

export class Searcher {
  readonly client: LiteClient;

  constructor(readonly connection: Connection) {
    const hosts = connection.hosts.flatMap((host) => parseHost(host) ?? []);
    this.client = liteClient(connection.app, connection.key, {
      // An answer is wanted from the index as it is now.
      responsesCache: createNullCache(),
      requestsCache: createNullCache(),
      hostsCache: createMemoryCache(),
      // In a header, a key does not get into the logs of what is on the way.
      authMode: 'WithinHeaders',
      // An id in each URL would make the browser ask for permission before each request.
      requestIdChannel: undefined as never,
      timeouts: { connect: 4000, read: 15_000, write: 15_000 },
      ...(hosts.length > 0 ? { hosts: hosts.map((host) => ({ ...host, accept: 'readWrite' as const })) } : {}),
    });
  }

  /** The answers to the queries, in their order. */
  async ask(queries: Query[]): Promise<Answer[]> {
    const parts: Query[][] = [];
    for (let at = 0; at < queries.length; at += QUERIES_PER_REQUEST) {
      parts.push(queries.slice(at, at + QUERIES_PER_REQUEST));
    }
    const answers = await Promise.all(parts.map((part) => this.askPart(part)));
    return answers.flat();
  }

  async one(query: Query): Promise<Answer> {
    const [answer] = await this.ask([query]);
    if (!answer) {
      throw new Error('Algolia sent no answer to the query');
    }
    return answer;
  }

  private async askPart(queries: Query[]): Promise<Answer[]> {
    const { results } = await this.client.search({ requests: queries.map(request) });
    return results.map((result, at) => read(result as unknown as Result, queries[at] as Query));
  }
}

/** Of a result, what the page reads. */
interface Result {
  hits: Hit[];
  nbHits: number;
  facets?: Record<string, Record<string, number>>;
  exhaustiveNbHits?: boolean;
  exhaustiveFacetsCount?: boolean;
  exhaustive?: { nbHits?: boolean; facetsCount?: boolean };
}

function read(result: Result, query: Query): Answer {
  const { exhaustive } = result;
  const inexact = [
    exhaustive?.nbHits,
    exhaustive?.facetsCount,
    result.exhaustiveNbHits,
    result.exhaustiveFacetsCount,
  ].includes(false);
  return { query, hits: result.hits, count: result.nbHits, facets: result.facets ?? {}, exact: !inexact };
}

function request(query: Query) {
  return {
    indexName: query.index,
    hitsPerPage: query.hitsPerPage ?? 0,
    attributesToHighlight: [],
    // What auditors look for is nobody's statistics, and changes no ranking.
    analytics: false,
    ...(query.query ? { query: query.query } : {}),
    ...(query.filters ? { filters: query.filters } : {}),
    ...(query.page ? { page: query.page } : {}),
    ...(query.facets ? { facets: query.facets, maxValuesPerFacet: MOST_VALUES } : {}),
    ...(query.attributes ? { attributesToRetrieve: query.attributes } : {}),
  };
}

/** The values of a facet with their counts, the most frequent first. */
export function valuesOf(answer: Answer | undefined, attribute: string): [string, number][] {
  const counts = Object.entries(answer?.facets[attribute] ?? {});
  return counts.sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1));
}
