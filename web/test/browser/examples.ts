/** The page over the examples' tables, for the tests that compare both. */

import type { Page } from 'playwright-core';

import type { PageConfig } from '../../src/config';
import { algolia, makeKey, noDatabase, value } from '../database';
import { skip as noBrowser, Stage } from './stage';

export const skip = noBrowser || noDatabase;

/** A page that the database has configured, opened with a key that the database has made. */
export async function openExamples(): Promise<{ stage: Stage; page: Page }> {
  const stage = await Stage.over(algolia, value<PageConfig>('select audit_algolia.page_config()'));
  return { stage, page: (await stage.open('explore', { key: makeKey() })).page };
}

export const sorted = (list: string[][]) => [...list].sort((a, b) => (a.join() < b.join() ? -1 : 1));
/** How many rows there are. */
export const count = (from: string) => value<number>(`select count(*) from ${from}`);
