// What single rows measure of decoding, scoring, the head, AdamW and copies of a model.
import { adamwBytes, decodeStep, scoreFlop, scoreFlopUnshared } from './floors.mjs';
import { binding, generate, idStream, load, median, settle, time, token, whereTimeWent } from './measure.mjs';
import { doesNotFit } from './plan.mjs';
import { SHAPES, sizes } from './shapes.mjs';

export const TERA = 1e12;
export const ADAMW = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.01, maxGradNorm: 1, seed: 0n };

/** Tokens per second of decoding, `live` sequences at once. */
export async function decode({ shape, device, caps, quick, memory }, { live, P, T, N, wanted }) {
  const config = SHAPES[shape];
  const size = sizes(config);
  const groups = Math.max(1, Math.ceil(live / N));
  const planned = 2 * size.parameters + size.kvBytes * (groups * P + live * T);
  if (planned > 0.92 * memory.free) return doesNotFit('decoding', planned, memory);
  const take = idStream(config.vocabSize);
  const prompts = Array.from({ length: groups }, () => take(P));
  const model = await load(shape, device);
  const work = () => generate(model, prompts, { n: N, maxNewTokens: T, maxLiveSequences: live });
  const { tokens } = await work(); // graphs are captured here
  const { seconds, spread } = await time(device, work, { rounds: quick ? 1 : 3, budget: 40, warmUps: 0 });
  const steps = quick ? undefined : await whereTimeWent(device, work, 'steps');
  const where = await whereTimeWent(device, work);
  const { peak } = await binding.deviceMemory(device, false);
  model.dispose();
  return {
    value: tokens / seconds,
    unit: 'tok/s',
    floor: caps.flops && live / decodeStep(size, config.vocabSize, { B: live, P, T, N }, caps),
    wanted,
    seconds,
    spread,
    where,
    whereOf: 'without graphs, ops counted one by one',
    peakBytes: peak,
    work: { live, P, T, N, tokens },
    extra: {
      // Of the time in which the GPU works: without graphs, as here, the host's launches are part of the rest.
      samplerShare: (where.sampler ?? 0) / (where.total - where.gaps - where.counting),
      // With graphs, as in the timed runs.
      ...(steps && { idleShare: steps.gaps / steps.total, secondsWhileStepsCounted: steps.total }),
    },
  };
}

/**
 * Bytes per second of keys and values, prompts counted once per group, that each kernel of decode attention reads, alone and
 * many times in a row, half of each response being there; beside the rate of a copy in the same minute. The value is the
 * best kernel's at the first of `points`.
 */
export function decodeAttention({ device }, { points, P, T, N, copyBytes, count }) {
  const measured = points.map(({ shape, live }) => {
    const config = SHAPES[shape];
    const prompts = Math.max(1, Math.ceil(live / N));
    const { bytes, copyBandwidth, seconds } = binding._timeSlotAttention({
      prompts: new Int32Array(prompts).fill(P),
      rows: Int32Array.from({ length: 2 * live }, (_, i) => (i % 2 ? T / 2 : Math.floor(i / 2 / N))),
      heads: config.numHeads,
      kvHeads: config.numKvHeads,
      headDim: config.headDim,
      window: 0,
      groupRows: Math.min(8, N),
      layers: 4,
      count,
      copyBytes,
      device,
    });
    const kernels = Object.entries(seconds)
      .filter(([, each]) => !Number.isNaN(each))
      .map(([kernel, each]) => ({
        kernel,
        microseconds: each * 1e6,
        tbs: bytes / each / TERA,
        ofCopy: bytes / each / copyBandwidth,
      }));
    return { shape, live, bytes, copyTbs: copyBandwidth / TERA, kernels };
  });
  const [first] = measured;
  const best = first.kernels.reduce((a, b) => (b.tbs > a.tbs ? b : a));
  return {
    value: best.tbs * 1e3,
    unit: 'GB/s',
    floor: first.copyTbs * 1e3,
    seconds: best.microseconds / 1e6,
    work: { live: first.live, P, T, N, bytes: first.bytes },
    extra: { kernel: best.kernel, points: measured },
  };
}

export function groupsOf(config, { P, T, N }, prompts) {
  const take = idStream(config.vocabSize, 11);
  return Array.from({ length: prompts }, () => ({
    promptIds: take(P),
    responses: Array.from({ length: N }, () => take(T)),
  }));
}

/** TFLOP/s of the scoring work that is done, and the gain over the same path without sharing prompts. */
export async function score({ shape, device, caps, quick }, { P, T, N, prompts, wanted, wantedSharing }) {
  const config = SHAPES[shape];
  const size = sizes(config);
  const model = await load(shape, device);
  const groups = groupsOf(config, { P, T, N }, prompts);
  const run = (sharePrompts) => () =>
    model.score(groups, { maxTokensPerBatch: 16_384, perToken: false, sharePrompts }, token);
  const settings = { rounds: quick ? 1 : 5, budget: 30 };
  const { seconds, spread } = await time(device, run(true), settings);
  const unshared = await time(device, run(false), settings);
  const where = await whereTimeWent(device, run(true));
  const { peak } = await binding.deviceMemory(device, false);
  model.dispose();
  return {
    value: scoreFlop(size, { P, T, N }, prompts) / seconds / TERA,
    unit: 'TFLOP/s',
    floor: caps.flops && caps.flops / TERA,
    wanted,
    seconds,
    spread,
    where,
    peakBytes: peak,
    work: { P, T, N, prompts },
    extra: {
      tokensPerSecond: (prompts * N * T) / seconds,
      equivalentUnsharedTflops: scoreFlopUnshared(size, { P, T, N }, prompts) / seconds / TERA,
      sharingGain: unshared.seconds / seconds,
      sharingGainWanted: wantedSharing,
      sharingGainOfWork: scoreFlopUnshared(size, { P, T, N }, 1) / scoreFlop(size, { P, T, N }, 1),
      unsharedSeconds: unshared.seconds,
    },
  };
}

/** The head alone: responses after a prompt of one token, of a model with a single layer. */
export async function head({ shape, device, caps, quick }, { rows, wanted }) {
  const full = SHAPES[shape];
  const config = { ...full, numLayers: 1, slidingWindow: [0] };
  const take = idStream(config.vocabSize, 13);
  const model = await binding.randomModel({ config, seed: 1n, dtype: 'bfloat16', device });
  const T = Math.min(1024, rows, full.maxPositionEmbeddings - 1);
  const groups = [
    { promptIds: take(1), responses: Array.from({ length: Math.ceil(rows / T) }, () => take(T)) },
  ];
  const work = () => model.score(groups, { maxTokensPerBatch: 2 * rows, perToken: false }, token);
  await time(device, work, { rounds: quick ? 1 : 3, budget: 30 });
  const where = await whereTimeWent(device, work);
  model.dispose();
  const targets = groups[0].responses.length * T;
  return {
    value: (2 * sizes(config).head * targets) / where.head / TERA,
    unit: 'TFLOP/s',
    floor: caps.flops && caps.flops / TERA,
    wanted,
    seconds: where.head,
    where,
    work: { rows: targets, vocabSize: config.vocabSize },
  };
}

/** AdamW on all weights: a step on one short pair, of which only the optimizer's time is counted. */
export async function adamw({ shape, device, caps, quick, memory }, { wanted }) {
  // Its speed does not depend on the size: fewer layers where 16 bytes a parameter do not fit.
  let config = SHAPES[shape];
  const bytesOf = (candidate) => 16.5 * sizes(candidate).parameters;
  while (bytesOf(config) > 0.9 * memory.free && config.numLayers > 4) {
    const numLayers = config.numLayers - 4;
    config = { ...config, numLayers, slidingWindow: config.slidingWindow.slice(0, numLayers) };
  }
  if (bytesOf(config) > 0.9 * memory.free) return doesNotFit('AdamW', bytesOf(config), memory);
  const model = await binding.randomModel({ config, seed: 1n, dtype: 'bfloat16', device });
  const gradientsDtype = device === 'cpu' ? 'float32' : 'bfloat16';
  const trainer = await model.createTrainer({ ...ADAMW, gradientsDtype });
  const [{ promptIds, responses }] = groupsOf(config, { P: 4, T: 4, N: 2 }, 1);
  const batch = [
    {
      promptIds,
      chosenIds: responses[0],
      rejectedIds: responses[1],
      consistency: 1,
      referenceChosen: -40,
      referenceRejected: -40,
    },
  ];
  const work = () =>
    trainer.preferenceStep(batch, { loss: 'sigmoid', beta: 0.1, sftCoefficient: 0 }, 1e-7, 64, token);
  await time(device, work, { rounds: quick ? 1 : 3, budget: 30 });
  const where = await whereTimeWent(device, work);
  trainer.dispose();
  model.dispose();
  const { parameters } = sizes(config);
  return {
    value: (adamwBytes(gradientsDtype) * parameters) / where.optimizer / TERA,
    unit: 'TB/s',
    floor: caps.bandwidth && caps.bandwidth / TERA,
    wanted,
    seconds: where.optimizer,
    where,
    work: { parameters, numLayers: config.numLayers, bytesPerParameter: adamwBytes(gradientsDtype) },
  };
}

/** A second copy of the weights on the device: what keeping a policy there costs. */
export async function copy({ shape, device, caps, quick, memory }) {
  const bytes = 2 * sizes(SHAPES[shape]).parameters;
  if (2 * bytes > 0.95 * memory.free) return doesNotFit('two copies of the weights', 2 * bytes, memory);
  const model = await load(shape, device);
  const { seconds, spread } = await time(
    device,
    async () => {
      (await model.clone()).dispose();
    },
    { rounds: quick ? 1 : 3, budget: 30 },
  );
  const { peak } = await settle(device);
  model.dispose();
  return {
    value: (2 * bytes) / seconds / TERA,
    unit: 'TB/s',
    floor: caps.bandwidth && caps.bandwidth / TERA,
    seconds,
    spread,
    peakBytes: peak,
    work: { bytes },
  };
}

/**
 * A model's weights to pinned host memory and back. To leave includes taking pinned memory from the host and happens once:
 * the copy stays there, and weights that were not trained meanwhile leave again without one.
 */
export async function swap({ shape, device, caps, quick }) {
  const model = await load(shape, device);
  await settle(device);
  const moves = [];
  for (let round = 0; round < (quick ? 2 : 4); round++) {
    const away = await model.offload();
    const begin = performance.now();
    await model.onload();
    await settle(device);
    moves.push({ away, back: (performance.now() - begin) / 1e3 });
  }
  const begin = performance.now();
  (await model.snapshot(true)).dispose();
  const snapshotSeconds = (performance.now() - begin) / 1e3;
  model.dispose();
  const away = moves[0].away;
  if (away === 0) return { skipped: 'on the CPU nothing moves' };
  const back = median(moves.map((move) => move.back));
  const bytes = 2 * sizes(SHAPES[shape]).parameters;
  return {
    value: bytes / back / 1e9,
    unit: 'GB/s',
    floor: caps.host && caps.host / 1e9,
    seconds: back,
    work: { bytes },
    extra: { backSeconds: back, awaySeconds: away, awayGBs: bytes / away / 1e9, snapshotSeconds, moves },
  };
}
