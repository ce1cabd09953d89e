import { readFile, rm, writeFile } from 'node:fs/promises';
import { totalmem } from 'node:os';
import type { RunEvent } from '../run/events.js';
import type { Run } from '../run/run.js';
import { writeFileDurably } from '../run/storage.js';
import type { GroupDigest } from './groups.js';
import { isFields, textOf } from './lines.js';
import { MlflowSink } from './mlflow.js';
import { trackerAddress } from './mlflow-address.js';
import { settingRows } from './settings.js';
import { countSteps, CsvSink, type Outcome, type Sink, type StepRow, TensorBoardSink } from './sinks.js';
import { DEFAULT_SHOWN, writeReport } from './write-report.js';

// What a run writes for people and other tools while it works: report, TensorBoard files, metrics.csv, progress, and
// what a tracker is told. It listens to the run's events; nothing waits for it, and a failure of it is a warning.

const FLUSH_INTERVAL_MS = 1_000;
const PROGRESS_INTERVAL_MS = 1_000;
/** The report is written at most so often, and its writing takes at most a twentieth of the time. */
const REPORT_INTERVAL_MS = 2_000;
const REPORT_SHARE = 20;

const BYTES_PER_MIB = 1024 * 1024;

/** Resident memory of this process, and as a share of what it may have. */
function memory(): { mib: number; share: number } {
  const used = process.memoryUsage.rss();
  const limit = process.constrainedMemory() || Infinity;
  return { mib: used / BYTES_PER_MIB, share: used / Math.min(limit, totalmem()) };
}

export class Recorder {
  readonly #run: Run;
  readonly #sinks: readonly Sink[];
  /** Steps of every training so far, in order. */
  #steps: Map<string, number>;
  readonly #cache = new Map<string, GroupDigest>();
  #stream = '';
  #lastStep = 0;
  #lastProgress = 0;
  #flushing: Promise<void> = Promise.resolve();
  #flushTimer: NodeJS.Timeout | undefined;
  #reporting: Promise<void> = Promise.resolve();
  #reportTimer: NodeJS.Timeout | undefined;
  #reportAllowedAt = performance.now() + REPORT_INTERVAL_MS;
  #warned = new Set<string>();

  private constructor(run: Run, sinks: readonly Sink[], steps: Map<string, number>) {
    this.#run = run;
    this.#sinks = sinks;
    this.#steps = steps;
  }

  static async open(run: Run): Promise<Recorder> {
    const { config, dir } = run;
    const address = trackerAddress(config, process.env);
    const sinks: Sink[] = [
      new CsvSink(dir.path('metrics.csv')),
      ...(config.report.tensorboard ? [new TensorBoardSink(dir.path('tensorboard'))] : []),
      ...(address === undefined ? [] : [await mlflowSink(run, address)]),
    ];
    return new Recorder(run, sinks, await countSteps(dir.path('metrics.jsonl')));
  }

  event(event: RunEvent): void {
    const time = Date.now();
    if (event.type === 'metrics') {
      const row = this.#rowOf(event, time);
      for (const sink of this.#sinks) sink.step(row);
      this.#flushSoon();
    } else if (event.type === 'progress') {
      this.#writeProgress(event, time);
    } else if (event.type === 'stage' && event.status === 'finished') {
      for (const sink of this.#sinks) sink.stage(event, time);
      this.#flushSoon();
      this.#reportSoon();
    }
  }

  #rowOf(event: Extract<RunEvent, { type: 'metrics' }>, time: number): StepRow {
    const { stage, iteration, step, metrics } = event;
    const stream = iteration === 0 ? stage : `iteration-${iteration}/${stage}`;
    const isFirst = stream !== this.#stream;
    if (isFirst) {
      // A training that is done again, or goes on, takes the place of what was there from it on.
      const names = [...this.#steps.keys()];
      const place = names.indexOf(stream);
      if (place !== -1) this.#steps = new Map([...this.#steps].slice(0, place));
      this.#stream = stream;
    }
    this.#steps.set(stream, step);
    const tokens = metrics['cream/tokens'];
    const now = performance.now(); // the clock's milliseconds are too coarse for small models
    const seconds = (now - this.#lastStep) / 1000;
    this.#lastStep = now;
    const { mib, share } = memory();
    return {
      time,
      stream,
      stage,
      step,
      globalStep: [...this.#steps.values()].reduce((sum, count) => sum + count, 0),
      metrics: {
        ...metrics,
        ...(isFirst || tokens === undefined || seconds <= 0
          ? {}
          : { 'system/tokens_per_second': tokens / seconds }),
        'system/memory_mib': mib,
        'system/memory_share': share,
      },
    };
  }

  #writeProgress(event: Extract<RunEvent, { type: 'progress' }>, time: number): void {
    if (time - this.#lastProgress < PROGRESS_INTERVAL_MS && event.done < event.total) return;
    this.#lastProgress = time;
    const { type: _, metrics: __, ...progress } = event;
    const text = `${JSON.stringify({ ...progress, time: new Date(time).toISOString() })}\n`;
    this.#flushing = this.#flushing
      .then(() => writeFile(this.#run.dir.path('progress.json'), text))
      .catch((error: unknown) => this.#warn('progress.json', error));
  }

  #flushSoon(): void {
    if (this.#flushTimer !== undefined) return;
    this.#flushTimer = setTimeout(() => {
      this.#flushTimer = undefined;
      this.#flushing = this.#flushing.then(() => this.#each((sink) => sink.flush()));
    }, FLUSH_INTERVAL_MS).unref();
  }

  async #each(work: (sink: Sink) => Promise<void>): Promise<void> {
    for (const sink of this.#sinks) {
      try {
        await work(sink);
      } catch (error) {
        this.#warn(sink.name, error);
      }
    }
  }

  #reportSoon(): void {
    if (!this.#run.config.report.html || this.#reportTimer !== undefined) return;
    const wait = Math.max(0, this.#reportAllowedAt - performance.now());
    this.#reportTimer = setTimeout(() => {
      this.#reporting = this.#writeReport().finally(() => {
        this.#reportTimer = undefined;
      });
    }, wait).unref();
  }

  async #writeReport(): Promise<void> {
    const start = performance.now();
    const { directory } = this.#run.dir;
    try {
      await writeReport([directory], this.#run.dir.path('report.html'), {
        shown: DEFAULT_SHOWN,
        cache: this.#cache,
      });
    } catch (error) {
      this.#warn('report.html', error);
    }
    const end = performance.now();
    this.#reportAllowedAt = end + Math.max(REPORT_INTERVAL_MS, REPORT_SHARE * (end - start));
  }

  /** Once for each thing that fails: the run goes on without it. */
  #warn(name: string, error: unknown): void {
    if (this.#warned.has(name)) return;
    this.#warned.add(name);
    const message = error instanceof Error ? error.message : String(error);
    const cause = error instanceof Error && error.cause instanceof Error ? ` (${error.cause.message})` : '';
    this.#run.notice('report-failed', `${name}: ${message}${cause}; the run goes on`);
  }

  /** Everything that is left is written; the run's log must be complete before. */
  async close(outcome: Outcome): Promise<void> {
    clearTimeout(this.#flushTimer);
    clearTimeout(this.#reportTimer);
    await this.#flushing;
    await this.#each((sink) => sink.close(outcome));
    for (const sink of this.#sinks) {
      if (sink instanceof MlflowSink && sink.dropped > 0) {
        this.#run.notice('report-failed', `${sink.name}: ${sink.dropped} values were not taken`);
      }
    }
    await rm(this.#run.dir.path('progress.json'), { force: true }).catch(() => undefined);
    await this.#reporting;
    await this.#run.logged();
    if (this.#run.config.report.html) await this.#writeReport();
  }
}

/** Continues the MLflow run of an earlier process, if it was at the same address. */
async function mlflowSink(run: Run, address: string): Promise<MlflowSink> {
  const path = run.dir.path('tracker.json');
  const before: unknown = await readFile(path, 'utf8')
    .then((text) => JSON.parse(text) as unknown)
    .catch(() => undefined); // another MLflow run is begun
  const runId =
    isFields(before) && before['address'] === address ? textOf(before['runId']) || undefined : undefined;
  const { config, record } = run;
  return new MlflowSink({
    address,
    experiment: config.report.experiment,
    directory: config.output,
    params: Object.fromEntries(settingRows(config, undefined).map(({ name, value }) => [name, value])),
    tags: { 'mlflow.source.name': 'cream run', ...record.versions },
    runId,
    saveRunId: async (id) => {
      await writeFileDurably(path, `${JSON.stringify({ address, runId: id })}\n`);
    },
    env: process.env,
  });
}
