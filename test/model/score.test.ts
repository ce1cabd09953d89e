import { join } from 'node:path';
import t from 'tap';
import type { NativeDtype, NativeModel, NativeScoreGroup } from '../../lib/native/binding.js';
import { close } from '../helpers/close.js';
import {
  binding,
  EVERYTHING,
  genericTensors,
  ids,
  modelFrom,
  randomIds,
  TIED,
} from '../helpers/tiny-model.js';

// That the numbers are those of transformers is test/model/golden.test.ts; here: packing does not change them.

const token = binding.cancelToken();
const GROUPS: NativeScoreGroup[] = [
  { promptIds: randomIds(9, 1), responses: [1, 7, 30, 2, 1].map((length, i) => randomIds(length, 10 + i)) },
  { promptIds: ids(4), responses: [randomIds(5, 20)] },
  { promptIds: randomIds(40, 2), responses: [] },
  { promptIds: randomIds(5, 3), responses: [ids(), randomIds(3, 30), ids()] },
  { promptIds: randomIds(17, 4), responses: [3, 4, 90].map((length, i) => randomIds(length, 40 + i)) },
];

const score = async (model: NativeModel, groups: NativeScoreGroup[], maxTokensPerBatch = 0) =>
  model.score(groups, { maxTokensPerBatch, perToken: true }, token);

/** log_softmax of the model's own logits, without packing, caching or chunks. */
async function direct(model: NativeModel, prompt: Int32Array, response: Int32Array, vocab: number) {
  if (response.length === 0) return [];
  const logits = await model._logits(Int32Array.of(...prompt, ...response));
  return [...response].map((id, i) => {
    const row = logits.subarray((prompt.length - 1 + i) * vocab, (prompt.length + i) * vocab);
    const top = Math.max(...row);
    return row[id]! - top - Math.log(row.reduce((sum, x) => sum + Math.exp(x - top), 0));
  });
}

for (const [architecture, config] of Object.entries({ EVERYTHING, TIED })) {
  for (const dtype of ['float32', 'bfloat16'] as NativeDtype[]) {
    t.test(
      `packed, prompt-sharing scores equal each sequence on its own: ${architecture}, ${dtype}`,
      async (t) => {
        const model = await modelFrom(join(t.testdir(), 'm'), config, await genericTensors(config), dtype);
        // bfloat16: activations are rounded at other places when the products have other shapes.
        const atol = dtype === 'float32' ? 2e-5 : 0.25;
        const whole = await score(model, GROUPS);
        for (const [g, { promptIds, responses }] of GROUPS.entries()) {
          t.equal(whole.logprobs[g]!.length, responses.length);
          for (const [r, response] of responses.entries()) {
            const expected = await direct(model, promptIds, response, config.vocabSize);
            const actual = whole.tokenLogprobs![g]![r]!;
            close(t, actual, expected, { atol }, `group ${g}, response ${r}`);
            const sum = actual.reduce((a, b) => a + b, 0);
            close(t, [whole.logprobs[g]![r]!], [sum], { rtol: 1e-15 }, 'the sum is float64');
          }
        }
        for (const budget of [1, 16, 64, 100]) {
          const split = await score(model, GROUPS, budget);
          for (const [g, { responses }] of GROUPS.entries()) {
            for (const r of responses.keys()) {
              close(
                t,
                split.tokenLogprobs![g]![r]!,
                whole.tokenLogprobs![g]![r]!,
                { atol },
                `budget ${budget}`,
              );
            }
          }
        }
        t.strictSame(await score(model, GROUPS), whole, 'the same call gives the same bits');
      },
    );
  }
}

t.test('an empty response has log-prob 0 and no tokens', async (t) => {
  const model = await modelFrom(join(t.testdir(), 'm'), TIED, await genericTensors(TIED));
  const { logprobs, tokenLogprobs } = await score(model, [{ promptIds: ids(1, 2), responses: [ids()] }]);
  t.same([...logprobs[0]!], [0]);
  t.equal(tokenLogprobs![0]![0]!.length, 0);
  t.same((await score(model, [])).logprobs, []);
});

t.test('what cannot be scored is refused by name', async (t) => {
  const model = await modelFrom(join(t.testdir(), 'm'), TIED, await genericTensors(TIED));
  const groups = [
    { promptIds: ids(1), responses: [ids(1)] },
    { promptIds: randomIds(500, 1), responses: [randomIds(14, 2)] },
  ];
  await t.rejects(score(model, groups), {
    code: 'INVALID_ARGUMENT',
    message: /score: group 1: prompt and response take 513 positions, but the model has 512/,
  });
  const cancelled = binding.cancelToken();
  cancelled.cancel();
  await t.rejects(model.score(GROUPS, { maxTokensPerBatch: 0, perToken: false }, cancelled), {
    code: 'ABORTED',
  });
});
