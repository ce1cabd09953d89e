import fc from 'fast-check';
import t from 'tap';
import { pair } from '../../lib/stages/pair.js';
import { rank } from '../../lib/stages/rank.js';
import type { RankedGroup } from '../../lib/types.js';

const ranked = (id: string, rewards: number[], previousRewards: number[], ids?: number[][]): RankedGroup => {
  const responses = rewards.map((_, i) => ({
    ids: ids?.[i] ?? [i + 2],
    text: `${id}${i}`,
    finishReason: 'stop' as const,
  }));
  const logprobs = rewards.map((_, i) => -i - 1);
  const numTokens = responses.map((r) => r.ids.length);
  const group = { id, prompt: id, promptIds: [1], responses, logprobs, numTokens, rewards, previousRewards };
  return rank([group], { metric: 'kendall', rule: 'linear' })[0]!;
};
const DATASET = { weight: 'dataset', minConsistency: 0 } as const;

t.test('best and worst by the policy become the pair, with their own log-probs', async (t) => {
  const { pairs } = pair([ranked('a', [0.5, -1, 3], [1, 2, 3])], DATASET);
  t.match(pairs, [
    {
      id: 'a',
      chosen: 'a2',
      chosenIds: [4],
      rejected: 'a1',
      rejectedIds: [3],
      chosenReward: 3,
      rejectedReward: -1,
      referenceChosenLogprob: -3,
      referenceRejectedLogprob: -2,
    },
  ]);
});

t.test('the weight is the mean C, the own C, one or the constant', async (t) => {
  const groups = [
    ranked('a', [1, 2, 3], [1, 2, 3]),
    ranked('b', [1, 2, 3], [2, 1, 3]),
    ranked('c', [1, 1, 1], [1, 2, 3]),
  ];
  const weights = (options: Parameters<typeof pair>[1]) => pair(groups, options).pairs.map((p) => p.weight);
  const own = [1, 2 / 3];
  t.strictSame(weights({ weight: 'sample', minConsistency: 0 }), own);
  t.strictSame(weights(DATASET), [(1 + 2 / 3) / 2, (1 + 2 / 3) / 2]);
  t.strictSame(weights({ weight: 'one', minConsistency: 0 }), [1, 1]);
  t.strictSame(weights({ weight: 'constant', constant: 0.8, minConsistency: 0 }), [0.8, 0.8]);
  t.throws(() => weights({ weight: 'constant', minConsistency: 0 }), { code: 'INVALID_ARGUMENT' });
  t.strictSame(
    pair(groups, DATASET).pairs.map((p) => p.consistency),
    own,
  );
});

t.test('every group is a pair or is dropped with a reason', async (t) => {
  const { pairs, dropped, meanConsistency } = pair(
    [
      ranked('good', [1, 2], [1, 2]),
      ranked('tied', [1, 1], [1, 2]),
      ranked('flat', [1, 2], [1, 1]),
      ranked('one', [1], [1]),
      ranked('nan', [1, Number.NaN], [1, 2]),
      ranked(
        'same',
        [1, 2],
        [1, 2],
        [
          [7, 8],
          [7, 8],
        ],
      ),
      ranked('low', [1, 2], [2, 1]),
    ],
    { weight: 'dataset', minConsistency: 0.1 },
  );
  t.strictSame(
    pairs.map((p) => p.id),
    ['good'],
  );
  t.strictSame(dropped, [
    { id: 'tied', reason: 'policy-constant' },
    { id: 'flat', reason: 'previous-constant' },
    { id: 'one', reason: 'fewer-than-two' },
    { id: 'nan', reason: 'not-finite' },
    { id: 'same', reason: 'identical' },
    { id: 'low', reason: 'below-min-consistency' },
  ]);
  t.equal(meanConsistency, 2 / 3, 'over the groups that have a C');
  t.equal(pair([], DATASET).meanConsistency, null);
});

t.test('§6.8 a group with an empty response makes no pair and no number', async (t) => {
  const { pairs, dropped } = pair([ranked('e', [1, 2, 3], [1, Number.NaN, 3], [[5], [], [6]])], DATASET);
  t.strictSame([pairs, dropped], [[], [{ id: 'e', reason: 'empty-response' }]]);
  const finite = pair([ranked('e', [1, 2, 3], [1, 2, 3], [[5], [], [6]])], DATASET);
  t.strictSame(finite.dropped, [{ id: 'e', reason: 'empty-response' }]);
});

t.test('scores that are missing are an error, not a pair', async (t) => {
  const group = { ...ranked('a', [1, 2], [1, 2]), logprobs: [] };
  t.throws(() => pair([group], DATASET), { code: 'MISSING_SCORES' });
});

t.test('§6.3 each pair belongs to its own group, and permuting responses keeps the pair', async () => {
  const rewards = fc.array(fc.integer({ min: -3, max: 3 }), { minLength: 4, maxLength: 4 });
  const groups = fc.array(fc.tuple(rewards, rewards), { minLength: 1, maxLength: 10 });
  fc.assert(
    fc.property(groups, (cases) => {
      const all = cases.map(([a, b], i) =>
        ranked(
          `${i}`,
          a,
          b,
          a.map((_, k) => [10 * i + k]),
        ),
      );
      const { pairs, dropped } = pair(all, { weight: 'sample', minConsistency: 0 });
      if (pairs.length + dropped.length !== all.length) return false;
      const flipped = cases.map(([a, b], i) =>
        ranked(`${i}`, a.toReversed(), b.toReversed(), a.map((_, k) => [10 * i + k]).toReversed()),
      );
      const again = new Map(
        pair(flipped, { weight: 'sample', minConsistency: 0 }).pairs.map((p) => [p.id, p]),
      );
      return pairs.every((p) => {
        const [a, b] = cases[Number(p.id)]!;
        const alone = ranked(p.id, a, b).consistency;
        const other = again.get(p.id)!;
        const unique = a.filter((r) => r === p.chosenReward).length === 1;
        return (
          Math.floor(p.chosenIds[0]! / 10) === Number(p.id) &&
          p.consistency === alone &&
          p.weight === alone &&
          p.chosenReward === Math.max(...a) &&
          p.rejectedReward === Math.min(...a) &&
          (!unique || other.chosenIds[0] === p.chosenIds[0]) &&
          Math.abs(other.consistency! - p.consistency!) < 1e-12
        );
      });
    }),
    { seed: 3, numRuns: 300 },
  );
});
