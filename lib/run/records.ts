import { createHash } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { readLines } from '../data/jsonl.js';
import { CreamError } from '../errors.js';
import { fileRecord, ioError, makeFolder, writeFileDurably } from './storage.js';

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

/**
 * One line per record, ended by a newline; all lines together may be longer than one string can be. JSON has no NaN:
 * what is not a finite number is null in a file, and NaN again when it is read.
 */
export function* recordLines(records: Iterable<object>): Generator<string> {
  for (const record of records) yield `${JSON.stringify(record)}\n`;
}

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
    for await (const line of readLines(path, { maxLineBytes: Number.POSITIVE_INFINITY })) {
      if (typeof line !== 'number' && line.length > 0) records.push(parseRecord(line.toString()) as T);
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
    let path: string | undefined;
    for (const name of names.filter((candidate) => candidate.startsWith(prefix))) {
      const found = join(folder, name);
      if (name === `${prefix}${(await fileRecord(found)).sha256}.jsonl`) path = found;
      else onDamaged?.(found);
    }
    const isNew = path === undefined;
    if (path === undefined) {
      if (signal?.aborted) throw new CreamError('ABORTED', 'the run was interrupted; finished work is kept');
      const lines = [...recordLines(await work(items.slice(start, end)))];
      const hash = createHash('sha256');
      for (const line of lines) hash.update(line);
      path = join(folder, `${prefix}${hash.digest('hex')}.jsonl`);
      await writeFileDurably(path, lines);
    }
    // Results are read from the file in both cases: an interrupted run sees exactly what an uninterrupted one does.
    for (const record of await readRecords<Result>(path)) results.push(record);
    onChunk?.(end, isNew);
  }
  return results;
}
