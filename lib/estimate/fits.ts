import type { CreamConfig } from '../config.js';
import { configSchema } from '../config-schema.js';
import type { ModelConfig } from '../data/model-config.js';
import { largestTraining } from './memory.js';
import type { Dtype } from './sizes.js';
import type { Workload } from './work.js';

// Which trainings of a run a GPU can hold: its own, and what could be changed where that one is too large.

export interface Candidate {
  /** What is changed; empty for the run as it is. */
  changes: string;
  bytes: number;
  maxTokensPerBatch: number;
  fits: boolean;
}

const MOMENTS = { momentsDtype: 'bfloat16' } as const;
const RECOMPUTE = { recompute: 'full' } as const;

/** The training as configured and, where it trains all weights, smaller ones; none where nothing is trained. */
export function trainingCandidates(
  config: CreamConfig,
  model: ModelConfig,
  dtype: Dtype,
  work: Workload,
  gpuBytes: number,
): Candidate[] {
  const withTraining = (changes: Partial<CreamConfig['train']>): CreamConfig => ({
    ...config,
    sft: { ...config.sft, ...changes },
    train: { ...config.train, ...changes },
  });
  const lora = configSchema.shape.lora.parse({});
  const changed: [string, CreamConfig][] =
    config.lora === undefined
      ? [
          ['momentsDtype: bfloat16', withTraining(MOMENTS)],
          ['recompute: full', withTraining(RECOMPUTE)],
          ['momentsDtype: bfloat16 and recompute: full', withTraining({ ...MOMENTS, ...RECOMPUTE })],
          [`lora: {} (rank ${lora!.rank})`, { ...config, lora }],
        ]
      : [['recompute: full', withTraining(RECOMPUTE)]];
  const all: [string, CreamConfig][] = [['', config], ...changed];
  return all.flatMap(([changes, candidate]) => {
    const plan = largestTraining(candidate, model, dtype, work, gpuBytes, 'gpu');
    if (plan === undefined) return [];
    const { totalBytes: bytes, maxTokensPerBatch, fits } = plan;
    return [{ changes, bytes, maxTokensPerBatch, fits }];
  });
}
