import type { CreamConfig } from '../config.js';
import { CreamError } from '../errors.js';
import type { EarlierRewards, Group, GroupLogprobs, ScoredGroup } from '../types.js';

/** What scoring needs of a model. */
export interface Scorer {
  score(
    groups: { promptIds: readonly number[]; responses: (readonly number[])[] }[],
    options?: { maxTokensPerBatch?: number; signal?: AbortSignal },
  ): Promise<{ logprobs: number[] }[]>;
}

/**
 * Log-probs of every response under a model, one pass. Equal responses to one prompt are computed once, so that
 * they have exactly equal rewards and tie. An empty response has log-prob 0.
 */
export async function score(
  groups: readonly Group[],
  model: Scorer,
  options: { maxTokensPerBatch: number; signal?: AbortSignal | undefined },
): Promise<GroupLogprobs[]> {
  const distinct = groups.map(({ responses }) => {
    const places = new Map<string, number>();
    const indices = responses.map(({ ids }) => {
      const key = ids.join();
      const place = places.get(key) ?? places.size;
      places.set(key, place);
      return place;
    });
    return {
      indices,
      responses: responses.filter((_, i) => indices.indexOf(indices[i]!) === i).map(({ ids }) => ids),
    };
  });
  const { signal, maxTokensPerBatch } = options;
  const scores = await model.score(
    groups.map(({ promptIds }, i) => ({ promptIds, responses: distinct[i]!.responses })),
    { maxTokensPerBatch, ...(signal === undefined ? {} : { signal }) },
  );
  return groups.map(({ id }, i) => ({
    id,
    logprobs: distinct[i]!.indices.map((place) => scores[i]!.logprobs[place]!),
  }));
}

/** How a model ranks responses: by its DPO reward against M0, or by its log-likelihood per token. */
export type RewardRule = 'implicit' | 'likelihood';

export interface Judges {
  policy: RewardRule;
  /** `anchor`: M0's log-likelihood per token stands in for the previous policy. */
  previous: RewardRule | 'anchor';
}

/**
 * Who ranks how in iteration t. A model that is M0 itself has no DPO reward (it is 0 for everything), so it ranks by
 * log-likelihood per token: the previous policy at t = 1, and M1 too when there was no fine-tuning.
 */
export function judgesOf(
  iteration: number,
  {
    previousReward,
    fineTuned,
  }: { previousReward: CreamConfig['score']['previousReward']; fineTuned: boolean },
): Judges {
  const isBase = (model: number) => model === 0 || (model === 1 && !fineTuned);
  const policy = isBase(iteration) ? 'likelihood' : 'implicit';
  if (previousReward !== 'auto') return { policy, previous: previousReward };
  return { policy, previous: isBase(iteration - 1) ? 'likelihood' : 'implicit' };
}

/**
 * The policies before the previous one, latest first, and how each ranks: M_{t-2} .. M_1. M0 is not among them; it
 * stands for the previous policy at t = 1, and where previousReward says so.
 */
export function earlierJudges(
  iteration: number,
  options: { previousReward: CreamConfig['score']['previousReward']; fineTuned: boolean },
): { model: number; rule: RewardRule }[] {
  return Array.from({ length: Math.max(0, iteration - 2) }, (_, i) => {
    const model = iteration - 2 - i;
    const { previous } = judgesOf(model + 1, options);
    return { model, rule: previous === 'anchor' ? 'likelihood' : previous };
  });
}

export interface ScorePasses {
  policy: readonly GroupLogprobs[];
  /** Absent where nothing needs M0's log-probs: then there are no DPO rewards. */
  base?: readonly GroupLogprobs[] | undefined;
  /** Absent where M0 is the previous policy or stands in for it: its pass is `base`. */
  previous?: readonly GroupLogprobs[] | undefined;
  /** Earlier policies than the previous one, latest first. */
  history?: readonly { model: number; rule: RewardRule; logprobs: readonly GroupLogprobs[] }[] | undefined;
}

const perToken = (logprobs: readonly number[], numTokens: readonly number[]) =>
  logprobs.map((logprob, i) => (numTokens[i] === 0 ? Number.NaN : logprob / numTokens[i]!));

/** Rewards of one group by `rule`; per token they are NaN for a response without tokens. `base` is M0's log-probs. */
export function rewardsBy(
  rule: RewardRule,
  { logprobs, base, numTokens }: Record<'logprobs' | 'base' | 'numTokens', readonly number[]>,
  { beta, lengthNormalize }: Pick<CreamConfig, 'beta'> & { lengthNormalize: boolean },
): number[] {
  if (rule === 'likelihood') return perToken(logprobs, numTokens);
  const rewards = logprobs.map((logprob, i) => beta * (logprob - base[i]!));
  return lengthNormalize ? perToken(rewards, numTokens) : rewards;
}

/**
 * Rewards of every response from the passes, joined by id. A response without tokens has no reward per token: NaN,
 * which the ranking counts and reports.
 */
export function withRewards(
  groups: readonly Group[],
  passes: ScorePasses,
  options: {
    beta: number;
    lengthNormalize: boolean;
    judges: Judges;
    /** Whether the previous policy's rewards are wanted. Default true. */
    previous?: boolean;
  },
): ScoredGroup[] {
  const { judges, previous: wantsPrevious = true } = options;
  const byId = (pass: readonly GroupLogprobs[]) =>
    new Map(pass.map((scored) => [scored.id, scored.logprobs]));
  const policyById = byId(passes.policy);
  const baseById = passes.base && byId(passes.base);
  const previousById = passes.previous === undefined ? baseById : byId(passes.previous);
  const history = passes.history?.map((pass) => ({ ...pass, byId: byId(pass.logprobs) }));

  return groups.map((group): ScoredGroup => {
    const numTokens = group.responses.map(({ ids }) => ids.length);
    const found = (pass: ReadonlyMap<string, number[]>) => {
      const list = pass.get(group.id);
      if (list?.length === numTokens.length) return list;
      throw new CreamError('MISSING_SCORES', `prompt ${group.id} was not scored by every model`);
    };
    const logprobs = found(policyById);
    if (baseById === undefined) return { ...group, logprobs, numTokens };
    const baseLogprobs = found(baseById);
    const previousLogprobs = wantsPrevious ? found(previousById!) : undefined;

    const reward = (own: readonly number[], rule: RewardRule) =>
      rewardsBy(rule, { logprobs: own, base: baseLogprobs, numTokens }, options);
    return {
      ...group,
      logprobs,
      numTokens,
      baseLogprobs,
      ...(previousLogprobs && { previousLogprobs }),
      rewards: reward(logprobs, judges.policy),
      ...(previousLogprobs && {
        previousRewards:
          judges.previous === 'anchor'
            ? perToken(baseLogprobs, numTokens)
            : reward(previousLogprobs, judges.previous),
      }),
      ...(history === undefined
        ? {}
        : {
            history: history.map(({ model, rule, byId: pass }): EarlierRewards => {
              const earlier = found(pass);
              return { model, logprobs: earlier, rewards: reward(earlier, rule) };
            }),
          }),
    };
  });
}
