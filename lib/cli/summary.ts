import { relative } from 'node:path';
import type { CreamConfig } from '../config.js';
import type { RewardNoise } from '../run/reward-noise.js';
import { ACCURACY_KINDS, type RunSummary } from '../run/summary.js';
import type { MeanEstimate } from '../statistics.js';
import type { Accuracy } from '../types.js';
import { formatDuration, formatNumber, formatTable } from './format.js';

/** The table M0 .. Mn, with what its columns mean and the warnings of the run. */
export function summaryTable(summary: RunSummary): string {
  const tasks = [...new Set(summary.models.flatMap((model) => model.tasks.map(({ name }) => name)))];
  const columns = tasks.flatMap((name) =>
    ACCURACY_KINDS.filter((kind) =>
      summary.models.some((model) =>
        model.tasks.some((task) => task.name === name && task[kind] !== undefined),
      ),
    ).map((kind) => ({ name, kind })),
  );
  const header = [
    'model',
    ...columns.map(({ name, kind }) => `${name} ${kind}`),
    ...ACCURACY_KINDS.map((kind) => `mean ${kind}`),
    'C',
    'random C',
    'tau',
    'noise',
    'ranked right',
    'pairs',
    'margin',
  ];
  const rows = summary.models.map((model, index) => {
    // M_t's own responses are ranked in iteration t; the training that made M_t is that of iteration t - 1.
    const asPolicy =
      index === 0 ? undefined : summary.iterations.find(({ iteration }) => iteration === index);
    const madeBy = summary.iterations.find(({ iteration }) => iteration === model.iteration);
    const isLast = index === summary.models.length - 1;
    const { consistency, rankingAccuracy } = asPolicy ?? (isLast ? summary.final : undefined) ?? {};
    return [
      model.model,
      ...columns.map(({ name, kind }) => accuracyCell(model.tasks.find((one) => one.name === name)?.[kind])),
      ...ACCURACY_KINDS.map((kind) => meanCell(model.mean?.[kind])),
      shareCell(consistency?.mean),
      consistency?.nullBand ? consistency.nullBand.map((bound) => bound.toFixed(2)).join('-') : '-',
      shareCell(consistency?.tau),
      noiseCell(asPolicy?.rewardNoise),
      shareCell(rankingAccuracy),
      asPolicy === undefined ? '-' : String(asPolicy.pairs),
      numberCell(madeBy?.metrics['rewards/margins']),
    ];
  });
  const isEmpty = (column: number): boolean => column > 0 && rows.every((row) => row[column] === '-');
  const kept = header.map((_, column) => column).filter((column) => !isEmpty(column));
  const pick = (row: readonly string[]): string[] => kept.map((column) => row[column]!);
  return [
    formatTable(pick(header), rows.map(pick)),
    '',
    ...legend(pick(header)),
    ...(summary.final === undefined
      ? []
      : ['the last model wrote none: it ranks the responses of the model before']),
    `final model: ${shortPath(summary.model)}   run folder: ${shortPath(summary.directory)}   ${formatDuration(summary.seconds)}`,
    ...(summary.warnings.length > 0
      ? [`warnings: ${summary.warnings.length}, see above and summary.json`]
      : []),
  ].join('\n');
}

const MEANINGS: Readonly<Record<string, string>> = {
  C: "C, tau: agreement of the model's ranking of its own responses with the previous model's",
  'random C': 'random C: one group under random rankings, mean -+ one standard deviation',
  noise: 'noise: rounding of a reward, in % of the spread in a group; ranks turn on it from 11 %',
  'ranked right': 'ranked right: pairs of a correct and an incorrect response that the reward orders right',
  margin: 'margin: chosen minus rejected reward at the end of the training that made the model',
};

function legend(header: readonly string[]): string[] {
  return header.flatMap((name) => MEANINGS[name] ?? []);
}

function accuracyCell(accuracy: Accuracy | undefined): string {
  if (accuracy === undefined) return '-';
  const [low, high] = accuracy.interval;
  return `${accuracy.accuracy.toFixed(3)} [${low.toFixed(2)}, ${high.toFixed(2)}]`;
}

function meanCell(mean: MeanEstimate | undefined): string {
  if (mean === undefined) return '-';
  const interval = mean.interval?.map((bound) => bound.toFixed(2)).join(', ');
  return `${mean.mean.toFixed(3)}${interval === undefined ? '' : ` [${interval}]`}`;
}

function shareCell(value: number | null | undefined): string {
  return value === null || value === undefined ? '-' : value.toFixed(3);
}

function noiseCell(found: RewardNoise | undefined): string {
  if (!found?.spread || found.noise === null) return '-';
  const percent = (100 * found.noise) / found.spread;
  return percent < 0.1 ? `<0.1 %` : `${percent.toFixed(percent < 10 ? 1 : 0)} %`;
}

function numberCell(value: number | undefined): string {
  return value === undefined ? '-' : formatNumber(value);
}

/** The command that a person would type next: hear the model that came out. */
export function nextCommand(summary: RunSummary, config: CreamConfig): string {
  const words = ['cream', 'generate', '--model', shellWord(shortPath(summary.model))];
  if (config.data.prompts !== undefined) words.push('--input', shellWord(shortPath(config.data.prompts)));
  else words.push('--prompt', "'...'");
  return words.join(' ');
}

/** Relative when that is shorter. */
export function shortPath(path: string): string {
  const short = relative(process.cwd(), path);
  if (short === '') return '.';
  return short.length < path.length ? short : path;
}

function shellWord(word: string): string {
  return /^[\w./:@%+=-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
