// npm run experiment [-- --quick] [--all] [--regime carry] [--seeds 100-103] [--workers 2] [--output runs/experiment] [--keep] [--results FOLDER] [--table]
//
// Runs the regimes of design.ts, each unit (a seed of a regime) in a process of its own, and writes numbers, tables and
// plots. The same command continues after Ctrl-C or a kill.

import { spawn } from 'node:child_process';
import { join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { parseSeeds } from '../lib/cli/compare.js';
import { makeFolder, writeFileDurably } from '../lib/run/storage.js';
import { digestOf, quick, type Regime, REGIMES, type Unit, unitName, unitsOf } from './design.js';
import { describeMachine } from './machine.js';
import { writeReport } from './report.js';
import { readJson, runUnit, type UnitResult } from './unit.js';

const SELF = fileURLToPath(import.meta.url);

const { values: options } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    all: { type: 'boolean', default: false },
    regime: { type: 'string', multiple: true },
    seeds: { type: 'string' },
    workers: { type: 'string', default: '2' },
    output: { type: 'string' },
    results: { type: 'string' },
    table: { type: 'boolean', default: false },
    keep: { type: 'boolean', default: false },
    unit: { type: 'string' },
  },
});

const output = resolve(options.output ?? (options.quick ? 'runs/experiment-quick' : 'runs/experiment'));
const workers = Number(options.workers);
const pathsOf = (unit: Unit) => ({
  work: join(output, 'work', unitName(unit)),
  result: join(output, 'units', `${unitName(unit)}.json`),
});

/** The regimes as the command line narrows them. */
function chosenRegimes(): Regime[] {
  const known = REGIMES.map(({ name }) => name);
  const unknown = options.regime?.find((name) => !known.includes(name));
  if (unknown !== undefined) throw new Error(`--regime ${unknown} is not one of ${known.join(', ')}`);
  const named = REGIMES.filter(({ name, isFollowUp }) =>
    options.regime === undefined ? options.all || isFollowUp !== true : options.regime.includes(name),
  );
  const regimes = options.quick ? quick(named) : named;
  if (options.seeds === undefined) return regimes;
  const seeds = parseSeeds(options.seeds);
  // With one regime any seeds; with several, those of each that are named.
  if (regimes.length === 1) return [{ ...regimes[0]!, seeds }];
  return regimes
    .map((regime) => ({ ...regime, seeds: regime.seeds.filter((seed) => seeds.includes(seed)) }))
    .filter((regime) => regime.seeds.length > 0);
}

async function doneBefore(unit: Unit): Promise<boolean> {
  const { result } = pathsOf(unit);
  const found = await readJson<UnitResult>(result);
  if (found !== undefined && found.digest !== digestOf(unit.regime)) {
    throw new Error(`${result} was made by another design; remove it, or choose another --output`);
  }
  return found !== undefined;
}

/** A unit in a process of its own; resolves to its exit code. */
function work(unit: Unit, signal: AbortSignal): Promise<number> {
  const flags = [...(options.quick ? ['--quick'] : []), ...(options.keep ? ['--keep'] : [])];
  const child = spawn(
    process.execPath,
    [SELF, '--unit', `${unit.regime.name}/${unit.seed}`, '--output', output, ...flags],
    { stdio: ['ignore', 'inherit', 'inherit'] },
  );
  const stop = () => child.kill('SIGTERM');
  signal.addEventListener('abort', stop);
  return new Promise((done, fail) => {
    child.on('error', fail);
    child.on('exit', (code) => {
      signal.removeEventListener('abort', stop);
      done(code ?? 1);
    });
  });
}

function interrupted(): AbortSignal {
  const controller = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.on(name, () => controller.abort());
  return controller.signal;
}

const minutes = (ms: number) => (ms / 60_000).toFixed(1);

async function runAll(regimes: readonly Regime[]): Promise<void> {
  const signal = interrupted();
  const units = unitsOf(regimes);
  const waiting: Unit[] = [];
  for (const unit of units) if (!(await doneBefore(unit))) waiting.push(unit);
  const total = waiting.length;
  process.stderr.write(`${units.length - total} of ${units.length} units are done\n`);
  const started = Date.now();
  let finished = 0;
  const failed: string[] = [];
  const worker = async () => {
    for (let unit = waiting.shift(); unit !== undefined && !signal.aborted; unit = waiting.shift()) {
      const code = await work(unit, signal);
      if (signal.aborted) return;
      finished++;
      if (code !== 0) failed.push(unitName(unit));
      const state = code === 0 ? 'done' : `failed with exit code ${code}`;
      process.stderr.write(
        `${unitName(unit)} ${state}; ${finished} of ${total} in ${minutes(Date.now() - started)} min\n`,
      );
      await addTime(Date.now());
    }
  };
  let last = started;
  const path = join(output, 'time.json');
  const addTime = async (now: number) => {
    const seconds = ((await readJson<{ seconds: number }>(path))?.seconds ?? 0) + (now - last) / 1000;
    last = now;
    await writeFileDurably(path, `${JSON.stringify({ seconds, ...describeMachine(), workers })}\n`);
  };
  await Promise.all(Array.from({ length: workers }, worker));
  if (signal.aborted) throw new Error('interrupted; the same command continues');
  if (failed.length > 0)
    throw new Error(`these units failed: ${failed.join(', ')}; the same command tries them again`);
}

async function report(chosen: readonly Regime[]): Promise<void> {
  const isWhole = !options.quick && options.seeds === undefined && options.regime === undefined;
  // Follow-ups that were run before are not lost from the tables by a run without them.
  const regimes = isWhole ? REGIMES : chosen;
  const results: UnitResult[] = [];
  for (const unit of unitsOf(regimes)) {
    const found = await readJson<UnitResult>(pathsOf(unit).result);
    if (found !== undefined) results.push(found);
  }
  if (results.length === 0)
    throw new Error(`${output} holds no results yet; run the command without --table`);
  const folder = resolve(options.results ?? (isWhole ? 'experiment/results' : join(output, 'results')));
  const time = await readJson<Record<string, unknown>>(join(output, 'time.json'));
  await writeReport(folder, { regimes, results, ...(time && { time }) });
  process.stderr.write(`tables and plots: ${relative(process.cwd(), folder)}\n`);
}

async function runOne(name: string): Promise<void> {
  const [regimeName, seed] = name.split('/');
  const all = options.quick ? quick(REGIMES) : REGIMES;
  const regime = all.find((one) => one.name === regimeName);
  if (regime === undefined) throw new Error(`there is no regime ${regimeName}`);
  const unit = { regime, seed: Number(seed) };
  await runUnit(unit, { ...pathsOf(unit), signal: interrupted(), keep: options.keep });
}

try {
  if (!Number.isInteger(workers) || workers < 1)
    throw new Error(`--workers must be a whole number from 1 on, got ${options.workers}`);
  if (options.unit === undefined) {
    await makeFolder(join(output, 'units'));
    const regimes = chosenRegimes();
    if (!options.table) await runAll(regimes);
    await report(regimes);
  } else {
    await runOne(options.unit);
  }
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
