import { CreamError } from '../errors.js';

// What has no room in a model's context is left out, counted and named, by every command in the same words.

export interface TooLong {
  id: string;
  tokens: number;
}

const MAX_NAMED = 3;

/**
 * "2 of 9 prompts left out: a (801 tokens), b (300 tokens): no room for a response ...". Undefined where nothing is left
 * out; throws INVALID_DATA where everything is. `kind`: what the items are; `why`: ends the sentence.
 */
export function leftOut(
  source: string,
  tooLong: readonly TooLong[],
  { total, kind, why }: { total: number; kind: string; why: string },
): string | undefined {
  if (tooLong.length === 0) return undefined;
  const named = tooLong.slice(0, MAX_NAMED).map(({ id, tokens }) => `${id} (${tokens} tokens)`);
  const more = tooLong.length > MAX_NAMED ? ` and ${tooLong.length - MAX_NAMED} more` : '';
  const what = `${named.join(', ')}${more}: ${why}`;
  if (tooLong.length === total) throw new CreamError('INVALID_DATA', `${source}: ${what}`);
  return `${source}: ${tooLong.length} of ${total} ${kind} left out: ${what}`;
}
