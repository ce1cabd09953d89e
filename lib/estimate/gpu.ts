import type { CreamConfig } from '../config.js';
import type { ModelConfig } from '../data/model-config.js';
import { loraOptions } from '../run/models.js';
import {
  adapterParameters,
  bytesOf,
  type Dtype,
  kvBytesPerToken,
  parameterCounts,
  type Recompute,
  slotsOf,
} from './sizes.js';
import type { Lengths, StageWork, Workload } from './work.js';

// Times on a GPU that is not here, by arithmetic: the work of a stage, what products and copies reach on the GPU, and the
// share of that which this engine reached on an H200. Of other GPUs nothing is measured.

export interface Gpu {
  name: string;
  bytes: number;
  /** bfloat16 matrix products with float32 sums, FLOP/s: what large ones reach for as long as one likes. */
  flops: number;
  /** Memory, bytes/s read and written: what a copy reaches. */
  bandwidth: number;
  /** Whether both were measured, on the day of SHARES. */
  isMeasured: boolean;
}

const GIB = 2 ** 30;
/** Large products reach about four fifths of the data sheet's dense rate, a copy nine tenths of its bandwidth. */
const reachable = (name: string, gib: number, teraflops: number, terabytes: number): Gpu => ({
  name,
  bytes: gib * GIB,
  flops: 0.8 * teraflops * 1e12,
  bandwidth: 0.9 * terabytes * 1e12,
  isMeasured: false,
});
/** Power limits products of an H200 and an H100, which have the same chip and the same 700 W. */
const SUSTAINED = 670e12;

/** Memory as the driver reports it; dense bfloat16 TFLOP/s and TB/s from NVIDIA's data sheets but for the first two. */
export const GPUS = {
  h200: { name: 'H200 (SXM)', bytes: 139.8 * GIB, flops: SUSTAINED, bandwidth: 4.3e12, isMeasured: true },
  h100: { ...reachable('H100 (SXM, 80 GB)', 79.6, 989, 3.35), flops: SUSTAINED },
  'a100-80': reachable('A100 (SXM, 80 GB)', 80, 312, 2.04),
  'a100-40': reachable('A100 (SXM, 40 GB)', 40, 312, 1.555),
  l40s: reachable('L40S (48 GB)', 45, 362, 0.864),
  'rtx-4090': reachable('RTX 4090 (24 GB)', 24, 165, 1.008),
} as const satisfies Record<string, Gpu>;
export type GpuName = keyof typeof GPUS;

/**
 * Shares of that speed which an 8B model reached on one H200 at the date: all slots decoding (510 responses of one length),
 * scoring and steps of 44 pairs in bfloat16 (bench/results/cuda-2026-11-27-h200.json). Smaller models reach less.
 */
export const SHARES = {
  date: '2026-11-27',
  generate: 0.71,
  score: 0.9,
  train: 0.86,
  lora: 0.73,
  optimizer: 0.8,
} as const;

interface Shape {
  model: ModelConfig;
  dtype: Dtype;
  gpu: Gpu;
}

/** Parameters that every row passes, and those of the head, which only targets do. */
function parts(model: ModelConfig): { trunk: number; head: number } {
  const { layer } = parameterCounts(model);
  return { trunk: model.numLayers * layer, head: model.vocabSize * model.hiddenSize };
}

/**
 * Seconds per sampled token with `live` sequences at once, at the floor: products at the speed of arithmetic or of
 * reading the weights, the keys and values of the responses, the prompt's once per group, and three passes over logits.
 */
export function decodeFloor({ model, dtype, gpu }: Shape, lengths: Lengths, n: number, live: number): number {
  const { trunk, head } = parts(model);
  const width = bytesOf(dtype);
  const products = Math.max(
    (2 * (trunk + head) * live) / gpu.flops,
    ((trunk + head) * width) / gpu.bandwidth,
  );
  const context = lengths.prompt / n + lengths.response / 2;
  const cache = (live * kvBytesPerToken(model, dtype) * context) / gpu.bandwidth;
  const sampler = (6 * model.vocabSize * live) / gpu.bandwidth;
  return (products + cache + sampler) / live;
}

/** Sequences that fit beside the weights, at most the engine's slots. */
export function liveSequences({ model, dtype, gpu }: Shape, lengths: Lengths, n: number): number {
  const free = gpu.bytes * 0.94 - parameterCounts(model).total * bytesOf(dtype);
  const each = kvBytesPerToken(model, dtype) * (lengths.prompt / n + lengths.response);
  return Math.max(1, Math.min(slotsOf(model, 'gpu'), Math.floor(free / Math.max(1, each))));
}

/** Floor of a scoring pass: `rows` through the trunk, `targets` through the head. */
const scoreFloor = ({ model, gpu }: Shape, rows: number, targets: number): number => {
  const { trunk, head } = parts(model);
  return (2 * trunk * rows + 2 * head * targets) / gpu.flops;
};

/**
 * How often a training's parameters work on a row, in units of 2 FLOP: forward, gradient by the input and, unless
 * adapters are trained, by the weights; once more, or a part of it, where activations are computed again.
 */
export function passesOf(recompute: Recompute, lora: boolean, model: ModelConfig): number {
  const { numLayers, hiddenSize, intermediateSize } = model;
  const passes = lora ? 2 : 3;
  if (recompute === 'full') return passes + 1;
  if (typeof recompute === 'string') return passes;
  const gateUp = (2 * hiddenSize * intermediateSize) / parameterCounts(model).layer;
  return passes + (Math.min(recompute, numLayers) / numLayers) * gateUp;
}

/** AdamW's traffic, bytes per parameter and step: weight and low half, gradient, two moments, each read and written. */
const optimizerBytes = (dtype: Dtype, moments: Dtype): number =>
  2 * (dtype === 'float32' ? 4 + 4 : 2 + 2 + 4) + 2 * 2 * bytesOf(moments);

function trainSeconds(
  shape: Shape,
  config: CreamConfig,
  options: CreamConfig['sft'],
  examples: number,
  { prompt, response }: Lengths,
  responses: number,
): number {
  const { model, dtype, gpu } = shape;
  const lora = loraOptions(config.lora);
  const rows = examples * options.epochs * (prompt + responses * Math.max(0, response - 1));
  const targets = examples * options.epochs * responses * response;
  const compute = passesOf(options.recompute, lora !== undefined, model) * scoreFloor(shape, rows, targets);
  const steps = Math.ceil(examples / options.batchSize) * options.epochs;
  const trained = lora === undefined ? parameterCounts(model).total : adapterParameters(model, lora);
  const update = (steps * trained * optimizerBytes(dtype, options.momentsDtype)) / gpu.bandwidth;
  const share = lora === undefined ? SHARES.train : SHARES.lora;
  return compute / share + update / SHARES.optimizer;
}

/** Seconds of every stage of `stages` on the GPU. */
export function gpuSeconds(
  config: CreamConfig,
  model: ModelConfig,
  dtype: Dtype,
  work: Workload,
  stages: readonly StageWork[],
  gpu: Gpu,
): number[] {
  const shape = { model, dtype, gpu };
  const { n } = config.sampling;
  const generate = (lengths: Lengths, siblings: number) =>
    decodeFloor(shape, lengths, siblings, liveSequences(shape, lengths, siblings)) / SHARES.generate;
  return stages.map((stage) => {
    switch (stage.stage) {
      case 'sft':
        return trainSeconds(shape, config, config.sft, work.sft!.examples, work.sft!.lengths, 1);
      case 'train':
        return trainSeconds(shape, config, config.train, config.iterations * work.prompts, work.lengths, 2);
      case 'sample': {
        const prompts = (stage.generated / Math.max(1, n * work.lengths.response)) * work.lengths.prompt;
        return stage.generated * generate(work.lengths, n) + scoreFloor(shape, prompts, 0) / SHARES.score;
      }
      case 'score': {
        const { prompt, response } = work.lengths;
        const groups = stage.scored / Math.max(1, prompt + n * Math.max(0, response - 1));
        return scoreFloor(shape, stage.scored, groups * n * response) / SHARES.score;
      }
      case 'reward model':
        return scoreFloor(shape, stage.scored, 0) / SHARES.score;
      case 'judge': {
        const { samples, maxNewTokens } = config.reward.judge;
        const prompt = work.lengths.prompt + work.lengths.response;
        const prompts = (stage.generated / (samples * maxNewTokens)) * prompt;
        const each = generate({ prompt, response: maxNewTokens }, samples);
        return stage.generated * each + scoreFloor(shape, prompts, 0) / SHARES.score;
      }
      default:
        return stage.generated * generate(work.evaluation.lengths, 1);
    }
  });
}
