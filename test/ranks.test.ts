import t from 'tap';
import { kendallTau, spearman } from '../lib/kendall-tau.js';
import { readGolden } from './helpers/golden.js';

interface Ranks {
  cases: { a: number[]; b: number[]; tau: number; rho: number }[];
  nullBand: { n: number; mean: number; standardDeviation: number }[];
}

const golden = readGolden<Ranks>('ranks');

// Sums of at most 66 products of small integers and halves, and one root: a few roundings of a double.
const TOLERANCE = 1e-12;

t.test('tau-b and Spearman equal scipy on 300 vectors with and without ties', async (t) => {
  t.equal(golden.cases.length, 300);
  const tied = golden.cases.filter(({ a, b }) => new Set(a).size < a.length || new Set(b).size < b.length);
  t.ok(tied.length > 100, `${tied.length} of them have ties`);
  const wrong = golden.cases.filter(
    ({ a, b, tau, rho }) =>
      !(Math.abs(kendallTau(a, b) - tau) <= TOLERANCE && Math.abs(spearman(a, b) - rho) <= TOLERANCE),
  );
  t.strictSame(wrong, []);
});

function* permutations(n: number, head: number[] = []): Generator<number[]> {
  if (head.length === n) yield head;
  for (let value = 0; value < n; value++) if (!head.includes(value)) yield* permutations(n, [...head, value]);
}

t.test(
  'tau over all orders has the mean 0 and the deviation of scipy: the null band, 0.408 at N = 5',
  async (t) => {
    for (const { n, mean, standardDeviation } of golden.nullBand) {
      const identity = Array.from({ length: n }, (_, index) => index);
      const taus = [...permutations(n)].map((order) => kendallTau(identity, order));
      const average = taus.reduce((sum, tau) => sum + tau, 0) / taus.length;
      const deviation = Math.sqrt(taus.reduce((sum, tau) => sum + (tau - average) ** 2, 0) / taus.length);
      t.ok(Math.abs(average - mean) <= TOLERANCE, `mean at N = ${n}`);
      t.ok(Math.abs(deviation - standardDeviation) <= TOLERANCE, `deviation at N = ${n}`);
    }
  },
);
