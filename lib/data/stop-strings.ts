import { CreamError } from '../errors.js';

/** Cuts a text at each of the strings in turn. */
export function cutAt(text: string, stops: readonly string[]): string {
  return stops.reduce((left, stop) => {
    if (stop === '') throw new CreamError('INVALID_ARGUMENT', 'a stop string must not be empty');
    const at = left.indexOf(stop);
    return at === -1 ? left : left.slice(0, at);
  }, text);
}
