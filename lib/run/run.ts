import { appendFile, readdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { CreamConfig } from '../config.js';
import { CreamError, isCreamError } from '../errors.js';
import type { Placed } from '../types.js';
import { inChunks, inStream } from './chunks.js';
import type { PlanEvent, RunEvent, Stage } from './events.js';
import { differences, digestInputs, type RunRecord } from './lineage.js';
import { type Lock, lockFolder } from './lock.js';
import { MetricsLog } from './metrics.js';
import { RunDir, type Warning } from './run-dir.js';
import { makeFolder, removeTemporaries } from './storage.js';
import type { Checkpoints } from './training.js';

/**
 * What to do with the output folder. auto: continue the run that is there, or begin one. required: only continue.
 * never: only begin. accept-changes: continue although settings, inputs or versions differ; what is done stays.
 */
export type ResumeMode = 'auto' | 'required' | 'never' | 'accept-changes';

export interface RunOptions {
  emit: (event: RunEvent) => void;
  signal: AbortSignal;
  resume: ResumeMode;
  versions: Record<string, string>;
  /** Threads to record where the settings say auto and nothing is recorded yet. */
  threads: number;
  /** Where the settings that were given come from. */
  origins?: Record<string, string> | undefined;
}

export interface StageInfo {
  stage: Stage;
  iteration: number;
  /** The model that is made or measured. */
  model?: string;
  total?: number;
  unit?: string;
}

export interface StageOutcome {
  /** What later stages and the summary need; goes into the manifest. */
  result: Record<string, unknown>;
  /** Shown when the stage ends. */
  metrics?: Record<string, number>;
}

export interface Rate {
  /** So much more was done by an earlier process. */
  found: (amount: number) => void;
  /** So much more is done. */
  advance: (amount: number) => void;
  /** All up to here is done; `isNew` is false for work of an earlier process. */
  reached: (position: number, isNew: boolean) => void;
}

const PROGRESS_INTERVAL_MS = 200;

/** The name of a stage in the manifest. */
const keyOf = ({ stage, iteration, model }: StageInfo): string =>
  [iteration === 0 ? '' : `iteration-${iteration}/`, stage, model ? `:${model}` : ''].join('');

/** A run folder that this process works in: lock, record, manifest, logs, and the frame around every stage. */
export class Run {
  readonly config: CreamConfig;
  readonly dir: RunDir;
  readonly record: RunRecord;
  readonly metrics: MetricsLog;
  readonly signal: AbortSignal;
  /** Of this process and not of a stage: those of stages are in the manifest. */
  readonly warnings: Warning[] = [];
  #stageWarnings: Warning[] | undefined;
  readonly #lock: Lock;
  readonly #emit: (event: RunEvent) => void;
  #lastProgress = 0;
  #hasTrained = false;

  private constructor(record: RunRecord, dir: RunDir, metrics: MetricsLog, lock: Lock, options: RunOptions) {
    this.config = record.config;
    this.record = record;
    this.dir = dir;
    this.metrics = metrics;
    this.signal = options.signal;
    this.#lock = lock;
    this.#emit = options.emit;
  }

  /** Locks the folder and begins or continues its run. Throws RUN_LOCKED, RUN_MISMATCH, RUN_CORRUPT, IO. */
  static async open(config: CreamConfig, options: RunOptions): Promise<Run> {
    await makeFolder(config.output);
    const lock = await lockFolder(config.output);
    try {
      return await Run.#openLocked(config, lock, options);
    } catch (error) {
      await lock.release();
      throw error;
    }
  }

  static async #openLocked(config: CreamConfig, lock: Lock, options: RunOptions): Promise<Run> {
    const dir = new RunDir(config.output);
    const before = (await dir.readJson('run.json')) as RunRecord | undefined;
    if (before !== undefined && (before?.version !== 1 || before.config === undefined)) {
      throw new CreamError('RUN_CORRUPT', `${dir.path('run.json')} is of another version of this package`);
    }
    if (before === undefined) {
      const strangers = (await readdir(config.output)).filter((name) => !/^(lock\.\d+|\.tmp-.*)$/.test(name));
      if (options.resume === 'required') {
        throw new CreamError(
          'RUN_MISMATCH',
          `${config.output} holds no run to continue; leave out resume to begin one`,
        );
      }
      if (strangers.length > 0) {
        throw new CreamError(
          'RUN_MISMATCH',
          `${config.output} holds files that are no run (${strangers.slice(0, 3).join(', ')}); choose another output`,
        );
      }
    } else if (options.resume === 'never') {
      throw new CreamError(
        'RUN_MISMATCH',
        `${config.output} already holds a run; continue it, or choose another output`,
      );
    }
    await removeTemporaries(config.output);

    const threads = config.threads === 'auto' ? (before?.threads ?? options.threads) : config.threads;
    const record: RunRecord = {
      version: 1,
      created: before?.created ?? new Date().toISOString(),
      config,
      inputs: await digestInputs(config),
      versions: options.versions,
      threads,
      ...(options.origins === undefined ? {} : { origins: options.origins }),
    };
    const changes = before === undefined ? [] : differences(before, record);
    if (changes.length > 0 && options.resume !== 'accept-changes') {
      throw new CreamError(
        'RUN_MISMATCH',
        `${config.output} was made with other settings, inputs or versions:\n  ${changes.join('\n  ')}\n` +
          'undo the changes, choose another output, or continue with resume: accept-changes (finished stages stay as they are)',
      );
    }
    const redone = await dir.open();
    if (changes.length > 0) await dir.forgetUnfinished();
    await dir.writeJson('run.json', record);

    const metrics = await MetricsLog.open(dir.path('metrics.jsonl'));
    const run = new Run(record, dir, metrics, lock, options);
    const status = before === undefined ? 'started' : 'resumed';
    run.#emitAndLog({ type: 'run', status, directory: config.output, time: new Date().toISOString() });
    if (changes.length > 0) {
      run.warn(
        'run-changed',
        `the run continues although it was made differently:\n  ${changes.join('\n  ')}`,
      );
    }
    if (redone.length > 0) {
      run.warn(
        'files-missing',
        `files of finished stages are missing; these are done again: ${redone.join(', ')}`,
      );
    }
    return run;
  }

  warn(code: string, message: string, where: { stage?: Stage; iteration?: number } = {}): void {
    (this.#stageWarnings ?? this.warnings).push({ code, message });
    this.#emitAndLog({ type: 'warning', code, message, ...where });
  }

  /** Tells what a training needs of memory, and what was chosen for it. */
  plan({ stage, iteration }: StageInfo, plan: Omit<PlanEvent, 'type' | 'stage' | 'iteration'>): void {
    const { parts, totalBytes, freeBytes, maxTokensPerBatch, gradientsDtype } = plan;
    const chosen = { parts, totalBytes, freeBytes, maxTokensPerBatch, gradientsDtype };
    this.#emitAndLog({ type: 'plan', stage, iteration, ...chosen });
  }

  /** Tells what a setting `auto` stands for. */
  chose(setting: string, value: string, because: string): void {
    this.#emitAndLog({ type: 'choice', setting, value, because });
  }

  /** A warning that says nothing of the run's results, so that no stage records it. */
  notice(code: string, message: string): void {
    this.warnings.push({ code, message });
    this.#emitAndLog({ type: 'warning', code, message });
  }

  /** Counts work of a stage and reports it with its speed; work that was done before an interruption has none. */
  rate(info: StageInfo, total: number, unit: string): Rate {
    const start = performance.now();
    let done = 0;
    let skipped = 0;
    const report = () => {
      const perSecond = (1000 * (done - skipped)) / (performance.now() - start);
      this.progress(info, Math.min(done, total), total, unit, done > skipped ? { perSecond } : {});
    };
    return {
      found: (amount) => {
        if (amount === 0) return;
        skipped += amount;
        done += amount;
        report();
      },
      advance: (amount) => {
        done += amount;
        report();
      },
      reached: (position, isNew) => {
        if (!isNew) skipped += position - done;
        done = position;
        report();
      },
    };
  }

  /** At most a few times a second, but always at the end. */
  progress(
    info: StageInfo,
    done: number,
    total: number,
    unit: string,
    extra: { perSecond?: number; metrics?: Record<string, number> } = {},
  ): void {
    const now = performance.now();
    if (done < total && now - this.#lastProgress < PROGRESS_INTERVAL_MS) return;
    this.#lastProgress = now;
    const { stage, iteration } = info;
    this.#emit({ type: 'progress', stage, iteration, done, total, unit, ...extra });
  }

  /** Size of the metrics log with the lines of finished stages alone. */
  get #metricsBytes(): number {
    return this.dir.stages.at(-1)?.record.metricsBytes ?? 0;
  }

  /** Where a training of this stage keeps its checkpoints and metrics. */
  checkpoints(info: StageInfo): Checkpoints {
    this.#hasTrained = true;
    return {
      folder: this.dir.path(this.partial(info)),
      metrics: this.metrics,
      metricsBytes: this.#metricsBytes,
    };
  }

  stepMetrics(info: StageInfo, step: number, metrics: Record<string, number>): void {
    this.#emit({ type: 'metrics', stage: info.stage, iteration: info.iteration, step, metrics });
  }

  /** Folder of work in progress of a stage, relative to the run folder; it is removed when the stage is done. */
  partial(info: StageInfo): string {
    // M0's responses are a stage beside the policy's: one that is done must not clear away the other's work.
    const name = info.iteration > 0 && info.model === 'M0' ? `${info.stage}-M0` : info.stage;
    return info.iteration === 0 ? `${name}.partial` : `iteration-${info.iteration}/${name}.partial`;
  }

  /** A value that is decided once for the whole run, however often it is continued. */
  async decided<Value>(key: string, decide: () => Value): Promise<Value> {
    const before = this.dir.done(key);
    if (before !== undefined) return before.result['value'] as Value;
    const value = decide();
    await this.dir.commit(key, [], {
      seconds: 0,
      metricsBytes: this.#metricsBytes,
      result: { value },
      warnings: [],
    });
    return value;
  }

  isDone(info: StageInfo): boolean {
    return this.dir.done(keyOf(info)) !== undefined;
  }

  /**
   * Does a stage, or returns the result of when it was done. It is done when its files are durable and the manifest
   * has their digests. `files` are relative to the run folder; a name that ends in "/" is a whole folder.
   */
  async stage<Result extends Record<string, unknown>>(
    info: StageInfo,
    files: readonly string[],
    work: () => Promise<StageOutcome & { result: Result }>,
  ): Promise<Result> {
    const key = keyOf(info);
    const common = { type: 'stage', ...info } as const;
    const done = this.dir.done(key);
    if (done !== undefined) {
      // A process that died between the commit and this left it behind.
      await this.dir.remove(this.partial(info));
      this.#emitAndLog({ ...common, status: 'skipped', seconds: done.seconds });
      return done.result as Result;
    }
    this.throwIfAborted();
    this.#emitAndLog({ ...common, status: 'started' });
    for (const name of files) await makeFolder(dirname(this.dir.path(name)));
    const start = performance.now();
    this.#stageWarnings = [];
    this.#hasTrained = false;
    const { result, metrics } = await work();
    const seconds = (performance.now() - start) / 1000;
    await this.metrics.sync();
    await this.dir.commit(key, files, {
      seconds,
      metricsBytes: this.#hasTrained ? this.metrics.bytes : this.#metricsBytes,
      result,
      warnings: this.#stageWarnings,
    });
    this.#stageWarnings = undefined;
    await this.dir.remove(this.partial(info));
    this.#emitAndLog({
      ...common,
      status: 'finished',
      seconds,
      ...(metrics === undefined ? {} : { metrics }),
    });
    return result;
  }

  /** Work on a list in chunks of a stage, with progress in `unit`. */
  chunks<Item, Result extends object>(
    info: StageInfo,
    items: readonly Item[],
    work: (chunk: readonly Item[]) => Promise<Result[]>,
    options: { chunkSize: number; part?: string; onChunk: (done: number, isNew: boolean) => void },
  ): Promise<Result[]> {
    return inChunks(items, work, { ...this.#chunkOptions(info, options), onChunk: options.onChunk });
  }

  /** Work on all of a list at once, whose results are committed in chunks as they come. */
  stream<Item, Result extends object>(
    info: StageInfo,
    items: readonly Item[],
    work: (items: readonly Item[]) => AsyncIterable<Placed<Result>>,
    options: { chunkSize: number; part?: string; onFound: (items: number) => void },
  ): Promise<{ results: () => AsyncGenerator<Result, void, undefined> }> {
    return inStream(items, work, { ...this.#chunkOptions(info, options), onFound: options.onFound });
  }

  #chunkOptions(info: StageInfo, { part, chunkSize }: { part?: string; chunkSize: number }) {
    return {
      folder: this.dir.path(this.partial(info), part ?? ''),
      chunkSize,
      signal: this.signal,
      onDamaged: (file: string) =>
        this.warn('chunk-damaged', `${file} does not have its digest; it is done again`, info),
    };
  }

  throwIfAborted(): void {
    if (this.signal.aborted)
      throw new CreamError('ABORTED', 'the run was interrupted; finished work is kept');
  }

  finish(event: Extract<RunEvent, { type: 'summary' }>): void {
    this.#emit(event);
    const directory = this.config.output;
    this.#emitAndLog({ type: 'run', status: 'finished', directory, time: new Date().toISOString() });
  }

  /** Writes into the log how the run ended early; the host hears of it by the error itself. */
  fail(error: unknown): void {
    const code = isCreamError(error) ? error.code : 'NATIVE';
    const message = error instanceof Error ? error.message : String(error);
    this.#log({ type: 'run', status: code === 'ABORTED' ? 'interrupted' : 'failed', code, message });
  }

  /** Resolves when the log holds every event so far. */
  logged(): Promise<void> {
    return this.#logged;
  }

  async close(): Promise<void> {
    await this.#logged;
    await this.metrics.close();
    await this.#lock.release();
  }

  #logged: Promise<void> = Promise.resolve();

  #emitAndLog(event: RunEvent): void {
    this.#emit(event);
    this.#log(event);
  }

  #log(event: object): void {
    const line = `${JSON.stringify({ time: new Date().toISOString(), ...event })}\n`;
    // The log of events is for people; a full disk shows where it matters.
    this.#logged = this.#logged
      .then(() => appendFile(this.dir.path('events.jsonl'), line))
      .catch(() => undefined);
  }
}
