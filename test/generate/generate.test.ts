import t from 'tap';
import { loadBinding } from '../../lib/native/binding.js';
import type {
  NativeDtype,
  NativeGenerateOptions,
  NativeModel,
  NativeModelConfig,
  NativeResponse,
} from '../../lib/native/binding.js';
import { uniform } from '../helpers/random.js';

const binding = loadBinding();
const VOCAB = 61;
const BASE: NativeModelConfig = {
  vocabSize: VOCAB,
  hiddenSize: 64,
  intermediateSize: 96,
  numLayers: 3,
  numHeads: 4,
  numKvHeads: 4,
  headDim: 16,
  maxPositionEmbeddings: 160,
  rmsNormEps: 1e-5,
  ropeTheta: 10000,
  ropeScaling: 'none',
  ropeFactor: 1,
  ropeLowFreqFactor: 1,
  ropeHighFreqFactor: 4,
  ropeOriginalMaxPositionEmbeddings: 8192,
  qkvBias: false,
  oBias: false,
  mlpBias: false,
  qkNorm: false,
  tieWordEmbeddings: false,
  slidingWindow: [0, 0, 0],
};
const VARIANTS: Record<string, Partial<NativeModelConfig>> = {
  plain: {},
  'grouped queries': { numKvHeads: 2 },
  'one kv head, narrow odd widths': {
    numKvHeads: 1,
    numHeads: 3,
    headDim: 6,
    hiddenSize: 30,
    intermediateSize: 50,
  },
  biases: { qkvBias: true, oBias: true, mlpBias: true },
  'q/k norm': { qkNorm: true, headDim: 32 },
  'tied head': { tieWordEmbeddings: true },
  'sliding windows': { slidingWindow: [5, 0, 17], numKvHeads: 2 },
  'linear rope': { ropeScaling: 'linear', ropeFactor: 4 },
  'llama3 rope': { ropeScaling: 'llama3', ropeFactor: 8, ropeOriginalMaxPositionEmbeddings: 32 },
};
const OPTIONS: NativeGenerateOptions = {
  numSamples: 1,
  maxNewTokens: 24,
  temperature: 1,
  topP: 1,
  topK: 0,
  stopIds: new Int32Array(),
  seed: 7n,
  maxLiveTokens: 0,
  maxLiveSequences: 0,
};

type Prompt = { ids: Int32Array; key: bigint; maxNewTokens?: number };

function randomModel(
  config: Partial<NativeModelConfig> = {},
  dtype: NativeDtype = 'float32',
): Promise<NativeModel> {
  return binding.randomModel({ config: { ...BASE, ...config }, seed: 3n, dtype, device: 'cpu' });
}

/** Lengths from one token to several cache blocks. */
function makePrompts(count: number): Prompt[] {
  const next = uniform(17);
  return Array.from({ length: count }, (_, i) => ({
    ids: Int32Array.from({ length: 1 + ((i * 11) % 53) }, () => Math.floor(next() * VOCAB)),
    key: BigInt(1000 + i),
  }));
}

async function generate(
  model: NativeModel,
  prompts: Prompt[],
  options: Partial<NativeGenerateOptions> = {},
): Promise<NativeResponse[]> {
  const responses: NativeResponse[] = [];
  const collect = (response: NativeResponse) => void responses.push(response);
  await model.generate(prompts, { ...OPTIONS, ...options }, collect, binding.cancelToken());
  return responses;
}

/** Responses by (key of the prompt, sample), comparable whatever their order of delivery. */
function byPrompt(prompts: Prompt[], responses: NativeResponse[]) {
  return Object.fromEntries(
    responses
      .map(
        (r) =>
          [
            `${prompts[r.promptIndex]!.key}/${r.sample}`,
            { ids: [...r.ids], finish: r.finishReason },
          ] as const,
      )
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  );
}

for (const [name, variant] of Object.entries(VARIANTS)) {
  t.test(`greedy tokens are the arg max of a full forward at every step: ${name}`, async (t) => {
    const model = await randomModel(variant);
    const prompts = makePrompts(6);
    const responses = await generate(model, prompts, { temperature: 0, numSamples: 2, maxLiveSequences: 5 });
    t.equal(responses.length, 12);
    for (const { promptIndex, ids } of responses) {
      const sequence = [...prompts[promptIndex]!.ids, ...ids];
      const logits = await model._logits(Int32Array.from(sequence));
      const first = prompts[promptIndex]!.ids.length - 1;
      for (let i = 0; i < ids.length; i++) {
        const row = logits.subarray((first + i) * VOCAB, (first + i + 1) * VOCAB);
        // Equal up to the rounding of float32 sums in another order.
        if (!(row[ids[i]!]! >= Math.max(...row) - 1e-5)) t.fail(`step ${i} of prompt ${promptIndex}`);
      }
    }
    model.dispose();
  });

  // In bfloat16 the two paths may round hidden states (8 bits) in other places; logits here are of size 0.2.
  for (const [dtype, tolerance] of [
    ['float32', 5e-6],
    ['bfloat16', 5e-3],
  ] as const) {
    t.test(`log-probs are those that scoring the same ids gives: ${name}, ${dtype}`, async (t) => {
      const model = await randomModel(variant, dtype);
      const prompts = makePrompts(6);
      const responses = await generate(model, prompts, { temperature: 0.8, topP: 0.9, numSamples: 3 });
      const groups = responses.map((r) => ({ promptIds: prompts[r.promptIndex]!.ids, responses: [r.ids] }));
      const scores = await model.score(
        groups,
        { maxTokensPerBatch: 4096, perToken: true },
        binding.cancelToken(),
      );
      const differences = responses.map((r, i) =>
        Math.max(...r.logprobs.map((x, j) => Math.abs(x - scores.tokenLogprobs![i]![0]![j]!))),
      );
      t.equal(differences.length, 18);
      t.ok(Math.max(...differences) <= tolerance, 'per token', { worst: Math.max(...differences) });
      model.dispose();
    });
  }
}

t.test('a response is the same whatever runs beside it', async (t) => {
  const model = await randomModel({ numKvHeads: 2, slidingWindow: [0, 9, 0] });
  const prompts = makePrompts(9);
  const options = { numSamples: 4, topP: 0.95, stopIds: Int32Array.of(1, 2, 3) };
  const expected = byPrompt(prompts, await generate(model, prompts, options));
  t.equal(Object.keys(expected).length, 36);

  const smallBatch = await generate(model, prompts, { ...options, maxLiveSequences: 5 });
  t.same(byPrompt(prompts, smallBatch), expected, 'five live sequences');
  const splitSiblings = await generate(model, prompts, { ...options, maxLiveSequences: 3 });
  t.same(byPrompt(prompts, splitSiblings), expected, 'fewer live sequences than siblings');
  const littleMemory = await generate(model, prompts, { ...options, maxLiveTokens: 256 });
  t.same(byPrompt(prompts, littleMemory), expected, 'little memory');
  const reversed = prompts.toReversed();
  t.same(byPrompt(reversed, await generate(model, reversed, options)), expected, 'prompts permuted');
  const alone = (await Promise.all(prompts.map((p) => generate(model, [p], options)))).map((responses, i) =>
    byPrompt([prompts[i]!], responses),
  );
  t.same(Object.assign({}, ...alone), expected, 'each prompt alone');
  const fewer = byPrompt(prompts, await generate(model, prompts, { ...options, numSamples: 2 }));
  for (const [key, response] of Object.entries(fewer)) t.same(response, expected[key], `2 samples: ${key}`);
  model.dispose();
});

t.test('seed, prompt key and sample make the response; a repeated call gives the same bits', async (t) => {
  for (const dtype of ['float32', 'bfloat16'] as const) {
    const model = await randomModel({}, dtype);
    const prompts = makePrompts(5);
    const first = await generate(model, prompts, { numSamples: 6 });
    t.same(await generate(model, prompts, { numSamples: 6 }), first, 'ids, log-probs and order repeat');

    const texts = (responses: NativeResponse[]) => new Set(responses.map((r) => r.ids.join(' ')));
    t.equal(texts(first).size, 30, 'samples are distinct');
    const both = texts([...first, ...(await generate(model, prompts, { numSamples: 6, seed: 8n }))]);
    t.equal(both.size, 60, 'another seed gives other responses');
    const high = await generate(model, prompts, { numSamples: 6, seed: 7n + (1n << 32n) });
    t.equal(texts([...first, ...high]).size, 60, 'all 64 bits of the seed count');
    const rekeyed = prompts.map((p) => ({ ...p, key: p.key + (1n << 40n) }));
    const others = await generate(model, rekeyed, { numSamples: 6 });
    t.equal(texts([...first, ...others]).size, 60, 'all 64 bits of the key count');
    model.dispose();
  }
});

t.test('a stop token ends a response and is its last id; the length limit ends the others', async (t) => {
  const model = await randomModel();
  const prompts = makePrompts(8);
  const free = byPrompt(prompts, await generate(model, prompts, { numSamples: 5 }));
  const stops = [4, 9];
  const stopped = await generate(model, prompts, { numSamples: 5, stopIds: Int32Array.from(stops) });
  let ended = 0;
  for (const { promptIndex, sample, ids, logprobs, finishReason } of stopped) {
    const whole = free[`${prompts[promptIndex]!.key}/${sample}`]!.ids;
    const end = whole.findIndex((id) => stops.includes(id));
    t.same([...ids], end < 0 ? whole : whole.slice(0, end + 1));
    t.equal(finishReason, end < 0 ? 'length' : 'stop');
    t.equal(logprobs.length, ids.length);
    if (end >= 0) ended++;
  }
  t.ok(ended > 5 && ended < 40, 'both kinds occur', { ended });
  model.dispose();
});

t.test('a stop token as the very last token counts as stop', async (t) => {
  const model = await randomModel();
  const prompts = makePrompts(3);
  const [free] = await generate(model, prompts.slice(0, 1), { maxNewTokens: 3 });
  const stop = free!.ids[2]!;
  const [again] = await generate(model, prompts.slice(0, 1), {
    maxNewTokens: 3,
    stopIds: Int32Array.of(stop),
  });
  t.equal(again!.finishReason, 'stop');
  model.dispose();
});

t.test(
  'one new token needs no decode step, and the context can be filled to its last position',
  async (t) => {
    const model = await randomModel();
    const prompts = makePrompts(4);
    const one = await generate(model, prompts, { maxNewTokens: 1, numSamples: 3 });
    t.ok(one.length === 12 && one.every((r) => r.ids.length === 1 && r.finishReason === 'length'));
    const longest = Math.max(...prompts.map((p) => p.ids.length));
    const full = await generate(model, prompts, { maxNewTokens: 160 - longest });
    t.ok(full.every((r) => r.ids.length === 160 - longest));
    t.same(await generate(model, []), [], 'no prompts, no responses');
    model.dispose();
  },
);

t.test('responses arrive as they finish, before the last one is done', async (t) => {
  const model = await randomModel();
  const prompts = makePrompts(12);
  const order = await generate(model, prompts, {
    maxLiveSequences: 4,
    stopIds: Int32Array.of(1, 2, 3, 4, 5, 6),
  });
  t.same(new Set(order.map((r) => r.promptIndex)).size, 12);
  t.notSame(
    order.map((r) => r.promptIndex),
    [...prompts.keys()],
    'short responses overtake long ones',
  );
  model.dispose();
});

t.test(
  'a prompt with a limit of its own gets the responses that it gets alone, and so do the others',
  async (t) => {
    const model = await randomModel();
    const prompts = makePrompts(9);
    const limits = prompts.map((_, i) => [3, 40, 1][i % 3]!);
    const limited = prompts.map((prompt, i) => ({ ...prompt, maxNewTokens: limits[i]! }));
    const options = { maxNewTokens: 40, numSamples: 2, maxLiveSequences: 4 };
    const together = byPrompt(limited, await generate(model, limited, options));
    const alone = await Promise.all(
      prompts.map((prompt, i) => generate(model, [prompt], { ...options, maxNewTokens: limits[i]! })),
    );
    for (const [i, prompt] of prompts.entries()) {
      const own = Object.entries(byPrompt([prompt], alone[i]!));
      for (const [key, response] of own) t.same(together[key], response, `prompt ${i}`);
      t.ok(own.length === 2 && alone[i]!.every(({ ids }) => ids.length <= limits[i]!));
    }
    await t.rejects(generate(model, [{ ...prompts[0]!, maxNewTokens: 0 }]), {
      message: /prompts\[0\]\.maxNewTokens must be an integer in \[1/,
    });
    model.dispose();
  },
);

t.test('cancelling ends the call with ABORTED, and the model stays usable', async (t) => {
  const model = await randomModel();
  const prompts = makePrompts(40);
  const token = binding.cancelToken();
  let seen = 0;
  const run = model.generate(
    prompts,
    { ...OPTIONS, numSamples: 4, maxNewTokens: 100, maxLiveSequences: 8 },
    () => {
      if (++seen === 3) token.cancel();
    },
    token,
  );
  await t.rejects(run, { code: 'ABORTED' });
  t.ok(seen >= 3 && seen < 160, 'ended mid-way', { seen });
  t.equal((await generate(model, prompts, { maxNewTokens: 2 })).length, 40);
  model.dispose();
});

t.test(
  'a call that is cancelled when its last responses are on their way does not end as if whole',
  async (t) => {
    const model = await randomModel();
    const token = binding.cancelToken();
    let seen = 0;
    const run = model.generate(makePrompts(3), { ...OPTIONS, maxNewTokens: 2 }, () => void seen++, token);
    // The engine ends meanwhile; what it wrote waits for this thread.
    const until = performance.now() + 500;
    while (performance.now() < until);
    token.cancel();
    await t.rejects(run, { code: 'ABORTED' });
    t.equal(seen, 0, 'nothing was delivered after the cancellation');

    const late = binding.cancelToken();
    await model.generate(makePrompts(3), { ...OPTIONS, maxNewTokens: 2 }, () => void seen++, late);
    late.cancel();
    t.equal(seen, 3, 'a cancellation after the end changes nothing');
    model.dispose();
  },
);

t.test('what cannot be generated is refused by name and number before anything is computed', async (t) => {
  const model = await randomModel();
  const prompt = (...ids: number[]): Prompt => ({ ids: Int32Array.from(ids), key: 0n });
  const good = [prompt(1, 2, 3)];
  const cases: [string, Prompt[], Partial<NativeGenerateOptions>, RegExp][] = [
    ['an empty prompt', [...good, prompt()], {}, /prompts\[1\].*empty|prompt 1 is empty|prompts\[1\]/],
    ['an id past the vocabulary', [prompt(1, VOCAB)], {}, /61/],
    ['a negative id', [prompt(-1)], {}, /-1/],
    ['a stop id past the vocabulary', good, { stopIds: Int32Array.of(99) }, /99/],
    ['too many tokens', [prompt(...new Array<number>(140).fill(1))], {}, /140 tokens.*24.*160/],
    ['no new tokens', good, { maxNewTokens: 0 }, /maxNewTokens.*0/],
    ['no samples', good, { numSamples: 0 }, /numSamples.*0/],
    ['a negative temperature', good, { temperature: -1 }, /temperature.*-1/],
    ['a NaN temperature', good, { temperature: Number.NaN }, /temperature.*NaN/i],
    ['top-p 0', good, { topP: 0 }, /topP.*0/],
    ['top-p above 1', good, { topP: 1.1 }, /topP.*1\.1/],
    ['a negative top-k', good, { topK: -2 }, /topK.*-2/],
    ['a memory bound below one response', good, { maxLiveTokens: 32 }, /48 tokens.*maxLiveTokens is 32/],
  ];
  for (const [name, prompts, options, message] of cases) {
    await t.rejects(generate(model, prompts, options), { code: 'INVALID_ARGUMENT', message }, name);
  }
  model.dispose();
});

t.test('keys and values beyond the memory of the machine are refused with the numbers', async (t) => {
  const model = await randomModel({
    hiddenSize: 64,
    numHeads: 64,
    numKvHeads: 64,
    headDim: 256,
    numLayers: 3,
    maxPositionEmbeddings: 1 << 30,
  });
  const request = generate(model, makePrompts(1), { maxNewTokens: (1 << 30) - 1000 });
  await t.rejects(request, { code: 'OUT_OF_MEMORY', message: /MiB for keys and values.*MiB/ });
  model.dispose();
});
