import { join } from 'node:path';
import type { NativeDtype, NativeModel, NativePairExample } from '../../lib/native/binding.js';
import { closeInNorm } from '../helpers/close.js';
import { GPU, t } from '../helpers/gpu.js';
import { binding, EVERYTHING, genericTensors, randomIds, TIED, writeTensors } from '../helpers/tiny-model.js';

// Scoring and training on device `emulated`, where every op takes the GPU's path, beside the CPU's.

binding.setThreads(1);
const token = binding.cancelToken();
const OPTIMIZER = { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weightDecay: 0.01, maxGradNorm: 1, seed: 0n };
const CREAM = { loss: 'sigmoid' as const, beta: 0.1, sftCoefficient: 0 };
const NO_BUDGET = 4096;

const PAIRS: NativePairExample[] = [0, 1, 2].map((i) => ({
  promptIds: randomIds(2 + 3 * i, 30 + i),
  chosenIds: randomIds(1 + 6 * i, 40 + i),
  rejectedIds: randomIds(9 - 4 * i, 50 + i),
  consistency: 0.8,
  referenceChosen: -3 * (1 + 6 * i),
  referenceRejected: -3 * (9 - 4 * i),
}));
const GROUPS = PAIRS.map(({ promptIds, chosenIds, rejectedIds }) => ({
  promptIds,
  responses: [chosenIds, rejectedIds],
}));

async function scoresOf(model: NativeModel): Promise<number[]> {
  const { tokenLogprobs } = await model.score(GROUPS, { maxTokensPerBatch: 16, perToken: true }, token);
  return tokenLogprobs!.flatMap((group) => group.flatMap((values) => [...values]));
}

const flat = async (model: NativeModel) => (await model._tensors()).flatMap(({ data }) => [...data]);

for (const [name, config] of Object.entries({ EVERYTHING, TIED })) {
  for (const dtype of ['float32', 'bfloat16'] as NativeDtype[]) {
    // bfloat16 rounds every activation to 2^-9 of itself, on each side at its own places.
    const exact = GPU === 'emulated' ? 1e-5 : 3e-5; // exp and rsqrt of a GPU are off by 2 ulp
    const [scoring, training] = dtype === 'float32' ? [exact, exact] : [2e-2, 1e-1];

    t.test(`the GPU's path scores and trains as the CPU's does: ${name}, ${dtype}`, async (t) => {
      const path = join(t.testdir(), 'model.safetensors');
      writeTensors(path, await genericTensors(config));
      const load = (device: string) => binding.loadModel({ config, files: [path], dtype, device });
      const [cpu, gpu] = [await load('cpu'), await load(GPU)];
      closeInNorm(t, await scoresOf(gpu), await scoresOf(cpu), scoring, 'log-probs');

      const trainers = [await cpu.createTrainer(OPTIMIZER), await gpu.createTrainer(OPTIMIZER)] as const;
      const [expected, actual] = await Promise.all(
        trainers.map((trainer) => trainer._preferenceGradients(PAIRS, CREAM, NO_BUDGET)),
      );
      for (const [i, { name, data }] of expected!.entries()) {
        t.equal(actual![i]!.name, name);
        closeInNorm(t, actual![i]!.data, data, training, `gradient of ${name}`);
      }

      const before = await flat(cpu);
      const losses: number[][] = [[], []];
      for (let step = 0; step < 5; step++) {
        for (const [i, trainer] of trainers.entries()) {
          const metrics = await trainer.preferenceStep(PAIRS, CREAM, 1e-3, NO_BUDGET, token);
          t.ok(metrics.applied);
          losses[i]!.push(metrics.loss);
        }
      }
      closeInNorm(t, losses[1]!, losses[0]!, dtype === 'float32' ? 1e-4 : 5e-2, 'five losses');
      const [after, emulated] = [await flat(cpu), await flat(gpu)];
      t.ok(
        after.some((x, i) => x !== before[i]),
        'the weights moved',
      );
      closeInNorm(t, emulated, after, dtype === 'float32' ? 1e-4 : 1e-2, 'weights');
    });
  }
}

t.test('what a device cannot do is said', async (t) => {
  if (GPU !== 'emulated') return;
  const options = { config: EVERYTHING, seed: 1n, dtype: 'float32' as const };
  await t.rejects(
    binding.randomModel({ ...options, device: 'cuda' }),
    /device 'cuda:0': the addon is built for the CPU alone/,
  );
});

for (const dtype of ['float32', 'bfloat16'] as NativeDtype[]) {
  t.test(`new weights are made on the GPU and are the CPU's: ${dtype}`, async (t) => {
    const make = (device: string) => binding.randomModel({ config: EVERYTHING, seed: 5n, dtype, device });
    const [cpu, gpu] = [await flat(await make('cpu')), await flat(await make(GPU))];
    // A bfloat16 may be rounded to its other neighbour where two float32 differ in their last bits.
    closeInNorm(t, gpu, cpu, dtype === 'float32' ? 1e-6 : 1e-4);
    t.same(await flat(await make(GPU)), gpu, 'the same seed, the same weights');
  });
}
