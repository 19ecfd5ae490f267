/** What a secured key says of itself: it carries its restrictions in the clear, behind their signature. */

export interface Restrictions {
  /** Unix seconds. */
  validUntil?: number;
  indices?: string[];
  filters?: string;
}

/** The restrictions of a secured key; `undefined` for a key of another kind. */
export function readSecuredKey(key: string): Restrictions | undefined {
  let decoded: string;
  try {
    decoded = atob(key.trim());
  } catch {
    return undefined;
  }
  if (!/^[0-9a-f]{64}/.test(decoded)) {
    return undefined;
  }
  const params = new URLSearchParams(decoded.slice(64));
  const [until, indices, filters] = ['validUntil', 'restrictIndices', 'filters'].map((name) => params.get(name));
  return {
    ...(until && /^\d+$/.test(until) ? { validUntil: Number(until) } : {}),
    ...(indices ? { indices: names(indices) } : {}),
    ...(filters ? { filters } : {}),
  };
}

/** A list as a secured key writes it: `a,b` or a JSON array. */
function names(list: string): string[] {
  try {
    const parsed: unknown = JSON.parse(list);
    if (Array.isArray(parsed)) {
      return parsed.map(String);
    }
  } catch {
    // It is not JSON.
  }
  return list.split(',').map((name) => name.trim());
}

/** Whether a key's restrictions let it see an index. */
export function sees(restrictions: Restrictions | undefined, index: string): boolean {
  return restrictions?.indices?.some((pattern) => matches(pattern, index)) ?? true;
}

function matches(pattern: string, name: string): boolean {
  const middle = pattern.replace(/^\*|\*$/g, '');
  const [open, close] = [pattern.startsWith('*'), pattern.endsWith('*')];
  if (open && close) {
    return name.includes(middle);
  }
  return open ? name.endsWith(middle) : close ? name.startsWith(middle) : name === pattern;
}
