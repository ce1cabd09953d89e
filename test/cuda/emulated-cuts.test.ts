import { createRequire } from 'node:module';
import { addonPath } from '../../lib/native/binding.js';
import { GPU, t } from '../helpers/gpu.js';
import { normal } from '../helpers/random.js';

// The GPU's sampler on logits made for its cuts: more tokens near a cut than it keeps aside (8192), which it then finds by
// reading the row again, ties across a cut, whole vocabularies. Every draw is held to the inverse of the distribution that
// sorting gives in float64: a token too many, or one too few, would shift the draws behind it by its probability, which is
// far above the tolerance.

type Draws = { ids: Int32Array; logprobs: Float32Array; uniforms: Float32Array };
const ops = createRequire(import.meta.url)(addonPath()) as {
  _sampleSlots(options: object): Draws;
  _sample(options: object): Omit<Draws, 'uniforms'>;
  _samplingDistribution(options: object): Float64Array;
};

/** Rounding of a probability's cumulative sum in float32 logits and weights; the least probable token below has 5e-6. */
const BORDER = 1e-6;

const V = 20_011; // several blocks, a number that no vector divides
const from = (length: number, logit: (id: number) => number) =>
  Float32Array.from({ length }, (_, id) => logit(id));
const noise = (length: number, scale: number, seed = 21) => normal(length, { seed, scale });
const step = (x: number, size: number) => Math.round(x / size) * size;

type Case = { logits: Float32Array; vocab?: number; draws?: number; dtype?: 'float32' | 'bfloat16' };
const CASES: Record<string, Case> = {
  'nearly equal logits, all in one bin': { logits: noise(V, 1e-3) },
  'equal logits': { logits: from(V, () => -3.5) },
  'five different logits, ties across every cut': {
    logits: noise(V, 0.4).map((x) => step(x, 0.5)),
  },
  'a few likely tokens before a flat tail': {
    logits: noise(V, 1e-3).map((x, id) => (id % 1000 === 7 ? 5 + x * 100 : x)),
  },
  'a flat tail in the last bin': {
    logits: noise(V, 1e-3).map((x, id) => (id === 11_000 ? 14 : x)),
  },
  'half of the tokens forbidden': {
    logits: noise(V, 1e-3).map((x, id) => (id % 2 === 1 ? Number.NEGATIVE_INFINITY : x)),
  },
  'exactly as many as are kept aside': { logits: noise(8192, 1e-3), vocab: 8192 },
  'and one more': { logits: noise(8193, 1e-3), vocab: 8193 },
  'both zeros': { logits: from(V, (id) => (id % 3 === 0 ? -0 : 0)) },
  'bfloat16, three different logits': {
    logits: noise(V, 0.004).map((x) => 1 + step(x, 0.0078125)),
    dtype: 'bfloat16',
  },
  'a vocabulary of 131,072': { logits: noise(131_072, 0.002), vocab: 131_072, draws: 12 },
};

const SETTINGS = [
  { temperature: 1, topP: 0.6, topK: 0 },
  { temperature: 0.7, topP: 1, topK: 9001 },
  { temperature: 1.6, topP: 0.83, topK: 12_345 },
];

for (const [name, { logits, vocab = V, draws = 60, dtype = 'float32' }] of Object.entries(CASES)) {
  for (const settings of SETTINGS) {
    const { temperature, topP, topK } = settings;
    t.test(`${name}: temperature ${temperature}, top-p ${topP}, top-k ${topK}`, async (t) => {
      const options = { logits, vocab, dtype, ...settings };
      const { ids, logprobs, uniforms } = ops._sampleSlots({ ...options, draws, seed: 4, device: GPU });
      const cumulative = ops._samplingDistribution(options);
      for (let id = 1; id < vocab; id++) cumulative[id]! += cumulative[id - 1]!;
      const outside = [...ids].filter((id, i) => {
        const [before, after] = [id === 0 ? 0 : cumulative[id - 1]!, cumulative[id]!];
        return after === before || uniforms[i]! < before - BORDER || uniforms[i]! > after + BORDER;
      });
      t.strictSame(outside, [], 'every draw is where the distribution has it');

      const cpu = ops._sample({ ...options, uniforms });
      const differ = ids.filter((id, i) => id !== cpu.ids[i]).length;
      t.ok(differ <= 1, `${differ} of ${draws} draws differ from the CPU's`);
      const same = [...ids.keys()].filter((i) => ids[i] === cpu.ids[i]);
      const far = Math.max(...same.map((i) => Math.abs(logprobs[i]! - cpu.logprobs[i]!)));
      t.ok(far < 1e-5, 'log-probs', { far });
    });
  }
}

t.test('rows of different distributions do not disturb each other', async (t) => {
  const vocab = 9000;
  const rows = [noise(vocab, 1e-3), noise(vocab, 3), from(vocab, () => 1), noise(vocab, 0.1, 5)];
  const logits = Float32Array.from(rows.flatMap((row) => [...row]));
  const settings = { vocab, temperature: 1, topP: 0.95, topK: 8500, dtype: 'float32' };
  const { ids, uniforms } = ops._sampleSlots({ ...settings, logits, draws: 40, seed: 9, device: GPU });
  const cpu = ops._sample({ ...settings, logits, uniforms });
  t.strictSame(ids, cpu.ids);
});
