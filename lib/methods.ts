// The methods of the paper and its neighbours as settings of one loop: a name stands for where the reward comes from
// and for the weight of a pair.

export const REWARD_SOURCES = [
  'implicit',
  'likelihood',
  'worst-of',
  'judge',
  'verifier',
  'model',
  'module',
] as const;
export type RewardSource = (typeof REWARD_SOURCES)[number];

export const WEIGHTS = ['dataset', 'sample', 'one', 'constant'] as const;
export type Weight = (typeof WEIGHTS)[number];

interface Method {
  source: RewardSource;
  /** Other sources under the same name. */
  alternatives?: readonly RewardSource[];
  weight: Weight;
  /** For a table. */
  describe: string;
}

export const METHODS = {
  cream: { source: 'implicit', weight: 'dataset', describe: 'CREAM: every pair has the mean C of the slice' },
  'cream-sample': { source: 'implicit', weight: 'sample', describe: 'CREAM: every pair has its own C' },
  'cream-constant': {
    source: 'implicit',
    weight: 'constant',
    describe: 'CREAM without consistency: consistency.constant for every pair',
  },
  srlm: { source: 'implicit', weight: 'one', describe: 'self-rewarding by the implicit reward, plain DPO' },
  'srlm-judge': {
    source: 'judge',
    weight: 'one',
    describe: "self-rewarding by the policy's points as a judge, plain DPO",
  },
  oracle: {
    source: 'verifier',
    alternatives: ['model'],
    weight: 'one',
    describe: "ranked by the prompts' labels, or by a reward model: an upper bound",
  },
  'reward-model': { source: 'model', weight: 'one', describe: 'ranked by a reward model of its own weights' },
  likelihood: {
    source: 'likelihood',
    weight: 'one',
    describe: "ranked by the policy's log-likelihood per token",
  },
  'worst-of': {
    source: 'worst-of',
    weight: 'one',
    describe: "ranked by the lower of the policy's and the previous policy's reward",
  },
  custom: { source: 'module', weight: 'one', describe: 'ranked by a JavaScript module of your own' },
} as const satisfies Record<string, Method>;
export type MethodName = keyof typeof METHODS;
export const METHOD_NAMES = Object.keys(METHODS) as [MethodName, ...MethodName[]];

export const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Sources that a method's name stands for. */
export function sourcesOf(method: MethodName): readonly RewardSource[] {
  const { source, alternatives = [] }: Method = METHODS[method];
  return [source, ...alternatives];
}

/** Settings with what their `method` stands for filled in where it is left out. Anything else is returned as it is. */
export function withMethod(input: unknown): unknown {
  if (!isObject(input) || !Object.hasOwn(METHODS, String(input['method']))) return input;
  const { source: usual, weight, alternatives = [] }: Method = METHODS[input['method'] as MethodName];
  const { reward = {}, consistency = {} } = input;
  const namesModel = isObject(reward) && reward['model'] !== undefined;
  const source = namesModel && alternatives.includes('model') ? 'model' : usual;
  return {
    ...input,
    ...(isObject(reward) && { reward: { source, ...reward } }),
    ...(isObject(consistency) && { consistency: { weight, ...consistency } }),
  };
}
