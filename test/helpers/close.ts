import type { Test } from 'tap';

export interface Tolerance {
  /** Relative to the expected value. */
  rtol?: number;
  /** Absolute. */
  atol?: number;
}

/** Passes when every |actual - expected| <= atol + rtol |expected|; otherwise shows the worst place. */
export function close(
  t: Test,
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  { rtol = 0, atol = 0 }: Tolerance,
  message = 'the values agree',
): boolean {
  if (actual.length !== expected.length) {
    return t.ok(false, `${message}: ${actual.length} values, expected ${expected.length}`);
  }
  let worst = { index: -1, excess: 0, actual: 0, expected: 0 };
  for (let index = 0; index < expected.length; index++) {
    const [a, e] = [actual[index]!, expected[index]!];
    const excess = Math.abs(a - e) - (atol + rtol * Math.abs(e));
    // Written so that NaN fails.
    if (!(excess <= worst.excess) && !Number.isNaN(worst.excess))
      worst = { index, excess, actual: a, expected: e };
  }
  return t.ok(worst.index === -1, message, { ...worst });
}

/** |actual - expected| / |expected| of the whole vectors (2-norms); NaN when a value is. */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) return Number.NaN;
  let difference = 0;
  let size = 0;
  for (let index = 0; index < expected.length; index++) {
    difference += (actual[index]! - expected[index]!) ** 2;
    size += expected[index]! ** 2;
  }
  return Math.sqrt(difference / size);
}

/** Passes when the relative error of the whole vector is at most `tolerance`. */
export function closeInNorm(
  t: Test,
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: number,
  message = 'the vectors agree',
): boolean {
  const error = relativeError(actual, expected);
  return t.ok(error <= tolerance, message, { error, tolerance });
}
