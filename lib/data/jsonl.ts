import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import type { Readable } from 'node:stream';
import { CreamError } from '../errors.js';
import { parseJson, readJson } from './exact-json.js';
import { ForeignValue } from './foreign-value.js';
import { isParquet, ParquetLines } from './parquet.js';

// JSON Lines: one JSON object per line, UTF-8. A byte order mark, CRLF line ends and blank lines are accepted. Files
// that begin as Parquet files do are read as such; their rows count as lines.
// Every fault is an INVALID_DATA error that begins with `path:line:`.

/** A parsed line, or a row of a Parquet file. Read fields with {@link field}: a key like "__proto__" or "constructor" is only data. */
export interface JsonlRow {
  path: string;
  /** Counted from 1. */
  line: number;
  value: Readonly<Record<string, unknown>>;
}

/** A line that was left out because `maxBadRows` allowed it. */
export interface BadRow {
  line: number;
  message: string;
}

export interface JsonlOptions {
  /** Lines longer than this are refused before they are held in memory. Default 16 MiB. */
  maxLineBytes?: number;
  /** How many faulty rows may be left out before the file is refused. Default 0: the first one refuses it. */
  maxBadRows?: number;
  signal?: AbortSignal;
  /** Read in place of the file; `path` is then its name in messages and ids. */
  stream?: Readable;
}

export interface JsonlRecords<T> {
  records: T[];
  /** Rows that were left out, in file order; at most `maxBadRows`. */
  badRows: BadRow[];
}

const NEWLINE = 0x0a;
const DEFAULT_MAX_LINE_BYTES = 16 * 1024 * 1024;

/** An INVALID_DATA error about one line. `what` says what is wrong and what to do. */
export function rowError(row: { path: string; line: number }, what: string, cause?: unknown): CreamError {
  return new CreamError(
    'INVALID_DATA',
    `${row.path}:${row.line}: ${what}`,
    cause === undefined ? {} : { cause },
  );
}

/** The row's own value of `key`, never one from a prototype. JSON null counts as absent. */
export function fieldAsRead(row: JsonlRow, key: string): unknown {
  return Object.hasOwn(row.value, key) ? (row.value[key] ?? undefined) : undefined;
}

/** The same for whoever uses the value. Throws INVALID_DATA where it has no form in JSON, such as a date of Parquet. */
export function field(row: JsonlRow, key: string): unknown {
  const value = fieldAsRead(row, key);
  if (!(value instanceof ForeignValue)) return value;
  throw rowError(
    row,
    `${key} is of another kind in the file, ${value.toJSON()}; store it as the text or number that is meant`,
  );
}

/**
 * Reads a whole file. `parse` turns a row into a record or throws {@link rowError}; records with an `id` must have
 * different ones. At least one record must remain.
 */
export async function readJsonl<T extends object>(
  path: string,
  parse: (row: JsonlRow) => T,
  options: JsonlOptions = {},
): Promise<JsonlRecords<T>> {
  const { maxBadRows = 0 } = options;
  const records: T[] = [];
  const badRows: BadRow[] = [];
  const lineOfId = new Map<unknown, number>();

  for await (const row of readRows(path, options)) {
    try {
      if (row instanceof CreamError) throw row;
      const record = parse(row);
      if ('id' in record) {
        const first = lineOfId.get(record.id);
        if (first !== undefined) {
          throw rowError(row, `id ${quote(record.id)} was already used on line ${first}; ids must differ`);
        }
        lineOfId.set(record.id, row.line);
      }
      records.push(record);
    } catch (error) {
      if (!(error instanceof CreamError) || error.code !== 'INVALID_DATA' || maxBadRows === 0) throw error;
      badRows.push({ line: Number(/:(\d+): /.exec(error.message)?.[1] ?? 0), message: error.message });
      if (badRows.length > maxBadRows) {
        const message = `${error.message} (and ${maxBadRows} faulty rows before it, which is all that maxBadRows allows)`;
        throw new CreamError('INVALID_DATA', message, { cause: error });
      }
    }
  }
  if (records.length === 0) {
    const why = badRows.length > 0 ? `has no usable row (${badRows.length} faulty)` : 'has no rows';
    throw new CreamError('INVALID_DATA', `${path}: ${why}; it must hold one JSON object per line`);
  }
  return { records, badRows };
}

/** Streams rows; a faulty line comes as the error that describes it, so that the caller may go on after it. */
async function* readRows(path: string, options: JsonlOptions): AsyncGenerator<JsonlRow | CreamError> {
  if (options.stream === undefined && (await isParquet(path))) {
    await using rows = new ParquetLines(path);
    yield* readLineRows(path, { ...options, stream: rows.stream }, readJson);
    await rows.finish();
    return;
  }
  yield* readLineRows(path, options, parseJson);
}

async function* readLineRows(
  path: string,
  options: JsonlOptions,
  parse: (text: string) => unknown,
): AsyncGenerator<JsonlRow | CreamError> {
  let line = 0;
  for await (const bytes of readLines(path, options)) {
    line += 1;
    const row = parseLine(path, line, bytes, parse);
    if (row !== undefined) yield row;
  }
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function parseLine(
  path: string,
  line: number,
  bytes: Buffer | number,
  parse: (text: string) => unknown,
): JsonlRow | CreamError | undefined {
  const at = { path, line };
  if (typeof bytes === 'number') {
    return rowError(at, `the line is longer than ${bytes} bytes; split the record or raise maxLineBytes`);
  }
  if (line === 1) {
    const wrongFormat = recogniseOtherFormat(bytes);
    // The whole file is of another kind, so no limit on faulty rows helps.
    if (wrongFormat !== undefined) throw rowError(at, wrongFormat);
  }
  let text: string;
  try {
    text = utf8.decode(bytes);
  } catch (cause) {
    return rowError(at, 'the line is not valid UTF-8; save the file as UTF-8', cause);
  }
  if (text.trim() === '') return undefined;
  let value: unknown;
  try {
    value = parse(text);
  } catch (cause) {
    const reason = cause instanceof Error ? clip(cause.message, 200) : '';
    return rowError(
      at,
      `the line is not valid JSON (${reason}); write one complete JSON object per line`,
      cause,
    );
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    const kind = value === null ? 'null' : Array.isArray(value) ? 'an array' : `a ${typeof value}`;
    return rowError(at, `the line holds ${kind}; write one JSON object {...} per line`);
  }
  return { path, line, value: value as Record<string, unknown> };
}

function recogniseOtherFormat(bytes: Buffer): string | undefined {
  const magic = bytes.subarray(0, 4).toString('latin1');
  if (magic === 'PAR1') return 'the input is Parquet, which cannot be read from a pipe; name the file';
  if (magic.startsWith('\x1f\x8b')) return 'the file is compressed with gzip; unpack it first';
  if (magic.startsWith('\xff\xfe') || magic.startsWith('\xfe\xff'))
    return 'the file is UTF-16; save it as UTF-8';
  const start = bytes.subarray(0, 64).toString('utf8').trimStart();
  if (/^\[\s*(\{|$)/.test(start)) {
    return 'the file is a JSON array; write JSON Lines (one JSON object per line, e.g. with: jq -c .[])';
  }
  return undefined;
}

/** Yields the bytes of each line without its end, or the limit (a number) in place of an over-long line. */
export async function* readLines(path: string, options: JsonlOptions): AsyncGenerator<Buffer | number> {
  const { maxLineBytes = DEFAULT_MAX_LINE_BYTES, signal } = options;
  const stream = options.stream ?? createReadStream(path, { highWaterMark: 1 << 20 });
  // A pipe may have nothing to read for ever.
  const stop = () => void stream.destroy(cancelled(path));
  signal?.addEventListener('abort', stop, { once: true });
  let pieces: Buffer[] = [];
  let length = 0;
  let isFirst = true;

  const add = (piece: Buffer) => {
    length += piece.length;
    if (length > maxLineBytes) pieces = [];
    else pieces.push(piece);
  };
  const take = (): Buffer | number => {
    let bytes: Buffer | number = maxLineBytes;
    if (length <= maxLineBytes) {
      bytes = pieces.length === 1 ? (pieces[0] as Buffer) : Buffer.concat(pieces);
      if (isFirst && bytes.subarray(0, 3).equals(BYTE_ORDER_MARK)) bytes = bytes.subarray(3);
      if (bytes.at(-1) === 0x0d) bytes = bytes.subarray(0, -1);
    }
    pieces = [];
    length = 0;
    isFirst = false;
    return bytes;
  };

  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      if (signal?.aborted) throw cancelled(path);
      let start = 0;
      for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, start)) {
        add(chunk.subarray(start, end));
        yield take();
        start = end + 1;
      }
      if (start < chunk.length) add(chunk.subarray(start));
    }
    if (length > 0) yield take();
  } catch (cause) {
    throw fileError(path, cause);
  } finally {
    signal?.removeEventListener('abort', stop);
    stream.destroy();
  }
}

const cancelled = (path: string) => new CreamError('ABORTED', `reading ${path} was cancelled`);

const BYTE_ORDER_MARK = Buffer.of(0xef, 0xbb, 0xbf);

/** A refusal of the file system, as a typed error; other errors pass through. */
export function fileError(path: string, cause: unknown): unknown {
  if (!(cause instanceof Error) || !('syscall' in cause) || !('code' in cause)) return cause;
  if (cause.code === 'ENOENT') {
    return new CreamError('INVALID_DATA', `${path}: no such file; check the path`, { cause });
  }
  if (cause.code === 'EISDIR') {
    return new CreamError('INVALID_DATA', `${path}: is a folder; name a file`, { cause });
  }
  return new CreamError('IO', `${path}: cannot be read (${String(cause.code)})`, { cause });
}

/** Lower-case hexadecimal SHA-256 of a file's bytes. */
export async function sha256File(path: string): Promise<string> {
  const hash = createHash('sha256');
  try {
    for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 }))
      hash.update(chunk as Buffer);
  } catch (cause) {
    throw fileError(path, cause);
  }
  return hash.digest('hex');
}

/**
 * One line of JSON per record, each ended by a newline. Numbers are written so that reading gives the same double
 * (-0 becomes 0); typed arrays become arrays. A number that JSON cannot hold (NaN, Infinity, bigint) is an error,
 * never null.
 */
export function toJsonl(records: Iterable<object>): string {
  let text = '';
  for (const record of records) text += `${JSON.stringify(record, jsonValue)}\n`;
  return text;
}

function jsonValue(key: string, value: unknown): unknown {
  if ((typeof value === 'number' && !Number.isFinite(value)) || typeof value === 'bigint') {
    throw new CreamError('INVALID_ARGUMENT', `field ${key} is ${value}, which JSON cannot hold`);
  }
  if (ArrayBuffer.isView(value) && !(value instanceof DataView))
    return Array.from(value as unknown as number[]);
  return value;
}

/** A value as it may appear in a message: JSON, cut short. */
export function quote(value: unknown): string {
  return clip(JSON.stringify(value) ?? String(value), 80);
}

function clip(text: string, length: number): string {
  return text.length <= length ? text : `${text.slice(0, length)}...`;
}
