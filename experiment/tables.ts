import {
  bestOf,
  contrast,
  CONTRASTS,
  type Family,
  gainOf,
  meanAt,
  measured,
  primary,
  type SeedRun,
  seedsByFirstC,
  type WarningRow,
} from './analysis.js';
import type { IterationRow } from './collect.js';
import { BASELINE } from './design.js';
import { type Difference, difference, spreadOf } from './statistics.js';
import type { UnitResult } from './unit.js';

// The numbers as Markdown.

type Cell = string | number | null;

const fixed = (value: number) => value.toFixed(3).replace(/^-(0\.0+)$/, '$1');
const cell = (value: Cell) => (value === null ? '–' : typeof value === 'number' ? fixed(value) : value);

export function table(header: readonly string[], rows: readonly (readonly Cell[])[]): string {
  return [
    `| ${header.join(' | ')} |`,
    `|${header.map((_, index) => (index === 0 ? '---' : '---:')).join('|')}|`,
    ...rows.map((row) => `| ${row.map(cell).join(' | ')} |`),
  ].join('\n');
}

const signed = (value: number) => `${value > 0 ? '+' : ''}${fixed(value)}`;
const interval = (bounds: [number, number] | null) =>
  bounds === null ? '–' : `[${signed(bounds[0])}, ${signed(bounds[1])}]`;
const pValue = (p: number | null) => (p === null ? '–' : p < 0.0001 ? '< 0.0001' : p.toFixed(4));
const spread = (values: readonly number[]) => {
  if (values.length === 0) return '–';
  const { mean, error } = spreadOf(values);
  return `${fixed(mean)} ± ${fixed(error)}`;
};

const iterationsOf = ({ last }: Family) => Array.from({ length: last - 1 }, (_, index) => index + 1);

/** Base models and what was left out. */
export function gateTable(units: readonly UnitResult[]): string {
  const sorted = units.toSorted((a, b) => a.seed - b.seed);
  const missed = sorted.filter(({ missedGate }) => missedGate).map(({ seed }) => seed);
  const again = sorted.filter(({ baseAccuracies }) => baseAccuracies.length > 1).map(({ seed }) => seed);
  const kept = sorted.filter(({ missedGate }) => !missedGate);
  const failed = kept.flatMap(({ seed, runs }) =>
    runs
      .filter(({ status }) => status === 'failed')
      .map(({ method, beta, failure }) => `${method} β ${beta} seed ${seed} (${failure})`),
  );
  const seconds = units.reduce((sum, unit) => sum + unit.seconds, 0);
  const list = (items: readonly (string | number)[]) => (items.length === 0 ? 'none' : items.join(', '));
  return [
    `- Seeds with results: ${kept.length} of ${units.length} run. M_0 answers ${spread(kept.map(({ baseAccuracies }) => baseAccuracies.at(-1)!))} right (sampled, 200 problems).`,
    `- M_0 was begun again: seeds ${list(again)}. Missed the gate: ${list(missed)}.`,
    `- Runs that ended early: ${list(failed)}.`,
    `- Work: ${(seconds / 60).toFixed(0)} minutes of one process, ${(seconds / Math.max(1, units.length)).toFixed(0)} s a seed.`,
  ].join('\n');
}

/** Sampled accuracy of every model, and what else is known of the last. */
export function accuracyTable(family: Family): string {
  const { last, methods } = family;
  const models = Array.from({ length: last }, (_, index) => index + 1);
  return table(
    [
      '',
      ...models.map((model) => `M${model}`),
      `± M${last}`,
      'best M',
      `greedy M${last}`,
      `gain M${last} − M1`,
    ],
    methods.map((method) => {
      const runs = family.runsOf(method).map(({ run }) => run);
      const at = (model: number, measure: 'sampled' | 'greedy') =>
        runs.map((run) => measured(run, model, measure));
      const gain = difference(
        runs.map((run) => gainOf(run, last)),
        `${family.regime} ${family.beta} ${method} gain`,
      );
      return [
        method,
        ...models.map((model) => spreadOf(at(model, 'sampled')).mean),
        spreadOf(at(last, 'sampled')).error,
        spreadOf(runs.map(bestOf)).mean,
        spreadOf(at(1, 'greedy')).mean,
        spreadOf(at(last, 'greedy')).mean,
        gain === null ? null : `${signed(gain.mean)} ${interval(gain.student)}`,
      ];
    }),
  );
}

const above = (values: readonly number[]) =>
  `${values.filter((value) => value > 0).length} of ${values.length}`;
const differenceCells = ({ mean, student, bootstrap, p }: Difference) => [
  signed(mean),
  interval(student),
  interval(bootstrap),
  pValue(p),
];

/** The primary outcome. */
export function differenceTable(family: Family): string {
  return table(
    [`minus ${BASELINE}`, 'mean', "Student's 95 %", 'bootstrap 95 %', 'p', 'p (Holm)', 'seeds above'],
    primary(family).map((row) => [
      row.method,
      ...differenceCells(row.difference),
      pValue(row.adjusted),
      above(row.values),
    ]),
  );
}

export function contrastTable(family: Family): string {
  const has = (method: (typeof CONTRASTS)[number][0]) => family.methods.includes(method);
  return table(
    ['contrast', 'mean', "Student's 95 %", 'bootstrap 95 %', 'p', 'seeds above'],
    CONTRASTS.filter(([method, other]) => has(method) && has(other)).flatMap(([method, other]) => {
      const { values, difference: found } = contrast(family, method, other);
      return found === null ? [] : [[`${method} − ${other}`, ...differenceCells(found), above(values)]];
    }),
  );
}

const TRACES: readonly [title: string, of: (row: IterationRow) => number | null][] = [
  ["C (the run's own)", (row) => row.consistency],
  ["tau against M_0's likelihood", (row) => row.anchorTau],
  ['ranking accuracy', (row) => row.rankingAccuracy],
  ['chosen right', (row) => row.chosenRight],
  ['change of chosen log-prob (nats)', (row) => row.chosenChange],
  ['change of rejected log-prob (nats)', (row) => row.rejectedChange],
  ['response tokens', (row) => row.responseTokens],
  ['truncated', (row) => row.truncated],
];

/** Means over seeds of what an iteration shows, t = 1 .. T in one cell. */
export function iterationTable(family: Family): string {
  return table(
    ['', ...TRACES.map(([title]) => title)],
    family.methods.map((method) => {
      const runs = family.runsOf(method);
      const trace = (of: (row: IterationRow) => number | null) =>
        iterationsOf(family)
          .map((t) => meanAt(runs, t, of))
          .map((value) => (value === null ? '–' : value.toFixed(2)))
          .join(' ');
      return [method, ...TRACES.map(([, of]) => trace(of))];
    }),
  );
}

/** How often the weights of a run trained towards rejected answers. */
export function flippedTable(family: Family): string {
  const flippedAt = (runs: readonly SeedRun[], t: number) => meanAt(runs, t, (row) => row.flipped);
  return table(
    ['share of pairs with C < 1/2', ...iterationsOf(family).map((t) => `t = ${t}`)],
    family.methods.map((method) => {
      const runs = family.runsOf(method);
      return [method, ...iterationsOf(family).map((t) => flippedAt(runs, t))];
    }),
  );
}

/** What the final model gained over M1 where M0's likelihood agreed with M1's reward at first, and where it did not. */
export function agreementTable(family: Family): string {
  const { last } = family;
  const { low, high } = seedsByFirstC(family);
  const cells = (runs: readonly SeedRun[]) =>
    (['sampled', 'greedy'] as const).map((measure) => {
      const gains = runs.map(({ run }) => measured(run, last, measure) - measured(run, 1, measure));
      return gains.length === 0 ? null : signed(spreadOf(gains).mean);
    });
  return table(
    [
      `M${last} − M1`,
      `sampled, ${high.size} seeds with C >= 1/2 at t = 1`,
      'greedy',
      `sampled, ${low.size} seeds with C < 1/2`,
      'greedy',
    ],
    family.methods.map((method) => {
      const runs = family.runsOf(method);
      const of = (seeds: ReadonlySet<number>) => cells(runs.filter(({ seed }) => seeds.has(seed)));
      return [method, ...of(high), ...of(low)];
    }),
  );
}

export function warningTable(rows: readonly WarningRow[]): string {
  return table(
    [
      'seen at iteration t',
      'labels',
      'AUC',
      'warn',
      'caught',
      'false alarms',
      'accuracy of the model kept',
      'of the final one',
      'of the best',
    ],
    rows.map(({ name, needsLabels, auc, isHighBad, threshold, judged, kept, final, best }) => [
      name,
      needsLabels ? 'yes' : 'no',
      auc,
      `${isHighBad ? 'above' : 'below'} ${fixed(threshold)}`,
      judged.caught.toFixed(2),
      judged.falseAlarms.toFixed(2),
      kept,
      final,
      best,
    ]),
  );
}
