import { readLines } from '../data/jsonl.js';
import { CreamError } from '../errors.js';
import { ioError } from './storage.js';

// The JSONL files of a run folder.

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
export function recordLines(records: Iterable<object>): Generator<string>;
export function recordLines(
  records: Iterable<object> | AsyncIterable<object>,
): Generator<string> | AsyncGenerator<string>;
export function recordLines(
  records: Iterable<object> | AsyncIterable<object>,
): Generator<string> | AsyncGenerator<string> {
  return Symbol.asyncIterator in records ? linesAsTheyCome(records) : lines(records);
}

const lineOf = (record: object) => `${JSON.stringify(record)}\n`;

function* lines(records: Iterable<object>): Generator<string> {
  for (const record of records) yield lineOf(record);
}

async function* linesAsTheyCome(records: AsyncIterable<object>): AsyncGenerator<string> {
  for await (const record of records) yield lineOf(record);
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
  for await (const record of eachRecord<T>(path)) records.push(record);
  return records;
}

/** The same, one record at a time. */
export async function* eachRecord<T extends object>(path: string): AsyncGenerator<T, void, undefined> {
  try {
    for await (const line of readLines(path, { maxLineBytes: Number.POSITIVE_INFINITY })) {
      if (typeof line !== 'number' && line.length > 0) yield parseRecord(line.toString()) as T;
    }
  } catch (cause) {
    if (cause instanceof SyntaxError) {
      throw new CreamError('RUN_CORRUPT', `${path} holds a line that is not JSON: ${cause.message}`, {
        cause,
      });
    }
    throw ioError('read', path, cause);
  }
}
