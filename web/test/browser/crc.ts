/** The check sum of PNG's chunks. Node.js has one of its own from 22 on. */

const TABLE = Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit += 1) {
    value = value & 1 ? (value >>> 1) ^ 0xed_b8_83_20 : value >>> 1;
  }
  return value >>> 0;
});

export function crc32(data: Uint8Array): number {
  let sum = 0xff_ff_ff_ff;
  for (const byte of data) {
    sum = (sum >>> 8) ^ (TABLE[(sum ^ byte) & 255] as number);
  }
  return (sum ^ 0xff_ff_ff_ff) >>> 0;
}
