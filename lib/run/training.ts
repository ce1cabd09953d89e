import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { TrainingOptions } from '../config.js';
import { CreamError } from '../errors.js';
import type { MetricsLog } from './metrics.js';
import { shuffled } from './random.js';
import { learningRateAt } from './schedule.js';
import {
  type FileRecord,
  fileRecord,
  makeFolder,
  publishFolder,
  TEMPORARY,
  writeFileDurably,
} from './storage.js';

// The loop around an optimizer: order, schedule, checkpoints, and what to do when numbers are not finite. Everything
// it needs besides weights and moments follows from the step, so an interrupted training continues bit by bit.

/** So many steps in a row without a finite loss and gradient end the run. */
const MAX_NON_FINITE_STEPS = 3;
/** So many steps in a row past a bound end a training early: a single batch may be an odd one. */
const STOP_PATIENCE = 3;

export interface StepResult {
  /** False: loss or gradient was not finite and nothing changed. */
  applied: boolean;
  /** Names as in TRL. */
  metrics: Record<string, number>;
}

export interface Optimizer<Example> {
  step(batch: Example[], learningRate: number): Promise<StepResult>;
  saveState(path: string): Promise<void>;
  loadState(path: string): Promise<void>;
}

export interface Checkpoints {
  folder: string;
  metrics: MetricsLog;
  /** Size of the metrics log before the first step of this training. */
  metricsBytes: number;
}

export interface Training<Example> {
  examples: readonly Example[];
  /** Identifies an example; decides its place in the order. */
  key: (example: Example) => string;
  optimizer: Optimizer<Example>;
  options: TrainingOptions;
  seed: number;
  /** Names the training in the random order, as "iteration-1/train". */
  stream: string;
  signal?: AbortSignal | undefined;
  /** Where to keep checkpoints; without it a training cannot be continued. */
  checkpoints?: Checkpoints | undefined;
  onStep?:
    | ((step: number, total: number, metrics: Record<string, number>) => Promise<void> | void)
    | undefined;
  onWarning?: ((code: string, message: string) => void) | undefined;
  /** Says why a step is past a bound at which training should end; undefined when it is not. */
  stopWhen?: ((batch: Example[], result: StepResult) => string | undefined) | undefined;
  /** Sees the batch and the result of the very first step; throws when training cannot be right. */
  checkFirstStep?: ((batch: Example[], result: StepResult) => void) | undefined;
}

interface Checkpoint {
  step: number;
  nonFinite: number;
  /** Steps in a row past a bound. */
  pastBound: number;
  metricsBytes: number;
  state: FileRecord;
  last: Record<string, number>;
}

/** Batches of all epochs, in order. The last batch of an epoch may be smaller. */
export function batchesOf<Example>(
  training: Pick<Training<Example>, 'examples' | 'key' | 'options' | 'seed' | 'stream'>,
): Example[][] {
  const { examples, key, options, seed, stream } = training;
  const batches: Example[][] = [];
  for (let epoch = 0; epoch < options.epochs; epoch++) {
    const order = shuffled(examples, seed, `${stream}/epoch-${epoch}`, key);
    for (let start = 0; start < order.length; start += options.batchSize) {
      batches.push(order.slice(start, start + options.batchSize));
    }
  }
  return batches;
}

const CHECKPOINT = /^step-\d{8}$/;

async function saveCheckpoint(
  folder: string,
  checkpoint: Omit<Checkpoint, 'state'>,
  saveState: (path: string) => Promise<void>,
): Promise<void> {
  const name = `step-${String(checkpoint.step).padStart(8, '0')}`;
  const temporary = join(folder, `${TEMPORARY}${name}`);
  await rm(temporary, { recursive: true, force: true });
  await makeFolder(temporary);
  const path = join(temporary, 'state.safetensors');
  await saveState(path);
  const complete: Checkpoint = { ...checkpoint, state: await fileRecord(path) };
  await writeFileDurably(join(temporary, 'checkpoint.json'), JSON.stringify(complete));
  await publishFolder(temporary, join(folder, name));
  // The one before is kept: if this one turns out damaged, little is lost.
  const names = (await readdir(folder)).filter((entry) => CHECKPOINT.test(entry)).sort();
  for (const old of names.slice(0, -2)) await rm(join(folder, old), { recursive: true, force: true });
}

/** The newest checkpoint whose state has its recorded digest. Damaged ones are reported and removed. */
async function findCheckpoint(
  folder: string,
  onWarning: Training<never>['onWarning'],
): Promise<{ checkpoint: Checkpoint; state: string } | undefined> {
  const names = (await readdir(folder)).filter((entry) => CHECKPOINT.test(entry)).sort();
  for (const name of names.reverse()) {
    const state = join(folder, name, 'state.safetensors');
    try {
      const checkpoint = JSON.parse(
        await readFile(join(folder, name, 'checkpoint.json'), 'utf8'),
      ) as Checkpoint;
      if ((await fileRecord(state)).sha256 === checkpoint.state.sha256) return { checkpoint, state };
    } catch (cause) {
      if (cause instanceof CreamError) throw cause;
    }
    onWarning?.(
      'checkpoint-damaged',
      `${state} does not have its recorded digest; going back to the checkpoint before`,
    );
    await rm(join(folder, name), { recursive: true, force: true });
  }
  return undefined;
}

/** Runs or continues a training to its end. Returns the metrics of the last step. Throws ABORTED after a checkpoint. */
export async function runTraining<Example>(training: Training<Example>): Promise<Record<string, number>> {
  const { optimizer, options, signal, checkpoints, onStep, onWarning } = training;
  const batches = batchesOf(training);
  let step = 0;
  let nonFinite = 0;
  let pastBound = 0;
  let last: Record<string, number> = {};

  if (checkpoints !== undefined) {
    await makeFolder(checkpoints.folder);
    const found = await findCheckpoint(checkpoints.folder, onWarning);
    if (found !== undefined) {
      await optimizer.loadState(found.state);
      ({ step, nonFinite, pastBound, last } = found.checkpoint);
    }
    const { metrics, metricsBytes } = checkpoints;
    if (!(await metrics.truncate(found?.checkpoint.metricsBytes ?? metricsBytes))) {
      onWarning?.('metrics-lost', `${metrics.path} is shorter than it was at step ${step}: lines were lost`);
    }
  }
  const checkpoint = async () => {
    if (checkpoints === undefined) return;
    await checkpoints.metrics.sync();
    const { bytes } = checkpoints.metrics;
    await saveCheckpoint(
      checkpoints.folder,
      { step, nonFinite, pastBound, metricsBytes: bytes, last },
      (path) => optimizer.saveState(path),
    );
  };

  let saved = step;
  while (step < batches.length) {
    const batch = batches[step]!;
    const learningRate = learningRateAt(step, batches.length, options);
    const result = await optimizer.step(batch, learningRate);
    if (step === 0) training.checkFirstStep?.(batch, result);
    nonFinite = result.applied ? 0 : nonFinite + 1;
    last = { ...result.metrics, learning_rate: learningRate };
    step += 1;
    await checkpoints?.metrics.append({ stream: training.stream, step, ...last });
    await onStep?.(step, batches.length, last);

    if (!result.applied) {
      onWarning?.(
        'step-skipped',
        `step ${step} of ${training.stream}: loss or gradient is not finite; the step was not applied`,
      );
    }
    if (nonFinite >= MAX_NON_FINITE_STEPS) {
      throw new CreamError(
        'DIVERGED',
        `${training.stream}: loss or gradient was not finite in ${nonFinite} steps in a row, up to step ${step}; the ` +
          'weights are those before these steps; lower learningRate or check the data, then start again',
      );
    }
    const reason = result.applied ? training.stopWhen?.(batch, result) : undefined;
    pastBound = reason === undefined ? 0 : pastBound + 1;
    if (reason !== undefined && pastBound >= STOP_PATIENCE && step < batches.length) {
      onWarning?.(
        'stopped-early',
        `${training.stream} ended after step ${step} of ${batches.length}: ${reason}, ${pastBound} steps in a row`,
      );
      break;
    }
    if (step < batches.length) {
      if (signal?.aborted || step - saved >= options.checkpointEverySteps) {
        await checkpoint();
        saved = step;
      }
      if (signal?.aborted) {
        throw new CreamError('ABORTED', `the run was interrupted after step ${step} of ${batches.length}`);
      }
    }
  }
  return last;
}
