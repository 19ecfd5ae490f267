/** The page around the views: it opens them, tells what they wait for, and shows what went wrong. */

import type { Context, OpenView, Shown, Table, View } from './context';
import { fragment, h, plural } from './dom';
import { explain, type Failure } from './failure';
import { writeCsv } from './csv';
import { originsOf } from './connection';
import { readable } from './time';
import { button } from './ui/controls';

export class Shell {
  readonly main = h('main', { id: 'main', tabindex: -1 });
  private readonly status = h('p', { class: 'sr', role: 'status' });
  private view: View | undefined;
  private open: OpenView | undefined;
  private result = h('div', { class: 'result' });
  private asked = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private blocked = false;

  constructor(
    private readonly context: Context,
    private readonly disconnect: () => void,
  ) {
    document.addEventListener('securitypolicyviolation', (event) => {
      this.blocked ||= event.effectiveDirective === 'connect-src';
    });
    window.addEventListener('online', () => this.reload());
  }

  get title(): string {
    return this.view?.title ?? '';
  }

  async show(view: View): Promise<void> {
    this.open?.close?.();
    clearTimeout(this.timer);
    this.asked += 1;
    const turn = this.asked;
    [this.view, this.open] = [view, undefined];
    this.result = h('div', { class: 'result' });
    const controls = h('form', {
      class: 'controls',
      'aria-label': `What ${view.title} shows`,
      onsubmit: (event: Event) => event.preventDefault(),
    });
    const body = h('div', { class: 'body' }, this.result);
    this.main.replaceChildren(
      h('div', { class: 'view-head' }, h('h1', null, view.title), h('p', { class: 'question' }, view.question)),
      controls,
      body,
      this.status,
    );
    try {
      const open = await view.open(this.context);
      if (turn !== this.asked) {
        open.close?.();
        return;
      }
      this.open = open;
      controls.append(open.controls);
      controls.hidden = controls.childNodes.length === 0;
      if (open.aside) {
        body.classList.add('with-aside');
        body.prepend(h('aside', { 'aria-label': 'Facets' }, open.aside));
      }
      await this.load();
    } catch (error) {
      if (turn === this.asked) {
        await this.fail(error, () => void this.show(view));
      }
    }
  }

  /** Asks again. What is shown stays until the answer is there. */
  reload(): void {
    void this.load();
  }

  private async load(): Promise<void> {
    const { open } = this;
    if (!open) {
      return;
    }
    clearTimeout(this.timer);
    this.asked += 1;
    const turn = this.asked;
    this.result.setAttribute('aria-busy', 'true');
    // A short wait shows nothing: flicker is worse.
    const waiting = setTimeout(() => {
      this.result.classList.add('waiting');
      if (this.result.childNodes.length === 0) {
        this.result.append(h('p', { class: 'loading' }, 'Asking Algolia…'));
      }
    }, 200);
    try {
      const shown = await open.load();
      if (turn === this.asked) {
        this.put(shown);
      }
    } catch (error) {
      if (turn === this.asked) {
        await this.fail(error, () => this.reload());
      }
    } finally {
      clearTimeout(waiting);
      if (turn === this.asked) {
        this.result.classList.remove('waiting');
        this.result.removeAttribute('aria-busy');
        this.again();
      }
    }
  }

  private again(): void {
    const seconds = this.open?.every;
    if (seconds) {
      this.timer = setTimeout(() => (document.hidden || this.isInUse() ? this.again() : this.reload()), seconds * 1000);
    }
  }

  /** Somebody reads or works in the results: they do not move on their own then. */
  private isInUse(): boolean {
    const selected = window.getSelection();
    const marks = selected !== null && !selected.isCollapsed && this.result.contains(selected.anchorNode);
    return marks || this.result.querySelector('details[open].as-table, .grown') !== null;
  }

  private put(shown: Shown): void {
    const focused = pathTo(this.result, document.activeElement);
    const notes = shown.bounds.sentences;
    const bounds =
      notes.length > 0
        ? h(
            'div',
            { class: 'bounds', role: 'note' },
            h('strong', null, 'Where this ends: '),
            h(
              'ul',
              null,
              notes.map((note) => h('li', null, note)),
            ),
          )
        : null;
    const at = readable(this.context.now(), this.context.zone);
    const every = this.open?.every ? `, asked again every ${this.open.every} s` : '';
    const buttons = [
      shown.table ? button('CSV', () => this.export(Promise.resolve((shown.table as () => Table)()))) : null,
      shown.records ? button('CSV of records', () => this.export((shown.records as () => Promise<Table>)())) : null,
      button('Print', () => window.print()),
    ];
    const foot = h(
      'footer',
      { class: 'foot' },
      h('span', { class: 'hint' }, `As of ${at} ${this.context.zone}${every}. `),
      h('span', { class: 'buttons' }, shown.isEmpty ? null : [...buttons, this.namesInCsv(shown)]),
    );
    this.result.replaceChildren(fragment(shown.content, bounds, foot));
    this.status.textContent = shown.isEmpty ? 'Nothing found.' : '';
    restore(this.result, focused);
  }

  /** Names leave the page in a CSV only when they are asked for. */
  private namesInCsv(shown: Shown): Node | null {
    const { names } = this.context;
    if (names.size === 0 || !(shown.table || shown.records)) {
      return null;
    }
    const box = h('input', { type: 'checkbox', id: 'names-in-csv' });
    box.checked = this.writesNames;
    box.addEventListener('change', () => (this.writesNames = box.checked));
    return h('label', { class: 'check', for: box.id }, box, 'with names');
  }

  private writesNames = false;

  private async export(making: Promise<Table>): Promise<void> {
    try {
      const { name, heading, rows, people } = await making;
      const { names } = this.context;
      const written = this.writesNames
        ? rows.map((row) =>
            row.map((cell, at) => (people.includes(at) && typeof cell === 'string' ? names.shown(cell) : cell)),
          )
        : rows;
      download(`${name}.csv`, writeCsv([heading, ...written]));
      this.status.textContent = `${plural(rows.length, 'row')} written to ${name}.csv`;
    } catch (error) {
      await this.fail(error, () => this.reload());
    }
  }

  private async fail(error: unknown, retry: () => void): Promise<void> {
    const { searcher } = this.context;
    const failure = await explain(error, {
      connection: searcher.connection,
      now: this.context.now(),
      online: navigator.onLine,
      blockedByPolicy: this.blocked,
      probe: () => answers(originsOf(searcher.connection)[0] ?? ''),
    });
    this.blocked = false;
    this.result.replaceChildren(this.panel(failure, retry));
  }

  private panel(failure: Failure, retry: () => void): HTMLElement {
    const panel = h(
      'div',
      { class: 'failure', role: 'alert', 'data-kind': failure.kind },
      h('h2', null, failure.title),
      failure.advice.map((line) => h('p', null, line)),
      h('details', null, h('summary', null, 'What was said'), h('code', null, failure.detail)),
      h('p', { class: 'buttons' }, button('Try again', retry, 'primary'), button('Another key', this.disconnect)),
    );
    if (failure.passing) {
      // What may pass is tried again, as long as it is what is shown.
      setTimeout(() => panel.isConnected && retry(), 5000);
    }
    return panel;
  }
}

/** Whether a host answers at all, when the answer may not be read. */
async function answers(origin: string): Promise<boolean> {
  try {
    await fetch(`${origin}/1/isalive`, {
      mode: 'no-cors',
      credentials: 'omit',
      cache: 'no-store',
      signal: AbortSignal.timeout(4000),
    });
    return true;
  } catch {
    return false;
  }
}

function download(name: string, text: string): void {
  const url = URL.createObjectURL(new Blob([`\uFEFF${text}`], { type: 'text/csv;charset=utf-8' }));
  const link = h('a', { href: url, download: name.replace(/[^\w.-]+/g, '_') });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** Where an element is, so that the one in its place can have the focus after the results were made again. */
function pathTo(root: Element, element: Element | null): number[] | undefined {
  if (!element || element === root || !root.contains(element)) {
    return undefined;
  }
  const path: number[] = [];
  for (let at: Element = element; at !== root; at = at.parentElement as Element) {
    path.unshift([...(at.parentElement as Element).children].indexOf(at));
  }
  return path;
}

function restore(root: Element, path: number[] | undefined): void {
  const found = path?.reduce<Element | undefined>((at, place) => at?.children[place], root);
  if (found instanceof HTMLElement && found !== document.activeElement) {
    found.focus({ preventScroll: true });
  }
}
