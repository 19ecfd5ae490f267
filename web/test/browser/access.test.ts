/** The page with a keyboard, for a screen reader, in the dark, on a small screen and on paper. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';

import type { Page } from 'playwright-core';

import { allExamples } from '../fixture';
import { makeRecords } from '../records';
import { figure, go, settled, skip, Stage } from './stage';

const NOW = Math.floor(Date.now() / 1000);
const AXE = readFileSync(
  createRequire(`${process.env['WEB_FOLDER'] ?? '.'}/package.json`).resolve('axe-core/axe.min.js'),
  'utf8',
);
const PLACES = [
  'explore?index=workspace_access&group=action&time=week',
  'peaks?index=workspace_access',
  'access?index=workspace_access',
  'editors?index=workspace_edit',
  'document?by=report&id=1',
  'document',
  'recommendations',
  'changes?index=scraped_raw_post',
  'activity?index=analytics_event',
];

let stage: Stage;
before(async () => {
  if (skip) {
    return;
  }
  const config = allExamples();
  stage = await Stage.start(config);
  await stage.fill(makeRecords(NOW), config.indices);
});
after(async () => {
  await stage?.closePages();
  await stage?.stop();
});

interface Finding {
  id: string;
  impact: string;
  nodes: { html: string; failureSummary: string }[];
}

/** In the second scheme only colours differ. */
async function findings(page: Page, rules = 'all'): Promise<string[]> {
  await page.evaluate(AXE);
  const options = { resultTypes: ['violations'], ...(rules === 'all' ? {} : { runOnly: [rules] }) };
  const { violations } = (await page.evaluate(`axe.run(${JSON.stringify(options)})`)) as { violations: Finding[] };
  const serious = violations.filter(({ impact }) => impact === 'serious' || impact === 'critical');
  return serious.map(
    ({ id, nodes }) =>
      `${id}: ${nodes
        .slice(0, 3)
        .map((node) => `${node.html.slice(0, 200)} ${node.failureSummary}`)
        .join(' | ')}`,
  );
}

test('axe has no serious finding, in light and dark, on any view', { skip }, async () => {
  const { page } = await stage.open('explore');
  const found: string[] = [];
  for (const place of PLACES) {
    await go(page, place);
    for (const colorScheme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
      const rules = colorScheme === 'light' ? 'all' : 'color-contrast';
      found.push(...(await findings(page, rules)).map((finding) => `${place} ${colorScheme}: ${finding}`));
    }
  }
  await page.getByRole('button', { name: 'Names' }).click();
  found.push(...(await findings(page)));
  await page.getByRole('button', { name: 'Close' }).click();
  await page.getByRole('button', { name: 'Disconnect' }).click();
  await page.getByRole('button', { name: 'Connect' }).waitFor();
  found.push(...(await findings(page)));
  assert.deepEqual(found, []);
});

test('the keyboard reaches everything, and keeps its place when an answer comes', { skip }, async () => {
  const { page } = await stage.open('peaks?index=workspace_access');
  const focused = () => page.evaluate(() => document.activeElement?.textContent ?? '');
  await page.keyboard.press('Tab');
  assert.equal(await focused(), 'Skip to the content');
  await page.keyboard.press('Enter');
  assert.equal(await page.evaluate(() => document.activeElement?.id), 'main');
  await page.locator('.top nav a', { hasText: 'Access' }).focus();
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => document.querySelector('h1')?.textContent === 'Access');
  await settled(page);
  await go(page, 'explore?index=workspace_access');
  const box = page.locator('[data-facet="action"][data-key="print"]');
  await box.focus();
  await page.keyboard.press('Space');
  await page.waitForFunction(() => location.hash.includes('f.action=print'));
  await settled(page);
  assert.deepEqual(await page.evaluate(() => (document.activeElement as HTMLElement).dataset['key']), 'print');
  const total = await figure(page, 'Records');
  await page.keyboard.press('Space');
  await page.waitForFunction(
    (before) => document.querySelector('[data-figure="Records"]')?.textContent !== before,
    total,
  );
  await page.getByRole('button', { name: 'Names' }).focus();
  await page.keyboard.press('Enter');
  await page.locator('dialog[open]').waitFor();
  await page.keyboard.press('Escape');
  await page.locator('dialog[open]').waitFor({ state: 'detached' });
});

test('a small screen scrolls in one direction only', { skip }, async () => {
  const { page } = await stage.open('explore');
  await page.setViewportSize({ width: 360, height: 740 });
  for (const place of PLACES) {
    await go(page, place);
    const [width, wanted] = await page.evaluate(() => [window.innerWidth, document.documentElement.scrollWidth]);
    assert.ok((wanted ?? 0) <= (width ?? 0), `${place}: ${wanted} of ${width}`);
  }
});

test('on paper there is the answer without the controls', { skip }, async () => {
  const { page } = await stage.open('peaks?index=workspace_access');
  await page.emulateMedia({ media: 'print' });
  assert.equal(await page.locator('.top nav').isVisible(), false);
  assert.equal(await page.locator('.heat').isVisible(), true);
  assert.equal(await page.getByText('As of').isVisible(), true);
});
