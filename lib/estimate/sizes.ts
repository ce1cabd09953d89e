import type { LoraModule, LoraOptions } from '../data/adapter.js';
import type { ModelConfig } from '../data/model-config.js';

// How many bytes the engine keeps for a model of a given shape: what native/ allocates, as arithmetic.

export type Dtype = 'float32' | 'bfloat16';
/** A number: selective, and the gate and up projections of so many layers. */
export type Recompute = 'selective' | 'full' | 'none' | number;
/** The engine's path: their chunks of logits and their masters differ. */
export type EngineKind = 'cpu' | 'gpu';

export const bytesOf = (dtype: Dtype): number => (dtype === 'float32' ? 4 : 2);

export interface ParameterCounts {
  /** Input embedding, [V, C]. */
  embedding: number;
  /** Output head, [V, C]; 0 when it is the embedding. */
  head: number;
  /** One transformer layer. */
  layer: number;
  /** All of the model, a tied head once. */
  total: number;
}

/** Parameters by place. */
export function parameterCounts(config: ModelConfig): ParameterCounts {
  const { hiddenSize: c, intermediateSize: f, numHeads, numKvHeads, headDim, vocabSize } = config;
  const qkv = (numHeads + 2 * numKvHeads) * headDim;
  const layer =
    2 * c +
    qkv * c +
    (config.qkvBias ? qkv : 0) +
    (config.qkNorm ? 2 * headDim : 0) +
    c * numHeads * headDim +
    (config.oBias ? c : 0) +
    3 * f * c +
    (config.mlpBias ? 2 * f + c : 0);
  const embedding = vocabSize * c;
  const headRows = config.numLabels ?? vocabSize;
  const head = config.tieWordEmbeddings ? 0 : headRows * c;
  return { embedding, head, layer, total: embedding + head + config.numLayers * layer + c };
}

/** Keys and values of one token in all layers, in bytes. */
export function kvBytesPerToken({ numLayers, numKvHeads, headDim }: ModelConfig, dtype: Dtype): number {
  const padded = Math.ceil(headDim / 16) * 16; // values are padded to a vector register
  return numLayers * numKvHeads * (headDim + padded) * bytesOf(dtype);
}

/** What the backward pass keeps of one row (one token) of one layer, in bytes. */
function savedBytesPerLayerRow(config: ModelConfig, dtype: Dtype): number {
  const { hiddenSize: c, intermediateSize: f, numHeads, numKvHeads, headDim } = config;
  const queries = numHeads * headDim;
  const keys = numKvHeads * headDim;
  const numbers = 2 * c + (queries + 2 * keys) + (config.qkNorm ? queries + keys : 0) + queries + 2 * f;
  return numbers * bytesOf(dtype) + numHeads * 4;
}

/** What the backward pass keeps of one row of a training forward, in bytes. */
export function savedBytesPerRow(
  config: ModelConfig,
  dtype: Dtype,
  recompute: Recompute = 'selective',
): number {
  const { hiddenSize: c, intermediateSize: f, numLayers } = config;
  const layer = savedBytesPerLayerRow(config, dtype);
  switch (recompute) {
    case 'selective':
      return numLayers * layer;
    case 'none':
      return numLayers * (layer + 2 * c * bytesOf(dtype));
    case 'full': // the input of every layer, and all of the one that is computed again
      return numLayers * c * bytesOf(dtype) + layer;
    default:
      return numLayers * layer - Math.min(recompute, numLayers) * 2 * f * bytesOf(dtype);
  }
}

/** One row of a training step: what is kept, and the widest moment beside it. */
export function activationBytesPerRow(config: ModelConfig, dtype: Dtype, recompute: Recompute): number {
  const forward = savedBytesPerRow(config, dtype, recompute) + workingBytesPerRow(config, dtype);
  if (typeof recompute === 'string') return forward;
  // When the backward comes to the layers whose gate|up it computes again, the others are gone.
  const { hiddenSize: c, intermediateSize: f, numLayers } = config;
  const again = Math.min(recompute, numLayers);
  const backward = again * (savedBytesPerLayerRow(config, dtype) - 2 * f * bytesOf(dtype));
  return Math.max(forward, backward + (4 * f + 5 * c) * bytesOf(dtype));
}

/** The widest moment of one row in a forward pass: residual, norm, gate|up, their product and its projection. */
export function workingBytesPerRow(config: ModelConfig, dtype: Dtype): number {
  const { hiddenSize: c, intermediateSize: f, numHeads, numKvHeads, headDim } = config;
  const attention = 3 * c + (2 * numHeads + 2 * numKvHeads) * headDim;
  return Math.max(attention, 3 * c + 3 * f) * bytesOf(dtype);
}

/** Parameters of the adapters of a run; 0 without them. */
export function adapterParameters(config: ModelConfig, lora: LoraOptions | undefined): number {
  if (lora === undefined) return 0;
  const { hiddenSize: c, intermediateSize: f, numHeads, numKvHeads, headDim } = config;
  const [q, kv] = [numHeads * headDim, numKvHeads * headDim];
  const sides: Record<LoraModule, number> = {
    q_proj: c + q,
    k_proj: c + kv,
    v_proj: c + kv,
    o_proj: q + c,
    gate_proj: c + f,
    up_proj: c + f,
    down_proj: f + c,
  };
  return config.numLayers * lora.rank * lora.targetModules.reduce((sum, module) => sum + sides[module], 0);
}

const HEAD_ROWS = { cpu: 512, gpu: 4096, gpuFrozen: 1024 } as const;

interface HeadUse {
  engine: EngineKind;
  rows: number;
  /** Adapters are trained, not the head. */
  isFrozen?: boolean;
}

/**
 * One chunk of logits, float32 whatever the weights' type, and its gradient in training, in bytes. On a GPU the gradient
 * takes the logits' place.
 */
export function headBytes(
  { vocabSize }: ModelConfig,
  purpose: 'score' | 'train',
  { engine, rows, isFrozen = false }: HeadUse = {
    engine: 'cpu',
    rows: Number.POSITIVE_INFINITY,
  },
): number {
  const most = isFrozen ? HEAD_ROWS.gpuFrozen : HEAD_ROWS.gpu;
  if (engine === 'gpu') return Math.min(most, rows) * vocabSize * 4;
  return HEAD_ROWS.cpu * vocabSize * 4 * (purpose === 'train' ? 2 : 1);
}

/** Bytes per parameter beside the working weights: float32 gradient, two moments, and a master where weights are rounded. */
export const optimizerBytesPerParameter = (dtype: Dtype): number => (dtype === 'float32' ? 12 : 16);

/**
 * Responses that the engine writes at once where memory allows, as native/generate plans them: enough that reading the
 * weights costs little, on a GPU more of them for a small model.
 */
export function slotsOf(model: ModelConfig, engine: EngineKind): number {
  if (engine === 'cpu') return 256;
  return parameterCounts(model).total > 2e9 ? 512 : 1024;
}
