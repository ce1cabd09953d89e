import { readdir, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { CreamError } from '../errors.js';
import { recordsToText } from '../run/records.js';
import { makeFolder, writeFileDurably } from '../run/storage.js';
import type { Terminal } from './terminal.js';

/** Makes sure, before the work is done, that its result can be written to this file. */
export async function prepareOutputFile(path: string | undefined): Promise<void> {
  if (isStandardOutput(path)) return;
  const found = await stat(path).catch(() => undefined);
  if (found?.isDirectory()) throw new CreamError('USAGE', `--output ${path} is a folder; name a file`);
  await makeFolder(dirname(path));
}

/** Makes sure that a new model folder can be made here. A folder with content is not replaced unless asked to. */
export async function prepareOutputFolder(path: string, isForced: boolean): Promise<void> {
  const entries = await readdir(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    if (error.code === 'ENOTDIR') throw new CreamError('USAGE', `--output ${path} is a file; name a folder`);
    throw error;
  });
  if (entries.length > 0 && !isForced) {
    throw new CreamError(
      'USAGE',
      `${path} has content already; name another folder, or replace it with --force`,
    );
  }
  await makeFolder(dirname(path));
}

/** Writes records as JSON lines: a file appears complete or not at all. NaN is null. */
export async function writeRecords(
  path: string | undefined,
  records: readonly object[],
  terminal: Terminal,
): Promise<void> {
  if (!isStandardOutput(path)) {
    await writeFileDurably(path, recordsToText(records));
    return;
  }
  for (const record of records) await terminal.print(recordsToText([record]));
}

export function isStandardOutput(path: string | undefined): path is undefined {
  return path === undefined || path === '-';
}
