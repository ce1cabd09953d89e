import type { Histogram } from './types.js';

/** Counts into bins of equal width; a value on the last edge belongs to the last bin. */
export function histogram(values: readonly number[], edges: number[]): Histogram {
  const counts = new Array<number>(edges.length - 1).fill(0);
  const low = edges[0]!;
  const width = edges[1]! - low;
  for (const value of values) {
    // Rounding must not put a value that stands on a bin's centre or edge beside it.
    const bin = Math.floor((value - low) / width + 1e-9);
    counts[Math.min(counts.length - 1, Math.max(0, bin))]! += 1;
  }
  return { edges, counts };
}

const MOST_TAU_VALUES = 21;

/**
 * Bins for rank correlations of n responses. Few responses have few values without ties, n (n - 1) / 2 + 1 of them,
 * and every bin is centred on one; many have bins of a tenth. topOrder is 0 or 1.
 */
export function tauEdges(metric: string, n: number): number[] {
  if (metric === 'topOrder') return [-0.5, 0.5, 1.5];
  const values = (n * (n - 1)) / 2 + 1;
  const bins = values >= 2 && values <= MOST_TAU_VALUES ? values : MOST_TAU_VALUES;
  const width = 2 / (bins - 1);
  return Array.from({ length: bins + 1 }, (_, i) => -1 - width / 2 + i * width);
}

const MOST_LENGTH_BINS = 24;

/** Bins of whole tokens from the shortest to the longest. */
export function lengthEdges(lengths: readonly number[]): number[] {
  let least = Number.POSITIVE_INFINITY;
  let most = 0;
  for (const length of lengths) {
    least = Math.min(least, length);
    most = Math.max(most, length);
  }
  if (most === 0) return [0, 1];
  const width = Math.max(1, Math.ceil((most - least + 1) / MOST_LENGTH_BINS));
  const bins = Math.ceil((most - least + 1) / width);
  // A few bars that fill the whole width say less than the same bars with room beside them.
  const room = bins < 5 ? 3 : 0;
  return Array.from({ length: bins + 1 + 2 * room }, (_, i) => least - 0.5 + (i - room) * width);
}
