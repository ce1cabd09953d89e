// Where the assistant's turn begins and ends in the tokens of a rendered conversation.

/** A conversation as tokens. */
export interface EncodedConversation {
  ids: number[];
  /** Positions of the tokens that can end a turn: special tokens that the template wrote, and stop tokens. */
  ends: number[];
  /** Tokens that the template marks as generated: [first, one past the last] of each block. */
  generated: () => [number, number][];
  /** The tokens up to the end of the last message's text, without white space that the template puts behind it. */
  withoutTail: () => number[];
}

/** Number of leading tokens that both have. */
export function commonPrefixLength(ids: readonly number[], others: readonly number[]): number {
  const limit = Math.min(ids.length, others.length);
  let length = 0;
  while (length < limit && ids[length] === others[length]) length += 1;
  return length;
}

/**
 * One past the token that ends the last turn: the last special token behind `from` after which only white space
 * follows. Undefined where the template ends the turn without one.
 */
export function turnEnd(
  { ids, ends }: EncodedConversation,
  from: number,
  decode: (ids: readonly number[]) => string,
): number | undefined {
  const last = ends.at(-1);
  if (last === undefined || last < from) return undefined;
  const rest = ids.slice(last + 1);
  return rest.length === 0 || decode(rest).trim() === '' ? last + 1 : undefined;
}
