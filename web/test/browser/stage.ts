/** A browser, the page, and the stand-in for Algolia with records in it. */

import { spawn, type ChildProcess } from 'node:child_process';
import type { AddressInfo } from 'node:net';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';
import assert from 'node:assert/strict';

import { chromium, type Browser, type BrowserContextOptions, type Page, type Request } from 'playwright-core';

import type { IndexConfig, PageConfig } from '../../src/config';
import { settingsOf } from '../fixture';
import type { Records } from '../record';

export const APP = 'STANDIN';
export const ADMIN = 'the-admin-key-of-the-tests';
export const SEARCH = 'the-search-key-of-the-tests';

export const skip = process.env['CHROMIUM'] ? false : 'there is no chromium';

export interface Opened {
  page: Page;
  requests: Request[];
  problems: string[];
}

export class Stage {
  readonly opened: Opened[] = [];
  /** The stand-in's address over TLS, whose certificate no browser knows. */
  https = '';

  private constructor(
    readonly algolia: string,
    readonly url: string,
    readonly browser: Browser,
    private readonly end: () => Promise<void>,
    readonly setConfig: (config: PageConfig | string | undefined) => void,
  ) {}

  /** A page over a stand-in of its own. */
  static async start(config: PageConfig | undefined, hosts?: string[]): Promise<Stage> {
    const standin = spawn(process.env['STANDIN'] as string, [
      '--detached',
      '--https',
      '--key',
      ADMIN,
      '--key',
      `${SEARCH}:search`,
    ]);
    const [algolia = '', https = ''] = await firstLines(standin, 2);
    const stage = await Stage.over(algolia, config, hosts ?? [algolia], () => standin.kill());
    stage.https = https;
    return stage;
  }

  /** A page over what others have started. */
  static async over(
    algolia: string,
    config: PageConfig | undefined,
    hosts = [algolia],
    stop: () => void = () => undefined,
  ): Promise<Stage> {
    const folder = process.env['WEB_FOLDER'] as string;
    const { servePage } = (await import(pathToFileURL(`${folder}/serve.mjs`).href)) as {
      servePage: (root: string, config: () => string, hosts: string[]) => import('node:http').Server;
    };
    let served: PageConfig | string | undefined = config;
    const makeConfig = () => {
      if (served === undefined) {
        throw new Error('no configuration');
      }
      return typeof served === 'string' ? served : JSON.stringify(served);
    };
    const server = servePage(process.env['PAGE_FOLDER'] as string, makeConfig, hosts);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
    const browser = await chromium.launch({
      executablePath: process.env['CHROMIUM'] as string,
      args: [
        '--no-sandbox',
        '--disable-gpu',
        '--disable-quic',
        '--no-first-run',
        '--disable-background-networking',
        '--disable-component-update',
        '--disable-sync',
      ],
    });
    const end = async () => {
      await browser.close();
      server.closeAllConnections();
      server.close();
      stop();
    };
    return new Stage(algolia, url, browser, end, (next) => (served = next));
  }

  /** Fills indices as the extension does: settings, then records in batches. */
  async fill(records: Records, configs: IndexConfig[]): Promise<void> {
    for (const [index, list] of Object.entries(records)) {
      const config = configs.find(({ name }) => name === index);
      if (config) {
        await this.send('PUT', `/1/indexes/${index}/settings`, settingsOf(config));
      }
      for (let at = 0; at < list.length; at += 1000) {
        await this.add(index, list.slice(at, at + 1000));
      }
    }
  }

  async add(index: string, records: object[]): Promise<void> {
    await this.send('POST', `/1/indexes/${index}/batch`, {
      requests: records.map((body) => ({ action: 'addObject', body })),
    });
  }

  private async send(method: string, path: string, body: unknown): Promise<void> {
    const headers = { 'x-algolia-application-id': APP, 'x-algolia-api-key': ADMIN, 'content-type': 'application/json' };
    const response = await fetch(this.algolia + path, { method, headers, body: JSON.stringify(body) });
    assert.ok(response.ok, `${method} ${path}: ${response.status} ${await response.text()}`);
  }

  /** A new tab of a new person. */
  async open(
    place: string,
    options: { key?: string; host?: string; browser?: BrowserContextOptions; wait?: boolean; clock?: boolean } = {},
  ): Promise<Opened> {
    const context = await this.browser.newContext({
      viewport: { width: 1280, height: 900 },
      timezoneId: 'America/New_York',
      ...options.browser,
    });
    const page = await context.newPage();
    if (options.clock) {
      await page.clock.install();
    }
    const opened: Opened = { page, requests: [], problems: [] };
    page.on('request', (request) => opened.requests.push(request));
    page.on('pageerror', (error) => opened.problems.push(`error: ${error.message}`));
    page.on('console', (message) => {
      if (/content security policy/i.test(message.text())) {
        opened.problems.push(message.text());
      }
    });
    // A machine may have other work: what is slow is no failure, but where a test says so.
    page.setDefaultTimeout(120_000);
    this.opened.push(opened);
    const params = new URLSearchParams({
      app: APP,
      host: options.host ?? this.algolia,
      ...(options.key === '' ? {} : { key: options.key ?? SEARCH }),
    });
    const [path = '', query = ''] = place.split('?');
    await page.goto(`${this.url}#/${path}?${query}&${params}`);
    if (options.wait !== false) {
      await settled(page);
    }
    return opened;
  }

  /** Closes the tabs; anything that broke in one of them fails. */
  async closePages(): Promise<void> {
    const all = this.opened.splice(0);
    for (const { page } of all) {
      await page.context().close();
    }
    assert.deepEqual(
      all.flatMap(({ problems }) => problems),
      [],
    );
  }

  stop(): Promise<void> {
    return this.end();
  }
}

/** Resolves when the view shows an answer, or a failure after which it does not ask again by itself. */
export async function settled(page: Page): Promise<void> {
  const final = '.foot, .failure:not([data-kind="unreachable"], [data-kind="busy"])';
  await page.waitForFunction((wanted) => {
    const result = document.querySelector('.result');
    return result !== null && result.getAttribute('aria-busy') !== 'true' && result.querySelector(wanted) !== null;
  }, final);
}

/** Follows a link within the page, and waits for the answer. */
export async function go(page: Page, place: string): Promise<void> {
  await page.evaluate((hash) => {
    document.querySelector('.result')?.replaceChildren();
    location.hash = hash;
  }, `#/${place}`);
  await page.waitForFunction(
    (view) => document.querySelector('nav [aria-current]')?.getAttribute('href')?.includes(`#/${view}`),
    place.split('?')[0] ?? '',
  );
  await settled(page);
}

/** Numbers as the page writes them. */
export const en = (number: number) => number.toLocaleString('en');
export const share = (part: number, whole: number) =>
  part === 0 || part === whole ? `${(100 * part) / whole} %` : `${((100 * part) / whole).toFixed(1)} %`;

/** What a figure says. */
export async function figure(page: Page, name: string): Promise<string> {
  return (await page.locator(`[data-figure="${name}"]`).first().textContent()) ?? '';
}

/** The texts of a table's rows, by its caption. A pseudonym stands for whoever is shown. */
export async function rows(page: Page, caption: string): Promise<string[][]> {
  return page
    .locator('table', { has: page.locator('caption', { hasText: caption }) })
    .first()
    .locator('tbody tr')
    .evaluateAll((list) =>
      list.map((row) =>
        [...row.children].map((cell) => {
          const someone = cell.querySelector('[data-value]');
          return someone && cell.querySelectorAll('[data-value]').length === 1
            ? (someone.getAttribute('data-value') ?? '')
            : (cell.textContent ?? '').trim();
        }),
      ),
    );
}

function firstLines(process_: ChildProcess, count: number): Promise<string[]> {
  return new Promise((resolve, reject) => {
    const lines: string[] = [];
    createInterface({ input: process_.stdout as NodeJS.ReadableStream }).on('line', (line) => {
      if (lines.push(line) === count) {
        resolve(lines);
      }
    });
    process_.once('error', reject);
    process_.once('exit', (code) => reject(new Error(`the stand-in ended: ${code}`)));
  });
}
