import { createHash } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { CreamError } from '../errors.js';
import type { Placed } from '../types.js';
import { eachRecord, recordLines } from './records.js';
import { fileRecord, makeFolder, writeFileDurably } from './storage.js';

// Work on a list whose results are committed in chunks: fixed stretches of the list, one file each. What a chunk holds
// depends on the items and the chunk size alone.

export interface ChunkOptions {
  /** Where finished chunks wait until all are done. */
  folder: string;
  chunkSize: number;
  signal?: AbortSignal | undefined;
  onDamaged?: (file: string) => void;
}

/** The chunks of a list of `count` items. A finished one is a file whose name holds the digest of its content. */
class Chunks<Result extends object> {
  readonly count: number;
  readonly #items: number;
  readonly #options: ChunkOptions;
  readonly #names: readonly string[];
  readonly #paths = new Map<number, string>();

  private constructor(items: number, options: ChunkOptions, names: readonly string[]) {
    this.count = Math.ceil(items / options.chunkSize);
    this.#items = items;
    this.#options = options;
    this.#names = names;
  }

  static async open<Result extends object>(items: number, options: ChunkOptions): Promise<Chunks<Result>> {
    await makeFolder(options.folder);
    return new Chunks(items, options, await readdir(options.folder));
  }

  begin(chunk: number): number {
    return chunk * this.#options.chunkSize;
  }

  end(chunk: number): number {
    return Math.min(this.begin(chunk + 1), this.#items);
  }

  /** Whether the chunk is there, whole: an earlier process has written it. */
  async find(chunk: number): Promise<boolean> {
    const prefix = prefixOf(chunk);
    for (const name of this.#names.filter((candidate) => candidate.startsWith(prefix))) {
      const found = join(this.#options.folder, name);
      if (name === `${prefix}${(await fileRecord(found)).sha256}.jsonl`) this.#paths.set(chunk, found);
      else this.#options.onDamaged?.(found);
    }
    return this.#paths.has(chunk);
  }

  async commit(chunk: number, results: readonly Result[]): Promise<void> {
    const lines = [...recordLines(results)];
    const hash = createHash('sha256');
    for (const line of lines) hash.update(line);
    const path = join(this.#options.folder, `${prefixOf(chunk)}${hash.digest('hex')}.jsonl`);
    await writeFileDurably(path, lines);
    this.#paths.set(chunk, path);
  }

  throwIfAborted(): void {
    if (this.#options.signal?.aborted !== true) return;
    throw new CreamError('ABORTED', 'the run was interrupted; finished work is kept');
  }

  /** All results in the order of the items, read from the files: an interrupted run sees what another one does. */
  async *results(): AsyncGenerator<Result, void, undefined> {
    for (let chunk = 0; chunk < this.count; chunk++) yield* eachRecord<Result>(this.#paths.get(chunk)!);
  }
}

const prefixOf = (chunk: number) => `${String(chunk).padStart(6, '0')}-`;

/**
 * Applies `work` to one chunk after the other and returns all results in order. After an interruption only the chunk
 * in progress is done again. `onChunk` is called after every chunk, also for those that were done before.
 */
export async function inChunks<Item, Result extends object>(
  items: readonly Item[],
  work: (chunk: readonly Item[]) => Promise<Result[]>,
  options: ChunkOptions & { onChunk?: (done: number, isNew: boolean) => void },
): Promise<Result[]> {
  const chunks = await Chunks.open<Result>(items.length, options);
  for (let chunk = 0; chunk < chunks.count; chunk++) {
    const isNew = !(await chunks.find(chunk));
    if (isNew) {
      chunks.throwIfAborted();
      await chunks.commit(chunk, await work(items.slice(chunks.begin(chunk), chunks.end(chunk))));
    }
    options.onChunk?.(chunks.end(chunk), isNew);
  }
  return allOf(chunks.results());
}

export async function allOf<Result>(results: AsyncIterable<Result>): Promise<Result[]> {
  const all: Result[] = [];
  for await (const result of results) all.push(result);
  return all;
}

/** Passes results on and tells of each. */
export async function* advancing<Result>(
  results: AsyncIterable<Result>,
  onResult: () => void,
): AsyncGenerator<Result, void, undefined> {
  for await (const result of results) {
    onResult();
    yield result;
  }
}

/**
 * Applies `work` to all items whose chunks are not there yet, at once. It yields a result and the place of its item in
 * what it was given, in any order; a chunk is committed when its last result has come, and lets go of them. After an
 * interruption the items of unfinished chunks are done again. `onFound` tells how many items were done before.
 */
export async function inStream<Item, Result extends object>(
  items: readonly Item[],
  work: (items: readonly Item[]) => AsyncIterable<Placed<Result>>,
  options: ChunkOptions & { onFound?: (items: number) => void },
): Promise<{ results: () => AsyncGenerator<Result, void, undefined> }> {
  const chunks = await Chunks.open<Result>(items.length, options);
  const missing: { item: number; chunk: number }[] = [];
  for (let chunk = 0; chunk < chunks.count; chunk++) {
    if (await chunks.find(chunk)) continue;
    for (let item = chunks.begin(chunk); item < chunks.end(chunk); item++) missing.push({ item, chunk });
  }
  options.onFound?.(items.length - missing.length);
  if (missing.length > 0) {
    chunks.throwIfAborted();
    const open = new Map<number, { results: Result[]; left: number }>();
    for await (const { index, result } of work(missing.map(({ item }) => items[item]!))) {
      const { item, chunk } = missing[index]!;
      let own = open.get(chunk);
      if (own === undefined) {
        own = { results: [], left: chunks.end(chunk) - chunks.begin(chunk) };
        open.set(chunk, own);
      }
      own.results[item - chunks.begin(chunk)] = result;
      own.left -= 1;
      if (own.left > 0) continue;
      open.delete(chunk);
      await chunks.commit(chunk, own.results);
    }
    const [unfinished] = open.keys();
    if (unfinished !== undefined) {
      throw new CreamError(
        'NATIVE',
        `chunk ${unfinished} of ${options.folder} did not get all of its results`,
      );
    }
  }
  return { results: () => chunks.results() };
}
