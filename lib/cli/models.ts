import { LORA_MODULES } from '../data/adapter.js';
import { CreamError } from '../errors.js';
import { Model, tuneMalloc } from '../native/model.js';
import type { Context } from './command.js';
import { ensureEngine } from './engine.js';

export interface ModelValues {
  device: string | undefined;
  dtype: 'auto' | 'float32' | 'bfloat16';
  threads: number | undefined;
  /** Folder of a LoRA adapter over the model. */
  adapter?: string | undefined;
}

/** Loads a model folder, and the adapter over it; the engine is built first where it never was. */
export async function loadModel(
  directory: string,
  { device, dtype, threads, adapter }: ModelValues,
  { terminal, signal }: Pick<Context, 'terminal' | 'signal'>,
): Promise<Model> {
  await ensureEngine(terminal);
  tuneMalloc(); // the process is the command line's own
  const model = await Model.load(directory, {
    device: device ?? 'auto',
    dtype,
    signal,
    ...(threads !== undefined && { threads }),
  });
  return adapter === undefined ? model : over(model, (base) => base.loadAdapter(adapter));
}

/** A model to train: as loadModel, with a new adapter where one is asked for. */
export async function loadTrainee(
  directory: string,
  values: ModelValues & { loraRank: number | undefined; loraAlpha: number | undefined; seed: number },
  context: Pick<Context, 'terminal' | 'signal'>,
): Promise<Model> {
  const { loraRank: rank, loraAlpha, adapter, seed } = values;
  if (rank === undefined && loraAlpha !== undefined) {
    throw new CreamError('USAGE', '--lora-alpha has no effect without --lora-rank');
  }
  if (rank !== undefined && adapter !== undefined) {
    throw new CreamError(
      'USAGE',
      '--adapter continues an adapter and --lora-rank begins one: give one of them',
    );
  }
  const model = await loadModel(directory, values, context);
  if (rank === undefined) return model;
  const lora = {
    rank,
    alpha: loraAlpha ?? 2 * rank,
    dropout: 0,
    rankStabilized: false,
    targetModules: LORA_MODULES,
  };
  return over(model, (base) => base.addAdapter(lora, { seed }));
}

/** The handle that `make` returns keeps the weights; the base's own handle is not needed any more. */
async function over(base: Model, make: (base: Model) => Promise<Model>): Promise<Model> {
  try {
    return await make(base);
  } finally {
    base.dispose();
  }
}
