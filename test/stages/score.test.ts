import t from 'tap';
import { judgesOf, score, withRewards } from '../../lib/stages/score.js';
import type { Group } from '../../lib/types.js';

const group = (id: string, lengths: number[]): Group => ({
  id,
  prompt: id,
  promptIds: [1],
  responses: lengths.map((length, i) => ({
    ids: Array.from({ length }, () => 10 + i),
    text: '',
    finishReason: 'stop',
  })),
});
const pass = (values: Record<string, number[]>) =>
  Object.entries(values).map(([id, logprobs]) => ({ id, logprobs }));
const IMPLICIT = { policy: 'implicit', previous: 'implicit' } as const;

t.test('rewards are beta times the log-prob ratio to the base, for both policies', async (t) => {
  const [scored] = withRewards(
    [group('a', [2, 4])],
    { policy: pass({ a: [-3, -8] }), base: pass({ a: [-4, -6] }), previous: pass({ a: [-3.5, -7] }) },
    { beta: 0.5, lengthNormalize: false, judges: IMPLICIT },
  );
  t.strictSame(scored?.rewards, [0.5, -1]);
  t.strictSame(scored?.previousRewards, [0.25, -0.5]);
  t.strictSame(scored?.numTokens, [2, 4]);
});

t.test('length normalisation divides both sides by the tokens', async (t) => {
  const [scored] = withRewards(
    [group('a', [2, 4])],
    { policy: pass({ a: [-3, -8] }), base: pass({ a: [-4, -6] }), previous: pass({ a: [-3.5, -7] }) },
    { beta: 0.5, lengthNormalize: true, judges: IMPLICIT },
  );
  t.strictSame(scored?.rewards, [0.25, -0.25]);
  t.strictSame(scored?.previousRewards, [0.125, -0.125]);
});

t.test('M0 ranks by its log-likelihood per token; the anchor does so at every iteration', async (t) => {
  const passes = { policy: pass({ a: [-3, -8] }), base: pass({ a: [-4, -6] }) };
  const likelihood = withRewards([group('a', [2, 4])], passes, {
    beta: 1,
    lengthNormalize: false,
    judges: { policy: 'implicit', previous: 'likelihood' },
  });
  t.strictSame(likelihood[0]?.previousRewards, [-2, -1.5]);
  const anchor = withRewards(
    [group('a', [2, 4])],
    { ...passes, previous: pass({ a: [-100, -1] }) },
    { beta: 1, lengthNormalize: false, judges: { policy: 'implicit', previous: 'anchor' } },
  );
  t.strictSame(anchor[0]?.previousRewards, [-2, -1.5], 'the previous policy is not asked');
});

t.test('who ranks how, by iteration', async (t) => {
  const auto = { previousReward: 'auto', fineTuned: true } as const;
  t.strictSame(judgesOf(1, auto), { policy: 'implicit', previous: 'likelihood' });
  t.strictSame(judgesOf(2, auto), { policy: 'implicit', previous: 'implicit' });
  const untuned = { ...auto, fineTuned: false };
  t.strictSame(judgesOf(1, untuned), { policy: 'likelihood', previous: 'likelihood' }, 'M1 is M0');
  t.strictSame(judgesOf(2, untuned), { policy: 'implicit', previous: 'likelihood' });
  t.strictSame(judgesOf(3, untuned), IMPLICIT);
  t.equal(judgesOf(3, { ...auto, previousReward: 'anchor' }).previous, 'anchor');
  t.equal(judgesOf(3, { ...auto, previousReward: 'likelihood' }).previous, 'likelihood');
});

t.test('§6.3 passes join by id, in any order, and a group that one pass lacks is an error', async (t) => {
  const groups = [group('a', [1]), group('b', [1])];
  const options = { beta: 1, lengthNormalize: false, judges: IMPLICIT };
  const scored = withRewards(
    groups,
    {
      policy: pass({ b: [-1], a: [-2] }),
      base: pass({ a: [0], b: [0] }),
      previous: pass({ b: [-3], a: [-4] }),
    },
    options,
  );
  t.strictSame(
    scored.map(({ rewards, previousRewards }) => [rewards, previousRewards]),
    [
      [[-2], [-4]],
      [[-1], [-3]],
    ],
  );
  const missing = { policy: pass({ a: [-2] }), base: pass({ a: [0], b: [0] }) };
  t.throws(() => withRewards(groups, missing, options), { code: 'MISSING_SCORES', message: /prompt b / });
  const short = { policy: pass({ a: [-2], b: [] }), base: pass({ a: [0], b: [0] }) };
  t.throws(() => withRewards(groups, short, options), { code: 'MISSING_SCORES', message: /prompt b / });
});

t.test('§6.8 an empty response has no reward per token: NaN, not a division by zero', async (t) => {
  const [scored] = withRewards(
    [group('a', [0, 2])],
    { policy: pass({ a: [0, -8] }), base: pass({ a: [0, -6] }) },
    { beta: 1, lengthNormalize: true, judges: { policy: 'implicit', previous: 'likelihood' } },
  );
  t.strictSame(scored?.rewards, [Number.NaN, -1]);
  t.strictSame(scored?.previousRewards, [Number.NaN, -3]);
});

t.test('equal responses to one prompt are computed once and get one number', async (t) => {
  const twice: Group = { ...group('a', [2, 3]), responses: [] };
  twice.responses = [[5, 6], [7], [5, 6], [56]].map((ids) => ({ ids, text: '', finishReason: 'stop' }));
  const asked: (readonly number[])[][] = [];
  const model = {
    // A number that differs with every call and place, as rounding might.
    score: async (groups: { responses: (readonly number[])[] }[]) =>
      groups.map(({ responses }) => {
        asked.push(responses);
        return { logprobs: responses.map((_, i) => -i - 0.1) };
      }),
  };
  t.strictSame(await score([twice], model, { maxTokensPerBatch: 100 }), [
    { id: 'a', logprobs: [-0.1, -1.1, -0.1, -2.1] },
  ]);
  t.strictSame(asked, [[[5, 6], [7], [56]]]);
});
