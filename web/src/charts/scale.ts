/** What fits a chart: labels of an axis, shades of a map. The scales themselves are D3's. */

/** Which of `length` places get a label, when there is room for `room` of them. */
export function labelled(length: number, room: number): number[] {
  const every = Math.max(1, Math.ceil(length / Math.max(1, room)));
  return Array.from({ length: Math.ceil(length / every) }, (_, at) => at * every);
}

/** Which of `shades` steps a number is, relative to the largest; 0 is nothing. */
export function shade(value: number, most: number, shades = 8): number {
  return value <= 0 || most <= 0 ? 0 : Math.max(1, Math.ceil((shades * value) / most));
}
