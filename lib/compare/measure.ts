import { access } from 'node:fs/promises';
import { join } from 'node:path';
import type { CreamConfig } from '../config.js';
import { CreamError } from '../errors.js';
import { kendallTau, spearman } from '../kendall-tau.js';
import { bootstrapInterval } from '../run/random.js';
import { readRecords } from '../run/records.js';
import { RunDir, type StageRecord } from '../run/run-dir.js';
import { fileRecord } from '../run/storage.js';
import { HARNESS_KINDS, type RunSummary } from '../run/summary.js';
import { type MeanEstimate, meanOf } from '../statistics.js';
import { topOrder } from '../stages/rank.js';
import type { Accuracy, RankedGroup } from '../types.js';

// What a finished run of a comparison contributes to its tables.

/** How a policy and the one before rank the same responses; each a mean over groups. */
export interface Agreement {
  /** "M3" */
  policy: string;
  /** "M2" */
  previous: string;
  /** Groups in which both rankings exist. */
  groups: number;
  /** Of the policy's reward on responses to labelled prompts; null without labels. */
  rankingAccuracy: number | null;
  tau: MeanEstimate;
  spearman: MeanEstimate;
  topOrder: MeanEstimate;
  /** (tau + 1) / 2, whatever metric and rule the run's own weights use. */
  consistency: MeanEstimate;
}

export const AGREEMENT_MEASURES = ['tau', 'spearman', 'topOrder', 'consistency'] as const;

/** One run's numbers. */
export interface Measurement {
  /** model -> column ("sums", "sums sampled") -> accuracy. */
  accuracies: Map<string, Map<string, Accuracy>>;
  /** Of the last policy that sampled with the one before it, and of the final policy with that one. */
  agreements: Agreement[];
  /** Per problem, 1 or 0 or the share of right samples: model -> column -> problem -> value. Only where it was asked for. */
  problems: Map<string, Map<string, Map<string, number>>>;
}

/** The stages of a run that are done; none where the folder has no manifest. */
export async function finishedStages(directory: string): Promise<{ key: string; record: StageRecord }[]> {
  type Manifest = { stages?: { key: string; record: StageRecord }[] } | undefined;
  return ((await new RunDir(directory).readJson('manifest.json')) as Manifest)?.stages ?? [];
}

/**
 * The summary of a run that reached its last iteration and still has the files that are read here. Without them the
 * run is not finished: the engine does their stages again.
 */
export async function finishedSummary(config: CreamConfig): Promise<RunSummary | undefined> {
  const { output: directory, iterations } = config;
  const summary = (await new RunDir(directory).readJson('summary.json')) as RunSummary | undefined;
  if (summary?.iterations.length !== iterations) return undefined;
  if (iterations > 0 && summary.final === undefined) return undefined;
  const ranks = rankFilesOf(config).map(({ file }) => file);
  for (const { record } of await finishedStages(directory)) {
    for (const name of Object.keys(record.files)) {
      if (!ranks.includes(name) && !name.startsWith('evaluation/')) continue;
      const isThere = await access(join(directory, name)).then(
        () => true,
        () => false,
      );
      if (!isThere) return undefined;
    }
  }
  return summary;
}

/** Records of a finished stage's file, which must be as the stage left it. */
async function readVerified<T extends object>(directory: string, name: string): Promise<T[]> {
  const stages = await finishedStages(directory);
  const recorded = stages.find(({ record }) => record.files[name] !== undefined)?.record.files[name];
  const path = join(directory, name);
  if ((await fileRecord(path)).sha256 !== recorded?.sha256) {
    throw new CreamError(
      'RUN_CORRUPT',
      `${path} is not what the run wrote; restore it, or delete it to have its stage and all later ones done again`,
    );
  }
  return readRecords<T>(path);
}

/** The columns of a task: one for each way in which it was measured. */
function columnsOf(task: RunSummary['models'][number]['tasks'][number]): [string, Accuracy][] {
  return Object.entries(task).flatMap(([kind, value]): [string, Accuracy][] => {
    if (typeof value !== 'object' || value === null || !('accuracy' in value)) return [];
    return [[kind === 'greedy' ? task.name : `${task.name} ${kind}`, value]];
  });
}

/** A file of the last iteration's groups in two rankings, and whose they are. */
interface RankFile {
  file: string;
  policy: string;
  previous: string;
}

function rankFilesOf({ iterations, score }: Pick<CreamConfig, 'iterations' | 'score'>): RankFile[] {
  if (iterations === 0) return [];
  const folder = `iteration-${iterations}`;
  const before = score.previousReward === 'anchor' ? 0 : iterations - 1;
  return [
    { file: `${folder}/ranks.jsonl`, policy: `M${iterations}`, previous: `M${before}` },
    { file: `${folder}/final-ranks.jsonl`, policy: `M${iterations + 1}`, previous: `M${iterations}` },
  ];
}

/** Null when no group has two rankings. */
async function agreementOf(
  directory: string,
  { file, policy, previous }: RankFile,
  { seed, rankingAccuracy }: { seed: number; rankingAccuracy: number | null },
): Promise<Agreement | null> {
  const groups = await readVerified<RankedGroup>(directory, file);
  // A group without a tau has none of the others either, whatever metric the run chose.
  const both = groups.filter(({ undefinedBecause }) => undefinedBecause === undefined);
  if (both.length === 0) return null;
  const each = (agreement: (policy: number[], other: number[]) => number) =>
    both.map(({ rewards, previousRewards }) => agreement(rewards!, previousRewards!));
  const taus = each(kendallTau);
  const values = {
    tau: taus,
    spearman: each(spearman),
    topOrder: each(topOrder),
    consistency: taus.map((tau) => (tau + 1) / 2),
  };
  const estimate = (measure: keyof typeof values): MeanEstimate => ({
    mean: meanOf(values[measure]),
    interval: bootstrapInterval(values[measure], seed, `compare/${file}/${measure}`),
    by: 'bootstrap',
    n: both.length,
  });
  const [tau, rho, top, consistency] = AGREEMENT_MEASURES.map(estimate);
  return {
    policy,
    previous,
    groups: both.length,
    rankingAccuracy,
    tau: tau!,
    spearman: rho!,
    topOrder: top!,
    consistency: consistency!,
  };
}

interface Answered {
  id: string;
  task: string;
  [kind: string]: unknown;
}

const isRight = (answer: unknown) => Number((answer as { correct?: unknown } | undefined)?.correct === true);

/** Per problem, how right the model was: 1 or 0, or over samples the share of right ones. */
async function problemsOf(directory: string, file: string): Promise<Map<string, Map<string, number>>> {
  const columns = new Map<string, Map<string, number>>();
  const add = (column: string, id: string, value: number) => {
    const problems = columns.get(column) ?? new Map<string, number>();
    columns.set(column, problems.set(id, value));
  };
  for (const { id, task, greedy, samples, ...kinds } of await readVerified<Answered>(directory, file)) {
    if (greedy !== undefined) add(task, id, isRight(greedy));
    for (const kind of HARNESS_KINDS) {
      if (kinds[kind] !== undefined) add(`${task} ${kind}`, id, isRight(kinds[kind]));
    }
    if (Array.isArray(samples) && samples.length > 0)
      add(`${task} sampled`, id, meanOf(samples.map(isRight)));
  }
  return columns;
}

/** Reads what the tables need of a finished run; `byProblem` also reads its answers. */
export async function measure(
  summary: RunSummary,
  { config, byProblem }: { config: CreamConfig; byProblem: boolean },
): Promise<Measurement> {
  const directory = config.output;
  const last = summary.iterations.at(-1);
  const result: Measurement = {
    accuracies: new Map(
      summary.models.map(({ model, tasks }) => [model, new Map(tasks.flatMap(columnsOf))] as const),
    ),
    agreements: [],
    problems: new Map(),
  };
  const accuracies = [last?.rankingAccuracy, summary.final?.rankingAccuracy];
  for (const [index, ranks] of rankFilesOf(config).entries()) {
    const rankingAccuracy = accuracies[index] ?? null;
    const agreement = await agreementOf(directory, ranks, { seed: summary.seed, rankingAccuracy });
    if (agreement !== null) result.agreements.push(agreement);
  }
  if (!byProblem) return result;
  const files = new Set((await finishedStages(directory)).flatMap(({ record }) => Object.keys(record.files)));
  for (const { model } of summary.models) {
    // M1 is M0 where nothing was fine-tuned, and is measured once.
    const names = [`evaluation/${model}.jsonl`, ...(model === 'M1' ? ['evaluation/M0.jsonl'] : [])];
    const file = names.find((name) => files.has(name));
    if (file !== undefined) result.problems.set(model, await problemsOf(directory, file));
  }
  return result;
}
