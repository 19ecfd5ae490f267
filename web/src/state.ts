/** What the page shows, as the URL's fragment tells it: `#/view?name=value`. A bookmark of it is a report. */

/** Parameters of the connection. The key is never written back. */
export const CONNECTION = ['app', 'key', 'host', 'indices'];

export interface Place {
  view: string;
  params: URLSearchParams;
}

/** Reads a fragment, with or without a view. */
export function parseFragment(hash: string): Place {
  const text = hash.replace(/^#/, '');
  if (!text.startsWith('/')) {
    return { view: '', params: new URLSearchParams(text) };
  }
  const [view = '', query = ''] = splitOnce(text.slice(1), '?');
  return { view, params: new URLSearchParams(query) };
}

export function writeFragment(view: string, params: URLSearchParams): string {
  const query = params.toString();
  return `#/${view}${query === '' ? '' : `?${query}`}`;
}

function splitOnce(text: string, separator: string): [string, string] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + separator.length)];
}

export type Values = Record<string, string | undefined>;

/** The state of the open view. */
export class State {
  private place: Place;

  /** `kept` are parameters that stay whatever is shown. `changed` is told when the state changes by itself. */
  constructor(
    private readonly kept: URLSearchParams,
    hash: string,
    private readonly changed: () => void,
  ) {
    this.place = parseFragment(hash);
  }

  get view(): string {
    return this.place.view;
  }

  get = (name: string): string => this.place.params.get(name) ?? '';

  all(name: string): string[] {
    return this.place.params.getAll(name);
  }

  /** The parameters of the view. */
  get entries(): [string, string][] {
    return [...this.place.params].filter(([name]) => !CONNECTION.includes(name));
  }

  /** Changes values of the view; empty ones leave the URL. */
  set(values: Values, replace = false): void {
    const params = new URLSearchParams(this.place.params);
    for (const [name, value] of Object.entries(values)) {
      if (value === undefined || value === '') {
        params.delete(name);
      } else {
        params.set(name, value);
      }
    }
    this.go(this.place.view, params, replace);
    this.changed();
  }

  /** The address of another place. */
  link(view: string, values: Values = {}): string {
    const params = new URLSearchParams();
    for (const [name, value] of Object.entries(values)) {
      if (value !== undefined && value !== '') {
        params.set(name, value);
      }
    }
    return writeFragment(view, this.withKept(params));
  }

  /** Reads the address again, after the browser changed it. */
  read(hash: string): void {
    this.place = parseFragment(hash);
  }

  /** Writes the address without what does not belong in it. */
  go(view: string, params: URLSearchParams, replace = true): void {
    this.place = { view, params: this.withKept(params) };
    const url = writeFragment(view, this.place.params);
    history[replace ? 'replaceState' : 'pushState'](null, '', url);
  }

  private withKept(params: URLSearchParams): URLSearchParams {
    const clean = new URLSearchParams(params);
    CONNECTION.forEach((name) => clean.delete(name));
    this.kept.forEach((value, name) => clean.set(name, value));
    return clean;
  }
}
