/** What went wrong with a request, in words that say what to do. */

import type { Connection } from './connection';
import { originsOf } from './connection';
import { readSecuredKey } from './secured_key';

export type Kind =
  | 'key'
  | 'expired'
  | 'index'
  | 'missing'
  | 'offline'
  | 'unreachable'
  | 'cors'
  | 'policy'
  | 'busy'
  | 'query'
  | 'unknown';

export interface Failure {
  kind: Kind;
  title: string;
  /** What to do, a sentence each. */
  advice: string[];
  /** What Algolia or the browser said. */
  detail: string;
  /** Trying again may help without a change. */
  passing: boolean;
}

/** What is known besides the error itself. */
export interface Circumstances {
  connection: Connection;
  /** Unix seconds. */
  now: number;
  online: boolean;
  /** A request to these hosts was stopped by the page's content security policy. */
  blockedByPolicy: boolean;
  /** Whether the host answers at all; asked only when the client could not read an answer. */
  probe: () => Promise<boolean>;
}

export async function explain(error: unknown, about: Circumstances): Promise<Failure> {
  const detail = error instanceof Error ? error.message : String(error);
  const status = (error as { status?: unknown } | null)?.status;
  if (typeof status === 'number' && status > 0) {
    return answered(status, detail, about);
  }
  return (error as Error | null)?.name === 'RetryError' ? unreachable(detail, about) : unknown(detail);
}

/** Algolia refused. */
function answered(status: number, detail: string, about: Circumstances): Failure {
  const until = readSecuredKey(about.connection.key)?.validUntil;
  if (/valid ?until/i.test(detail) || (status === 403 && until !== undefined && until < about.now)) {
    const when =
      until === undefined ? '' : ` on ${new Date(until * 1000).toISOString().slice(0, 16).replace('T', ' ')} UTC`;
    return {
      kind: 'expired',
      title: `The key expired${when}`,
      advice: ['Ask whoever gave you the key for a new one: audit_algolia.secured_key() makes it.'],
      detail,
      passing: false,
    };
  }
  if (status === 404) {
    return {
      kind: 'missing',
      title: 'Algolia has no index of this name',
      advice: [
        'Check the name of the index and the application id.',
        'An index appears when its first record is delivered: queue_stats() in the database says whether one waits.',
      ],
      detail,
      passing: false,
    };
  }
  if (status === 403 && /index/i.test(detail) && !/application-id/i.test(detail)) {
    return {
      kind: 'index',
      title: 'The key may not see this index',
      advice: ['Choose an index that the key was made for, or ask for a key that includes this one.'],
      detail,
      passing: false,
    };
  }
  if (status === 401 || status === 403) {
    return {
      kind: 'key',
      title: 'Algolia does not accept the key',
      advice: [
        'Check the application id and the key: a key belongs to one application.',
        'The key needs the right to search. An administrator’s key does not belong in a browser.',
      ],
      detail,
      passing: false,
    };
  }
  if (status === 429 || status >= 500) {
    return {
      kind: 'busy',
      title: status === 429 ? 'Algolia receives too many requests' : 'Algolia could not answer',
      advice: ['Wait a moment, then try again.'],
      detail,
      passing: true,
    };
  }
  return {
    kind: 'query',
    title: 'Algolia did not understand the query',
    advice: [
      'If an attribute is named, the configuration and the settings of the index disagree: run configure_index() in the database, and make the configuration again with page_config().',
    ],
    detail,
    passing: false,
  };
}

/** Nothing could be read from any host. A browser does not tell a page why. */
async function unreachable(detail: string, about: Circumstances): Promise<Failure> {
  const hosts = originsOf(about.connection);
  const named = hosts[0] ?? 'Algolia';
  if (!about.online) {
    return {
      kind: 'offline',
      title: 'This computer is offline',
      advice: ['Connect to the network. The page asks again by itself.'],
      detail,
      passing: true,
    };
  }
  if (about.blockedByPolicy) {
    return {
      kind: 'policy',
      title: 'The page is not allowed to reach this host',
      advice: [
        `Its content security policy does not list ${named}.`,
        'Whoever serves the page allows a host with: npm run build -- --host ' + named,
      ],
      detail,
      passing: false,
    };
  }
  if (await about.probe()) {
    return {
      kind: 'cors',
      title: 'The host answers, but does not let this page read the answer',
      advice: [
        `${named} must send Access-Control-Allow-Origin for ${location.origin}, and allow the headers x-algolia-api-key and x-algolia-application-id (CORS). Algolia’s own hosts do; a gateway needs it configured.`,
      ],
      detail,
      passing: false,
    };
  }
  return {
    kind: 'unreachable',
    title: 'No answer from Algolia',
    advice: [
      `Check the application id: it is part of the host’s name (${named}).`,
      'Check the network, a proxy or a firewall. If the host has a certificate of its own authority, the browser must trust it: open the host’s address in a tab to see.',
    ],
    detail,
    passing: true,
  };
}

function unknown(detail: string): Failure {
  return {
    kind: 'unknown',
    title: 'The page could not show this',
    advice: ['Reload the page. If it happens again, report what is written below.'],
    detail,
    passing: false,
  };
}
