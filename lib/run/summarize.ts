import type { CreamConfig } from '../config.js';
import type { NoPairReason, PairChoices } from '../types.js';
import type { StageRecord, Warning } from './run-dir.js';
import type { Run } from './run.js';
import type {
  ConsistencySummary,
  EarlierAgreement,
  FinalRanking,
  IterationSummary,
  ModelSummary,
  RunSummary,
  TaskMeans,
  TaskSummary,
} from './summary.js';

// summary.json from the manifest: every number was written down by the stage that found it.

/** What is done of a run: its settings and the finished stages, in order. */
export interface Progress {
  config: Pick<CreamConfig, 'iterations' | 'output' | 'seed'>;
  stages: readonly { key: string; record: StageRecord }[];
  warnings: readonly Warning[];
}

export const progressOf = (run: Run): Progress => ({
  config: run.config,
  stages: run.dir.stages,
  warnings: run.warnings,
});

/** The result that a finished stage recorded; the fields are those that lib/cream.ts puts there. */
const resultOf = <T>(record: StageRecord | undefined): Partial<T> => (record?.result ?? {}) as Partial<T>;

const recordOf = ({ stages }: Progress, key: string) => stages.find((stage) => stage.key === key)?.record;

/** One iteration as far as it went: what no finished stage has found is not there. */
export type PartialIteration = Partial<IterationSummary> & Pick<IterationSummary, 'iteration' | 'seconds'>;

export function iterationSoFar(progress: Progress, t: number): PartialIteration {
  const stage = (name: string) => recordOf(progress, `iteration-${t}/${name}`);
  type Sampled = Pick<
    IterationSummary,
    'prompts' | 'responses' | 'truncatedResponses' | 'emptyResponses' | 'meanResponseTokens'
  >;
  type Ranked = {
    consistency: ConsistencySummary;
    rankingAccuracy: number | null;
    rewardCorrelation: number | null;
    sampleAccuracy: number | null;
    history: EarlierAgreement[];
  };
  type Paired = {
    pairs: number;
    droppedGroups: Partial<Record<NoPairReason, number>>;
    meanWeight: number | null;
    flipped: number;
    choices: PairChoices;
  };
  const { prompts, responses, truncatedResponses, emptyResponses, meanResponseTokens } = resultOf<Sampled>(
    stage(`sample:M${t}`),
  );
  const { rewardNoise, policyFrom, sampler } = resultOf<
    Pick<IterationSummary, 'rewardNoise' | 'policyFrom' | 'sampler'>
  >(stage(`score:M${t}`));
  const { consistency, rankingAccuracy, rewardCorrelation, sampleAccuracy, history } = resultOf<Ranked>(
    stage('rank'),
  );
  const { pairs, droppedGroups, meanWeight, choices } = resultOf<Paired>(stage('pair'));
  const { metrics } = resultOf<Pick<IterationSummary, 'metrics'>>(stage(`train:M${t + 1}`));
  const seconds: Record<string, number> = {};
  for (const { key, record } of progress.stages) {
    if (!key.startsWith(`iteration-${t}/`)) continue;
    const name = key.replace(/^.*\//, '').replace(/:.*$/, '');
    seconds[name] = (seconds[name] ?? 0) + record.seconds;
  }
  const found = {
    prompts,
    responses,
    truncatedResponses,
    emptyResponses,
    meanResponseTokens,
    consistency,
    rewardNoise,
    policyFrom,
    sampler,
    pairs,
    droppedGroups,
    meanWeight,
    choices,
    history,
    rankingAccuracy,
    rewardCorrelation,
    sampleAccuracy,
    metrics,
  };
  const present = Object.entries(found).filter(([, value]) => value !== undefined);
  return { iteration: t, ...Object.fromEntries(present), seconds };
}

function iterationSummary(progress: Progress, t: number): IterationSummary | undefined {
  const iteration = iterationSoFar(progress, t);
  if (recordOf(progress, `iteration-${t}/train:M${t + 1}`) === undefined) return undefined;
  if (iteration.consistency === undefined) return undefined;
  return {
    prompts: 0,
    responses: 0,
    truncatedResponses: 0,
    emptyResponses: 0,
    meanResponseTokens: 0,
    pairs: 0,
    droppedGroups: {},
    meanWeight: null,
    rankingAccuracy: null,
    sampleAccuracy: null,
    metrics: {},
    ...iteration,
    consistency: iteration.consistency,
  };
}

/** M0 ... M_last with what was measured of them. */
export function modelsSoFar(
  progress: Progress,
  last: number,
  directoryOf: (model: number) => string,
): ModelSummary[] {
  const measured = (number: number) => {
    const iteration = number <= 1 ? '' : `iteration-${number - 1}/`;
    return resultOf<{ tasks: TaskSummary[]; mean: TaskMeans }>(
      recordOf(progress, `${iteration}evaluate:M${number}`),
    );
  };
  return Array.from({ length: last + 1 }, (_, number): ModelSummary => {
    const isBase = directoryOf(number) === directoryOf(0);
    const { tasks = [], mean } = measured(isBase ? 0 : number);
    return {
      model: `M${number}`,
      directory: directoryOf(number),
      tasks,
      ...(mean && { mean }),
      ...(number < 2 ? {} : { iteration: number - 1 }),
    };
  });
}

/** The run so far. `directoryOf` gives the checkpoint folder of a model. */
export function summarize(run: Run, directoryOf: (model: number) => string): RunSummary {
  const progress = progressOf(run);
  const { config, stages, warnings } = progress;
  const iterations = Array.from({ length: config.iterations }, (_, i) =>
    iterationSummary(progress, i + 1),
  ).filter((summary) => summary !== undefined);
  const last = iterations.length + 1;
  const { consistency, rankingAccuracy } = resultOf<FinalRanking>(
    recordOf(progress, `iteration-${last - 1}/score:M${last}`),
  );
  return {
    directory: config.output,
    model: directoryOf(last),
    seed: config.seed,
    models: modelsSoFar(progress, last, directoryOf),
    iterations,
    ...(consistency && { final: { consistency, rankingAccuracy: rankingAccuracy ?? null } }),
    warnings: [...warnings, ...stages.flatMap(({ record }) => record.warnings)],
    seconds: stages.reduce((sum, { record }) => sum + record.seconds, 0),
  };
}
