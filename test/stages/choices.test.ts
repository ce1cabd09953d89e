import fc from 'fast-check';
import t from 'tap';
import { validateConfig } from '../../lib/config.js';
import { pair, type PairOptions } from '../../lib/stages/pair.js';
import { rank } from '../../lib/stages/rank.js';
import type { RankedGroup, ScoredGroup } from '../../lib/types.js';

// The options that change which two responses become a pair, on groups made by hand.

interface Made {
  rewards: number[];
  lengths?: number[];
  judge?: number[];
  /** Distinguishes responses; those of equal length and name are the same response. */
  names?: number[];
}

function scored(id: string, { rewards, lengths, judge, names }: Made): ScoredGroup {
  const responses = rewards.map((_, i) => {
    const ids = Array.from({ length: lengths?.[i] ?? 1 }, () => (names?.[i] ?? i) + 2);
    return { ids, text: `${id}${names?.[i] ?? i}`, finishReason: 'stop' as const };
  });
  return {
    id,
    prompt: id,
    promptIds: [1],
    responses,
    logprobs: rewards.map((_, i) => -1 - (names?.[i] ?? i)),
    baseLogprobs: rewards.map(() => -9),
    numTokens: responses.map(({ ids }) => ids.length),
    rewards,
    previousRewards: rewards.map((_, i) => names?.[i] ?? i),
    ...(judge && { judgeRewards: judge }),
  };
}
const group = (id: string, made: Made): RankedGroup =>
  rank([scored(id, made)], { metric: 'kendall', rule: 'linear' })[0]!;
const ONE = { weight: 'one', minConsistency: 0 } as const;
const texts = ({ pairs }: ReturnType<typeof pair>) => pairs.map(({ chosen, rejected }) => [chosen, rejected]);

t.test('ties: first takes the first sampled, drop makes no pair, both are counted', async (t) => {
  const tied = group('a', { rewards: [2, 2, 1, 0, 0] });
  const first = pair([tied], ONE);
  t.strictSame(texts(first), [['a0', 'a3']]);
  t.strictSame(first.choices, { tiedBest: 1, tiedWorst: 1, rejectedFromBase: 0, movedByLength: 0 });
  t.strictSame(pair([tied], { ...ONE, ties: 'drop' }).dropped, [{ id: 'a', reason: 'tied-extreme' }]);
  const same = group('b', { rewards: [2, 2, 0], names: [5, 5, 7] });
  t.equal(pair([same], { ...ONE, ties: 'drop' }).pairs.length, 1, 'one response sampled twice is no tie');
});

t.test('ties: margin needs a gap above the margin', async (t) => {
  const close = group('a', { rewards: [1, 0.5, 0] });
  const at = (margin: number) => pair([close], { ...ONE, ties: 'margin', margin });
  t.equal(at(0.99).pairs.length, 1);
  t.strictSame(at(1).dropped, [{ id: 'a', reason: 'within-margin' }]);
});

t.test('length band: the shortest of the top and the longest of the bottom', async (t) => {
  const made = { rewards: [10, 9, 8.5, 5, 1, 0.5, 0], lengths: [9, 4, 2, 5, 7, 8, 3] };
  const at = (lengthBand: number) => texts(pair([group('a', made)], { ...ONE, lengthBand }));
  t.strictSame(at(0), [['a0', 'a6']]);
  t.strictSame(at(0.1), [['a1', 'a5']], 'from 9 up, from 1 down');
  t.strictSame(at(0.05), [['a0', 'a5']], 'the bands reach from 9.5 up and from 0.5 down');
  t.strictSame(at(0.15), [['a2', 'a5']], 'from 8.5 up, from 1.5 down');
  t.equal(pair([group('a', made)], { ...ONE, lengthBand: 0.15 }).choices.movedByLength, 1);
  const equal = group('b', { rewards: [9.9, 10, 0, 0.1], lengths: [3, 3, 5, 5] });
  t.strictSame(texts(pair([equal], { ...ONE, lengthBand: 0.1 })), [['b1', 'b2']], 'equal length: by reward');
});

t.test("the rejected response is M0's worst where it is worse than the policy's worst", async (t) => {
  const groups = [group('a', { rewards: [3, 1, 2] }), group('b', { rewards: [3, 1, 2] })];
  const base = [
    scored('b', { rewards: [0, -2, 5], names: [10, 11, 12] }),
    scored('a', { rewards: [1, 2, 7], names: [10, 11, 12] }),
  ];
  const found = pair(groups, ONE, base);
  t.strictSame(texts(found), [
    ['a0', 'a1'],
    ['b0', 'b11'],
  ]);
  t.match(found.pairs[1], { rejectedFrom: 'base', rejectedReward: -2, referenceRejectedLogprob: -12 });
  t.notOk('rejectedFrom' in found.pairs[0]!, 'an equal reward is not worse');
  t.equal(found.choices.rejectedFromBase, 1);
  t.throws(() => pair(groups, ONE, base.slice(1)), { code: 'MISSING_SCORES', message: /prompt b/ });
  const empty = scored('b', { rewards: [Number.NaN, -9, 5], lengths: [0, 0, 1], names: [10, 11, 12] });
  t.equal(
    pair(groups, ONE, [empty, base[1]!]).choices.rejectedFromBase,
    0,
    'empty responses are no candidates',
  );
});

t.test('agreement: only pairs that the judge orders alike, with its margin', async (t) => {
  const judged = (id: string, judge: number[]) => group(id, { rewards: [3, 1, 2], judge });
  const groups = [
    judged('yes', [4, 1.5, 0]),
    judged('no', [1, 2, 0]),
    judged('tie', [2, 2, 5]),
    judged('nan', [Number.NaN, 2, 5]),
    group('none', { rewards: [3, 1, 2] }),
  ];
  const { pairs, dropped } = pair(groups, { ...ONE, agreement: 'judge' });
  t.match(pairs, [{ id: 'yes', judgeMargin: 2.5, baseChosenLogprob: -9, baseRejectedLogprob: -9 }]);
  t.strictSame(dropped, [
    { id: 'no', reason: 'rewards-disagree' },
    { id: 'tie', reason: 'judge-tied' },
    { id: 'nan', reason: 'not-judged' },
    { id: 'none', reason: 'not-judged' },
  ]);
  t.equal(pair(groups, ONE).pairs.length, 5, 'without the filter all are pairs');
});

t.test('history: tau is the mean over every earlier policy, or only reported', async (t) => {
  const rewards = [1, 2, 3];
  const history = [
    { model: 2, logprobs: [], rewards: [3, 2, 1] },
    { model: 1, logprobs: [], rewards: [2, 1, 3] },
    { model: 0, logprobs: [], rewards: [1, 1, 1] },
  ];
  const one = { ...scored('a', { rewards }), history };
  const at = (way: 'previous' | 'report' | 'all', rule: 'linear' | 'theorem' = 'linear') =>
    rank([one], { metric: 'kendall', rule, history: way })[0]!;
  const taus = [
    { model: 2, tau: -1 },
    { model: 1, tau: 1 / 3 },
    { model: 0, tau: null },
  ];
  t.match(at('previous'), { tau: 1, consistency: 1 });
  t.notOk('historyTau' in at('previous'));
  const reported = at('report');
  t.match(reported, { tau: 1, consistency: 1 });
  reported.historyTau!.forEach((found, i) => {
    t.equal(found.model, taus[i]!.model);
    t.ok(found.tau === taus[i]!.tau || Math.abs(found.tau! - taus[i]!.tau!) < 1e-15);
  });
  const mean = (1 - 1 + 1 / 3) / 3; // the policy without a ranking is left out
  t.ok(Math.abs(at('all').tau! - mean) < 1e-15);
  t.ok(Math.abs(at('all', 'theorem').consistency! - (3 - mean) / (4 - 2 * mean)) < 1e-15);
});

t.test('permuting responses keeps the pair, and dropping groups changes no other pair', async () => {
  const n = 5;
  const cases = fc.array(
    fc.record({
      rewards: fc.shuffledSubarray([-3, -1, 0, 0.5, 1, 2, 4, 7], { minLength: n, maxLength: n }),
      lengths: fc.array(fc.integer({ min: 1, max: 4 }), { minLength: n, maxLength: n }),
      judge: fc.array(fc.integer({ min: 0, max: 5 }), { minLength: n, maxLength: n }),
      base: fc.shuffledSubarray([-9, -3.5, -2, 3, 9], { minLength: 2, maxLength: 2 }),
      keys: fc.array(fc.double({ noNaN: true }), { minLength: n, maxLength: n }),
      kept: fc.boolean(),
    }),
    { minLength: 1, maxLength: 8 },
  );
  const options: PairOptions[] = [
    { ...ONE, ties: 'drop' },
    { ...ONE, lengthBand: 0.3 },
    { ...ONE, ties: 'margin', margin: 5 },
    { weight: 'sample', minConsistency: 0.3, agreement: 'judge' },
    { weight: 'sample', minConsistency: 0, agreement: 'none', lengthBand: 0.49 },
  ];
  fc.assert(
    fc.property(cases, fc.constantFrom(...options), fc.boolean(), (made, chosen, fromBase) => {
      const option = fromBase && !chosen.lengthBand ? chosen : { ...chosen, agreement: 'none' as const };
      const base =
        fromBase && !option.lengthBand
          ? made.map(({ base: rewards }, i) =>
              scored(`${i}`, { rewards, names: [20, 21], judge: rewards.map(() => 1) }),
            )
          : undefined;
      const names = Array.from({ length: n }, (_, i) => i);
      const all = made.map((one, i) => group(`${i}`, { ...one, names }));
      const permuted = made.map(({ keys, ...one }, i) => {
        const order = names.toSorted((a, b) => keys[a]! - keys[b]!);
        const by = (list: number[]) => order.map((k) => list[k]!);
        return group(`${i}`, {
          rewards: by(one.rewards),
          lengths: by(one.lengths),
          judge: by(one.judge),
          names: order,
        });
      });
      const what = (groups: RankedGroup[]) =>
        new Map(
          (({ pairs, dropped }) => [
            ...pairs.map(
              (p) =>
                [p.id, JSON.stringify([p.chosenIds, p.rejectedIds, p.rejectedFrom, p.judgeMargin])] as const,
            ),
            ...dropped.map(({ id, reason }) => [id, reason] as const),
          ])(pair(groups, option, base)),
        );
      const whole = what(all);
      if (whole.size !== made.length) return false;
      const rest = what(all.filter((_, i) => made[i]!.kept));
      return (
        [...what(permuted)].every(([id, found]) => whole.get(id) === found) &&
        [...rest].every(([id, found]) => whole.get(id) === found)
      );
    }),
    { seed: 11, numRuns: 400 },
  );
});

t.test('the function refuses what the settings refuse', async (t) => {
  const one = group('a', { rewards: [1, 2, 3] });
  const code = 'INVALID_ARGUMENT';
  t.throws(() => pair([one], { ...ONE, lengthBand: 0.5 }), { code, message: /\[0, 0\.5\), got 0\.5/ });
  t.throws(() => pair([one], { ...ONE, lengthBand: Number.NaN }), { code });
  t.throws(() => pair([one], { ...ONE, lengthBand: 0.1 }, [scored('a', { rewards: [0, 1] })]), { code });
  t.throws(() => pair([one], { ...ONE, ties: 'margin' }), { code });
});

t.test('settings that cannot go together are refused with what to do', async (t) => {
  const refused = (settings: object, message: RegExp) =>
    t.throws(() => validateConfig({ model: 'm', iterations: 0, ...settings }), {
      code: 'INVALID_CONFIG',
      message,
    });
  refused({ pairing: { ties: 'margin' } }, /pairing\.margin is missing/);
  refused({ pairing: { margin: 1 } }, /pairing\.margin has no effect with ties: first/);
  refused({ pairing: { lengthBand: 0.2, rejectedFrom: 'base' } }, /pairing\.lengthBand cannot go with/);
  refused({ pairing: { lengthBand: 0.2, ties: 'drop' } }, /pairing\.ties must not be drop/);
  refused({ pairing: { lengthBand: 0.5 } }, /lengthBand must be < 0\.5/);
  refused(
    { reward: { source: 'judge' }, pairing: { agreement: 'judge' } },
    /pairing\.agreement has no effect with reward\.source: judge/,
  );
  refused({ reward: { judge: { samples: 5 } } }, /reward\.judge\.samples has no effect without a judge/);
  refused(
    { pairing: { agreement: 'judge' }, reward: { judge: { minReadable: 4 } } },
    /minReadable must be at most reward\.judge\.samples \(3\), got 4/,
  );
  refused(
    { train: { agreementCoefficient: 1 }, maxLength: 900, reward: { judge: { maxNewTokens: 900 } } },
    /reward\.judge\.maxNewTokens must be less than maxLength/,
  );
  refused(
    { consistency: { measure: false, minConsistency: 0.1 } },
    /measure must not be false with consistency\.weight: dataset, consistency\.minConsistency/,
  );
  refused({ train: { lengthTerm: 0.1, loss: 'ipo' } }, /train\.lengthTerm has no effect with loss: ipo/);
  refused(
    { consistency: { history: 'all' }, score: { previousReward: 'anchor' } },
    /consistency\.history must be previous/,
  );
});
