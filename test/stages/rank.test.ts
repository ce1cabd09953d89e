import fc from 'fast-check';
import t from 'tap';
import { averageRanks, kendallTau, spearman } from '../../lib/kendall-tau.js';
import { consistencyOf, rank, topOrder } from '../../lib/stages/rank.js';
import { nullTau, rankingAccuracy, summarizeConsistency } from '../../lib/run/summary.js';
import type { ScoredGroup } from '../../lib/types.js';

const group = (id: string, rewards: number[], previousRewards: number[]): ScoredGroup => ({
  id,
  prompt: id,
  promptIds: [1],
  responses: rewards.map((_, i) => ({ ids: [i + 2], text: `${i}`, finishReason: 'stop' })),
  logprobs: rewards.map(() => -1),
  numTokens: rewards.map(() => 1),
  rewards,
  previousRewards,
});
const KENDALL = { metric: 'kendall', rule: 'linear' } as const;

t.test('tau-b of hand-made cases', async (t) => {
  t.equal(kendallTau([1, 2, 3, 4, 5], [1, 2, 3, 4, 5]), 1);
  t.equal(kendallTau([1, 2, 3, 4, 5], [5, 4, 3, 2, 1]), -1);
  t.equal(kendallTau([1, 2, 3], [1, 3, 2]), 1 / 3);
  // 5 concordant, 0 discordant, one tie on the left of 6 pairs: 5 / sqrt(5 * 6).
  t.ok(Math.abs(kendallTau([1, 1, 2, 3], [1, 2, 3, 4]) - 5 / Math.sqrt(30)) < 1e-15);
  t.equal(kendallTau([-Infinity, 0, 1], [0, 1, 2]), 1);
  t.ok([kendallTau([1], [1]), kendallTau([1, 1], [1, 2]), kendallTau([1, NaN], [1, 2])].every(Number.isNaN));
  t.throws(() => kendallTau([1], [1, 2]), { code: 'INVALID_ARGUMENT' });
});

t.test('rho of hand-made cases', async (t) => {
  t.strictSame(averageRanks([3, 1, 3, 2]), [3.5, 1, 3.5, 2]);
  t.equal(spearman([1, 2, 3, 4], [1, 2, 3, 4]), 1);
  t.equal(spearman([1, 2, 3, 4], [4, 3, 2, 1]), -1);
  t.ok(Math.abs(spearman([1, 2, 3, 4, 5], [2, 1, 4, 3, 5]) - 0.8) < 1e-15); // 1 - 6 * 4 / 120
  t.ok([spearman([1], [1]), spearman([1, 1], [1, 2])].every(Number.isNaN));
});

const lists = fc
  .integer({ min: 2, max: 8 })
  .chain((n) =>
    fc.tuple(...[0, 1].map(() => fc.array(fc.integer({ min: 0, max: 4 }), { minLength: n, maxLength: n }))),
  );

t.test('correlations are symmetric, odd, bounded and blind to the order of the responses', async () => {
  fc.assert(
    fc.property(lists, fc.func(fc.nat()), ([a, b], key) => {
      for (const correlation of [kendallTau, spearman]) {
        const value = correlation(a!, b!);
        if (Number.isNaN(value)) return new Set(a).size === 1 || new Set(b).size === 1;
        const order = a!.map((_, i) => i).sort((i, j) => key(i) - key(j));
        const permuted = correlation(
          order.map((i) => a![i]!),
          order.map((i) => b![i]!),
        );
        const reversed = correlation(
          a!,
          b!.map((v) => -v),
        );
        const close = (x: number, y: number) => Math.abs(x - y) < 1e-12;
        if (!close(value, permuted) || !close(value, correlation(b!, a!)) || !close(value, -reversed))
          return false;
        if (Math.abs(value) > 1) return false;
      }
      return true;
    }),
    { seed: 1, numRuns: 500 },
  );
});

t.test('C is (tau+1)/2, the closed form of the theorem, or floored at 1/2', async (t) => {
  t.strictSame(
    [-1, 0, 1].map((tau) => consistencyOf(tau, 'linear')),
    [0, 0.5, 1],
  );
  t.strictSame(
    [-1, 0, 1].map((tau) => consistencyOf(tau, 'floor')),
    [0.5, 0.5, 1],
  );
  t.strictSame(
    [-1, 0, 1].map((tau) => consistencyOf(tau, 'theorem')),
    [4 / 6, 3 / 4, 1],
  );
  const [agree, oppose] = rank([group('a', [1, 2, 3], [1, 2, 3]), group('b', [1, 2, 3], [3, 2, 1])], KENDALL);
  t.match(agree, { tau: 1, consistency: 1 });
  t.match(oppose, { tau: -1, consistency: 0 });
});

t.test('§6.4 topOrder compares best and worst, whatever their place in the sample', async (t) => {
  t.equal(topOrder([5, 1, 9], [7, 0, 8]), 1, 'first and last are neither best nor worst');
  t.equal(topOrder([9, 1, 5], [9, 5, 1]), 0, 'same best, other worst');
  t.equal(topOrder([9, 9, 1], [9, 9, 1]), 1, 'the same two share the best');
  t.equal(topOrder([9, 9, 1], [9, 8, 1]), 0, 'two share the best on one side only');
  const options = { metric: 'topOrder', rule: 'linear' } as const;
  t.match(rank([group('a', [2, 2, 2], [2, 2, 2])], options)[0], {
    consistency: null,
    undefinedBecause: 'policy-constant',
  });
  t.match(rank([group('a', [5, 1, 9], [7, 0, 8])], options)[0], { tau: 1, consistency: 1 });
  const missing: Partial<ScoredGroup> = group('a', [1, 2], [1, 2]);
  delete missing.previousRewards;
  t.throws(() => rank([missing as ScoredGroup], options), { code: 'MISSING_SCORES', message: /prompt a/ });
});

t.test('a group without consistency says why and gets no number', async (t) => {
  const reasons = rank(
    [
      group('a', [1], [1]),
      group('b', [1, 1], [1, 2]),
      group('c', [1, 2], [1, 1]),
      group('d', [1, NaN], [1, 2]),
      group('e', [1, 2], [null as unknown as number, 2]),
    ],
    KENDALL,
  ).map((g) => [g.tau, g.consistency, g.undefinedBecause]);
  t.strictSame(reasons, [
    [null, null, 'fewer-than-two'],
    [null, null, 'policy-constant'],
    [null, null, 'previous-constant'],
    [null, null, 'not-finite'],
    [null, null, 'not-finite'],
  ]);
  t.throws(() => rank([{ ...group('a', [1, 2], [1, 2]), rewards: [1] }], KENDALL), {
    code: 'MISSING_SCORES',
  });
});

t.test('§6.3 leaving groups out changes no other group', async () => {
  const groups = fc.array(fc.tuple(lists, fc.boolean()), { minLength: 1, maxLength: 12 });
  fc.assert(
    fc.property(groups, (cases) => {
      const all = cases.map(([[a, b]], i) => group(`${i}`, a!, b!));
      const kept = all.filter((_, i) => cases[i]![1]);
      const byId = new Map(rank(all, KENDALL).map((g) => [g.id, JSON.stringify(g)]));
      return rank(kept, KENDALL).every((g) => byId.get(g.id) === JSON.stringify(g));
    }),
    { seed: 2, numRuns: 200 },
  );
});

t.test('the null band is that of random rankings', async (t) => {
  t.equal(nullTau('kendall', 5)?.deviation.toFixed(3), '0.408');
  t.equal(nullTau('spearman', 5)?.deviation, 0.5);
  t.equal(nullTau('kendall', 1), null);
  // All 120 orders of five responses against a fixed one.
  const permutations = (list: number[]): number[][] =>
    list.length === 0
      ? [[]]
      : list.flatMap((x) => permutations(list.filter((y) => y !== x)).map((rest) => [x, ...rest]));
  const orders = permutations([1, 2, 3, 4, 5]);
  const taus = { kendall: kendallTau, spearman, topOrder };
  for (const metric of ['kendall', 'spearman', 'topOrder'] as const) {
    const values = orders.map((order) => taus[metric](order, [1, 2, 3, 4, 5]));
    const mean = values.reduce((s, v) => s + v, 0) / values.length;
    const deviation = Math.sqrt(values.reduce((s, v) => s + (v - mean) ** 2, 0) / values.length);
    t.ok(Math.abs(nullTau(metric, 5)!.mean - mean) < 1e-12, metric);
    t.ok(Math.abs(nullTau(metric, 5)!.deviation - deviation) < 1e-12, metric);
  }
});

t.test('the consistency of an iteration is summed up with interval and counts', async (t) => {
  const ranked = rank(
    [group('a', [1, 2, 3], [1, 2, 3]), group('b', [1, 2, 3], [3, 2, 1]), group('c', [1, 1, 1], [3, 2, 1])],
    KENDALL,
  );
  const options = { metric: 'kendall', toC: (tau: number) => (tau + 1) / 2, seed: 1, stream: 's' } as const;
  const summary = summarizeConsistency(ranked, options);
  t.match(summary, { mean: 0.5, tau: 0, groups: 2, belowHalf: 1, undefinedGroups: { 'policy-constant': 1 } });
  t.strictSame(summary.interval, [0, 1]);
  t.strictSame(summarizeConsistency([], options).mean, null);

  const many = Array.from({ length: 400 }, (_, i) => ({ ...ranked[0]!, consistency: (i % 2) * 0.5 + 0.25 }));
  const { interval } = summarizeConsistency(many, options);
  const halfWidth = (1.96 * 0.25) / Math.sqrt(400); // of the normal approximation; the bootstrap's within a fifth
  t.ok(
    Math.abs(interval![0] - (0.5 - halfWidth)) < halfWidth / 5 &&
      Math.abs(interval![1] - (0.5 + halfWidth)) < halfWidth / 5,
  );
  t.strictSame(interval, summarizeConsistency(many, options).interval);
});

t.test('ranking accuracy counts correct above incorrect, ties half, and is null without both', async (t) => {
  const flags = new Map([
    ['a', [true, false, false]],
    ['b', [true, true]],
  ]);
  t.equal(
    rankingAccuracy(
      [
        { id: 'a', rewards: [2, 1, 3] },
        { id: 'b', rewards: [1, 2] },
      ],
      flags,
    ),
    0.5,
  );
  t.equal(rankingAccuracy([{ id: 'a', rewards: [2, 1, 2] }], flags), 0.75);
  t.equal(rankingAccuracy([{ id: 'b', rewards: [1, 2] }], flags), null);
  t.equal(rankingAccuracy([{ id: 'zz', rewards: [1, 2] }], flags), null);
});
