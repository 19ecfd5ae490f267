/**
 * Checks and tests the page: format, types, unit tests, then the page in a real browser against the stand-in for Algolia.
 *
 * STANDIN names the stand-in's program; without it, cargo builds it. CHROMIUM names the browser. Arguments are patterns of
 * test names.
 */

import { existsSync } from 'node:fs';
import { mkdir, rm, readdir } from 'node:fs/promises';
import { spawnSync } from 'node:child_process';
import { build } from 'esbuild';

const folder = new URL('..', import.meta.url).pathname;
const out = `${folder}.test`;

function run(program, args, options = {}) {
  const { status, error } = spawnSync(program, args, { cwd: folder, stdio: 'inherit', ...options });
  if (error || status !== 0) {
    console.error(`${program} ${args.join(' ')} failed${error ? `: ${error.message}` : ''}`);
    process.exit(status || 1);
  }
}

function findStandin() {
  if (process.env.STANDIN) {
    return process.env.STANDIN;
  }
  run('cargo', ['build', '--quiet', '-p', 'audit_algolia_tests', '--bin', 'standin'], { cwd: `${folder}..` });
  return `${process.env.CARGO_TARGET_DIR ?? `${folder}../target`}/debug/standin`;
}

const browser =
  process.env.CHROMIUM ?? ['/usr/bin/chromium', '/usr/bin/google-chrome'].find((path) => existsSync(path)) ?? '';

run(process.execPath, ['node_modules/prettier/bin/prettier.cjs', '--check', '--log-level', 'warn', '.']);
run(process.execPath, ['node_modules/typescript/bin/tsc']);
await rm(out, { recursive: true, force: true });
await mkdir(out, { recursive: true });
const tests = (await readdir(`${folder}test`, { recursive: true })).filter((file) => file.endsWith('.test.ts'));
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
  external: ['*/build.mjs', '*/serve.mjs'],
  target: 'node20',
  sourcemap: 'inline',
});
const names = process.argv.slice(2).map((pattern) => `--test-name-pattern=${pattern}`);
const built = tests.map((file) => `.test/${file.replace(/\.ts$/, '.mjs')}`).sort();
if (browser === '') {
  console.error('No chromium: the browser tests are skipped. apt-get install chromium, or name one in CHROMIUM.');
}
const env = {
  ...process.env,
  WEB_FOLDER: folder.replace(/\/$/, ''),
  CHROMIUM: browser,
  STANDIN: browser === '' ? '' : findStandin(),
};
run(process.execPath, ['--test', '--test-concurrency=1', '--enable-source-maps', ...names, ...built], { env });
