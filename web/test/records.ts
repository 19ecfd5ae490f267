/** Records as the extension writes them, the same each time for the same moment. */

import { pseudonym, random, who } from './fixture';

export type Record_ = { objectID: string } & Record<string, unknown>;
export type Records = Record<string, Record_[]>;

const WEEKDAYS = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'];

export function buckets(name: string, seconds: number): Record<string, unknown> {
  const iso = new Date(seconds * 1000).toISOString();
  return {
    [name]: seconds,
    [`${name}_day`]: iso.slice(0, 10),
    [`${name}_hour`]: iso.slice(0, 13),
    [`${name}_weekday`]: WEEKDAYS[new Date(seconds * 1000).getUTCDay()],
    [`${name}_hour_of_day`]: iso.slice(11, 13),
  };
}

const DAY = 86_400;
const pick = <T>(next: () => number, list: T[]): T => list[Math.floor(next() * list.length)] as T;
/** More often the first ones. */
const skewed = <T>(next: () => number, list: T[]): T => list[Math.floor(next() ** 2 * list.length)] as T;

/** A moment in office hours, mostly. */
function moment(next: () => number, now: number, days: number): number {
  for (;;) {
    const seconds = Math.floor(now - next() * days * DAY);
    const [hour, weekday] = [new Date(seconds * 1000).getUTCHours(), new Date(seconds * 1000).getUTCDay()];
    const office = Math.exp(-((hour - 9.5) ** 2) / 6) + 0.8 * Math.exp(-((hour - 14.5) ** 2) / 5) + 0.04;
    if (next() < office * (weekday === 0 || weekday === 6 ? 0.12 : weekday === 2 ? 1 : 0.75)) {
      return seconds;
    }
  }
}

let number = 1_838_264_786_432_000n;
const changeNumber = () => (number += 1n).toString();

interface Change {
  op: string;
  row: string;
  values: Record<string, unknown>;
  previous?: Record<string, unknown>;
  by: string;
  at: number;
}

function change({ op, row, values, previous, by, at }: Change): Record_ {
  const changed = previous ? { changed: Object.keys(previous), previous } : {};
  return {
    objectID: `${row}@${changeNumber()}`,
    ...values,
    op,
    ...changed,
    changed_by: by,
    changed_at: at,
    transaction_id: Number(number % 100_000n),
  };
}

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

function accesses(now: number): Record_[] {
  const next = random('access');
  return Array.from({ length: 2400 }, (_, id) => {
    const report = skewed(next, [1, 2, 3, 4, 5, 6, 7, 8]);
    const action = skewed(next, ['view', 'download', 'print']);
    return {
      objectID: String(id + 1),
      report,
      user: who(Math.floor(next() ** 1.6 * 10)),
      action,
      authorized: next() > 0.006,
      ...buckets('at', moment(next, now, 80)),
    };
  });
}

function edits(now: number): Record_[] {
  const next = random('edit');
  return Array.from({ length: 420 }, (_, id) => ({
    objectID: String(id + 1),
    report: skewed(next, [1, 2, 3, 5, 8]),
    user: who(Math.floor(next() ** 2 * 7)),
    section: pick(next, ['outline', 'sales', 'costs', 'summary', 'ratings']),
    authorized: next() > 0.03,
    ...buckets('at', moment(next, now, 80)),
  }));
}

const TITLES = [
  'Quarterly figures',
  'Ratings of suppliers',
  'Travel costs',
  'Energy use',
  'Hiring plan',
  'Safety audit',
  'Market study',
  'Roadmap',
];

function reports(now: number): Record_[] {
  const list: Record_[] = [];
  TITLES.forEach((title, at) => {
    const report = at + 1;
    const base = {
      report,
      title: title.split(' ')[0],
      kind: at % 3 === 1 ? 'external' : 'editable',
      status: 'draft',
      author: who(at % 4),
    };
    const start = now - (78 - at * 4) * DAY;
    const put = (
      op: string,
      values: Record<string, unknown>,
      previous: Record<string, unknown> | undefined,
      by: number,
      days: number,
    ) =>
      list.push(
        change({
          op,
          row: String(report),
          values,
          by: who(by),
          at: start + days * DAY,
          ...(previous ? { previous } : {}),
        }),
      );
    put('insert', base, undefined, at % 4, 0);
    put('update', { ...base, title }, { title: base.title }, (at + 1) % 4, 3);
    put('update', { ...base, title, status: 'review' }, { status: 'draft' }, at % 4, 9.5);
    put(
      'update',
      { ...base, title, status: 'published', author: who((at + 2) % 5) },
      { status: 'review', author: base.author },
      0,
      20.25,
    );
    if (report === 6) {
      put('delete', { ...base, title, status: 'published' }, undefined, 0, 30);
    }
  });
  return list;
}

/** Each step is at so many days ago. Of report 1, everything that can happen does. */
export function permissions(now: number): Record_[] {
  const list: Record_[] = [];
  const state = new Map<string, string>();
  const put = (days: number, report: number, user: number, level: string | undefined, by = 0) => {
    const key = `${report}:${who(user)}`;
    const [before, at] = [state.get(key), Math.floor(now - days * DAY)];
    const values = { report, user: who(user), level: level ?? before };
    if (level === undefined) {
      list.push(change({ op: 'delete', row: key, values, by: who(by), at }));
      state.delete(key);
    } else if (before === undefined) {
      list.push(change({ op: 'insert', row: key, values, by: who(by), at }));
      state.set(key, level);
    } else {
      list.push(change({ op: 'update', row: key, values, previous: { level: before }, by: who(by), at }));
      state.set(key, level);
    }
  };
  // A row that a backfill found: nobody saw its insert.
  list.push({ objectID: `1:${who(4)}@0`, report: 1, user: who(4), level: 'read', op: 'insert' });
  state.set(`1:${who(4)}`, 'read');
  put(75, 1, 0, 'write');
  put(74.5, 1, 1, 'read');
  put(74, 1, 2, 'read');
  put(73, 1, 3, 'read');
  put(70, 1, 3, undefined);
  put(40, 1, 1, 'write');
  put(38, 1, 2, undefined, 1);
  put(30, 1, 4, 'write', 1);
  put(25, 1, 5, 'comment');
  put(18, 1, 3, 'read');
  put(12, 1, 5, 'read');
  put(9, 1, 5, undefined);
  put(5, 1, 5, 'write');
  for (let report = 2; report <= 8; report += 1) {
    put(70 - report, report, 0, 'write');
    put(65 - report, report, report % 5, 'read');
    put(20 - report, report, (report + 2) % 9, 'comment');
  }
  return list;
}

function recommendations(now: number): Record_[] {
  const next = random('recommendation');
  const posts = ['budget', 'holidays', 'audit', 'canteen', 'security', 'parking', 'onboarding'];
  const list: Record_[] = [];
  for (let id = 1; id <= 700; id += 1) {
    const [post, strategy, user] = [
      skewed(next, posts),
      pick(next, ['colleagues', 'popular', 'recent', 'editors’ choice']),
      who(Math.floor(next() * 10)),
    ];
    const at = moment(next, now - 2 * DAY, 60);
    const share = { colleagues: 0.62, popular: 0.31, recent: 0.22 }[strategy] ?? 0.45;
    list.push({ objectID: `recommended:${id}`, post, user, strategy, event: 'recommended', ...buckets('at', at) });
    if (next() < share) {
      list.push({
        objectID: `viewed:${id}`,
        post,
        user,
        strategy,
        event: 'viewed',
        ...buckets('at', at + Math.floor(next() * DAY)),
      });
    }
  }
  return list;
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
