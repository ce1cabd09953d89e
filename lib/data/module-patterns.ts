import { createContext, Script } from 'node:vm';

// Which modules of a model a PEFT configuration names, by PEFT's own rules: texts are Python regular expressions that
// match a whole name, lists are names or ends of names.

const TIMEOUT_MS = 1000;

/** A Python regular expression in JavaScript's syntax; undefined where it has something that only Python knows. */
function translated(pattern: string): string | undefined {
  const text = pattern
    .replaceAll('(?P<', '(?<')
    .replaceAll(/\(\?P=(\w+)\)/g, String.raw`\k<$1>`)
    .replaceAll(String.raw`\A`, '^')
    .replaceAll(String.raw`\Z`, '$');
  // Flags, comments, conditions and possessive quantifiers are written otherwise or not at all.
  if (/\(\?[aiLmsux#(>-]|[*+?}]\+|\{,/.test(text.replaceAll(/\\./g, ''))) return undefined;
  try {
    return new RegExp(text).source;
  } catch {
    return undefined;
  }
}

/**
 * What the group `index` matched (empty without such a group), or null where the pattern does not match; undefined where
 * the pattern cannot be read. It is hostile input: a search that takes too long is a RangeError.
 */
function search(pattern: string, names: readonly string[]): (string | null)[] | undefined {
  const source = translated(pattern);
  if (source === undefined) return undefined;
  const context = createContext({ source, names: [...names] });
  const script = new Script(
    'const pattern = new RegExp(source); names.map((name) => { const found = pattern.exec(name); ' +
      "return found === null ? null : found.groups?.index ?? '' })",
  );
  try {
    return [...(script.runInContext(context, { timeout: TIMEOUT_MS }) as (string | null)[])];
  } catch (cause) {
    throw new RangeError(`the search for ${JSON.stringify(pattern)} takes too long`, { cause });
  }
}

/** Which names the pattern matches from beginning to end; undefined where it cannot be read. */
const matches = (pattern: string, names: readonly string[]): boolean[] | undefined =>
  search(`^(?:${pattern})$`, names)?.map((found) => found !== null);

const isNamed = (list: readonly string[], name: string) =>
  list.some((item) => name === item || name.endsWith(`.${item}`));

export interface ModuleSelection {
  targetModules: string | readonly string[];
  excludeModules: string | readonly string[];
  /** Numbers of layers; undefined: all of them. Only together with a list of modules. */
  layers: readonly number[] | undefined;
  /** Names of the list that layers are numbered in; none: any. */
  layersPattern: readonly string[];
}

/** Of each name, whether it is selected; undefined where a pattern cannot be read. */
export function selected(selection: ModuleSelection, names: readonly string[]): boolean[] | undefined {
  const { targetModules, excludeModules, layers, layersPattern } = selection;
  const excluded =
    typeof excludeModules === 'string'
      ? matches(excludeModules, names)
      : names.map((name) => isNamed(excludeModules, name));
  if (excluded === undefined) return undefined;
  if (typeof targetModules === 'string') {
    const found = matches(targetModules, names);
    return found?.map((isFound, i) => isFound && excluded[i] !== true);
  }
  const layerOf = layers === undefined ? [] : layersOf(layersPattern, names);
  if (layerOf === undefined) return undefined;
  return names.map((name, i) => {
    if (excluded[i] === true) return false;
    if (targetModules.includes(name)) return true; // by its whole name, in whatever layer
    return isNamed(targetModules, name) && (layers === undefined || layers.includes(layerOf[i] ?? -1));
  });
}

/** Of each name, the number of its layer in the first list of that name. */
function layersOf(lists: readonly string[], names: readonly string[]): (number | undefined)[] | undefined {
  const result = new Array<number | undefined>(names.length).fill(undefined);
  for (const list of lists.length === 0 ? ['[^.]*'] : lists) {
    const found = search(String.raw`^(?:.*?\.)?${list}\.(?<index>\d+)\.`, names);
    if (found === undefined) return undefined;
    for (const [i, index] of found.entries()) if (index !== null) result[i] ??= Number(index);
  }
  return result;
}

/**
 * Of each name, the value of the first key that its end matches: PEFT's rank_pattern and alpha_pattern. undefined where
 * there is none; null as a whole where a key cannot be read.
 */
export function valuesByPattern(
  patterns: Readonly<Record<string, number>>,
  names: readonly string[],
): (number | undefined)[] | null {
  const values = new Array<number | undefined>(names.length).fill(undefined);
  for (const [key, value] of Object.entries(patterns)) {
    const found = matches(String.raw`(.*\.)?(${key})`, names);
    if (found === undefined) return null;
    found.forEach((isFound, i) => {
      if (isFound) values[i] ??= value;
    });
  }
  return values;
}
