import { access } from 'node:fs/promises';
import { join } from 'node:path';
import type { CreamConfig } from '../config.js';
import { loadPrompts, loadSft } from '../data/datasets.js';
import { loadProblems } from '../run/tasks.js';

/** Flags of a command line as the overrides that the config reader understands; YAML reads JSON. */
export function asOverrides(flags: Readonly<Record<string, string | number | bigint | undefined>>): string[] {
  return Object.entries(flags).flatMap(([name, value]) =>
    value === undefined ? [] : [`${name}=${typeof value === 'string' ? JSON.stringify(value) : value}`],
  );
}

interface NamedFile {
  /** The setting that names it. */
  name: string;
  path: string;
  /** How many records it has; absent where it is no data. */
  read?: () => Promise<number>;
}

function filesOf(config: CreamConfig, signal?: AbortSignal): NamedFile[] {
  const { sft, prompts, evaluation, extract } = config.data;
  const options = signal === undefined ? {} : { signal };
  const count = async (reading: Promise<{ records: object[] }>) => (await reading).records.length;
  const files: NamedFile[] = [{ name: 'model', path: join(config.model, 'config.json') }];
  if (sft !== undefined) {
    files.push({ name: 'data.sft', path: sft, read: () => count(loadSft(sft, options)) });
  }
  if (prompts !== undefined) {
    const read = () => count(loadPrompts(prompts, { ...options, extract }));
    files.push({ name: 'data.prompts', path: prompts, read });
  }
  for (const task of evaluation) {
    const read = async () => (await loadProblems(task, undefined, signal)).problems.length;
    files.push({ name: `data.evaluation (${task.name})`, path: task.path, read });
    const { fewShot } = task;
    if (fewShot?.path !== undefined)
      files.push({ name: `data.evaluation (${task.name}): fewShot`, path: fewShot.path });
  }
  return files;
}

const isThere = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );

/** Files that the settings name and that are not there. */
export async function missingFiles(config: CreamConfig): Promise<string[]> {
  const missing: string[] = [];
  for (const { name, path } of filesOf(config)) {
    if (!(await isThere(path))) missing.push(`${name}: there is no ${path}`);
  }
  return missing;
}

/**
 * Reads the data files that are there, whole, and says how many records each has. Throws INVALID_DATA at the first line
 * that cannot be used.
 */
export async function readData(config: CreamConfig, signal: AbortSignal): Promise<string[]> {
  const lines: string[] = [];
  for (const { name, path, read } of filesOf(config, signal)) {
    if (read === undefined || !(await isThere(path))) continue;
    const records = await read();
    lines.push(`${name}: ${records} ${records === 1 ? 'record' : 'records'} in ${path}`);
  }
  return lines;
}
