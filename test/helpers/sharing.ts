import type { Test } from 'tap';
import type { NativeDtype, NativeModel, NativePairExample, NativeTensor } from '../../lib/native/binding.js';
import { closeInNorm } from './close.js';
import { binding, ids, randomIds } from './tiny-model.js';

const token = binding.cancelToken();
const OPTIMIZER = { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weightDecay: 0.01, maxGradNorm: 1, seed: 3n };
const CREAM = { loss: 'sigmoid' as const, beta: 0.1, sftCoefficient: 0.1 };
const PLAIN = { ...CREAM, sharePrompts: false };
/** A prompt and a response of one token are there too, and a prompt longer than the second layer's window. */
const PAIRS: NativePairExample[] = (
  [
    [1, 5, 1],
    [9, 7, 4],
    [17, 1, 12],
  ] as const
).map(([prompt, chosen, rejected], i) => ({
  promptIds: randomIds(prompt, 30 + i),
  chosenIds: randomIds(chosen, 40 + i),
  rejectedIds: randomIds(rejected, 50 + i),
  consistency: 0.8,
  referenceChosen: -3 * chosen,
  referenceRejected: -3 * rejected,
}));
const GROUPS = [
  ...PAIRS.map(({ promptIds, chosenIds, rejectedIds }) => ({
    promptIds,
    responses: [chosenIds, rejectedIds, randomIds(6, 60)],
  })),
  { promptIds: ids(3, 4), responses: [ids(), ids(5)] },
];

const rowsOf = (prompts: number) =>
  PAIRS.reduce(
    (rows, { promptIds, chosenIds, rejectedIds }) =>
      rows + prompts * promptIds.length + chosenIds.length + rejectedIds.length - 2,
    0,
  );
const flatten = (tensors: readonly NativeTensor[]) => tensors.flatMap(({ data }) => [...data]);

async function scores(model: NativeModel, sharePrompts: boolean, maxTokensPerBatch: number) {
  const { tokenLogprobs } = await model.score(
    GROUPS,
    { maxTokensPerBatch, perToken: true, sharePrompts },
    token,
  );
  return tokenLogprobs!.flatMap((group) => group.flatMap((values) => [...values]));
}

/** Scores and preference steps with prompts shared are those of sequences that stand alone. */
export async function checkSharing(
  t: Test,
  make: () => Promise<NativeModel>,
  dtype: NativeDtype,
): Promise<void> {
  // bfloat16 rounds every activation to 2^-9 of itself, at other places where products have other shapes.
  const [scoring, training] = dtype === 'float32' ? [1e-5, 1e-5] : [2e-2, 1e-1];
  const model = await make();
  const plain = await scores(model, false, 4096);
  t.equal(
    plain.length,
    GROUPS.flatMap(({ responses }) => responses.map((r) => r.length)).reduce((a, b) => a + b),
  );
  for (const budget of [1, 24, 4096]) {
    closeInNorm(t, await scores(model, true, budget), plain, scoring, `log-probs, ${budget} tokens`);
    closeInNorm(t, await scores(model, false, budget), plain, scoring, `plain log-probs, ${budget} tokens`);
  }

  const trainer = await model.createTrainer(OPTIMIZER);
  const expected = await trainer._preferenceGradients(PAIRS, PLAIN, 4096);
  const size = Math.hypot(...flatten(expected));
  t.ok(size > 0);
  for (const budget of [1, 30, 4096]) {
    const actual = await trainer._preferenceGradients(PAIRS, CREAM, budget);
    closeInNorm(t, flatten(actual), flatten(expected), training, `gradients, ${budget} tokens`);
    for (const [i, { name, data }] of expected.entries()) {
      t.equal(actual[i]!.name, name);
      // Tensors with hardly any gradient, as biases of keys, are rounding.
      const part = Math.hypot(...data);
      if (part > 1e-3 * size && dtype === 'float32')
        closeInNorm(t, actual[i]!.data, data, training, `gradient of ${name}`);
    }
  }

  const step = (options: typeof PLAIN | typeof CREAM) =>
    trainer.preferenceStep(PAIRS, options, 0, 4096, token);
  const [alone, shared] = [await step(PLAIN), await step(CREAM)];
  const values = ({ loss, gradNorm, logpsChosen, logpsRejected, rewardsMargins }: typeof alone) => [
    loss,
    gradNorm,
    logpsChosen,
    logpsRejected,
    rewardsMargins,
  ];
  closeInNorm(t, values(shared), values(alone), training, 'loss, norm, log-probs, margin');
  t.ok(Math.abs(shared.loss / alone.loss - 1) <= training, 'the loss', { shared, alone });
  t.equal(alone.tokens, rowsOf(2), 'two copies of each prompt');
  t.equal(shared.tokens, rowsOf(1), 'one');
  t.equal(alone.targetTokens, shared.targetTokens);
  trainer.dispose();
  model.dispose();
}

const ADAPTER = {
  rank: 3,
  alpha: 6,
  dropout: 0,
  rankStabilized: false,
  targetModules: ['q_proj' as const, 'v_proj' as const, 'o_proj' as const, 'up_proj' as const],
};

/** A model whose adapter has been trained for a step: no factor is zero. */
export async function trainedAdapter(base: NativeModel): Promise<NativeModel> {
  const model = await base.addAdapter(ADAPTER, 1n);
  const trainer = await model.createTrainer(OPTIMIZER);
  await trainer.preferenceStep(PAIRS, CREAM, 1e-2, 4096, token);
  trainer.dispose();
  return model;
}
