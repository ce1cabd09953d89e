import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { CreamConfigInput } from '../config.js';
import { promptOf, randomStream, type ToyTask } from './task.js';

// The data of a toy task and the settings of a run on it. Sizes and rates are those at which docs/demo.md measured
// the effect.

/** Format of a toy model's weights and activations. */
export type ModelDtype = 'float32' | 'bfloat16';

export interface DataSizes {
  /** Clean examples. */
  sft: number;
  promptsPerIteration: number;
  iterations: number;
  /** Held-out problems. */
  evaluation: number;
}

/** Writes sft.jsonl, prompts.jsonl and evaluation.jsonl, which follow from task, seed and sizes alone. */
export async function writeData(
  directory: string,
  { task, seed, sizes }: { task: ToyTask; seed: number; sizes: DataSizes },
): Promise<void> {
  const problems = (name: string, count: number) => {
    const random = randomStream(seed, name);
    return Array.from({ length: count }, (_, index) => ({
      id: `${name}-${index}`,
      problem: task.problem(random),
    }));
  };
  const files = {
    'sft.jsonl': problems('sft', sizes.sft).map(({ id, problem }) => ({
      id,
      prompt: promptOf(problem),
      completion: task.rightAnswer(problem),
    })),
    // Labels ride along for the report; the method never sees them.
    'prompts.jsonl': problems('prompt', sizes.promptsPerIteration * sizes.iterations).map(
      ({ id, problem }) => ({ id, prompt: promptOf(problem), label: task.rightAnswer(problem) }),
    ),
    'evaluation.jsonl': problems('evaluation', sizes.evaluation).map(({ id, problem }) => ({
      id,
      question: promptOf(problem),
      label: task.rightAnswer(problem),
    })),
  };
  for (const [name, rows] of Object.entries(files)) {
    await writeFile(join(directory, name), rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  }
}

/** What the runs of a task have in common: M0 in `directory`/base and the data beside it. */
export function iterationSettings(directory: string, task: ToyTask, { iterations }: DataSizes) {
  const training = {
    epochs: 1,
    learningRate: 5e-5,
    batchSize: 64,
    schedule: 'constant',
    warmupRatio: 0,
  } as const;
  return {
    model: join(directory, 'base'),
    device: 'cpu',
    iterations,
    data: {
      sft: join(directory, 'sft.jsonl'),
      prompts: join(directory, 'prompts.jsonl'),
      evaluation: [{ name: 'sums', path: join(directory, 'evaluation.jsonl'), extract: 'exact' }],
      extract: 'exact',
    },
    sft: training,
    sampling: { temperature: 1, topP: 0.95, maxNewTokens: task.maxNewTokens, chunkSize: 200 },
    train: training,
    evaluation: { maxNewTokens: task.maxNewTokens, samples: 4, temperature: 1 },
  } as const satisfies CreamConfigInput;
}
