import { createHash } from 'node:crypto';

// Randomness as data: every draw is a function of the run's seed, a named stream and what it is drawn for, so that
// an interrupted run, a retry or a removed record changes nothing else.

const digest = (...parts: (string | number)[]) => createHash('sha256').update(parts.join('\0')).digest();

/**
 * The items in an order that depends on the seed, the stream and each item's key alone: leaving one out keeps the
 * order of the rest. Keys must differ.
 */
export function shuffled<T>(
  items: readonly T[],
  seed: number,
  stream: string,
  key: (item: T) => string,
): T[] {
  return items
    .map((item) => ({ item, rank: digest(seed, stream, key(item)) }))
    .sort((a, b) => Buffer.compare(a.rank, b.rank))
    .map(({ item }) => item);
}

/** Mixes 32 bits (a bijection with full avalanche; constants: https://github.com/skeeto/hash-prospector). */
function mix(value: number): number {
  let x = value;
  x = Math.imul(x ^ (x >>> 16), 0x21f0aaad);
  x = Math.imul(x ^ (x >>> 15), 0x735a2d97);
  return (x ^ (x >>> 15)) >>> 0;
}

/**
 * 95 % percentile interval of the mean from 1,000 bootstrap resamples; null for fewer than two values. The same
 * values and seed give the same interval.
 */
export function bootstrapInterval(
  values: readonly number[],
  seed: number,
  stream: string,
): [number, number] | null {
  const n = values.length;
  if (n < 2) return null;
  const resamples = 1000;
  const key = digest(seed, stream);
  const [low, high] = [key.readUInt32LE(0), key.readUInt32LE(4)];
  const means = Array.from({ length: resamples }, (_, resample) => {
    const state = mix(low ^ mix(high ^ resample));
    let sum = 0;
    for (let draw = 0; draw < n; draw++) sum += values[Math.floor((mix(state ^ mix(draw)) / 2 ** 32) * n)]!;
    return sum / n;
  }).sort((a, b) => a - b);
  const quantile = (q: number) => {
    const position = q * (resamples - 1);
    const below = Math.floor(position);
    return means[below]! + (means[Math.min(below + 1, resamples - 1)]! - means[below]!) * (position - below);
  };
  return [quantile(0.025), quantile(0.975)];
}
