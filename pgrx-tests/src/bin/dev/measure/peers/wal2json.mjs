// A service behind logical decoding: pg_recvlogical streams what wal2json makes of an outbox table, a line a row, and a
// thousand at a time are sent with Algolia's client.

import { spawn } from 'node:child_process';
import { once } from 'node:events';

import { connect, options, send, serve } from './service.mjs';

const RECEIVE = [
  ...['--dbname', options.connection, '--slot', 'measured', '--start', '--no-loop', '--file', '-'],
  ...['format-version=2', 'include-transaction=false', 'include-types=false', 'add-tables=public.outbox']
    .flatMap((option) => ['--option', option]),
];

const db = await connect();
let receiver;
const work = async (wanted) => {
  receiver = spawn(options.receiver, RECEIVE, { stdio: ['ignore', 'pipe', 'inherit'] });
  receiver.stdout.setEncoding('utf8');
  const helpers = async () => {
    const slot = await db.query("SELECT active_pid FROM pg_replication_slots WHERE slot_name = 'measured'");
    return [receiver.pid, slot.rows[0].active_pid];
  };
  let [rows, batch, rest] = [0, [], ''];
  for await (const chunk of receiver.stdout.iterator({ destroyOnReturn: false })) {
    const lines = (rest + chunk).split('\n');
    rest = lines.pop();
    for (const line of lines) {
      batch.push(JSON.parse(JSON.parse(line).columns[1].value));
      if (batch.length === 1000 || rows + batch.length === wanted) {
        await send(batch);
        rows += batch.length;
        batch = [];
      }
    }
    if (rows >= wanted) return [rows, await helpers()];
  }
  throw new Error('pg_recvlogical has ended');
};
await serve([], work, async () => {
  const gone = once(receiver, 'exit');
  receiver.kill();
  await gone;
});
await db.end();
