import { access, constants, lstat, readdir, realpath, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { CreamError } from '../errors.js';
import { outputTarget, writeOutput } from '../run/output-file.js';
import { recordLines } from '../run/records.js';
import { ioError, makeFolder } from '../run/storage.js';
import type { Terminal } from './terminal.js';

/** Makes sure, before the work is done, that its result can be written to this file. */
export async function prepareOutputFile(path: string | undefined, option = 'output'): Promise<void> {
  if (isStandardOutput(path)) return;
  const target = await outputTarget(path).catch((cause: unknown) => {
    if (!(cause instanceof CreamError) || cause.code !== 'USAGE') throw cause;
    throw new CreamError('USAGE', `--${option} ${cause.message}`, { cause });
  });
  if (target.isReplaced) await makeFolder(dirname(target.path));
  await access(target.isReplaced ? dirname(target.path) : target.path, constants.W_OK).catch((cause) => {
    throw ioError('write', path, cause);
  });
}

/** Makes sure that a new model folder can be made here. A folder with content is not replaced unless asked to. */
export async function prepareOutputFolder(path: string, isForced: boolean): Promise<void> {
  const found = await stat(path).catch(() => undefined);
  if (found !== undefined && !found.isDirectory())
    throw new CreamError('USAGE', `--output ${path} is no folder; name a folder`);
  if (found === undefined && (await lstat(path).catch(() => undefined)) !== undefined)
    throw new CreamError('USAGE', `--output ${path} is a link to nothing; name a folder`);
  const entries = found === undefined ? [] : await readdir(path);
  if (entries.length > 0 && !isForced) {
    throw new CreamError(
      'USAGE',
      `${path} has content already; name another folder, or replace it with --force`,
    );
  }
  await makeFolder(dirname(path));
}

/** Whether two names lead to the same folder, through links too. */
export async function isSameFolder(a: string, b: string): Promise<boolean> {
  const [real, other] = await Promise.all([a, b].map((path) => realpath(path).catch(() => resolve(path))));
  return real === other;
}

/** Writes records as JSON lines: a file appears complete or not at all. NaN is null. */
export async function writeRecords(
  path: string | undefined,
  records: readonly object[],
  terminal: Terminal,
): Promise<void> {
  await writeLines(path, recordLines(records), terminal);
}

/** Writes lines as they come, to standard output or to a file, which appears once all are there. */
export async function writeLines(
  path: string | undefined,
  lines: Iterable<string> | AsyncIterable<string>,
  terminal: Terminal,
): Promise<void> {
  if (isStandardOutput(path)) for await (const line of lines) await terminal.print(line);
  else await writeOutput(path, lines);
}

export function isStandardOutput(path: string | undefined): path is undefined {
  return path === undefined || path === '-';
}
