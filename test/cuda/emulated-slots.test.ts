import type { NativeModelConfig } from '../../lib/native/binding.js';
import { GPU, t } from '../helpers/gpu.js';
import { uniform } from '../helpers/random.js';
import { binding, randomIds, TIED } from '../helpers/tiny-model.js';

// How full the slots are kept on device `emulated`, where responses end at lengths of their own.

binding.setThreads(1);

const SMALL: NativeModelConfig = { ...TIED, numLayers: 1, slidingWindow: [0] };

/** Lengths between 1 and 2 x mean, thrown together from two draws, so that most are near the mean. */
function lengthsOf(mean: number, count: number): number[] {
  const next = uniform(29);
  return Array.from({ length: count }, () => 1 + Math.floor(mean * (next() + next())));
}

/** Steps of decoding in which `slots` that are refilled at once write responses of these lengths, in this order. */
function leastSteps(lengths: readonly number[], slots: number): number {
  const free = new Array<number>(slots).fill(0);
  for (const length of lengths) {
    const first = free.indexOf(Math.min(...free));
    free[first]! += length - 1; // the first token is drawn with the prompt
  }
  return Math.max(...free);
}

t.test('a slot idles at most 6 steps between two responses: 2 % of 300 tokens', async (t) => {
  const [slots, N, mean] = [16, 4, 20];
  const lengths = lengthsOf(mean, 3 * slots);
  const prompts = Array.from({ length: lengths.length / N }, (_, i) => ({
    ids: randomIds(3 + (i % 5), i, SMALL.vocabSize),
    key: BigInt(i),
    maxNewTokens: lengths.slice(i * N, (i + 1) * N),
  }));
  const model = await binding.randomModel({ config: SMALL, seed: 3n, dtype: 'float32', device: GPU });
  const idleSteps = async (stepsPerPoll?: number) => {
    const found = lengths.map(() => 0);
    await binding.phases('steps');
    await model.generate(
      prompts,
      {
        numSamples: N,
        maxNewTokens: Math.max(...lengths),
        temperature: 1,
        topP: 1,
        topK: 0,
        stopIds: new Int32Array(),
        seed: 7n,
        maxLiveTokens: 0,
        maxLiveSequences: slots,
        ...(stepsPerPoll !== undefined && { stepsPerPoll }),
      },
      ({ promptIndex, sample, ids }) => {
        found[promptIndex * N + sample] = ids.length;
      },
      binding.cancelToken(),
    );
    const steps = (await binding.phases('off')).find(({ name }) => name === 'step')!.count;
    t.strictSame(found, lengths, 'every response has the length of its own');
    return ((steps - leastSteps(lengths, slots)) * slots) / lengths.length;
  };
  // A model of more than 2 G parameters is looked at every second step, a smaller one every eighth.
  const [slow, fast] = [await idleSteps(2), await idleSteps()];
  t.comment(
    `idle steps a response: ${slow.toFixed(1)} with 2 steps between looks, ${fast.toFixed(1)} with 8`,
  );
  t.ok(slow <= 6, 'a look every second step', { slow });
  t.ok(fast > slow, 'more rare looks leave slots idle for longer');
});
