import { CreamError } from '../errors.js';

/** Cuts a text at each of the strings in turn. */
export function cutAt(text: string, stops: readonly string[]): string {
  return stops.reduce((left, stop) => {
    if (stop === '') throw new CreamError('INVALID_ARGUMENT', 'a stop string must not be empty');
    const at = left.indexOf(stop);
    return at === -1 ? left : left.slice(0, at);
  }, text);
}

interface Sampled {
  ids: Int32Array;
  logprobs: Float32Array;
  finishReason: 'stop' | 'length';
}

/**
 * A response that ends with the token that completes the first stop string, as one would that was sampled token by token
 * (transformers' stop_strings): its ids are a beginning of what was sampled, and its text ends before the string.
 */
export function cutResponse(
  { ids, logprobs, finishReason }: Sampled,
  decode: (ids: Int32Array) => string,
  stops: readonly string[],
): Sampled & { text: string } {
  const whole = decode(ids);
  const isEnd = (text: string) => stops.some((stop) => text.includes(stop));
  if (!isEnd(whole)) return { ids, logprobs, finishReason, text: whole };
  let length = 1;
  while (!isEnd(decode(ids.subarray(0, length)))) length += 1;
  const text = decode(ids.subarray(0, length));
  const at = Math.min(...stops.map((stop) => text.indexOf(stop)).filter((index) => index !== -1));
  return {
    ids: ids.slice(0, length),
    logprobs: logprobs.slice(0, length),
    finishReason: 'stop',
    text: text.slice(0, at),
  };
}
