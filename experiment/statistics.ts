import { bootstrapInterval } from '../lib/run/random.js';
import { meanOf, studentMean, studentPValue, varianceOf } from '../lib/statistics.js';

/** Differences paired by seed. */
export interface Difference {
  mean: number;
  n: number;
  student: [number, number] | null;
  bootstrap: [number, number] | null;
  /** Two-sided paired t-test; null where a test has no spread to judge by. */
  p: number | null;
}

/** Null without values. `name` is that of the bootstrap's random stream. */
export function difference(values: readonly number[], name: string): Difference | null {
  const estimate = studentMean(values);
  if (estimate === null) return null;
  const { mean, interval, n } = estimate;
  const error = Math.sqrt(varianceOf(values) / n);
  return {
    mean,
    n,
    student: interval,
    bootstrap: bootstrapInterval(values, 0, name),
    p: n < 2 || error === 0 ? null : studentPValue(mean / error, n - 1),
  };
}

/** Holm's adjusted p-values, in the order given. */
export function holm(ps: readonly number[]): number[] {
  const order = ps.map((_, index) => index).toSorted((a, b) => ps[a]! - ps[b]!);
  const adjusted = new Array<number>(ps.length).fill(1);
  let greatest = 0;
  order.forEach((index, rank) => {
    greatest = Math.max(greatest, Math.min(1, (ps.length - rank) * ps[index]!));
    adjusted[index] = greatest;
  });
  return adjusted;
}

/** A number seen before an outcome. */
export interface Sign {
  value: number;
  /** What it should warn of came. */
  isBad: boolean;
}

/** Area under the ROC curve: the chance that a bad case has the lower value than a good one, ties half. */
export function areaUnderRoc(signs: readonly Sign[]): number | null {
  const bad = signs.filter(({ isBad }) => isBad);
  const good = signs.filter(({ isBad }) => !isBad);
  if (bad.length === 0 || good.length === 0) return null;
  let wins = 0;
  for (const one of bad)
    for (const other of good) wins += one.value < other.value ? 1 : one.value === other.value ? 0.5 : 0;
  return wins / (bad.length * good.length);
}

export interface Threshold {
  /** Warn where the value is below it. */
  below: number;
  /** Share of bad cases that are warned of, and of good ones that are. */
  caught: number;
  falseAlarms: number;
}

export function judgeThreshold(signs: readonly Sign[], below: number): Threshold {
  const shareBelow = (isBad: boolean) => {
    const some = signs.filter((sign) => sign.isBad === isBad);
    return some.length === 0 ? 0 : some.filter(({ value }) => value < below).length / some.length;
  };
  return { below, caught: shareBelow(true), falseAlarms: shareBelow(false) };
}

/** The threshold with the greatest difference of caught and false alarms, halfway between two values that were seen. */
export function bestThreshold(signs: readonly Sign[]): Threshold | null {
  const values = [...new Set(signs.map(({ value }) => value))].toSorted((a, b) => a - b);
  const candidates = values.slice(1).map((value, index) => (value + values[index]!) / 2);
  const judged = candidates.map((below) => judgeThreshold(signs, below));
  return judged.reduce<Threshold | null>(
    (best, one) =>
      best === null || one.caught - one.falseAlarms > best.caught - best.falseAlarms ? one : best,
    null,
  );
}

export const spreadOf = (values: readonly number[]) => ({
  mean: meanOf(values),
  error: Math.sqrt(varianceOf(values) / values.length),
});
