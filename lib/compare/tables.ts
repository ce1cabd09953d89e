import type { MeanEstimate } from '../statistics.js';
import type { AccuracyRow, Comparison, ConsistencyRow } from './results.js';

// A comparison as tables of text, for a terminal and for Markdown.

export interface TextTable {
  title: string;
  header: string[];
  rows: string[][];
}

const SHARED = '(all)';

const signed = (value: number) => `${value < 0 ? '-' : '+'}${Math.abs(value).toFixed(3)}`;
const half = ([low, high]: readonly [number, number]) => ((high - low) / 2).toFixed(3);

/** 0.444 ±0.031 */
export function estimateText(estimate: MeanEstimate | null | undefined): string {
  if (estimate === null || estimate === undefined) return '-';
  const { mean, interval } = estimate;
  return interval === null ? mean.toFixed(3) : `${mean.toFixed(3)} ±${half(interval)}`;
}

/** +0.012 ±0.031, and a mark where 0 lies outside the interval. */
export function differenceText(estimate: MeanEstimate | null | undefined): string {
  if (estimate === null || estimate === undefined) return '-';
  const { mean, interval } = estimate;
  if (interval === null) return signed(mean);
  return `${signed(mean)} ±${half(interval)}${isClear(estimate) ? ' *' : ''}`;
}

/** The interval leaves 0 out. */
export const isClear = ({ interval }: MeanEstimate): boolean =>
  interval !== null && (interval[0] > 0 || interval[1] < 0);

const labelOf = ({ name, model }: AccuracyRow) => [name ?? SHARED, model];

const columnsOf = (rows: readonly AccuracyRow[]) => [
  ...new Set(rows.flatMap(({ cells }) => Object.keys(cells))),
];

function accuracyTable(rows: readonly AccuracyRow[]): TextTable {
  const columns = columnsOf(rows);
  return {
    title: 'Accuracy',
    header: ['method', 'model', ...columns],
    rows: rows.map((row) => [...labelOf(row), ...columns.map((name) => estimateText(row.cells[name]))]),
  };
}

function differenceTable(rows: readonly AccuracyRow[], first: string): TextTable[] {
  const different = rows.filter(({ cells }) => Object.values(cells).some(({ difference }) => difference));
  if (different.length === 0) return [];
  const columns = columnsOf(different);
  return [
    {
      title: `Accuracy minus that of ${first}`,
      header: ['method', 'model', ...columns],
      rows: different.map((row) => [
        ...labelOf(row),
        ...columns.map((name) => differenceText(row.cells[name]?.difference)),
      ]),
    },
  ];
}

const CONSISTENCY_COLUMNS = [
  ['tau', 'tau'],
  ['spearman', 'Spearman'],
  ['topOrder', 'topOrder'],
  ['consistency', 'C'],
  ['rankingAccuracy', 'ranked right'],
] as const;

function consistencyTables(rows: readonly ConsistencyRow[], first: string): TextTable[] {
  if (rows.length === 0) return [];
  const columns = CONSISTENCY_COLUMNS.filter(([key]) => rows.some((row) => row[key] !== null));
  const header = columns.map(([, label]) => label);
  const different = rows.filter(({ differences }) => differences !== undefined);
  return [
    {
      title: "Consistency of two policies on the last iteration's responses",
      header: ['method', 'models', ...header],
      rows: rows.map((row) => [row.name, modelsOf(row), ...columns.map(([key]) => estimateText(row[key]))]),
    },
    ...(different.length === 0
      ? []
      : [
          {
            title: `Consistency minus that of ${first}`,
            header: ['method', 'models', ...header],
            rows: different.map((row) => [
              row.name,
              modelsOf(row),
              ...columns.map(([key]) => differenceText(row.differences?.[key])),
            ]),
          },
        ]),
  ];
}

const modelsOf = ({ policy, previous }: ConsistencyRow) => `${policy}, ${previous}`;

function settingsTable({ settings, contestants }: Comparison): TextTable[] {
  const names = contestants.map(({ name }) => name);
  const keys = Object.keys(settings);
  if (keys.length === 0) return [];
  return [
    {
      title: 'Compared settings',
      header: ['setting', ...names],
      rows: keys.map((key) => [key, ...names.map((name) => settings[key]?.[name] ?? '-')]),
    },
  ];
}

export function tablesOf(comparison: Comparison): TextTable[] {
  const first = comparison.contestants[0]!.name;
  return [
    ...settingsTable(comparison),
    ...(comparison.accuracy.length === 0 ? [] : [accuracyTable(comparison.accuracy)]),
    ...differenceTable(comparison.accuracy, first),
    ...consistencyTables(comparison.consistency, first),
  ];
}

/** How the numbers are to be read. */
export function notesOf({ seeds, accuracy, consistency }: Comparison): string[] {
  const isSingle = seeds.length === 1;
  const hasMean = accuracy.some(({ cells }) => Object.keys(cells).some((name) => name.startsWith('mean')));
  const isRanked = consistency.some(({ rankingAccuracy }) => rankingAccuracy !== null);
  return [
    isSingle
      ? `One seed (${seeds[0]}): ± is half of a 95 % interval over problems or groups and says nothing of other seeds.`
      : `Seeds ${seeds.join(', ')}: mean over seeds, ± half of Student's 95 % interval; differences are paired by seed.`,
    '* 0 lies outside the interval; with many cells some do by chance.',
    ...(hasMean ? ['mean counts every task alike.'] : []),
    ...(consistency.length > 0
      ? [
          'Consistency: the last policy that sampled ranks its responses, and the policy before ranks them; the final policy ' +
            'ranks them, too. tau, Spearman and topOrder are means over groups, C = (tau + 1) / 2.',
        ]
      : []),
    ...(isRanked
      ? [
          "ranked right: pairs of a right and a wrong response to a labelled prompt that the first policy's reward orders right.",
        ]
      : []),
  ];
}
