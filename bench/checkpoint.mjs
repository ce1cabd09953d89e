import { join } from 'node:path';
import { Model } from '../dist/lib/index.js';
import { ADAPTER, CONFIG } from './workload.mjs';

/** Saves a model with random weights, and in it a new adapter, as folders that both sides load; returns its path. */
export async function makeCheckpoint(directory) {
  const path = join(directory, 'model');
  const model = await Model.random(CONFIG, { seed: 1n });
  await model.save(path);
  const adapter = await model.addAdapter(ADAPTER, { seed: 2n });
  await adapter.save(join(path, 'adapter'));
  adapter.dispose();
  model.dispose();
  return path;
}
