import { access, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { compareRuns } from '../lib/compare/compare.js';
import type { Contestant } from '../lib/compare/plan.js';
import { trainBase } from '../lib/demo/base-model.js';
import { iterationSettings, writeData } from '../lib/demo/data.js';
import { isCreamError } from '../lib/errors.js';
import { makeFolder, writeFileDurably } from '../lib/run/storage.js';
import { collectRun, type RunRow } from './collect.js';
import { BASELINE, digestOf, type Method, METHODS, type Regime, type Unit, unitName } from './design.js';

// One seed of a regime: data and M0, then every method with every beta from the same M1, then the numbers of it all.

export interface UnitResult {
  regime: string;
  seed: number;
  /** Of the design that it was made by. */
  digest: string;
  /** Sampled accuracy of each beginning of M0. */
  baseAccuracies: number[];
  /** M0 did not learn its task: there are no runs. */
  missedGate: boolean;
  seconds: number;
  runs: RunRow[];
}

const contestantName = (method: Method, beta: number) => `${method}-beta${beta}`;

/** Every method with every beta; the differences are to the first one. */
export function contestantsOf({ task, sizes, betas, methods }: Regime, directory: string): Contestant[] {
  if (!methods.includes(BASELINE)) throw new Error(`every regime needs ${BASELINE}`);
  return betas.flatMap((beta) =>
    methods.map((method) => ({
      name: contestantName(method, beta),
      config: { ...iterationSettings(directory, task, sizes), threads: 1, beta, ...METHODS[method] },
    })),
  );
}

export interface UnitOptions {
  /** Folder of the work in progress; taken away when the unit is done. */
  work: string;
  /** Where the numbers go. */
  result: string;
  signal: AbortSignal;
  keep?: boolean;
}

/** Does what is left of a unit; what an earlier process has done is not done again. */
export async function runUnit(
  unit: Unit,
  { work, result, signal, keep = false }: UnitOptions,
): Promise<void> {
  const { regime, seed } = unit;
  const { task, sizes } = regime;
  const started = performance.now();
  await makeFolder(work);
  const base = { regime: regime.name, seed, digest: digestOf(regime) };
  const finish = async (rest: Omit<UnitResult, keyof typeof base>) => {
    await writeFileDurably(result, `${JSON.stringify({ ...base, ...rest })}\n`);
    if (!keep) await rm(work, { recursive: true, force: true });
  };

  await writeData(work, { task, seed, sizes });
  const baseAccuracies = await baseOf(unit, { work, signal });
  const before = (await readJson<{ seconds: number }>(join(work, 'time.json')))?.seconds ?? 0;
  const seconds = () => before + (performance.now() - started) / 1000;
  if (baseAccuracies.length === 0) {
    const { accuracies } = (await readJson<{ accuracies: number[] }>(join(work, 'base.json')))!;
    return finish({ baseAccuracies: accuracies, missedGate: true, seconds: seconds(), runs: [] });
  }
  try {
    const output = join(work, 'runs');
    const comparison = await compareRuns(contestantsOf(regime, work), { seeds: [seed], output, signal })
      .result;
    const runs: RunRow[] = [];
    for (const beta of regime.betas) {
      for (const method of regime.methods) {
        const run = comparison.runs.find(({ name }) => name === contestantName(method, beta))!;
        runs.push(await collectRun(run, { method, beta, iterations: sizes.iterations }));
      }
    }
    await finish({ baseAccuracies, missedGate: false, seconds: seconds(), runs });
  } catch (error) {
    // The next process adds what this one has spent.
    await writeFileDurably(join(work, 'time.json'), JSON.stringify({ seconds: seconds() }));
    throw error;
  }
}

/** M0's accuracies after each beginning; none where it missed the gate, which base.json tells as well. */
async function baseOf(
  unit: Unit,
  { work, signal }: { work: string; signal: AbortSignal },
): Promise<number[]> {
  const path = join(work, 'base.json');
  const directory = join(work, 'base');
  const found = await readJson<{ accuracies: number[]; missed: boolean }>(path);
  if (found !== undefined) return found.missed ? [] : found.accuracies;
  await rm(directory, { recursive: true, force: true });
  const { regime, seed } = unit;
  const accuracies: number[] = [];
  try {
    await trainBase(directory, {
      task: regime.task,
      seed,
      threads: 1,
      signal,
      onEvent: (event) => {
        if (event.type !== 'stage' || event.status !== 'finished') return;
        accuracies.push(event.metrics?.['accuracy'] ?? Number.NaN);
        process.stderr.write(`${unitName(unit)}: M0 answers ${accuracies.at(-1)} right\n`);
      },
    });
  } catch (error) {
    if (!isCreamError(error) || error.code !== 'DIVERGED') throw error;
    await writeFileDurably(path, JSON.stringify({ accuracies, missed: true }));
    return [];
  }
  await writeFileDurably(path, JSON.stringify({ accuracies, missed: false }));
  return accuracies;
}

export async function readJson<T>(path: string): Promise<T | undefined> {
  const isThere = await access(path).then(
    () => true,
    () => false,
  );
  return isThere ? (JSON.parse(await readFile(path, 'utf8')) as T) : undefined;
}
