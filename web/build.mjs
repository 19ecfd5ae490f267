/**
 * Builds the page into dist/. `--host URL` (more than once, if need be) allows a host beside Algolia's own in the content
 * security policy; `--out FOLDER` writes elsewhere.
 */

import { cp, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { build } from 'esbuild';

import { allow } from './allow.mjs';

const folder = new URL('.', import.meta.url);

/** Writes the page, for these hosts, into `out`. */
export async function buildPage(out, hosts = []) {
  await rm(out, { recursive: true, force: true });
  await mkdir(out, { recursive: true });
  await writeFile(`${out}/index.html`, allow(await readFile(new URL('src/index.html', folder), 'utf8'), hosts));
  await cp(new URL('src/icon.svg', folder), `${out}/icon.svg`);
  await build({
    absWorkingDir: folder.pathname,
    entryPoints: { app: 'src/main.ts' },
    outdir: out,
    bundle: true,
    splitting: true,
    format: 'esm',
    target: 'es2022',
    minify: true,
    sourcemap: 'linked',
    define: { 'process.env.NODE_ENV': '"production"', __DEV__: 'false' },
    legalComments: 'linked',
  });
  await build({
    absWorkingDir: folder.pathname,
    entryPoints: { app: 'src/app.css' },
    outdir: out,
    bundle: true,
    minify: true,
  });
}

if (import.meta.url === `file://${process.argv[1]}`) {
  const { values } = parseArgs({
    options: { host: { type: 'string', multiple: true, default: [] }, out: { type: 'string', default: 'dist' } },
  });
  const out = new URL(`${values.out}/`, `file://${process.cwd()}/`).pathname.slice(0, -1);
  await buildPage(out, values.host);
  console.log(`the page is in ${out}`);
}
