// The shapes of real models, with random weights: speed does not depend on them.

const llama = (shape) => ({
  maxPositionEmbeddings: 8192,
  rmsNormEps: 1e-5,
  ropeTheta: 500_000,
  ropeScaling: 'none',
  ropeFactor: 1,
  ropeLowFreqFactor: 1,
  ropeHighFreqFactor: 4,
  ropeOriginalMaxPositionEmbeddings: 8192,
  qkvBias: false,
  oBias: false,
  mlpBias: false,
  qkNorm: false,
  tieWordEmbeddings: false,
  ...shape,
  slidingWindow: Array(shape.numLayers).fill(0),
});

export const SHAPES = {
  /** Llama 3 8B. */
  '8b': llama({
    vocabSize: 128_256,
    hiddenSize: 4096,
    intermediateSize: 14_336,
    numLayers: 32,
    numHeads: 32,
    numKvHeads: 8,
    headDim: 128,
  }),
  /** Llama 3.2 1B: 1.24 billion parameters. */
  '1.2b': llama({
    vocabSize: 128_256,
    hiddenSize: 2048,
    intermediateSize: 8192,
    numLayers: 16,
    numHeads: 32,
    numKvHeads: 8,
    headDim: 64,
    tieWordEmbeddings: true,
  }),
  /** Qwen 2.5 0.5B. */
  '0.5b': llama({
    vocabSize: 151_936,
    hiddenSize: 896,
    intermediateSize: 4864,
    numLayers: 24,
    numHeads: 14,
    numKvHeads: 2,
    headDim: 64,
    qkvBias: true,
    tieWordEmbeddings: true,
    ropeTheta: 1_000_000,
  }),
  /** For trying the bench itself. */
  tiny: llama({
    vocabSize: 512,
    hiddenSize: 64,
    intermediateSize: 128,
    numLayers: 2,
    numHeads: 4,
    numKvHeads: 2,
    headDim: 16,
    tieWordEmbeddings: true,
    maxPositionEmbeddings: 2048,
  }),
};

/** Parameters that every row passes, those of the head, and bytes of keys and values per token. */
export function sizes(shape, bytes = 2) {
  const { hiddenSize: C, intermediateSize: F, numLayers, numHeads, numKvHeads, headDim } = shape;
  const attention = C * headDim * (numHeads + 2 * numKvHeads) + numHeads * headDim * C;
  const trunk = numLayers * (attention + 3 * C * F);
  const head = shape.vocabSize * C;
  return {
    trunk,
    head,
    parameters: trunk + head * (shape.tieWordEmbeddings ? 1 : 2) + (2 * numLayers + 1) * C,
    kvBytes: 2 * numLayers * numKvHeads * headDim * bytes,
  };
}
