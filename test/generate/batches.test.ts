import t from 'tap';
import type { NativeDtype, NativeModel, NativeModelConfig } from '../../lib/native/binding.js';
import { uniform } from '../helpers/random.js';
import { binding, EVERYTHING, TIED } from '../helpers/tiny-model.js';

// On the CPU a response's bits do not depend on what runs beside it: a run that is continued, other chunks and another
// number of rows give the same files.

const SHAPES: Record<string, NativeModelConfig> = {
  'whole registers': { ...TIED, hiddenSize: 64, intermediateSize: 96, headDim: 16, vocabSize: 128 },
  'odd widths, biases and norms': { ...EVERYTHING, hiddenSize: 30, intermediateSize: 50, vocabSize: 61 },
};
const LONGEST = 10;

function makePrompts(count: number, samples: number, vocabSize: number) {
  const next = uniform(23);
  const below = (limit: number) => Math.floor(next() * limit);
  return Array.from({ length: count }, (_, i) => ({
    ids: Int32Array.from({ length: 1 + below(40) }, () => below(vocabSize)),
    key: BigInt(i),
    maxNewTokens: Array.from({ length: samples }, () => 1 + below(LONGEST)),
  }));
}
type Prompts = ReturnType<typeof makePrompts>;

/** Ids and the bits of the log-probs by prompt and sample. */
async function bitsOf(model: NativeModel, prompts: Prompts, numSamples: number, maxLiveSequences = 0) {
  const found: Record<string, string> = {};
  await model.generate(
    prompts,
    {
      numSamples,
      maxNewTokens: LONGEST,
      temperature: 1,
      topP: 0.95,
      topK: 0,
      stopIds: Int32Array.of(1),
      seed: 7n,
      maxLiveTokens: 0,
      maxLiveSequences,
    },
    ({ promptIndex, sample, ids, logprobs }) => {
      const bits = Buffer.from(logprobs.buffer, logprobs.byteOffset, logprobs.byteLength).toString('hex');
      found[`${prompts[promptIndex]!.key}/${sample}`] = `${ids.join(' ')}: ${bits}`;
    },
    binding.cancelToken(),
  );
  return found;
}

for (const [name, config] of Object.entries(SHAPES)) {
  for (const dtype of ['float32', 'bfloat16'] as const satisfies NativeDtype[]) {
    t.test(`whatever runs beside a response, its bits are the same: ${name}, ${dtype}`, async (t) => {
      const base = await binding.randomModel({ config, seed: 3n, dtype, device: 'cpu' });
      const adapted = await base.addAdapter(
        { rank: 3, alpha: 6, dropout: 0, rankStabilized: false, targetModules: ['q_proj', 'down_proj'] },
        1n,
      );
      const N = 3;
      const prompts = makePrompts(60, N, config.vocabSize);
      for (const [what, model] of Object.entries({ base, adapted })) {
        const expected = await bitsOf(model, prompts, N);
        t.equal(Object.keys(expected).length, prompts.length * N);
        const same = (found: Record<string, string>, when: string) => {
          const wanted = Object.keys(found).map((key) => [key, expected[key]]);
          t.strictSame(found, Object.fromEntries(wanted), when);
        };
        // Above 128 rows, and where registers hold whole rows or a rest.
        for (const live of [1, 2, 5, 16, 33, 129, 150]) {
          const few = live < 3 ? prompts.slice(0, 6) : prompts;
          same(await bitsOf(model, few, N, live), `${what}, ${live} rows`);
        }
        const later = prompts.slice(41);
        same(await bitsOf(model, later, N), `${what}, what is left of them`);
        same(await bitsOf(model, later.toReversed(), N), `${what}, in another order`);
      }
      adapted.dispose();
      base.dispose();
    });
  }
}

t.test('a length limit is one number, or one for each response', async (t) => {
  const model = await binding.randomModel({ config: TIED, seed: 3n, dtype: 'float32', device: 'cpu' });
  const ids = Int32Array.of(3, 4);
  const asked = (maxNewTokens: number[]) => bitsOf(model, [{ ids, key: 1n, maxNewTokens }], 3);
  const found = await asked([4, 1, 9]);
  const lengths = [0, 1, 2].map((sample) => found[`1/${sample}`]!.split(':')[0]!.split(' ').length);
  t.ok(
    lengths.every((length, i) => length <= [4, 1, 9][i]!),
    lengths.join(' '),
  );
  await t.rejects(asked([4, 1]), {
    code: 'INVALID_ARGUMENT',
    message: /prompt 0: maxNewTokens must be one number, or one for each of 3 responses, got 2 numbers/,
  });
  await t.rejects(asked([4, 0, 1]), { code: 'INVALID_ARGUMENT' });
  model.dispose();
});
