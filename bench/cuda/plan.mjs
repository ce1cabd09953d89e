// What fits on the GPU that is there, planned before anything is loaded: a row that cannot run says so with its size.
import { freemem, totalmem } from 'node:os';
import { planTraining } from '../../dist/lib/estimate/training-plan.js';
import { binding } from './measure.mjs';
import { sizes } from './shapes.mjs';

/** Free and total bytes of the device; of the host where there is no GPU. */
export async function memoryOf(device) {
  const { free, total, reserved, allocated } = await binding.deviceMemory(device, false);
  return total > 0 ? { free: free + reserved - allocated, total } : { free: freemem(), total: totalmem() };
}

export const gigabytes = (bytes) => `${(bytes / 1e9).toFixed(1)} GB`;

export const doesNotFit = (what, planned, { free }) => ({
  skipped: `does not fit: ${what} needs ${gigabytes(planned)} and a reserve, and ${gigabytes(free)} are free`,
  plannedBytes: planned,
});

/** Settings of a training from the fastest to the smallest; a number: gate and up of so many layers computed again. */
const settingsOf = ({ numLayers }) =>
  ['float32', 'bfloat16'].flatMap((momentsDtype) =>
    ['selective', Math.ceil(numLayers / 4), numLayers, 'full'].map((recompute) => ({
      recompute,
      momentsDtype,
    })),
  );
const ENOUGH = 4096; // tokens at which matrix products are at their speed

/**
 * The first settings, with the largest micro-batch of at most maxTokens, that fit into what is free and into `most`;
 * a `skipped` row where none does. `away`: bytes that must stay free.
 */
export function planStep(
  { config, device, lora, memory },
  { longest, batchRows, maxTokens, most, away = 0 },
) {
  const weights = 2 * sizes(config).parameters;
  const RESERVE = 0.06; // planTraining leaves this share of what is free
  const allowed = most === undefined ? Infinity : (most - weights) / (1 - RESERVE);
  const freeBytes = Math.min(memory.free - weights - away, allowed);
  const shape = { model: config, dtype: 'bfloat16', engine: device === 'cpu' ? 'cpu' : 'gpu', lora };
  const bounds = [1, 3 / 4, 1 / 2, 3 / 8, 1 / 4, 1 / 8, 1 / 16].map((part) => Math.floor(maxTokens * part));
  const planWith = (settings, bound) => {
    const maxTokensPerBatch = Math.max(longest, bound);
    const gradientsDtype = lora === undefined && device !== 'cpu' ? 'auto' : 'float32';
    const options = { ...settings, gradientsDtype, maxTokensPerBatch, longest, batchRows, freeBytes };
    return { ...settings, ...planTraining(shape, options) };
  };
  // All weights: a smaller micro-batch costs less than computing again. An adapter is measured at maxTokens where it fits.
  const plans =
    lora === undefined
      ? settingsOf(config).flatMap((settings) => bounds.map((bound) => planWith(settings, bound)))
      : bounds.flatMap((bound) => settingsOf(config).map((settings) => planWith(settings, bound)));
  const enough = Math.min(maxTokens, Math.max(longest, Math.min(ENOUGH, batchRows)));
  const plan =
    plans.find(({ fits, maxTokensPerBatch }) => fits && maxTokensPerBatch >= enough) ??
    plans.find(({ fits }) => fits);
  if (plan === undefined) {
    const least = Math.min(...plans.map(({ totalBytes }) => totalBytes));
    return doesNotFit(
      lora === undefined ? 'training of all weights' : 'training of an adapter',
      least,
      memory,
    );
  }
  const { recompute, momentsDtype, gradientsDtype, maxTokensPerBatch, totalBytes } = plan;
  return { recompute, momentsDtype, gradientsDtype, maxTokensPerBatch, plannedBytes: totalBytes };
}
