import { rm } from 'node:fs/promises';
import { readModelConfig } from '../data/model-config.js';
import { CreamError } from '../errors.js';
import { Model } from '../native/model.js';
import type { ModelDtype } from './data.js';
import type { RunEvent } from '../run/events.js';
import { learningRateAt } from '../run/schedule.js';
import { EOS, encode, promptIdsOf, writeTokenizer } from './checkpoint.js';
import { type Problem, promptOf, randomStream, type ToyTask } from './task.js';

// A base model M0, really trained from random weights on a noisy writer's answers.

/** Below this sampled accuracy a base model has not understood its task, and no method can improve it. */
export const LEAST_BASE_ACCURACY = 0.1;
const ATTEMPTS = 3;
const GATE_PROBLEMS = 200;
const STAGE = { stage: 'sft', iteration: 0, model: 'M0' } as const;

export interface BaseOptions {
  task: ToyTask;
  seed: number;
  threads: number;
  /** Where M0 is trained, and in which format: the CPU and float32 unless said. */
  device?: string;
  dtype?: ModelDtype;
  signal?: AbortSignal;
  /** Progress in the form of a run's events. */
  onEvent: (event: RunEvent) => void;
}

export interface TrainedBase {
  /** Sampled accuracy of every beginning; the last one is that of M0. */
  accuracies: number[];
}

/**
 * Trains M0 and saves it. Some beginnings miss the point where the model learns to carry; then other weights are
 * tried, which is said. Throws DIVERGED after three of them.
 */
export async function trainBase(directory: string, options: BaseOptions): Promise<TrainedBase> {
  const { onEvent, task } = options;
  const files = `${directory}.tokenizer`;
  await writeTokenizer(files);
  const accuracies: number[] = [];
  for (let attempt = 1; ; attempt++) {
    const started = performance.now();
    onEvent({ type: 'stage', status: 'started', ...STAGE, total: task.pretraining.steps, unit: 'step' });
    await using model = await pretrain(attempt, options);
    const accuracy = await sampledAccuracy(model, options);
    accuracies.push(accuracy);
    const seconds = (performance.now() - started) / 1000;
    onEvent({ type: 'stage', status: 'finished', ...STAGE, seconds, metrics: { accuracy } });
    if (accuracy < LEAST_BASE_ACCURACY && attempt < ATTEMPTS) {
      const message = `M0 answers only ${(100 * accuracy).toFixed(1)} % right; it is trained again from other weights`;
      onEvent({ type: 'warning', code: 'base-not-learnt', message });
      continue;
    }
    checkBase(accuracies, options);
    await model.save(directory, { from: files });
    await rm(files, { recursive: true });
    return { accuracies };
  }
}

/** One training from random weights; every attempt has its own weights and corpus of the same writer. */
async function pretrain(
  attempt: number,
  { task, seed, threads, device = 'cpu', dtype = 'float32', signal, onEvent }: BaseOptions,
): Promise<Model> {
  const started = performance.now();
  const { steps, batchSize, learningRate } = task.pretraining;
  const rate = { learningRate, schedule: 'cosine', warmupRatio: 0.05, minLearningRateRatio: 0.05 } as const;
  const model = await Model.random(readModelConfig(task.model, task.name), {
    seed: BigInt(seed) + (BigInt(attempt - 1) << 32n),
    device,
    dtype,
    threads,
  });
  const trainer = await model.createTrainer({ beta1: 0.9, beta2: 0.99, weightDecay: 0.01, maxGradNorm: 1 });
  try {
    const random = randomStream(seed, attempt === 1 ? 'corpus' : `corpus ${attempt}`);
    const writer = task.noisyWriter(seed);
    const example = () => {
      const problem = task.problem(random);
      return {
        promptIds: promptIdsOf(promptOf(problem)),
        responseIds: [...encode(writer(problem, random)), EOS],
      };
    };
    for (let done = 1; done <= steps; done++) {
      signal?.throwIfAborted();
      const batch = Array.from({ length: batchSize }, example);
      const { loss } = await trainer.sftStep(batch, {
        learningRate: learningRateAt(done - 1, steps, rate),
        maxTokensPerBatch: 8192,
        ...(signal && { signal }),
      });
      if (done % 10 !== 0) continue;
      const perSecond = (1000 * done) / (performance.now() - started);
      onEvent({ type: 'progress', ...STAGE, done, total: steps, unit: 'step', perSecond, metrics: { loss } });
    }
    return model;
  } catch (error) {
    model.dispose();
    throw error;
  } finally {
    trainer.dispose();
  }
}

/** Throws DIVERGED when the base model of the last beginning has not learnt the task. */
export function checkBase(
  accuracies: readonly number[],
  { task, seed }: { task: ToyTask; seed: number },
): void {
  const accuracy = accuracies.at(-1) ?? 0;
  if (accuracy >= LEAST_BASE_ACCURACY) return;
  throw new CreamError(
    'DIVERGED',
    `${task.name}: the base model answers ${(100 * accuracy).toFixed(1)} % right (wanted: ${100 * LEAST_BASE_ACCURACY} % ` +
      `or more) after ${accuracies.length} beginnings: its training missed the point where it learns to carry; try another --seed (now ${seed})`,
  );
}

async function sampledAccuracy(model: Model, { task, seed, signal }: BaseOptions): Promise<number> {
  const random = randomStream(seed, 'gate');
  const problems: Problem[] = Array.from({ length: GATE_PROBLEMS }, () => task.problem(random));
  let correct = 0;
  for await (const response of model.generate({
    prompts: problems.map((problem, index) => ({ id: String(index), ids: promptIdsOf(promptOf(problem)) })),
    maxNewTokens: task.maxNewTokens,
    temperature: 1,
    stopIds: [EOS],
    seed,
    ...(signal && { signal }),
  })) {
    const wanted = [...encode(task.rightAnswer(problems[response.promptIndex] as Problem)), EOS];
    if (response.ids.length === wanted.length && wanted.every((id, i) => id === response.ids[i])) correct++;
  }
  return correct / problems.length;
}
