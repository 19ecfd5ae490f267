/**
 * Whose the pseudonyms are: a CSV of pseudonym and name that a person loads from disk. It stays in this page's memory.
 * No request, no URL and no storage gets a name.
 */

import { parseCsv } from './csv';

const PSEUDONYM = /^p_[a-z2-7]{26}$/;

export class NamesError extends Error {}

export function isPseudonym(value: unknown): value is string {
  return typeof value === 'string' && PSEUDONYM.test(value);
}

/** What becomes of a text that is about to be sent. */
export interface Screened {
  text: string;
  /** Names that were replaced by their pseudonyms. */
  replaced: string[];
  /** Words that belong to names and were left out, because they do not tell whose. */
  withheld: string[];
}

export class Names {
  private readonly byPseudonym = new Map<string, string>();

  get size(): number {
    return this.byPseudonym.size;
  }

  /** Reads a file, and adds its names to those known. Returns how many it has. */
  add(csv: string): number {
    const rows = parseCsv(csv).map((row) => row.map((field) => field.trim()));
    const found = rows.filter((row) => isPseudonym(row[0]) && row[1]);
    if (found.length === 0) {
      const swapped = rows.some((row) => isPseudonym(row[1]));
      throw new NamesError(
        swapped
          ? 'The pseudonym must be the first column, the name the second.'
          : 'No line has a pseudonym (p_ and 26 characters) and, after a comma, a name.',
      );
    }
    for (const [pseudonym, name] of found) {
      this.byPseudonym.set(pseudonym as string, name as string);
    }
    return found.length;
  }

  clear(): void {
    this.byPseudonym.clear();
  }

  of(pseudonym: string): string | undefined {
    return this.byPseudonym.get(pseudonym);
  }

  /** The name, or else the value itself. */
  shown(value: string): string {
    return this.byPseudonym.get(value) ?? value;
  }

  /** The pseudonyms whose names contain the text. */
  matching(text: string): string[] {
    const wanted = fold(text.trim());
    return wanted === '' ? [] : [...this.byPseudonym].filter(([, name]) => fold(name).includes(wanted)).map(([p]) => p);
  }

  /** Takes names out of a text: whole names become pseudonyms, and so do parts that only one person has. */
  screen(text: string): Screened {
    const [replaced, withheld]: [string[], string[]] = [[], []];
    let rest = text;
    const people = [...this.byPseudonym].sort(([, a], [, b]) => b.length - a.length);
    for (const [pseudonym, name] of people) {
      const whole = new RegExp(`(?<![\\p{L}\\p{N}])${escape(name)}(?![\\p{L}\\p{N}])`, 'giu');
      if (whole.test(rest)) {
        rest = rest.replace(whole, pseudonym);
        replaced.push(name);
      }
    }
    const owners = this.ownersOfWords();
    rest = rest.replace(/[\p{L}\p{N}_]+/gu, (word) => {
      const owned = owners.get(fold(word));
      if (!owned || isPseudonym(word)) {
        return word;
      }
      const [only] = owned;
      if (owned.size === 1 && only) {
        replaced.push(word);
        return only;
      }
      withheld.push(word);
      return '';
    });
    return { text: rest.replace(/\s+/g, ' ').trim(), replaced, withheld };
  }

  private ownersOfWords(): Map<string, Set<string>> {
    const owners = new Map<string, Set<string>>();
    for (const [pseudonym, name] of this.byPseudonym) {
      for (const word of name.match(/[\p{L}\p{N}]+/gu) ?? []) {
        const key = fold(word);
        owners.set(key, (owners.get(key) ?? new Set()).add(pseudonym));
      }
    }
    return owners;
  }
}

/** Without case and accents. */
function fold(text: string): string {
  return text.normalize('NFD').replace(/\p{M}/gu, '').toLowerCase();
}

function escape(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}
