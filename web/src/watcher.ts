/**
 * Watches for unauthorized accesses, whatever view is open. It asks for the newest ones every two seconds, so that one is
 * on the screen within three of its commit. An objectID that it has not seen before is new.
 */

import type { AccessView, Match } from './config';
import { is } from './filters';
import { MOST_HITS, type Hit, type Searcher } from './search';

export type WatchedView = AccessView & { unauthorized: Match };

export interface Alarm {
  view: WatchedView;
  hit: Hit;
  /** Unix seconds at which the page learned of it. */
  seenAt: number;
}

interface Found {
  view: WatchedView;
  hits: Hit[];
  count: number;
}

const EVERY = 2000;
const SLOWEST = 10_000;
/** Asked for at each look. If the count says that there are more new ones, all that Algolia shows are asked for. */
const NEWEST = 50;

export class Watcher {
  /** New ones since the page was opened, the newest first. */
  readonly alarms: Alarm[] = [];
  /** How many there are in the index, by view. */
  readonly counts = new Map<string, number>();
  error: unknown;
  /** When Algolia last answered, in Unix seconds. */
  answeredAt: number | undefined;
  private readonly seen = new Map<string, Set<string>>();
  private readonly unread = new Set<string>();
  private readonly listeners = new Set<(fresh: Alarm[]) => void>();
  private timer: ReturnType<typeof setTimeout> | undefined;
  private paused = false;
  private failures = 0;
  /** Ends the loops begun before the last pause. */
  private run = 0;

  readonly views: WatchedView[];

  constructor(
    private readonly searcher: Searcher,
    views: AccessView[],
    private readonly now: () => number,
  ) {
    this.views = views.filter((view): view is WatchedView => view.unauthorized !== undefined);
  }

  get unreadCount(): number {
    return this.unread.size;
  }

  get isPaused(): boolean {
    return this.paused;
  }

  isNew(index: string, id: string): boolean {
    return this.unread.has(`${index}/${id}`);
  }

  /** Told after each look, with what was new in it. */
  listen(listener: (fresh: Alarm[]) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  start(): void {
    if (this.views.length > 0) {
      void this.loop(this.run);
    }
  }

  stop(): void {
    this.run += 1;
    clearTimeout(this.timer);
  }

  pause(paused: boolean): void {
    this.stop();
    this.paused = paused;
    if (!paused) {
      this.start();
    }
    this.tell([]);
  }

  /** All that is new has been read. */
  markRead(): void {
    this.unread.clear();
    this.tell([]);
  }

  private async loop(run: number): Promise<void> {
    const started = Date.now();
    let fresh: Alarm[] = [];
    try {
      fresh = await this.look();
      this.error = undefined;
      this.failures = 0;
      this.answeredAt = this.now();
    } catch (error) {
      this.error = error;
      this.failures += 1;
    }
    if (run === this.run) {
      // From start to start: a slow answer does not make the next one later. Who refuses is asked less often.
      const pause = Math.min(SLOWEST, EVERY * 2 ** this.failures);
      this.timer = setTimeout(() => void this.loop(run), Math.max(200, pause - (Date.now() - started)));
      this.tell(fresh);
    }
  }

  private async look(): Promise<Alarm[]> {
    const isFirst = this.seen.size === 0;
    const found = await this.ask(isFirst ? MOST_HITS : NEWEST);
    const isShort = found.some(({ view, hits, count }) => {
      const known = this.seen.get(view.index);
      const unseen = hits.filter((hit) => !known?.has(hit.objectID)).length;
      return !isFirst && count - (this.counts.get(view.index) ?? 0) > unseen;
    });
    return this.compare(isShort ? await this.ask(MOST_HITS) : found);
  }

  private compare(found: Found[]): Alarm[] {
    return found.flatMap(({ view, hits, count }) => {
      const known = this.seen.get(view.index);
      this.counts.set(view.index, count);
      if (!known) {
        // What was there before the page was opened is no news.
        this.seen.set(view.index, new Set(hits.map((hit) => hit.objectID)));
        return [];
      }
      return hits.filter((hit) => !known.has(hit.objectID)).map((hit) => this.raise(view, hit, known));
    });
  }

  private raise(view: WatchedView, hit: Hit, known: Set<string>): Alarm {
    known.add(hit.objectID);
    this.unread.add(`${view.index}/${hit.objectID}`);
    const alarm = { view, hit, seenAt: this.now() };
    this.alarms.unshift(alarm);
    return alarm;
  }

  private async ask(hitsPerPage: number): Promise<Found[]> {
    const answers = await this.searcher.ask(
      this.views.map(({ index, unauthorized }) => ({
        index,
        filters: is(unauthorized.attribute, unauthorized.value),
        hitsPerPage,
      })),
    );
    return this.views.map((view, at) => ({ view, hits: answers[at]?.hits ?? [], count: answers[at]?.count ?? 0 }));
  }

  private tell(fresh: Alarm[]): void {
    this.listeners.forEach((listener) => listener(fresh));
  }
}
