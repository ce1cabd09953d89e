import type { MethodName } from '../methods.js';
import { type MeanEstimate, meanOf, stratifiedMean, studentMean } from '../statistics.js';
import type { Accuracy } from '../types.js';
import { AGREEMENT_MEASURES, type Measurement } from './measure.js';

// The tables of a comparison: means over seeds with intervals, and paired differences against the first contestant.

/** compare.json, the last event of a comparison, and the result of compareRuns(). */
export interface Comparison {
  version: 1;
  directory: string;
  /** False while runs are missing. */
  isComplete: boolean;
  seeds: number[];
  contestants: { name: string; method?: MethodName }[];
  /** Settings in which the contestants differ: setting -> contestant -> value. */
  settings: Record<string, Record<string, string>>;
  /** What a reader must know before he reads the numbers. */
  warnings: string[];
  runs: RunOutcome[];
  accuracy: AccuracyRow[];
  consistency: ConsistencyRow[];
}

/** One run of a comparison. */
export interface RunOutcome {
  name: string;
  seed: number;
  directory: string;
  status: 'finished' | 'failed' | 'missing';
  /** Of a run that could not be brought to its end. */
  failure?: { code: string; message: string };
  /** Stages that another run of the comparison had done: stage -> that run. */
  shared: Record<string, string>;
  /** Seconds of the run's own work; shared stages count where they were done. */
  seconds?: number;
  /** Folder of the final policy. */
  model?: string;
}

/** The accuracy of one model of a contestant, a cell per task and way of measuring it. */
export interface AccuracyRow {
  /** null where all contestants have this model in common. */
  name: string | null;
  model: string;
  cells: Record<string, AccuracyCell>;
}

export interface AccuracyCell extends MeanEstimate {
  /** One accuracy per seed, null where that run is not finished. */
  values: (number | null)[];
  /** Against the same model of the first contestant, paired by seed (one seed: by problem). */
  difference?: MeanEstimate;
}

/** How a policy of a contestant agrees with the one before, on the responses of the last iteration. */
export interface ConsistencyRow {
  name: string;
  /** "M3" and "M2" */
  policy: string;
  previous: string;
  tau: MeanEstimate;
  spearman: MeanEstimate;
  topOrder: MeanEstimate;
  consistency: MeanEstimate;
  rankingAccuracy: MeanEstimate | null;
  /** Against the first contestant, paired by seed; only with two or more seeds. */
  differences?: Partial<Record<(typeof AGREEMENT_MEASURES)[number] | 'rankingAccuracy', MeanEstimate | null>>;
}

/** name -> seed -> what was measured. */
export type Measurements = ReadonlyMap<string, ReadonlyMap<number, Measurement>>;

const isNumber = (value: number | null | undefined): value is number => typeof value === 'number';

/** A column of the accuracy table: one task measured in one way, or the mean over all tasks measured in that way. */
interface Column {
  name: string;
  /** "sums", "sums sampled" */
  tasks: string[];
}

/** Every task's columns, and a mean for each way of measuring that two or more tasks have. */
function columnsOf(measurements: Measurements): Column[] {
  const cells = [...measurements.values()].flatMap((seeds) =>
    [...seeds.values()].flatMap(({ accuracies }) => [...accuracies.values()]),
  );
  const names = [...new Set(cells.flatMap((columns) => [...columns.keys()]))];
  // Names of tasks have no spaces: what follows the first one is the way of measuring.
  const kindOf = (name: string) => name.split(' ').slice(1).join(' ');
  const mean = names.includes('mean') ? 'mean-of-tasks' : 'mean';
  const means = [...new Set(names.map(kindOf))].flatMap((kind): Column[] => {
    const tasks = names.filter((name) => kindOf(name) === kind);
    return tasks.length < 2 ? [] : [{ name: kind === '' ? mean : `${mean} ${kind}`, tasks }];
  });
  return [...names.map((name) => ({ name, tasks: [name] })), ...means];
}

/** A model's accuracy in a column, which may be a mean; null where one of its tasks is missing. */
function accuracyIn(measurement: Measurement | undefined, model: string, tasks: readonly string[]) {
  const cells = measurement?.accuracies.get(model);
  const values = tasks.map((task) => cells?.get(task)?.accuracy);
  return values.every(isNumber) ? meanOf(values) : null;
}

/** With a single seed the spread is that of the problems. */
function overProblems(
  measurement: Measurement | undefined,
  model: string,
  tasks: readonly string[],
  minus?: Measurement,
): MeanEstimate | null {
  const strata = tasks.map((task) => {
    const problems = measurement?.problems.get(model)?.get(task);
    const others = minus?.problems.get(model)?.get(task);
    return [...(problems ?? [])].flatMap(([id, value]) => {
      if (minus === undefined) return [value];
      const other = others?.get(id);
      return other === undefined ? [] : [value - other];
    });
  });
  return stratifiedMean(strata);
}

function cellOf(
  name: string,
  model: string,
  tasks: readonly string[],
  { measurements, seeds, first }: { measurements: Measurements; seeds: readonly number[]; first: string },
): AccuracyCell | null {
  const of = (contestant: string) => seeds.map((seed) => measurements.get(contestant)?.get(seed));
  const own = of(name);
  const values = own.map((measurement) => accuracyIn(measurement, model, tasks));
  const found = values.filter(isNumber);
  const estimate = studentMean(found);
  if (estimate === null) return null;
  const isSingle = seeds.length === 1;
  const single = isSingle ? singleEstimate(own[0], model, tasks) : null;
  const cell: AccuracyCell = { ...(single ?? estimate), values };
  if (name === first) return cell;

  const others = of(first);
  const differences = values.flatMap((value, index) => {
    const other = accuracyIn(others[index], model, tasks);
    return value === null || other === null ? [] : [value - other];
  });
  const difference =
    isSingle && others[0] !== undefined
      ? overProblems(own[0], model, tasks, others[0])
      : studentMean(differences);
  return difference === null ? cell : { ...cell, difference };
}

function singleEstimate(measurement: Measurement | undefined, model: string, tasks: readonly string[]) {
  const cells = measurement?.accuracies.get(model);
  if (tasks.length > 1) return overProblems(measurement, model, tasks);
  const accuracy: Accuracy | undefined = cells?.get(tasks[0]!);
  if (accuracy === undefined) return null;
  const { accuracy: mean, interval, total: n } = accuracy;
  return { mean, interval, by: 'wilson', n } satisfies MeanEstimate;
}

/** M0, M1, ... of every contestant; M0 and M1 once where they are the same models for all (`isOneM1`). */
export function accuracyRows(
  names: readonly string[],
  seeds: readonly number[],
  measurements: Measurements,
  isOneM1: boolean,
): AccuracyRow[] {
  const columns = columnsOf(measurements);
  const modelsOf = (name: string) => {
    const all = [...(measurements.get(name)?.values() ?? [])].flatMap(({ accuracies }) => [
      ...accuracies.keys(),
    ]);
    return [...new Set(all)].toSorted((a, b) => Number(a.slice(1)) - Number(b.slice(1)));
  };
  const row = (name: string, model: string): AccuracyRow => ({
    name,
    model,
    cells: Object.fromEntries(
      columns.flatMap((column) => {
        const cell = cellOf(name, model, column.tasks, { measurements, seeds, first: names[0]! });
        return cell === null ? [] : [[column.name, cell] as const];
      }),
    ),
  });
  const rows = names.flatMap((name) => modelsOf(name).map((model) => row(name, model)));
  const common = isOneM1 ? ['M0', 'M1'].flatMap((model) => commonRow(rows, model)) : [];
  const isCommon = (model: string) => common.some((one) => one.model === model);
  return [...common, ...rows.filter(({ model }) => !isCommon(model))].filter(
    ({ cells }) => Object.keys(cells).length > 0,
  );
}

/** The row of a model that every contestant has, from the contestant with the most finished runs. */
function commonRow(rows: readonly AccuracyRow[], model: string): AccuracyRow[] {
  const count = ({ cells }: AccuracyRow) => Object.values(cells)[0]?.values.filter(isNumber).length ?? 0;
  const [most, ...rest] = rows.filter((row) => row.model === model).toSorted((a, b) => count(b) - count(a));
  if (most === undefined) return [];
  const isSame = rest.every(({ cells }) =>
    Object.entries(cells).every(([column, { values }]) =>
      values.every((value, index) => value === null || value === most.cells[column]?.values[index]),
    ),
  );
  if (!isSame) return [];
  const cells = Object.entries(most.cells).map(([column, { difference: _, ...cell }]) => [column, cell]);
  return [{ name: null, model, cells: Object.fromEntries(cells) as AccuracyRow['cells'] }];
}

const RANKING_MEASURES = [...AGREEMENT_MEASURES, 'rankingAccuracy'] as const;
type RankingMeasure = (typeof RANKING_MEASURES)[number];

/** For every contestant that has a finished run: its last sampled policy, and its final one. */
export function consistencyRows(
  names: readonly string[],
  seeds: readonly number[],
  measurements: Measurements,
): ConsistencyRow[] {
  const first = names[0]!;
  const isSingle = seeds.length === 1;
  const find = (name: string, seed: number, policy: string) =>
    measurements
      .get(name)
      ?.get(seed)
      ?.agreements.find((agreement) => agreement.policy === policy);
  const found = (name: string, seed: number, policy: string, measure: RankingMeasure) => {
    const agreement = find(name, seed, policy);
    if (measure === 'rankingAccuracy') return agreement?.rankingAccuracy ?? null;
    return agreement?.[measure].mean ?? null;
  };

  const rowOf = (name: string, policy: string): ConsistencyRow => {
    const some = seeds.flatMap((seed) => find(name, seed, policy) ?? [])[0]!;
    const over = (measure: RankingMeasure) =>
      studentMean(seeds.map((seed) => found(name, seed, policy, measure)).filter(isNumber));
    const [tau, spearman, topOrder, consistency] = AGREEMENT_MEASURES.map((measure) =>
      isSingle ? some[measure] : over(measure)!,
    );
    const row = {
      name,
      policy,
      previous: some.previous,
      tau: tau!,
      spearman: spearman!,
      topOrder: topOrder!,
      consistency: consistency!,
      rankingAccuracy: over('rankingAccuracy'),
    };
    if (name === first || isSingle) return row;
    const differences = RANKING_MEASURES.map((measure) => {
      const paired = seeds.flatMap((seed) => {
        const [own, other] = [name, first].map((one) => found(one, seed, policy, measure));
        return isNumber(own) && isNumber(other) ? [own - other] : [];
      });
      return [measure, studentMean(paired)] as const;
    });
    return { ...row, differences: Object.fromEntries(differences) };
  };

  return names.flatMap((name) => {
    const agreements = [...(measurements.get(name)?.values() ?? [])].flatMap((one) => one.agreements);
    const policies = new Set(agreements.map(({ policy }) => policy));
    return [...policies]
      .toSorted((a, b) => Number(a.slice(1)) - Number(b.slice(1)))
      .filter((policy) => seeds.some((seed) => find(name, seed, policy)))
      .map((policy) => rowOf(name, policy));
  });
}
