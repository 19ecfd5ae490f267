/** What stands around every view: navigation, the connection, names, and news of unauthorized accesses. */

import type { Context, View } from './context';
import { h, plural } from './dom';
import { timeOf } from './facets';
import { namesPanel } from './names_panel';
import { readSecuredKey } from './secured_key';
import type { Shell } from './shell';
import { duration, readable } from './time';
import { button } from './ui/controls';
import { person } from './ui/values';
import type { Alarm } from './watcher';

export interface FrameOptions {
  context: Context;
  views: View[];
  shell: Shell;
  disconnect: () => void;
  /** Opens the view of the address again. */
  show: () => void;
}

export interface Frame {
  element: DocumentFragment;
  opened: (view: View) => void;
}

export function frame({ context, views, shell, disconnect, show }: FrameOptions): Frame {
  const { config, watcher, names } = context;
  const title = config.title ?? 'Audit';
  const links = new Map(views.map((view) => [view.id, h('a', { href: context.state.link(view.id) }, view.title)]));
  const navigation = h(
    'nav',
    { 'aria-label': 'Views' },
    h(
      'ul',
      null,
      [...links.values()].map((link) => h('li', null, link)),
    ),
  );
  const panel = namesPanel(names, () => {
    namesButton.textContent = names.size === 0 ? 'Names' : `Names (${names.size})`;
    show();
  });
  const namesButton = button('Names', () => panel.showModal());
  const news = h('div', { class: 'news', role: 'alert' });
  let open: View | undefined;
  const tell = () => {
    const count = watcher.unreadCount;
    document.title = `${count > 0 ? `(${count}) ` : ''}${open ? `${open.title} · ` : ''}${title}`;
    const link = links.get('access');
    link?.replaceChildren(
      'Access',
      ...(count > 0
        ? [
            ' ',
            h(
              'span',
              { class: 'badge', 'aria-label': plural(count, 'new unauthorized access', 'new unauthorized accesses') },
              String(count),
            ),
          ]
        : []),
    );
    news.hidden = count === 0;
  };
  watcher.listen((fresh) => {
    if (fresh.length > 0) {
      news.replaceChildren(...announce(context, fresh));
      notify(context, fresh, title);
    }
    tell();
  });
  tell();
  const element = document.createDocumentFragment();
  element.append(
    h(
      'a',
      {
        class: 'skip',
        href: '#main',
        onclick: (event: Event) => {
          event.preventDefault();
          shell.main.focus();
        },
      },
      'Skip to the content',
    ),
    h(
      'header',
      { class: 'top' },
      h('p', { class: 'brand' }, title),
      navigation,
      h('div', { class: 'tools' }, namesButton, button('Disconnect', disconnect, 'quiet')),
    ),
    news,
    shell.main,
    h('footer', { class: 'bottom' }, about(context)),
    panel,
  );
  return {
    element,
    opened: (view) => {
      open = view;
      links.forEach((link, id) =>
        id === view.id ? link.setAttribute('aria-current', 'page') : link.removeAttribute('aria-current'),
      );
      center(navigation, links.get(view.id));
      tell();
    },
  };
}

/**
 * Scrolls a row of links so that one of them is in its middle. `scrollIntoView` would do the same, but also move the place
 * from which the Tab key goes on.
 */
function center(row: HTMLElement, link: HTMLElement | undefined): void {
  if (link) {
    const [outer, inner] = [row.getBoundingClientRect(), link.getBoundingClientRect()];
    row.scrollLeft += inner.left + inner.width / 2 - (outer.left + outer.width / 2);
  }
}

function announce(context: Context, fresh: Alarm[]): Node[] {
  const [first] = fresh;
  if (!first) {
    return [];
  }
  const { view, hit } = first;
  const at = hit[timeOf(context.index(view.index)) ?? ''];
  const when = typeof at === 'number' ? ` at ${readable(at, context.zone).slice(11)}` : '';
  const others = fresh.length > 1 ? ` and ${plural(fresh.length - 1, 'more', 'more')}` : '';
  const what = h(
    'span',
    null,
    h('strong', null, 'Unauthorized: '),
    `${view.document} ${String(hit[view.document])} by `,
    person(context, String(hit[view.user] ?? 'unknown')),
    `${when}${others}.`,
  );
  const showIt = button('Show', () => context.navigate('access', { index: view.index }), 'primary');
  return [
    what,
    h(
      'span',
      { class: 'buttons' },
      showIt,
      button('Mark as read', () => context.watcher.markRead()),
    ),
  ];
}

/** A notification of the system, if that was allowed. It names no one. */
function notify(context: Context, fresh: Alarm[], title: string): void {
  if (!('Notification' in window) || Notification.permission !== 'granted') {
    return;
  }
  const documents = [...new Set(fresh.map(({ view, hit }) => `${view.document} ${String(hit[view.document])}`))];
  try {
    const note = new Notification(`${title}: ${plural(fresh.length, 'unauthorized access', 'unauthorized accesses')}`, {
      body: documents.slice(0, 5).join(', '),
      tag: 'unauthorized',
    });
    note.onclick = () => {
      window.focus();
      context.navigate('access', { index: fresh[0]?.view.index ?? '' });
    };
  } catch {
    // Some browsers allow notifications to service workers only; the page shows it anyway.
  }
}

/** What the key is and may see, in the words that it carries. */
function about(context: Context): Node {
  const { connection } = context.searcher;
  const restrictions = readSecuredKey(connection.key);
  const parts = [`Application ${connection.app}`];
  if (connection.hosts.length > 0) {
    parts.push(`host ${connection.hosts.join(', ')}`);
  }
  if (restrictions?.indices) {
    parts.push(`the key sees ${restrictions.indices.join(', ')}`);
  }
  if (restrictions?.filters) {
    parts.push(`only records where ${restrictions.filters}`);
  }
  const left = restrictions?.validUntil === undefined ? undefined : restrictions.validUntil - context.now();
  if (left !== undefined) {
    parts.push(left > 0 ? `it expires in ${duration(left)}` : 'it has expired');
  }
  parts.push(`times in ${context.zone}`);
  return h('p', { class: 'hint' }, `${parts.join(' · ')}.`);
}
