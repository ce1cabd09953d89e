import type { AdapterSource } from '../data/adapter.js';
import type { ModelConfig } from '../data/model-config.js';
import { type NativeBinding, type NativeModelConfig, loadBinding } from './binding.js';

// What loading a model of any kind has in common.

export interface LoadOptions {
  /** `auto`, the default: the first GPU that this build can use, else the CPU. */
  device?: string;
  /** `auto`: float32 for a float32 checkpoint, else bfloat16. */
  dtype?: 'auto' | 'float32' | 'bfloat16';
  /** Threads of the engine, for the whole process. */
  threads?: number;
  signal?: AbortSignal | undefined;
}

/** The addon, with as many threads as asked for. */
export function prepare({ threads }: Pick<LoadOptions, 'threads'>): NativeBinding {
  const binding = loadBinding();
  if (threads !== undefined) binding.setThreads(threads);
  return binding;
}

/** The dtype that a checkpoint is computed in, by the file that holds its embedding. */
export function dtypeOf(file: string): 'float32' | 'bfloat16' {
  const tensors = loadBinding().safetensorsHeader(file);
  const embedding = tensors.find(({ name }) => name === 'model.embed_tokens.weight') ?? tensors[0];
  return embedding?.dtype === 'F32' ? 'float32' : 'bfloat16';
}

export function toNative(config: ModelConfig): NativeModelConfig {
  const { modelType: _type, bosTokenId: _bos, eosTokenIds: _eos, padTokenId: _pad, ...numbers } = config;
  return numbers;
}

/** What reading an adapter needs to know of the model under it. */
export const adapterSource = ({ numLayers }: Pick<ModelConfig, 'numLayers'>): AdapterSource => ({
  numLayers,
  tensorsOf: (file) => loadBinding().safetensorsHeader(file),
});
