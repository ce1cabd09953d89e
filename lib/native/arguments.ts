import { CreamError } from '../errors.js';
import type { NativeScoreGroup } from './binding.js';

// What callers pass, as the addon takes it. Callers in JavaScript may pass anything: what is of another type is told by
// name, not by what it lacks.

/** Token ids as the addon takes them. A number that is no 32-bit integer would be changed in silence. */
export function toInt32Array(ids: readonly number[] | Int32Array, where: string): Int32Array {
  if (ids instanceof Int32Array) return ids;
  toArray(ids, where);
  const array = Int32Array.from(ids);
  for (let i = 0; i < array.length; i++) {
    if (array[i] !== ids[i]) {
      throw new CreamError('INVALID_ARGUMENT', `${where}[${i}] is ${shown(ids[i])}, expected a token id`);
    }
  }
  return array;
}

/** A value of any type, in a message. */
export const shown = (value: unknown): string =>
  typeof value === 'object' && value !== null
    ? 'an object'
    : typeof value === 'function'
      ? 'a function'
      : String(value);

/** The list itself. */
export function toArray<T>(list: readonly T[], where: string): readonly T[] {
  if (Array.isArray(list)) return list as readonly T[];
  throw new CreamError('INVALID_ARGUMENT', `${where} must be an array, got ${shown(list)}`);
}

/** The list of objects itself. */
export function toObjects<T extends object>(list: readonly T[], where: string): readonly T[] {
  for (const [index, item] of toArray(list, where).entries()) {
    if (typeof item === 'object' && item !== null) continue;
    throw new CreamError('INVALID_ARGUMENT', `${where}[${index}] must be an object, got ${shown(item)}`);
  }
  return list;
}

export interface ScoreRequestGroup {
  promptIds: readonly number[] | Int32Array;
  responses: readonly (readonly number[] | Int32Array)[];
}

/** Groups as the addon takes them; `verb` begins the messages. */
export function toScoreGroups(groups: readonly ScoreRequestGroup[], verb: string): NativeScoreGroup[] {
  return toObjects(groups, `${verb}: groups`).map(({ promptIds, responses }, group) => ({
    promptIds: toInt32Array(promptIds, `${verb}: groups[${group}].promptIds`),
    responses: toArray(responses, `${verb}: groups[${group}].responses`).map((ids, i) =>
      toInt32Array(ids, `${verb}: groups[${group}].responses[${i}]`),
    ),
  }));
}

/** A seed as the addon takes it; `what` begins the message. */
export function toSeed(seed: number | bigint, what: string): bigint {
  if (typeof seed === 'bigint') return seed;
  if (Number.isSafeInteger(seed) && seed >= 0) return BigInt(seed);
  throw new CreamError(
    'INVALID_ARGUMENT',
    `${what}: seed must be an integer in [0, 2^53) or a bigint, got ${shown(seed)}`,
  );
}
