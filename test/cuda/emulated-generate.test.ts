import type { Test } from 'tap';
import { readCheckpoint } from '../../lib/data/checkpoint.js';
import type {
  NativeDtype,
  NativeGenerateOptions,
  NativeModel,
  NativeModelConfig,
  NativeResponse,
} from '../../lib/native/binding.js';
import { checkpoint } from '../helpers/golden.js';
import { bulk, GPU, t } from '../helpers/gpu.js';
import { binding, EVERYTHING, randomIds, TIED } from '../helpers/tiny-model.js';

// Generation on device `emulated`: the GPU's kernels, slots, prompt arena and polling, beside the CPU's generator. Both
// draw with the same random numbers; their float32 logits differ by rounding, about 1e-6, so a token differs only where
// a draw falls within that of a border: none of the tokens here does.

binding.setThreads(1);

/** Of float32 log-probs: a GPU's products sum in yet another order. */
const NEAR = GPU === 'emulated' ? 1e-5 : 5e-5;

const OPTIONS: NativeGenerateOptions = {
  numSamples: 1,
  maxNewTokens: 9,
  temperature: 1,
  topP: 1,
  topK: 0,
  stopIds: new Int32Array(),
  seed: 7n,
  maxLiveTokens: 0,
  maxLiveSequences: 0,
};
type Prompt = { ids: Int32Array; key: bigint };
const prompts = (lengths: number[], vocabSize: number): Prompt[] =>
  lengths.map((length, i) => ({ ids: randomIds(length, 10 + i, vocabSize), key: 500n + BigInt(i) }));

async function run(model: NativeModel, items: Prompt[], options: Partial<NativeGenerateOptions> = {}) {
  const responses: NativeResponse[] = [];
  const collect = (response: NativeResponse) => void responses.push(response);
  await model.generate(items, { ...OPTIONS, ...options }, collect, binding.cancelToken());
  return responses.sort((a, b) => a.promptIndex - b.promptIndex || a.sample - b.sample);
}

const texts = (responses: NativeResponse[]) =>
  responses.map((r) => `${r.promptIndex}/${r.sample} ${r.ids.join(' ')} ${r.finishReason}`);

function same(t: Test, actual: NativeResponse[], expected: NativeResponse[], tolerance: number) {
  t.strictSame(texts(actual), texts(expected));
  const far = Math.max(
    ...actual.map((r, i) => Math.max(...r.logprobs.map((x, j) => Math.abs(x - expected[i]!.logprobs[j]!)))),
  );
  t.ok(far <= tolerance, `log-probs within ${tolerance}`, { far });
}

async function pair(config: NativeModelConfig, dtype: NativeDtype = 'float32') {
  const make = (device: string) => binding.randomModel({ config, seed: 3n, dtype, device });
  return [await make('cpu'), await make(GPU)] as const;
}

for (const name of ['llama', 'qwen2', 'qwen3', 'mistral']) {
  t.test(`the golden ${name}: tokens are the CPU's, log-probs within rounding`, async (t) => {
    const { config, files } = await readCheckpoint(checkpoint(name));
    const load = (device: string) => binding.loadModel({ config, files, dtype: 'float32', device });
    const [cpu, gpu] = [await load('cpu'), await load(GPU)];
    const items = prompts([1, 17, 5], config.vocabSize);
    for (const options of [
      { temperature: 0 },
      { temperature: 0.9, numSamples: 3 },
      { temperature: 0.8, topP: 0.9, topK: 20, numSamples: 2 },
    ]) {
      same(t, await run(gpu, items, options), await run(cpu, items, options), NEAR);
    }
  });
}

for (const [name, config] of Object.entries({
  EVERYTHING,
  TIED,
  'seven queries a head': { ...TIED, numHeads: 7, numKvHeads: 1, hiddenSize: 28, slidingWindow: [0, 0] },
})) {
  t.test(`more responses than slots, with stops and windows: ${name}`, async (t) => {
    const [cpu, gpu] = await pair(config);
    const items = prompts([3, 40, 1, 9], config.vocabSize);
    const options = { numSamples: 3, topP: 0.95, maxNewTokens: 10, stopIds: Int32Array.of(1, 2, 3) };
    const expected = await run(cpu, items, options);
    t.ok(
      expected.some((r) => r.finishReason === 'stop') && expected.some((r) => r.finishReason === 'length'),
    );
    for (const limits of [{}, { maxLiveSequences: 5 }, { maxLiveTokens: 80 }]) {
      same(t, await run(gpu, items, { ...options, ...limits }), expected, NEAR);
    }
    const alone = (await Promise.all(items.map((item) => run(gpu, [item], options)))).flatMap(
      (responses, i) => responses.map((r) => ({ ...r, promptIndex: i })),
    );
    same(t, alone, expected, NEAR);
  });
}

t.test('one new token, the context filled to its end, and nothing at all', async (t) => {
  const [cpu, gpu] = await pair({ ...TIED, maxPositionEmbeddings: 40 });
  const items = prompts([20, 3], TIED.vocabSize);
  for (const maxNewTokens of [1, 2, 20])
    same(t, await run(gpu, items, { maxNewTokens }), await run(cpu, items, { maxNewTokens }), NEAR);
  t.strictSame(await run(gpu, []), []);
  // Each with the room that its own prompt leaves.
  const limited = items.map((item) => ({ ...item, maxNewTokens: 40 - item.ids.length }));
  const options = { maxNewTokens: 40, numSamples: 3 };
  same(t, await run(gpu, limited, options), await run(cpu, limited, options), NEAR);
});

t.test('calls of other shapes follow each other on one model', async (t) => {
  const [cpu, gpu] = await pair(TIED);
  for (const [lengths, options] of [
    [[3, 30, 7, 12], { numSamples: 4, maxNewTokens: 12 }],
    [[5], { maxNewTokens: 3 }],
    [[5, 9, 6], { maxNewTokens: 3, maxLiveSequences: 2 }],
    [[4], { maxNewTokens: 20, temperature: 0 }],
    [[3, 30], { numSamples: 2, maxNewTokens: 20 }],
    [[3, 30], { numSamples: 2, maxNewTokens: 5, topK: 5 }],
    [[6, 2, 8], { numSamples: 3, maxNewTokens: 12 }],
  ] as const) {
    const items = prompts([...lengths], TIED.vocabSize);
    same(t, await run(gpu, items, options), await run(cpu, items, options), NEAR);
  }
});

t.test('models take turns, and one that was away generates as before', async (t) => {
  const [first, second] = [await pair(TIED), await pair(EVERYTHING)];
  const items = prompts([6, 2, 8], EVERYTHING.vocabSize);
  const options = { numSamples: 2, maxNewTokens: 6 };
  const check = async ([cpu, gpu]: typeof first) =>
    same(t, await run(gpu, items, options), await run(cpu, items, options), NEAR);
  for (const models of [first, second, first]) await check(models);
  await first[1].offload();
  await t.rejects(run(first[1], items, options), { code: 'INVALID_ARGUMENT', message: /onload/ });
  await check(second);
  await first[1].onload();
  for (const models of [first, second]) await check(models);
});

/** A call whose decode attention is computed by the kernel of that name. */
async function runWith(kernel: string, ...call: Parameters<typeof run>): Promise<NativeResponse[]> {
  process.env.CREAM_DECODE_ATTENTION = kernel;
  try {
    return await run(...call);
  } finally {
    delete process.env.CREAM_DECODE_ATTENTION;
  }
}

for (const [name, kernel, shape] of [
  ['heads of 16', 'plain', { headDim: 16 }],
  ['heads of 64', 'plain', { headDim: 64 }],
  ['heads of 64', 'tiles', { headDim: 64 }],
  ['four heads of 32 a key head', 'tiles', { headDim: 32, numKvHeads: 1 }],
  ['heads of 64', 'ring', { headDim: 64 }],
  ['four heads of 128 a key head', 'ring', { headDim: 128, numKvHeads: 1 }],
] as const) {
  (kernel === 'ring' ? bulk : t).test(
    `bfloat16 generates log-probs that scoring on the CPU confirms: ${name}, ${kernel}`,
    async (t) => {
      const [cpu, gpu] = await pair({ ...TIED, ...shape }, 'bfloat16');
      const items = prompts([3, 18], TIED.vocabSize);
      const responses = await runWith(kernel, gpu, items, { numSamples: 5, maxNewTokens: 20 });
      const groups = responses.map((r) => ({ promptIds: items[r.promptIndex]!.ids, responses: [r.ids] }));
      const options = { maxTokensPerBatch: 4096, perToken: true };
      const { tokenLogprobs } = await cpu.score(groups, options, binding.cancelToken());
      // Hidden states have 8 bits, rounded at other places; logits here are of size 0.2.
      const far = responses.flatMap((r, i) =>
        [...r.logprobs].map((x, j) => Math.abs(x - tokenLogprobs![i]![0]![j]!)),
      );
      t.ok(Math.max(...far) <= 5e-3, 'per token', { worst: Math.max(...far) });
    },
  );
}

t.test('an unknown kernel of attention is refused by name', async (t) => {
  const [, gpu] = await pair(TIED);
  await t.rejects(runWith('fast', gpu, prompts([3], TIED.vocabSize)), {
    code: 'INVALID_ARGUMENT',
    message: "CREAM_DECODE_ATTENTION must be auto, plain, tiles or ring, got 'fast'",
  });
  await t.rejects(runWith('ring', gpu, prompts([3], TIED.vocabSize)), {
    code: 'INVALID_ARGUMENT',
    message:
      /CREAM_DECODE_ATTENTION=ring is for .* head_dim 64 or 128 .* this model has Float, \d+ and \d+; use auto/,
  });
});

t.test('an adapter is part of every step, and training in place is seen by the next call', async (t) => {
  const [cpu, gpu] = await pair(EVERYTHING);
  const lora = {
    rank: 2,
    alpha: 64,
    dropout: 0,
    rankStabilized: false,
    targetModules: ['q_proj', 'v_proj', 'o_proj', 'up_proj', 'down_proj'] as const,
  };
  const items = prompts([4, 11], EVERYTHING.vocabSize);
  const models = await Promise.all([cpu, gpu].map((model) => model.addAdapter(lora, 5n)));
  const before = await run(models[1]!, items);
  const example = {
    promptIds: randomIds(4, 1),
    chosenIds: randomIds(5, 2),
    rejectedIds: randomIds(6, 3),
    consistency: 0.8,
    referenceChosen: -15,
    referenceRejected: -18,
  };
  for (const model of models) {
    const trainer = await model.createTrainer({
      beta1: 0.9,
      beta2: 0.99,
      epsilon: 1e-8,
      weightDecay: 0,
      maxGradNorm: 0,
      seed: 0n,
    });
    const loss = { loss: 'sigmoid' as const, beta: 0.1, sftCoefficient: 0 };
    for (let i = 0; i < 3; i++)
      await trainer.preferenceStep([example], loss, 0.05, 4096, binding.cancelToken());
    trainer.dispose();
  }
  const after = await run(models[1]!, items);
  t.notSame(texts(after), texts(before), 'the adapter has an effect');
  same(t, after, await run(models[0]!, items), 2e-4); // three training steps apart
});

t.test('cancelling mid-way ends the call, and the next one starts anew', async (t) => {
  const [cpu, gpu] = await pair(TIED);
  const items = prompts([3, 5, 7, 9, 4, 6], TIED.vocabSize);
  const token = binding.cancelToken();
  let seen = 0;
  const options = { ...OPTIONS, numSamples: 3, maxNewTokens: 30, maxLiveSequences: 2 };
  const cancelled = gpu.generate(items, options, () => void (++seen === 2 && token.cancel()), token);
  await t.rejects(cancelled, { code: 'ABORTED' });
  t.ok(seen >= 2 && seen < 18, `${seen} responses`);
  same(t, await run(gpu, items), await run(cpu, items), NEAR);
});

t.test('what does not fit is refused with the numbers', async (t) => {
  const [, gpu] = await pair(TIED);
  await t.rejects(run(gpu, prompts([20], TIED.vocabSize), { maxLiveTokens: 32 }), {
    code: 'INVALID_ARGUMENT',
    message: /prompt 0 \(20 tokens\).*needs 48 tokens.*maxLiveTokens is 32/,
  });
  await t.rejects(run(gpu, prompts([500], TIED.vocabSize), { maxNewTokens: 13 }), {
    code: 'INVALID_ARGUMENT',
    message: /500 tokens.*13.*512/,
  });
});

t.test('the time of a step is told by kind', async (t) => {
  const [, gpu] = await pair(TIED);
  const items = prompts([4, 7], TIED.vocabSize);
  // A GPU runs a step twice and records it once before its first use; those are counted too.
  await run(gpu, items, { temperature: 1, maxNewTokens: 6 });
  await binding.phases('ops');
  const responses = await run(gpu, items, { temperature: 1, maxNewTokens: 6 });
  const counted = new Map((await binding.phases('off')).map(({ name, count }) => [name, count] as const));
  const layers = TIED.numLayers;
  const steps = counted.get('sampler')!; // one for each step of decoding; first tokens are drawn in the prefill
  t.ok(steps >= 5, `${steps} steps for ${responses[0]!.ids.length} tokens`);
  t.equal(counted.get('head'), steps);
  t.equal(counted.get('attention'), layers * (steps + 1), 'the prefill and every step');
  t.ok(counted.get('gemm')! >= 4 * layers * steps);
  t.ok(counted.get('elementwise')! > 0);
  t.equal(counted.get('step'), 0);

  await binding.phases('steps');
  await run(gpu, items, { temperature: 1, maxNewTokens: 6 });
  const whole = new Map((await binding.phases('off')).map(({ name, count }) => [name, count] as const));
  t.equal(whole.get('step'), steps, 'or as wholes, as they are recorded');
  t.equal(whole.get('attention'), layers, 'the prefill alone is counted by op');
  t.equal(whole.get('sampler'), 0);
});
