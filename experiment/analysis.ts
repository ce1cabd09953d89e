import { meanOf } from '../lib/statistics.js';
import type { IterationRow, ModelRow, RunRow } from './collect.js';
import { BASELINE, type Method, type Regime } from './design.js';
import {
  areaUnderRoc,
  bestThreshold,
  type Difference,
  difference,
  holm,
  judgeThreshold,
  type Sign,
  type Threshold,
} from './statistics.js';
import type { UnitResult } from './unit.js';

// What the plan of docs/experiment.md asks of the numbers.

/** All seeds of one regime at one beta. */
export interface Family {
  regime: string;
  beta: number;
  methods: readonly Method[];
  /** Of the final model: T + 1. */
  last: number;
  runsOf(method: Method): SeedRun[];
}

export interface SeedRun {
  seed: number;
  run: RunRow;
}

export function familiesOf(regime: Regime, units: readonly UnitResult[]): Family[] {
  return regime.betas.map((beta) => ({
    regime: regime.name,
    beta,
    methods: regime.methods,
    last: regime.sizes.iterations + 1,
    runsOf: (method) =>
      units.flatMap(({ seed, runs }) =>
        runs.filter((run) => run.method === method && run.beta === beta).map((run) => ({ seed, run })),
      ),
  }));
}

type Measure = 'sampled' | 'greedy' | 'truncated';

/** Of M_model, or of the last model before it where the run ended early. */
export function measured({ models }: RunRow, model: number, measure: Measure): number {
  const row = models.findLast((one) => one.model <= model) as ModelRow;
  return row[measure];
}

export const gainOf = (run: RunRow, last: number) =>
  measured(run, last, 'sampled') - measured(run, 1, 'sampled');
export const bestOf = (run: RunRow) =>
  Math.max(...run.models.filter(({ model }) => model >= 1).map(({ sampled }) => sampled));

/** Sampled accuracy of the final model of one method minus another's, paired by seed. */
export function contrast(family: Family, method: Method, other: Method, measure: Measure = 'sampled') {
  const others = new Map(family.runsOf(other).map(({ seed, run }) => [seed, run]));
  const values = family.runsOf(method).flatMap(({ seed, run }) => {
    const against = others.get(seed);
    return against === undefined
      ? []
      : [measured(run, family.last, measure) - measured(against, family.last, measure)];
  });
  return {
    values,
    difference: difference(values, `${family.regime} ${family.beta} ${method} ${other} ${measure}`),
  };
}

export interface PrimaryRow {
  method: Method;
  difference: Difference;
  values: number[];
  /** Adjusted by Holm over the family; null without a test. */
  adjusted: number | null;
}

export function primary(family: Family): PrimaryRow[] {
  const rows = family.methods
    .filter((method) => method !== BASELINE)
    .flatMap((method) => {
      const { values, difference: found } = contrast(family, method, BASELINE);
      return found === null ? [] : [{ method, values, difference: found }];
    });
  const tested = rows.filter(({ difference: { p } }) => p !== null);
  const adjusted = holm(tested.map(({ difference: { p } }) => p!));
  return rows.map((row) => ({ ...row, adjusted: adjusted[tested.indexOf(row)] ?? null }));
}

export const CONTRASTS: readonly [Method, Method][] = [
  ['cream', 'constant-0.8'],
  ['cream-sample', 'cream'],
  ['anchor-sample', 'cream-sample'],
  ['anchor-dataset', 'cream'],
  ['likelihood-sample', 'cream-sample'],
  ['likelihood-sample', 'anchor-sample'],
  ['likelihood-sample', 'likelihood-reward'],
  ['anchor-sample', 'likelihood-reward'],
  ['anchor-dataset', 'constant-0.55'],
  ['rule-floor', 'cream'],
  ['rule-theorem', 'cream'],
  ['oracle', 'cream'],
  ['oracle', 'constant-0.8'],
  ['oracle', 'anchor-sample'],
];

/** Seeds whose first iteration has a C below 1/2 (M_1's reward against M_0's likelihood, the same for all), and the others. */
export function seedsByFirstC(family: Family): { low: Set<number>; high: Set<number> } {
  const sides = { low: new Set<number>(), high: new Set<number>() };
  for (const { seed, run } of family.runsOf(BASELINE)) {
    const tau = run.iterations[0]?.tau ?? null;
    if (tau !== null) sides[tau < 0 ? 'low' : 'high'].add(seed);
  }
  return sides;
}

/** Mean over seeds of a number of iteration t; null where no run has it. */
export function meanAt(
  runs: readonly SeedRun[],
  t: number,
  numberOf: (row: IterationRow) => number | null,
): number | null {
  const values = runs.flatMap(({ run }) => {
    const row = run.iterations.find((one) => one.t === t);
    const value = row === undefined ? null : numberOf(row);
    return value === null ? [] : [value];
  });
  return values.length === 0 ? null : meanOf(values);
}

/** A fall of sampled accuracy from M_t to M_(t+1) that a warning should tell before. */
export const BAD_FALL = 0.02;

export interface Indicator {
  name: string;
  needsLabels: boolean;
  /** A high value warns; else a low one does. */
  isHighBad?: boolean;
  of: (row: IterationRow) => number | null;
  /** Only from this iteration on does it say something. */
  from: number;
}

const perToken = (change: number | null, tokens: number | null) =>
  change === null || tokens === null ? null : change / tokens;
const chosen = (row: IterationRow) => perToken(row.chosenChange, row.chosenTokens);
const rejected = (row: IterationRow) => perToken(row.rejectedChange, row.rejectedTokens);

/** Those of training are known only after it, when M_(t+1) exists and M_t is still there. */
export const INDICATORS: readonly Indicator[] = [
  { name: 'ranking accuracy', needsLabels: true, from: 1, of: (row) => row.rankingAccuracy },
  { name: 'chosen answers that are right', needsLabels: true, from: 1, of: (row) => row.chosenRight },
  {
    name: "tau of the reward and M_0's likelihood",
    needsLabels: false,
    from: 1,
    of: (row) => row.anchorTau,
  },
  { name: "the run's own tau, low", needsLabels: false, from: 1, of: (row) => row.tau },
  {
    name: "the run's own tau from t = 2 on, high",
    needsLabels: false,
    isHighBad: true,
    from: 2,
    of: (row) => row.tau,
  },
  { name: 'chosen log-prob, nats a token', needsLabels: false, from: 1, of: chosen },
  { name: 'rejected log-prob, nats a token', needsLabels: false, from: 1, of: rejected },
  {
    name: 'chosen minus rejected, high',
    needsLabels: false,
    isHighBad: true,
    from: 1,
    of: (row) => {
      const [up, down] = [chosen(row), rejected(row)];
      return up === null || down === null ? null : up - down;
    },
  },
];

const isEven = ({ seed }: SeedRun) => seed % 2 === 0;

/** The number with its sign turned where a high one warns: what is low warns. */
function signal({ of, from, isHighBad }: Indicator, row: IterationRow): number | null {
  const value = row.t < from ? null : of(row);
  return value === null || isHighBad !== true ? value : -value;
}

function signsOf(runs: readonly SeedRun[], indicator: Indicator): Sign[] {
  return runs.flatMap(({ run }) =>
    run.iterations.flatMap((row) => {
      const value = signal(indicator, row);
      if (value === null) return [];
      const change = measured(run, row.t + 1, 'sampled') - measured(run, row.t, 'sampled');
      return [{ value, isBad: change < -BAD_FALL }];
    }),
  );
}

/** The model that is kept when iterating ends at the first warning. */
function keptModel({ run }: SeedRun, indicator: Indicator, below: number): number {
  const warned = run.iterations.find((row) => (signal(indicator, row) ?? Infinity) < below);
  return warned?.t ?? run.iterations.length + 1;
}

export interface WarningRow {
  name: string;
  needsLabels: boolean;
  auc: number | null;
  /** Warn below it, or above it where a high number is bad. */
  threshold: number;
  isHighBad: boolean;
  judged: Threshold;
  /** Sampled accuracy of the model kept, of the final one, and of the best, over the runs judged. */
  kept: number;
  final: number;
  best: number;
}

const runsOf = (families: readonly Family[]) =>
  families.flatMap((family) =>
    family.methods.filter((method) => method !== 'oracle').flatMap((method) => family.runsOf(method)),
  );

/** The threshold of every indicator that even seeds choose, its sign turned where a high number is bad. */
export function thresholdsOf(families: readonly Family[]): Map<string, number> {
  const runs = runsOf(families).filter(isEven);
  return new Map(
    INDICATORS.flatMap((indicator) => {
      const best = bestThreshold(signsOf(runs, indicator));
      return best === null ? [] : [[indicator.name, best.below] as const];
    }),
  );
}

/** How well each number warns, over every run of the families but the Oracle's: of odd seeds alone, or of all. */
export function warnings(
  families: readonly Family[],
  thresholds: ReadonlyMap<string, number>,
  judge: 'odd' | 'all',
): WarningRow[] {
  const all = runsOf(families);
  const judged = judge === 'all' ? all : all.filter((one) => !isEven(one));
  if (judged.length === 0) return [];
  const last = families[0]!.last;
  return INDICATORS.flatMap((indicator) => {
    const { name, needsLabels, isHighBad = false } = indicator;
    const below = thresholds.get(name);
    if (below === undefined) return [];
    return [
      {
        name,
        needsLabels,
        isHighBad,
        auc: areaUnderRoc(signsOf(all, indicator)),
        threshold: isHighBad ? -below : below,
        judged: judgeThreshold(signsOf(judged, indicator), below),
        kept: meanOf(judged.map((one) => measured(one.run, keptModel(one, indicator, below), 'sampled'))),
        final: meanOf(judged.map(({ run }) => measured(run, last, 'sampled'))),
        best: meanOf(judged.map(({ run }) => bestOf(run))),
      },
    ];
  });
}
