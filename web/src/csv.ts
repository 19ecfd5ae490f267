/** Reading and writing CSV (RFC 4180). */

/** The fields of a CSV text, row by row. The separator is found in the first line. */
export function parseCsv(text: string): string[][] {
  const source = text.replace(/^\uFEFF/, '');
  const firstLine = source.slice(0, source.search(/[\r\n]|$/));
  const separator = [',', ';', '\t'].find((one) => firstLine.includes(one)) ?? ',';
  const rows: string[][] = [];
  let [row, field, quoted]: [string[], string, boolean] = [[], '', false];
  const endRow = () => {
    row.push(field);
    if (row.some((one) => one !== '')) {
      rows.push(row);
    }
    [row, field] = [[], ''];
  };
  for (let at = 0; at < source.length; at += 1) {
    const char = source[at] as string;
    if (quoted) {
      if (char !== '"') {
        field += char;
      } else if (source[at + 1] === '"') {
        field += '"';
        at += 1;
      } else {
        quoted = false;
      }
    } else if (char === '"' && field === '') {
      quoted = true;
    } else if (char === separator) {
      row.push(field);
      field = '';
    } else if (char === '\n' || char === '\r') {
      endRow();
    } else {
      field += char;
    }
  }
  endRow();
  return rows;
}

export type Cell = string | number | boolean | null | undefined;

export function writeCsv(rows: Cell[][]): string {
  return rows.map((row) => `${row.map(writeCell).join(',')}\r\n`).join('');
}

/** A text that a spreadsheet would take for a formula is made a plain one. */
function writeCell(cell: Cell): string {
  if (cell === null || cell === undefined) {
    return '';
  }
  let text = String(cell);
  if (typeof cell === 'string' && /^[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text))) {
    text = `'${text}`;
  }
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
