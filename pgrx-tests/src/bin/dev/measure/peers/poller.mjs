// A polling service as one writes it: deletes the newest thousand, sends them with Algolia's client, and commits.

import { backend, connect, send, serve } from './service.mjs';

const TAKE = {
  name: 'take',
  text: `DELETE FROM polled_queue
         WHERE ctid = ANY (ARRAY(SELECT ctid FROM polled_queue ORDER BY id DESC LIMIT 1000 FOR UPDATE SKIP LOCKED))
         RETURNING record`,
  rowMode: 'array',
};

const db = await connect();
await serve([await backend(db)], async () => {
  let rows = 0;
  for (;;) {
    await db.query('BEGIN');
    const taken = (await db.query(TAKE)).rows;
    if (taken.length > 0) await send(taken.map(([record]) => JSON.parse(record)));
    await db.query('COMMIT');
    if (taken.length === 0) return [rows, []];
    rows += taken.length;
  }
});
await db.end();
