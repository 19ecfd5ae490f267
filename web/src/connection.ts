/**
 * How the page reaches Algolia. A key comes from the form or from the URL's fragment, which no browser sends anywhere. It
 * is kept in sessionStorage, so it ends with the tab, and is taken out of the address at once.
 */

export interface Connection {
  app: string;
  key: string;
  /** Base URLs instead of Algolia's own hosts. */
  hosts: string[];
  /** Indices to show when there is no configuration. */
  indices: string[];
}

/** What the form offers before it is filled in. */
export type Draft = Partial<Connection>;

const STORED = 'audit-page-connection';

/** The members of a connection among the fragment's parameters. Without a key, hosts and application are only proposed. */
export function fromParams(params: URLSearchParams): Draft {
  const [app, key] = [params.get('app')?.trim(), params.get('key')?.trim()];
  const [hosts, indices] = [list(params.get('host')), list(params.get('indices'))];
  return {
    ...(app ? { app } : {}),
    ...(key ? { key } : {}),
    ...(hosts.length > 0 ? { hosts } : {}),
    ...(indices.length > 0 ? { indices } : {}),
  };
}

export function list(text: string | null | undefined): string[] {
  const parts = (text ?? '').split(/[\s,]+/);
  return parts.filter((part) => part !== '');
}

/**
 * The connection to use: a key of the fragment, else the stored one. A stored key is only used with the hosts it was
 * given for, so that a link cannot send it elsewhere.
 */
export function choose(
  fragment: Draft,
  stored: Connection | undefined,
  defaults: Draft,
): { connection?: Connection; draft: Draft } {
  const draft: Draft = { ...defaults, ...fragment };
  if (draft.key && draft.app) {
    return {
      connection: { app: draft.app, key: draft.key, hosts: draft.hosts ?? [], indices: draft.indices ?? [] },
      draft,
    };
  }
  if (!stored) {
    return { draft };
  }
  const isSame = (draft.app ?? stored.app) === stored.app && same(fragment.hosts ?? stored.hosts, stored.hosts);
  return isSame
    ? { connection: { ...stored, indices: fragment.indices ?? stored.indices }, draft: { ...stored, ...draft } }
    : { draft };
}

function same(a: string[], b: string[]): boolean {
  return a.join() === b.join();
}

/** A base URL as a person writes it; `undefined` if it is none. */
export function parseHost(text: string): { url: string; protocol: 'http' | 'https' } | undefined {
  let url: URL;
  try {
    url = new URL(text.includes('://') ? text : `https://${text}`);
  } catch {
    return undefined;
  }
  const protocol = url.protocol.slice(0, -1);
  if ((protocol !== 'http' && protocol !== 'https') || url.hostname === '') {
    return undefined;
  }
  return { url: url.host + url.pathname.replace(/\/+$/, ''), protocol };
}

/** The hosts that a connection asks, as origins. */
export function originsOf(connection: Connection): string[] {
  if (connection.hosts.length > 0) {
    return connection.hosts.flatMap((host) => {
      const parsed = parseHost(host);
      return parsed ? [`${parsed.protocol}://${parsed.url.split('/')[0]}`] : [];
    });
  }
  const app = connection.app.toLowerCase();
  const own = [`${app}-dsn.algolia.net`, `${app}.algolia.net`, ...[1, 2, 3].map((n) => `${app}-${n}.algolianet.com`)];
  return own.map((host) => `https://${host}`);
}

export function load(storage: Storage): Connection | undefined {
  try {
    const stored: unknown = JSON.parse(storage.getItem(STORED) ?? 'null');
    const { app, key, hosts, indices } = (stored ?? {}) as Connection;
    return typeof app === 'string' && typeof key === 'string' && Array.isArray(hosts) && Array.isArray(indices)
      ? { app, key, hosts, indices }
      : undefined;
  } catch {
    return undefined;
  }
}

export function save(storage: Storage, connection: Connection): void {
  storage.setItem(STORED, JSON.stringify(connection));
}

export function forget(storage: Storage): void {
  storage.removeItem(STORED);
}
