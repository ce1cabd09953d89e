import type { TrainingOptions } from '../config.js';
import type { SftExample } from '../data/sft-examples.js';
import { CreamError } from '../errors.js';
import { boundOf, boundWatch } from '../run/training-memory.js';
import { runTraining, type StepResult, type Training } from '../run/training.js';

/** What supervised fine-tuning needs of an optimizer over a model. */
export interface SftTrainer {
  sftStep(
    batch: { promptIds: readonly number[]; responseIds: readonly number[]; trained?: readonly number[] }[],
    options: { learningRate: number; maxTokensPerBatch: number },
  ): Promise<{
    loss: number;
    gradNorm: number;
    applied: boolean;
    targetTokens: number;
    microBatches: number;
    /** The bound that was kept to; less than asked for where memory ran out. */
    maxTokensPerBatch?: number;
    weightsMoved: number;
  }>;
  saveState(path: string): Promise<void>;
  loadState(path: string): Promise<void>;
}

export type SftTraining = Pick<
  Training<SftExample>,
  'seed' | 'stream' | 'signal' | 'checkpoints' | 'onStep' | 'onWarning'
> & { options: TrainingOptions };

/** M_0 -> M_1 in place. Metrics of the last step. */
export async function sft(
  examples: readonly SftExample[],
  trainer: SftTrainer,
  training: SftTraining,
): Promise<Record<string, number>> {
  if (examples.length === 0)
    throw new CreamError('INVALID_DATA', `${training.stream}: there is no example to train on`);
  const maxTokensPerBatch = boundOf(training.options);
  const watchBound = boundWatch(maxTokensPerBatch, training.onWarning);
  const step = async (batch: SftExample[], learningRate: number): Promise<StepResult> => {
    const metrics = await trainer.sftStep(
      batch.map(({ id: _, ...example }) => example),
      { learningRate, maxTokensPerBatch },
    );
    watchBound(metrics.maxTokensPerBatch ?? maxTokensPerBatch);
    return {
      applied: metrics.applied,
      metrics: {
        loss: metrics.loss,
        grad_norm: metrics.gradNorm,
        'cream/weights_moved': metrics.weightsMoved,
        'cream/tokens': metrics.targetTokens,
        'cream/micro_batches': metrics.microBatches,
      },
    };
  };
  return runTraining<SftExample>({
    ...training,
    examples,
    key: (example) => example.id,
    optimizer: {
      step,
      saveState: (path) => trainer.saveState(path),
      loadState: (path) => trainer.loadState(path),
    },
  });
}
