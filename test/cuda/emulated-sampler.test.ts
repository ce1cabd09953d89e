import { createRequire } from 'node:module';
import { addonPath, type NativeResponse } from '../../lib/native/binding.js';
import { GPU, t } from '../helpers/gpu.js';
import { binding, genericTensors, modelFrom, TIED, writeTensors } from '../helpers/tiny-model.js';
import { join } from 'node:path';

// The GPU's sampler through one-token responses, where many samples of a prompt are many draws from one row of logits.

binding.setThreads(1);
const ops = createRequire(import.meta.url)(addonPath()) as {
  _samplingDistribution(options: object): Float64Array;
};
const DRAWS = 600;
// More ids than one block reads at once (4096), and a number that no vector divides.
const CONFIG = { ...TIED, vocabSize: 5003, hiddenSize: 8, numHeads: 1, numKvHeads: 1, slidingWindow: [0, 0] };

/** Of a chi-square variable with `freedom` degrees: the value it exceeds with probability 1e-4 (Wilson, Hilferty). */
const limit = (freedom: number) =>
  freedom * (1 - 2 / (9 * freedom) + 3.719 * Math.sqrt(2 / (9 * freedom))) ** 3;

for (const [temperature, topP, topK] of [
  [1, 1, 0],
  [0.5, 1, 0],
  [1, 0.9, 0],
  [0.7, 1, 40],
  [1.3, 0.8, 300],
  [1, 0.5, 1],
] as const) {
  t.test(`temperature ${temperature}, top-p ${topP}, top-k ${topK}`, async (t) => {
    const path = join(t.testdir(), 'model.safetensors');
    const tensors = await genericTensors(CONFIG);
    const cpu = await modelFrom(path, CONFIG, tensors);
    writeTensors(path, tensors);
    const load = { config: CONFIG, files: [path], dtype: 'float32' as const };
    const gpu = await binding.loadModel({ ...load, device: GPU });
    const prompt = Int32Array.of(3, 1, 4);
    const draw = async (model: typeof cpu) => {
      const responses: NativeResponse[] = [];
      const options = { numSamples: DRAWS, maxNewTokens: 1, temperature, topP, topK, seed: 11n };
      await model.generate(
        [{ ids: prompt, key: 9n }],
        { ...options, stopIds: new Int32Array(), maxLiveTokens: 0, maxLiveSequences: 256 },
        (response) => void responses.push(response),
        binding.cancelToken(),
      );
      return responses.sort((a, b) => a.sample - b.sample);
    };
    const [actual, expected] = [await draw(gpu), await draw(cpu)];
    t.equal(actual.length, DRAWS);
    // A draw within rounding of a border between two tokens may fall on its other side.
    const differ = actual.filter((r, i) => r.ids[0] !== expected[i]!.ids[0]).length;
    t.ok(differ <= 2, `${differ} of ${DRAWS} draws differ from the CPU's`);
    const far = actual.map((r, i) =>
      r.ids[0] === expected[i]!.ids[0] ? Math.abs(r.logprobs[0]! - expected[i]!.logprobs[0]!) : 0,
    );
    t.ok(Math.max(...far) < (GPU === 'emulated' ? 1e-5 : 5e-5), 'log-probs');

    const logits = (await cpu._logits(prompt)).slice(-CONFIG.vocabSize);
    const options = { logits, vocab: CONFIG.vocabSize, temperature, topP, topK, dtype: 'float32' };
    const probabilities = ops._samplingDistribution(options);
    const counts = new Map<number, number>();
    for (const { ids } of actual) counts.set(ids[0]!, (counts.get(ids[0]!) ?? 0) + 1);
    t.ok(
      [...counts.keys()].every((id) => probabilities[id]! > 0),
      'no token outside of the cut',
    );
    // Tokens in order of their ids, in bins of at least 20 expected draws.
    let [chiSquare, bins, mass, seen] = [0, 0, 0, 0];
    for (const [id, p] of probabilities.entries()) {
      mass += p * DRAWS;
      seen += counts.get(id) ?? 0;
      if (mass < 20 && id < probabilities.length - 1) continue;
      if (mass > 0) {
        chiSquare += (seen - mass) ** 2 / mass;
        bins++;
      }
      [mass, seen] = [0, 0];
    }
    t.ok(chiSquare < limit(Math.max(1, bins - 1)), `chi-square ${chiSquare.toFixed(1)} over ${bins} bins`);
  });
}
