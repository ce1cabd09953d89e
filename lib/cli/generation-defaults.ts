import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CreamError } from '../errors.js';

export interface GenerationDefaults {
  maxNewTokens: number;
  temperature: number;
  topP: number;
  topK: number;
}

/** What holds where neither the command line nor the model says anything: the model's own distribution. */
const FALLBACK: GenerationDefaults = { maxNewTokens: 256, temperature: 1, topP: 1, topK: 0 };

/** Sampling settings of a model's generation_config.json. `do_sample: false` is greedy. */
export async function generationDefaults(directory: string): Promise<GenerationDefaults> {
  const path = join(directory, 'generation_config.json');
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return FALLBACK;
    throw error;
  }
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (cause) {
    throw new CreamError('INVALID_CHECKPOINT', `${path} is not valid JSON`, { cause });
  }
  const settings = new Map(Object.entries(Object(parsed)));
  const read = (key: string, fallback: number, isValid: (value: number) => boolean): number => {
    const value = settings.get(key) ?? fallback;
    if (typeof value !== 'number' || !isValid(value)) {
      throw new CreamError(
        'INVALID_CHECKPOINT',
        `${path}: ${key} is ${JSON.stringify(value)}; correct it or remove it`,
      );
    }
    return value;
  };
  const temperature = read('temperature', FALLBACK.temperature, (value) => value >= 0);
  return {
    maxNewTokens: read(
      'max_new_tokens',
      FALLBACK.maxNewTokens,
      (value) => Number.isInteger(value) && value > 0,
    ),
    temperature: settings.get('do_sample') === false ? 0 : temperature,
    topP: read('top_p', FALLBACK.topP, (value) => value > 0 && value <= 1),
    topK: read('top_k', FALLBACK.topK, (value) => Number.isInteger(value) && value >= 0),
  };
}
