/** Any index: text, facets and time. What it needs, InstantSearch above all, is fetched when it is opened. */

import type { View } from '../context';

export const explore: View = {
  id: 'explore',
  title: 'Explore',
  question: 'Any index, by facets, text and time',
  offered: () => true,
  open: async (context) => (await import('./explore_view')).openExplore(context),
};
