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
  ['rule-floor', 'cream'],
  ['rule-theorem', 'cream'],
  ['oracle', 'cream'],
  ['oracle', 'constant-0.8'],
  ['oracle', 'anchor-sample'],
];

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
  of: (row: IterationRow) => number | null;
  /** Only from this iteration on does it say something. */
  from: number;
}

/** Low values are to warn. Those of training are known only after it, when M_(t+1) exists and M_t is still there. */
export const INDICATORS: readonly Indicator[] = [
  { name: 'ranking accuracy', needsLabels: true, from: 1, of: (row) => row.rankingAccuracy },
  { name: "tau against M_0's likelihood", needsLabels: false, from: 1, of: (row) => row.anchorTau },
  { name: 'C, or tau, against M_(t-1)', needsLabels: false, from: 1, of: (row) => row.tau },
  { name: 'the same from t = 2 on', needsLabels: false, from: 2, of: (row) => row.tau },
  { name: 'change of chosen log-prob', needsLabels: false, from: 1, of: (row) => row.chosenChange },
  { name: 'change of rejected log-prob', needsLabels: false, from: 1, of: (row) => row.rejectedChange },
  {
    name: 'margin of the changes, high',
    needsLabels: false,
    from: 1,
    of: ({ chosenChange, rejectedChange }) =>
      chosenChange === null || rejectedChange === null ? null : rejectedChange - chosenChange,
  },
  { name: 'chosen answers that are right', needsLabels: true, from: 1, of: (row) => row.chosenRight },
];

const isEven = ({ seed }: SeedRun) => seed % 2 === 0;

function signsOf(runs: readonly SeedRun[], { of, from }: Indicator): Sign[] {
  return runs.flatMap(({ run }) =>
    run.iterations.flatMap((row) => {
      const value = of(row);
      if (value === null || row.t < from) return [];
      const change = measured(run, row.t + 1, 'sampled') - measured(run, row.t, 'sampled');
      return [{ value, isBad: change < -BAD_FALL }];
    }),
  );
}

/** The model that is kept when iterating ends at the first warning. */
function keptModel({ run }: SeedRun, { of, from }: Indicator, below: number): number {
  const warned = run.iterations.find((row) => row.t >= from && (of(row) ?? Infinity) < below);
  return warned?.t ?? run.iterations.length + 1;
}

export interface WarningRow {
  name: string;
  needsLabels: boolean;
  auc: number | null;
  chosenOnEven: Threshold;
  onOdd: Threshold;
  /** Over odd seeds: sampled accuracy of the model kept, of the final one, and of the best. */
  kept: number;
  final: number;
  best: number;
}

/** How well each number warns, over every run of the families but the Oracle's. */
export function warnings(families: readonly Family[]): WarningRow[] {
  const runs = families.flatMap((family) =>
    family.methods.filter((method) => method !== 'oracle').flatMap((method) => family.runsOf(method)),
  );
  const odd = runs.filter((one) => !isEven(one));
  const last = families[0]?.last ?? 0;
  return INDICATORS.flatMap((indicator) => {
    const threshold = bestThreshold(signsOf(runs.filter(isEven), indicator));
    if (threshold === null || odd.length === 0) return [];
    const { name, needsLabels } = indicator;
    const keptOf = (one: SeedRun) => measured(one.run, keptModel(one, indicator, threshold.below), 'sampled');
    return [
      {
        name,
        needsLabels,
        auc: areaUnderRoc(signsOf(runs, indicator)),
        chosenOnEven: threshold,
        onOdd: judgeThreshold(signsOf(odd, indicator), threshold.below),
        kept: meanOf(odd.map(keptOf)),
        final: meanOf(odd.map(({ run }) => measured(run, last, 'sampled'))),
        best: meanOf(odd.map(({ run }) => bestOf(run))),
      },
    ];
  });
}
