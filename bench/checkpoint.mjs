import { join } from 'node:path';
import { Model } from '../dist/lib/index.js';
import { CONFIG } from './workload.mjs';

/** Saves a model with random weights as a Hugging Face folder that both sides load; returns its path. */
export async function makeCheckpoint(directory) {
  const path = join(directory, 'model');
  const model = await Model.random(CONFIG, { seed: 1n });
  await model.save(path);
  model.dispose();
  return path;
}
