import { stat } from 'node:fs/promises';
import { dirname, relative, resolve } from 'node:path';
import { renderConfig } from '../config-docs.js';
import { CreamError } from '../errors.js';
import { outputTarget, writeOutput } from '../run/output-file.js';
import type { Context } from './command.js';

export interface InitValues {
  model: string | undefined;
  prompts: string | undefined;
  sft: string | undefined;
  output: string | undefined;
  force: boolean;
}

/** `cream init`: the file is valid as it stands, with example paths where none were given. */
export async function writeConfig(values: InitValues, { terminal, words, isQuiet }: Context): Promise<void> {
  const { model, prompts, sft, output, force } = values;
  const file = words[0] ?? 'cream.yaml';
  const given = { model, 'data.prompts': prompts, 'data.sft': sft, output };
  // Paths of a command line start at the current folder, those in a config file at the file's.
  const isElsewhere = file !== '-' && dirname(resolve(file)) !== process.cwd();
  const fromFile = (path: string): string =>
    isElsewhere ? relative(dirname(resolve(file)), resolve(path)) : path;
  const chosen = Object.entries(given).flatMap(([name, path]) =>
    path === undefined ? [] : [[name, fromFile(path)] as const],
  );
  const examples = { model: './model', 'data.prompts': './prompts.jsonl' };
  const text = renderConfig({ ...examples, ...Object.fromEntries(chosen) });
  if (file === '-') {
    await terminal.print(text);
    return;
  }
  const { path, isReplaced } = await outputTarget(file);
  if (isReplaced && !force && (await stat(path).catch(() => undefined)) !== undefined) {
    throw new CreamError('USAGE', `${file} exists already; choose another name, or replace it with --force`);
  }
  await writeOutput(file, text);
  if (!isQuiet) terminal.note(`wrote ${file}; edit it, then: cream validate ${file} && cream run ${file}`);
}
