import { leftOut } from '../data/too-long.js';
import { CreamError } from '../errors.js';
import type { Context } from './command.js';

// Every prompt gets the room that it has itself: a long one neither stops nor shortens the responses to others.

interface TokenizedPrompt {
  id: string;
  ids: readonly number[];
}

export interface PromptRoom<P> {
  /** Those that leave room for a token, each with its own limit. */
  prompts: (P & { maxNewTokens: number })[];
  /** The largest of the limits. */
  maxNewTokens: number;
}

/**
 * Limits each response to `limit` tokens and to what the context of `length` leaves. Prompts that fill the context are left
 * out, counted and named. Throws INVALID_DATA where none is left, USAGE for a limit that was asked for and no prompt can reach.
 */
export function withRoom<P extends TokenizedPrompt>(
  source: string,
  prompts: readonly P[],
  { limit, length, isExplicit }: { limit: number; length: number; isExplicit: boolean },
  { terminal }: Pick<Context, 'terminal'>,
): PromptRoom<P> {
  if (isExplicit && limit >= length) {
    throw new CreamError(
      'USAGE',
      `--max-new-tokens ${limit} is more than any prompt leaves in the model's context of ${length}`,
    );
  }
  const fitting = prompts.filter(({ ids }) => ids.length < length);
  const tooLong = prompts.filter(({ ids }) => ids.length >= length);
  const message = leftOut(
    source,
    tooLong.map(({ id, ids }) => ({ id, tokens: ids.length })),
    {
      total: prompts.length,
      kind: 'prompts',
      why: `no room for a response in the model's context of ${length} tokens`,
    },
  );
  if (message !== undefined) terminal.note(`${terminal.style('yellow', 'warning:')} ${message}`);
  const limited = fitting.map((prompt) => ({
    ...prompt,
    maxNewTokens: Math.min(limit, length - prompt.ids.length),
  }));
  return {
    prompts: limited,
    maxNewTokens: limited.reduce((most, { maxNewTokens }) => Math.max(most, maxNewTokens), 1),
  };
}
