import t from 'tap';
import { kendallTau } from '../../lib/kendall-tau.js';
import { expectedTau, rewardNoise } from '../../lib/run/reward-noise.js';
import { normal } from '../helpers/random.js';

const near = (actual: number | null, expected: number, tolerance = 1e-12) =>
  actual !== null && Math.abs(actual - expected) <= tolerance;

const responses = (...ids: number[][]) => ids.map((list) => ({ ids: list }));

t.test('tau of two readings: 2/pi asin(rho) with rho = 1 - (noise / spread)^2', async (t) => {
  t.equal(expectedTau(0, 2), 1);
  t.ok(near(expectedTau(Math.SQRT1_2, 1), 1 / 3), 'rho 1/2');
  t.ok(near(expectedTau(3 * Math.sqrt(1 - Math.sqrt(3) / 2), 3), 2 / 3), 'rho sqrt(3)/2');
  t.equal(expectedTau(1, 1), 0);
  t.equal(expectedTau(5, 1), 0, 'more noise than spread leaves nothing');
  // The bounds of the light and the shares that its words name.
  t.ok(expectedTau(0.11, 1) > 0.9 && expectedTau(0.112, 1) < 0.9);
  t.ok(expectedTau(0.33, 1) > 0.7 && expectedTau(0.331, 1) < 0.7);
});

t.test('two noisy readings of normal rewards agree as expected', async (t) => {
  const count = 2000;
  for (const noise of [0.1, 0.3, 0.6]) {
    const truth = normal(count, { seed: 1 });
    const read = (seed: number) => {
      const off = normal(count, { seed });
      return [...truth].map((value, i) => value + noise * off[i]!);
    };
    const spread = Math.sqrt(1 + noise ** 2); // the spread that is seen holds the noise
    const found = kendallTau(read(2), read(3));
    // Tau of 2,000 values has a standard error of about 0.01.
    t.ok(near(found, expectedTau(noise, spread), 0.03), `${noise}: ${found}, ${expectedTau(noise, spread)}`);
  }
});

t.test('the spread: deviation of distinct responses, mean over groups that have two', async (t) => {
  const found = rewardNoise(
    [
      { responses: responses([1], [2], [1]), rewards: [0, 2, 0] }, // the repeated one counts once: sqrt 2
      { responses: responses([1], [2], [3]), rewards: [1, 2, 3] }, // 1
      { responses: responses([1], [1]), rewards: [7, 7] }, // one distinct response
      { responses: responses([1], [], [2]), rewards: [5, Number.NaN, 5] }, // an empty one has no reward per token: 0
    ],
    [],
    { subtracts: true },
  );
  t.ok(near(found.spread, (Math.SQRT2 + 1 + 0) / 3));
  t.strictSame([found.noise, found.repeatTau, found.groups], [null, null, 0]);
  t.equal(rewardNoise([{ responses: responses([1]), rewards: [1] }], [], { subtracts: true }).spread, null);
});

t.test('the noise: what two readings differ by within a group, pooled', async (t) => {
  const readings = [
    // Differences 1, 3 and the same again of a repeated response: squares 1 + 1 about their mean, 1 degree of freedom.
    { responses: responses([1], [2], [1]), sampler: [1, 3, 1], scored: [0, 0, 0] },
    // Differences 10, 10, 13: what all share moves no rank. Squares 1 + 1 + 4, 2 degrees of freedom.
    { responses: responses([1], [2], [3]), sampler: [0, 0, 0], scored: [-10, -10, -13] },
    { responses: responses([1], []), sampler: [4, 0], scored: [0, 0] }, // one response with tokens says nothing
  ];
  const groups = [{ responses: responses([1], [2]), rewards: [0, 10] }];
  const implicit = rewardNoise(groups, readings, { subtracts: true });
  const variance = (2 + 6) / 3;
  t.ok(near(implicit.noise, Math.sqrt(variance)));
  t.equal(implicit.groups, 3);
  t.ok(near(implicit.repeatTau, expectedTau(Math.sqrt(variance), Math.sqrt(50))));
  // A reward of one log-prob alone has half of the variance of the difference of two.
  t.ok(near(rewardNoise(groups, readings, { subtracts: false }).noise, Math.sqrt(variance / 2)));
});

t.test('what a simulated rounding puts into rewards is found again', async (t) => {
  // The policy's log-prob twice and M0's once, each with its own rounding of 0.01; beta 0.1.
  const [beta, rounding, n, count] = [0.1, 0.01, 5, 400];
  const draws = normal(3 * n * count, { seed: 4, scale: rounding });
  const group = Array.from({ length: n }, (_, i) => [i]);
  const readings = Array.from({ length: count }, (_, g) => {
    const off = (which: number) => group.map((_, i) => draws[(3 * g + which) * n + i]!);
    const rewards = (own: readonly number[]) => own.map((value, i) => beta * (value - off(2)[i]!));
    return { responses: responses(...group), sampler: rewards(off(0)), scored: rewards(off(1)) };
  });
  const groups = readings.map(({ scored, ...rest }) => ({ ...rest, rewards: scored }));
  const { noise, spread, repeatTau } = rewardNoise(groups, readings, { subtracts: true });
  const expected = beta * rounding * Math.SQRT2;
  t.ok(near(noise, expected, 0.05 * expected), `${noise}`); // 1,600 degrees of freedom: 1.8 %
  t.ok(near(spread, 0.94 * expected, 0.05 * expected), 'there is nothing but rounding'); // E of a deviation of 5
  t.ok(repeatTau! < 0.15, 'so two readings do not agree');
});
