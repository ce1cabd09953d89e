import type { ConfigReader } from './config-reader.js';

// How a config.json says that queries and keys are rotated, in the forms of transformers 4 and 5.

export type RopeScaling = 'none' | 'linear' | 'llama3';

export interface Rope {
  ropeTheta: number;
  ropeScaling: RopeScaling;
  ropeFactor: number;
  ropeLowFreqFactor: number;
  ropeHighFreqFactor: number;
  ropeOriginalMaxPositionEmbeddings: number;
}

/** What transformers assumes where a file says nothing. */
const DEFAULT: Rope = {
  ropeTheta: 10000,
  ropeScaling: 'none',
  ropeFactor: 1,
  ropeLowFreqFactor: 1,
  ropeHighFreqFactor: 4,
  ropeOriginalMaxPositionEmbeddings: 8192,
};

/** Numbers of one scaling, with the value that means nothing; in the description of another they contradict it. */
const NUMBERS_OF_SCALINGS: Readonly<Record<string, number | undefined>> = {
  factor: 1,
  attention_factor: 1,
  alpha: 1,
  mscale: undefined,
  mscale_all_dim: undefined,
  beta_fast: undefined,
  beta_slow: undefined,
  short_factor: undefined,
  long_factor: undefined,
  low_freq_factor: undefined,
  high_freq_factor: undefined,
};

/**
 * rope_theta and rope_scaling up to transformers 4; rope_parameters, which holds both, from 5 on. Where a file has
 * more than one of them, they must agree.
 */
export function readRope(config: ConfigReader, maxPositionEmbeddings: number): Rope {
  config.mustBe('partial_rotary_factor', 1);
  const topTheta = config.has('rope_theta') ? config.number('rope_theta', 1e-3, 1e15) : undefined;
  const described = ['rope_parameters', 'rope_scaling'].flatMap((key) => {
    const dictionary = config.object(key);
    // An empty one says nothing.
    return dictionary === undefined || Object.keys(dictionary.json).length === 0
      ? []
      : [{ key, rope: readDescription(dictionary, topTheta, maxPositionEmbeddings) }];
  });
  const [first, second] = described;
  if (first === undefined) return { ...DEFAULT, ropeTheta: topTheta ?? DEFAULT.ropeTheta };
  if (second !== undefined && JSON.stringify(first.rope) !== JSON.stringify(second.rope)) {
    config.fail('rope_scaling and rope_parameters contradict each other; remove one of them');
  }
  if (topTheta !== undefined && topTheta !== first.rope.ropeTheta) {
    const other = `${first.key}.rope_theta is ${first.rope.ropeTheta}`;
    config.fail(`rope_theta is ${topTheta} and ${other}; remove one of them`);
  }
  return first.rope;
}

function readDescription(
  rope: ConfigReader,
  topTheta: number | undefined,
  maxPositionEmbeddings: number,
): Rope {
  const result = { ...DEFAULT };
  result.ropeTheta = rope.number('rope_theta', 1e-3, 1e15, topTheta ?? DEFAULT.ropeTheta);
  const type = rope.take('rope_type');
  const legacyType = rope.take('type');
  if (type !== undefined && legacyType !== undefined && type !== legacyType) {
    rope.fail(
      `rope_type is ${JSON.stringify(type)} and type is ${JSON.stringify(legacyType)}; remove one of them`,
    );
  }
  switch (type ?? legacyType ?? 'default') {
    case 'default':
      break;
    case 'linear':
      result.ropeScaling = 'linear';
      result.ropeFactor = rope.number('factor', 1e-6, 1e6);
      break;
    case 'llama3':
      result.ropeScaling = 'llama3';
      result.ropeFactor = rope.number('factor', 1e-6, 1e6);
      result.ropeLowFreqFactor = rope.number('low_freq_factor', 1e-6, 1e6);
      result.ropeHighFreqFactor = rope.number('high_freq_factor', 1e-6, 1e6);
      result.ropeOriginalMaxPositionEmbeddings = rope.integer(
        'original_max_position_embeddings',
        1,
        2 ** 30,
        maxPositionEmbeddings,
      );
      if (result.ropeHighFreqFactor <= result.ropeLowFreqFactor) {
        rope.fail('high_freq_factor must be larger than low_freq_factor');
      }
      break;
    default:
      rope.fail(
        `rope_type must be default, linear or llama3, got ${JSON.stringify(type ?? legacyType)}: ` +
          'other position scalings are not computed',
      );
  }
  rope.mustBe('partial_rotary_factor', 1);
  refuseOthers(rope);
  return result;
}

/** Keys that the named scaling does not read: those of another one, and one description for each kind of layer. */
function refuseOthers(rope: ConfigReader): void {
  for (const key of rope.remaining()) {
    const value = rope.json[key];
    if (typeof value === 'object' && !Array.isArray(value)) {
      rope.fail(`${JSON.stringify(key)} is not supported: all layers are rotated alike`);
    }
    const isOfOther = Object.hasOwn(NUMBERS_OF_SCALINGS, key) && value !== NUMBERS_OF_SCALINGS[key];
    if (isOfOther) rope.fail(`${JSON.stringify(key)} is not supported with this rope_type`);
  }
}
