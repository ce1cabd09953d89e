import { Worker } from 'node:worker_threads';
import t from 'tap';
import { readCheckpoint } from '../../lib/data/checkpoint.js';
import {
  addonPath,
  loadBinding,
  type NativeGenerateOptions,
  type NativeModel,
} from '../../lib/native/binding.js';
import { checkpoint } from '../helpers/golden.js';

// The addon itself: typed arguments, errors, order, cancellation, disposal, and a host that is never blocked.

const binding = loadBinding();
const { config } = await readCheckpoint(checkpoint('llama'));
const files = [`${checkpoint('llama')}/model.safetensors`];
const load = () => binding.loadModel({ config, files, dtype: 'float32', device: 'cpu' });
const token = () => binding.cancelToken();

const OPTIONS: NativeGenerateOptions = {
  numSamples: 1,
  maxNewTokens: 8,
  temperature: 1,
  topP: 1,
  topK: 0,
  stopIds: Int32Array.of(),
  seed: 1n,
  maxLiveTokens: 0,
  maxLiveSequences: 0,
};
const ADAMW = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0, maxGradNorm: 1, seed: 0n };
const prompts = (count: number) =>
  Array.from({ length: count }, (_, i) => ({ ids: Int32Array.of(1, 5), key: BigInt(i) }));
const ids = (...values: number[]) => Int32Array.from(values);

/** A model that is large enough for a verb to take a while. */
const large = () =>
  binding.randomModel({
    config: { ...config, hiddenSize: 256, intermediateSize: 512, headDim: 64, maxPositionEmbeddings: 4096 },
    seed: 1n,
    dtype: 'float32',
    device: 'cpu',
  });
const longScore = (model: NativeModel, cancel = token(), groups = 200) =>
  model.score(
    Array.from({ length: groups }, () => ({
      promptIds: new Int32Array(200),
      responses: [new Int32Array(200)],
    })),
    { maxTokensPerBatch: 1000, perToken: false },
    cancel,
  );

type Call = () => unknown;

t.test('wrong arguments are refused with the place, what was wanted and what came', async (t) => {
  const model = await load();
  const trainer = await model.createTrainer(ADAMW);
  const any = (value: unknown) => value as never;
  const generate = (change: object, list: unknown = prompts(1)) =>
    model.generate(any(list), { ...OPTIONS, ...change }, () => {}, token());
  const score = (groups: unknown, options: unknown = { maxTokensPerBatch: 100, perToken: false }) =>
    model.score(any(groups), any(options), token());
  const random = (change: object) =>
    binding.randomModel({ config: { ...config, ...change }, seed: 1n, dtype: 'float32', device: 'cpu' });
  const pair = {
    promptIds: ids(1),
    chosenIds: ids(2),
    rejectedIds: ids(3),
    consistency: 1,
    referenceChosen: -1,
    referenceRejected: -2,
  };
  const preference = (change: object, options: object = {}) =>
    trainer.preferenceStep(
      [{ ...pair, ...change }],
      { loss: 'sigmoid', beta: 0.1, sftCoefficient: 0, ...options },
      1e-3,
      100,
      token(),
    );

  const cases: [Call, RegExp][] = [
    [
      () => generate({}, [{ ids: ids(1, 131), key: 1n }]),
      /^generate: prompts\[0\]\.ids\[1\] is 131, expected a token id in \[0, 131\)$/,
    ],
    [
      () => generate({}, [...prompts(2), { ids: ids(-1), key: 1n }]),
      /^generate: prompts\[2\]\.ids\[0\] is -1, expected/,
    ],
    [() => generate({}, [{ ids: ids(), key: 1n }]), /^generate: prompts\[0\]\.ids must not be empty$/],
    [
      () => generate({}, [{ ids: [1], key: 1n }]),
      /prompts\[0\]\.ids must be an Int32Array of token ids, got an array/,
    ],
    [
      () => generate({}, [{ ids: new Float32Array(1), key: 1n }]),
      /must be an Int32Array of token ids, got a typed array of another kind/,
    ],
    [() => generate({}, [{ ids: ids(1), key: 1 }]), /prompts\[0\]\.key must be a bigint, got 1/],
    [() => generate({}, [{ ids: ids(1), key: -1n }]), /key must be a bigint in \[0, 2\^64\), got -1n/],
    [() => generate({}, [{ ids: ids(1), key: 2n ** 64n }]), /key must be a bigint in \[0, 2\^64\)/],
    [() => generate({}, [7]), /prompts\[0\] must be an object, got 7/],
    [() => generate({}, {}), /prompts must be an array, got an object/],
    [() => generate({ numSamples: 0 }), /options\.numSamples must be an integer in \[1, \d+\], got 0/],
    [() => generate({ numSamples: 1.5 }), /numSamples must be an integer .*, got 1\.5/],
    [() => generate({ maxNewTokens: '8' }), /maxNewTokens must be an integer .*, got '8'/],
    [() => generate({ temperature: -1 }), /temperature must be a number in \[0, 1000\], got -1/],
    [() => generate({ temperature: Number.NaN }), /temperature must be a number .* got NaN/],
    [() => generate({ topP: 0 }), /topP must be a number in \(0, 1\], got 0/],
    [() => generate({ topP: 1.1 }), /topP must be a number in \[0, 1\], got 1\.1/],
    [() => generate({ topK: -1 }), /topK must be an integer/],
    [() => generate({ stopIds: ids(200) }), /options\.stopIds\[0\] is 200/],
    [() => generate({ seed: 1 }), /seed must be a bigint, got 1/],
    [
      () => model.generate(prompts(1), OPTIONS, any(undefined), token()),
      /onResponse must be a function, got undefined/,
    ],
    [
      () => model.generate(prompts(1), OPTIONS, () => {}, any({})),
      /generate: token must be a token of cancelToken\(\), got an object/,
    ],
    [
      () =>
        model.generate(
          prompts(1),
          OPTIONS,
          () => {},
          any(Object.create(Object.getPrototypeOf(token()) as object)),
        ),
      /must be a token of cancelToken\(\)/,
    ],
    [() => model.generate(prompts(1), OPTIONS, () => {}, any(model)), /must be a token of cancelToken\(\)/],
    [() => generate({ maxNewTokens: 200 }), /200/], // beyond the context, checked by the verb itself
    [
      () => score([{ promptIds: ids(1), responses: [ids(1), ids(2, 999)] }]),
      /^score: groups\[0\]\.responses\[1\]\[1\] is 999/,
    ],
    [() => score([{ promptIds: ids(1), responses: {} }]), /groups\[0\]\.responses must be an array/],
    [
      () => score([{ responses: [] }]),
      /groups\[0\]\.promptIds must be an Int32Array of token ids, got undefined/,
    ],
    [() => score([], { maxTokensPerBatch: -1, perToken: false }), /maxTokensPerBatch must be an integer/],
    [() => score([], { maxTokensPerBatch: 9, perToken: 1 }), /perToken must be true or false, got 1/],
    [() => model.score([], any(undefined), token()), /score: options must be an object, got undefined/],
    [() => model.save('/tmp/a\0b', 1), /save: directory must not contain a NUL/],
    [() => model.save(any(7), 1), /save: directory must be a string, got 7/],
    [() => model.save('/tmp', 0), /maxShardBytes must be an integer/],
    [() => model._logits(any(new Uint8Array(1))), /_logits: ids must be an Int32Array/],
    [
      () => trainer.sftStep([{ promptIds: ids(1), responseIds: ids() }], 1e-3, 100, token()),
      /sftStep: batch\[0\]\.responseIds must not be empty/,
    ],
    [
      () => trainer.sftStep([{ promptIds: ids(1), responseIds: ids(1) }], -1, 100, token()),
      /learningRate must be a number/,
    ],
    [
      () => preference({ consistency: 1.5 }),
      /preferenceStep: batch\[0\]\.consistency must be a number in \[0, 1\], got 1\.5/,
    ],
    [() => preference({ consistency: undefined }), /consistency must be a number .* got undefined/],
    [
      () => preference({ referenceChosen: Number.NEGATIVE_INFINITY }),
      /referenceChosen must be a number .* got -Infinity/,
    ],
    [() => preference({ chosenIds: ids(131) }), /batch\[0\]\.chosenIds\[0\] is 131/],
    [
      () => preference({}, { loss: 'dpo' }),
      /options\.loss must be one of 'sigmoid', 'hinge', 'ipo', 'sigmoid-norm', got 'dpo'/,
    ],
    [
      () => model.createTrainer(any({ ...ADAMW, beta1: 2 })),
      /createTrainer: options\.beta1 must be a number in \[0, 1\], got 2/,
    ],
    [() => model.createTrainer(any(null)), /createTrainer: options must be an object, got null/],
    [() => random({ headDim: 7 }), /randomModel: options\.config\.headDim must be even, got 7/],
    [() => random({ numKvHeads: 3 }), /numHeads \(4\) must be a multiple of numKvHeads \(3\)/],
    [() => random({ slidingWindow: [0] }), /slidingWindow must have one number per layer \(2\), got 1/],
    [() => random({ vocabSize: 2 ** 40 }), /vocabSize must be an integer in/],
    [
      () => random({ ropeScaling: 'yarn' }),
      /ropeScaling must be one of 'none', 'linear', 'llama3', got 'yarn'/,
    ],
    [
      () => random({ tieWordEmbeddings: undefined }),
      /tieWordEmbeddings must be true or false, got undefined/,
    ],
    [
      () => binding.randomModel({ config, seed: 1n, dtype: any('float16'), device: 'cpu' }),
      /dtype must be one of 'float32', 'bfloat16', got 'float16'/,
    ],
    [
      () => binding.randomModel({ config, seed: 1n, dtype: 'float32', device: 'tpu' }),
      /device must be 'cpu'.*, got 'tpu'/,
    ],
    [
      () => binding.loadModel({ config, files: [], dtype: 'float32', device: 'cpu' }),
      /files must name at least one/,
    ],
    [
      () => binding.loadModel({ config, files: any(['a', 7]), dtype: 'float32', device: 'cpu' }),
      /loadModel: options\.files\[1\] must be a string, got 7/,
    ],
    [() => (binding.loadModel as unknown as Call)(), /loadModel: options must be an object, got undefined/],
  ];
  for (const [call, message] of cases) {
    // Always a rejection, never a throw: one way to fail.
    const promise = call() as Promise<unknown>;
    await t.rejects(promise, { code: 'INVALID_ARGUMENT', message }, String(message));
  }
  for (const [threads, message] of [
    [0, /setThreads: threads must be an integer in \[1, 1024\], got 0/],
    ['2', /got '2'/],
    [undefined, /got undefined/],
  ] as const) {
    t.throws(() => binding.setThreads(any(threads)), { code: 'INVALID_ARGUMENT', message });
  }
  t.throws(() => new (model.constructor as new () => unknown)(), /models are made by loadModel/);
  t.throws(() => (model.score as Call).call({}), /Illegal invocation|Invalid argument/);
  trainer.dispose();
  model.dispose();
});

t.test('a getter that throws is the rejection', async (t) => {
  const model = await load();
  const trap = {
    get promptIds(): Int32Array {
      throw new RangeError('from a getter');
    },
    responses: [],
  };
  await t.rejects(model.score([trap], { maxTokensPerBatch: 10, perToken: false }, token()), {
    message: 'from a getter',
  });
  model.dispose();
});

t.test('calls run in order, whatever they are', async (t) => {
  const model = await large();
  const order: string[] = [];
  const note = (name: string) => () => void order.push(name);
  await Promise.all([
    longScore(model, token(), 5).then(note('score')),
    model._logits(ids(1)).then(note('logits')),
    model
      .clone()
      .then((copy) => copy.dispose())
      .then(note('clone')),
    model.generate(prompts(1), OPTIONS, note('response'), token()).then(note('generate')),
    model._tensors().then(note('tensors')),
  ]);
  t.strictSame(order, ['score', 'logits', 'clone', 'response', 'generate', 'tensors']);
  model.dispose();
});

t.test('a verb that is cancelled rejects with ABORTED, running or queued', async (t) => {
  const model = await large();
  const running = token();
  const queued = token();
  const first = longScore(model, running, 2000);
  const second = longScore(model, queued, 2000);
  queued.cancel();
  setTimeout(() => running.cancel(), 30);
  await t.rejects(first, { code: 'ABORTED' });
  await t.rejects(second, { code: 'ABORTED' });
  const before = token();
  before.cancel();
  await t.rejects(
    model.generate(prompts(1), OPTIONS, () => {}, before),
    { code: 'ABORTED' },
  );
  const trainer = await model.createTrainer(ADAMW);
  await t.rejects(trainer.sftStep([{ promptIds: ids(1), responseIds: ids(2) }], 1e-3, 100, before), {
    code: 'ABORTED',
  });
  trainer.dispose();
  t.equal((await model._logits(ids(1))).length, config.vocabSize, 'the model is still usable');
  model.dispose();
});

t.test('dispose during a verb lets it end; later calls reject', async (t) => {
  const model = await large();
  const running = longScore(model, token(), 10);
  const generated: number[] = [];
  const generating = model.generate(
    prompts(4),
    OPTIONS,
    ({ promptIndex }) => void generated.push(promptIndex),
    token(),
  );
  model.dispose();
  model.dispose();
  t.equal((await running).logprobs.length, 10);
  await generating;
  t.equal(generated.length, 4);
  const calls: Call[] = [
    () => longScore(model),
    () => model.clone(),
    () => model._logits(ids(1)),
    () => model.createTrainer(ADAMW),
  ];
  for (const call of calls) {
    await t.rejects(call() as Promise<unknown>, {
      code: 'INVALID_ARGUMENT',
      message: 'the model is disposed',
    });
  }
  t.equal(model.dtype, 'float32');
  t.ok(model.numParameters > 0);
});

t.test('a trainer outlives its model handle and ends once', async (t) => {
  const model = await load();
  const trainer = await model.createTrainer(ADAMW);
  await t.rejects(model.createTrainer(ADAMW), { code: 'INVALID_ARGUMENT' }, 'one trainer at a time');
  trainer.dispose();
  const next = await model.createTrainer(ADAMW);
  model.dispose();
  const step = next.sftStep([{ promptIds: ids(1), responseIds: ids(2) }], 1e-3, 100, token());
  next.dispose();
  t.ok((await step).applied);
  await t.rejects(next.saveState('/tmp/never'), {
    code: 'INVALID_ARGUMENT',
    message: 'the trainer is disposed',
  });
});

t.test('what onResponse throws ends the work and is the rejection', async (t) => {
  const model = await load();
  let calls = 0;
  const thrown = new TypeError('mine');
  const work = model.generate(
    prompts(400),
    OPTIONS,
    () => {
      calls++;
      throw thrown;
    },
    token(),
  );
  await t.rejects(work, thrown);
  t.equal(calls, 1);
  model.dispose();
});

t.test('the engine waits for a slow consumer, but not when another verb is queued', async (t) => {
  const model = await load();
  const waiting: (() => void)[] = [];
  let isDone = false;
  const work = model
    .generate(
      prompts(1000),
      { ...OPTIONS, maxNewTokens: 1 },
      () => new Promise<void>((resolve) => waiting.push(resolve)),
      token(),
    )
    .finally(() => {
      isDone = true;
    });
  const settle = async () => {
    let seen = -1;
    while (seen !== waiting.length || seen === 0) {
      seen = waiting.length;
      await new Promise((resolve) => setTimeout(resolve, 150));
    }
    return seen;
  };
  const held = await settle();
  t.ok(held >= 64 && held <= 300, `${held} responses are with the consumer, the rest waits`);
  t.notOk(isDone);
  for (const resolve of waiting.slice(0, 100)) resolve();
  t.equal(await settle(), held + 100, 'each one that is taken makes room for one');
  // A consumer that awaits another verb inside its loop must not lock itself up.
  const logits = await model._logits(ids(1));
  t.equal(logits.length, config.vocabSize);
  await work;
  t.equal(waiting.length, 1000);
  model.dispose();
});

t.test('cancelling releases an engine that waits for its consumer', async (t) => {
  const model = await load();
  const cancel = token();
  const work = model.generate(
    prompts(1000),
    { ...OPTIONS, maxNewTokens: 1 },
    () => new Promise<void>(() => {}),
    cancel,
  );
  setTimeout(() => cancel.cancel(), 300);
  await t.rejects(work, { code: 'ABORTED' });
  model.dispose();
});

t.test('the event loop is not blocked while the engine works', async (t) => {
  const model = await large();
  const cancel = token();
  // Cancelled by the loop itself after many turns: a loop that native work blocks would let the work end instead.
  let turns = 0;
  const timer = setInterval(() => {
    if (++turns === 100) cancel.cancel();
  }, 5);
  await t.rejects(longScore(model, cancel, 20_000), { code: 'ABORTED' });
  clearInterval(timer);
  t.ok(turns >= 100, `${turns} turns`);
  model.dispose();
});

t.test('workers share the engine; one that is terminated takes nothing with it', async (t) => {
  const source = `
    const { parentPort, workerData } = require('node:worker_threads');
    const binding = require(workerData.addon);
    const { config } = workerData;
    binding.randomModel({ config, seed: 1n, dtype: 'float32', device: 'cpu' }).then(async (model) => {
      parentPort.postMessage([...(await model._logits(Int32Array.of(1)))]);
      while (true) await model._logits(new Int32Array(100));
    });`;
  const start = () => new Worker(source, { eval: true, workerData: { addon: addonPath(), config } });
  const workers = [start(), start()];
  const answers = await Promise.all(
    workers.map(
      (worker) =>
        new Promise<number[]>((resolve, reject) => worker.once('message', resolve).once('error', reject)),
    ),
  );
  const model = await binding.randomModel({ config, seed: 1n, dtype: 'float32', device: 'cpu' });
  const expected = [...(await model._logits(ids(1)))];
  t.strictSame(answers, [expected, expected]);
  t.strictSame(await Promise.all(workers.map((worker) => worker.terminate())), [1, 1]);
  t.strictSame([...(await model._logits(ids(1)))], expected);
  model.dispose();
});

t.test('the number of threads holds for the verbs that follow', async (t) => {
  const { threads } = binding.info();
  t.ok(threads >= 1);
  binding.setThreads(1);
  t.equal(binding.info().threads, 1);
  const model = await load();
  const one = await model._logits(ids(1, 2, 3));
  binding.setThreads(threads);
  t.equal(binding.info().threads, threads);
  t.equal((await model._logits(ids(1, 2, 3))).length, one.length);
  model.dispose();
});

t.test('many calls, failing and aborted ones too, keep no memory', async (t) => {
  const { threads } = binding.info();
  binding.setThreads(1); // calls this small are bound by waking threads
  const model = await load();
  const cancelled = token();
  cancelled.cancel();
  const round = async () => {
    for (let i = 0; i < 250; i++) {
      await model._logits(ids(1, 2));
      await model._logits(ids(500)).catch(() => undefined);
      await model.score([], { maxTokensPerBatch: 1, perToken: false }, cancelled).catch(() => undefined);
      await model.generate(prompts(1), { ...OPTIONS, maxNewTokens: 1 }, () => {}, token());
    }
    globalThis.gc?.();
    return process.memoryUsage().rss;
  };
  await round();
  await round();
  const before = await round();
  let least = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 3; i++) least = Math.min(least, (await round()) - before);
  t.ok(least < 16 * 2 ** 20, `${(least / 2 ** 20).toFixed(1)} MiB more after 1,000 to 3,000 calls`);
  binding.setThreads(threads);
  model.dispose();
});

t.test('a model that does not fit is OUT_OF_MEMORY, and the engine lives on', async (t) => {
  // 4 x 2^20 x 2^20 numbers a layer: more than any address space gives.
  const huge = {
    ...config,
    hiddenSize: 2 ** 20,
    intermediateSize: 2 ** 20,
    numLayers: 1024,
    slidingWindow: new Array<number>(1024).fill(0),
  };
  await t.rejects(binding.randomModel({ config: huge, seed: 1n, dtype: 'float32', device: 'cpu' }), {
    code: 'OUT_OF_MEMORY',
  });
  const model = await load();
  t.equal((await model._logits(ids(1))).length, config.vocabSize);
  model.dispose();
});
