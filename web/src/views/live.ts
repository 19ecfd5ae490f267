/** The bar that tells whether the page watches for unauthorized accesses, and what it has seen. */

import type { Context } from '../context';
import { fragment, h, plural } from '../dom';
import { readable } from '../time';
import { button } from '../ui/controls';

export function liveBar(context: Context): HTMLElement {
  const { watcher } = context;
  const state = h('p', { class: 'live-state', role: 'status' });
  const buttons = h('div', { class: 'buttons' });
  const show = () => {
    const unread = watcher.unreadCount;
    const look =
      watcher.answeredAt === undefined ? '' : `, last answer ${readable(watcher.answeredAt, context.zone).slice(11)}`;
    const text = watcher.isPaused
      ? 'Paused: new unauthorized accesses are not looked for.'
      : watcher.error
        ? 'Trying again: Algolia gave no answer to the last question.'
        : `Live: new unauthorized accesses appear within 3 seconds${look}.`;
    state.className = `live-state ${watcher.isPaused || watcher.error ? 'off' : 'on'}`;
    state.replaceChildren(
      text,
      ...(unread > 0 ? [' ', h('strong', { class: 'verdict' }, `${plural(unread, 'new one', 'new ones')}.`)] : []),
    );
  };
  const fill = () => {
    const unread = watcher.unreadCount > 0;
    buttons.replaceChildren(
      fragment(
        unread ? button('Mark as read', () => context.watcher.markRead(), 'primary') : null,
        canNotify() ? button('Notify me', () => void Notification.requestPermission().then(fill)) : null,
        button(watcher.isPaused ? 'Resume' : 'Pause', () => watcher.pause(!watcher.isPaused)),
      ),
    );
  };
  show();
  fill();
  const holder = h('div', { class: 'live' }, state, buttons);
  let [wasPaused, hadUnread] = [watcher.isPaused, watcher.unreadCount > 0];
  const stop = watcher.listen(() => {
    if (!holder.isConnected) {
      stop();
      return;
    }
    show();
    if (wasPaused !== watcher.isPaused || hadUnread !== watcher.unreadCount > 0) {
      [wasPaused, hadUnread] = [watcher.isPaused, watcher.unreadCount > 0];
      fill();
    }
  });
  return holder;
}

function canNotify(): boolean {
  return 'Notification' in window && Notification.permission === 'default';
}
