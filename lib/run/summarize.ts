import type { NoPairReason, PairChoices } from '../types.js';
import type { StageRecord } from './run-dir.js';
import type { Run } from './run.js';
import type {
  ConsistencySummary,
  EarlierAgreement,
  FinalRanking,
  IterationSummary,
  ModelSummary,
  RunSummary,
  TaskSummary,
} from './summary.js';

// summary.json from the manifest: every number was written down by the stage that found it.

/** The result that a finished stage recorded; the fields are those that lib/cream.ts puts there. */
const resultOf = <T>(record: StageRecord | undefined): Partial<T> => (record?.result ?? {}) as Partial<T>;

function iterationSummary(run: Run, t: number): IterationSummary | undefined {
  const stage = (name: string) => run.dir.done(`iteration-${t}/${name}`);
  const train = stage(`train:M${t + 1}`);
  const rank = resultOf<{
    consistency: ConsistencySummary;
    rankingAccuracy: number | null;
    sampleAccuracy: number | null;
    history: EarlierAgreement[];
  }>(stage('rank'));
  if (train === undefined || rank.consistency === undefined) return undefined;
  const sample = resultOf<
    Pick<
      IterationSummary,
      'prompts' | 'responses' | 'truncatedResponses' | 'emptyResponses' | 'meanResponseTokens'
    >
  >(stage(`sample:M${t}`));
  const pair = resultOf<{
    pairs: number;
    droppedGroups: Partial<Record<NoPairReason, number>>;
    meanWeight: number | null;
    choices: PairChoices;
  }>(stage('pair'));
  const seconds: Record<string, number> = {};
  for (const { key, record } of run.dir.stages) {
    if (!key.startsWith(`iteration-${t}/`)) continue;
    const name = key.replace(/^.*\//, '').replace(/:.*$/, '');
    seconds[name] = (seconds[name] ?? 0) + record.seconds;
  }
  return {
    iteration: t,
    prompts: sample.prompts ?? 0,
    responses: sample.responses ?? 0,
    truncatedResponses: sample.truncatedResponses ?? 0,
    emptyResponses: sample.emptyResponses ?? 0,
    meanResponseTokens: sample.meanResponseTokens ?? 0,
    consistency: rank.consistency,
    pairs: pair.pairs ?? 0,
    droppedGroups: pair.droppedGroups ?? {},
    meanWeight: pair.meanWeight ?? null,
    ...(pair.choices === undefined ? {} : { choices: pair.choices }),
    ...(rank.history === undefined ? {} : { history: rank.history }),
    rankingAccuracy: rank.rankingAccuracy ?? null,
    sampleAccuracy: rank.sampleAccuracy ?? null,
    metrics: resultOf<{ metrics: Record<string, number> }>(train).metrics ?? {},
    seconds,
  };
}

/** The run so far. `directoryOf` gives the checkpoint folder of a model. */
export function summarize(run: Run, directoryOf: (model: number) => string): RunSummary {
  const iterations = Array.from({ length: run.config.iterations }, (_, i) =>
    iterationSummary(run, i + 1),
  ).filter((summary) => summary !== undefined);
  const last = iterations.length + 1;
  const tasksOf = (number: number) => {
    const iteration = number <= 1 ? '' : `iteration-${number - 1}/`;
    return resultOf<{ tasks: TaskSummary[] }>(run.dir.done(`${iteration}evaluate:M${number}`)).tasks;
  };
  const models = Array.from({ length: last + 1 }, (_, number): ModelSummary => {
    const isBase = directoryOf(number) === directoryOf(0);
    return {
      model: `M${number}`,
      directory: directoryOf(number),
      tasks: tasksOf(isBase ? 0 : number) ?? [],
      ...(number < 2 ? {} : { iteration: number - 1 }),
    };
  });
  const { consistency, rankingAccuracy } = resultOf<FinalRanking>(
    run.dir.done(`iteration-${last - 1}/score:M${last}`),
  );
  return {
    directory: run.config.output,
    model: directoryOf(last),
    seed: run.config.seed,
    models,
    iterations,
    ...(consistency && { final: { consistency, rankingAccuracy: rankingAccuracy ?? null } }),
    warnings: [...run.warnings, ...run.dir.stages.flatMap(({ record }) => record.warnings)],
    seconds: run.dir.stages.reduce((sum, { record }) => sum + record.seconds, 0),
  };
}
