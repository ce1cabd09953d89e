import { appendFile, readFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { eachRecord, finite } from './lines.js';
import { eventFileName, scalarsRecord, startRecord, versionRecord } from './tensorboard.js';
import { makeFolder, writeFileDurably } from '../run/storage.js';
import type { StageEvent } from '../run/events.js';

/** One optimizer step as it goes to files and trackers. */
export interface StepRow {
  /** Milliseconds since 1970. */
  time: number;
  /** "sft", "iteration-2/train". */
  stream: string;
  stage: string;
  step: number;
  /** Counted over all trainings of the run. */
  globalStep: number;
  metrics: Readonly<Record<string, number>>;
}

export type Outcome = 'finished' | 'failed' | 'interrupted';

/** Takes rows as they come and writes them when asked to. A failed flush is told to the user once. */
export interface Sink {
  readonly name: string;
  step(row: StepRow): void;
  stage(event: StageEvent, time: number): void;
  flush(): Promise<void>;
  close(outcome: Outcome): Promise<void>;
}

/** Scalars of a finished stage by name, and the iteration or model that they belong to. */
export function stageScalars({ stage, iteration, model, metrics }: StageEvent): {
  step: number;
  scalars: Record<string, number>;
} {
  const isTraining = stage === 'train' || stage === 'sft'; // its steps have told it
  const entries = isTraining ? [] : Object.entries(metrics ?? {});
  const prefix = stage === 'evaluate' ? 'evaluation' : 'iteration';
  return {
    step: stage === 'evaluate' ? Number(model?.slice(1) ?? iteration) : iteration,
    scalars: Object.fromEntries(entries.map(([name, value]) => [`${prefix}/${name}`, value])),
  };
}

/** tensorboard/ of the run folder: one event file per process. */
export class TensorBoardSink implements Sink {
  readonly name = 'TensorBoard files';
  readonly #folder: string;
  #path: string | undefined;
  #pending: Buffer[] = [];

  constructor(folder: string) {
    this.#folder = folder;
  }

  step({ time, stage, globalStep, metrics }: StepRow): void {
    const scalars = Object.fromEntries(
      Object.entries(metrics).map(([name, value]) => [
        name.startsWith('system/') ? name : `${stage}/${name}`,
        value,
      ]),
    );
    this.#begin(time, globalStep);
    this.#pending.push(scalarsRecord(time / 1000, globalStep, scalars));
  }

  stage(event: StageEvent, time: number): void {
    const { step, scalars } = stageScalars(event);
    if (Object.keys(scalars).length === 0) return;
    this.#begin(time);
    this.#pending.push(scalarsRecord(time / 1000, step, scalars));
  }

  #hasSteps = false;

  #begin(time: number, firstStep?: number): void {
    if (this.#path === undefined) {
      this.#path = `${this.#folder}/${eventFileName(time / 1000, hostname(), process.pid)}`;
      this.#pending.push(versionRecord(time / 1000));
    }
    if (firstStep === undefined || this.#hasSteps) return;
    this.#hasSteps = true;
    // Scalars of stages count iterations: a session that begins at step 1 would make TensorBoard forget them.
    if (firstStep > 1) this.#pending.push(startRecord(time / 1000, firstStep));
  }

  async flush(): Promise<void> {
    if (this.#pending.length === 0) return;
    const data = Buffer.concat(this.#pending);
    this.#pending = [];
    await makeFolder(this.#folder);
    await appendFile(this.#path!, data);
  }

  close(): Promise<void> {
    return this.flush();
  }
}

const FIXED = ['time', 'stream', 'step', 'global_step'];
const GLOBAL_STEP = 3;

/** metrics.csv of the run folder: the steps of metrics.jsonl with their times, for spreadsheets and data frames. */
export class CsvSink implements Sink {
  readonly name = 'metrics.csv';
  readonly #path: string;
  /** Of the file, once this process has looked at it. */
  #columns: string[] | undefined;
  #pending: StepRow[] = [];

  constructor(path: string) {
    this.#path = path;
  }

  step(row: StepRow): void {
    this.#pending.push(row);
  }

  stage(): void {}

  async flush(): Promise<void> {
    if (this.#pending.length === 0) return;
    const rows = this.#pending;
    this.#pending = [];
    const names = new Set(rows.flatMap(({ metrics }) => Object.keys(metrics)));
    if (this.#columns === undefined || ![...names].every((name) => this.#columns!.includes(name))) {
      await this.#rewrite(names, rows[0]!.globalStep);
    }
    await appendFile(this.#path, rows.map((row) => this.#line(row)).join(''));
  }

  /** Adds columns, and leaves out the steps of an earlier process that this one does again. */
  async #rewrite(names: ReadonlySet<string>, from: number): Promise<void> {
    const text = await readFile(this.#path, 'utf8').catch(() => '');
    const [header = '', ...lines] = text.split('\n').filter((line) => line !== '');
    const before = header.split(',').slice(FIXED.length);
    const columns = [...new Set([...before, ...names])];
    const kept = lines
      .map((line) => line.split(','))
      .filter((cells) => Number(cells[GLOBAL_STEP]) < from)
      .map((cells) => [...cells, ...new Array<string>(columns.length - before.length).fill('')].join(','));
    await writeFileDurably(this.#path, `${[[...FIXED, ...columns].join(','), ...kept].join('\n')}\n`);
    this.#columns = columns;
  }

  #line({ time, stream, step, globalStep, metrics }: StepRow): string {
    const values = this.#columns!.map((name) => {
      const value = metrics[name];
      return value === undefined || !Number.isFinite(value) ? '' : String(value);
    });
    return `${[new Date(time).toISOString(), stream, step, globalStep, ...values].join(',')}\n`;
  }

  close(): Promise<void> {
    return this.flush();
  }
}

/** Steps of every training in metrics.jsonl, in order. */
export async function countSteps(metrics: string): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  await eachRecord(metrics, ({ stream, step }) => {
    if (typeof stream === 'string') counts.set(stream, finite(step) ?? 0);
  });
  return counts;
}
