import { access, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { CreamConfigInput } from '../config.js';
import { CreamError } from '../errors.js';
import type { RunEvent } from '../run/events.js';
import { makeFolder, writeFileDurably } from '../run/storage.js';
import { trainBase } from './base-model.js';
import { carryTrace } from './carry-trace.js';
import { iterationSettings, type ModelDtype, writeData } from './data.js';

// The demo: a base model M0 is really trained on the noisy corpus, then the method improves it without labels.
// Sizes and rates are those at which docs/demo.md measured the effect.

const SIZES = { sft: 1024, promptsPerIteration: 600, iterations: 3, evaluation: 400 };
/** A model of 100 K parameters has no work for a second thread; one also gives every machine the same schedule. */
const DEMO_THREADS = 1;

export interface DemoOptions {
  directory: string;
  seed: number;
  threads?: number;
  /** The CPU, unless said: a model of 100 K parameters gains nothing on a GPU. */
  device?: string;
  /** float32, unless said. */
  dtype?: ModelDtype;
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
  await writeData(directory, { task: carryTrace, seed, sizes: SIZES });
  const base = join(directory, 'base');
  if (!(await exists(base)))
    await trainBase(base, { ...options, task: carryTrace, threads: options.threads ?? DEMO_THREADS });
  return { cream: runConfig(options, 'dataset'), srlm: runConfig(options, 'one') };
}

/** The settings of a run of the demo; `recipes/demo-cpu.yaml` has the same. */
export function runConfig(
  { directory, seed, threads, device, dtype }: Omit<DemoOptions, 'signal' | 'onEvent'>,
  weight: 'dataset' | 'one',
): CreamConfigInput {
  return {
    ...iterationSettings(directory, carryTrace, SIZES),
    output: join(directory, weight === 'one' ? 'srlm' : 'cream'),
    seed,
    threads: threads ?? DEMO_THREADS,
    ...(device !== undefined && { device }),
    ...(dtype !== undefined && { dtype }),
    // A margin of logit(C) / beta is within reach of nine tokens only at such a beta.
    beta: 4,
    consistency: { weight },
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

const exists = (path: string) =>
  access(path).then(
    () => true,
    () => false,
  );
