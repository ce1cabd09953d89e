import type { CreamConfig } from '../config.js';
import type { StepTable } from './steps.js';
import type { Level, ReportRun } from './types.js';

// What the lights have in common: what they judge, their levels, and how they show numbers.

/** What is judged. */
export interface Facts {
  run: Omit<ReportRun, 'lights' | 'verdict'>;
  config: Partial<CreamConfig>;
  table: StepTable;
}

export const percent = (share: number) => {
  const value = 100 * share;
  return `${value !== 0 && Math.abs(value) < 10 ? value.toFixed(1) : value.toFixed(0)} %`;
};

/** The worse level that a value reaches; bounds are those from which it is no longer good, and bad. */
export function levelAbove(value: number | undefined, watch: number, bad: number): Level {
  if (value === undefined) return 'unknown';
  return value >= bad ? 'bad' : value >= watch ? 'watch' : 'good';
}

/** The same downwards; the bounds themselves are still on the better side. */
export function levelBelow(value: number | undefined, watch: number, bad: number): Level {
  if (value === undefined) return 'unknown';
  return value < bad ? 'bad' : value < watch ? 'watch' : 'good';
}

const ORDER: readonly Level[] = ['unknown', 'good', 'watch', 'bad'];
export const worst = (...levels: Level[]): Level =>
  levels.reduce((a, b) => (ORDER.indexOf(b) > ORDER.indexOf(a) ? b : a), 'unknown');

/** "0.58 → 0.98 → 0.94", iterations without a value left out. */
export const trail = (values: readonly (number | undefined | null)[], show: (value: number) => string) => {
  const shown = values.flatMap((value) => (value === undefined || value === null ? [] : [show(value)]));
  if (new Set(shown).size === 1) return shown[0]!;
  return shown.length <= 6 ? shown.join(' → ') : [...shown.slice(0, 2), '…', ...shown.slice(-3)].join(' → ');
};
