import { access, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { CreamConfigInput } from '../config.js';
import { readModelConfig } from '../data/model-config.js';
import { CreamError } from '../errors.js';
import { Model } from '../native/model.js';
import type { RunEvent } from '../run/events.js';
import { learningRateAt } from '../run/schedule.js';
import { makeFolder, writeFileDurably } from '../run/storage.js';
import {
  noisyWriter,
  type Problem,
  promptOf,
  randomProblem,
  randomStream,
  rightAnswer,
} from './carry-trace.js';
import { EOS, encode, MODEL_CONFIG, promptIdsOf, writeTokenizer } from './checkpoint.js';

// The demo: a base model M0 is really trained on the noisy corpus, then the method improves it without labels.
// Sizes and rates are those at which docs/demo.md measured the effect.

const PRETRAINING = { steps: 1500, batchSize: 192 };
const PRETRAINING_RATE = {
  learningRate: 3e-3,
  schedule: 'cosine',
  warmupRatio: 0.05,
  minLearningRateRatio: 0.05,
} as const;
const SFT_EXAMPLES = 1024;
const PROMPTS_PER_ITERATION = 600;
const ITERATIONS = 3;
const EVALUATION_PROBLEMS = 400;
/** A model of 100 K parameters has no work for a second thread; one also gives every machine the same schedule. */
const DEMO_THREADS = 1;
/** Below this sampled accuracy the base model has not understood the task, and no method can improve it. */
const LEAST_BASE_ACCURACY = 0.1;
const BASE_ATTEMPTS = 3;
const BASE_STAGE = { stage: 'sft', iteration: 0, model: 'M0' } as const;

export interface DemoOptions {
  directory: string;
  seed: number;
  threads?: number;
  signal?: AbortSignal;
  /** Progress of the base model's training, in the form of a run's events. */
  onEvent: (event: RunEvent) => void;
}

/** The settings of the two runs, which differ in the weight of a pair alone. */
export interface DemoRuns {
  cream: CreamConfigInput;
  srlm: CreamConfigInput;
}

/** Writes the data and trains M0 unless an earlier call has done so; resolves to the settings of the two runs. */
export async function prepareDemo(options: DemoOptions): Promise<DemoRuns> {
  const { directory, seed } = options;
  await makeFolder(directory);
  await claimFolder(directory, seed);
  await writeData(directory, seed);
  const base = join(directory, 'base');
  if (!(await exists(base))) await trainBase(base, options);
  return { cream: runConfig(options, 'dataset'), srlm: runConfig(options, 'one') };
}

/** The settings of a run of the demo; `recipes/demo-cpu.yaml` has the same. */
export function runConfig(
  { directory, seed, threads }: Pick<DemoOptions, 'directory' | 'seed' | 'threads'>,
  weight: 'dataset' | 'one',
): CreamConfigInput {
  const training = {
    epochs: 1,
    learningRate: 5e-5,
    batchSize: 64,
    schedule: 'constant',
    warmupRatio: 0,
  } as const;
  return {
    model: join(directory, 'base'),
    output: join(directory, weight === 'one' ? 'srlm' : 'cream'),
    seed,
    device: 'cpu',
    threads: threads ?? DEMO_THREADS,
    iterations: ITERATIONS,
    // A margin of logit(C) / beta is within reach of nine tokens only at such a beta.
    beta: 4,
    data: {
      sft: join(directory, 'sft.jsonl'),
      prompts: join(directory, 'prompts.jsonl'),
      evaluation: [{ name: 'sums', path: join(directory, 'evaluation.jsonl'), extract: 'exact' }],
      extract: 'exact',
    },
    sft: training,
    sampling: { temperature: 1, topP: 0.95, maxNewTokens: 12, chunkSize: 200 },
    consistency: { weight },
    train: training,
    evaluation: { maxNewTokens: 12, samples: 4, temperature: 1 },
  };
}

/** Data, M0 and runs of a folder belong to one seed. Throws USAGE for another one. */
export async function claimFolder(directory: string, seed: number): Promise<void> {
  const path = join(directory, 'seed');
  const found = await readFile(path, 'utf8').catch(() => undefined);
  if (found === undefined) {
    await writeFileDurably(path, `${seed}\n`);
  } else if (found !== `${seed}\n`) {
    throw new CreamError(
      'USAGE',
      `${directory} holds the demo of seed ${found.trim()}, not of ${seed}; give that --seed or another --output`,
    );
  }
}

async function writeData(directory: string, seed: number): Promise<void> {
  const problems = (name: string, count: number) => {
    const random = randomStream(seed, name);
    return Array.from({ length: count }, (_, index) => ({
      id: `${name}-${index}`,
      problem: randomProblem(random),
    }));
  };
  const files = {
    'sft.jsonl': problems('sft', SFT_EXAMPLES).map(({ id, problem }) => ({
      id,
      prompt: promptOf(problem),
      completion: rightAnswer(problem),
    })),
    // Labels ride along for the report; the method never sees them.
    'prompts.jsonl': problems('prompt', PROMPTS_PER_ITERATION * ITERATIONS).map(({ id, problem }) => ({
      id,
      prompt: promptOf(problem),
      label: rightAnswer(problem),
    })),
    'evaluation.jsonl': problems('evaluation', EVALUATION_PROBLEMS).map(({ id, problem }) => ({
      id,
      question: promptOf(problem),
      label: rightAnswer(problem),
    })),
  };
  for (const [name, rows] of Object.entries(files)) {
    await writeFile(join(directory, name), rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  }
}

const exists = (path: string) =>
  access(path).then(
    () => true,
    () => false,
  );

/**
 * Trains M0 and saves it. Some beginnings miss the point where the model learns to carry; then other weights are
 * tried, which is said.
 */
async function trainBase(directory: string, options: DemoOptions): Promise<void> {
  const { seed, signal, onEvent } = options;
  const files = `${directory}.tokenizer`;
  await writeTokenizer(files);
  for (let attempt = 1; ; attempt++) {
    const started = performance.now();
    onEvent({ type: 'stage', status: 'started', ...BASE_STAGE, total: PRETRAINING.steps, unit: 'step' });
    await using model = await pretrain(attempt, options);
    const accuracy = await sampledAccuracy(model, seed, signal);
    const seconds = (performance.now() - started) / 1000;
    onEvent({ type: 'stage', status: 'finished', ...BASE_STAGE, seconds, metrics: { accuracy } });
    if (accuracy < LEAST_BASE_ACCURACY && attempt < BASE_ATTEMPTS) {
      const message = `M0 answers only ${(100 * accuracy).toFixed(1)} % right; it is trained again from other weights`;
      onEvent({ type: 'warning', code: 'base-not-learnt', message });
      continue;
    }
    checkBase(accuracy, seed);
    await model.save(directory, { from: files });
    await rm(files, { recursive: true });
    return;
  }
}

/** One training of M0 from random weights; every attempt has its own weights and corpus of the same writer. */
async function pretrain(attempt: number, { seed, threads, signal, onEvent }: DemoOptions): Promise<Model> {
  const started = performance.now();
  const model = await Model.random(readModelConfig(MODEL_CONFIG, 'the demo'), {
    seed: BigInt(seed) + (BigInt(attempt - 1) << 32n),
    device: 'cpu',
    threads: threads ?? DEMO_THREADS,
  });
  const trainer = await model.createTrainer({ beta1: 0.9, beta2: 0.99, weightDecay: 0.01, maxGradNorm: 1 });
  try {
    const random = randomStream(seed, attempt === 1 ? 'corpus' : `corpus ${attempt}`);
    const writer = noisyWriter(seed);
    const example = () => {
      const problem = randomProblem(random);
      return {
        promptIds: promptIdsOf(promptOf(problem)),
        responseIds: [...encode(writer(problem, random)), EOS],
      };
    };
    for (let done = 1; done <= PRETRAINING.steps; done++) {
      signal?.throwIfAborted();
      const batch = Array.from({ length: PRETRAINING.batchSize }, example);
      const { loss } = await trainer.sftStep(batch, {
        learningRate: learningRateAt(done - 1, PRETRAINING.steps, PRETRAINING_RATE),
        maxTokensPerBatch: 8192,
        ...(signal && { signal }),
      });
      if (done % 10 !== 0) continue;
      const perSecond = (1000 * done) / (performance.now() - started);
      const total = PRETRAINING.steps;
      onEvent({ type: 'progress', ...BASE_STAGE, done, total, unit: 'step', perSecond, metrics: { loss } });
    }
    return model;
  } catch (error) {
    model.dispose();
    throw error;
  } finally {
    trainer.dispose();
  }
}

/** Throws DIVERGED when the base model has not learnt the task. */
export function checkBase(accuracy: number, seed: number): void {
  if (accuracy >= LEAST_BASE_ACCURACY) return;
  throw new CreamError(
    'DIVERGED',
    `the demo's base model answers ${(100 * accuracy).toFixed(1)} % right (wanted: ${100 * LEAST_BASE_ACCURACY} % ` +
      `or more) after ${BASE_ATTEMPTS} beginnings: its training missed the point where it learns to carry; try another --seed (now ${seed})`,
  );
}

async function sampledAccuracy(model: Model, seed: number, signal: AbortSignal | undefined): Promise<number> {
  const random = randomStream(seed, 'gate');
  const problems: Problem[] = Array.from({ length: 200 }, () => randomProblem(random));
  let correct = 0;
  for await (const response of model.generate({
    prompts: problems.map((problem, index) => ({ id: String(index), ids: promptIdsOf(promptOf(problem)) })),
    maxNewTokens: 12,
    temperature: 1,
    stopIds: [EOS],
    seed,
    ...(signal && { signal }),
  })) {
    const wanted = [...encode(rightAnswer(problems[response.promptIndex] as Problem)), EOS];
    if (response.ids.length === wanted.length && wanted.every((id, i) => id === response.ids[i])) correct++;
  }
  return correct / problems.length;
}
