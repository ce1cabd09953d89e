// What the rows share: a model with random weights, random token ids, repeated timing, where the time went.
import { loadBinding } from '../../dist/lib/native/binding.js';
import { SHAPES } from './shapes.mjs';

export const binding = loadBinding();
export const token = binding.cancelToken();

/** Ids in [3, vocabulary), from a linear congruential generator. */
export function idStream(vocabSize, seed = 7) {
  let state = seed >>> 0;
  return (length) =>
    Int32Array.from({ length }, () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return 3 + Math.floor((state / 2 ** 32) * (vocabSize - 3));
    });
}

export const load = (shape, device, dtype = 'bfloat16') =>
  binding.randomModel({ config: SHAPES[shape], seed: 1n, dtype, device });

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted.length % 2 === 1
    ? sorted[sorted.length >> 1]
    : (sorted[sorted.length / 2 - 1] + sorted[sorted.length / 2]) / 2;
}

/** Waits for the device: its memory is read after the work before it. */
export const settle = (device) => binding.deviceMemory(device, false);

/** Median seconds of `work`, after a warm-up, of at least `rounds` rounds or until `budget` seconds are spent. */
export async function time(device, work, { rounds = 5, budget = 60, warmUps = 1 } = {}) {
  for (let i = 0; i < warmUps; i++) await work();
  await settle(device);
  const seconds = [];
  const start = performance.now();
  do {
    const begin = performance.now();
    await work();
    await settle(device);
    seconds.push((performance.now() - begin) / 1e3);
  } while (seconds.length < rounds && performance.now() - start < budget * 1e3);
  return {
    seconds: median(seconds),
    spread: [Math.min(...seconds), Math.max(...seconds)],
    rounds: seconds.length,
  };
}

let countingCost;
/** Seconds that an op which does nothing is seen to take: what its two events cost. */
function costOfCounting(device) {
  countingCost ??= binding._countingCost({ device, count: 1000 });
  return countingCost;
}

/**
 * Seconds of one `work` by kind, without what counting them cost (`counting`), what no op was at work in as `gaps`, and the
 * whole. `ops` looks into steps of decoding, which then run without CUDA graphs; `steps` counts them as they are.
 */
export async function whereTimeWent(device, work, mode = 'ops') {
  await settle(device);
  const cost = mode === 'ops' ? costOfCounting(device) : 0;
  await binding.phases(mode);
  const begin = performance.now();
  await work();
  await settle(device);
  const total = (performance.now() - begin) / 1e3;
  const counted = (await binding.phases('off')).filter(({ count }) => count > 0);
  const known = counted.reduce((sum, { seconds }) => sum + seconds, 0);
  const parts = counted.map(({ name, seconds, count }) => [name, Math.max(0, seconds - cost * count)]);
  const counting = known - parts.reduce((sum, [, seconds]) => sum + seconds, 0);
  return { ...Object.fromEntries(parts), counting, gaps: Math.max(0, total - known), total };
}

export async function generate(model, prompts, { n, maxNewTokens, topP = 1, maxLiveSequences = 0 }) {
  let tokens = 0;
  let first;
  const options = {
    numSamples: n,
    maxNewTokens,
    temperature: 1,
    topP,
    topK: 0,
    stopIds: new Int32Array(), // every response has its full length
    seed: 1n,
    maxLiveTokens: 0,
    maxLiveSequences,
  };
  const begin = performance.now();
  await model.generate(
    prompts.map((ids, i) => ({ ids, key: BigInt(i) })),
    options,
    ({ ids }) => {
      first ??= (performance.now() - begin) / 1e3;
      tokens += ids.length;
    },
    token,
  );
  return { tokens, first };
}
