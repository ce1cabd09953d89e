import t from 'tap';
import { validateConfig } from '../../lib/config.js';
import { scoringPasses } from '../../lib/estimate/work.js';
import { METHOD_NAMES, METHODS } from '../../lib/methods.js';
import { scoringNeeds } from '../../lib/scoring-needs.js';
import { pair } from '../../lib/stages/pair.js';
import { rank, unranked } from '../../lib/stages/rank.js';
import { type RewardOptions, withPairRewards } from '../../lib/stages/reward.js';
import type { ScoredGroup } from '../../lib/types.js';

// Rewards, pairs and weights of every method on groups made by hand.

const BETA = 0.5;
const group = (id: string, changes: Partial<ScoredGroup> = {}): ScoredGroup => {
  const logprobs = [-4, -6, -9, -2];
  const baseLogprobs = [-5, -9, -8, -3];
  const previousLogprobs = [-4.5, -8.8, -4, -1];
  return {
    id,
    prompt: id,
    promptIds: [1],
    responses: [2, 3, 4, 1].map((length, i) => ({
      ids: Array.from({ length }, () => i + 1),
      text: `r${i}`,
      finishReason: 'stop' as const,
    })),
    numTokens: [2, 3, 4, 1],
    logprobs,
    baseLogprobs,
    previousLogprobs,
    rewards: logprobs.map((value, i) => BETA * (value - baseLogprobs[i]!)), // .5 1.5 -.5 .5
    previousRewards: previousLogprobs.map((value, i) => BETA * (value - baseLogprobs[i]!)), // .25 .1 2 1
    ...changes,
  };
};
const options = (changes: Partial<RewardOptions>): RewardOptions => ({
  source: 'implicit',
  hasPreviousReward: true,
  beta: BETA,
  lengthNormalize: false,
  ...changes,
});
const rewardsOf = async (changes: Partial<RewardOptions>, of = group('a')) =>
  (await withPairRewards([of], options(changes)))[0]!.pairRewards;

const RANK = { metric: 'kendall', rule: 'linear' } as const;
async function pairsOf(
  changes: Partial<RewardOptions>,
  groups = [group('a')],
  weight: 'one' | 'sample' | 'dataset' = 'one',
) {
  const ranked = rank(await withPairRewards(groups, options(changes)), RANK);
  return pair(ranked, { weight, minConsistency: 0 });
}

t.test('likelihood: log-likelihood per token', async (t) => {
  t.strictSame(await rewardsOf({ source: 'likelihood' }), [-2, -2, -2.25, -2]);
  const { pairs } = await pairsOf({ source: 'likelihood' });
  t.strictSame(
    [pairs[0]!.chosen, pairs[0]!.rejected, pairs[0]!.weight],
    ['r0', 'r2', 1],
    'the first of equals',
  );
});

t.test(
  'worst-of: the lower of two rewards, and the own one where the previous policy has none',
  async (t) => {
    const close = (values: readonly number[] | undefined) => values?.map((value) => Number(value.toFixed(9)));
    t.strictSame(close(await rewardsOf({ source: 'worst-of' })), [0.25, 0.1, -0.5, 0.5]);
    t.strictSame(
      close(await rewardsOf({ source: 'worst-of', lengthNormalize: true })),
      [0.125, 0.033333333, -0.125, 0.5],
    );
    t.strictSame(await rewardsOf({ source: 'worst-of', hasPreviousReward: false }), [0.5, 1.5, -0.5, 0.5]);
    const { pairs } = await pairsOf({ source: 'worst-of' });
    t.strictSame(
      [pairs[0]!.chosen, pairs[0]!.rejected],
      ['r3', 'r2'],
      'not r1, which the previous policy doubts',
    );
  },
);

t.test('verifier: right is 1, wrong 0; ties make no pair; no label, no reward', async (t) => {
  const correct = new Map([
    ['a', [false, false, true, false]],
    ['tied', [true, true, true, true]],
  ]);
  const groups = [group('a'), group('tied'), group('unlabelled')];
  const { pairs, dropped } = await pairsOf({ source: 'verifier', correct }, groups);
  t.strictSame(
    pairs.map(({ id, chosen, rejected, chosenReward, rejectedReward }) => [
      id,
      chosen,
      rejected,
      chosenReward,
      rejectedReward,
    ]),
    [['a', 'r2', 'r0', 1, 0]],
  );
  t.strictSame(dropped, [
    { id: 'tied', reason: 'tied' },
    { id: 'unlabelled', reason: 'not-finite' },
  ]);
  t.equal(pairs[0]!.referenceChosenLogprob, -9, 'the reference is the policy, whatever ranks');
  await t.rejects(pairsOf({ source: 'verifier', correct }, [group('unlabelled')]), {
    code: 'INVALID_DATA',
    message: /needs labels/,
  });
});

t.test('module: any numbers; its argument is a copy; what it does wrong is said', async (t) => {
  const { pairs } = await pairsOf({
    source: 'module',
    reward: (groups) => groups.map(({ responses }) => responses.map(({ text }) => Number(text.slice(1)))),
  });
  t.strictSame([pairs[0]!.chosen, pairs[0]!.rejected], ['r3', 'r0']);
  const spoilt = await pairsOf({
    source: 'module',
    reward: (groups) => {
      for (const { ids } of groups.flatMap(({ responses }) => responses)) ids.fill(99);
      return groups.map(() => [1, 2, 3, 4]);
    },
  });
  t.strictSame(spoilt.pairs[0]!.chosenIds, [4]);
  const { dropped } = await pairsOf({ source: 'module', reward: () => [[1, Number.NaN, 0, 2]] });
  t.strictSame(dropped, [{ id: 'a', reason: 'not-finite' }]);
  const bad: [() => unknown, RegExp][] = [
    [() => 3, /must return a list of 1 lists, one per group; got number/],
    [() => [], /got a list of 0/],
    [() => [[1, 2]], /must return 4 numbers for group a, got \[1,2\]/],
    [() => [[1, 2, 3, 'x']], /must return 4 numbers for group a/],
    [
      () => {
        throw new Error('out of luck');
      },
      /threw: out of luck/,
    ],
  ];
  for (const [reward, message] of bad) {
    await t.rejects(pairsOf({ source: 'module', reward: reward as never }), {
      code: 'REWARD_FAILED',
      message,
    });
  }
});

t.test('another reward needs no consistency, unless the weight does', async (t) => {
  const constant = group('a', { previousRewards: [1, 1, 1, 1] });
  const reward = () => [[1, 2, 3, 4]];
  const one = await pairsOf({ source: 'module', reward }, [constant]);
  t.strictSame([one.pairs.length, one.pairs[0]!.consistency, one.pairs[0]!.weight], [1, null, 1]);
  const sample = await pairsOf({ source: 'module', reward }, [constant], 'sample');
  t.strictSame(sample.dropped, [{ id: 'a', reason: 'previous-constant' }]);
  const own = await pairsOf({}, [constant]);
  t.strictSame(own.dropped, [{ id: 'a', reason: 'previous-constant' }], "the policy's own reward as before");
});

t.test('permuting responses permutes the rewards', async (t) => {
  const order = [2, 0, 3, 1];
  const pick = <T>(list: readonly T[]) => order.map((i) => list[i]!);
  const original = group('a');
  const permuted = group('a', {
    responses: pick(original.responses),
    numTokens: pick(original.numTokens),
    logprobs: pick(original.logprobs),
    baseLogprobs: pick(original.baseLogprobs!),
    previousLogprobs: pick(original.previousLogprobs!),
  });
  for (const source of ['likelihood', 'worst-of'] as const) {
    t.strictSame(await rewardsOf({ source }, permuted), pick((await rewardsOf({ source }))!), source);
  }
});

t.test('the oracle ranks by a reward model where one is given', async (t) => {
  const input = { model: 'm', data: { prompts: 'p' }, method: 'oracle', reward: { model: 'rm' } };
  t.equal(validateConfig(input).reward.source, 'model');
  t.equal(validateConfig({ ...input, reward: { model: 'rm', source: 'model' } }).reward.source, 'model');
});

t.test('what no setting asks for is not computed', async (t) => {
  const needsOf = (settings: object, author?: 'base') =>
    scoringNeeds(validateConfig({ model: 'm', data: { prompts: 'p' }, ...settings }), author);
  const measure = { consistency: { measure: false } };
  const judgeTerm = { train: { agreementEntropy: 0.1 } };
  for (const [settings, base, previous, judge] of [
    [{}, true, true, false],
    [{ method: 'srlm' }, true, true, false],
    [{ method: 'srlm', ...measure }, true, false, false],
    [{ method: 'worst-of', ...measure }, true, true, false],
    [{ method: 'oracle', ...measure }, false, false, false],
    [{ method: 'likelihood', ...measure }, false, false, false],
    [{ method: 'srlm-judge' }, true, true, true],
    [{ method: 'srlm-judge', ...measure }, false, false, true],
    [{ method: 'srlm-judge', ...measure, ...judgeTerm }, true, false, true],
    [{ pairing: { agreement: 'judge' } }, true, true, true],
  ] as const) {
    t.strictSame(needsOf(settings), { base, previous, judge }, JSON.stringify(settings));
  }
  t.strictSame(needsOf({}, 'base'), { base: true, previous: false, judge: false });
  t.strictSame(needsOf({ method: 'oracle' }, 'base'), { base: false, previous: false, judge: false });
  // One pass under the policy, or two with M0, in place of three.
  const passes = (settings: object) =>
    scoringPasses(2, validateConfig({ model: 'm', data: { prompts: 'p' }, ...settings }));
  t.equal(passes({}), 3);
  t.equal(passes({ method: 'srlm', ...measure }), 2);
  t.equal(passes({ method: 'oracle', ...measure }), 1);
});

t.test('pairs without a measured consistency: no tau, no C, weight 1', async (t) => {
  const { previousRewards: _, previousLogprobs: __, ...rest } = group('a');
  const scored = [rest];
  const { pairs } = pair(unranked(scored), { weight: 'one', minConsistency: 0 });
  t.equal(pairs.length, 1);
  t.equal(pairs[0]!.consistency, null);
  t.notOk('tau' in pairs[0]!);
  const dropped = pair(unranked(scored), { weight: 'sample', minConsistency: 0 }).dropped;
  t.strictSame(dropped, [{ id: 'a', reason: 'not-measured' }]);
});

t.test("a judge's and a reward model's numbers are joined by id; what has none makes no pair", async (t) => {
  const groups = [group('a'), group('b')];
  const count = groups[0]!.responses.length;
  const points = Array.from({ length: count }, (_, i) => i);
  const given = new Map([
    ['b', points.map((value) => -value)],
    ['a', points],
  ]);
  for (const source of ['judge', 'model'] as const) {
    const rewarded = await withPairRewards(groups, options({ source, given }));
    t.strictSame(
      rewarded.map(({ pairRewards }) => pairRewards),
      [given.get('a'), given.get('b')],
    );
    const missing = new Map([['a', points]]);
    await t.rejects(withPairRewards(groups, options({ source, given: missing })), {
      code: 'MISSING_SCORES',
      message: new RegExp(`prompt b was not scored by the ${source}`),
    });
  }
  const silent = points.map((value, i) => (i === 1 ? Number.NaN : value));
  const judged = { ...group('a'), pairRewards: silent, judgeRewards: silent };
  const { pairs, dropped } = pair(unranked([judged]), { weight: 'one', minConsistency: 0 });
  t.strictSame([pairs, dropped], [[], [{ id: 'a', reason: 'not-judged' }]]);
});

t.test('a method is one line of config; what contradicts it is named', async (t) => {
  for (const method of METHOD_NAMES) {
    const { source, weight } = METHODS[method];
    const input = {
      model: 'm',
      data: { prompts: 'p' },
      method,
      ...(source === 'module' && { reward: { module: 'reward.mjs' } }),
      ...(source === 'model' && { reward: { model: 'rm' } }),
      ...(weight === 'constant' && { consistency: { constant: 0.8 } }),
    };
    const config = validateConfig(input);
    t.strictSame([config.reward.source, config.consistency.weight], [source, weight], method);
    t.strictSame(validateConfig(config), config, 'complete settings are settings');
  }
  const refused: [object, RegExp][] = [
    [
      { method: 'srlm', consistency: { weight: 'dataset' } },
      /consistency\.weight is dataset, but method: srlm means one/,
    ],
    [
      { method: 'oracle', reward: { source: 'implicit' } },
      /reward\.source is implicit, but method: oracle means verifier or model/,
    ],
    [{ method: 'reward-model' }, /reward\.model is missing/],
    [{ reward: { model: 'rm' } }, /reward\.model has no effect with source: implicit/],
    [{ method: 'crem' }, /method .*cream/],
    [{ method: 'custom' }, /reward\.module is missing/],
    [{ method: 'cream-constant' }, /consistency\.constant is missing/],
    [{ reward: { module: 'x.js' } }, /reward\.module has no effect with source: implicit/],
    [{ method: 'worst-of', score: { previousReward: 'anchor' } }, /needs the previous policy/],
  ];
  for (const [changes, message] of refused) {
    t.throws(() => validateConfig({ model: 'm', data: { prompts: 'p' }, ...changes }), {
      code: 'INVALID_CONFIG',
      message,
    });
  }
});
