// What this GPU reaches now: products of a large model for seconds on end, as long as a row, and in a burst after a rest;
// copies within its memory and to the host. The other rows are held to the sustained rates.
import { binding } from './measure.mjs';
import { gigabytes } from './plan.mjs';
import { SHAPES } from './shapes.mjs';
import { TERA } from './jobs.mjs';

/** Rows of a micro-batch, at which products are at their speed. */
const ROWS = 8192;
const SECONDS = 2; // of products and copies in the device's memory
const HOST_SECONDS = 0.5;

const rate = (amount, { burst, sustained, seconds }) => ({
  sustained: amount / sustained,
  burst: amount / burst,
  seconds,
});

/** The highest of several rates, sustained and in a burst. */
const best = (rates, key) => Math.max(...Object.values(rates).map((found) => found[key]));

export async function ceilings({ shape, device, memory }, { isTiny }) {
  const { hiddenSize: C, intermediateSize: F, vocabSize: V } = SHAPES[shape];
  const seconds = isTiny ? 0.1 : SECONDS;
  const rows = isTiny ? 64 : ROWS;
  const needed = isTiny ? 2 ** 24 : 2 ** 34;
  if (needed > memory.free)
    return { skipped: `the ceilings need ${gigabytes(needed)}, and ${gigabytes(memory.free)} are free` };
  const products = {};
  for (const [name, k, n] of [
    ['gate and up', C, 2 * F],
    ['head', C, V],
  ]) {
    const found = binding._productSpeed({ rows, k, n, seconds, device });
    products[name] = { rows, k, n, ...rate(2 * rows * k * n, found) };
  }
  const bytes = needed / 4;
  const copy = rate(2 * bytes, binding._copySpeed({ bytes, kind: 'device', seconds, device }));
  const pinned = isTiny ? 2 ** 20 : 2 ** 30;
  const host = Object.fromEntries(
    ['in', 'out'].map((kind) => {
      const found = binding._copySpeed({
        bytes: pinned,
        kind,
        seconds: isTiny ? 0.02 : HOST_SECONDS,
        device,
      });
      return [kind, rate(pinned, found)];
    }),
  );
  const flops = best(products, 'sustained');
  return {
    value: flops / TERA,
    unit: 'TFLOP/s',
    seconds: Object.values(products)[0].seconds,
    ceilings: {
      flops,
      bandwidth: copy.sustained,
      host: best(host, 'sustained'),
      burst: { flops: best(products, 'burst'), bandwidth: copy.burst },
      isMeasured: true,
    },
    extra: { products, copy, host },
  };
}
