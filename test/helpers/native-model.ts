import { readCheckpoint } from '../../lib/data/checkpoint.js';
import { loadBinding } from '../../lib/native/binding.js';
import type { NativeCancelToken, NativeModel } from '../../lib/native/binding.js';
import { checkpoint } from './golden.js';

// The addon's own model, whose exports that begin with "_" only tests use.

/** A golden checkpoint by name, or any folder, in float32. */
export async function nativeModel(nameOrDirectory: string): Promise<NativeModel> {
  const directory = nameOrDirectory.includes('/') ? nameOrDirectory : checkpoint(nameOrDirectory);
  const { config, files } = await readCheckpoint(directory);
  return loadBinding().loadModel({ config, files, dtype: 'float32', device: 'cpu' });
}

export function neverCancelled(): NativeCancelToken {
  return loadBinding().cancelToken();
}
