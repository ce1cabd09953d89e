import t from 'tap';
import {
  comparedGroups,
  samplerAgreement,
  samplerDoubt,
  samplerLogprobs,
} from '../../lib/stages/policy-from-generation.js';
import type { Group } from '../../lib/types.js';

const group = (id: string, ...responses: [number[], number?][]): Group => ({
  id,
  prompt: 'p',
  promptIds: [1],
  responses: responses.map(([ids, samplerLogprob]) => ({
    ids,
    text: '',
    finishReason: 'stop',
    ...(samplerLogprob !== undefined && { samplerLogprob }),
  })),
});

t.test('equal responses tie, whatever their rounding', async (t) => {
  const groups = [group('a', [[5, 2], -3], [[6, 2], -4], [[5, 2], -3.0001]), group('b', [[], 0])];
  t.strictSame(samplerLogprobs(groups), [
    { id: 'a', logprobs: [-3, -4, -3] },
    { id: 'b', logprobs: [0] },
  ]);
  t.throws(() => samplerLogprobs([group('c', [[5]])]), {
    code: 'MISSING_SCORES',
    message: /group c: a response has no samplerLogprob/,
  });
});

t.test('the difference and the rank agreement, joined by id, on the groups that were scored', async (t) => {
  const groups = [
    group('a', [[5, 2], 0], [[6, 7, 8, 2], 0]),
    group('b', [[5], 0], [[6], 0], [[7], 0]),
    group('c', [[5], 0]),
  ];
  const sampler = [
    { id: 'a', logprobs: [-1, -2] },
    { id: 'b', logprobs: [-1, -2, -3] },
    { id: 'c', logprobs: [-1] },
  ];
  const scored = [
    { id: 'b', logprobs: [-1.5, -2, -1.75] },
    { id: 'a', logprobs: [-1.25, -2] },
  ];
  const asTheyAre = (logprobs: readonly number[]) => logprobs;
  const found = samplerAgreement(groups, { sampler, scored }, asTheyAre);
  t.equal(found.groups, 2);
  t.ok(Math.abs(found.meanDifference - (0.5 + 0 + 1.25 + 0.25 + 0) / 5) < 1e-12);
  t.equal(found.maxDifference, 1.25);
  t.ok(Math.abs(found.meanPerToken - (0.5 + 0 + 1.25 + 0.125 + 0) / 5) < 1e-12);
  // a: 1 of 1 pairs in order; b: 2 of 3 pairs in order, 1 not.
  t.ok(Math.abs(found.tau! - (1 + 1 / 3) / 2) < 1e-12);
  // The rewards decide, not the log-probs: a base that turns the order of a round in one of the two.
  const base: Record<string, number[]> = { a: [-1.1, -2], b: [0, 0, 0] };
  const rewardsOf = (logprobs: readonly number[], id: string) =>
    logprobs.map((own, i) => own - base[id]![i]!);
  t.ok(Math.abs(samplerAgreement(groups, { sampler, scored }, rewardsOf).tau! - (-1 + 1 / 3) / 2) < 1e-12);
  const single = [{ id: 'c', logprobs: [-1] }];
  t.equal(samplerAgreement(groups, { sampler, scored: single }, asTheyAre).tau, null);
});

t.test('groups to compare are spread evenly', async (t) => {
  t.strictSame(comparedGroups([1, 2, 3]), [1, 2, 3]);
  const many = comparedGroups(Array.from({ length: 640 }, (_, i) => i));
  t.equal(many.length, 32);
  t.strictSame([many[0], many[1], many[31]], [0, 20, 620]);
});

t.test('rankings that differ by more than rounding are told', async (t) => {
  const agreement = { groups: 12, meanDifference: 0.4, maxDifference: 2, meanPerToken: 0.01 };
  t.equal(samplerDoubt({ ...agreement, tau: 0.9 }), undefined);
  t.equal(samplerDoubt({ ...agreement, tau: null }), undefined);
  t.match(samplerDoubt({ ...agreement, tau: 0.71 }), /tau 0\.710 on 12 groups, at least 0\.9 is wanted\)/);
});
