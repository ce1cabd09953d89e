import { join } from 'node:path';
import type { NativeAdamWOptions, NativeModel, NativePairExample } from '../../lib/native/binding.js';
import { closeInNorm } from '../helpers/close.js';
import { GPU, t } from '../helpers/gpu.js';
import { binding, EVERYTHING, genericTensors, randomIds, TIED, writeTensors } from '../helpers/tiny-model.js';

// Trainers on device `emulated`: the GPU's split master, bfloat16 gradients, adapters, and what they leave on disk.

binding.setThreads(1);
const token = binding.cancelToken();
const OPTIMIZER = { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weightDecay: 0.01, maxGradNorm: 1, seed: 3n };
const CREAM = { loss: 'sigmoid' as const, beta: 0.1, sftCoefficient: 0.1 };
const PAIRS: NativePairExample[] = [0, 1, 2].map((i) => ({
  promptIds: randomIds(2 + 3 * i, 30 + i),
  chosenIds: randomIds(1 + 4 * i, 40 + i),
  rejectedIds: randomIds(7 - 2 * i, 50 + i),
  consistency: 0.8,
  referenceChosen: -3 * (1 + 4 * i),
  referenceRejected: -3 * (7 - 2 * i),
}));
const GROUPS = PAIRS.map(({ promptIds, chosenIds, rejectedIds }) => ({
  promptIds,
  responses: [chosenIds, rejectedIds],
}));

async function writeModel(directory: string, config = EVERYTHING) {
  const path = join(directory, 'model.safetensors');
  writeTensors(path, await genericTensors(config));
  return (device: string, dtype: 'float32' | 'bfloat16' = 'bfloat16') =>
    binding.loadModel({ config, files: [path], dtype, device });
}

async function training(model: NativeModel, options: Partial<NativeAdamWOptions> = {}) {
  const trainer = await model.createTrainer({ ...OPTIMIZER, ...options });
  const losses: number[] = [];
  const steps = async (count: number) => {
    for (let step = 0; step < count; step++)
      losses.push((await trainer.preferenceStep(PAIRS, CREAM, 3e-3, 24, token)).loss);
  };
  return { trainer, losses, steps, weights: async () => (await model._tensors()).map(({ data }) => data) };
}
const flat = (values: readonly Float32Array[]) => values.flatMap((data) => [...data]);

t.test('fifty steps on a split master follow the CPU on a whole one', async (t) => {
  const load = await writeModel(t.testdir());
  const [cpu, gpu] = [await training(await load('cpu')), await training(await load(GPU))];
  await cpu.steps(50);
  await gpu.steps(50);
  closeInNorm(t, gpu.losses, cpu.losses, 0.05, 'losses');
  t.ok(gpu.losses.at(-1)! < 0.7 * gpu.losses[0]!, `it learns: ${gpu.losses[0]} to ${gpu.losses.at(-1)}`);
});

for (const gradientsDtype of ['float32', 'bfloat16'] as const) {
  for (const momentsDtype of ['float32', 'bfloat16'] as const) {
    const title = `gradients ${gradientsDtype}, moments ${momentsDtype}`;
    t.test(`a split master continues to the bit from its file: ${title}`, async (t) => {
      const directory = t.testdir();
      const load = await writeModel(directory, gradientsDtype === 'float32' ? EVERYTHING : TIED);
      const options = { gradientsDtype, momentsDtype, deterministic: true };
      const whole = await training(await load(GPU), options);
      await whole.steps(4);
      const state = join(directory, 'state.safetensors');
      await whole.trainer.saveState(state);
      await whole.steps(4);

      const resumed = await training(await load(GPU), options);
      await resumed.trainer.loadState(state);
      await resumed.steps(4);
      t.strictSame(resumed.losses, whole.losses.slice(4));
      t.strictSame(await resumed.weights(), await whole.weights());

      const again = join(directory, 'again.safetensors');
      await resumed.trainer.saveState(again);
      await whole.trainer.saveState(state);
      const cpu = await training(await load('cpu'), { momentsDtype });
      await cpu.trainer.loadState(again);
      closeInNorm(t, flat(await cpu.weights()), flat(await whole.weights()), 1e-3, 'the CPU reads it too');
      await cpu.trainer.saveState(again);
      await resumed.trainer.loadState(again);
      t.strictSame(await resumed.weights(), await whole.weights(), 'and gives the master back exactly');
    });
  }
}

for (const [name, config] of Object.entries({ EVERYTHING, TIED })) {
  t.test(`bfloat16 gradients differ from float32 ones by rounding: ${name}`, async (t) => {
    const load = await writeModel(t.testdir(), config);
    const gradients = async (gradientsDtype: 'float32' | 'bfloat16') => {
      const { trainer } = await training(await load(GPU), { gradientsDtype });
      return trainer._preferenceGradients(PAIRS, CREAM, 24);
    };
    const [whole, half] = [await gradients('float32'), await gradients('bfloat16')];
    // Three micro-batches, each sum rounded to 2^-9 of itself.
    for (const [i, { name: tensor, data }] of whole.entries())
      closeInNorm(t, half[i]!.data, data, 0.02, tensor);
  });
}

t.test("on the GPU's path too, gradients do not depend on the split into micro-batches", async (t) => {
  const load = await writeModel(t.testdir());
  const { trainer } = await training(await load(GPU, 'float32'));
  const whole = await trainer._preferenceGradients(PAIRS, CREAM, 4096);
  for (const budget of [1, 24, 40]) {
    const parts = await trainer._preferenceGradients(PAIRS, CREAM, budget);
    for (const [i, { name, data }] of whole.entries())
      closeInNorm(t, parts[i]!.data, data, 1e-5, `${name}, ${budget} tokens`);
  }
});

t.test("on the GPU's path too, what is computed again in the backward has the same bits", async (t) => {
  const load = await writeModel(t.testdir());
  const gradients = async (recompute: 'selective' | 'full' | 'none' | number) => {
    const { trainer } = await training(await load(GPU), { recompute, deterministic: true });
    return trainer._preferenceGradients(PAIRS, CREAM, 24);
  };
  const expected = await gradients('selective');
  t.strictSame(await gradients('full'), expected, 'full');
  t.strictSame(await gradients('none'), expected, 'none');
  t.strictSame(await gradients(1), expected, 'of one layer');
  t.strictSame(await gradients(99), expected, 'of more layers than there are');
});

for (const gradientsDtype of ['float32', 'bfloat16'] as const) {
  for (const [name, config] of Object.entries({ EVERYTHING, TIED })) {
    t.test(`gradients owe nothing to the step before: ${name}, ${gradientsDtype}`, async (t) => {
      const load = await writeModel(t.testdir(), config);
      const gradients = async (isUsed: boolean) => {
        const { trainer } = await training(await load(GPU), {
          gradientsDtype,
          deterministic: true,
          weightDecay: 0,
        });
        // A rate of 0 leaves the weights, and the update the gradients: of other tokens, and larger.
        const others = PAIRS.map((pair, i) => ({ ...pair, chosenIds: randomIds(9, 70 + i), consistency: 0 }));
        if (isUsed) await trainer.preferenceStep(others, { ...CREAM, beta: 1 }, 0, 24, token);
        return trainer._preferenceGradients(PAIRS, CREAM, 24);
      };
      t.strictSame(await gradients(true), await gradients(false));
    });
  }
}

t.test('a step that ran out of memory leaves nothing in bfloat16 gradients either', async (t) => {
  const load = await writeModel(t.testdir());
  const run = async (memory: number, bound: number) => {
    const { trainer, weights } = await training(await load(GPU), {
      gradientsDtype: 'bfloat16',
      deterministic: true,
    });
    await trainer._simulateMemoryOf(memory);
    const metrics = await trainer.preferenceStep(PAIRS, CREAM, 1e-3, bound, token);
    return { metrics, weights: await weights() };
  };
  const cramped = await run(30, 96);
  t.equal(cramped.metrics.maxTokensPerBatch, 24);
  t.strictSame(cramped, await run(0, 24));
});

for (const dtype of ['float32', 'bfloat16'] as const) {
  t.test(`adapters score and train on the GPU's path as on the CPU's, ${dtype}`, async (t) => {
    const load = await writeModel(t.testdir());
    const lora = { rank: 3, alpha: 6, dropout: 0.25, rankStabilized: true };
    const targetModules = ['q_proj', 'v_proj', 'o_proj', 'up_proj', 'down_proj'] as const;
    const run = async (device: string) => {
      const model = await (await load(device, dtype)).addAdapter(
        { ...lora, targetModules: [...targetModules] },
        1n,
      );
      const { trainer, losses, steps } = await training(model);
      const gradients = await trainer._preferenceGradients(PAIRS, CREAM, 24);
      await steps(5);
      const { logprobs } = await model.score(GROUPS, { maxTokensPerBatch: 24, perToken: false }, token);
      return { gradients, losses, logprobs: logprobs.flatMap((group) => [...group]) };
    };
    const [cpu, gpu] = [await run('cpu'), await run(GPU)];
    const near = dtype === 'float32' ? 1e-4 : 0.1;
    for (const [i, { name, data }] of cpu.gradients.entries()) {
      t.equal(gpu.gradients[i]!.name, name);
      // The factor B is zero at first, and with it the gradient of A.
      if (data.some((x) => x !== 0)) closeInNorm(t, gpu.gradients[i]!.data, data, near, name);
    }
    closeInNorm(
      t,
      gpu.losses,
      cpu.losses,
      dtype === 'float32' ? 1e-4 : 0.05,
      'five losses, the same dropout',
    );
    closeInNorm(
      t,
      gpu.logprobs,
      cpu.logprobs,
      dtype === 'float32' ? 1e-4 : 0.05,
      'log-probs under the adapter',
    );
    t.notSame(gpu.losses[4], gpu.losses[0]);
  });
}
