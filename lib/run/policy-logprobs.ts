import { resolveDevice } from '../native/device.js';
import {
  comparedGroups,
  type SamplerAgreement,
  samplerAgreement,
  samplerDoubt,
  samplerLogprobs,
} from '../stages/policy-from-generation.js';
import { type RewardRule, rewardsBy } from '../stages/score.js';
import type { Group, GroupLogprobs, ScoredGroup } from '../types.js';
import { type RewardNoise, rewardNoise, type RewardReadings } from './reward-noise.js';
import type { Run, StageInfo } from './run.js';

// Where the policy's log-probs of its own responses come from, and what two readings of them tell.

/** A scoring pass of their own, or the sampler's. */
export type PolicySource = 'scoring' | 'generation';

/**
 * What `score.policyFrom` means on the run's device. auto: the sampler's on a GPU, where a pass over all groups is saved;
 * on the CPU a pass. Decided once, in the manifest.
 */
export async function decidePolicySource(run: Run): Promise<PolicySource> {
  const { score, device } = run.config;
  if (score.policyFrom !== 'auto') return score.policyFrom;
  const isGpu = resolveDevice(device) !== 'cpu';
  const source = await run.decided('policy-from', (): PolicySource => (isGpu ? 'generation' : 'scoring'));
  const why = source === 'generation' ? 'a GPU; 32 groups of every iteration are scored, too' : 'the CPU';
  run.chose('score.policyFrom', source, why);
  return source;
}

/** How a group's rewards are made of the policy's log-probs: see {@link rewardsBy}. */
export interface Reading {
  rule: RewardRule;
  beta: number;
  lengthNormalize: boolean;
  base: readonly GroupLogprobs[] | undefined;
}

/** What a stage records. */
export interface PolicyRecord {
  /** Whose log-probs the iteration goes on with. */
  policyFrom: PolicySource;
  sampler: SamplerAgreement;
}

const byId = (pass: readonly GroupLogprobs[]) =>
  new Map(pass.map(({ id, logprobs }) => [id, logprobs] as const));

/** A function from the policy's log-probs of a group to the rewards that it ranks by; without M0's, per token. */
function rewardReader(groups: readonly Group[], { rule, base, ...options }: Reading) {
  const baseOf = byId(base ?? []);
  const tokensOf = new Map(groups.map(({ id, responses }) => [id, responses.map(({ ids }) => ids.length)]));
  return (logprobs: readonly number[], id: string): number[] => {
    const own = base === undefined ? 'likelihood' : rule;
    return rewardsBy(own, { logprobs, base: baseOf.get(id) ?? [], numTokens: tokensOf.get(id)! }, options);
  };
}

/** The groups that the policy's pass scores at first. */
export const scoredAtFirst = (source: PolicySource, groups: readonly Group[]): readonly Group[] =>
  source === 'generation' ? comparedGroups(groups) : groups;

/**
 * The policy's log-probs of all groups, from `scored`, those of {@link scoredAtFirst}, and from the sampler's. With
 * `policyFrom: auto` rankings that differ by more than rounding make `scoreRest` score the other groups as well. The
 * decision follows from recorded numbers alone, so a continued run decides alike.
 */
export async function settlePolicy(
  run: Run,
  info: StageInfo,
  groups: readonly Group[],
  given: {
    source: PolicySource;
    scored: readonly GroupLogprobs[];
    reading: Reading;
    scoreRest: (rest: readonly Group[]) => Promise<readonly GroupLogprobs[]>;
  },
): Promise<{ logprobs: readonly GroupLogprobs[]; record: PolicyRecord; readings: RewardReadings[] }> {
  const { source, scored, reading, scoreRest } = given;
  const sampler = samplerLogprobs(groups);
  const rewardsOf = rewardReader(groups, reading);
  const agreement = samplerAgreement(groups, { sampler, scored }, rewardsOf);
  const [samplerOf, groupOf] = [byId(sampler), new Map(groups.map((group) => [group.id, group] as const))];
  const readings = scored.map(
    ({ id, logprobs }): RewardReadings => ({
      responses: groupOf.get(id)!.responses,
      sampler: rewardsOf(samplerOf.get(id)!, id),
      scored: rewardsOf(logprobs, id),
    }),
  );
  const settled = (logprobs: readonly GroupLogprobs[], policyFrom: PolicySource) => ({
    logprobs,
    record: { policyFrom, sampler: agreement },
    readings,
  });
  if (source === 'scoring') return settled(scored, 'scoring');
  const doubt = samplerDoubt(agreement);
  if (doubt === undefined) return settled(sampler, 'generation');
  if (run.config.score.policyFrom === 'generation') {
    run.warn('sampler-disagrees', `${doubt}; set score.policyFrom: scoring or auto`, info);
    return settled(sampler, 'generation');
  }
  run.warn('sampler-disagrees', `${doubt}: this iteration takes a scoring pass of its own`, info);
  const scoredOf = byId(scored);
  const rest = byId(await scoreRest(groups.filter(({ id }) => !scoredOf.has(id))));
  return settled(
    groups.map(({ id }) => ({ id, logprobs: scoredOf.get(id) ?? rest.get(id)! })),
    'scoring',
  );
}

/** Spread and noise of the rewards that C ranks by; undefined where the iteration ranks by none. */
export function noiseOf(
  groups: readonly ScoredGroup[],
  readings: readonly RewardReadings[],
  rule: RewardRule,
): { rewardNoise: RewardNoise; metrics: Record<string, number> } | undefined {
  const ranked = groups.flatMap(({ responses, rewards }) => (rewards ? [{ responses, rewards }] : []));
  if (ranked.length === 0) return undefined;
  const found = rewardNoise(ranked, readings, { subtracts: rule === 'implicit' });
  return {
    rewardNoise: found,
    metrics: {
      ...(found.spread !== null && { 'cream/reward_spread': found.spread }),
      ...(found.noise !== null && { 'cream/reward_noise': found.noise }),
    },
  };
}
