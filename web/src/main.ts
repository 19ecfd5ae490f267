/** The entry: connects, reads the configuration, and opens what the address names. */

import type { CompleteConfig, IndexConfig } from './config';
import { choose, forget, fromParams, load, originsOf, save, type Connection, type Draft } from './connection';
import { connectForm } from './connect_form';
import type { Context, View } from './context';
import { deriveViews } from './derive';
import { h } from './dom';
import { frame } from './frame';
import { inferIndex } from './infer';
import { Names } from './names';
import { ConfigError, parseConfig } from './read_config';
import { Searcher } from './search';
import { readSecuredKey, sees } from './secured_key';
import { Shell } from './shell';
import { parseFragment, State } from './state';
import { access } from './views/access';
import { activity } from './views/activity';
import { changes } from './views/changes';
import { document as documentView } from './views/document';
import { editors } from './views/editors';
import { explore } from './views/explore';
import { peaks } from './views/peaks';
import { recommendations } from './views/recommendations';
import { Watcher } from './watcher';

const VIEWS: View[] = [explore, peaks, access, editors, documentView, recommendations, changes, activity];
const now = () => Date.now() / 1000;

const root = document.getElementById('page') as HTMLElement;
const storage = window.sessionStorage;

async function start(): Promise<void> {
  const place = parseFragment(location.hash);
  const fragment = fromParams(place.params);
  // The key leaves the address before anything else happens.
  const kept = new URLSearchParams(place.params);
  kept.delete('key');
  if (fragment.key) {
    history.replaceState(null, '', place.view === '' ? `#${kept}` : `#/${place.view}?${kept}`);
  }
  const { config, problem } = await readConfig();
  const defaults: Draft = {
    ...(config?.application_id ? { app: config.application_id } : {}),
    ...(config?.hosts ? { hosts: config.hosts } : {}),
  };
  const { connection, draft } = choose(fragment, load(storage), defaults);
  if (!connection || problem || (!config && connection.indices.length === 0)) {
    ask(draft, config !== undefined, problem);
    return;
  }
  save(storage, connection);
  await run(connection, config, defaults);
}

function ask(draft: Draft, hasConfig: boolean, problem?: string): void {
  const connect = (connection: Connection) => {
    save(storage, connection);
    const params = parseFragment(location.hash).params;
    ['app', 'host', 'indices'].forEach((name) => params.delete(name));
    const { view } = parseFragment(location.hash);
    history.replaceState(null, '', `#/${view}?${params}`);
    void start();
  };
  root.replaceChildren(connectForm({ draft, hasConfig, connect, ...(problem ? { problem } : {}) }));
  document.title = 'Audit';
}

/** The configuration beside the page, if there is one. */
async function readConfig(): Promise<{ config?: CompleteConfig; problem?: string }> {
  let text: string;
  try {
    const response = await fetch('config.json', { cache: 'no-cache', credentials: 'same-origin' });
    if (!response.ok) {
      return {};
    }
    text = await response.text();
  } catch {
    return {};
  }
  try {
    return { config: parseConfig(JSON.parse(text)) };
  } catch (error) {
    const reason = error instanceof ConfigError || error instanceof SyntaxError ? error.message : String(error);
    return { problem: `config.json cannot be used: ${reason}. Make it again with SELECT audit_algolia.page_config().` };
  }
}

/** What the parameters of the connection are in an address that can be shared: everything but the key. */
function shareable(connection: Connection, defaults: Draft): URLSearchParams {
  const params = new URLSearchParams();
  if (connection.app !== defaults.app) {
    params.set('app', connection.app);
  }
  if (connection.hosts.join() !== (defaults.hosts ?? []).join()) {
    params.set('host', connection.hosts.join(','));
  }
  if (connection.indices.length > 0) {
    params.set('indices', connection.indices.join(','));
  }
  return params;
}

/** From here on, the page reaches the hosts of this connection, and no others that its policy allows. */
function narrow(connection: Connection): void {
  const policy = `connect-src 'self' ${originsOf(connection).join(' ')}`;
  document.head.append(h('meta', { 'http-equiv': 'Content-Security-Policy', content: policy }));
}

async function run(connection: Connection, found: CompleteConfig | undefined, defaults: Draft): Promise<void> {
  narrow(connection);
  const searcher = new Searcher(connection);
  const config = restricted(
    found ?? { version: 1, time_zone: 'UTC', indices: [], views: deriveViews([]) },
    connection.key,
  );
  const known = new Map(config.indices.map((index) => [index.name, index]));
  const disconnect = () => {
    forget(storage);
    location.reload();
  };
  const names = new Names();
  const state = new State(shareable(connection, defaults), location.hash, () => shell.reload());
  const index = (name: string): IndexConfig =>
    known.get(name) ?? { name, records: 'inserts', attributes: [], attributesForFaceting: [] };
  if (connection.indices.length > 0) {
    // What goes wrong with one of them is told by the view that shows it.
    const inferred = await Promise.allSettled(
      connection.indices.filter((name) => !known.has(name)).map((name) => inferIndex(searcher, name)),
    );
    const learned = inferred.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
    const missing = connection.indices.filter((name) => !known.has(name) && learned.every((one) => one.name !== name));
    config.indices = [...config.indices, ...learned, ...missing.map(index)];
    learned.forEach((one) => known.set(one.name, one));
    if (!found) {
      config.views = deriveViews(config.indices);
    }
  }
  const watcher = new Watcher(searcher, config.views.access, now);
  const context: Context = {
    config,
    searcher,
    names,
    state,
    watcher,
    zone: config.time_zone,
    now,
    index,
    knows: (name) => known.has(name),
    learn: (one) => known.set(one.name, one),
    reload: () => shell.reload(),
    navigate: (view, values) => {
      location.hash = state.link(view, values);
    },
  };
  const shell = new Shell(context, disconnect);
  const views = VIEWS.filter((view) => view.offered(config));
  const page = frame({ context, views, shell, disconnect, show });
  function show(): void {
    const view = views.find((one) => one.id === state.view) ?? views.find((one) => one.id === 'access') ?? explore;
    state.go(view.id, new URLSearchParams(state.entries));
    page.opened(view);
    void shell.show(view);
  }
  root.replaceChildren(page.element);
  window.addEventListener('hashchange', () => {
    if (fromParams(parseFragment(location.hash).params).key) {
      // A link with another key: begin again with it.
      location.reload();
      return;
    }
    state.read(location.hash);
    show();
  });
  show();
  watcher.start();
}

/** The configuration without what a secured key may not see. */
function restricted(config: CompleteConfig, key: string): CompleteConfig {
  const restrictions = readSecuredKey(key);
  const may = (name: string) => sees(restrictions, name);
  const only = <V extends { index: string }>(views: V[]) => views.filter((view) => may(view.index));
  const { views } = config;
  return {
    ...config,
    indices: config.indices.filter(({ name }) => may(name)),
    views: {
      peaks: only(views.peaks),
      access: only(views.access),
      editors: only(views.editors),
      recommendations: only(views.recommendations),
      changes: only(views.changes),
      activity: only(views.activity),
      document: views.document.flatMap((view) => {
        const { permissions, ...rest } = view;
        const history = view.history.filter(may);
        const kept = permissions && may(permissions.index) ? { permissions } : {};
        return history.length > 0 || 'permissions' in kept ? [{ ...rest, history, ...kept }] : [];
      }),
    },
  };
}

void start();
