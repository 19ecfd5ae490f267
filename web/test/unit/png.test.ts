/** A picture that is made smaller shows the same. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { crc32 } from '../browser/crc';
import { smaller } from '../browser/png';

/** Four pixels: red, red, blue, white. */
const PICTURE = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAEUlEQVR42mP4z8AAREDwHwgAIO0F+21P+dEAAAAASUVORK5CYII=',
  'base64',
);

test('colours are kept when they are few', () => {
  assert.equal(crc32(Buffer.from('123456789')), 0xcb_f4_39_26);
  const once = smaller(PICTURE);
  assert.equal(once.toString('latin1', 1, 4), 'PNG');
  assert.deepEqual([once.readUInt32BE(16), once.readUInt32BE(20)], [2, 2]);
  const at = once.indexOf('PLTE');
  assert.equal(once.readUInt32BE(at - 4) % 3, 0);
  assert.deepEqual([...once.subarray(at + 4, at + 7)], [255, 0, 0], 'the most frequent colour comes first');
});
