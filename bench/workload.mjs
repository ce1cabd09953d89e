// What is measured, the same for both sides: shapes, token ids, sampling settings. Weights and ids are random: speed
// does not depend on them.

/** Llama, 109 M parameters: 85 M in the layers, 24 M in the embeddings, which are the head as well. */
export const CONFIG = {
  vocabSize: 32_000,
  hiddenSize: 768,
  intermediateSize: 2048,
  numLayers: 12,
  numHeads: 12,
  numKvHeads: 12,
  headDim: 64,
  maxPositionEmbeddings: 1024,
  rmsNormEps: 1e-5,
  ropeTheta: 10_000,
  ropeScaling: 'none',
  ropeFactor: 1,
  ropeLowFreqFactor: 1,
  ropeHighFreqFactor: 4,
  ropeOriginalMaxPositionEmbeddings: 8192,
  qkvBias: false,
  oBias: false,
  mlpBias: false,
  qkNorm: false,
  tieWordEmbeddings: true,
  slidingWindow: Array(12).fill(0),
};

/** On every matrix of every layer. */
export const ADAPTER = {
  rank: 16,
  alpha: 32,
  dropout: 0,
  rankStabilized: false,
  targetModules: ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'],
};

const BOS = 1;
const PROMPT_TOKENS = 64;
const RESPONSE_TOKENS = 128;
const GROUPS = 4;
const SAMPLES = 5;

/** Ratios to reach: the peer's seconds by ours. */
export const WANTED = { generate: 3, score: 1.4, preference: 1.2, lora: 1.4 };
export const JOBS = Object.keys(WANTED);
export const DTYPES = ['float32', 'bfloat16'];

/** Ids in [3, vocabulary), from a linear congruential generator. */
function* idStream(seed) {
  let state = seed >>> 0;
  for (;;) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    yield 3 + Math.floor((state / 2 ** 32) * (CONFIG.vocabSize - 3));
  }
}

export function makeWorkload() {
  const stream = idStream(7);
  const ids = (length) => Array.from({ length }, () => stream.next().value);
  const groups = Array.from({ length: GROUPS }, () => ({
    promptIds: [BOS, ...ids(PROMPT_TOKENS - 1)],
    responses: Array.from({ length: SAMPLES }, () => ids(RESPONSE_TOKENS)),
  }));
  const preference = {
    pairs: groups.map(({ promptIds, responses: [chosenIds, rejectedIds] }, index) => ({
      promptIds,
      chosenIds,
      rejectedIds,
      consistency: [1, 0.9, 0.8, 0.6][index],
    })),
    beta: 0.1,
    learningRate: 1e-6,
    weightDecay: 0.01,
    maxGradNorm: 1,
    tokens: GROUPS * 2 * RESPONSE_TOKENS,
  };
  return {
    generate: {
      prompts: groups.map((group) => group.promptIds),
      n: SAMPLES,
      maxNewTokens: RESPONSE_TOKENS,
      temperature: 0.8,
      topP: 0.95,
      seed: 1,
      tokens: GROUPS * SAMPLES * RESPONSE_TOKENS,
    },
    score: { groups, tokens: GROUPS * SAMPLES * RESPONSE_TOKENS },
    preference,
    // The same step on an adapter over frozen weights.
    lora: preference,
  };
}
