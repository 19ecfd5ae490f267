/** Scales and ticks of charts. */

/** Round numbers from 0 to at least `most`, five at most. */
export function ticks(most: number): number[] {
  if (most <= 0) {
    return [0, 1];
  }
  const rough = most / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max(1, [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough) ?? rough);
  const count = Math.ceil(most / step);
  return Array.from({ length: count + 1 }, (_, at) => at * step);
}

/** Which of `length` places get a label, when there is room for `room` of them. */
export function labelled(length: number, room: number): number[] {
  const every = Math.max(1, Math.ceil(length / Math.max(1, room)));
  return Array.from({ length: Math.ceil(length / every) }, (_, at) => at * every);
}

/** Which of `shades` steps a number is, relative to the largest; 0 is nothing. */
export function shade(value: number, most: number, shades = 8): number {
  return value <= 0 || most <= 0 ? 0 : Math.max(1, Math.ceil((shades * value) / most));
}
