import { CreamError } from '../errors.js';
import type { Message } from '../types.js';
import type { SftRecord } from './datasets.js';
import type { Exchange, ExchangeOptions } from './exchange-encoder.js';
import type { Tokenizer } from './tokenizer.js';

// What supervised fine-tuning learns of each record, as tokens.

/**
 * Of a conversation: the last turn of the assistant, all of them, or what the chat template marks as generated. A
 * completion is learnt whole; template takes of it what is marked.
 */
export type TrainedTurns = 'last' | 'all' | 'template';

/** A prompt and the response to learn, as tokens; the loss is taken on response tokens only. */
export interface SftExample {
  id: string;
  promptIds: number[];
  /** The token that ends the response included. */
  responseIds: number[];
  /** 1 for each response token that carries loss, 0 for what stands between turns; absent where all do. */
  trained?: number[];
}

export type SftExampleOptions = Omit<ExchangeOptions, 'stop'> & { loss: TrainedTurns };

/** One example per record; more where the template rewrites an earlier turn as soon as another follows. */
export async function encodeSftExamples(
  records: readonly SftRecord[],
  tokenizer: Pick<Tokenizer, 'exchanges' | 'conversations'>,
  { loss, ...options }: SftExampleOptions,
): Promise<SftExample[]> {
  if (loss === 'template') return markedExamples(records, tokenizer, options);
  const turns = records.map((record) => (loss === 'all' ? earlierTurns(record) : []));
  const asked = records.flatMap(({ response, prompt, isConversation: _, ...rest }, i) => [
    ...turns[i]!.map(({ before, turn }) => ({ ...rest, prompt: before, responses: [[turn]] })),
    { ...rest, prompt, responses: [response] },
  ]);
  const encoded = (await tokenizer.exchanges(asked, options)).values();
  return records.flatMap(({ id }, i) => {
    const own = [...turns[i]!, undefined].map(() => encoded.next().value!);
    return joinTurns(id, own);
  });
}

/** The assistant's turns before the last, each with what stands before it. */
function earlierTurns({ id, prompt, isConversation }: SftRecord): { before: Message[]; turn: Message }[] {
  if (isConversation !== true || typeof prompt === 'string') return [];
  return prompt.flatMap((turn, i) => {
    if (turn.role !== 'assistant') return [];
    const before = prompt.slice(0, i);
    if (before.length > 0) return [{ before, turn }];
    throw new CreamError(
      'INVALID_DATA',
      `prompt ${id}: the conversation begins with the assistant's turn, which answers nothing; data.loss "last" leaves it out`,
    );
  });
}

/** Turns that are beginnings of the last one's tokens become one example with it; each other one is its own. */
function joinTurns(id: string, turns: readonly Exchange[]): SftExample[] {
  const examples: SftExample[] = [];
  let waiting = turns.map(({ promptIds, responses }) => ({ promptIds, responseIds: responses[0]! }));
  while (waiting.length > 0) {
    const { promptIds, responseIds } = waiting.at(-1)!;
    const whole = [...promptIds, ...responseIds];
    const isPart = waiting.map((turn) => startsWith(whole, [...turn.promptIds, ...turn.responseIds]));
    const parts = waiting.filter((_, i) => isPart[i]);
    waiting = waiting.filter((_, i) => !isPart[i]);
    const trained = new Uint8Array(whole.length);
    for (const part of parts) {
      trained.fill(1, part.promptIds.length, part.promptIds.length + part.responseIds.length);
    }
    examples.unshift(exampleOf(id, whole, trained));
  }
  return examples.length === 1
    ? examples
    : examples.map((example, i) => ({ ...example, id: `${id}/turn-${i + 1}` }));
}

const startsWith = (ids: readonly number[], beginning: readonly number[]) =>
  beginning.length <= ids.length && beginning.every((token, i) => token === ids[i]);

/** The sequence split at the first token that carries loss, up to the last that does. */
function exampleOf(id: string, ids: readonly number[], trained: Uint8Array): SftExample {
  const first = Math.max(1, trained.indexOf(1));
  const end = trained.lastIndexOf(1) + 1;
  const mask = [...trained.subarray(first, end)];
  return {
    id,
    promptIds: ids.slice(0, first),
    responseIds: ids.slice(first, end),
    ...(mask.includes(0) && { trained: mask }),
  };
}

function named<T>(id: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof CreamError)) throw error;
    throw new CreamError(error.code, `prompt ${id}: ${error.message}`, { cause: error });
  }
}

async function markedExamples(
  records: readonly SftRecord[],
  tokenizer: Pick<Tokenizer, 'exchanges' | 'conversations'>,
  options: Omit<SftExampleOptions, 'loss'>,
): Promise<SftExample[]> {
  const wholes = await tokenizer.conversations(records, options);
  const exchanges = await tokenizer.exchanges(
    records.map(({ response, isConversation: _, ...rest }) => ({ ...rest, responses: [response] })),
    options,
  );
  return wholes.map(({ ids, generated }, i) => {
    const { id, isConversation } = records[i]!;
    // Of a completion only what follows the prompt is learnt.
    const from = isConversation === true ? 0 : exchanges[i]!.promptIds.length;
    const trained = new Uint8Array(ids.length);
    for (const [first, end] of named(id, generated))
      trained.fill(1, Math.max(first, from), Math.max(end, from));
    if (trained.includes(1)) return exampleOf(id, ids, trained);
    throw new CreamError(
      'INVALID_DATA',
      `prompt ${id}: the chat template marks nothing as generated ({% generation %}); data.loss "all" or "last" needs no marks`,
    );
  });
}
