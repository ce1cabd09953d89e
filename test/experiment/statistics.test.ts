import t from 'tap';
import {
  areaUnderRoc,
  bestThreshold,
  difference,
  holm,
  judgeThreshold,
  type Sign,
} from '../../experiment/statistics.js';
import { studentPValue } from '../../lib/statistics.js';
import { readGolden } from '../helpers/golden.js';

interface Golden {
  pValues: [t: number, df: number, p: number][];
  holm: { p: number[]; adjusted: number[] }[];
  paired: { values: number[]; p: number; bootstrap: [number, number] }[];
  roc: { bad: number[]; good: number[]; area: number }[];
}
const golden = readGolden<Golden>('paired-tests');

const signs = ({ bad, good }: { bad: number[]; good: number[] }): Sign[] => [
  ...bad.map((value) => ({ value, isBad: true })),
  ...good.map((value) => ({ value, isBad: false })),
];

t.test("two-sided p-values are scipy's", async (t) => {
  for (const [value, df, expected] of golden.pValues) {
    const p = studentPValue(value, df);
    t.ok(Math.abs(p - expected) <= 1e-12, `t ${value}, ${df} degrees: ${p}, expected ${expected}`);
  }
  t.throws(() => studentPValue(1, 0), { code: 'INVALID_ARGUMENT' });
});

t.test('paired differences: mean, t-test and bootstrap', async (t) => {
  for (const { values, p, bootstrap } of golden.paired) {
    const found = difference(values, 'test')!;
    t.equal(found.n, values.length);
    t.ok(Math.abs(found.p! - p) < 1e-12);
    // 1,000 resamples against 100,000 of another generator: ends differ by a few hundredths of the width.
    const width = bootstrap[1] - bootstrap[0];
    for (const side of [0, 1] as const)
      t.ok(Math.abs(found.bootstrap![side] - bootstrap[side]) < 0.1 * width, `side ${side}`);
  }
  t.equal(difference([], 'test'), null);
  t.match(difference([0.1], 'test'), { mean: 0.1, n: 1, student: null, bootstrap: null, p: null });
  t.equal(difference([0.1, 0.1], 'test')!.p, null, 'without spread there is no test');
});

t.test("Holm's correction is the closed test of Bonferroni's", async (t) => {
  for (const { p, adjusted } of golden.holm) {
    const found = holm(p);
    t.ok(
      found.every((value, index) => Math.abs(value - adjusted[index]!) < 1e-12),
      `${found.join(' ')}, expected ${adjusted.join(' ')}`,
    );
  }
  t.strictSame(holm([]), []);
});

t.test('the area under the ROC curve is the U statistic as a share', async (t) => {
  for (const one of golden.roc) t.ok(Math.abs(areaUnderRoc(signs(one))! - one.area) < 1e-12);
  t.equal(areaUnderRoc(signs({ bad: [1], good: [] })), null);
});

t.test('a threshold catches what is below it', async (t) => {
  const some = signs({ bad: [0.1, 0.2, 0.6], good: [0.5, 0.8, 0.9, 0.7] });
  t.match(judgeThreshold(some, 0.55), { caught: 2 / 3, falseAlarms: 0.25 });
  const best = bestThreshold(some)!;
  t.match(best, { caught: 1, falseAlarms: 0.25 });
  t.ok(best.below > 0.6 && best.below < 0.7, `${best.below}`);
  t.equal(bestThreshold([]), null);
});
