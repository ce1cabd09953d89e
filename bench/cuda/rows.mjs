// Every row of the tables of GPU generation, scoring and training: what is measured, its floor and what is wanted.
import { ADAMW_BYTES, decodeStep, scoreFlop, scoreFlopUnshared, trainFlop } from './floors.mjs';
import { binding, generate, idStream, load, settle, time, token, whereTimeWent } from './measure.mjs';
import { SHAPES, sizes } from './shapes.mjs';

const TERA = 1e12;

/** Tokens per second of decoding, `live` sequences at once. */
async function decode({ shape, device, caps, quick }, { live, P, T, N, wanted }) {
  const config = SHAPES[shape];
  const take = idStream(config.vocabSize);
  const prompts = Array.from({ length: Math.max(1, Math.ceil(live / N)) }, () => take(P));
  const model = await load(shape, device);
  const work = () => generate(model, prompts, { n: N, maxNewTokens: T, maxLiveSequences: live });
  const { tokens } = await work(); // graphs are captured here
  const { seconds, spread } = await time(device, work, { rounds: quick ? 1 : 3, budget: 120, warmUps: 0 });
  const where = await whereTimeWent(device, work);
  const memory = await binding.deviceMemory(device, false);
  model.dispose();
  const floor = caps.flops && live / decodeStep(sizes(config), config.vocabSize, { B: live, P, T, N }, caps);
  return {
    value: tokens / seconds,
    unit: 'tok/s',
    floor,
    wanted,
    seconds,
    spread,
    where,
    peakBytes: memory.peak,
    work: { live, P, T, N, tokens },
    // Of the time in which the GPU works: without graphs, as here, the host's launches are part of the rest.
    extra: { samplerShare: where.sampler / (where.total - where.gaps) },
  };
}

/** Bytes per second of keys and values, prompts counted once per group, that each kernel of decode attention reads. */
async function decodeAttention({ shape, device, caps }, { live, P, T, N }) {
  const config = SHAPES[shape];
  const take = idStream(config.vocabSize);
  const prompts = Array.from({ length: Math.max(1, Math.ceil(live / N)) }, () => take(P));
  const model = await load(shape, device);
  const work = () => generate(model, prompts, { n: N, maxNewTokens: T, maxLiveSequences: live });
  const before = process.env.CREAM_DECODE_ATTENTION;
  const measured = {};
  let tokens;
  for (const kernel of ['plain', 'auto']) {
    process.env.CREAM_DECODE_ATTENTION = kernel;
    ({ tokens } = await work());
    const where = await whereTimeWent(device, work);
    const { seconds } = await time(device, work, { rounds: 1, budget: 60, warmUps: 0 });
    measured[kernel] = { where, seconds };
  }
  if (before === undefined) delete process.env.CREAM_DECODE_ATTENTION;
  else process.env.CREAM_DECODE_ATTENTION = before;
  model.dispose();
  const { plain, auto } = measured;
  const bytes = tokens * sizes(config).kvBytes * (P / N + T / 2);
  return {
    value: bytes / auto.where.attention / 1e9,
    unit: 'GB/s',
    floor: caps.bandwidth && caps.bandwidth / 1e9,
    seconds: auto.where.attention,
    where: auto.where,
    work: { live, P, T, N, tokens, bytes },
    extra: {
      plainAttentionSeconds: plain.where.attention,
      attentionGain: plain.where.attention / auto.where.attention,
      generateSeconds: auto.seconds,
      plainGenerateSeconds: plain.seconds,
    },
  };
}

function groupsOf(config, { P, T, N }, prompts) {
  const take = idStream(config.vocabSize, 11);
  return Array.from({ length: prompts }, () => ({
    promptIds: take(P),
    responses: Array.from({ length: N }, () => take(T)),
  }));
}

/** TFLOP/s of the scoring work that is done, and the gain over the same path without sharing prompts. */
async function score({ shape, device, caps, quick }, { P, T, N, prompts, wanted }) {
  const config = SHAPES[shape];
  const model = await load(shape, device);
  const shared = groupsOf(config, { P, T, N }, prompts);
  const alone = shared.flatMap(({ promptIds, responses }) =>
    responses.map((response) => ({ promptIds, responses: [response] })),
  );
  const options = { maxTokensPerBatch: 0, perToken: false };
  const run = (groups) => () => model.score(groups, options, token);
  const settings = { rounds: quick ? 1 : 5, budget: 90 };
  const { seconds, spread } = await time(device, run(shared), settings);
  const unshared = await time(device, run(alone), settings);
  const where = await whereTimeWent(device, run(shared));
  const memory = await binding.deviceMemory(device, false);
  model.dispose();
  const size = sizes(config);
  return {
    value: scoreFlop(size, { P, T, N }, prompts) / seconds / TERA,
    unit: 'TFLOP/s',
    floor: caps.flops && caps.flops / TERA,
    wanted,
    seconds,
    spread,
    where,
    peakBytes: memory.peak,
    work: { P, T, N, prompts },
    extra: {
      tokensPerSecond: (prompts * N * T) / seconds,
      equivalentUnsharedTflops: scoreFlopUnshared(size, { P, T, N }, prompts) / seconds / TERA,
      sharingGain: unshared.seconds / seconds,
      sharingGainWanted: 1.25,
    },
  };
}

/** The head alone: responses after a prompt of one token, of a model with a single layer. */
async function head({ shape, device, caps, quick }, { rows, wanted }) {
  const full = SHAPES[shape];
  const config = { ...full, numLayers: 1, slidingWindow: [0] };
  const take = idStream(config.vocabSize, 13);
  const model = await binding.randomModel({ config, seed: 1n, dtype: 'bfloat16', device });
  const T = Math.min(1024, rows, full.maxPositionEmbeddings - 1);
  const groups = [
    { promptIds: take(1), responses: Array.from({ length: Math.ceil(rows / T) }, () => take(T)) },
  ];
  const work = () => model.score(groups, { maxTokensPerBatch: 2 * rows, perToken: false }, token);
  await time(device, work, { rounds: quick ? 1 : 3, budget: 60 });
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

function pairsOf(config, { P, T }, pairs) {
  return groupsOf(config, { P, T, N: 2 }, pairs).map(
    ({ promptIds, responses: [chosenIds, rejectedIds] }, i) => ({
      promptIds,
      chosenIds,
      rejectedIds,
      consistency: [1, 0.9, 0.8, 0.6][i % 4],
      referenceChosen: -11 * T,
      referenceRejected: -11 * T,
    }),
  );
}

const ADAPTER = {
  rank: 32,
  alpha: 64,
  dropout: 0,
  rankStabilized: false,
  targetModules: ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'],
};
const ADAMW = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.01, maxGradNorm: 1, seed: 0n };

/** A preference step: pairs, TFLOP/s of the work done, memory, and the gain from sharing the prompt. */
async function train(
  { shape, device, caps, quick },
  { P, T, pairs, maxTokens, lora = false, wanted, wantedPairs, wantedSharing, mostBytes },
) {
  const config = SHAPES[shape];
  const base = await load(shape, device);
  const model = lora ? await base.addAdapter(ADAPTER, 1n) : base;
  const trainer = await model.createTrainer(ADAMW);
  const batch = pairsOf(config, { P, T }, pairs);
  const loss = { loss: 'sigmoid', beta: 0.1, sftCoefficient: 0 };
  let metrics;
  const work = async () => {
    metrics = await trainer.preferenceStep(batch, loss, 1e-7, maxTokens, token);
  };
  await work();
  await binding.deviceMemory(device, true);
  const { seconds, spread } = await time(device, work, { rounds: quick ? 1 : 5, budget: 120, warmUps: 0 });
  const memory = await binding.deviceMemory(device, false);
  const where = await whereTimeWent(device, work);
  // The same sequences without sharing: twice as many examples of one response each, trained on as SFT does.
  const apart = batch.flatMap(({ promptIds, chosenIds, rejectedIds }) =>
    [chosenIds, rejectedIds].map((responseIds) => ({ promptIds, responseIds })),
  );
  const unshared = await time(device, () => trainer.sftStep(apart, 1e-7, maxTokens, token), {
    rounds: quick ? 1 : 3,
    budget: 90,
  });
  trainer.dispose();
  model.dispose();
  if (lora) base.dispose();
  const size = sizes(config);
  const flop = trainFlop(size, { P, T }, pairs, { lora });
  const update = lora || !caps.bandwidth ? 0 : (ADAMW_BYTES * size.parameters) / caps.bandwidth;
  return {
    value: flop / seconds / TERA,
    unit: 'TFLOP/s',
    floor: caps.flops && flop / (flop / caps.flops + update) / TERA,
    wanted,
    seconds,
    spread,
    where,
    peakBytes: memory.peak,
    work: { P, T, pairs, maxTokens, lora, microBatches: metrics.microBatches },
    extra: {
      pairsPerSecond: pairs / seconds,
      pairsPerSecondWanted: wantedPairs,
      peakBytesWanted: mostBytes,
      sharingGain: unshared.seconds / seconds,
      sharingGainWanted: wantedSharing,
      optimizerBandwidth:
        where.optimizer > 0 ? (ADAMW_BYTES * size.parameters) / where.optimizer / TERA : undefined,
    },
  };
}

/** AdamW on all weights: a step on one short pair, of which only the optimizer's time is counted. */
async function adamw({ shape, device, caps, quick }, { wanted }) {
  const config = SHAPES[shape];
  const model = await load(shape, device);
  const trainer = await model.createTrainer(ADAMW);
  const batch = pairsOf(config, { P: 4, T: 4 }, 1);
  const work = () =>
    trainer.preferenceStep(batch, { loss: 'sigmoid', beta: 0.1, sftCoefficient: 0 }, 1e-7, 64, token);
  await time(device, work, { rounds: quick ? 1 : 3, budget: 60 });
  const where = await whereTimeWent(device, work);
  trainer.dispose();
  model.dispose();
  // Clipping reads the gradients once more than the update itself does.
  const bytes = ADAMW_BYTES * sizes(config).parameters;
  return {
    value: bytes / where.optimizer / TERA,
    unit: 'TB/s',
    floor: caps.bandwidth && caps.bandwidth / TERA,
    wanted,
    seconds: where.optimizer,
    where,
    work: { parameters: sizes(config).parameters },
  };
}

/** Seconds to bring a model's weights to the device and back: what a swap of models costs. */
async function swap({ shape, device, quick }) {
  const model = await load(shape, device);
  const { seconds, spread } = await time(
    device,
    async () => {
      (await model.clone()).dispose();
    },
    { rounds: quick ? 1 : 3 },
  );
  const memory = await settle(device);
  model.dispose();
  const bytes = 2 * sizes(SHAPES[shape]).parameters;
  return {
    value: (2 * bytes) / seconds / TERA,
    unit: 'TB/s',
    seconds,
    spread,
    peakBytes: memory.peak,
    work: { bytes },
  };
}

const PAPER = { P: 128, T: 300, N: 5 };
const GIB = 2 ** 30;

/** `scale` shrinks the work for --shape tiny. Wanted values are for an H200. */
export function makeRows({ tiny }) {
  const few = (number, small) => (tiny ? small : number);
  const paper = tiny ? { P: 8, T: 12, N: 5 } : PAPER;
  const pairs = tiny ? { P: 8, T: 12 } : { P: 128, T: 300 };
  const long = tiny ? { P: 32, T: 12 } : { P: 512, T: 300 };
  const maxTokens = few(8192, 128);
  return {
    'decode-8b': ['8b', (c) => decode(c, { live: few(320, 10), ...paper, wanted: 22_000 })],
    'decode-1.2b': ['1.2b', (c) => decode(c, { live: few(640, 10), ...paper, wanted: 100_000 })],
    'decode-0.5b': ['0.5b', (c) => decode(c, { live: few(640, 10), ...paper, wanted: 200_000 })],
    'decode-8b-single': ['8b', (c) => decode(c, { ...paper, live: 1, N: 1, wanted: 200 })],
    'decode-8b-512': ['8b', (c) => decode(c, { live: few(512, 10), ...paper })],
    'decode-8b-attention': ['8b', (c) => decodeAttention(c, { live: few(320, 10), ...paper })],
    'score-8b': ['8b', (c) => score(c, { ...paper, prompts: few(48, 3), wanted: 650 })],
    'score-8b-512': ['8b', (c) => score(c, { ...paper, P: few(512, 32), prompts: few(32, 3), wanted: 650 })],
    'head-8b': ['8b', (c) => head(c, { rows: few(32_768, 64), wanted: 600 })],
    'train-8b': [
      '8b',
      (c) =>
        train(c, {
          ...pairs,
          pairs: few(44, 3),
          maxTokens,
          wanted: 500,
          wantedPairs: 12,
          wantedSharing: 1.13,
          mostBytes: 135e9,
        }),
    ],
    'train-8b-512': [
      '8b',
      (c) => train(c, { ...long, pairs: few(28, 3), maxTokens, wanted: 500, wantedSharing: 1.35 }),
    ],
    'train-1.2b': [
      '1.2b',
      (c) => train(c, { ...pairs, pairs: few(64, 3), maxTokens: few(16_384, 128), wanted: 0.45 * 790 }),
    ],
    'train-0.5b': [
      '0.5b',
      (c) => train(c, { ...pairs, pairs: few(64, 3), maxTokens: few(16_384, 128), wanted: 0.35 * 790 }),
    ],
    'lora-8b': [
      '8b',
      (c) => train(c, { ...pairs, pairs: few(44, 3), maxTokens, lora: true, mostBytes: 40 * GIB }),
    ],
    'adamw-8b': ['8b', (c) => adamw(c, { wanted: 0.8 * 4.3 })],
    'copy-8b': ['8b', (c) => swap(c)],
  };
}
