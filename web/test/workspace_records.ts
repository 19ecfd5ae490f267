/** The records of the report workspace. */

import { random, who } from './fixture';
import { buckets, change, DAY, moment, pick, skewed, type Record_ } from './record';

export function accesses(now: number): Record_[] {
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

export function edits(now: number): Record_[] {
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

export function reports(now: number): Record_[] {
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

export function recommendations(now: number): Record_[] {
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
