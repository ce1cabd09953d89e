import { readCheckpoint } from '../../lib/data/checkpoint.js';
import { loadBinding } from '../../lib/native/binding.js';
import type { NativeCancelToken, NativeModel } from '../../lib/native/binding.js';
import { checkpoint } from './golden.js';

// The addon's own model, whose exports that begin with "_" only tests use.

/** The CPU, but for the tests in test/cuda-device. */
export const DEVICE = process.env.CREAM_TEST_GPU ?? 'cpu';

/**
 * How far float32 results may be from PyTorch's on the CPU, relatively. Both sum in other orders; a GPU's exp and rsqrt
 * are off by 2 ulp besides, and five steps of Adam carry that on.
 */
export const ROUNDING = DEVICE === 'cpu' ? 1e-5 : 3e-5;

/** A golden checkpoint by name, or any folder, in float32. */
export async function nativeModel(nameOrDirectory: string): Promise<NativeModel> {
  const directory = nameOrDirectory.includes('/') ? nameOrDirectory : checkpoint(nameOrDirectory);
  const { config, files } = await readCheckpoint(directory);
  return loadBinding().loadModel({ config, files, dtype: 'float32', device: DEVICE });
}

export function neverCancelled(): NativeCancelToken {
  return loadBinding().cancelToken();
}
