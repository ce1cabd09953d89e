import { Model, tuneMalloc } from '../native/model.js';
import type { Context } from './command.js';
import { ensureEngine } from './engine.js';

export interface ModelValues {
  device: string | undefined;
  dtype: 'auto' | 'float32' | 'bfloat16';
  threads: number | undefined;
}

/** Loads a model folder; the engine is built first where it never was. */
export async function loadModel(
  directory: string,
  { device, dtype, threads }: ModelValues,
  { terminal, signal }: Pick<Context, 'terminal' | 'signal'>,
): Promise<Model> {
  await ensureEngine(terminal);
  tuneMalloc(); // the process is the command line's own
  return Model.load(directory, {
    device: device ?? 'auto',
    dtype,
    signal,
    ...(threads !== undefined && { threads }),
  });
}
