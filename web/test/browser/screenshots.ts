/** Every view as it looks: for the documentation, and wide and narrow, light and dark, for whoever works on it. */

import { mkdirSync, writeFileSync } from 'node:fs';
import { after, before, test } from 'node:test';

import type { Page } from 'playwright-core';

import { allExamples, namesCsv } from '../fixture';
import { makeKey, noDatabase, run, value } from '../database';
import { makeRecords } from '../records';
import { openExamples } from './examples';
import { smaller } from './png';
import { go, skip, Stage } from './stage';

const NOW = Math.floor(Date.now() / 1000);
const FOLDER = process.env['SCREENSHOTS'];
const DOCS = process.env['SCREENSHOTS_DOCS'];

let stage: Stage;
before(async () => {
  if (!skip) {
    stage = noDatabase ? await ofRecords() : (await openExamples()).stage;
  }
});
after(async () => {
  await stage?.closePages();
  await stage?.stop();
});

async function ofRecords(): Promise<Stage> {
  const config = allExamples();
  const made = await Stage.start(config);
  await made.fill(makeRecords(NOW), config.indices);
  return made;
}

const open = async () => (await stage.open('explore', noDatabase ? {} : { key: makeKey() })).page;

/** What people are called, as a file of names says. */
const names = () =>
  noDatabase
    ? namesCsv()
    : run('copy (select audit_algolia.pseudonym(user_id), name from report_workspace.users) to stdout csv header');

/** A period in which permissions change, as the document's view wants it. */
function period(): string {
  const days = (ago: number) => new Date((NOW - ago * 86_400) * 1000).toISOString().slice(0, 19);
  const changed = (moment: string) =>
    value<string>(
      `select to_char((${moment}) at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS') from ledger.change
       where source = 'report_permission'`,
    );
  return noDatabase
    ? `t1=${days(60)}&t2=${days(1)}`
    : `t1=${changed("min(at) + interval '5 ms'")}&t2=${changed("max(at) + interval '1 s'")}`;
}

/** Places to look at. */
const PLACES: Record<string, string> = {
  explore: 'explore?index=workspace_access&group=action&time=week',
  peaks: 'peaks?index=workspace_access',
  access: 'access?index=workspace_access',
  editors: 'editors?index=workspace_edit',
  document: `document?by=report&id=1&${skip ? '' : period()}`,
  recommendations: 'recommendations',
  changes: 'changes?index=scraped_raw_post',
  activity: 'activity?index=analytics_event',
};

const SIZES = { wide: { width: 1280, height: 900 }, narrow: { width: 390, height: 844 } };
const SCHEMES = ['light', 'dark'] as const;

async function everyView(): Promise<void> {
  mkdirSync(FOLDER as string, { recursive: true });
  const page = await open();
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
    .setInputFiles({ name: 'names.csv', mimeType: 'text/csv', buffer: Buffer.from(names()) });
  await picture(page, 'names-narrow');
  await page.getByRole('button', { name: 'Close' }).click();
  await page.getByRole('button', { name: 'Disconnect' }).click();
  await page.getByRole('button', { name: 'Connect' }).waitFor();
  await picture(page, 'connect-narrow');
}

async function forDocumentation(): Promise<void> {
  mkdirSync(DOCS as string, { recursive: true });
  const page = await open();
  await page.setViewportSize({ width: 1180, height: 800 });
  for (const [name, place] of Object.entries(PLACES)) {
    await go(page, place);
    writeFileSync(`${DOCS}/${name}.png`, smaller(await page.screenshot({ animations: 'disabled' })));
  }
}

if (FOLDER) {
  test('every view is pictured', { skip }, everyView);
}
if (DOCS) {
  test('the documentation has a picture of every view', { skip }, forDocumentation);
}

async function picture(page: Page, name: string): Promise<void> {
  for (const colorScheme of SCHEMES) {
    await page.emulateMedia({ colorScheme });
    await page.screenshot({ path: `${FOLDER}/${name}-${colorScheme}.png`, fullPage: true, animations: 'disabled' });
  }
}
