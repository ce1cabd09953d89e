import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { finishedStages } from '../lib/compare/measure.js';
import type { RunOutcome } from '../lib/compare/results.js';
import { kendallTau } from '../lib/kendall-tau.js';
import { readRecords } from '../lib/run/records.js';
import type { ConsistencySummary, IterationSummary, TaskSummary } from '../lib/run/summary.js';
import type { PreferencePair, RankedGroup } from '../lib/types.js';

// The numbers of one run, small enough to be committed. Read from what its stages recorded, so that a run that ended
// early has those it came to.

/** What a model answers on the held-out problems. */
export interface ModelRow {
  model: number;
  /** Share of right answers, sampled at temperature 1. */
  sampled: number;
  greedy: number;
  /** Share of sampled answers cut by the length limit. */
  truncated: number;
}

/** What happened from M_t to M_(t+1). */
export interface IterationRow {
  t: number;
  tau: number | null;
  /** Mean C by the run's own rule. */
  consistency: number | null;
  /** Mean tau between the policy's reward and M0's log-likelihood per token, whatever the run itself compares. */
  anchorTau: number | null;
  rankingAccuracy: number | null;
  sampleAccuracy: number | null;
  responseTokens: number;
  truncated: number;
  pairs: number;
  meanWeight: number | null;
  /** Share of pairs with a weight below 1/2. */
  flipped: number;
  /** Share of pairs whose chosen, whose rejected answer is right. */
  chosenRight: number | null;
  rejectedRight: number | null;
  chosenTokens: number | null;
  rejectedTokens: number | null;
  /** Mean change of log-prob, in nats per answer, over the last three steps of training. */
  chosenChange: number | null;
  rejectedChange: number | null;
}

export interface RunRow {
  method: string;
  beta: number;
  status: 'finished' | 'failed';
  failure?: string;
  models: ModelRow[];
  iterations: IterationRow[];
  /** M_(T+1) against M_T on the responses of M_T. */
  final: { tau: number | null; rankingAccuracy: number | null } | null;
}

const round = (value: number) => Number(value.toFixed(5));
const rounded = (value: number | null | undefined) =>
  value === null || value === undefined ? null : round(value);
const mean = (values: readonly number[]) =>
  values.length === 0 ? null : values.reduce((sum, value) => sum + value, 0) / values.length;
const share = (flags: readonly boolean[]) => mean(flags.map(Number));

export async function collectRun(
  run: RunOutcome,
  { method, beta, iterations }: { method: string; beta: number; iterations: number },
): Promise<RunRow> {
  const { directory } = run;
  const stages = new Map((await finishedStages(directory)).map(({ key, record }) => [key, record.result]));
  const resultOf = <T>(key: string) => stages.get(key) as T | undefined;
  const models: ModelRow[] = [];
  for (let model = 0; model <= iterations + 1; model++) {
    const folder = model <= 1 ? '' : `iteration-${model - 1}/`;
    const task = resultOf<{ tasks: TaskSummary[] }>(`${folder}evaluate:M${model}`)?.tasks[0];
    if (task?.sampled === undefined || task.greedy === undefined) continue;
    const { accuracy, truncated, total } = task.sampled;
    models.push({
      model,
      sampled: round(accuracy),
      greedy: round(task.greedy.accuracy),
      truncated: round(truncated / total),
    });
  }
  const rows: IterationRow[] = [];
  for (let t = 1; t <= iterations; t++) {
    const at = <T>(name: string) => resultOf<T>(`iteration-${t}/${name}`);
    if (at(`train:M${t + 1}`) === undefined) break;
    rows.push(await iterationRow(directory, t, beta, at));
  }
  const final = resultOf<{ consistency: ConsistencySummary; rankingAccuracy: number | null }>(
    `iteration-${iterations}/score:M${iterations + 1}`,
  );
  return {
    method,
    beta,
    status: run.status === 'finished' ? 'finished' : 'failed',
    ...(run.failure && { failure: run.failure.code }),
    models,
    iterations: rows,
    final:
      final === undefined
        ? null
        : { tau: rounded(final.consistency.tau), rankingAccuracy: rounded(final.rankingAccuracy) },
  };
}

async function iterationRow(
  directory: string,
  t: number,
  beta: number,
  at: <T>(name: string) => T | undefined,
): Promise<IterationRow> {
  const folder = join(directory, `iteration-${t}`);
  const sampled = at<Pick<IterationSummary, 'responses' | 'truncatedResponses' | 'meanResponseTokens'>>(
    `sample:M${t}`,
  )!;
  const ranked = at<Pick<IterationSummary, 'consistency' | 'rankingAccuracy' | 'sampleAccuracy'>>('rank')!;
  const paired = at<{ pairs: number; meanWeight: number | null; flipped: number }>('pair')!;
  const groups = await readRecords<RankedGroup>(join(folder, 'ranks.jsonl'));
  const pairs = await readRecords<PreferencePair>(join(folder, 'pairs.jsonl'));
  const labels = new Map(groups.map(({ id, label }) => [id, label]));
  const anchors = groups.flatMap(({ rewards, baseLogprobs, numTokens }) => {
    const tau = kendallTau(
      rewards!,
      baseLogprobs!.map((logprob, i) => logprob / numTokens[i]!),
    );
    return Number.isFinite(tau) ? [tau] : [];
  });
  const { chosenChange, rejectedChange } = await changes(directory, t, beta);
  return {
    t,
    tau: rounded(ranked.consistency.tau),
    consistency: rounded(ranked.consistency.mean),
    anchorTau: rounded(mean(anchors)),
    rankingAccuracy: rounded(ranked.rankingAccuracy),
    sampleAccuracy: rounded(ranked.sampleAccuracy),
    responseTokens: round(sampled.meanResponseTokens),
    truncated: round(sampled.truncatedResponses / sampled.responses),
    pairs: paired.pairs,
    meanWeight: rounded(paired.meanWeight),
    flipped: round(paired.flipped / paired.pairs),
    chosenRight: rounded(share(pairs.map(({ id, chosen }) => chosen === labels.get(id)))),
    rejectedRight: rounded(share(pairs.map(({ id, rejected }) => rejected === labels.get(id)))),
    chosenTokens: rounded(mean(pairs.map(({ chosenIds }) => chosenIds.length))),
    rejectedTokens: rounded(mean(pairs.map(({ rejectedIds }) => rejectedIds.length))),
    chosenChange,
    rejectedChange,
  };
}

/** From the last three steps of the iteration: rewards of a step are beta times the change since the iteration began. */
async function changes(directory: string, t: number, beta: number) {
  const steps = (await readFile(join(directory, 'metrics.jsonl'), 'utf8'))
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Record<string, number | string>)
    .filter(({ stream }) => stream === `iteration-${t}/train`)
    .slice(-3);
  const change = (name: string) => rounded(mean(steps.map((step) => Number(step[name]) / beta)));
  return { chosenChange: change('rewards/chosen'), rejectedChange: change('rewards/rejected') };
}
