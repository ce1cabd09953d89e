// Saves every tiny checkpoint through the engine, in float32 and bfloat16, for check_saved.py.
//   node test/golden/save_all.mjs DIRECTORY
import { mkdirSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Model } from '../../dist/lib/index.js';

const [target] = process.argv.slice(2);
if (target === undefined) throw new Error('usage: node test/golden/save_all.mjs DIRECTORY');
mkdirSync(target, { recursive: true });

const checkpoints = join(dirname(fileURLToPath(import.meta.url)), 'checkpoints');
for (const name of readdirSync(checkpoints)) {
  for (const dtype of ['float32', 'bfloat16']) {
    const model = await Model.load(join(checkpoints, name), { dtype });
    await model.save(join(target, `${name}.${dtype}`));
    model.dispose();
  }
}
