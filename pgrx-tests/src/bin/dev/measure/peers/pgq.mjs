// A consumer of PgQ: takes batch after batch, sends the events with Algolia's client, and finishes the batch.

import { backend, connect, send, serve } from './service.mjs';

const NEXT = { name: 'next', text: "SELECT pgq.next_batch('measured', 'algolia')", rowMode: 'array' };
const EVENTS = { name: 'events', text: 'SELECT ev_data FROM pgq.get_batch_events($1)', rowMode: 'array' };
const FINISH = { name: 'finish', text: 'SELECT pgq.finish_batch($1)' };

const db = await connect();
await serve([await backend(db)], async () => {
  let rows = 0;
  for (;;) {
    const [[batch]] = (await db.query(NEXT)).rows;
    if (batch === null) return [rows, []];
    const events = (await db.query({ ...EVENTS, values: [batch] })).rows;
    for (let at = 0; at < events.length; at += 1000) {
      await send(events.slice(at, at + 1000).map(([data]) => JSON.parse(data)));
    }
    await db.query({ ...FINISH, values: [batch] });
    rows += events.length;
  }
});
await db.end();
