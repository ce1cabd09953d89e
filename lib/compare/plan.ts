import { join, resolve } from 'node:path';
import { absoluteConfig, type CreamConfig, type CreamConfigInput, validateConfig } from '../config.js';
import { CreamError } from '../errors.js';
import { decidingSettings, type RunRecord } from '../run/lineage.js';
import { sha256 } from '../run/storage.js';
import { commonGround } from './shared-stages.js';

// What is compared: named settings, each with every seed, in folders NAME/seed-S; and whether that makes sense.

/** One of the methods that are compared. */
export interface Contestant {
  /** Letters, digits, "_", "-" or "."; names its rows and its folder. */
  name: string;
  config: CreamConfigInput;
}

/** A contestant whose settings are complete and whose inputs are known by content. */
export interface Entry {
  name: string;
  config: CreamConfig;
  inputs: Record<string, string>;
}

/** One run of a comparison. */
export interface Member {
  name: string;
  seed: number;
  /** The contestant's settings with this seed and folder. */
  config: CreamConfig;
  inputs: Record<string, string>;
}

const NAME = /^(?!\.)[\w.-]{1,64}$/;
/** Files of a comparison's folder, which no contestant may be named after. */
export const COMPARE_JSON = 'compare.json';
export const COMPARE_MARKDOWN = 'compare.md';

/** Complete settings of every contestant. Throws INVALID_ARGUMENT, INVALID_CONFIG. */
export function completeContestants(
  contestants: readonly Contestant[],
): { name: string; config: CreamConfig }[] {
  if (contestants.length === 0) throw new CreamError('INVALID_ARGUMENT', 'nothing to compare was given');
  const names = new Set<string>();
  return contestants.map(({ name, config }) => {
    if (!NAME.test(name) || name === COMPARE_JSON || name === COMPARE_MARKDOWN) {
      throw new CreamError(
        'INVALID_ARGUMENT',
        `a name must be letters, digits, "_", "-" or ".", got ${JSON.stringify(name)}`,
      );
    }
    // Folders of some file systems do not tell upper from lower case.
    if (names.has(name.toLowerCase())) {
      throw new CreamError('INVALID_ARGUMENT', `two of the compared have the name ${name}; rename one`);
    }
    names.add(name.toLowerCase());
    try {
      return { name, config: absoluteConfig(validateConfig(config), () => process.cwd()) };
    } catch (error) {
      if (!(error instanceof CreamError)) throw error;
      throw new CreamError(error.code, `${name}: ${error.message}`, { cause: error });
    }
  });
}

export function checkSeeds(seeds: readonly number[]): void {
  if (seeds.length === 0) {
    throw new CreamError(
      'INVALID_ARGUMENT',
      'seeds are missing: name at least one; an interval needs two or more',
    );
  }
  for (const [index, seed] of seeds.entries()) {
    if (!Number.isSafeInteger(seed) || seed < 0) {
      throw new CreamError('INVALID_ARGUMENT', `a seed must be a whole number >= 0, got ${seed}`);
    }
    if (seeds.indexOf(seed) !== index)
      throw new CreamError('INVALID_ARGUMENT', `seed ${seed} is given twice`);
  }
}

/** The contestant's settings as a run of the comparison has them. */
function memberConfig(config: CreamConfig, seed: number, output: string): CreamConfig {
  // The consistency of the final policy is what tables show; it decides nothing of a run.
  const consistency = { ...config.consistency, measure: true, final: config.iterations > 0 };
  return { ...config, seed, output, consistency };
}

/** Every run, all contestants of a seed before the next seed: an interrupted comparison is one of fewer seeds. */
export function membersOf(entries: readonly Entry[], seeds: readonly number[], output: string): Member[] {
  return seeds.flatMap((seed) =>
    entries.map(({ name, config, inputs }) => ({
      name,
      seed,
      config: memberConfig(config, seed, join(resolve(output), name, `seed-${seed}`)),
      inputs,
    })),
  );
}

function differing(maps: readonly (readonly [name: string, map: ReadonlyMap<string, string>])[]) {
  const keys = new Set(maps.flatMap(([, map]) => [...map.keys()]));
  return [...keys]
    .filter((key) => new Set(maps.map(([, map]) => map.get(key))).size > 1)
    .map((key) => ({ key, values: maps.map(([name, map]) => [name, map.get(key) ?? 'not set'] as const) }));
}

const asLine = ({ key, values }: ReturnType<typeof differing>[number]) =>
  `${key}: ${values.map(([name, value]) => `${value} in ${name}`).join(', ')}`;

/**
 * Why the numbers of these contestants could not be told apart from those of other models, data or measurements: one
 * line per setting or input that differs. Throws INVALID_CONFIG when two contestants are the same.
 */
export function unequalGround(entries: readonly Entry[]): string[] {
  const described = entries.map(({ name, config, inputs }) => {
    const settings = decidingSettings(config);
    settings.delete('seed');
    // What stands for other settings is compared by those.
    settings.delete('method');
    return { name, all: JSON.stringify([[...settings], config.iterations, inputs]) };
  });
  described.forEach(({ name, all }, index) => {
    const other = described.slice(0, index).find((earlier) => earlier.all === all);
    if (other !== undefined) {
      throw new CreamError(
        'INVALID_CONFIG',
        `${other.name} and ${name} have the same settings and data; there is nothing to compare`,
      );
    }
  });
  return differing(entries.map((entry) => [entry.name, commonGround(entry)] as const)).map(asLine);
}

/** What the contestants were compared for: the settings that are not the same, by name of the contestant. */
export function comparedSettings(entries: readonly Entry[]): Record<string, Record<string, string>> {
  const maps = entries.map(({ name, config, inputs }) => {
    const settings = decidingSettings(config);
    settings.delete('seed');
    settings.set('iterations', JSON.stringify(config.iterations));
    for (const name of ['reward.module', 'reward.model', 'reward.judge.template']) {
      const files = Object.entries(inputs).filter(([key]) => key === name || key.startsWith(`${name}/`));
      if (files.length === 0) continue;
      const digest = files.length === 1 ? files[0]![1] : sha256(JSON.stringify(files));
      settings.set(`content of ${name}`, `sha256 ${digest.slice(0, 12)}`);
    }
    return [name, settings] as const;
  });
  return Object.fromEntries(
    differing(maps).map(({ key, values }) => [
      key,
      Object.fromEntries(values.map(([name, value]) => [name, value.replace(/^"(.*)"$/, '$1')])),
    ]),
  );
}

/** What run.json of a member holds; `reference` is that of another run of the comparison. */
export function recordOf({ config, inputs }: Member, reference: RunRecord): RunRecord {
  return {
    version: 1,
    created: reference.created,
    config,
    inputs,
    versions: reference.versions,
    threads: config.threads === 'auto' ? reference.threads : config.threads,
  };
}
