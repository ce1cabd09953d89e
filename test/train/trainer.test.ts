import { join } from 'node:path';
import t from 'tap';
import type {
  NativeDtype,
  NativeModel,
  NativePairExample,
  NativeSftExample,
  NativeStepMetrics,
  NativeTrainer,
} from '../../lib/native/binding.js';
import { close } from '../helpers/close.js';
import {
  binding,
  EVERYTHING,
  genericTensors,
  ids,
  modelFrom,
  randomIds,
  randomModel,
} from '../helpers/tiny-model.js';

binding.setThreads(1); // products this small only wait for each other
const token = binding.cancelToken();
const OPTIMIZER = { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weightDecay: 0.01, maxGradNorm: 1, seed: 0n };
const CREAM = { loss: 'sigmoid' as const, beta: 0.1, sftCoefficient: 0 };
const DTYPES: NativeDtype[] = ['float32', 'bfloat16'];

const SFT: NativeSftExample[] = [0, 1, 2, 3].map((i) => ({
  promptIds: randomIds(3 + 5 * i, 10 + i),
  responseIds: randomIds(1 + 4 * i, 20 + i),
}));

/** Pairs whose reference is the model itself, as at step 0 of an iteration. */
async function pairsOf(model: NativeModel, consistency = 0.9): Promise<NativePairExample[]> {
  const pairs = [0, 1, 2].map((i) => ({
    promptIds: randomIds(2 + 3 * i, 30 + i),
    chosenIds: randomIds(1 + 6 * i, 40 + i),
    rejectedIds: randomIds(9 - 4 * i, 50 + i),
  }));
  const groups = pairs.map(({ promptIds, chosenIds, rejectedIds }) => ({
    promptIds,
    responses: [chosenIds, rejectedIds],
  }));
  const { logprobs } = await model.score(groups, { maxTokensPerBatch: 4096, perToken: false }, token);
  return pairs.map((pair, i) => ({
    ...pair,
    consistency,
    referenceChosen: logprobs[i]![0]!,
    referenceRejected: logprobs[i]![1]!,
  }));
}

const sftStep = (trainer: NativeTrainer, learningRate = 0.01, batch = SFT) =>
  trainer.sftStep(batch, learningRate, 4096, token);

async function bits(model: NativeModel): Promise<Buffer> {
  const tensors = await model._tensors();
  return Buffer.concat(tensors.map(({ data }) => Buffer.from(data.buffer, data.byteOffset, data.byteLength)));
}

for (const dtype of DTYPES) {
  t.test(`SFT overfits one batch, ${dtype}`, async (t) => {
    const model = await randomModel(EVERYTHING, { dtype });
    const trainer = await model.createTrainer(OPTIMIZER);
    const first = await sftStep(trainer);
    let last = first;
    for (let step = 0; step < 150; step++) last = await sftStep(trainer);
    // log 29 = 3.37 at the start.
    t.ok(Math.abs(first.loss - Math.log(29)) < 0.3, `starts near log V: ${first.loss}`);
    t.ok(last.loss < 0.05, `ends near 0: ${last.loss}`);
    t.ok(first.applied && last.applied);
    t.ok(first.gradNorm > 0 && first.weightsMoved > 0.9, `weights moved: ${first.weightsMoved}`);
  });

  t.test(`the preference loss starts at log 2 for every C and learns to prefer, ${dtype}`, async (t) => {
    for (const consistency of [0, 0.3, 0.5, 1]) {
      const model = await randomModel(EVERYTHING, { dtype });
      const pairs = await pairsOf(model, consistency);
      const trainer = await model.createTrainer(OPTIMIZER);
      const metrics = await trainer.preferenceStep(pairs, CREAM, 0.001, 4096, token);
      // The pack of the step is not the pack of the score: rounding differs.
      close(
        t,
        [metrics.loss],
        [Math.log(2)],
        { atol: dtype === 'float32' ? 1e-6 : 5e-3 },
        `C = ${consistency}`,
      );
      close(t, [metrics.rewardsMargins], [0], { atol: dtype === 'float32' ? 1e-6 : 1e-2 });
      let last = metrics;
      for (let step = 0; step < 60; step++) {
        last = await trainer.preferenceStep(pairs, CREAM, 0.01, 4096, token);
      }
      const margin = last.rewardsMargins;
      if (consistency === 1)
        t.ok(margin > 1 && last.rewardsAccuracies === 1, `DPO prefers the chosen: ${margin}`);
      if (consistency === 0) t.ok(margin < -1, `flipped labels prefer the rejected: ${margin}`);
      if (consistency === 0.5) t.ok(Math.abs(margin) < 0.1, `no consistency, no preference: ${margin}`);
      // u = logit(C) is the minimum.
      if (consistency === 0.3)
        close(t, [margin], [Math.log(0.3 / 0.7)], { atol: 0.1 }, 'the margin ends at logit(C)');
      close(t, [last.rewardsChosen - last.rewardsRejected], [margin], { rtol: 1e-12 });
    }
  });

  t.test(`the same steps give the same bits, ${dtype}`, async (t) => {
    const run = async () => {
      const model = await randomModel(EVERYTHING, { dtype });
      const pairs = await pairsOf(model);
      const trainer = await model.createTrainer(OPTIMIZER);
      const losses: number[] = [];
      for (let step = 0; step < 5; step++) {
        losses.push((await sftStep(trainer)).loss);
        losses.push((await trainer.preferenceStep(pairs, CREAM, 0.01, 20, token)).loss);
      }
      return { losses, weights: await bits(model) };
    };
    binding.setThreads(2);
    const [a, b] = [await run(), await run()];
    binding.setThreads(1);
    t.same(a.losses, b.losses);
    t.ok(a.weights.equals(b.weights));
  });

  t.test(`a training saved and loaded midway equals an uninterrupted one bit by bit, ${dtype}`, async (t) => {
    const file = join(t.testdir(), 'state.safetensors');
    const steps = async (trainer: NativeTrainer, pairs: NativePairExample[]) => {
      const metrics: NativeStepMetrics[] = [];
      for (let step = 0; step < 4; step++) {
        metrics.push(await sftStep(trainer));
        metrics.push(await trainer.preferenceStep(pairs, CREAM, 0.01, 4096, token));
      }
      return metrics;
    };
    const model = await randomModel(EVERYTHING, { dtype });
    const pairs = await pairsOf(model);
    const trainer = await model.createTrainer(OPTIMIZER);
    await steps(trainer, pairs);
    await trainer.saveState(file);
    const midway = await bits(model);
    const expected = await steps(trainer, pairs);

    const other = await randomModel(EVERYTHING, { dtype, seed: 99n });
    const resumed = await other.createTrainer(OPTIMIZER);
    await sftStep(resumed); // moments and step count of its own, which loading replaces
    await resumed.loadState(file);
    t.ok((await bits(other)).equals(midway), 'the weights are restored');
    t.same(await steps(resumed, pairs), expected, 'every metric of the later steps');
    t.ok((await bits(other)).equals(await bits(model)), 'the final weights');
  });

  t.test(`a loss that is not finite changes nothing, ${dtype}`, async (t) => {
    const tensors = await genericTensors(EVERYTHING);
    const model = await modelFrom(join(t.testdir(), 'm.safetensors'), EVERYTHING, tensors, dtype);
    const pairs = await pairsOf(model);
    const trainer = await model.createTrainer(OPTIMIZER);
    await sftStep(trainer);
    const before = await bits(model);

    // An IPO margin of 1e300 squares to infinity.
    const broken = pairs.map((pair) => ({ ...pair, referenceChosen: -1e300 }));
    const step = await trainer.preferenceStep(broken, { ...CREAM, loss: 'ipo' }, 0.01, 4096, token);
    t.equal(step.applied, false);
    t.equal(step.weightsMoved, 0);
    t.notOk(Number.isFinite(step.loss));
    t.ok((await bits(model)).equals(before));

    // The moments and the step count are also as they were: what follows is what follows without the broken step.
    const after = await sftStep(trainer);
    const twin = await modelFrom(join(t.testdir(), 'm.safetensors'), EVERYTHING, tensors, dtype);
    const undisturbed = await twin.createTrainer(OPTIMIZER);
    await sftStep(undisturbed);
    t.same(await sftStep(undisturbed), after);
    t.ok((await bits(twin)).equals(await bits(model)));
  });

  t.test(`weights that a huge step made infinite are reported, not trained, ${dtype}`, async (t) => {
    const model = await randomModel(EVERYTHING, { dtype });
    const trainer = await model.createTrainer(OPTIMIZER);
    t.ok((await sftStep(trainer, 1e38)).applied);
    const before = await bits(model);
    const step = await sftStep(trainer);
    t.equal(step.applied, false);
    t.notOk(Number.isFinite(step.loss));
    t.ok((await bits(model)).equals(before));
  });
}

t.test(
  '§6.1 the SFT loss is the mean over all response tokens of the batch, prompts without loss',
  async (t) => {
    // method 6.1: neither prompts nor padding count; a short response does not weigh more per token than a long one.
    const model = await randomModel(EVERYTHING);
    const groups = SFT.map(({ promptIds, responseIds }) => ({ promptIds, responses: [responseIds] }));
    const { logprobs } = await model.score(groups, { maxTokensPerBatch: 4096, perToken: false }, token);
    const numTokens = SFT.reduce((sum, { responseIds }) => sum + responseIds.length, 0);
    const expected = -logprobs.reduce((sum, [logprob]) => sum + logprob!, 0) / numTokens;
    const trainer = await model.createTrainer(OPTIMIZER);
    for (const maxTokens of [1, 30, 4096]) {
      const metrics = await trainer.sftStep(SFT, 0, maxTokens, token);
      close(t, [metrics.loss], [expected], { rtol: 1e-6 });
      t.equal(metrics.targetTokens, numTokens);
    }
  },
);

t.test('metrics are the names of TRL, averaged over pairs', async (t) => {
  const model = await randomModel(EVERYTHING);
  const pairs = await pairsOf(model);
  const shifted = pairs.map((pair, i) => ({
    ...pair,
    referenceChosen: pair.referenceChosen - [1, -2, 4][i]!,
  }));
  const trainer = await model.createTrainer(OPTIMIZER);
  const metrics = await trainer.preferenceStep(shifted, CREAM, 0, 4096, token);
  const mean = (key: 'referenceChosen' | 'referenceRejected') =>
    pairs.reduce((sum, pair) => sum + pair[key], 0) / pairs.length;
  close(t, [metrics.rewardsChosen, metrics.rewardsRejected, metrics.rewardsMargins], [0.1, 0, 0.1], {
    atol: 1e-5,
  });
  close(t, [metrics.rewardsAccuracies], [2 / 3], { rtol: 1e-12 });
  close(
    t,
    [metrics.logpsChosen, metrics.logpsRejected],
    [mean('referenceChosen'), mean('referenceRejected')],
    {
      rtol: 1e-6,
    },
  );
});

t.test('the gradient is clipped to the norm that was asked for', async (t) => {
  // With epsilon far above the gradient, AdamW's first step is lr g / epsilon: as long as the clipped gradient.
  const step = async (maxGradNorm: number) => {
    const model = await randomModel(EVERYTHING);
    const before = await model._tensors();
    const trainer = await model.createTrainer({ ...OPTIMIZER, maxGradNorm, epsilon: 1, weightDecay: 0 });
    const { gradNorm } = await sftStep(trainer, 1);
    const after = await model._tensors();
    const norms = after.map(({ data }, i) => Math.hypot(...data.map((x, j) => x - before[i]!.data[j]!)));
    return { gradNorm, change: Math.hypot(...norms) };
  };
  const [free, clipped] = [await step(0), await step(0.01)];
  t.equal(clipped.gradNorm, free.gradNorm, 'the norm is reported before clipping');
  t.ok(free.gradNorm > 0.1);
  close(t, [clipped.change], [0.01], { rtol: 0.01 });
  close(t, [(await step(1e6)).change], [free.change], { rtol: 0 }, 'a norm below the limit is left alone');
});

t.test('weight decay acts on matrices, not on norms and biases', async (t) => {
  const model = await modelFrom(
    join(t.testdir(), 'm.safetensors'),
    EVERYTHING,
    await genericTensors(EVERYTHING),
  );
  const before = await model._tensors();
  const trainer = await model.createTrainer({
    ...OPTIMIZER,
    weightDecay: 0.5,
    beta1: 0,
    beta2: 0,
    epsilon: 1,
  });
  // With epsilon 1 and gradients of about 1e-20 the decay is all that is left: C = 0.5 at zero margin has none.
  const pairs = await pairsOf(model, 0.5);
  await trainer.preferenceStep(pairs, { ...CREAM, beta: 1e-6 }, 0.1, 4096, token);
  const after = await model._tensors();
  for (const [i, { name, shape, data }] of before.entries()) {
    const factor = shape.length === 2 ? 0.95 : 1;
    close(
      t,
      after[i]!.data,
      data.map((x) => x * factor),
      { rtol: 1e-5, atol: 1e-6 },
      name,
    );
  }
});

t.test('one-token and long responses, and an example larger than the budget', async (t) => {
  const model = await randomModel(EVERYTHING);
  const trainer = await model.createTrainer(OPTIMIZER);
  const batch = [
    { promptIds: ids(3), responseIds: ids(5) },
    { promptIds: randomIds(12, 1), responseIds: randomIds(500, 2) },
  ];
  const metrics = await trainer.sftStep(batch, 0.001, 16, token);
  t.ok(metrics.applied && Number.isFinite(metrics.loss));
  t.equal(metrics.microBatches, 2);
  t.equal(metrics.tokens, 1 + 12 + 499, 'the last token of a response needs no row');
  const pair = { promptIds: ids(3), chosenIds: ids(5), rejectedIds: ids(6) };
  const reference = { consistency: 1, referenceChosen: -3, referenceRejected: -3 };
  const preference = await trainer.preferenceStep([{ ...pair, ...reference }], CREAM, 0.001, 16, token);
  t.ok(preference.applied);
  t.equal(preference.tokens, 1, 'both tokens are predicted by the prompt');
});

t.test('a cancelled step changes nothing', async (t) => {
  const model = await randomModel(EVERYTHING);
  const trainer = await model.createTrainer(OPTIMIZER);
  const before = await bits(model);
  const cancelled = binding.cancelToken();
  cancelled.cancel();
  await t.rejects(trainer.sftStep(SFT, 0.01, 4096, cancelled), { code: 'ABORTED' });
  t.ok((await bits(model)).equals(before));
  const fresh = await (await randomModel(EVERYTHING)).createTrainer(OPTIMIZER);
  t.same(await sftStep(trainer), await sftStep(fresh), 'the next step is the first');
});

t.test('a state of another architecture, dtype or optimizer is refused by name', async (t) => {
  const file = join(t.testdir(), 'state.safetensors');
  const trainer = await (await randomModel(EVERYTHING)).createTrainer(OPTIMIZER);
  await trainer.saveState(file);
  const load = async (config: object, optimizer: object, dtype: NativeDtype = 'float32') => {
    const model = await randomModel({ ...EVERYTHING, ...config }, { dtype });
    const other = await model.createTrainer({ ...OPTIMIZER, ...optimizer });
    const before = await bits(model);
    try {
      await other.loadState(file);
    } finally {
      t.ok((await bits(model)).equals(before), 'a refusal leaves the model as it was');
    }
  };
  await load({}, {}).catch(() => undefined);
  const refused = (message: RegExp) => ({ code: 'INVALID_ARGUMENT', message });
  await t.rejects(
    load({ intermediateSize: 24 }, {}),
    refused(/intermediateSize 20, but this trainer has 24/),
  );
  await t.rejects(load({ ropeTheta: 5000 }, {}), refused(/ropeTheta 10000, but this trainer has 5000/));
  await t.rejects(
    load({ slidingWindow: [0, 8] }, {}),
    refused(/slidingWindow 0,0, but this trainer has 0,8/),
  );
  await t.rejects(load({}, { beta2: 0.999 }), refused(/beta2 0\.99, but this trainer has 0\.999/));
  await t.rejects(load({}, { maxGradNorm: 0 }), refused(/maxGradNorm 1, but this trainer has 0/));
  await t.rejects(load({}, {}, 'bfloat16'), refused(/dtype float32, but this trainer has bfloat16/));
});

t.test('a file that is not a training state is refused', async (t) => {
  const folder = t.testdir();
  const model = await modelFrom(join(folder, 'm.safetensors'), EVERYTHING, await genericTensors(EVERYTHING));
  const trainer = await model.createTrainer(OPTIMIZER);
  const notAState = { code: 'INVALID_CHECKPOINT', message: /m\.safetensors: this is not a training state/ };
  await t.rejects(trainer.loadState(join(folder, 'm.safetensors')), notAState);
  await t.rejects(trainer.loadState(join(folder, 'missing')), { message: /missing/ });
});

t.test('wrong arguments are refused by name', async (t) => {
  const model = await randomModel(EVERYTHING);
  const refused = (message: RegExp) => ({ code: 'INVALID_ARGUMENT', message });
  await t.rejects(model.createTrainer({ ...OPTIMIZER, beta1: 1 }), refused(/beta1 must be below 1/));
  await t.rejects(model.createTrainer({ ...OPTIMIZER, epsilon: 0 }), refused(/epsilon must be above 0/));
  const trainer = await model.createTrainer(OPTIMIZER);
  await t.rejects(model.createTrainer(OPTIMIZER), refused(/in training already/));
  await t.rejects(trainer.sftStep([], 0.1, 16, token), refused(/no examples/));
  await t.rejects(
    trainer.sftStep([{ promptIds: randomIds(300, 1), responseIds: randomIds(213, 2) }], 0.1, 16, token),
    refused(/example 0: prompt and response take 513 positions, but the model has 512/),
  );
  const pair = { promptIds: ids(1), chosenIds: ids(2), rejectedIds: ids(3) };
  const complete = { ...pair, consistency: 0.5, referenceChosen: -1, referenceRejected: -1 };
  await t.rejects(
    trainer.preferenceStep([complete], { ...CREAM, beta: 0 }, 0.1, 16, token),
    refused(/beta must be above 0/),
  );
  trainer.dispose();
  const next = await model.createTrainer(OPTIMIZER);
  t.ok(next, 'a disposed trainer frees the model');
});

t.test(
  'tokens that are not trained are context alone, as if each trained one were an example of its own',
  async (t) => {
    const turn = { promptIds: ids(1, 5), responseIds: ids(7, 3, 11, 2), trained: ids(1, 0, 0, 1) };
    const apart = [
      { promptIds: ids(1, 5), responseIds: ids(7) },
      { promptIds: ids(1, 5, 7, 3, 11), responseIds: ids(2) },
    ];
    const metrics: NativeStepMetrics[][] = [];
    for (const batch of [[turn], apart]) {
      const trainer = await (await randomModel(EVERYTHING)).createTrainer(OPTIMIZER);
      metrics.push([await sftStep(trainer, 0.01, batch), await sftStep(trainer, 0.01, batch)]);
      trainer.dispose();
    }
    const of = (key: 'loss' | 'gradNorm') => metrics.map((steps) => steps.map((step) => step[key]));
    for (const key of ['loss', 'gradNorm'] as const) {
      const [marked, own] = of(key);
      close(t, marked!, own!, { rtol: 1e-5, atol: 1e-6 });
    }
    t.strictSame(
      metrics.map(([first]) => first?.targetTokens),
      [2, 2],
    );
    const trainer = await (await randomModel(EVERYTHING)).createTrainer(OPTIMIZER);
    for (const [trained, message] of [
      [ids(1, 0), /4 response tokens and 2 marks/],
      [ids(0, 0, 0, 0), /no token that is trained/],
      [ids(2, 0, 0, 0), /trained\[0\] is 2/],
    ] as const) {
      await t.rejects(async () => sftStep(trainer, 0.01, [{ ...turn, trained }]), message, String(message));
    }
    trainer.dispose();
  },
);
