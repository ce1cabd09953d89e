import { METHODS } from './methods.js';

// Where each setting of a run comes from. A setting that is not listed stands at its default.

/** By dotted name: "cream.yaml:14", "command line", "program" or "method: srlm". */
export type Origins = Record<string, string>;

const isGroup = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** The settings that an object gives, groups resolved; a list is one setting. */
export function givenSettings(input: unknown, path: readonly string[] = []): string[][] {
  if (!isGroup(input)) return path.length === 0 || input === undefined ? [] : [[...path]];
  return Object.entries(input).flatMap(([key, value]) => givenSettings(value, [...path, key]));
}

/** `from` tells the origin of a setting that `input` gives; what a method stands for is added. */
export function originsOf(input: unknown, from: (path: readonly string[]) => string): Origins {
  const origins = new Map(givenSettings(input).map((path) => [path.join('.'), from(path)]));
  const method = isGroup(input) ? input['method'] : undefined;
  if (typeof method === 'string' && Object.hasOwn(METHODS, method)) {
    for (const name of ['reward.source', 'consistency.weight']) {
      if (!origins.has(name)) origins.set(name, `method: ${method}`);
    }
  }
  return Object.fromEntries(origins);
}
