import t from 'tap';
import { stratifiedMean, studentMean, studentT95 } from '../lib/statistics.js';
import { readGolden } from './helpers/golden.js';

interface Golden {
  quantiles: [df: number, t: number][];
  samples: { first: number[]; second: number[]; interval: [number, number]; paired: [number, number] }[];
}
const golden = readGolden<Golden>('student-t');

const isNear = (a: number, b: number, tolerance: number) => Math.abs(a - b) <= tolerance * Math.abs(b);

t.test("Student's quantiles are scipy's", async (t) => {
  for (const [df, expected] of golden.quantiles)
    t.ok(isNear(studentT95(df), expected, 1e-10), `${df}: ${studentT95(df)}`);
  for (const df of [0, -1, 1.5, Number.NaN])
    t.throws(() => studentT95(df), { code: 'INVALID_ARGUMENT' }, String(df));
});

t.test("intervals of means and of paired differences are scipy's", async (t) => {
  for (const { first, second, interval, paired } of golden.samples) {
    const own = studentMean(first)!;
    const difference = studentMean(second.map((value, i) => value - first[i]!))!;
    t.equal(own.n, first.length);
    for (const side of [0, 1] as const) {
      t.ok(isNear(own.interval![side], interval[side], 1e-9));
      t.ok(Math.abs(difference.interval![side] - paired[side]) < 1e-9);
    }
  }
});

t.test('one value has a mean and no interval; none has nothing', async (t) => {
  t.strictSame(studentMean([0.3]), { mean: 0.3, interval: null, by: null, n: 1 });
  t.equal(studentMean([]), null);
  t.strictSame(studentMean([2, 2, 2])!.interval, [2, 2]);
});

t.test('tasks count alike however many problems they have', async (t) => {
  const small = [1, 0];
  const large = Array.from({ length: 200 }, (_, i) => (i < 50 ? 1 : 0));
  const { mean, interval, n } = stratifiedMean([small, large])!;
  t.ok(Math.abs(mean - (0.5 + 0.25) / 2) < 1e-12);
  t.equal(n, 202);
  // Variances of the two means: 0.5 / 2, and 0.25 0.75 (200 / 199) / 200.
  const half = (1.959963984540054 * Math.sqrt(0.25 + (0.25 * 0.75) / 199)) / 2;
  t.ok(Math.abs(interval![1] - interval![0] - 2 * half) < 1e-12);
  t.equal(stratifiedMean([]), null);
  t.equal(stratifiedMean([[1], []]), null);
  t.equal(stratifiedMean([[1], [1, 0]])!.interval, null);
});
