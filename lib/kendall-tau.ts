import { CreamError } from './errors.js';

// Rank correlations of two lists. Both are NaN where they are undefined: fewer than two values, all values of a
// list equal, or a value that is not a number. Equal to scipy.stats.kendalltau and spearmanr.

function defined(a: readonly number[], b: readonly number[]): boolean {
  if (a.length !== b.length) {
    throw new CreamError(
      'INVALID_ARGUMENT',
      `two rankings must have one length, got ${a.length} and ${b.length}`,
    );
  }
  return a.length >= 2 && !a.some(Number.isNaN) && !b.some(Number.isNaN);
}

/** Kendall's tau-b, O(n^2): (concordant - discordant) / sqrt((pairs - ties in a) (pairs - ties in b)). */
export function kendallTau(a: readonly number[], b: readonly number[]): number {
  if (!defined(a, b)) return Number.NaN;
  let score = 0;
  let untiedA = 0;
  let untiedB = 0;
  for (let i = 0; i < a.length; i++) {
    for (let j = 0; j < i; j++) {
      // Compared, not subtracted: infinite values have an order but no difference.
      const orderA = Number(a[i]! > a[j]!) - Number(a[i]! < a[j]!);
      const orderB = Number(b[i]! > b[j]!) - Number(b[i]! < b[j]!);
      score += orderA * orderB;
      untiedA += Math.abs(orderA);
      untiedB += Math.abs(orderB);
    }
  }
  if (untiedA === 0 || untiedB === 0) return Number.NaN;
  return Math.min(1, Math.max(-1, score / Math.sqrt(untiedA * untiedB)));
}

/** 1-based ranks; equal values share the average of their ranks. */
export function averageRanks(values: readonly number[]): number[] {
  const order = values.map((_, index) => index).sort((i, j) => values[i]! - values[j]!);
  const ranks = new Array<number>(values.length);
  for (let start = 0; start < order.length; ) {
    let end = start + 1;
    while (end < order.length && values[order[end]!] === values[order[start]!]) end++;
    for (let k = start; k < end; k++) ranks[order[k]!] = (start + 1 + end) / 2;
    start = end;
  }
  return ranks;
}

/** Spearman's rho: the Pearson correlation of average ranks. */
export function spearman(a: readonly number[], b: readonly number[]): number {
  if (!defined(a, b)) return Number.NaN;
  const mean = (a.length + 1) / 2;
  const ranksA = averageRanks(a);
  const ranksB = averageRanks(b);
  let covariance = 0;
  let varianceA = 0;
  let varianceB = 0;
  ranksA.forEach((rank, i) => {
    covariance += (rank - mean) * (ranksB[i]! - mean);
    varianceA += (rank - mean) ** 2;
    varianceB += (ranksB[i]! - mean) ** 2;
  });
  if (varianceA === 0 || varianceB === 0) return Number.NaN;
  return Math.min(1, Math.max(-1, covariance / Math.sqrt(varianceA * varianceB)));
}
