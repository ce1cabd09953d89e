import { join } from 'node:path';
import t from 'tap';
import type { NativeDtype } from '../../lib/native/binding.js';
import { checkSharing, trainedAdapter } from '../helpers/sharing.js';
import { binding, EVERYTHING, genericTensors, modelFrom, TIED } from '../helpers/tiny-model.js';

// `sharePrompts: false` is the definition that the fast path is compared with: every response a sequence of its own.

binding.setThreads(1);

for (const [name, config] of Object.entries({ EVERYTHING, TIED })) {
  for (const dtype of ['float32', 'bfloat16'] as NativeDtype[]) {
    t.test(`a shared prompt changes neither scores nor steps: ${name}, ${dtype}`, async (t) => {
      const path = join(t.testdir(), 'm.safetensors');
      const load = async () => modelFrom(path, config, await genericTensors(config), dtype);
      await checkSharing(t, load, dtype);
    });
    t.test(`nor those of an adapter: ${name}, ${dtype}`, async (t) => {
      const path = join(t.testdir(), 'm.safetensors');
      const load = async () => modelFrom(path, config, await genericTensors(config), dtype);
      await checkSharing(t, async () => trainedAdapter(await load()), dtype);
    });
  }
}
