import { join } from 'node:path';
import type { CreamConfig } from '../config.js';
import { CreamError } from '../errors.js';
import { fileRecord, ioError, isMissing, listFiles } from './storage.js';

// What a run was made from, as recorded in run.json, and what may differ when it is continued.

/** run.json. */
export interface RunRecord {
  version: 1;
  /** ISO 8601. Also the date that chat templates see, so that a continued run renders the same prompts. */
  created: string;
  config: CreamConfig;
  /** sha256 of every input file: "model/config.json", "data.prompts", "data.evaluation.gsm8k". */
  inputs: Record<string, string>;
  /** What else decides the bits: versions of this package and LibTorch, the CPU's instruction set. */
  versions: Record<string, string>;
  threads: number;
  /** Where each setting that was given comes from: "cream.yaml:14", "command line", "program", "method: srlm". */
  origins?: Record<string, string>;
}

/** Settings that decide nothing that is already computed. Paths are compared by what they hold. */
const FREE = new Set([
  'output',
  'iterations',
  'threads',
  'consistency.final',
  'sft.checkpointEverySteps',
  'train.checkpointEverySteps',
  'report.html',
  'report.tensorboard',
  'report.tracker',
  'report.trackerUrl',
  'report.experiment',
]);
const BY_CONTENT = new Set([
  'model',
  'data.sft',
  'data.prompts',
  'reward.module',
  'reward.model',
  'reward.judge.template',
]);

/** Digests of everything that the settings name. `digest` may remember files that it has read before. */
export async function digestInputs(
  config: CreamConfig,
  digest: typeof fileRecord = fileRecord,
): Promise<Record<string, string>> {
  const inputs: Record<string, string> = {};
  const add = async (name: string, path: string, code: 'INVALID_DATA' | 'INVALID_CHECKPOINT') => {
    try {
      inputs[name] = (await digest(path)).sha256;
    } catch (cause) {
      if (isMissing(cause))
        throw new CreamError(code, `${name.split('/')[0]}: there is no file ${path}`, { cause });
      throw cause;
    }
  };
  const addFolder = async (name: string, folder: string) => {
    let files: string[];
    try {
      files = await listFiles(folder);
    } catch (cause) {
      if (isMissing(cause))
        throw new CreamError('INVALID_CHECKPOINT', `${name}: there is no folder ${folder}`, { cause });
      throw ioError('read', folder, cause);
    }
    for (const file of files) await add(`${name}/${file}`, join(folder, file), 'INVALID_CHECKPOINT');
  };
  await addFolder('model', config.model);
  const { sft, prompts, evaluation } = config.data;
  if (sft !== undefined) await add('data.sft', sft, 'INVALID_DATA');
  if (prompts !== undefined && config.iterations > 0) await add('data.prompts', prompts, 'INVALID_DATA');
  const { module, model, judge } = config.reward;
  if (module !== undefined) await add('reward.module', module, 'INVALID_DATA');
  if (model !== undefined) await addFolder('reward.model', model);
  if (judge.template !== undefined) await add('reward.judge.template', judge.template, 'INVALID_DATA');
  for (const { name, path, fewShot } of evaluation) {
    await add(`data.evaluation.${name}`, path, 'INVALID_DATA');
    if (fewShot?.path !== undefined)
      await add(`data.evaluation.${name}.fewShot`, fewShot.path, 'INVALID_DATA');
  }
  return inputs;
}

function flatten(value: unknown, path: string, into: Map<string, string>): Map<string, string> {
  if (path === 'data.evaluation') {
    // The path of a task is compared by its content, under "data.evaluation.NAME".
    into.set(
      path,
      JSON.stringify(value, (key, inner: unknown) => (key === 'path' ? undefined : inner)),
    );
  } else if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    for (const [key, inner] of Object.entries(value))
      flatten(inner, path === '' ? key : `${path}.${key}`, into);
  } else if (value !== undefined) {
    into.set(path, JSON.stringify(value));
  }
  return into;
}

function compare(name: string, before: Map<string, string>, now: Map<string, string>): string[] {
  return [...new Set([...before.keys(), ...now.keys()])]
    .filter((key) => before.get(key) !== now.get(key))
    .map((key) => `${name}${key}: was ${before.get(key) ?? 'not set'}, is ${now.get(key) ?? 'not set'}`);
}

const short = (digests: Record<string, string>) =>
  new Map(Object.entries(digests).map(([key, digest]) => [key, `sha256 ${digest.slice(0, 12)}`]));

/** The settings that decide what a run computes, as "train.beta1" -> JSON. Inputs are known by content instead. */
export function decidingSettings(config: CreamConfig): Map<string, string> {
  const flat = flatten(config, '', new Map());
  for (const key of flat.keys()) if (FREE.has(key) || BY_CONTENT.has(key)) flat.delete(key);
  return flat;
}

/** What differs from the recorded run in a way that would make its result another one; empty when nothing does. */
export function differences(before: RunRecord, now: RunRecord): string[] {
  const fewer = now.config.iterations < before.config.iterations;
  const inputs = short(now.inputs);
  if (!('data.prompts' in before.inputs)) inputs.delete('data.prompts'); // a run without iterations read no prompts
  return [
    ...compare('', decidingSettings(before.config), decidingSettings(now.config)),
    ...(fewer
      ? [`iterations: was ${before.config.iterations}, is ${now.config.iterations}; it may only be raised`]
      : []),
    ...compare('content of ', short(before.inputs), inputs),
    ...compare(
      'version of ',
      new Map(Object.entries(before.versions)),
      new Map(Object.entries(now.versions)),
    ),
    ...(before.threads === now.threads ? [] : [`threads: was ${before.threads}, is ${now.threads}`]),
  ];
}
