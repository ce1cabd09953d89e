import { CreamError } from '../errors.js';
import type { RewardSource } from '../methods.js';
import type { Group, ScoredGroup } from '../types.js';

// Rewards that pairs can be made by beside the policy's DPO reward.

/** A user's own reward: one list per group, one number per response. NaN: this response cannot be judged. */
export type RewardFunction = (
  groups: readonly Pick<Group, 'id' | 'prompt' | 'responses' | 'label'>[],
) => Promise<number[][]> | number[][];

export interface RewardOptions {
  source: RewardSource;
  /** False where the previous policy is M0, whose DPO reward is 0 for everything: then the policy's own reward stands. */
  hasPreviousReward: boolean;
  beta: number;
  lengthNormalize: boolean;
  /** By group id: what the judge or the reward model gave. */
  given?: ReadonlyMap<string, readonly number[]>;
  /** Which responses are right, by group id, for groups with a label. */
  correct?: ReadonlyMap<string, readonly boolean[]>;
  reward?: RewardFunction;
}

const NONE = Number.NaN;

function implicit(
  { numTokens, baseLogprobs }: ScoredGroup,
  own: readonly number[],
  { beta, lengthNormalize }: RewardOptions,
): number[] {
  return own.map((logprob, i) => {
    const reward = beta * (logprob - baseLogprobs![i]!);
    if (!lengthNormalize) return reward;
    return numTokens[i] === 0 ? NONE : reward / numTokens[i]!;
  });
}

/**
 * `pairRewards` of every group by a source that is not the policy's own reward. A group without a label has no
 * verifier's reward: NaN, so that it makes no pair and is counted. Throws INVALID_DATA when no group has one, and
 * REWARD_FAILED with what the user's function did wrong.
 */
export async function withPairRewards(
  groups: readonly ScoredGroup[],
  options: RewardOptions,
): Promise<ScoredGroup[]> {
  switch (options.source) {
    case 'implicit':
      return [...groups];
    case 'likelihood':
      return groups.map((group) => ({
        ...group,
        pairRewards: group.logprobs.map((logprob, i) =>
          group.numTokens[i] === 0 ? NONE : logprob / group.numTokens[i]!,
        ),
      }));
    case 'worst-of':
      return groups.map((group) => {
        if (!options.hasPreviousReward) return { ...group, pairRewards: group.rewards! };
        const policy = implicit(group, group.logprobs, options);
        const previous = implicit(group, group.previousLogprobs!, options);
        return { ...group, pairRewards: policy.map((reward, i) => Math.min(reward, previous[i]!)) };
      });
    case 'verifier': {
      const correct = options.correct ?? new Map<string, readonly boolean[]>();
      if (groups.length > 0 && !groups.some(({ id }) => correct.has(id))) {
        throw new CreamError(
          'INVALID_DATA',
          'reward.source: verifier needs labels, and no prompt of this slice has one; add "label" to data.prompts',
        );
      }
      return groups.map((group) => {
        const flags = correct.get(group.id);
        return {
          ...group,
          pairRewards: group.responses.map((_, i) => (flags === undefined ? NONE : Number(flags[i]))),
        };
      });
    }
    case 'judge':
    case 'model':
      return groups.map((group) => {
        const rewards = options.given?.get(group.id);
        if (rewards?.length === group.responses.length) return { ...group, pairRewards: [...rewards] };
        throw new CreamError('MISSING_SCORES', `prompt ${group.id} was not scored by the ${options.source}`);
      });
    case 'module':
      return byFunction(groups, options.reward);
  }
}

async function byFunction(
  groups: readonly ScoredGroup[],
  reward: RewardFunction | undefined,
): Promise<ScoredGroup[]> {
  if (reward === undefined)
    throw new CreamError('INVALID_ARGUMENT', 'reward source "module" needs a function');
  const fail = (what: string, cause?: unknown): never => {
    throw new CreamError(
      'REWARD_FAILED',
      `the reward function ${what}`,
      cause === undefined ? {} : { cause },
    );
  };
  // Copies: what the function does to its argument must not change what is trained on.
  const seen = structuredClone(
    groups.map(({ id, prompt, responses, label }) => ({
      id,
      prompt,
      responses,
      ...(label === undefined ? {} : { label }),
    })),
  );
  let result: unknown;
  try {
    result = await reward(seen);
  } catch (cause) {
    return fail(`threw: ${cause instanceof Error ? cause.message : String(cause)}`, cause);
  }
  if (!Array.isArray(result) || result.length !== groups.length) {
    const got = Array.isArray(result) ? `a list of ${result.length}` : typeof result;
    return fail(`must return a list of ${groups.length} lists, one per group; got ${got}`);
  }
  return groups.map((group, i) => {
    const list: unknown = (result as unknown[])[i];
    const count = group.responses.length;
    if (!Array.isArray(list) || list.length !== count || !list.every((value) => typeof value === 'number')) {
      return fail(
        `must return ${count} numbers for group ${group.id}, got ${JSON.stringify(list)?.slice(0, 120)}`,
      );
    }
    return { ...group, pairRewards: list };
  });
}
