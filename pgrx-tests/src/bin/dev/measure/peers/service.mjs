// What the services in JavaScript share: Algolia's client with its connections kept alive, a database session, and the
// way in which they are started and timed. Argument: the options as JSON.

import { once } from 'node:events';

import { algoliasearch } from 'algoliasearch';
import pg from 'pg';

export const options = JSON.parse(process.argv[2]);

const client = algoliasearch(options.app, options.key, {
  hosts: [{ url: '127.0.0.1', port: options.port, protocol: 'http', accept: 'readWrite' }],
  ...(options.gzip && { compression: 'gzip' }),
});

export const send = (records) =>
  client.batch({
    indexName: 'polled',
    batchWriteParams: { requests: records.map((body) => ({ action: 'addObject', body })) },
  });

export async function connect() {
  const db = new pg.Client(options.connection);
  await db.connect();
  await db.query('SET synchronous_commit = off');
  return db;
}

export const backend = async (db) => (await db.query('SELECT pg_backend_pid() AS pid')).rows[0].pid;

// Works off a first lot, while which code is compiled and plans are made, prints the processes that work for it, waits
// for a line, works off the rows that are there then, and prints their number, seconds and what processes have come on
// top; ends with its input. After each lot there is something to `leave`, perhaps.
export async function serve(processes, work, leave = async () => {}) {
  await work(options.warm_up);
  await leave();
  console.log(processes.join(' '));
  await once(process.stdin, 'data');
  const started = performance.now();
  const [rows, helpers] = await work(options.rows);
  const seconds = (performance.now() - started) / 1000;
  console.log([rows, seconds, ...helpers].join(' '));
  await once(process.stdin, 'end');
  await leave();
}
