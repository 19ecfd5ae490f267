/** Histories, changes and what is told at once, against what the database noted by other means, with real workers in between. */

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import type { Page } from 'playwright-core';

import { makeKey, rows, run, value } from '../database';
import { count, openExamples, skip } from './examples';
import { en, figure, go, settled, type Stage } from './stage';

let stage: Stage;
let page: Page;
before(async () => {
  if (!skip) {
    ({ stage, page } = await openExamples());
  }
});
after(async () => {
  await stage?.closePages();
  await stage?.stop();
});

type Noted = { op: string; old: Record<string, unknown> | null; new: Record<string, unknown> | null };

test('the history of a document is what triggers of another kind have noted', { skip }, async () => {
  for (const report of [1, 3]) {
    await go(page, `document?by=report&id=${report}`);
    const noted = rows<Noted>(
      `select op, old, new from ledger.change where source = 'report'
           and coalesce(new, old) ->> 'report_id' = '${report}' order by number desc`,
    );
    const history = page.locator('section', { hasText: 'Modification history' }).locator('.change');
    const shown = await history.evaluateAll((list) =>
      list.map((item) => [/ op-(\w+)/.exec(item.className)?.[1], item.querySelector('dl')?.textContent ?? '']),
    );
    assert.deepEqual(
      shown.map(([op]) => op),
      noted.map(({ op }) => op),
    );
    noted.forEach(({ op, old, new: now }, at) => {
      const text = shown[at]?.[1] ?? '';
      for (const name of ['title', 'status']) {
        const [before, after] = [String(old?.[name]), String(now?.[name])];
        if (op === 'update' && before !== after) {
          assert.ok(text.includes(before) && text.includes(after), `${text}: ${before}, ${after}`);
        }
      }
    });
  }
});

/** Who held what on a report at a moment, as the triggers noted it. */
const heldAt = (report: number, moment: number) =>
  rows<{ line: string }>(
    `select audit_algolia.pseudonym(user_id) || ' ' || level as line
     from (
         select distinct on (coalesce(new, old) ->> 'user_id') op, new ->> 'user_id' as user_id, new ->> 'level' as level
         from ledger.change
         where source = 'report_permission' and coalesce(new, old) ->> 'report_id' = '${report}'
             and at <= to_timestamp(${moment})
         order by coalesce(new, old) ->> 'user_id', number desc) as last
     where op <> 'delete'`,
  )
    .map(({ line }) => line)
    .sort();

test(
  'who had which permission, at both ends of a period and now, is what the tables and those triggers say',
  { skip },
  async () => {
    const stamp = (seconds: number) => new Date(Math.round(seconds * 1000)).toISOString().slice(0, -1);
    const moment = (name: string) =>
      value<number>(
        `select round(extract(epoch from at), 3)::float8 from report_workspace.moment where name = '${name}'`,
      );
    const now = value<number>('select round(extract(epoch from clock_timestamp()), 3)::float8');
    for (const [from, to] of [
      [moment('t1'), moment('t2')],
      [moment('t2'), now],
    ] as const) {
      await go(page, `document?by=report&id=1&t1=${stamp(from)}&t2=${stamp(to)}`);
      const tables = page.locator('table', { has: page.locator('caption', { hasText: /^At / }) });
      const lines = await tables.evaluateAll((list) =>
        list.map((one) =>
          [...one.querySelectorAll('tbody tr')].map((row) =>
            [row.querySelector('[data-value]')?.getAttribute('data-value'), row.children[1]?.textContent?.trim()].join(
              ' ',
            ),
          ),
        ),
      );
      assert.deepEqual(
        lines.map((list) => list.sort()),
        [heldAt(1, from), heldAt(1, to)],
      );
      const between = count(
        `ledger.change where source = 'report_permission' and coalesce(new, old) ->> 'report_id' = '1'
           and at > to_timestamp(${from}) and at <= to_timestamp(${to})`,
      );
      assert.equal(
        await page.locator('section', { hasText: 'Changes in this period' }).locator('.change').count(),
        between,
      );
    }
    const held = rows<{ line: string }>(
      `select audit_algolia.pseudonym(user_id) || ' ' || level as line
     from report_workspace.report_permission where report_id = 1`,
    );
    assert.deepEqual(heldAt(1, now), held.map(({ line }) => line).sort());
  },
);

test('changes are as many as those triggers have noted, by operation, and name the same rows', { skip }, async () => {
  await go(page, 'changes?index=scraped_raw_post');
  // A post that was fetched again unchanged is an update of the row, and no change of what leaves the database.
  const columns = ['source', 'post_id', 'author', 'body', 'likes'];
  const visible = `ledger.change where source = 'raw_post' and (op <> 'update' or ${columns
    .map((name) => `old ->> '${name}' is distinct from new ->> '${name}'`)
    .join(' or ')})`;
  assert.equal(await figure(page, 'Changes'), en(count(visible)));
  for (const op of ['insert', 'update', 'delete']) {
    const name = `${op.charAt(0).toUpperCase()}${op.slice(1)}s`;
    assert.equal(await figure(page, name), en(count(`(select from ${visible} and op = '${op}') as changes`)));
  }
  await go(page, 'changes?index=scraped_raw_post&op=delete');
  const ids = await page.locator('.change').evaluateAll((all) => all.map((item) => item.getAttribute('data-id') ?? ''));
  const deleted = rows<{ id: string }>(
    `select old ->> 'source' || ':' || (old ->> 'post_id') as id from ${visible} and op = 'delete'`,
  );
  assert.deepEqual(ids.map((id) => id.replace(/@\d+$/, '')).sort(), deleted.map(({ id }) => id).sort());
});

test('an unauthorized access is on the screen within three seconds of its commit', { skip }, async () => {
  const { page: watching } = await stage.open('access?index=workspace_access', { key: makeKey() });
  await watching.getByText('last answer').waitFor();
  await watching.evaluate(() => {
    const seen: Record<string, number> = {};
    Object.assign(window, { seen });
    new MutationObserver(() => {
      document.querySelectorAll('.unauthorized tr.new').forEach((row) => {
        seen[row.getAttribute('data-id') ?? ''] ??= Date.now();
      });
    }).observe(document.body, { childList: true, subtree: true });
  });
  const delays: number[] = [];
  for (let round = 1; round <= 4; round += 1) {
    // The second statement reads the clock when the first one's transaction has been committed.
    const [id = '', committed = ''] = run(
      "insert into report_workspace.access_log (report_id, user_id) values (2, 'alice') returning access_id",
      'select extract(epoch from clock_timestamp()) * 1000',
    ).split('\n');
    await watching.waitForFunction((one) => one in (window as never as { seen: object }).seen, id);
    const seen = await watching.evaluate((one) => (window as never as { seen: Record<string, number> }).seen[one], id);
    delays.push(Math.round((seen ?? Infinity) - Number(committed)));
    assert.match(await watching.title(), new RegExp(`^\\(${round}\\) `));
  }
  console.log(`# on the screen ${delays.join(', ')} ms after the commit`);
  assert.ok(Math.max(...delays) < 3000, `${delays.join(', ')} ms`);
});

test('a key that the database has made expires, and shows only what it is for', { skip }, async () => {
  const { page: late } = await stage.open('access?index=workspace_access', { key: makeKey('-1 minute') });
  assert.equal(await late.locator('.failure').getAttribute('data-kind'), 'expired');
  const { page: narrow } = await stage.open('access?index=workspace_access', { key: makeKey('1 hour', 'report:1') });
  await settled(narrow);
  assert.equal(await figure(narrow, 'Accesses'), en(count('report_workspace.access_log where report_id = 1')));
});
