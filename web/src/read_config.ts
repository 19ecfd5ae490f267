/** Reads a configuration: says where it is wrong, and adds the views that follow from its indices. */

import type { CompleteConfig, IndexConfig, PageConfig, Views } from './config';
import { deriveViews } from './derive';

export class ConfigError extends Error {}

const RECORDS = ['inserts', 'changes', 'rows'];
const TYPES = ['text', 'number', 'boolean', 'time', 'json'];

/** Reads a configuration, and says where it is wrong. */
export function parseConfig(value: unknown): CompleteConfig {
  const root = object(value, 'the configuration');
  if (root['version'] !== 1) {
    throw new ConfigError('"version" must be 1; this page cannot read another one');
  }
  const zone = text(root['time_zone'], '"time_zone"');
  try {
    new Intl.DateTimeFormat('en', { timeZone: zone });
  } catch {
    throw new ConfigError(`"time_zone" is "${zone}", which this browser does not know`);
  }
  const indices = list(root['indices'], '"indices"').map((one, at) => parseIndex(one, `indices[${at}]`));
  const config = { ...root, indices } as unknown as PageConfig;
  const given = root['views'] === undefined ? {} : object(root['views'], '"views"');
  const views = { ...deriveViews(indices), ...given } as unknown as Views;
  checkViews(views, indices);
  return { ...config, views };
}

function parseIndex(value: unknown, place: string): IndexConfig {
  const index = object(value, place);
  text(index['name'], `${place}.name`);
  oneOf(index['records'], RECORDS, `${place}.records`);
  if (index['time'] !== undefined) {
    text(index['time'], `${place}.time`);
  }
  for (const [at, entry] of list(index['attributes'], `${place}.attributes`).entries()) {
    const attribute = object(entry, `${place}.attributes[${at}]`);
    text(attribute['name'], `${place}.attributes[${at}].name`);
    oneOf(attribute['type'], TYPES, `${place}.attributes[${at}].type`);
  }
  for (const entry of list(index['attributesForFaceting'], `${place}.attributesForFaceting`)) {
    text(entry, `an entry of ${place}.attributesForFaceting`);
  }
  return index as unknown as IndexConfig;
}

/** Each view must name an index of the configuration, and the attributes that it needs. */
function checkViews(views: Views, indices: IndexConfig[]): void {
  const needs: Record<keyof Views, string[]> = {
    peaks: ['index'],
    access: ['index', 'document', 'user'],
    editors: ['index', 'document', 'user'],
    document: ['document'],
    recommendations: ['index', 'post', 'user', 'strategy', 'event', 'recommended', 'viewed'],
    changes: ['index'],
    activity: ['index', 'actor', 'action'],
  };
  const known = new Set(indices.map((index) => index.name));
  const check = (name: unknown, place: string) => {
    if (!known.has(text(name, place))) {
      throw new ConfigError(`${place} names "${String(name)}", which is not among "indices"`);
    }
  };
  for (const view of Object.keys(views)) {
    const needed = needs[view as keyof Views];
    if (!needed) {
      throw new ConfigError(`"views" has "${view}", which is not a view: use ${Object.keys(needs).join(', ')}`);
    }
    for (const [at, entry] of list(views[view as keyof Views], `views.${view}`).entries()) {
      const place = `views.${view}[${at}]`;
      const one = object(entry, place);
      needed.forEach((name) => text(one[name], `${place}.${name}`));
      if (needed.includes('index')) {
        check(one['index'], `${place}.index`);
      }
      if (view === 'document') {
        list(one['history'], `${place}.history`).forEach((name) => check(name, `${place}.history`));
        if (one['permissions'] !== undefined) {
          const permissions = object(one['permissions'], `${place}.permissions`);
          ['user', 'level'].forEach((name) => text(permissions[name], `${place}.permissions.${name}`));
          check(permissions['index'], `${place}.permissions.index`);
        }
      }
    }
  }
}

function object(value: unknown, place: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new ConfigError(`${place} must be an object`);
  }
  return value as Record<string, unknown>;
}

function list(value: unknown, place: string): unknown[] {
  if (!Array.isArray(value)) {
    throw new ConfigError(`${place} must be an array`);
  }
  return value;
}

function text(value: unknown, place: string): string {
  if (typeof value !== 'string' || value === '') {
    throw new ConfigError(`${place} must be a text that is not empty`);
  }
  return value;
}

function oneOf(value: unknown, words: string[], place: string): void {
  if (!words.includes(value as string)) {
    throw new ConfigError(`${place} must be one of ${words.join(', ')}`);
  }
}
