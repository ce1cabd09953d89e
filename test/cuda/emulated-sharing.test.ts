import { join } from 'node:path';
import type { NativeDtype } from '../../lib/native/binding.js';
import { GPU, t } from '../helpers/gpu.js';
import { checkSharing, trainedAdapter } from '../helpers/sharing.js';
import { binding, EVERYTHING, genericTensors, TIED, writeTensors } from '../helpers/tiny-model.js';

// The same comparison as test/train/sharing.test.ts on the GPU's path.

binding.setThreads(1);

for (const [name, config] of Object.entries({ EVERYTHING, TIED })) {
  for (const dtype of ['float32', 'bfloat16'] as NativeDtype[]) {
    t.test(`on the GPU's path a shared prompt changes nothing: ${name}, ${dtype}`, async (t) => {
      const path = join(t.testdir(), 'm.safetensors');
      writeTensors(path, await genericTensors(config));
      const load = () => binding.loadModel({ config, files: [path], dtype, device: GPU });
      await checkSharing(t, load, dtype);
      if (name === 'EVERYTHING') await checkSharing(t, async () => trainedAdapter(await load()), dtype);
    });
  }
}
