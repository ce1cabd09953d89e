import { loadPrompts, loadSft, type PromptRecord } from '../data/datasets.js';
import { encodeSftExamples, type SftExample, type SftExampleOptions } from '../data/sft-examples.js';
import { TextNotices } from '../data/text-notices.js';
import type { ChatMode, PrefixMismatch, Tokenizer } from '../data/tokenizer.js';
import type { Extraction } from '../data/tasks.js';
import { CreamError } from '../errors.js';
import { shuffled } from './random.js';

// A run's data as tokens. Every record that was read is used or counted as dropped; one length limit holds for
// sampling, scoring and training.

export interface Dropped {
  /** prompt + response (or the room for one) is longer than maxLength. */
  tooLong: number;
}

export interface InputOptions {
  chat: ChatMode;
  maxLength: number;
  extract?: Extraction;
  signal?: AbortSignal;
  warn?: (code: string, message: string) => void;
}

export type Prompt = PromptRecord & { promptIds: number[] };

const optional = <Key extends string, Value>(key: Key, value: Value | undefined) =>
  (value === undefined ? {} : { [key]: value }) as { [K in Key]?: Value };

/** Encodes a file's texts and tells once what is surprising in them. */
async function encodeTold<T>(
  path: string,
  { warn }: InputOptions,
  encode: (notices: TextNotices) => Promise<T>,
): Promise<T> {
  const notices = new TextNotices();
  const result = await encode(notices);
  for (const { code, message } of notices.warnings(path)) warn?.(code, message);
  return result;
}

/** Prompts with room for `maxNewTokens` after them. */
export async function readPrompts(
  path: string,
  tokenizer: Tokenizer,
  options: InputOptions & { maxNewTokens: number },
): Promise<{ prompts: Prompt[]; dropped: Dropped }> {
  const { chat, maxLength, maxNewTokens, signal, extract } = options;
  const { records } = await loadPrompts(path, {
    ...optional('signal', signal),
    ...optional('extract', extract),
  });
  const ids = await encodeTold(path, options, (notices) =>
    tokenizer.promptIdsAll(records, { chat, notices, ...optional('signal', signal) }),
  );
  const prompts = records
    .map((record, index): Prompt => ({ ...record, promptIds: ids[index]! }))
    .filter(({ promptIds }) => promptIds.length + maxNewTokens <= maxLength);
  if (prompts.length === 0) {
    const shortest = Math.min(...ids.map(({ length }) => length));
    throw new CreamError(
      'INVALID_DATA',
      `${path}: no prompt leaves room for sampling.maxNewTokens ${maxNewTokens} within maxLength ${maxLength} ` +
        `(the shortest has ${shortest} tokens); lower sampling.maxNewTokens or raise maxLength`,
    );
  }
  return { prompts, dropped: { tooLong: records.length - prompts.length } };
}

/** Examples for supervised fine-tuning. */
export async function readSftExamples(
  path: string,
  tokenizer: Tokenizer,
  options: InputOptions & Pick<SftExampleOptions, 'loss'> & { prefixMismatch: PrefixMismatch },
): Promise<{ examples: SftExample[]; dropped: Dropped }> {
  const { chat, maxLength, signal, loss, prefixMismatch } = options;
  const { records } = await loadSft(path, optional('signal', signal));
  const all = await encodeTold(path, options, (notices) =>
    encodeSftExamples(records, tokenizer, {
      chat,
      loss,
      prefixMismatch,
      notices,
      ...optional('signal', signal),
    }),
  );
  const examples = all.filter(
    (example) => example.promptIds.length + example.responseIds.length <= maxLength,
  );
  if (examples.length === 0) {
    throw new CreamError(
      'INVALID_DATA',
      `${path}: every example is longer than maxLength ${maxLength}; raise it`,
    );
  }
  return { examples, dropped: { tooLong: all.length - examples.length } };
}

/** How many prompts an iteration gets: the setting, or an even share. Throws when there are not enough. */
export function promptsPerIteration(setting: number | 'auto', usable: number, iterations: number): number {
  const each = setting === 'auto' ? Math.floor(usable / iterations) : setting;
  if (each < 1 || each * iterations > usable) {
    throw new CreamError(
      'INVALID_DATA',
      `${iterations} iterations of ${Math.max(1, each)} prompts need ${Math.max(1, each) * iterations}, data.prompts has ` +
        `${usable} usable ones; lower iterations or sampling.promptsPerIteration, or add prompts`,
    );
  }
  return each;
}

/** The prompts of iteration t: disjoint slices of one order that the seed decides. */
export function sliceOf<T extends { id: string }>(
  prompts: readonly T[],
  iteration: number,
  each: number,
  seed: number,
): T[] {
  return shuffled(prompts, seed, 'prompts', ({ id }) => id).slice((iteration - 1) * each, iteration * each);
}
