/** Serves a folder on the loopback interface: `npm run serve -- --port 8080 --root dist --config my.json`. */

import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { join, normalize } from 'node:path';
import { parseArgs } from 'node:util';

import { allow } from './allow.mjs';

const TYPES = {
  html: 'text/html; charset=utf-8',
  js: 'text/javascript; charset=utf-8',
  css: 'text/css; charset=utf-8',
  svg: 'image/svg+xml',
  json: 'application/json',
  map: 'application/json',
  txt: 'text/plain; charset=utf-8',
};

/**
 * A server of the folder. `config` makes what is served as config.json; `hosts` may be asked by the page, besides those it
 * was built for.
 */
export function servePage(root, config, hosts = []) {
  const file = async (path) => {
    if (path === '/config.json' && config !== undefined) {
      return config();
    }
    const body = await readFile(join(root, path));
    return path === '/index.html' ? allow(body.toString(), hosts) : body;
  };
  return createServer(async (request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url, 'http://page').pathname)).replace(
      /\/$/,
      '/index.html',
    );
    try {
      const body = await file(path);
      const type = TYPES[path.split('.').pop()] ?? 'application/octet-stream';
      response.writeHead(200, {
        'content-type': type,
        'cache-control': 'no-cache',
        'x-content-type-options': 'nosniff',
      });
      response.end(body);
    } catch {
      response.writeHead(404, { 'content-type': 'text/plain' });
      response.end('not here');
    }
  });
}

if (import.meta.url === `file://${process.argv[1]}`) {
  const { values } = parseArgs({
    options: {
      port: { type: 'string', default: '8080' },
      root: { type: 'string', default: 'dist' },
      config: { type: 'string' },
      host: { type: 'string', multiple: true, default: [] },
      attached: { type: 'boolean', default: false },
    },
  });
  const config = values.config === undefined ? undefined : () => readFile(values.config);
  servePage(values.root, config, values.host).listen(Number(values.port), '127.0.0.1', function () {
    console.log(`http://127.0.0.1:${this.address().port}/`);
  });
  if (values.attached) {
    // Whoever started it has ended.
    process.stdin.on('end', () => process.exit()).resume();
  }
}
