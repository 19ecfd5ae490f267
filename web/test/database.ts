/** The PostgreSQL behind the index, where there is one: libpq's variables name it. */

import { spawnSync } from 'node:child_process';

const { PSQL, ALGOLIA, SEARCH_KEY } = process.env;

/** Why there is nothing to compare with. */
export const noDatabase =
  PSQL && ALGOLIA && SEARCH_KEY ? false : 'cargo test -p audit_algolia_tests --test audit_page brings a database';

/** The stand-in that the database delivers to. */
export const algolia = ALGOLIA ?? '';

/** The rows of a query. */
export function rows<Row extends Record<string, unknown>>(query: string): Row[] {
  return JSON.parse(run(`select coalesce(json_agg(q), '[]') from (${query}) as q`)) as Row[];
}

/** The one value of a query. */
export function value<Value>(query: string): Value {
  return JSON.parse(run(`select to_json(q.v) from (${query}) as q (v)`)) as Value;
}

/** Statements, each in a transaction of its own; what they return, as psql prints it. */
export function run(...statements: string[]): string {
  const commands = statements.flatMap((statement) => ['-c', statement]);
  const { status, stdout, stderr } = spawnSync(
    PSQL as string,
    ['-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1', ...commands],
    { encoding: 'utf8', maxBuffer: 2 ** 28 },
  );
  if (status !== 0 || stderr !== '') {
    throw new Error(stderr || `psql ended with ${status}`);
  }
  return stdout.trim();
}

/** Waits until all that was committed has arrived. */
export function flush(): void {
  if (!value<boolean>("select audit_algolia.flush('60 s')")) {
    throw new Error('the queue is not empty');
  }
}

/** A key for the page, as whoever runs the database makes it. */
export function makeKey(validity = '1 hour', filters = ''): string {
  return value<string>(
    `select audit_algolia.secured_key('${SEARCH_KEY}', '${filters}', now() + interval '${validity}')`,
  );
}
