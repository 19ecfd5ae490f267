/** Makes a screenshot smaller: at most 256 colours, each pixel with the nearest of those that are most frequent. */

import { crc32 } from './crc';
import { deflateSync, inflateSync } from 'node:zlib';

interface Image {
  width: number;
  height: number;
  /** Three bytes a pixel. */
  pixels: Uint8Array;
}

export function smaller(png: Buffer): Buffer {
  const image = decode(png);
  const size = image.width * image.height;
  const counts = new Map<number, number>();
  const colour = (at: number) =>
    ((image.pixels[3 * at] as number) << 16) |
    ((image.pixels[3 * at + 1] as number) << 8) |
    (image.pixels[3 * at + 2] as number);
  for (let at = 0; at < size; at += 1) {
    counts.set(colour(at), (counts.get(colour(at)) ?? 0) + 1);
  }
  const palette = [...counts]
    .sort((a, b) => b[1] - a[1])
    .slice(0, 256)
    .map(([value]) => value);
  const nearest = new Map<number, number>(palette.map((value, place) => [value, place]));
  const rows = Buffer.alloc(image.height * (image.width + 1));
  for (let at = 0; at < size; at += 1) {
    const value = colour(at);
    let place = nearest.get(value);
    if (place === undefined) {
      place = closest(value, palette);
      nearest.set(value, place);
    }
    rows[Math.floor(at / image.width) * (image.width + 1) + 1 + (at % image.width)] = place;
  }
  const header = Buffer.alloc(13);
  header.writeUInt32BE(image.width, 0);
  header.writeUInt32BE(image.height, 4);
  header.set([8, 3, 0, 0, 0], 8);
  const colours = Buffer.from(palette.flatMap((value) => [value >> 16, (value >> 8) & 255, value & 255]));
  const parts = [
    chunk('IHDR', header),
    chunk('PLTE', colours),
    chunk('IDAT', deflateSync(rows, { level: 9 })),
    chunk('IEND', Buffer.alloc(0)),
  ];
  return Buffer.concat([png.subarray(0, 8), ...parts]);
}

function closest(value: number, palette: number[]): number {
  let [best, least] = [0, Infinity];
  palette.forEach((other, place) => {
    const distance = [16, 8, 0].reduce(
      (sum, shift) => sum + (((value >> shift) & 255) - ((other >> shift) & 255)) ** 2,
      0,
    );
    if (distance < least) {
      [best, least] = [place, distance];
    }
  });
  return best;
}

function chunk(type: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type, 'latin1'), data]);
  const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
  length.writeUInt32BE(data.length);
  sum.writeUInt32BE(crc32(body));
  return Buffer.concat([length, body, sum]);
}

/** Reads what a browser writes: eight bits a channel, three or four channels, not interlaced. */
function decode(png: Buffer): Image {
  const data: Buffer[] = [];
  let [width, height, channels] = [0, 0, 3];
  for (let at = 8; at < png.length;) {
    const [length, type] = [png.readUInt32BE(at), png.toString('latin1', at + 4, at + 8)];
    const body = png.subarray(at + 8, at + 8 + length);
    if (type === 'IHDR') {
      [width, height, channels] = [body.readUInt32BE(0), body.readUInt32BE(4), body[9] === 6 ? 4 : 3];
    } else if (type === 'IDAT') {
      data.push(body);
    }
    at += length + 12;
  }
  const raw = inflateSync(Buffer.concat(data));
  const stride = width * channels;
  const lines = new Uint8Array(height * stride);
  for (let y = 0; y < height; y += 1) {
    const filter = raw[y * (stride + 1)];
    for (let x = 0; x < stride; x += 1) {
      const at = y * stride + x;
      const left = x >= channels ? (lines[at - channels] as number) : 0;
      const up = y > 0 ? (lines[at - stride] as number) : 0;
      const corner = x >= channels && y > 0 ? (lines[at - stride - channels] as number) : 0;
      lines[at] = (raw[y * (stride + 1) + 1 + x] as number) + predicted(filter ?? 0, left, up, corner);
    }
  }
  const pixels = new Uint8Array(width * height * 3);
  for (let at = 0; at < width * height; at += 1) {
    pixels.set(lines.subarray(at * channels, at * channels + 3), at * 3);
  }
  return { width, height, pixels };
}

function predicted(filter: number, left: number, up: number, corner: number): number {
  if (filter === 4) {
    const guess = left + up - corner;
    const [a, b, c] = [Math.abs(guess - left), Math.abs(guess - up), Math.abs(guess - corner)];
    return a <= b && a <= c ? left : b <= c ? up : corner;
  }
  return [0, left, up, (left + up) >> 1][filter] ?? 0;
}
