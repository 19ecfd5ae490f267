/** How long views take to their first answer over a million records: a measurement, made when MILLION asks for it. */

import { after, before, test } from 'node:test';

import type { PageConfig } from '../../src/config';
import { parseConfig } from '../../src/read_config';
import { exampleConfig, who } from '../fixture';
import { buckets } from '../record';
import { skip, Stage } from './stage';

const COUNT = Number(process.env['MILLION_RECORDS'] ?? 1_000_000);
const NOW = Math.floor(Date.now() / 1000);
const INDEX = 'workspace_access';
const ROUNDS = 5;

/** Every view that an index of accesses can have. */
function makeConfig(): PageConfig {
  const config = parseConfig(exampleConfig('report_workspace'));
  const [access] = config.views.access.filter(({ index }) => index === INDEX);
  return {
    ...config,
    indices: config.indices.filter(({ name }) => name === INDEX),
    views: { access: access ? [access] : [], editors: access ? [access] : [] },
  };
}

let stage: Stage;
before(async () => {
  if (skip) {
    return;
  }
  const config = makeConfig();
  stage = await Stage.start(config);
  await stage.fill({ [INDEX]: [] }, config.indices);
  for (let at = 0; at < COUNT; at += 10_000) {
    const part = Array.from({ length: Math.min(10_000, COUNT - at) }, (_, place) => {
      const id = at + place;
      return {
        objectID: String(id),
        report: id % 50,
        user: who(id % 10),
        action: id % 3 ? 'view' : 'print',
        authorized: id % 5000 !== 0,
        ...buckets('at', NOW - id * 5),
      };
    });
    await stage.add(INDEX, part);
  }
});
after(async () => {
  await stage?.stop();
});

/** From the request for the page to the answer on the screen, in a new tab with nothing in any cache. */
async function firstAnswer(place: string): Promise<number> {
  const { page } = await stage.open(place);
  const milliseconds = await page.evaluate(() => performance.now());
  await stage.closePages();
  return Math.round(milliseconds);
}

test('first answers over many records, in milliseconds', { skip }, async () => {
  for (const place of [
    'access',
    'peaks',
    'peaks?document=7',
    'editors',
    'activity?span=24h',
    'explore?group=action&time=month',
    'explore?group=user&time=day&range=90d',
  ]) {
    const times: number[] = [];
    for (let round = 0; round < ROUNDS; round += 1) {
      times.push(await firstAnswer(`${place}${place.includes('?') ? '&' : '?'}index=${INDEX}`));
    }
    console.log(`# ${COUNT.toLocaleString('en')} records, ${place}: ${times.join(', ')} ms`);
  }
});
