/** Records of all examples as the extension writes them, the same each time for the same moment. */

import { pseudonym, random } from './fixture';
import { buckets, change, DAY, pick, skewed, type Record_, type Records } from './record';
import { accesses, edits, permissions, recommendations, reports } from './workspace_records';

/** All indices of the examples, at a moment. */
export function makeRecords(now: number): Records {
  return {
    workspace_access: accesses(now),
    workspace_edit: edits(now),
    workspace_report: reports(now),
    workspace_permission: permissions(now),
    workspace_recommendation: recommendations(now),
    analytics_event: events(now),
    scraped_raw_post: posts(now),
    scraped_raw_profile: profiles(now),
    scan_observation: observations(now),
    document_changes: packages(now),
  };
}

/** More users in the last hour than Algolia lists values. */
function events(now: number): Record_[] {
  const next = random('event');
  return Array.from({ length: 6000 }, (_, id) => {
    const at = Math.round((now - next() * 7200) * 1000) / 1000;
    return {
      objectID: String(id + 1),
      user_id: pseudonym(`visitor ${Math.floor(next() ** 1.5 * 3000)}`),
      event: next() < 0.3 ? 'click' : 'impression',
      ...buckets('at', at),
    };
  });
}

function posts(now: number): Record_[] {
  const next = random('post');
  const [list, state] = [[] as Record_[], new Map<string, Record<string, unknown>>()];
  const words = ['a boat', 'hello', 'the harbour', 'wind from the west', 'new sails', '=SUM(A1)', '<b>bold</b>'];
  for (let step = 0; step < 900; step += 1) {
    const [source, post_id] = [pick(next, ['forum', 'photos', 'news']), `f${Math.floor(next() * 120)}`];
    const [row, at] = [`${source}:${post_id}`, Math.round((now - 30 * DAY + (step * 30 * DAY) / 900) * 1000) / 1000];
    const [before, by] = [state.get(row), pseudonym(`${source} scraper`)];
    if (!before) {
      const values = {
        source,
        post_id,
        author: pseudonym(`author ${Math.floor(next() * 40)}`),
        body: pick(next, words),
        likes: Math.floor(next() * 5),
      };
      state.set(row, values);
      list.push(change({ op: 'insert', row, values, by, at }));
    } else if (next() < 0.1) {
      state.delete(row);
      list.push(change({ op: 'delete', row, values: before, by, at }));
    } else {
      const values = {
        ...before,
        likes: Number(before['likes']) + 1 + Math.floor(next() * 9),
        ...(next() < 0.2 ? { body: `${pick(next, words)}, again` } : {}),
      };
      const previous = Object.fromEntries(
        Object.entries(before).filter(([name, value]) => value !== (values as Record<string, unknown>)[name]),
      );
      state.set(row, values);
      list.push(change({ op: 'update', row, values, previous, by, at }));
    }
  }
  return list;
}

function profiles(now: number): Record_[] {
  return [0, 1, 2].map((place) => {
    const values = { source: 'forum', handle: pseudonym(`author ${place}`), followers: 10 + place, bio: 'sails' };
    return change({
      op: 'insert',
      row: `forum:${values.handle}`,
      values,
      by: pseudonym('forum scraper'),
      at: now - (place + 1) * DAY,
    });
  });
}

function observations(now: number): Record_[] {
  const next = random('scan');
  const ports: [number, string][] = [
    [22, 'ssh'],
    [443, 'https'],
    [80, 'http'],
    [5432, 'postgresql'],
  ];
  return Array.from({ length: 1200 }, (_, id) => {
    const [port, service] = ports[id % 4] as [number, string];
    const ip = `192.0.${2 + Math.floor(id / 1000)}.${Math.floor(id / 4) % 250}`;
    const state = skewed(next, ['open', 'closed', 'filtered']);
    return {
      objectID: `${ip}:${port}:${service}`,
      ip,
      port,
      service,
      state,
      ...(state === 'open' ? { banner: service.toUpperCase() } : {}),
      ...buckets('seen_at', Math.floor(now - next() * 10 * DAY)),
    };
  });
}

function packages(now: number): Record_[] {
  const next = random('package');
  return Array.from({ length: 1500 }, (_, id) => ({
    objectID: String(id + 1),
    package: `lib${skewed(next, ['ssl', 'xml2', 'curl', 'pq', 'zstd', 'icu'])}`,
    version: `1.${id}`,
    author: pseudonym(`author ${Math.floor(next() * 60)}`),
    email: pseudonym(`mail ${Math.floor(next() * 60)}`),
    urgency: skewed(next, ['medium', 'low', 'high', 'critical']),
    ...buckets('changed_at', Math.floor(now - next() * 1500 * DAY)),
  }));
}
