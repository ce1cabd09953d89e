import { join } from 'node:path';
import t from 'tap';
import type { NativeModel, NativePairExample } from '../../lib/native/binding.js';
import { closeInNorm } from '../helpers/close.js';
import { binding, EVERYTHING, genericTensors, modelFrom, randomIds, TIED } from '../helpers/tiny-model.js';

// What a trainer may do to fit: compute activations again, round its moments, halve its micro-batches.

binding.setThreads(1);
const token = binding.cancelToken();
const OPTIMIZER = { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weightDecay: 0.01, maxGradNorm: 1, seed: 5n };
const CREAM = { loss: 'sigmoid' as const, beta: 0.1, sftCoefficient: 0.1 };
const PAIRS: NativePairExample[] = [0, 1, 2, 3].map((i) => ({
  promptIds: randomIds(2 + 3 * i, 30 + i),
  chosenIds: randomIds(1 + 4 * i, 40 + i),
  rejectedIds: randomIds(9 - 2 * i, 50 + i),
  consistency: 0.8,
  referenceChosen: -3 * (1 + 4 * i),
  referenceRejected: -3 * (9 - 2 * i),
}));
/** Rows of the longest pair. */
const LONGEST = Math.max(
  ...PAIRS.map((p) => p.promptIds.length + p.chosenIds.length + p.rejectedIds.length - 2),
);

const weightsOf = async (model: NativeModel) => (await model._tensors()).flatMap(({ data }) => [...data]);

for (const [name, config] of Object.entries({ EVERYTHING, TIED })) {
  t.test(`what is computed again in the backward has the same bits as what is kept: ${name}`, async (t) => {
    const tensors = await genericTensors(config);
    const path = join(t.testdir(), 'model.safetensors');
    const gradients = async (recompute: 'selective' | 'full' | 'none' | number) => {
      const model = await modelFrom(path, config, tensors);
      const trainer = await model.createTrainer({ ...OPTIMIZER, recompute });
      return trainer._preferenceGradients(PAIRS, CREAM, 30);
    };
    const expected = await gradients('selective');
    t.strictSame(await gradients('full'), expected, 'full');
    t.strictSame(await gradients('none'), expected, 'none');
    t.strictSame(await gradients(1), expected, 'of one layer');
    t.strictSame(await gradients(99), expected, 'of more layers than there are');
  });
}

t.test('a step that does not fit in memory is taken again in halves, to the same result', async (t) => {
  const tensors = await genericTensors(EVERYTHING);
  const path = join(t.testdir(), 'model.safetensors');
  const run = async (memory: number, bound: number) => {
    const model = await modelFrom(path, EVERYTHING, tensors);
    const trainer = await model.createTrainer(OPTIMIZER);
    await trainer._simulateMemoryOf(memory);
    const steps = [];
    for (let step = 0; step < 3; step++)
      steps.push(await trainer.preferenceStep(PAIRS, CREAM, 1e-3, bound, token));
    return { steps, weights: await weightsOf(model) };
  };
  const roomy = await run(0, 1024);
  t.strictSame(
    roomy.steps.map(({ microBatches }) => microBatches),
    [1, 1, 1],
  );
  const cramped = await run(40, 1024);
  t.strictSame(
    cramped.steps.map(({ maxTokensPerBatch }) => maxTokensPerBatch),
    [32, 32, 32],
    'the bound that fits is kept',
  );
  t.ok(cramped.steps[0]!.microBatches > 1);
  t.strictSame(await run(0, 32), cramped, 'nothing of the failed tries is left: to the bit the bound of 32');
  closeInNorm(t, cramped.weights, roomy.weights, 1e-5, 'and the same up to rounding as one micro-batch');
});

t.test('when not even one example fits, the step fails and changes nothing', async (t) => {
  const tensors = await genericTensors(EVERYTHING);
  const model = await modelFrom(join(t.testdir(), 'model.safetensors'), EVERYTHING, tensors);
  const trainer = await model.createTrainer(OPTIMIZER);
  const before = await weightsOf(model);
  await trainer._simulateMemoryOf(LONGEST - 1);
  await t.rejects(trainer.preferenceStep(PAIRS, CREAM, 1e-3, 256, token), { code: 'OUT_OF_MEMORY' });
  t.strictSame(await weightsOf(model), before);
  await trainer._simulateMemoryOf(LONGEST);
  const after = await trainer.preferenceStep(PAIRS, CREAM, 1e-3, 256, token);
  t.ok(after.applied, 'the next step is whole');
  t.equal(after.maxTokensPerBatch, 1);
});

t.test('bfloat16 moments train like float32 ones and continue to the bit', async (t) => {
  const tensors = await genericTensors(EVERYTHING);
  const directory = t.testdir();
  const train = async (momentsDtype: 'float32' | 'bfloat16', seed = 5n) => {
    const model = await modelFrom(join(directory, 'model.safetensors'), EVERYTHING, tensors);
    const trainer = await model.createTrainer({ ...OPTIMIZER, momentsDtype, seed });
    const losses: number[] = [];
    const steps = async (count: number) => {
      for (let step = 0; step < count; step++)
        losses.push((await trainer.preferenceStep(PAIRS, CREAM, 3e-3, 64, token)).loss);
    };
    return { model, trainer, losses, steps };
  };
  const [whole, half] = [await train('float32'), await train('bfloat16')];
  await whole.steps(40);
  await half.steps(25);
  const state = join(directory, 'state.safetensors');
  await half.trainer.saveState(state);
  await half.steps(15);
  closeInNorm(t, half.losses, whole.losses, 0.02, '40 losses');
  t.ok(half.losses.at(-1)! < 0.8 * half.losses[0]!, `learns: ${half.losses[0]} to ${half.losses.at(-1)}`);

  const resumed = await train('bfloat16');
  await resumed.trainer.loadState(state);
  await resumed.steps(15);
  t.strictSame(resumed.losses, half.losses.slice(25));
  t.strictSame(await weightsOf(resumed.model), await weightsOf(half.model));

  await t.rejects(whole.trainer.loadState(state), /momentsDtype bfloat16, but this trainer has float32/);
  const otherSeed = await train('bfloat16', 6n);
  await t.rejects(otherSeed.trainer.loadState(state), /momentsSeed 5, but this trainer has 6/);
});

/** Learning-rate factor of a parameter of two layers, by its name. */
const FACTORS = { embeddings: 0.5, head: 2, norms: 3, layerDecay: 0.25 };
function factorOf(name: string): number {
  if (name.includes('embed_tokens')) return 0.5 * 0.25 ** 2;
  if (name.includes('lm_head')) return 2;
  const norms = name.includes('norm') || name.endsWith('bias') ? 3 : 1;
  return norms * (name.includes('layers.0.') ? 0.25 : 1);
}

t.test('each group of parameters takes its own share of the learning rate', async (t) => {
  const tensors = await genericTensors(EVERYTHING);
  const path = join(t.testdir(), 'model.safetensors');
  const changes = async (learningRateFactors: object, learningRate: number) => {
    const model = await modelFrom(path, EVERYTHING, tensors);
    const trainer = await model.createTrainer({ ...OPTIMIZER, learningRateFactors });
    await trainer.preferenceStep(PAIRS, CREAM, learningRate, 256, token);
    const after = await model._tensors();
    return after.map(({ name, data }, i) => ({ name, change: data.map((x, j) => x - tensors[i]!.data[j]!) }));
  };
  // A step of AdamW is proportional to the learning rate, its decoupled decay included.
  const same = await changes({}, 1e-2);
  const grouped = await changes(FACTORS, 1e-2);
  for (const [i, { name, change }] of same.entries()) {
    const factor = factorOf(name);
    closeInNorm(
      t,
      grouped[i]!.change,
      change.map((x) => x * factor),
      1e-4,
      `${name}: ${factor}`,
    );
  }
  const tied = await modelFrom(path, TIED, await genericTensors(TIED));
  await t.rejects(
    tied.createTrainer({ ...OPTIMIZER, learningRateFactors: { head: 2 } }),
    /tie_word_embeddings/,
  );
  await t.rejects(tied.createTrainer({ ...OPTIMIZER, learningRateFactors: { norms: -1 } }), {
    code: 'INVALID_ARGUMENT',
  });
});

t.test('an adapter has rates by layer alone', async (t) => {
  const base = await modelFrom(
    join(t.testdir(), 'model.safetensors'),
    EVERYTHING,
    await genericTensors(EVERYTHING),
  );
  const lora = { rank: 2, alpha: 4, dropout: 0, rankStabilized: false, targetModules: ['q_proj' as const] };
  const model = await base.addAdapter(lora, 1n);
  await t.rejects(
    model.createTrainer({ ...OPTIMIZER, learningRateFactors: { norms: 2 } }),
    /only that of the layers/,
  );
  const trainer = await model.createTrainer({ ...OPTIMIZER, learningRateFactors: { layerDecay: 0.5 } });
  t.ok((await trainer.preferenceStep(PAIRS, CREAM, 1e-3, 256, token)).applied);
});

t.test('bfloat16 gradients are for GPUs', async (t) => {
  const path = join(t.testdir(), 'model.safetensors');
  const model = await modelFrom(path, EVERYTHING, await genericTensors(EVERYTHING), 'bfloat16');
  await t.rejects(
    model.createTrainer({ ...OPTIMIZER, gradientsDtype: 'bfloat16' }),
    /bfloat16 gradients are for all weights of a bfloat16 model on a GPU/,
  );
});
