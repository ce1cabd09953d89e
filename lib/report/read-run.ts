import { readFile, stat } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import type { CreamConfig } from '../config.js';
import { CreamError } from '../errors.js';
import { isFolderLocked } from '../run/lock.js';
import { checkpointFolder, RunDir, type StageRecord } from '../run/run-dir.js';
import { isMissing } from '../run/storage.js';
import { iterationSoFar, modelsSoFar, type Progress } from '../run/summarize.js';
import { nullTau } from '../run/summary.js';
import { type GroupDigest, type GroupFiles, readGroups } from './groups.js';
import type { Facts } from './light-rules.js';
import { lightsOf } from './lights.js';
import { type Fields, finite, isFields, listOf, textOf } from './lines.js';
import { checkedResult } from './results.js';
import { settingRows } from './settings.js';
import { packSteps, readSteps } from './steps.js';
import { readTimeline, type Timeline } from './timeline.js';
import type { ProgressNow, ReportIteration, ReportRun, RunStatus } from './types.js';
import { verdictOf } from './verdict.js';

export interface ReadOptions {
  /** Groups per iteration that are shown whole. */
  shown: number;
  /** Digests of files that were read before; files of finished stages do not change. */
  cache?: Map<string, GroupDigest>;
}

/** A run folder as the page shows it, whatever state it is in. Throws INVALID_ARGUMENT when it is no run folder. */
export async function readRun(folder: string, options: ReadOptions): Promise<ReportRun> {
  const directory = resolve(folder);
  const dir = new RunDir(directory);
  const faults: string[] = [];
  const record = await readFields(dir, 'run.json', faults);
  if (record === undefined && faults.length === 0) {
    throw new CreamError('INVALID_ARGUMENT', `${folder} holds no run: there is no run.json in it`);
  }
  const config = (isFields(record?.['config']) ? record['config'] : {}) as Partial<CreamConfig>;
  const stages = stagesOf(await readFields(dir, 'manifest.json', faults));
  const timeline = await readTimeline(dir.path('events.jsonl'));
  const table = await readSteps(dir.path('metrics.jsonl'), dir.path('metrics.csv'));
  if (table.faulty > 0) faults.push(`metrics.jsonl: ${table.faulty} lines hold no step`);
  if (timeline.faulty > 0) faults.push(`events.jsonl: ${timeline.faulty} lines hold no event`);

  const wanted = Math.min(finite(config.iterations) ?? 0, MOST_ITERATIONS);
  const progress: Progress = {
    config: { iterations: wanted, output: directory, seed: finite(config.seed) ?? 0 },
    stages,
    warnings: [],
  };
  const iterations: ReportIteration[] = [];
  for (let t = 1; t <= wanted; t++) {
    if (!stages.some(({ key }) => key.startsWith(`iteration-${t}/`))) continue;
    iterations.push(await readIteration(progress, t, config, dir, options, faults));
  }
  const status = await statusOf(timeline, directory);
  const now = status === 'running' ? await readProgress(dir) : undefined;
  const model = textOf(config.model);
  const data = { ...config.data, evaluation: [] } as unknown as CreamConfig['data'];
  const run: Facts['run'] = {
    name: basename(directory),
    directory,
    status,
    ...(timeline.last?.code ? { reason: { code: timeline.last.code, message: timeline.last.message } } : {}),
    created: textOf(record?.['created']),
    seed: finite(config.seed) ?? null,
    method: methodOf(config),
    models: modelsSoFar(progress, trainedModels(stages), (number) =>
      checkpointFolder({ model, data }, dir, number),
    ),
    iterations,
    steps: packSteps(table),
    settings: settingRows(config, record?.['origins']),
    inputs: textPairs(record?.['inputs']).map(([name, sha256]) => ({ name, sha256 })),
    outputs: stages.flatMap(({ key, record }) =>
      Object.entries(record.files).map(([name, file]) => ({
        stage: key,
        name,
        sha256: textOf(file?.sha256),
        bytes: finite(file?.bytes) ?? 0,
      })),
    ),
    versions: Object.fromEntries(textPairs(record?.['versions'])),
    timeline: timeline.entries,
    ...(now === undefined ? {} : { progress: now }),
    seconds: stages.reduce((sum, { record }) => sum + record.seconds, 0),
    warnings: counted(timeline.warnings),
    faults,
  };
  const lights = lightsOf({ run, config, table });
  return { ...run, lights, verdict: verdictOf(run, lights, wanted) };
}

/** So many iterations of a damaged run.json are looked for, and no more. */
const MOST_ITERATIONS = 10_000;

async function readFields(dir: RunDir, name: string, faults: string[]): Promise<Fields | undefined> {
  try {
    const value = await dir.readJson(name);
    if (value === undefined || isFields(value)) return value;
    faults.push(`${name} holds no object`);
  } catch (error) {
    if (!(error instanceof CreamError) || error.code !== 'RUN_CORRUPT') throw error;
    faults.push(`${name} is not JSON`);
  }
  return undefined;
}

function stagesOf(manifest: Fields | undefined): Progress['stages'] {
  return listOf(manifest?.['stages']).flatMap((stage) => {
    const record = isFields(stage) ? stage['record'] : undefined;
    if (!isFields(stage) || !isFields(record)) return [];
    return [
      {
        key: textOf(stage['key']),
        record: {
          files: (isFields(record['files']) ? record['files'] : {}) as StageRecord['files'],
          seconds: finite(record['seconds']) ?? 0,
          metricsBytes: 0,
          result: checkedResult(record['result']),
          warnings: [],
        },
      },
    ];
  });
}

async function readIteration(
  progress: Progress,
  t: number,
  config: Partial<CreamConfig>,
  dir: RunDir,
  { shown, cache }: ReadOptions,
  faults: string[],
): Promise<ReportIteration> {
  const metric = config.consistency?.metric ?? 'kendall';
  const prefix = `iteration-${t}/`;
  // Only files of finished stages: they are complete and stay as they are.
  const recorded = new Map(
    progress.stages
      .filter(({ key }) => key.startsWith(prefix))
      .flatMap(({ record }) => Object.entries(record.files)),
  );
  const files: GroupFiles = {};
  for (const name of ['samples', 'ranks', 'correct', 'pairs', 'dropped'] as const) {
    if (recorded.has(`${prefix}${name}.jsonl`)) files[name] = dir.path(`${prefix}${name}.jsonl`);
  }
  const key = [t, shown, ...[...recorded].map(([name, file]) => `${name} ${file?.sha256}`)].join('\n');
  let digest = cache?.get(key);
  if (digest === undefined) {
    digest = await readGroups(files, { shown, metric });
    cache?.set(key, digest);
  }
  const { faulty, responsesPerGroup, ...found } = digest;
  if (faulty > 0) faults.push(`iteration ${t}: ${faulty} lines of its records hold no record`);
  const chance = responsesPerGroup === undefined ? null : nullTau(metric, responsesPerGroup);
  return { ...iterationSoFar(progress, t), ...found, ...(chance === null ? {} : { chance }) };
}

async function statusOf({ last }: Timeline, directory: string): Promise<RunStatus> {
  const said = last?.status;
  if (said === 'finished' || said === 'failed' || said === 'interrupted') return said;
  return (await isFolderLocked(directory)) ? 'running' : 'stopped';
}

async function readProgress(dir: RunDir): Promise<ProgressNow | undefined> {
  try {
    const value: unknown = JSON.parse(await readFile(dir.path('progress.json'), 'utf8'));
    if (!isFields(value)) return undefined;
    const perSecond = finite(value['perSecond']);
    return {
      stage: textOf(value['stage']),
      iteration: finite(value['iteration']) ?? 0,
      done: finite(value['done']) ?? 0,
      total: finite(value['total']) ?? 0,
      unit: textOf(value['unit']),
      ...(perSecond === undefined ? {} : { perSecond }),
      time: textOf(value['time']),
    };
  } catch (error) {
    if (isMissing(error) || error instanceof SyntaxError) return undefined; // gone, or being written
    throw error;
  }
}

/** The number of the last model that is made or measured. */
function trainedModels(stages: Progress['stages']): number {
  const numbers = stages.flatMap(({ key }) => {
    const made = /(?:^|\/)(?:train|sft|evaluate):M(\d{1,6})$/.exec(key);
    return made === null ? [] : [Number(made[1])];
  });
  return Math.min(MOST_ITERATIONS, numbers.length === 0 ? 0 : Math.max(...numbers));
}

function methodOf(config: Partial<CreamConfig>): string {
  const { method, reward, consistency } = config;
  if (method !== undefined) return textOf(method);
  const weight = textOf(consistency?.weight);
  if (weight === '') return '';
  return `reward ${textOf(reward?.source) || 'implicit'}, weight ${weight}`;
}

const textPairs = (value: unknown): [string, string][] =>
  isFields(value) ? Object.entries(value).map(([name, inner]) => [name, textOf(inner)]) : [];

function counted(warnings: Timeline['warnings']): ReportRun['warnings'] {
  const found = new Map<string, ReportRun['warnings'][number]>();
  for (const { code, message } of warnings) {
    const key = `${code}\n${message}`;
    const before = found.get(key);
    if (before === undefined) found.set(key, { code, message, count: 1 });
    else before.count += 1;
  }
  return [...found.values()];
}

/** Changes whenever the run has gone on: sizes and times of the files that grow. */
export async function versionOf(folder: string): Promise<string> {
  const names = [
    'run.json',
    'manifest.json',
    'metrics.jsonl',
    'events.jsonl',
    'summary.json',
    'progress.json',
  ];
  const parts = await Promise.all(
    names.map(async (name) => {
      const found = await stat(new RunDir(resolve(folder)).path(name)).catch(() => undefined);
      return found === undefined ? '-' : `${found.size}:${found.mtimeMs}`;
    }),
  );
  return parts.join(' ');
}
