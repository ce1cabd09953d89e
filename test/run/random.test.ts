import fc from 'fast-check';
import t from 'tap';
import { bootstrapInterval, shuffled } from '../../lib/run/random.js';
import { learningRateAt } from '../../lib/run/schedule.js';

const ids = (n: number) => Array.from({ length: n }, (_, i) => `p${i}`);
const same = (item: string) => item;

t.test('§6.11 an order follows from the seed, the stream and the keys alone', async (t) => {
  const order = shuffled(ids(100), 1, 'train', same);
  t.strictSame(order, shuffled(ids(100).reverse(), 1, 'train', same), 'the order of the input plays no part');
  t.notSame(order, shuffled(ids(100), 2, 'train', same));
  t.notSame(order, shuffled(ids(100), 1, 'prompts', same));
  t.strictSame(order.toSorted(), ids(100).toSorted());
  fc.assert(
    fc.property(fc.array(fc.boolean(), { minLength: 100, maxLength: 100 }), (kept) => {
      const some = new Set(ids(100).filter((_, i) => kept[i]));
      const rest = shuffled([...some], 1, 'train', same);
      return JSON.stringify(rest) === JSON.stringify(order.filter((id) => some.has(id)));
    }),
    { seed: 4, numRuns: 50 },
  );
});

t.test('a shuffle is uniform: every item is equally often first', async (t) => {
  const counts = new Map(ids(8).map((id) => [id, 0]));
  for (let seed = 0; seed < 4000; seed++) {
    const first = shuffled(ids(8), seed, 's', same)[0]!;
    counts.set(first, counts.get(first)! + 1);
  }
  const chiSquare = [...counts.values()].reduce((sum, n) => sum + (n - 500) ** 2 / 500, 0);
  t.ok(chiSquare < 24.3, `chi-square ${chiSquare} with 7 degrees of freedom; 24.3 is the 0.1 % point`);
});

t.test('the bootstrap interval covers the mean in about 95 of 100 samples', async (t) => {
  let covered = 0;
  for (let seed = 0; seed < 300; seed++) {
    // Sums of four uniform draws from a Weyl sequence: close to normal, mean 2.
    const values = Array.from({ length: 60 }, (_, i) =>
      [0, 1, 2, 3].reduce((sum, k) => sum + (((seed * 240 + i * 4 + k) * 0.6180339887498949 * 7919) % 1), 0),
    );
    const [low, high] = bootstrapInterval(values, seed, 'test')!;
    if (low <= 2 && 2 <= high) covered++;
  }
  t.ok(covered > 270, `${covered} of 300`);
  t.equal(bootstrapInterval([1], 0, 's'), null);
  t.strictSame(bootstrapInterval([3, 3, 3], 0, 's'), [3, 3]);
});

t.test('the learning rate rises over the warm-up, then falls by the schedule', async (t) => {
  const options = { learningRate: 1, warmupRatio: 0.2, minLearningRateRatio: 0 } as const;
  const rates = (schedule: 'cosine' | 'linear' | 'constant', extra = {}) =>
    Array.from({ length: 10 }, (_, step) => learningRateAt(step, 10, { ...options, schedule, ...extra }));
  t.strictSame(rates('constant'), [0.5, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
  t.strictSame(rates('linear'), [0.5, 1, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]);
  t.ok(Math.abs(rates('cosine')[6]! - 0.5) < 1e-15, 'half-way down at the middle');
  t.ok(rates('cosine').every((rate) => rate > 0));
  t.ok(
    rates('linear', { minLearningRateRatio: 0.5 })
      .slice(1)
      .every((rate) => rate >= 0.5),
  );
  t.equal(learningRateAt(0, 1, { ...options, warmupRatio: 0, schedule: 'cosine' }), 1);
});
