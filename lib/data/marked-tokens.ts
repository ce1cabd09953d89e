import { CreamError } from '../errors.js';

// Which tokens of a text lie in a part of it that the chat template marks as generated.

/** A piece of the rendered text with its tokens: text between special tokens, or one of these. */
export interface TokenizedPiece {
  /** Place of its first character in the rendered text, in UTF-16 units. */
  start: number;
  text: string;
  ids: readonly number[];
}

/**
 * The tokens that overlap a span of the rendered text, as [first, one past the last] of all tokens of the pieces, one per
 * span that has any. Throws INVALID_DATA where the tokens do not spell the text, so that nobody can tell.
 */
export function markedTokens(
  pieces: readonly TokenizedPiece[],
  spans: readonly (readonly [start: number, end: number])[],
  decode: (ids: readonly number[]) => string,
): [number, number][] {
  const marked: [number, number][] = [];
  for (const [start, end] of spans) {
    if (start >= end) continue;
    let first = Number.POSITIVE_INFINITY;
    let last = 0;
    let before = 0;
    for (const piece of pieces) {
      const [from, to] = [start - piece.start, end - piece.start];
      if (from < piece.text.length && to > 0) {
        const [low, high] = overlap(piece, from, to, decode);
        first = Math.min(first, before + low);
        last = Math.max(last, before + high);
      }
      before += piece.ids.length;
    }
    if (first < last) marked.push([first, last]);
  }
  return marked;
}

/** Tokens of a piece that overlap [from, to) of its text. A character whose bytes are several tokens has them all. */
function overlap(
  { text, ids }: TokenizedPiece,
  from: number,
  to: number,
  decode: (ids: readonly number[]) => string,
): [number, number] {
  if (from <= 0 && to >= text.length) return [0, ids.length];
  // Some tokenizers take the blank at the start of a text away when they decode it.
  const isBlankLost = text.startsWith(' ') && decode(ids) === text.slice(1);
  if (!isBlankLost && decode(ids) !== text) {
    throw new CreamError(
      'INVALID_DATA',
      'the tokenizer changes the text, so that the tokens which the chat template marks cannot be told; data.loss "all" or "last" needs no marks',
    );
  }
  /** Characters that the first `count` tokens spell in full. */
  const spelt = (count: number): number => {
    if (count === 0) return 0;
    const shown = (isBlankLost ? ' ' : '') + decode(ids.slice(0, count));
    let length = 0;
    while (length < shown.length && shown[length] === text[length]) length += 1;
    return length;
  };
  const begin = spelt(lastWith(ids.length, (count) => spelt(count) <= from));
  const first = lastWith(ids.length, (count) => spelt(count) < begin);
  return [begin === 0 ? 0 : first + 1, lastWith(ids.length, (count) => spelt(count) < to) + 1];
}

/** The largest count from 0 to `limit` - 1 for which the claim, true of 0, is; true ones come first. */
function lastWith(limit: number, claim: (count: number) => boolean): number {
  let [low, high] = [0, limit - 1];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (claim(middle)) low = middle;
    else high = middle - 1;
  }
  return low;
}
