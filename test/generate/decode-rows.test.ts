import { createRequire } from 'node:module';
import t from 'tap';
import { addonPath } from '../../lib/native/binding.js';

// How many rows a recorded step on a GPU has, and how slots become fewer where memory is short.

const ops = createRequire(import.meta.url)(addonPath()) as {
  _decodeRows(options: { rows: number; most: number }): { bucket: number; fewerSlots: number };
};
const bucketOf = (rows: number, most: number) => ops._decodeRows({ rows, most }).bucket;
const bucketsUpTo = (most: number) => [
  ...new Set(Array.from({ length: most }, (_, i) => bucketOf(i + 1, most))),
];

t.test('steps have powers of two and halves between them, from 128 rows on multiples of 32', async (t) => {
  t.strictSame(bucketsUpTo(128), [1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128]);
  t.strictSame(bucketsUpTo(320).slice(12), [160, 192, 224, 256, 288, 320]);
  t.equal(bucketsUpTo(512).length, 24, 'recorded steps of 512 slots at most');
  t.equal(bucketsUpTo(1024).length, 40);
});

t.test(
  'a step holds every row, never more than the slots, and wastes less than a fifth above 128',
  async (t) => {
    for (const most of [1, 7, 100, 128, 129, 343, 512, 1024]) {
      for (let rows = 1; rows <= most; rows++) {
        const bucket = bucketOf(rows, most);
        if (bucket < rows || bucket > most || (rows > 128 && bucket - rows >= 32)) {
          t.fail(`${rows} of ${most} rows take a step of ${bucket}`);
        }
        if (bucket !== bucketOf(bucket, most)) t.fail(`${bucket} of ${most} rows have another step`);
      }
    }
    t.equal(bucketOf(385, 512), 416);
  },
);

t.test('slots become fewer by at most a quarter down to one, in multiples of 32 above 128', async (t) => {
  const slots = [512];
  while (slots.at(-1)! > 0) slots.push(ops._decodeRows({ rows: slots.at(-1)!, most: 512 }).fewerSlots);
  t.strictSame(slots.slice(0, 9), [512, 448, 384, 320, 256, 224, 192, 160, 128]);
  t.strictSame(slots.slice(-3), [2, 1, 0]);
  for (const [i, next] of slots.slice(1, -1).entries()) {
    const before = slots[i]!;
    t.ok(next < before && (before <= 4 || next >= 0.75 * before), `${before} -> ${next}`);
  }
  t.equal(ops._decodeRows({ rows: 1000, most: 1000 }).fewerSlots, 864, 'from any number');
});
