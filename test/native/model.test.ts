import { createHash } from 'node:crypto';
import t from 'tap';
import { readCheckpoint } from '../../lib/data/checkpoint.js';
import { CreamError } from '../../lib/errors.js';
import { loadBinding } from '../../lib/native/binding.js';
import { Model } from '../../lib/native/model.js';
import { checkpoint } from '../helpers/golden.js';

// The public Model: streaming, signals, errors with a cause, determinism. Numbers: test/model/golden.test.ts.

const model = await Model.load(checkpoint('llama'));
t.teardown(() => model.dispose());

const prompts = (count: number) =>
  Array.from({ length: count }, (_, i) => ({ id: `p${i}`, ids: [1, 5 + i] }));
const LONG = { prompts: prompts(8), n: 8, maxNewTokens: 120, seed: 1 };

async function all(request: Parameters<Model['generate']>[0], from = model) {
  const found: Record<string, number[]> = {};
  for await (const { promptId, sample, ids } of from.generate(request))
    found[`${promptId}/${sample}`] = [...ids];
  return found;
}

t.test('a response depends on seed, stream, prompt id and sample, not on its company', async (t) => {
  const request = { prompts: prompts(4), n: 3, maxNewTokens: 12, seed: 7, stream: 'iteration-1' };
  const expected = await all(request);
  t.equal(Object.keys(expected).length, 12);
  t.strictSame(await all(request), expected);
  t.strictSame(await all({ ...request, seed: 7n }), expected, 'a bigint is the same seed');
  const alone = await all({ ...request, prompts: [prompts(4)[2]!] });
  for (const [name, ids] of Object.entries(alone)) t.strictSame(ids, expected[name], name);
  const reversed = await all({ ...request, prompts: prompts(4).reverse() });
  t.strictSame(reversed, expected);
  t.strictNotSame(await all({ ...request, seed: 8 }), expected);
  t.strictNotSame(await all({ ...request, stream: 'iteration-2' }), expected);
  const renamed = await all({
    ...request,
    prompts: prompts(4).map(({ id, ids }) => ({ id: `q${id}`, ids })),
  });
  t.strictNotSame(Object.values(renamed), Object.values(expected));
});

t.test('ids and stream cannot be shifted into each other', async (t) => {
  const request = { maxNewTokens: 20, seed: 7 };
  const a = await all({ ...request, prompts: [{ id: 'bc', ids: [1, 5] }], stream: 'a' });
  const b = await all({ ...request, prompts: [{ id: 'c', ids: [1, 5] }], stream: 'ab' });
  t.strictNotSame(Object.values(a), Object.values(b));
});

t.test('the random key of a prompt is the digest of stream, NUL and id', async (t) => {
  // Part of what a seed means: results must not change between versions.
  const key = createHash('sha256').update('a\0bc').digest().readBigUInt64BE();
  const folder = checkpoint('llama');
  const { config } = await readCheckpoint(folder);
  const files = [`${folder}/model.safetensors`];
  const binding = loadBinding();
  const same = await binding.loadModel({ config, files, dtype: 'float32', device: 'cpu' });
  const options = {
    numSamples: 1,
    maxNewTokens: 20,
    temperature: 1,
    topP: 1,
    topK: 0,
    stopIds: Int32Array.of(),
  };
  const found: number[][] = [];
  await same.generate(
    [{ ids: Int32Array.of(1, 5), key }],
    { ...options, seed: 7n, maxLiveTokens: 0, maxLiveSequences: 0 },
    ({ ids }) => void found.push([...ids]),
    binding.cancelToken(),
  );
  same.dispose();
  const request = { prompts: [{ id: 'bc', ids: [1, 5] }], stream: 'a', seed: 7, maxNewTokens: 20 };
  t.strictSame(Object.values(await all(request)), found);
});

t.test('leaving the loop stops the work and frees the engine', async (t) => {
  let seen = 0;
  // Not stopped, this would go on beyond the test's time.
  for await (const response of model.generate({ ...LONG, n: 2000 })) {
    t.ok(response.ids.length > 0);
    seen++;
    break;
  }
  t.equal(seen, 1);
  const [scored] = await model.score([{ promptIds: [1], responses: [[2]] }]);
  t.ok(Number.isFinite(scored!.logprobs[0]), 'it serves the next verb');
});

t.test('a loop may use the model', async (t) => {
  let seen = 0;
  for await (const { promptIndex, ids } of model.generate({ prompts: prompts(6), n: 100, maxNewTokens: 2 })) {
    if (seen++ % 100 > 0) continue;
    const [scored] = await model.score([{ promptIds: prompts(6)[promptIndex]!.ids, responses: [ids] }]);
    t.ok(Number.isFinite(scored!.logprobs[0]));
  }
  t.equal(seen, 600);
});

t.test('an AbortSignal ends each verb with ABORTED and its reason', async (t) => {
  const reason = new Error('enough');
  const gone = AbortSignal.abort(reason);
  const isAborted = (error: unknown) =>
    error instanceof CreamError && error.code === 'ABORTED' && error.cause === reason;
  const fails = async (name: string, verb: () => Promise<unknown>) => {
    const error = await verb().then(
      () => undefined,
      (error: unknown) => error,
    );
    t.ok(isAborted(error), name);
  };
  const during = () => {
    const controller = new AbortController();
    setTimeout(() => controller.abort(reason), 20);
    return controller.signal;
  };
  const groups = Array.from({ length: 3000 }, () => ({
    promptIds: [1, 2, 3],
    responses: [new Int32Array(100)],
  }));
  await fails('score, before', () => model.score(groups, { signal: gone }));
  await fails('score, during', () => model.score(groups, { signal: during(), maxTokensPerBatch: 200 }));
  await fails('generate, before', () => all({ ...LONG, signal: gone }));
  await fails('generate, during', () => all({ ...LONG, n: 500, signal: during() }));
  await fails('load, before', () => Model.load(checkpoint('llama'), { signal: gone }));
  const controller = new AbortController();
  const loading = Model.load(checkpoint('llama'), { signal: controller.signal });
  controller.abort(reason);
  await fails('load, during', () => loading);

  await using trainer = await model.createTrainer();
  const step = { learningRate: 1e-3, maxTokensPerBatch: 100, signal: gone };
  await fails('sftStep', () => trainer.sftStep([{ promptIds: [1], responseIds: [2] }], step));
});

t.test('an abort at the last tokens is an error too: what was on its way is not delivered', async (t) => {
  const controller = new AbortController();
  let count = 0;
  const read = async () => {
    // All end with the first token, so that the engine is done when the first of them arrives.
    const request = { prompts: prompts(8), n: 4, maxNewTokens: 1, signal: controller.signal };
    for await (const _ of model.generate(request)) {
      count += 1;
      controller.abort();
    }
  };
  await t.rejects(read(), { code: 'ABORTED' });
  t.ok(count < 32, `${count} responses arrived`);
});

t.test('an abort after the end is without effect, and no listener is left', async (t) => {
  const controller = new AbortController();
  const { signal } = controller;
  const counts = { add: 0, remove: 0 };
  const add = signal.addEventListener.bind(signal);
  const remove = signal.removeEventListener.bind(signal);
  signal.addEventListener = (...args: Parameters<typeof add>) => {
    counts.add++;
    add(...args);
  };
  signal.removeEventListener = (...args: Parameters<typeof remove>) => {
    counts.remove++;
    remove(...args);
  };
  await model.score([{ promptIds: [1], responses: [[2]] }], { signal });
  await all({ prompts: prompts(2), maxNewTokens: 2, signal });
  t.strictSame(counts, { add: 2, remove: 2 });
  controller.abort();
});

t.test(
  'errors are CreamErrors with a code, a stack of this thread and the native error as cause',
  async (t) => {
    const error = (await model.score([{ promptIds: [999], responses: [] }]).then(
      () => undefined,
      (error: unknown) => error,
    )) as CreamError;
    t.ok(error instanceof CreamError);
    t.equal(error.code, 'INVALID_ARGUMENT');
    t.equal(error.message, 'score: groups[0].promptIds[0] is 999, expected a token id in [0, 131)');
    t.match(error.stack, /lib\/native/);
    t.match(error.cause, { message: error.message, code: 'INVALID_ARGUMENT' });
  },
);

t.test('a number that is no token id is named before it is cut to 32 bits', async (t) => {
  for (const id of [
    1.5,
    2 ** 32 + 5,
    -(2 ** 31) - 1,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    '7' as unknown as number,
  ]) {
    const message = new RegExp(`promptIds\\[1\\] is ${String(id).replace('+', '\\+')}, expected a token id`);
    await t.rejects(model.score([{ promptIds: [1, id], responses: [] }]), {
      code: 'INVALID_ARGUMENT',
      message,
    });
  }
  for (const seed of [-1, 1.5, 2 ** 53, -1n, 2n ** 64n]) {
    await t.rejects(all({ prompts: prompts(1), maxNewTokens: 1, seed }), {
      code: 'INVALID_ARGUMENT',
      message: /seed/,
    });
  }
});

t.test('use after dispose is an error', async (t) => {
  const other = await Model.load(checkpoint('llama'));
  const trainer = await other.createTrainer();
  trainer.dispose();
  other.dispose();
  await other[Symbol.asyncDispose]();
  const message = /disposed/;
  await t.rejects(other.score([{ promptIds: [1], responses: [] }]), { code: 'INVALID_ARGUMENT', message });
  await t.rejects(all({ prompts: prompts(1), maxNewTokens: 1 }, other), {
    code: 'INVALID_ARGUMENT',
    message,
  });
  await t.rejects(other.clone(), { code: 'INVALID_ARGUMENT', message });
  await t.rejects(other.createTrainer(), { code: 'INVALID_ARGUMENT', message });
  await t.rejects(trainer.saveState('/tmp/never'), { code: 'INVALID_ARGUMENT', message });
});

t.test('training moves this model, as its options say', async (t) => {
  await using trained = await model.clone();
  await using trainer = await trained.createTrainer({ weightDecay: 0 });
  const example = { promptIds: [1, 5], responseIds: Int32Array.of(7, 2) };
  const options = { learningRate: 1e-2, maxTokensPerBatch: 100 };
  const losses: number[] = [];
  for (let step = 0; step < 10; step++) losses.push((await trainer.sftStep([example], options)).loss);
  t.ok(losses.at(-1)! < 0.5 * losses[0]!, losses.join(' '));
  const pair = { promptIds: [1, 5], chosenIds: [7, 2], rejectedIds: [9, 2], consistency: 1 };
  const [scored] = await trained.score([
    { promptIds: pair.promptIds, responses: [pair.chosenIds, pair.rejectedIds] },
  ]);
  const [referenceChosen, referenceRejected] = scored!.logprobs as [number, number];
  const metrics = await trainer.preferenceStep([{ ...pair, referenceChosen, referenceRejected }], {
    ...options,
    loss: 'sigmoid',
    beta: 0.1,
    sftCoefficient: 0,
  });
  t.ok(Math.abs(metrics.loss - Math.LN2) < 1e-5, `the first loss is log 2, got ${metrics.loss}`);
});
