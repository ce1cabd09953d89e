import { setImmediate } from 'node:timers/promises';
import { CreamError } from '../errors.js';

/** Longest stretch of synchronous work between two turns of the event loop, in milliseconds. */
const SLICE_MS = 8;

/** Maps a list, giving the event loop a turn every few milliseconds. */
export async function mapYielding<T, U>(
  items: readonly T[],
  map: (item: T, index: number) => U,
  signal?: AbortSignal,
): Promise<U[]> {
  const results: U[] = [];
  let sliceStart = performance.now();
  for (const [index, item] of items.entries()) {
    if (performance.now() - sliceStart > SLICE_MS) {
      await setImmediate();
      sliceStart = performance.now();
    }
    if (signal?.aborted) throw new CreamError('ABORTED', 'the work was cancelled');
    results.push(map(item, index));
  }
  return results;
}
