import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { eachRecord, finite } from './lines.js';
import type { Steps } from './types.js';

// metrics.jsonl and the timing columns of metrics.csv as columns of numbers.

/** More steps than this are thinned evenly: no screen shows them, and the page stays small. */
export const MAX_ROWS = 200_000;

/** A column that grows. */
class Column {
  #values = new Float32Array(1024).fill(Number.NaN);

  set(row: number, value: number): void {
    if (row >= this.#values.length) {
      const wider = new Float32Array(Math.max(2 * this.#values.length, row + 1)).fill(Number.NaN);
      wider.set(this.#values);
      this.#values = wider;
    }
    this.#values[row] = value;
  }

  values(rows: number): Float32Array {
    const all = new Float32Array(rows).fill(Number.NaN);
    all.set(this.#values.subarray(0, rows));
    return all;
  }
}

export interface StepTable {
  rows: number;
  streams: { name: string; start: number; rows: number }[];
  columns: ReadonlyMap<string, Float32Array>;
  /** Lines that hold no step. */
  faulty: number;
}

/** Reads all steps. `timing` is the name of metrics.csv; without that file there are no times. */
export async function readSteps(metrics: string, timing: string): Promise<StepTable> {
  const columns = new Map<string, Column>();
  const column = (name: string) => {
    const found = columns.get(name) ?? new Column();
    columns.set(name, found);
    return found;
  };
  const streams: StepTable['streams'] = [];
  const rowOf = new Map<string, number>();
  let rows = 0;
  const faulty = await eachRecord(metrics, (record) => {
    const name = typeof record['stream'] === 'string' ? record['stream'] : '?';
    if (streams.at(-1)?.name !== name) streams.push({ name, start: rows, rows: 0 });
    streams.at(-1)!.rows += 1;
    rowOf.set(`${name}\n${String(record['step'])}`, rows);
    for (const [key, value] of Object.entries(record)) {
      // A loss that was not finite is null in the file; the step is there, its value is not.
      if (key !== 'stream' && key !== 'step') column(key).set(rows, finite(value) ?? Number.NaN);
    }
    rows += 1;
  });
  await eachTiming(timing, (stream, step, name, value) => {
    const row = rowOf.get(`${stream}\n${step}`);
    if (row !== undefined) column(name).set(row, value);
  });
  return {
    rows,
    streams,
    columns: new Map([...columns].map(([name, found]) => [name, found.values(rows)])),
    faulty,
  };
}

/** The columns of a metrics.csv that metrics.jsonl does not have. */
async function eachTiming(
  path: string,
  use: (stream: string, step: string, name: string, value: number) => void,
): Promise<void> {
  let header: string[] | undefined;
  try {
    for await (const line of createInterface({ input: createReadStream(path) })) {
      const cells = line.split(',');
      if (header === undefined) {
        header = cells;
        continue;
      }
      const [, stream = '', step = ''] = cells;
      header.forEach((name, place) => {
        if (!name.startsWith('system/')) return;
        const cell = cells[place];
        if (cell !== undefined && cell !== '') use(stream, step, name, Number(cell));
      });
    }
  } catch {
    // Times are an extra: a report without them is complete.
  }
}

const encode = (values: Float32Array) =>
  Buffer.from(values.buffer, values.byteOffset, values.byteLength).toString('base64');

/** The form that the page reads. */
export function packSteps(table: StepTable): Steps {
  const every = Math.max(1, Math.ceil(table.rows / MAX_ROWS));
  const thin = (place: number) => Math.ceil(place / every);
  return {
    rows: thin(table.rows),
    every,
    streams: table.streams.map(({ name, start, rows }) => ({
      name,
      start: thin(start),
      rows: thin(start + rows) - thin(start),
    })),
    series: Object.fromEntries(
      [...table.columns].map(([name, values]) => [
        name,
        encode(every === 1 ? values : values.filter((_, row) => row % every === 0)),
      ]),
    ),
  };
}
