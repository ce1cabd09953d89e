import type { CreamConfig } from '../config.js';
import type { ModelConfig } from '../data/model-config.js';
import { IDLE_SHARE, loraOptions } from '../run/models.js';
import { scoringNeeds } from '../scoring-needs.js';
import {
  adapterParameters,
  bytesOf,
  type Dtype,
  type EngineKind,
  headBytes,
  kvBytesPerToken,
  parameterCounts,
  slotsOf,
  workingBytesPerRow,
} from './sizes.js';
import { type MemoryPart, planTraining, type TrainingPlan } from './training-plan.js';
import type { Workload } from './work.js';

export type { MemoryPart } from './training-plan.js';

export interface StageMemory {
  stage: 'sample' | 'score' | 'train';
  parts: MemoryPart[];
  total: number;
}

const KV_BLOCK = 16;
const LOGITS_BYTES = 64 * 2 ** 20;
/** Keys and values take at most this share of the machine's memory; of a GPU's, of what the weights leave. */
const KV_SHARE = { cpu: 1 / 4, gpu: 0.92 } as const;

const stageMemory = (stage: StageMemory['stage'], parts: MemoryPart[]): StageMemory => ({
  stage,
  parts,
  total: parts.reduce((sum, { bytes }) => sum + bytes, 0),
});

function keysAndValues(
  config: CreamConfig,
  model: ModelConfig,
  dtype: Dtype,
  room: number,
  { prompts, lengths }: Workload,
  engine: EngineKind,
) {
  const { n, maxNewTokens } = config.sampling;
  const live = Math.min(prompts * n, slotsOf(model, engine));
  // With stragglers alone every response has a prompt of its own; a GPU keeps room for those of all slots twice over.
  const resident = Math.min(prompts, engine === 'cpu' ? live : 2 * Math.ceil(live / n) + 1);
  const blocks = (tokens: number) => Math.ceil(tokens / KV_BLOCK) * KV_BLOCK;
  const tokens = live * blocks(maxNewTokens - 1) + resident * blocks(lengths.prompt);
  const weights = engine === 'cpu' ? 0 : parameterCounts(model).total * bytesOf(dtype);
  return Math.min(tokens * kvBytesPerToken(model, dtype), Math.max(0, room - weights) * KV_SHARE[engine]);
}

/** Pinned memory of a GPU's host for the models that wait while the policy samples and trains, in bytes. */
export function hostBytesOf(config: CreamConfig, model: ModelConfig, dtype: Dtype, gpuBytes: number): number {
  if (config.lora !== undefined || config.iterations === 0) return 0;
  const { base, previous } = scoringNeeds(config);
  const isAsked = {
    base: base || config.pairing.rejectedFrom === 'base',
    previous: previous && config.iterations > 1,
  };
  const bytes =
    (Number(isAsked.base) + Number(isAsked.previous)) * parameterCounts(model).total * bytesOf(dtype);
  return bytes <= IDLE_SHARE * gpuBytes ? 0 : bytes;
}

/** The larger training of a run, as it will be planned on a machine with `room` bytes of memory. */
export function largestTraining(
  config: CreamConfig,
  model: ModelConfig,
  dtype: Dtype,
  work: Workload,
  room: number,
  engine: EngineKind,
): TrainingPlan | undefined {
  const lora = loraOptions(config.lora);
  const trainings = [
    ...(work.sft === undefined ? [] : [{ options: config.sft, lengths: work.sft.lengths, responses: 1 }]),
    ...(work.prompts > 0 && config.iterations > 0
      ? [{ options: config.train, lengths: work.lengths, responses: 2 }]
      : []),
  ];
  const freeBytes = room - parameterCounts(model).total * bytesOf(dtype);
  return trainings
    .map(({ options, lengths, responses }) => {
      const longest = lengths.prompt + responses * lengths.response;
      const batchRows = options.batchSize * longest;
      return planTraining({ model, dtype, engine, lora }, { ...options, longest, batchRows, freeBytes });
    })
    .sort((a, b) => b.totalBytes - a.totalBytes)[0];
}

/** The largest a stage gets, part by part. `room` is the memory of the machine or the GPU. Sizes in bytes. */
export function memoryOf(
  config: CreamConfig,
  model: ModelConfig,
  dtype: Dtype,
  work: Workload,
  room: number,
  engine: EngineKind = 'cpu',
): StageMemory[] {
  const { total } = parameterCounts(model);
  const lora = loraOptions(config.lora);
  const trained = lora === undefined ? total : adapterParameters(model, lora);
  const weights = { what: 'weights of the policy', bytes: total * bytesOf(dtype) };
  const stages: StageMemory[] = [];
  const sampled = work.prompts > 0 && config.iterations > 0;
  if (sampled) {
    stages.push(
      stageMemory('sample', [
        weights,
        { what: 'keys and values', bytes: keysAndValues(config, model, dtype, room, work, engine) },
        { what: 'logits', bytes: LOGITS_BYTES },
      ]),
    );
    const { prompt, response } = work.lengths;
    const chunkRows = config.sampling.chunkSize * (prompt + config.sampling.n * response);
    const rows = Math.min(config.score.maxTokensPerBatch, chunkRows);
    // The reward model comes after the passes, when no second model is left.
    const second =
      lora === undefined
        ? { what: 'weights of a second model', bytes: total * bytesOf(dtype) }
        : { what: 'two adapters', bytes: 2 * trained * bytesOf(dtype) };
    const reward = {
      what: 'weights of the reward model',
      bytes: (work.rewardModel ?? 0) * total * bytesOf(dtype),
    };
    stages.push(
      stageMemory('score', [
        weights,
        reward.bytes > second.bytes ? reward : second,
        {
          what: `activations of ${Math.round(rows)} tokens`,
          bytes: rows * workingBytesPerRow(model, dtype),
        },
        { what: 'chunk of logits', bytes: headBytes(model, 'score', { engine, rows }) },
      ]),
    );
  }
  const training = largestTraining(config, model, dtype, work, room, engine);
  if (training !== undefined) stages.push(stageMemory('train', training.parts));
  return stages;
}
