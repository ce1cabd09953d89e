import { statSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { whyNoGpu } from '../helpers/gpu.js';
import { binding, EVERYTHING, randomIds } from '../helpers/tiny-model.js';

// A training state larger than the pieces in which it goes to disk and comes back.

const token = binding.cancelToken();
const OPTIMIZER = { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weightDecay: 0, maxGradNorm: 1, seed: 0n };
const config = { ...EVERYTHING, vocabSize: 400_000, tieWordEmbeddings: true };
const batch = [{ promptIds: randomIds(5, 1), responseIds: randomIds(6, 2) }];
const PIECE = 16 * 2 ** 20;

for (const [device, dtype] of [
  ['cpu', 'float32'],
  ['emulated', 'bfloat16'],
] as const) {
  const skip = whyNoGpu(device);
  t.test(`every piece of a state is saved and restored, ${device}`, skip ? { skip } : {}, async (t) => {
    const file = join(t.testdir(), 'state.safetensors');
    const begin = async (seed: bigint) => {
      const model = await binding.randomModel({ config, seed, dtype, device });
      return { model, trainer: await model.createTrainer(OPTIMIZER) };
    };
    const bits = async ({ model }: Awaited<ReturnType<typeof begin>>) =>
      Buffer.concat(
        (await model._tensors()).map(({ data }) =>
          Buffer.from(data.buffer, data.byteOffset, data.byteLength),
        ),
      );
    const step = async ({ trainer }: Awaited<ReturnType<typeof begin>>) =>
      trainer.sftStep(batch, 0.01, 64, token);

    const first = await begin(1n);
    await step(first);
    await first.trainer.saveState(file);
    t.ok(statSync(file).size > 3 * PIECE, 'each of the three tensors has more than one piece');
    const midway = await bits(first);
    const expected = await step(first);

    const other = await begin(2n);
    t.notOk((await bits(other)).equals(midway));
    await other.trainer.loadState(file);
    t.ok((await bits(other)).equals(midway), 'the weights');
    t.strictSame(await step(other), expected);
    t.ok((await bits(other)).equals(await bits(first)), 'the weights after one more step');
  });
}
