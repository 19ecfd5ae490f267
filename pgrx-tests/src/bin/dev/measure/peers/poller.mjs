// A polling service as one writes it: claims the newest thousand, sends them with Algolia's client, deletes them.

import { backend, connect, send, serve } from './service.mjs';

const CLAIM = {
  name: 'claim',
  text: 'SELECT id, record FROM polled_queue ORDER BY id DESC LIMIT 1000 FOR UPDATE SKIP LOCKED',
  rowMode: 'array',
};
const SETTLE = { name: 'settle', text: 'DELETE FROM polled_queue WHERE id = ANY($1)' };

const db = await connect();
await serve([await backend(db)], async () => {
  let rows = 0;
  for (;;) {
    await db.query('BEGIN');
    const claimed = (await db.query(CLAIM)).rows;
    if (claimed.length > 0) {
      await send(claimed.map(([, record]) => JSON.parse(record)));
      await db.query({ ...SETTLE, values: [claimed.map(([id]) => id)] });
    }
    await db.query('COMMIT');
    if (claimed.length === 0) return [rows, []];
    rows += claimed.length;
  }
});
await db.end();
