import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { wilsonInterval } from '../../lib/accuracy.js';
import { loadLabelledGroups } from '../../lib/data/labelled-groups.js';
import { REWARD_BENCH, rewardBenchScore } from '../../lib/data/reward-bench.js';
import {
  encodeLabelled,
  type GroupTokenizer,
  rankingReport,
  rankingRewards,
} from '../../lib/stages/ranking-accuracy.js';
import { rankingAccuracy } from '../../lib/run/summary.js';
import { close } from '../helpers/close.js';
import { readGolden } from '../helpers/golden.js';

const folder = t.testdir({});
let files = 0;
function file(...rows: unknown[]): string {
  files += 1;
  const path = join(folder, `rows-${files}.jsonl`);
  writeFileSync(path, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  return path;
}

t.test("RewardBench's rows, TRL's, and groups with flags", async (t) => {
  const user = { role: 'user', content: 'Hi' };
  const rows = await loadLabelledGroups(
    file(
      {
        prompt: 'p',
        chosen: 'good',
        chosen_model: 'm',
        rejected: 'bad',
        rejected_model: 'n',
        subset: 'hep-go',
        id: 7,
      },
      { prompt: 'p', chosen: 'good', rejected: 'bad', subset: 'hep-cpp', id: 7 },
      { prompt: 'p', chosen: 'good', rejected: 'bad', subset: 'hep-cpp', id: 7 },
      { prompt: 'p', chosen: ['a', 'b'], rejected: ['c', 'd', 'e'], subset: 'Math', id: 'x' },
      {
        chosen: [user, { role: 'assistant', content: 'yes' }],
        rejected: [user, { role: 'assistant', content: 'no' }],
      },
      {
        id: 'g',
        question: '1 + 1?',
        reference: '2',
        responses: ['2', { text: '3' }, { ids: [4, 5] }],
        correct: [true, 0, 1],
      },
    ),
  );
  t.strictSame(
    rows.map(({ id, subset, correct }) => [id, subset, correct]),
    [
      ['hep-go/7', 'hep-go', [true, false]],
      ['hep-cpp/7', 'hep-cpp', [true, false]],
      ['hep-cpp/7#3', 'hep-cpp', [true, false]],
      ['Math/x', 'Math', [true, true, false, false, false]],
      [`rows-${files}-5`, undefined, [true, false]],
      ['g', undefined, [true, false, true]],
    ],
  );
  t.strictSame(rows[0]!.responses, [{ text: 'good' }, { text: 'bad' }]);
  t.strictSame(rows[4]!.prompt, [user]);
  t.match(rows[4]!.responses, [{ text: 'yes' }, { text: 'no' }]);
  t.strictSame(rows[5]!.responses, [{ text: '2' }, { text: '3' }, { ids: [4, 5], text: '' }]);
});

t.test('what is no labelled row is refused by file and line', async (t) => {
  const group = { prompt: 'p', responses: ['a', 'b'], correct: [true, false] };
  const cases: [unknown, RegExp][] = [
    [{ prompt: 'p', responses: ['a', 'b'] }, /:1: correct is missing: one flag per response/],
    [{ ...group, correct: [true] }, /:1: correct has 1 flags for 2 responses/],
    [
      { ...group, correct: ['yes', 'no'] },
      /:1: correct must be a list of true and false, got \["yes","no"\]/,
    ],
    [{ ...group, correct: [true, null] }, /:1: correct must be a list of true and false/],
    [{ ...group, responses: [] }, /:1: responses must be a list of texts/],
    [{ ...group, responses: ['a', 7] }, /:1: responses\[1\] must be text or {"ids": \[\.\.\.\]}, got 7/],
    [{ ...group, responses: ['a', { ids: [-1] }] }, /:1: ids must be a list of token ids/],
    [{ responses: ['a'], correct: [true] }, /:1: the row has "responses", "correct"/],
    [{ prompt: 'p', chosen: 'a' }, /:1: the row has "prompt", "chosen"; wanted is/],
    [{ prompt: 'p', chosen: 'a', rejected: 3 }, /:1: rejected must be text, got 3/],
    [
      { prompt: 'p', chosen: ['a'], rejected: [] },
      /:1: rejected must be text, messages or a list of texts, got \[\]/,
    ],
    [{ prompt: 'p', chosen: ['a'] }, /:1: rejected must be text, got nothing/],
    [{ ...group, subset: 3 }, /:1: subset must be text, got 3/],
  ];
  for (const [row, message] of cases) {
    await t.rejects(loadLabelledGroups(file(row)), { code: 'INVALID_DATA', message }, String(message));
  }
  await t.rejects(loadLabelledGroups(file()), { code: 'INVALID_DATA', message: /has no rows/ });
});

const codes = (text: string) => Array.from(text, (c) => c.codePointAt(0)!);

/** Characters are tokens; 0 ends a response. */
const tokenizer: GroupTokenizer = {
  exchanges: async (inputs) =>
    inputs.map(({ prompt, responses }) => ({
      promptIds: codes(prompt as string),
      responses: responses.map((text) => [...codes(text as string), 0]),
      leftOut: [],
    })),
  checkIds: (ids, what) => {
    for (const id of ids) if (id > 1000) throw new Error(`${what}: ${id}`);
  },
};

t.test('rows are encoded with the stop token, ids stay; rows that do not fit are counted', async (t) => {
  const rows = await loadLabelledGroups(
    file(
      { prompt: 'ab', responses: ['c', { ids: [9] }, 'd'], correct: [true, false, false] },
      { prompt: 'ab', chosen: 'x'.repeat(20), rejected: 'y' },
    ),
  );
  const { groups, tooLong } = await encodeLabelled(rows, tokenizer, { chat: false, maxLength: 22 });
  t.equal(tooLong, 1);
  t.strictSame(
    groups.map(({ promptIds, responses }) => [promptIds, responses.map(({ ids }) => ids)]),
    [
      [
        [97, 98],
        [[99, 0], [9], [100, 0]],
      ],
    ],
  );
  await t.rejects(encodeLabelled(rows, tokenizer, { chat: false, maxLength: 3 }), {
    code: 'INVALID_DATA',
    message: /none of 2 prompts fits with its responses into 3 tokens/,
  });
});

t.test('rewards: the ratio, the lower of two, likelihood per token and summed', async (t) => {
  const response = (ids: number[]) => ({ ids, text: '', finishReason: 'stop' as const });
  const groups = [{ responses: [response([1, 2]), response([3]), response([])] }];
  const policy = [{ logprobs: [-4, -6, 0] }];
  const reference = [{ logprobs: [-5, -5, 0] }];
  const previous = [{ logprobs: [-9, -3, 0] }];
  const of = (reward: 'implicit' | 'worst-of' | 'likelihood' | 'likelihood-sum', lengthNormalize = false) =>
    rankingRewards(groups, { policy, reference, previous }, { reward, beta: 0.5, lengthNormalize })[0];
  t.strictSame(of('implicit'), [0.5, -0.5, 0]);
  t.strictSame(of('implicit', true), [0.25, -0.5, Number.NaN]);
  t.strictSame(of('worst-of'), [-2, -0.5, 0]);
  t.strictSame(of('likelihood'), [-2, -6, Number.NaN]);
  t.strictSame(of('likelihood-sum'), [-4, -6, 0]);
});

t.test('ties count half and are reported; what cannot be ranked is counted, never half', async (t) => {
  const groups = [
    { id: 'a', correct: [true, false, false] },
    { id: 'b', correct: [false, true] },
    { id: 'c', correct: [true, true] },
    { id: 'd', correct: [true, false] },
  ];
  const report = rankingReport(groups, [
    [2, 1, 2],
    [3, 1],
    [1, 2],
    [Number.NaN, 0],
  ]);
  t.match(report, { accuracy: 0.5, pairs: 3, ties: 1, groups: 2, withoutPairs: 1, unranked: 1 });
  t.equal(report.best, 0.25, 'a: one of two equal highest is right; b: the highest is wrong');
  close(t, [report.bestByChance!], [(1 / 3 + 1 / 2) / 2], { rtol: 1e-12 });
  t.equal(report.subsets, undefined);
});

t.test('with one pair per prompt the interval is that of as many independent pairs', async (t) => {
  const groups = Array.from({ length: 10 }, (_, i) => ({ id: `${i}`, correct: [true, false] }));
  const rewards = groups.map((_, i) => (i < 7 ? [1, 0] : [0, 1]));
  const { accuracy, interval } = rankingReport(groups, rewards);
  t.equal(accuracy, 0.7);
  const [low, high] = wilsonInterval(7, 10);
  t.ok(interval![0] <= low && interval![0] > low - 0.02, 'at most a little wider: n - 1 in the variance');
  t.ok(interval![1] >= high && interval![1] < high + 0.02);
  const perfect = rankingReport(
    groups,
    groups.map(() => [1, 0]),
  );
  t.strictSame(perfect.interval, wilsonInterval(10, 10));
  const tied = rankingReport(
    groups,
    groups.map(() => [1, 1]),
  );
  t.strictSame([tied.accuracy, tied.ties], [0.5, 10]);
  t.strictSame(tied.interval, wilsonInterval(5, 10));
});

t.test('pairs of one prompt that agree do not narrow the interval', async (t) => {
  const correct = [true, true, true, false, false, false];
  const groups = Array.from({ length: 8 }, (_, i) => ({ id: `${i}`, correct }));
  const { interval, pairs } = rankingReport(
    groups,
    groups.map((_, i) => (i % 2 === 0 ? [1, 1, 1, 0, 0, 0] : [0, 0, 0, 1, 1, 1])),
  );
  t.equal(pairs, 72);
  const [low] = wilsonInterval(4, 8);
  t.ok(interval![0] <= low, `${interval![0]} is not above ${low}, that of 8 pairs`);
});

t.test('the accuracy is that of a run, and lies in its interval', async (t) => {
  const group = fc.array(fc.tuple(fc.boolean(), fc.integer({ min: 0, max: 3 })), {
    minLength: 1,
    maxLength: 6,
  });
  fc.assert(
    fc.property(fc.array(group, { minLength: 1, maxLength: 12 }), (all) => {
      const groups = all.map((some, i) => ({ id: `${i}`, correct: some.map(([flag]) => flag) }));
      const rewards = all.map((some) => some.map(([, reward]) => reward));
      const expected = rankingAccuracy(
        groups.map(({ id }, i) => ({ id, rewards: rewards[i]! })),
        new Map(groups.map(({ id, correct }) => [id, correct])),
      );
      if (expected === null) {
        t.throws(() => rankingReport(groups, rewards), { code: 'INVALID_DATA' });
        return;
      }
      const { accuracy, interval, best } = rankingReport(groups, rewards);
      const [low, high] = interval!;
      if (Math.abs(accuracy! - expected) > 1e-12) throw new Error(`${accuracy} is not ${expected}`);
      if (!(low >= 0 && low <= expected + 1e-12 && expected <= high + 1e-12 && high <= 1))
        throw new Error(`${expected} is not in [${low}, ${high}]`);
      if (!(best! >= 0 && best! <= 1)) throw new Error(`best is ${best}`);
    }),
    { seed: 11, numRuns: 500 },
  );
});

t.test(
  "RewardBench's score: sections weigh their subsets as published, the score is their mean",
  async (t) => {
    const subsets = Object.values(REWARD_BENCH).flatMap((section) => Object.keys(section));
    t.equal(subsets.length, 23);
    const groups = subsets.map((subset) => ({ id: subset, subset, correct: [true, false] }));
    // Right on math-prm, donotanswer and the Chat section.
    const right = new Set(['math-prm', 'donotanswer', ...Object.keys(REWARD_BENCH['Chat']!)]);
    const { rewardBench, accuracy } = rankingReport(
      groups,
      subsets.map((subset) => (right.has(subset) ? [1, 0] : [0, 1])),
    );
    const sections = Object.fromEntries(
      rewardBench!.sections.map((section) => [section.name, section.accuracy]),
    );
    t.strictSame(sections, { Chat: 1, 'Chat Hard': 0, Safety: 136 / 740, Reasoning: 0.5 });
    close(t, [rewardBench!.score!, accuracy!], [(1 + 136 / 740 + 0.5) / 4, 7 / 23], { rtol: 1e-12 });
    t.strictSame(rewardBench!.missing, []);

    const part = rankingReport([{ id: 'x', subset: 'hep-go', correct: [true, false] }], [[1, 0]]);
    t.strictSame(part.rewardBench!.sections, [{ name: 'Reasoning', accuracy: 1 }]);
    t.equal(part.rewardBench!.score, null, 'no score from a part');
    t.equal(part.rewardBench!.missing.length, 22);
    const own = rankingReport([{ id: 'x', subset: 'mine', correct: [true, false] }], [[1, 0]]);
    t.match(own.subsets, { mine: { accuracy: 1, pairs: 1 } });
    t.equal(own.rewardBench, undefined);
  },
);

t.test("RewardBench's weights and scores are those of its package", async (t) => {
  const { versions, sections, accuracies, scores } = readGolden<{
    versions: Record<string, string>;
    sections: typeof REWARD_BENCH;
    accuracies: Record<string, number>;
    scores: Record<string, number>;
  }>('reward-bench');
  t.strictSame(REWARD_BENCH, sections);
  const found = rewardBenchScore(new Map(Object.entries(accuracies)))!;
  t.equal(found.release, versions['rewardbench']);
  t.strictSame(
    found.sections.map(({ name }) => name),
    Object.keys(scores),
  );
  close(
    t,
    found.sections.map(({ accuracy }) => accuracy),
    Object.values(scores),
    { rtol: 1e-12 },
  );
});

t.test('rewards that do not belong to the responses are refused by the prompt', async (t) => {
  t.throws(() => rankingReport([{ id: 'q', correct: [true, false] }], [[1]]), {
    code: 'MISSING_SCORES',
    message: 'prompt q has 2 labels and 1 rewards',
  });
  t.throws(() => rankingReport([{ id: 'q', correct: [true, true] }], [[1, 2]]), {
    code: 'INVALID_DATA',
    message: /none of 1 prompts has a right and a wrong response/,
  });
});
