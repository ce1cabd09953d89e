import { readdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { CreamConfig } from '../config.js';
import { CreamError, isCreamError } from '../errors.js';
import { EventQueue } from '../run/event-queue.js';
import type { RunEvent } from '../run/events.js';
import { runCream } from '../run/host.js';
import { differences, digestInputs, type RunRecord } from '../run/lineage.js';
import { lockFolder } from '../run/lock.js';
import { RunDir } from '../run/run-dir.js';
import { fileRecord, makeFolder, writeFileDurably } from '../run/storage.js';
import type { RunSummary } from '../run/summary.js';
import { beginRun, type Donor, SHARED_JSON } from './begin-run.js';
import { asMarkdown } from './markdown.js';
import { finishedStages, finishedSummary, measure, type Measurement } from './measure.js';
import {
  checkSeeds,
  COMPARE_JSON,
  COMPARE_MARKDOWN,
  comparedSettings,
  completeContestants,
  type Contestant,
  type Entry,
  type Member,
  membersOf,
  recordOf,
  unequalGround,
} from './plan.js';
import { accuracyRows, type Comparison, consistencyRows, type RunOutcome } from './results.js';

// Several methods from one M1, with several seeds: run after run in folders of their own, each begun with whatever
// stages an earlier run has done already. Everything that a killed process needs to go on is in those folders.

export interface CompareOptions {
  seeds: readonly number[];
  /** Folder of the comparison; every run has a folder NAME/seed-S in it. */
  output: string;
  /** Saves the step in progress and rejects with ABORTED; the same call continues. */
  signal?: AbortSignal;
  /** Compare although models, data or measurements differ; every difference becomes a warning. */
  allowDifferent?: boolean;
}

/** A run of the comparison begins, ends, or was finished before. */
export interface MemberEvent {
  type: 'member';
  status: 'started' | 'finished' | 'failed' | 'skipped';
  name: string;
  seed: number;
  directory: string;
  /** 1-based, of `total`. */
  index: number;
  total: number;
  /** Stages that another run has done: stage -> run. */
  shared: Record<string, string>;
}

export type CompareEvent =
  | MemberEvent
  | (RunEvent & { name: string; seed: number })
  | { type: 'warning'; code: string; message: string }
  | { type: 'comparison'; comparison: Comparison };

/** A comparison in progress: iterate over its events, await its result, or both. */
export interface CompareRun extends AsyncIterable<CompareEvent>, AsyncDisposable {
  readonly result: Promise<Comparison>;
}

/** Failures that are results of a method; the comparison goes on with the other runs. */
const METHOD_FAILURES: ReadonlySet<string> = new Set(['DIVERGED', 'NO_PAIRS']);

/**
 * Runs every contestant with every seed and compares them. Throws INVALID_ARGUMENT and INVALID_CONFIG at once; all
 * else rejects `result` and ends the iteration. Called again with the same arguments it continues, or reads what is done.
 */
export function compareRuns(contestants: readonly Contestant[], options: CompareOptions): CompareRun {
  checkSeeds(options.seeds);
  const complete = completeContestants(contestants);
  const queue = new EventQueue<CompareEvent>();
  const controller = new AbortController();
  const { signal } = options;
  const either = signal === undefined ? controller.signal : AbortSignal.any([signal, controller.signal]);
  const work = new Work(complete, { ...options, signal: either }, (event) => queue.push(event));
  const result = work.run();
  result.then(
    () => queue.close(),
    (error: unknown) => queue.close({ error }), // also: a host that only iterates has no unhandled rejection
  );
  return {
    result,
    [Symbol.asyncIterator]: () => queue[Symbol.asyncIterator](),
    [Symbol.asyncDispose]: async () => {
      controller.abort();
      await result.catch(() => undefined);
    },
  };
}

class Work {
  readonly #contestants: readonly { name: string; config: CreamConfig }[];
  readonly #options: CompareOptions & { signal: AbortSignal };
  readonly #emit: (event: CompareEvent) => void;
  readonly #output: string;
  readonly #measurements = new Map<string, Map<number, Measurement>>();
  readonly #outcomes = new Map<Member, RunOutcome>();
  #entries: Entry[] = [];
  #members: Member[] = [];
  #warnings: string[] = [];
  /** run.json of the comparison's first run: date, versions and threads hold for all. */
  #reference: RunRecord | undefined;

  constructor(
    contestants: readonly { name: string; config: CreamConfig }[],
    options: CompareOptions & { signal: AbortSignal },
    emit: (event: CompareEvent) => void,
  ) {
    this.#contestants = contestants;
    this.#options = options;
    this.#emit = emit;
    this.#output = resolve(options.output);
  }

  async run(): Promise<Comparison> {
    await this.#plan();
    await makeFolder(this.#output);
    const lock = await lockFolder(this.#output);
    try {
      await this.#claimFolder();
      for (const [index, member] of this.#members.entries()) {
        this.#throwIfAborted();
        await this.#runMember(member, index + 1);
        await this.#save();
      }
      const comparison = this.#comparison();
      this.#emit({ type: 'comparison', comparison });
      return comparison;
    } finally {
      await lock.release();
    }
  }

  /** Digests every input once, and refuses what would mislead. */
  async #plan(): Promise<void> {
    const known = new Map<string, ReturnType<typeof fileRecord>>();
    const digest = (path: string) => {
      const found = known.get(path) ?? fileRecord(path);
      known.set(path, found);
      return found;
    };
    for (const { name, config } of this.#contestants) {
      this.#throwIfAborted();
      this.#entries.push({ name, config, inputs: await digestInputs(config, digest) });
    }
    const unequal = unequalGround(this.#entries);
    if (unequal.length > 0 && this.#options.allowDifferent !== true) {
      throw new CreamError(
        'INVALID_CONFIG',
        `these do not start from the same M1, or are not measured on the same data:\n  ${unequal.join('\n  ')}\n` +
          'make them equal, or allow different ones (--allow-different) and read the table accordingly',
      );
    }
    this.#warnings = unequal.map((line) => `not the same for all: ${line}`);
    for (const message of this.#warnings) this.#emit({ type: 'warning', code: 'not-the-same', message });
    this.#members = membersOf(this.#entries, this.#options.seeds, this.#output);
  }

  async #claimFolder(): Promise<void> {
    const found = await readdir(this.#output);
    const isOurs = found.includes(COMPARE_JSON);
    const strangers = found.filter((name) => !/^(lock\.\d+|\.tmp-.*)$/.test(name));
    if (!isOurs && strangers.length > 0) {
      throw new CreamError(
        'RUN_MISMATCH',
        `${this.#output} holds files that are no comparison (${strangers.slice(0, 3).join(', ')}); choose another output`,
      );
    }
    if (!isOurs) await this.#save();
    for (const { config } of this.#members) {
      this.#reference ??= await readRecord(config.output);
    }
  }

  async #runMember(member: Member, index: number): Promise<void> {
    const { name, seed, config } = member;
    const directory = config.output;
    const before = await readRecord(directory);
    if (before === undefined && this.#reference !== undefined) {
      await beginRun(recordOf(member, this.#reference), await this.#donors());
    } else if (before !== undefined) {
      this.#checkUnchanged(member, before);
    }
    const shared = (await readShared(directory)) ?? {};
    const event = {
      type: 'member',
      name,
      seed,
      directory,
      index,
      total: this.#members.length,
      shared,
    } as const;
    const outcome = { name, seed, directory, shared };

    let summary = await finishedSummary(config);
    const isDone = summary !== undefined;
    this.#emit({ ...event, status: isDone ? 'skipped' : 'started' });
    if (summary === undefined) {
      try {
        summary = await this.#runToEnd(member);
      } catch (error) {
        if (!isCreamError(error) || !METHOD_FAILURES.has(error.code)) throw error;
        const { code, message } = error;
        this.#emit({ type: 'warning', code, message, name, seed });
        this.#outcomes.set(member, { ...outcome, status: 'failed', failure: { code, message } });
        this.#emit({ ...event, status: 'failed' });
        this.#reference ??= await readRecord(directory);
        return;
      }
    }
    this.#reference ??= await readRecord(directory);
    const byProblem = this.#options.seeds.length === 1;
    const seeds = this.#measurements.get(name) ?? new Map<number, Measurement>();
    this.#measurements.set(name, seeds.set(seed, await measure(summary, { config, byProblem })));
    const own = (await finishedStages(directory)).filter(({ key }) => !(key in shared));
    const seconds = own.reduce((sum, stage) => sum + stage.record.seconds, 0);
    this.#outcomes.set(member, { ...outcome, status: 'finished', seconds, model: summary.model });
    if (!isDone) this.#emit({ ...event, status: 'finished' });
  }

  async #runToEnd({ name, seed, config }: Member): Promise<RunSummary> {
    const run = runCream(config, { signal: this.#options.signal });
    for await (const event of run) this.#emit({ ...event, name, seed });
    return run.result;
  }

  /** A finished run is not opened again, so what the engine would refuse is refused here. */
  #checkUnchanged(member: Member, before: RunRecord): void {
    const changes = differences(before, recordOf(member, this.#reference ?? before));
    if (changes.length === 0) return;
    throw new CreamError(
      'RUN_MISMATCH',
      `${member.config.output} was made with other settings, inputs or versions:\n  ${changes.join('\n  ')}\n` +
        'undo the changes, or choose another output',
    );
  }

  /** Every run that has begun, other seeds' included. */
  async #donors(): Promise<Donor[]> {
    const donors: Donor[] = [];
    for (const { name, seed, config } of this.#members) {
      const record = await readRecord(config.output);
      if (record === undefined) continue;
      const stages = await finishedStages(config.output);
      donors.push({ label: `${name}/seed-${seed}`, directory: config.output, record, stages });
    }
    return donors;
  }

  #comparison(): Comparison {
    const { seeds } = this.#options;
    const names = this.#entries.map(({ name }) => name);
    const runs = this.#members.map(
      (member): RunOutcome =>
        this.#outcomes.get(member) ?? {
          name: member.name,
          seed: member.seed,
          directory: member.config.output,
          status: 'missing',
          shared: {},
        },
    );
    const failed = runs.filter(({ status }) => status === 'failed');
    return {
      version: 1,
      directory: this.#output,
      isComplete: runs.every(({ status }) => status === 'finished'),
      seeds: [...seeds],
      contestants: this.#entries.map(({ name, config: { method } }) => ({
        name,
        ...(method === undefined ? {} : { method }),
      })),
      settings: comparedSettings(this.#entries),
      warnings: [
        ...this.#warnings,
        ...failed.map(
          ({ name, seed, failure }) =>
            `${name} with seed ${seed} is left out, which favours ${name}: ${failure!.message} [${failure!.code}]`,
        ),
      ],
      runs,
      accuracy: accuracyRows(names, seeds, this.#measurements, this.#warnings.length === 0),
      consistency: consistencyRows(names, seeds, this.#measurements),
    };
  }

  /** What is known so far; a reader never sees half of it. */
  async #save(): Promise<void> {
    const comparison = this.#comparison();
    await writeFileDurably(join(this.#output, COMPARE_JSON), `${JSON.stringify(comparison, null, 2)}\n`);
    await writeFileDurably(join(this.#output, COMPARE_MARKDOWN), asMarkdown(comparison));
  }

  #throwIfAborted(): void {
    if (this.#options.signal.aborted)
      throw new CreamError('ABORTED', 'the comparison was interrupted; finished work is kept');
  }
}

const readRecord = async (directory: string) =>
  (await new RunDir(directory).readJson('run.json')) as RunRecord | undefined;
const readShared = async (directory: string) =>
  (await new RunDir(directory).readJson(SHARED_JSON)) as Record<string, string> | undefined;
