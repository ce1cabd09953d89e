import { createReadStream } from 'node:fs';
import { isMissing } from '../run/storage.js';

// Reading of files that may be in the middle of being written, or damaged: what cannot be read is counted, not thrown.

const NEWLINE = 0x0a;
/** No record of a run is nearly as long; a longer line is not held in memory. */
const MAX_LINE_BYTES = 64 * 1024 * 1024;

export type Fields = Readonly<Record<string, unknown>>;

export const isFields = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/**
 * Calls `use` with every JSON object of a file, one a line. A file that is not there has none. A last line without an
 * end is one that is being written, and is left out. Resolves to the number of other lines that hold no object.
 */
export async function eachRecord(path: string, use: (record: Fields) => void): Promise<number> {
  let faulty = 0;
  let rest: Buffer[] = [];
  let restBytes = 0;
  const take = (line: Buffer) => {
    if (line.length === 0) return;
    let value: unknown;
    try {
      value = JSON.parse(line.toString('utf8'));
    } catch {
      value = undefined;
    }
    if (isFields(value)) use(value);
    else faulty += 1;
  };
  try {
    for await (const piece of createReadStream(path, { highWaterMark: 1 << 20 })) {
      const chunk = piece as Buffer;
      let start = 0;
      for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, start)) {
        const tail = chunk.subarray(start, end);
        if (restBytes > MAX_LINE_BYTES) faulty += 1;
        else take(rest.length === 0 ? tail : Buffer.concat([...rest, tail]));
        rest = [];
        restBytes = 0;
        start = end + 1;
      }
      restBytes += chunk.length - start;
      if (restBytes > MAX_LINE_BYTES) rest = [];
      else if (start < chunk.length) rest.push(chunk.subarray(start));
    }
  } catch (error) {
    if (!isMissing(error)) throw error;
  }
  return faulty;
}

/** A finite number, or undefined. */
export const finite = (value: unknown): number | undefined =>
  typeof value === 'number' && Number.isFinite(value) ? value : undefined;

export const textOf = (value: unknown): string => (typeof value === 'string' ? value : '');

export const listOf = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);
