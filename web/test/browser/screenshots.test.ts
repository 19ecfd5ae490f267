/** Every view as it looks: for the documentation, and wide and narrow, light and dark, for whoever works on it. */

import { mkdirSync, writeFileSync } from 'node:fs';
import { after, before, test } from 'node:test';

import type { Page } from 'playwright-core';

import { allExamples, namesCsv } from '../fixture';
import { makeRecords } from '../records';
import { smaller } from './png';
import { go, skip, Stage } from './stage';

const NOW = Math.floor(Date.now() / 1000);
const FOLDER = process.env['SCREENSHOTS'];
const DOCS = process.env['SCREENSHOTS_DOCS'];

let stage: Stage;
before(async () => {
  if (!skip) {
    const config = { ...allExamples(), title: 'Audit' };
    stage = await Stage.start(config);
    await stage.fill(makeRecords(NOW), config.indices);
  }
});
after(async () => {
  await stage?.closePages();
  await stage?.stop();
});

const t = (days: number) => new Date((NOW - days * 86_400) * 1000).toISOString().slice(0, 19);

/** Places to look at. */
const PLACES: Record<string, string> = {
  explore: 'explore?index=workspace_access&group=action&time=week',
  peaks: 'peaks?index=workspace_access',
  access: 'access?index=workspace_access',
  editors: 'editors?index=workspace_edit',
  document: `document?by=report&id=1&t1=${t(60)}&t2=${t(1)}`,
  recommendations: 'recommendations',
  changes: 'changes?index=scraped_raw_post',
  activity: 'activity?index=analytics_event',
};

const SIZES = { wide: { width: 1280, height: 900 }, narrow: { width: 390, height: 844 } };
const SCHEMES = ['light', 'dark'] as const;

test('every view is pictured', { skip: skip || (FOLDER ? false : 'SCREENSHOTS names no folder') }, async () => {
  mkdirSync(FOLDER as string, { recursive: true });
  const { page } = await stage.open('explore');
  for (const [size, viewport] of Object.entries(SIZES)) {
    await page.setViewportSize(viewport);
    for (const [name, place] of Object.entries(PLACES)) {
      await go(page, place);
      await picture(page, `${name}-${size}`);
    }
  }
  await page.getByRole('button', { name: 'Names' }).click();
  await page
    .locator('#names-file')
    .setInputFiles({ name: 'names.csv', mimeType: 'text/csv', buffer: Buffer.from(namesCsv()) });
  await picture(page, 'names-narrow');
  await page.getByRole('button', { name: 'Close' }).click();
  await page.getByRole('button', { name: 'Disconnect' }).click();
  await page.getByRole('button', { name: 'Connect' }).waitFor();
  await picture(page, 'connect-narrow');
});

test(
  'the documentation has a picture of every view',
  { skip: skip || (DOCS ? false : 'SCREENSHOTS_DOCS names no folder') },
  async () => {
    mkdirSync(DOCS as string, { recursive: true });
    const { page } = await stage.open('explore');
    await page.setViewportSize({ width: 1180, height: 800 });
    for (const [name, place] of Object.entries(PLACES)) {
      await go(page, place);
      writeFileSync(`${DOCS}/${name}.png`, smaller(await page.screenshot({ animations: 'disabled' })));
    }
  },
);

async function picture(page: Page, name: string): Promise<void> {
  for (const colorScheme of SCHEMES) {
    await page.emulateMedia({ colorScheme });
    await page.screenshot({ path: `${FOLDER}/${name}-${colorScheme}.png`, fullPage: true, animations: 'disabled' });
  }
}
