// The least time that the hardware allows for each job: operations over the rate of matrix products, bytes over the
// bandwidth of memory. Rates are what large products and copies sustain in the same run (the row `ceilings`); these stand
// for them until they are measured. An H200 does products at 790 TFLOP/s for a moment and at 657-686 from then on: its power
// is limited, and an H100's as it is.

const CEILINGS = [
  { match: /H200/, flops: 670e12, bandwidth: 4.3e12, host: 55e9 },
  { match: /H100/, flops: 670e12, bandwidth: 3.0e12, host: 55e9 },
  { match: /A100/, flops: 250e12, bandwidth: 1.7e12, host: 25e9 },
];
/** For trying the bench itself: a core of a server. */
const CPU = { flops: 5e11, bandwidth: 4e10, host: 1e10 };

/** In TFLOP/s, TB/s and GB/s what was given or measured, else what is known of a GPU of that name. */
export function ceilings(name, { flops, bandwidth, host }) {
  const known = name === 'cpu' ? CPU : CEILINGS.find(({ match }) => match.test(name));
  return {
    flops: flops ? Number(flops) * 1e12 : known?.flops,
    bandwidth: bandwidth ? Number(bandwidth) * 1e12 : known?.bandwidth,
    // Pinned host memory to the device or back, one way: PCIe 5 (or 4) x16 as copies are seen to reach it.
    host: host ? Number(host) * 1e9 : known?.host,
  };
}

/**
 * Seconds of one decode step of B live sequences at mean context P + T / 2, N of them sharing each prompt of P tokens:
 * weights once or B products, keys and values with the prompt's once per group, three passes over the logits.
 */
export function decodeStep({ trunk, head, kvBytes }, vocabSize, { B, P, T, N }, { flops, bandwidth }) {
  const products = Math.max((2 * (trunk + head) * B) / flops, (2 * (trunk + head)) / bandwidth);
  const context = P / N + T / 2;
  return products + (B * kvBytes * context + 6 * vocabSize * B) / bandwidth;
}

/** FLOP of scoring prompts whose N responses share them, and of the same without sharing. */
export const scoreFlop = ({ trunk, head }, { P, T, N }, prompts) =>
  (2 * trunk * (P + N * (T - 1)) + 2 * head * N * T) * prompts;
export const scoreFlopUnshared = ({ trunk, head }, { P, T, N }, prompts) =>
  (2 * trunk * N * (P + T - 1) + 2 * head * N * T) * prompts;

/** FLOP of a preference step: three passes with all weights, two with an adapter. */
export const trainFlop = ({ trunk, head }, { P, T }, pairs, { lora = false } = {}) =>
  (lora ? 4 : 6) * (trunk * (P + 2 * (T - 1)) + head * 2 * T) * pairs;
export const trainFlopUnshared = ({ trunk, head }, { P, T }, pairs, { lora = false } = {}) =>
  (lora ? 4 : 6) * (trunk * 2 * (P + T - 1) + head * 2 * T) * pairs;

/**
 * Bytes that AdamW moves for a parameter of a bfloat16 model: weight, low half and two float32 moments, read and written; the
 * gradient read for its norm and for the update.
 */
export const adamwBytes = (gradientsDtype = 'bfloat16') =>
  2 * (2 + 2 + 4 + 4) + 2 * (gradientsDtype === 'float32' ? 4 : 2);

/**
 * Least seconds of the parts of an iteration: N responses to each prompt, scored under three models, one pair each,
 * `batch` pairs a step.
 */
export function iterationFloor(size, vocabSize, { P, T, N, prompts, live, batch, lora = false }, caps) {
  const steps = Math.ceil(prompts / batch);
  const update = lora ? 0 : (steps * adamwBytes() * size.parameters) / caps.bandwidth;
  return {
    generate: ((prompts * N * T) / live) * decodeStep(size, vocabSize, { B: live, P, T, N }, caps),
    score: (3 * scoreFlop(size, { P, T, N }, prompts)) / caps.flops,
    train: trainFlop(size, { P, T }, prompts, { lora }) / caps.flops + update,
  };
}
