/** Names are read from CSV, shown, and kept from what is sent. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { parseCsv, writeCsv } from '../../src/csv';
import { isPseudonym, Names, NamesError } from '../../src/names';
import { namesCsv, PEOPLE, pseudonym, who } from '../fixture';

function loaded(): Names {
  const names = new Names();
  names.add(namesCsv());
  return names;
}

test('CSV is read with quotes, separators and line ends of all kinds', () => {
  assert.deepEqual(parseCsv('\uFEFFa,"b ""c"", d"\r\n\r\n1,2\n'), [
    ['a', 'b "c", d'],
    ['1', '2'],
  ]);
  assert.deepEqual(parseCsv('a;b\r1;"x\ny"'), [
    ['a', 'b'],
    ['1', 'x\ny'],
  ]);
  assert.deepEqual(parseCsv('a\tb'), [['a', 'b']]);
  assert.deepEqual(parseCsv(''), []);
});

test('CSV is written so that it reads back, and holds no formula', () => {
  assert.equal(
    writeCsv([
      ['a"b', 'x,y', 1, -2, null, true],
      ['=SUM(A1)', '-5', '+cmd', '@x', '-'],
    ]),
    '"a""b","x,y",1,-2,,true\r\n\'=SUM(A1),-5,\'+cmd,\'@x,\'-\r\n',
  );
});

test('the pseudonyms of a file stand for names', () => {
  const names = new Names();
  assert.equal(names.add(namesCsv()), PEOPLE.length);
  assert.equal(names.shown(who(0)), 'Alice Adams');
  assert.equal(names.shown('p_unknown'), 'p_unknown');
  assert.deepEqual(names.matching('gabor'), [who(6)], 'accents do not matter');
  names.clear();
  assert.equal(names.of(who(0)), undefined);
});

test('a file that is something else is refused with a reason', () => {
  const refused = (text: string) => {
    try {
      new Names().add(text);
      return '';
    } catch (error) {
      assert.ok(error instanceof NamesError);
      return error.message;
    }
  };
  assert.match(refused('a,b\n1,2\n'), /No line has a pseudonym/);
  assert.match(refused(''), /No line has a pseudonym/);
  assert.match(refused(`Alice,${pseudonym('x')}\n`), /must be the first column/);
});

test('a text that is sent has pseudonyms in place of names', () => {
  const names = loaded();
  assert.deepEqual(names.screen('alice adams sales'), {
    text: `${who(0)} sales`,
    replaced: ['Alice Adams'],
    withheld: [],
  });
  assert.deepEqual(names.screen('sales by Gábor'), { text: `sales by ${who(6)}`, replaced: ['Gábor'], withheld: [] });
  assert.equal(names.screen(`sales ${who(1)}`).text, `sales ${who(1)}`, 'a pseudonym stays one');
  assert.equal(names.screen('aliceadams').text, 'aliceadams', 'only whole words are names');
  names.add(`${pseudonym('another')},Alice Arden\n`);
  assert.deepEqual(names.screen('alice sales'), { text: 'sales', replaced: [], withheld: ['alice'] });
  const all = PEOPLE.map((name) => names.screen(`x ${name} y`).text).join(' ');
  PEOPLE.flatMap((name) => name.split(' ')).forEach((word) => assert.ok(!all.includes(word), word));
});

test('pseudonyms are told from other texts', () => {
  assert.ok(isPseudonym(who(0)));
  for (const other of ['p_', 'p_short', who(0).toUpperCase(), `${who(0)}a`, 1, null]) {
    assert.ok(!isPseudonym(other), String(other));
  }
});
