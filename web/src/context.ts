/** What a view is, and what it gets to work with. */

import type { CompleteConfig, IndexConfig } from './config';
import type { Bounds } from './counting';
import type { Cell } from './csv';
import type { Names } from './names';
import type { Searcher } from './search';
import type { State } from './state';
import type { Watcher } from './watcher';

export interface Context {
  config: CompleteConfig;
  searcher: Searcher;
  names: Names;
  state: State;
  watcher: Watcher;
  zone: string;
  /** Unix seconds. */
  now: () => number;
  index: (name: string) => IndexConfig;
  knows: (name: string) => boolean;
  /** Makes an index known that the configuration does not name. */
  learn: (index: IndexConfig) => void;
  /** Asks again, with what is shown staying until the answer is there. */
  reload: () => void;
  navigate: (view: string, values: Record<string, string>) => void;
}

export interface View {
  id: string;
  title: string;
  /** What it answers. */
  question: string;
  /** Whether the configuration has what it needs. */
  offered: (config: CompleteConfig) => boolean;
  open: (context: Context) => OpenView | Promise<OpenView>;
}

export interface OpenView {
  controls: Node;
  /** Stands beside what is shown. */
  aside?: Node;
  /** Asks, and makes what is shown. */
  load: () => Promise<Shown>;
  /** Seconds after which it asks again by itself. */
  every?: number;
  /** Called before another view is opened. */
  close?: () => void;
}

export interface Shown {
  content: Node;
  bounds: Bounds;
  /** What the button for CSV writes: a heading row, then the rows. */
  table?: () => Table;
  /** The same for single records, which may have to be asked for. */
  records?: () => Promise<Table>;
  /** Nothing was found. */
  isEmpty?: boolean;
}

export interface Table {
  name: string;
  heading: string[];
  rows: Cell[][];
  /** Which columns have pseudonyms. */
  people: number[];
}
