/** Builds the texts of Algolia's `filters` parameter. */

/** The attribute has this value. */
export function is(attribute: string, value: string): string {
  return `${quote(attribute)}:${quote(value)}`;
}

export function quote(text: string): string {
  return `"${text.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`;
}

/** A span of time: from (included) to (excluded), in Unix seconds. Either end may be open. */
export interface Span {
  from?: number;
  to?: number;
}

/** Records whose time is in the span. */
export function within(attribute: string, span: Span): string {
  return all(
    span.from === undefined ? '' : `${attribute} >= ${number(span.from)}`,
    span.to === undefined ? '' : `${attribute} < ${number(span.to)}`,
  );
}

/** Algolia reads no scientific notation, and compares with three decimals. */
export function number(value: number): string {
  return value.toFixed(3).replace(/\.?0+$/, '');
}

/** All of them. Empty ones ask for nothing. */
export function all(...filters: string[]): string {
  return filters.filter((filter) => filter !== '').join(' AND ');
}

/** Any of them. */
export function any(...filters: string[]): string {
  return filters.length > 1 ? `(${filters.join(' OR ')})` : (filters[0] ?? '');
}
