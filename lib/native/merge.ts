import { join } from 'node:path';
import { readAdapter } from '../data/adapter.js';
import { publishCheckpoint, readCheckpoint, writeCompanions } from '../data/checkpoint.js';
import { withDtype } from '../data/model-config.js';
import { AbortableCall, native } from './call.js';
import { adapterSource, type LoadOptions, prepare, toNative } from './loading.js';

export interface MergeOptions extends Pick<LoadOptions, 'threads' | 'signal'> {
  /** `auto`, the default: every tensor keeps its own. */
  dtype?: 'auto' | 'float32' | 'bfloat16';
  /** Replace a folder that is there. */
  overwrite?: boolean;
  maxShardBytes?: number;
}

export interface MergedCheckpoint {
  numParameters: number;
  /** Of the embedding. */
  dtype: 'float32' | 'bfloat16' | 'float16';
}

const NAMES: Readonly<Record<string, MergedCheckpoint['dtype']>> = {
  F32: 'float32',
  BF16: 'bfloat16',
  F16: 'float16',
};
const DEFAULT_SHARD_BYTES = 5_000_000_000;

/**
 * Writes a checkpoint with a low-rank adapter added to its weights, from file to file, one tensor in memory at a time: W +
 * scale B A, added in float32 from the file's own values and rounded once. The folder appears whole or not at all.
 */
export async function mergeCheckpoint(
  model: string,
  adapter: string,
  output: string,
  options: MergeOptions = {},
): Promise<MergedCheckpoint> {
  const { dtype = 'auto', overwrite = false, maxShardBytes = DEFAULT_SHARD_BYTES, signal } = options;
  return AbortableCall.during(signal, async () => {
    const { config, configText, files } = await readCheckpoint(model);
    const binding = await native(async () => prepare(options));
    const { options: lora, file } = await native(() => readAdapter(adapter, adapterSource(config)));
    let merged: MergedCheckpoint | undefined;
    await publishCheckpoint(
      output,
      async (temporary) => {
        const names = await native(() =>
          binding.mergeCheckpoint({
            config: toNative(config),
            files,
            adapter: lora,
            adapterFile: file,
            dtype: dtype === 'auto' ? 'own' : dtype,
            directory: temporary,
            maxShardBytes,
          }),
        );
        const tensors = names
          .filter((name) => name.endsWith('.safetensors'))
          .flatMap((name) => binding.safetensorsHeader(join(temporary, name)));
        merged = {
          numParameters: tensors.reduce(
            (sum, { shape }) => sum + shape.reduce((size, length) => size * length, 1),
            0,
          ),
          dtype: NAMES[tensors.find(({ name }) => name.includes('embed_tokens'))?.dtype ?? ''] ?? 'float32',
        };
        await writeCompanions(model, temporary, dtype === 'auto' ? configText : withDtype(configText, dtype));
      },
      { overwrite },
    );
    return merged as MergedCheckpoint;
  });
}
