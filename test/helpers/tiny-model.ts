import { writeFileSync } from 'node:fs';
import {
  loadBinding,
  type NativeDtype,
  type NativeModel,
  type NativeModelConfig,
  type NativeTensor,
} from '../../lib/native/binding.js';
import { normal } from './random.js';

// Native models of a few thousand parameters, without a checkpoint folder.

export const binding = loadBinding();

/** Grouped-query heads, every bias and norm that an architecture can have, in two layers. */
export const EVERYTHING: NativeModelConfig = {
  vocabSize: 29,
  hiddenSize: 16,
  intermediateSize: 20,
  numLayers: 2,
  numHeads: 4,
  numKvHeads: 2,
  headDim: 6,
  maxPositionEmbeddings: 512,
  rmsNormEps: 1e-5,
  ropeTheta: 10000,
  ropeScaling: 'none',
  ropeFactor: 1,
  ropeLowFreqFactor: 1,
  ropeHighFreqFactor: 4,
  ropeOriginalMaxPositionEmbeddings: 8192,
  qkvBias: true,
  oBias: true,
  mlpBias: true,
  qkNorm: true,
  tieWordEmbeddings: false,
  slidingWindow: [0, 0],
};

/** A plain Llama with a tied head and a sliding window in its second layer. */
export const TIED: NativeModelConfig = {
  ...EVERYTHING,
  numKvHeads: 4,
  headDim: 8,
  qkvBias: false,
  oBias: false,
  mlpBias: false,
  qkNorm: false,
  tieWordEmbeddings: true,
  slidingWindow: [0, 3],
};

export function randomModel(
  config: NativeModelConfig,
  { seed = 1n, dtype = 'float32' }: { seed?: bigint; dtype?: NativeDtype } = {},
): Promise<NativeModel> {
  return binding.randomModel({ config, seed, dtype, device: 'cpu' });
}

/** Tensors of a model, none of them at its initial constant: every parameter has an effect. */
export async function genericTensors(config: NativeModelConfig): Promise<NativeTensor[]> {
  const model = await randomModel(config);
  const tensors = await model._tensors();
  model.dispose();
  return tensors.map((tensor, i) => {
    const noise = normal(tensor.data.length, { seed: 100 + i, scale: 0.3 });
    return { ...tensor, data: tensor.data.map((x, j) => x + noise[j]!) };
  });
}

/** A float32 safetensors file. */
export function writeTensors(path: string, tensors: readonly NativeTensor[]): void {
  let offset = 0;
  const header: Record<string, object> = {};
  for (const { name, shape, data } of tensors) {
    header[name] = { dtype: 'F32', shape, data_offsets: [offset, offset + data.byteLength] };
    offset += data.byteLength;
  }
  const text = Buffer.from(JSON.stringify(header));
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(text.length));
  const bytes = tensors.map(({ data }) => Buffer.from(data.buffer, data.byteOffset, data.byteLength));
  writeFileSync(path, Buffer.concat([size, text, ...bytes]));
}

export function modelFrom(
  path: string,
  config: NativeModelConfig,
  tensors: readonly NativeTensor[],
  dtype: NativeDtype = 'float32',
): Promise<NativeModel> {
  writeTensors(path, tensors);
  return binding.loadModel({ config, files: [path], dtype, device: 'cpu' });
}

export const ids = (...values: number[]) => Int32Array.from(values);

/** `length` ids below `vocabSize`, the same for the same seed. */
export function randomIds(length: number, seed: number, vocabSize = EVERYTHING.vocabSize): Int32Array {
  const values = normal(length, { seed, scale: 1000 });
  return Int32Array.from(values, (x) => Math.floor(Math.abs(x)) % vocabSize);
}
