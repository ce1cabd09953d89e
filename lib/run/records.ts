import { createReadStream } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { CreamError } from '../errors.js';
import { ioError, makeFolder, sha256, writeFileDurably } from './storage.js';

// The JSONL files of a run folder, and work in chunks that are committed one by one.

const NUMBER_LISTS = [
  'logprobs',
  'baseLogprobs',
  'previousLogprobs',
  'rewards',
  'previousRewards',
  'judgeRewards',
  'pairRewards',
];

/** JSON has no NaN: what is not a finite number is null in a file, and NaN again when it is read. */
export const recordsToText = (records: readonly object[]) =>
  records.map((record) => `${JSON.stringify(record)}\n`).join('');

function parseRecord(line: string): object {
  const record = withNaN(JSON.parse(line) as Record<string, unknown>);
  const { history } = record;
  if (Array.isArray(history)) for (const earlier of history) withNaN(earlier as Record<string, unknown>);
  return record;
}

function withNaN(record: Record<string, unknown>): Record<string, unknown> {
  for (const key of NUMBER_LISTS) {
    const list = record[key];
    if (Array.isArray(list) && list.includes(null)) {
      record[key] = list.map((value: unknown) => (value === null ? Number.NaN : value));
    }
  }
  return record;
}

/** Reads a file that this package wrote and whose digest was checked. */
export async function readRecords<T extends object>(path: string): Promise<T[]> {
  const records: T[] = [];
  try {
    for await (const line of createInterface({ input: createReadStream(path), crlfDelay: Infinity })) {
      if (line !== '') records.push(parseRecord(line) as T);
    }
  } catch (cause) {
    if (cause instanceof SyntaxError) {
      throw new CreamError('RUN_CORRUPT', `${path} holds a line that is not JSON: ${cause.message}`, {
        cause,
      });
    }
    throw ioError('read', path, cause);
  }
  return records;
}

export interface ChunkOptions {
  /** Where finished chunks wait until all are done. */
  folder: string;
  chunkSize: number;
  signal?: AbortSignal | undefined;
  /** Called after every chunk, also for those that were done before. */
  onChunk?: (done: number, isNew: boolean) => void;
  onDamaged?: (file: string) => void;
}

/**
 * Applies `work` to fixed chunks of items and returns all results in order. A finished chunk is a file whose name
 * holds the digest of its content, so after an interruption only the chunk in progress is done again. What a
 * chunk holds depends on the items and the chunk size alone.
 */
export async function inChunks<Item, Result extends object>(
  items: readonly Item[],
  work: (chunk: readonly Item[]) => Promise<Result[]>,
  { folder, chunkSize, signal, onChunk, onDamaged }: ChunkOptions,
): Promise<Result[]> {
  await makeFolder(folder);
  const names = await readdir(folder);
  const results: Result[] = [];
  for (let start = 0; start < items.length; start += chunkSize) {
    const prefix = `${String(start / chunkSize).padStart(6, '0')}-`;
    const end = Math.min(start + chunkSize, items.length);
    let text: string | undefined;
    for (const name of names.filter((candidate) => candidate.startsWith(prefix))) {
      const content = await readFile(join(folder, name), 'utf8');
      if (name === `${prefix}${sha256(content)}.jsonl`) text = content;
      else onDamaged?.(join(folder, name));
    }
    const isNew = text === undefined;
    if (text === undefined) {
      if (signal?.aborted) throw new CreamError('ABORTED', 'the run was interrupted; finished work is kept');
      text = recordsToText(await work(items.slice(start, end)));
      await writeFileDurably(join(folder, `${prefix}${sha256(text)}.jsonl`), text);
    }
    // Results are taken from the text in both cases: an interrupted run sees exactly what an uninterrupted one does.
    for (const line of text.split('\n')) if (line !== '') results.push(parseRecord(line) as Result);
    onChunk?.(end, isNew);
  }
  return results;
}
