/**
 * Checks and tests the page: format, types, unit tests, then the page in a real browser against the stand-in for Algolia.
 *
 * CHROMIUM names the browser, STANDIN the stand-in's program; without it, cargo builds it. The arguments are words: a test
 * runs if its name contains one of them.
 */

import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { run } from 'node:test';
import { build } from 'esbuild';

import { buildPage } from '../build.mjs';
import { Report } from './report.mjs';

const folder = new URL('..', import.meta.url).pathname;
const out = `${folder}.test`;
const words = process.argv.slice(2).filter((word) => !word.startsWith('-'));
const report = new Report();

/** A check that is a program: what it prints is why it failed. */
function check(name, args) {
  if (words.length > 0 && !words.some((word) => name.includes(word))) {
    report.filtered += 1;
    return;
  }
  const started = Date.now();
  const { status, stdout, stderr, error } = spawnSync(process.execPath, args, { cwd: folder, encoding: 'utf8' });
  const problem = error?.message ?? (status === 0 ? undefined : stdout + stderr);
  report.add(name, { error: problem, milliseconds: Date.now() - started });
}

function findStandin() {
  if (process.env.STANDIN) {
    return process.env.STANDIN;
  }
  const args = ['build', '--quiet', '-p', 'audit_algolia_tests', '--bin', 'standin'];
  if (spawnSync('cargo', args, { cwd: `${folder}..`, stdio: 'inherit' }).status !== 0) {
    console.error('cargo could not build the stand-in');
    process.exit(1);
  }
  return `${process.env.CARGO_TARGET_DIR ?? `${folder}../target`}/debug/standin`;
}

/** The files that have a test with one of the words in its name: the others need not start a browser. */
async function wanted(files) {
  const namesIn = async (file) =>
    [...(await readFile(`${folder}test/${file}`, 'utf8')).matchAll(/\btest\(\s*(['"`])(.*?)\1/g)].map(
      ([, , name]) => name,
    );
  const named = await Promise.all(files.map(async (file) => [file, await namesIn(file)]));
  const fits = (name) => words.length === 0 || words.some((word) => name.includes(word));
  report.filtered += named.flatMap(([, names]) => (names.some(fits) ? [] : names)).length;
  return named.filter(([, names]) => names.some(fits)).map(([file]) => file);
}

/** Files that measure or make something, and the variables that ask for it. */
const ON_DEMAND = {
  'browser/million.ts': ['MILLION'],
  'browser/screenshots.ts': ['SCREENSHOTS', 'SCREENSHOTS_DOCS'],
};
const asked = Object.keys(ON_DEMAND).filter((file) => ON_DEMAND[file].some((name) => process.env[name]));
const files = (await readdir(`${folder}test`, { recursive: true }))
  .filter((file) => file.endsWith('.test.ts'))
  .concat(asked)
  .sort();
const tests = await wanted(files);
const isForBrowser = (file) => file.startsWith('browser/');

check('format', ['node_modules/prettier/bin/prettier.cjs', '--check', '--log-level', 'warn', '.']);
check('types', ['node_modules/typescript/bin/tsc']);
if (tests.length > 0) {
  const browser =
    process.env.CHROMIUM ?? ['/usr/bin/chromium', '/usr/bin/google-chrome'].find((path) => existsSync(path)) ?? '';
  const isBrowsing = browser !== '' && tests.some(isForBrowser);
  if (browser === '' && tests.some(isForBrowser)) {
    console.log(
      'skipped: the tests in a browser, for there is no chromium (apt-get install chromium, or name one in CHROMIUM)',
    );
  }
  await rm(out, { recursive: true, force: true });
  await mkdir(out, { recursive: true });
  await build({
    absWorkingDir: folder,
    entryPoints: tests.map((file) => `test/${file}`),
    outdir: out,
    outbase: 'test',
    outExtension: { '.js': '.mjs' },
    bundle: true,
    platform: 'node',
    format: 'esm',
    packages: 'external',
    external: ['*/serve.mjs'],
    target: 'node18',
    sourcemap: 'inline',
  });
  if (isBrowsing) {
    await buildPage(`${out}/page`);
  }
  // What the tests' own processes find in their environment.
  Object.assign(process.env, {
    WEB_FOLDER: folder.replace(/\/$/, ''),
    PAGE_FOLDER: `${out}/page`,
    CHROMIUM: browser,
    STANDIN: isBrowsing ? findStandin() : '',
    NODE_OPTIONS: `${process.env.NODE_OPTIONS ?? ''} --enable-source-maps`,
  });
  const escaped = words.map((word) => new RegExp(word.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')));
  await report.follow(
    run({
      files: tests.map((file) => `${out}/${file.replace(/\.ts$/, '.mjs')}`),
      concurrency: 1,
      ...(words.length > 0 ? { testNamePatterns: escaped } : {}),
    }),
  );
}
process.exitCode = report.end() ? 0 : 1;
