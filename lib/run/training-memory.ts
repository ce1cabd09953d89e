import { freemem } from 'node:os';
import type { TrainingOptions } from '../config.js';
import { CreamError } from '../errors.js';
import { planTraining, type TrainingPlan } from '../estimate/training-plan.js';
import { deviceMemory, resolveDevice } from '../native/device.js';
import type { Model, Trainer } from '../native/model.js';
import type { Run, StageInfo } from './run.js';

// Before the first step of a training: what it needs, and what its settings left open.

/** Settings of a training with nothing left to `auto`. */
export type FittedOptions<Options extends TrainingOptions = TrainingOptions> = Options & {
  maxTokensPerBatch: number;
  gradientsDtype: 'float32' | 'bfloat16';
};

/** The settings that decide about memory. */
type MemorySettings = Pick<
  TrainingOptions,
  'batchSize' | 'recompute' | 'momentsDtype' | 'gradientsDtype' | 'maxTokensPerBatch'
>;

/** Bytes that the engine may still take on a device. */
export async function freeBytes(device: string): Promise<number> {
  if (resolveDevice(device) !== 'cpu') {
    const { free, reserved, allocated } = await deviceMemory(device);
    return free + reserved - allocated;
  }
  const limit = process.constrainedMemory();
  const room = limit > 0 ? limit - process.memoryUsage.rss() : Number.POSITIVE_INFINITY;
  return Math.min(freemem(), room);
}

export interface Fitting {
  device: string;
  /** Rows of each example in a step: its prompt once, and its responses. */
  rows: readonly number[];
  warn: (code: string, message: string) => void;
  /** Keeps what was chosen, so that a continued run chooses the same. */
  decided?: ((choose: () => TrainingPlan) => Promise<TrainingPlan>) | undefined;
  onPlan?: ((plan: TrainingPlan) => void) | undefined;
}

const gib = (bytes: number) => `${(bytes / 2 ** 30).toFixed(1)} GiB`;

function planOf(model: Model, settings: MemorySettings, fitting: Fitting, free: number): TrainingPlan {
  const descending = [...fitting.rows].sort((a, b) => b - a);
  return planTraining(
    {
      model: model.config,
      dtype: model.dtype,
      engine: resolveDevice(fitting.device) === 'cpu' ? 'cpu' : 'gpu',
      lora: model.adapter,
    },
    {
      ...settings,
      longest: descending[0] ?? 1,
      batchRows: descending.slice(0, settings.batchSize).reduce((sum, rows) => sum + rows, 0),
      freeBytes: free,
    },
  );
}

/** Plans the memory of a training and fills in what was left to `auto`. Throws when a set bound cannot be meant. */
export async function fitTraining<Options extends TrainingOptions>(
  model: Model,
  options: Options,
  fitting: Fitting,
): Promise<FittedOptions<Options>> {
  const free = await freeBytes(fitting.device);
  const choose = () => planOf(model, options, fitting, free);
  const isOpen =
    options.maxTokensPerBatch === 'auto' ||
    (options.gradientsDtype === 'auto' && resolveDevice(fitting.device) !== 'cpu');
  const plan = isOpen && fitting.decided !== undefined ? await fitting.decided(choose) : choose();
  fitting.onPlan?.(plan);
  if (!plan.fits) {
    const [model0, ...rest] = plan.parts;
    const needs = rest.map(({ what, bytes }) => `${what} ${gib(bytes)}`).join(', ');
    fitting.warn(
      'memory-tight',
      `training needs ${gib(plan.totalBytes - model0!.bytes)} beside the model and ${gib(plan.freeBytes)} are free ` +
        `(${needs}); where a micro-batch does not fit it is halved. Lower maxTokensPerBatch, set recompute: full, ` +
        'momentsDtype: bfloat16 or lora, or shorten the examples',
    );
  }
  const { maxTokensPerBatch, gradientsDtype } = plan;
  return { ...options, maxTokensPerBatch, gradientsDtype };
}

/** The bound of micro-batches of settings that `fitTraining` made whole. */
export function boundOf({ maxTokensPerBatch }: Pick<TrainingOptions, 'maxTokensPerBatch'>): number {
  if (maxTokensPerBatch !== 'auto') return maxTokensPerBatch;
  throw new CreamError('INVALID_CONFIG', 'maxTokensPerBatch: auto was not planned before the training');
}

/** Watches the bound that steps keep to; warns when memory made it smaller. */
export function boundWatch(
  bound: number,
  warn: ((code: string, message: string) => void) | undefined,
): (used: number) => void {
  let last = bound;
  return (used) => {
    if (used >= last) return;
    warn?.(
      'micro-batch-halved',
      `micro-batches of ${last} tokens did not fit in memory; they have at most ${used} from now on, with the same ` +
        'results up to rounding',
    );
    last = used;
  };
}

/**
 * The trainer of a stage of a run, its memory planned and told before its first step. `rows`: tokens of each example;
 * `number`: of the model in training, for the randomness inside a trainer.
 */
export async function startTraining<Options extends TrainingOptions>(
  { run, info, number }: { run: Run; info: StageInfo; number: number },
  model: Model,
  options: Options,
  rows: readonly number[],
): Promise<{ options: FittedOptions<Options>; trainer: Trainer }> {
  const { device, seed, deterministic } = run.config;
  const { stage, iteration } = info;
  const fitted = await fitTraining(model, options, {
    device,
    rows,
    warn: (code, message) => run.warn(code, message, info),
    decided: (choose) =>
      run.decided(`${iteration === 0 ? '' : `iteration-${iteration}/`}${stage}-memory`, choose),
    onPlan: (plan) => run.plan(info, plan),
  });
  const trainer = await model.createTrainer({ ...fitted, seed: seed + number, deterministic });
  return { options: fitted, trainer };
}
