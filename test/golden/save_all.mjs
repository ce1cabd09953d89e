// Saves every tiny checkpoint through the engine, in float32 and bfloat16, and the adapters, for check_saved.py.
//   node test/golden/save_all.mjs DIRECTORY
import { mkdirSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Model } from '../../dist/lib/index.js';

const [target] = process.argv.slice(2);
if (target === undefined) throw new Error('usage: node test/golden/save_all.mjs DIRECTORY');
mkdirSync(target, { recursive: true });

const checkpoints = join(dirname(fileURLToPath(import.meta.url)), 'checkpoints');
for (const name of readdirSync(checkpoints).filter((name) => !name.startsWith('reward-'))) {
  for (const dtype of ['float32', 'bfloat16']) {
    const model = await Model.load(join(checkpoints, name), { dtype });
    await model.save(join(target, `${name}.${dtype}`));
    model.dispose();
  }
}
for (const [name, base] of Object.entries({ all: 'qwen3', some: 'llama-tied' })) {
  const model = await Model.load(join(checkpoints, base));
  const adapted = await model.loadAdapter(join(checkpoints, '..', 'adapters', name));
  await adapted.save(join(target, `adapter-${name}`));
  adapted.dispose();
  model.dispose();
}
