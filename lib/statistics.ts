import { CreamError } from './errors.js';

// Means over a few seeds with the interval that so few numbers allow.

/** A number found by several measurements. */
export interface MeanEstimate {
  mean: number;
  /** 95 % interval; null where one measurement says nothing of its spread. */
  interval: [number, number] | null;
  /** Where the interval comes from. */
  by: 'student-t' | 'wilson' | 'bootstrap' | 'normal' | null;
  /** How many measurements. */
  n: number;
}

/**
 * P(|T| <= t) of Student's t with a whole number of degrees of freedom: the finite sums of Abramowitz & Stegun,
 * Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
 */
function studentWithin(t: number, df: number): number {
  const angle = Math.atan(t / Math.sqrt(df));
  const cos = Math.cos(angle);
  const isOdd = df % 2 === 1;
  let term = isOdd ? cos : 1;
  let sum = df === 1 ? 0 : term;
  for (let k = isOdd ? 3 : 2; k < df; k += 2) {
    term *= ((k - 1) / k) * cos ** 2;
    sum += term;
  }
  return isOdd ? (2 / Math.PI) * (angle + Math.sin(angle) * sum) : Math.sin(angle) * sum;
}

/** The t within which 95 % of Student's distribution lie: 12.71 at one degree of freedom, 1.96 at very many. */
export function studentT95(df: number): number {
  if (!Number.isInteger(df) || df < 1) {
    throw new CreamError('INVALID_ARGUMENT', `degrees of freedom must be a whole number >= 1, got ${df}`);
  }
  let [low, high] = [1.9, 13];
  while (high - low > 1e-12 * high) {
    const middle = (low + high) / 2;
    if (studentWithin(middle, df) < 0.95) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

/** Two-sided p-value of Student's t: the chance of one as far from 0 or farther. */
export function studentPValue(t: number, df: number): number {
  if (!Number.isInteger(df) || df < 1) {
    throw new CreamError('INVALID_ARGUMENT', `degrees of freedom must be a whole number >= 1, got ${df}`);
  }
  // Where 1 - P has no digits left, it is 0.
  return Math.max(0, 1 - studentWithin(Math.abs(t), df));
}

export const meanOf = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;

/** Variance of a sample, n - 1 in the denominator; 0 for a single value. */
export function varianceOf(values: readonly number[]): number {
  if (values.length < 2) return 0;
  const mean = meanOf(values);
  return values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (values.length - 1);
}

/** Mean over seeds with Student's 95 % interval; for paired differences give the differences. Null without values. */
export function studentMean(values: readonly number[]): MeanEstimate | null {
  const n = values.length;
  if (n === 0) return null;
  const mean = meanOf(values);
  if (n === 1) return { mean, interval: null, by: null, n };
  const half = studentT95(n - 1) * Math.sqrt(varianceOf(values) / n);
  return { mean, interval: [mean - half, mean + half], by: 'student-t', n };
}

const NORMAL_95 = 1.959963984540054;

/**
 * Mean of the strata's means (tasks that count alike, however many problems they have) with a normal 95 % interval from
 * the spread within each. Null without values; no interval where a stratum has a single value.
 */
export function stratifiedMean(strata: readonly (readonly number[])[]): MeanEstimate | null {
  const n = strata.reduce((sum, values) => sum + values.length, 0);
  if (strata.length === 0 || strata.some((values) => values.length === 0)) return null;
  const mean = meanOf(strata.map(meanOf));
  if (strata.some((values) => values.length < 2)) return { mean, interval: null, by: null, n };
  const variance = strata.reduce((sum, values) => sum + varianceOf(values) / values.length, 0);
  const half = (NORMAL_95 * Math.sqrt(variance)) / strata.length;
  return { mean, interval: [mean - half, mean + half], by: 'normal', n };
}
