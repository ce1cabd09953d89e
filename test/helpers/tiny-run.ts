import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { CreamConfigInput } from '../../lib/config.js';
import { readModelConfig } from '../../lib/data/model-config.js';
import { MODEL_CONFIG, writeTokenizer } from '../../lib/demo/checkpoint.js';
import { Model } from '../../lib/native/model.js';

// A complete run on a random model of a few thousand parameters: seconds, and every stage has work.

const jsonl = (rows: object[]) => rows.map((row) => `${JSON.stringify(row)}\n`).join('');

const TRAINING = { learningRate: 1e-2, batchSize: 4, checkpointEverySteps: 2 } as const;

/** Writes model and data into an existing folder and returns the settings of a run in `folder`/run. */
export async function writeTinyRun(folder: string) {
  const shape = { vocab_size: 15, hidden_size: 32, intermediate_size: 64, head_dim: 8 };
  const tokenizer = join(folder, 'tokenizer');
  await writeTokenizer(tokenizer);
  const model = await Model.random(readModelConfig({ ...MODEL_CONFIG, ...shape }, 'the tiny run'), {
    seed: 5n,
  });
  await model.save(join(folder, 'model'), { from: tokenizer });
  model.dispose();

  const sums = (count: number, from: number) =>
    Array.from({ length: count }, (_, i) => ({ a: from + i, b: 7 * i, prompt: `${from + i}+${7 * i}=` }));
  writeFileSync(
    join(folder, 'sft.jsonl'),
    jsonl(sums(24, 100).map(({ a, b, prompt }) => ({ prompt, completion: `${a + b}` }))),
  );
  writeFileSync(
    join(folder, 'prompts.jsonl'),
    jsonl(sums(24, 300).map(({ a, b, prompt }, i) => ({ id: `p${i}`, prompt, label: `${a + b}` }))),
  );
  writeFileSync(
    join(folder, 'task.jsonl'),
    jsonl(sums(8, 500).map(({ a, b, prompt }) => ({ prompt, label: `${a + b}` }))),
  );
  return {
    model: join(folder, 'model'),
    output: join(folder, 'run'),
    seed: 3,
    threads: 1,
    iterations: 2,
    data: {
      sft: join(folder, 'sft.jsonl'),
      prompts: join(folder, 'prompts.jsonl'),
      evaluation: [{ name: 'sums', path: join(folder, 'task.jsonl'), extract: 'exact' }],
      extract: 'exact',
    },
    sft: { epochs: 1, ...TRAINING },
    sampling: { n: 4, maxNewTokens: 12, temperature: 1, chunkSize: 4 },
    train: { epochs: 2, ...TRAINING },
    evaluation: { maxNewTokens: 8, samples: 2 },
  } as const satisfies CreamConfigInput;
}

/** Every file that must be the same after any interruption, with its digest. */
export function digests(run: string): Record<string, string> {
  const names = readdirSync(run, { recursive: true, encoding: 'utf8' });
  return Object.fromEntries(
    names
      .filter((name) => /\.(jsonl|safetensors)$/.test(name) && name !== 'events.jsonl')
      .toSorted()
      .map((name) => [
        name,
        createHash('sha256')
          .update(readFileSync(join(run, name)))
          .digest('hex'),
      ]),
  );
}
