import { setTimeout as yieldNow } from 'node:timers/promises';
import type { LoraOptions } from '../data/adapter.js';
import type { ModelConfig } from '../data/model-config.js';
import { Model } from '../native/model.js';
import { type Dtype, optimizerBytesPerParameter, bytesOf, parameterCounts } from './sizes.js';
import type { Lengths } from './work.js';

// The engine's speed on this machine for a model of a given shape, measured on random weights with one and two layers
// and continued in a straight line to all of them: a layer costs what a layer costs.

export interface Speed {
  /** Seconds per row of a scoring pass. */
  score: number;
  /** Seconds per row of a training step. */
  train: number;
  /** Seconds per sampled token with the run's number of live sequences. */
  generate: number;
}

export interface ProbeOptions {
  dtype: Dtype;
  device: string;
  threads?: number | undefined;
  lengths: Lengths;
  /** Responses per prompt. */
  n: number;
  /** Sequences that are sampled side by side. */
  live: number;
  /** Bytes that the probe may take. */
  room: number;
  signal?: AbortSignal | undefined;
  /** Train an adapter, not the weights. */
  lora?: LoraOptions | undefined;
}

const SCORED_ROWS = 1024;
const DECODED = [4, 12] as const;

const timed = async (work: () => Promise<unknown>): Promise<number> => {
  const start = performance.now();
  await work();
  return (performance.now() - start) / 1000;
};

/** Middle of three, after one that warms up. */
async function median(work: () => Promise<unknown>): Promise<number> {
  await work();
  const times = [await timed(work), await timed(work), await timed(work)];
  return times.sort((a, b) => a - b)[1]!;
}

async function measure(model: Model, options: ProbeOptions, trains: boolean): Promise<Speed> {
  const { lengths, n, live, signal } = options;
  const { vocabSize, maxPositionEmbeddings } = model.config;
  const ids = (length: number, seed: number) =>
    Array.from({ length }, (_, i) => (seed * 7919 + i * 104_729) % vocabSize);
  const prompt = Math.max(1, Math.min(Math.round(lengths.prompt), maxPositionEmbeddings - 16));
  const response = Math.max(2, Math.min(Math.round(lengths.response), maxPositionEmbeddings - prompt));

  const rows = prompt + n * (response - 1);
  const groups = Array.from({ length: Math.max(1, Math.round(SCORED_ROWS / rows)) }, (_, g) => ({
    promptIds: ids(prompt, g),
    responses: Array.from({ length: n }, (_unused, r) => ids(response, g * n + r + 1)),
  }));
  const score = (await median(() => model.score(groups, { signal }))) / (groups.length * rows);

  const prompts = Array.from({ length: Math.max(1, Math.round(live / n)) }, (_, p) => ({
    id: `p${p}`,
    ids: ids(prompt, p),
  }));
  const decode = (maxNewTokens: number) => async () => {
    const request = { prompts, n, maxNewTokens, seed: 1, signal };
    for await (const _ of model.generate(request));
  };
  const [few, more] = [await median(decode(DECODED[0])), await median(decode(DECODED[1]))];
  const generate = Math.max(more - few, more / 100) / ((DECODED[1] - DECODED[0]) * prompts.length * n);

  if (!trains) return { score, generate, train: 3 * score };
  const trainer = await model.createTrainer();
  try {
    const batch = groups.map(({ promptIds, responses }) => ({
      promptIds,
      chosenIds: responses[0]!,
      rejectedIds: responses[1] ?? responses[0]!,
      consistency: 0.9,
      referenceChosen: -1,
      referenceRejected: -1,
    }));
    const step = () =>
      trainer.preferenceStep(batch, {
        loss: 'sigmoid',
        beta: 0.1,
        sftCoefficient: 0,
        learningRate: 1e-6,
        maxTokensPerBatch: 8192,
        signal,
      });
    const trained = batch.length * (prompt + 2 * (response - 1));
    return { score, generate, train: (await median(step)) / trained };
  } finally {
    trainer.dispose();
  }
}

/**
 * Measures a shape in some seconds. A training step is measured where its memory fits, and is else three scoring
 * passes (a backward costs two forwards): `trainIsMeasured` says which.
 */
export async function probeSpeed(
  config: ModelConfig,
  options: ProbeOptions,
): Promise<Speed & { trainIsMeasured: boolean }> {
  const { dtype, device, threads, room } = options;
  const counts = parameterCounts(config);
  const depths = config.numLayers <= 2 ? [config.numLayers] : [1, 2];
  const withLayers = (layers: number) => counts.total - (config.numLayers - layers) * counts.layer;
  const largest = withLayers(depths.at(-1)!);
  const trains = largest * (bytesOf(dtype) + optimizerBytesPerParameter(dtype)) * 1.3 < room;
  const measured: Speed[] = [];
  for (const numLayers of depths) {
    const shape = { ...config, numLayers, slidingWindow: config.slidingWindow.slice(0, numLayers) };
    await using base = await Model.random(shape, {
      seed: 1n,
      dtype,
      device,
      ...(threads === undefined ? {} : { threads }),
    });
    await using model = options.lora === undefined ? base : await base.addAdapter(options.lora);
    measured.push(await measure(model, options, trains));
    await yieldNow(0);
  }
  const [one, two] = measured as [Speed, Speed?];
  const extended = (part: keyof Speed) =>
    two === undefined ? one[part] : one[part] + (config.numLayers - 1) * Math.max(0, two[part] - one[part]);
  return {
    score: extended('score'),
    train: extended('train'),
    generate: extended('generate'),
    trainIsMeasured: trains,
  };
}
