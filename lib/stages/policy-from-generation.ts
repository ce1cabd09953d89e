import { CreamError } from '../errors.js';
import { kendallTau } from '../kendall-tau.js';
import type { Group, GroupLogprobs } from '../types.js';

// The policy's log-probs without a scoring pass: the sampler's own, at temperature 1 and untruncated. They are those of
// the same model on the same tokens, but of another batch, so they differ by rounding; by how much is measured on a
// sample of groups that are scored as well.

/** Groups that are scored both ways: enough to tell a rounding from a fault, little beside an iteration. */
const COMPARED_GROUPS = 32;

/** Below this mean tau the difference is no rounding any more. */
const LEAST_TAU = 0.9;

/** How the sampler's log-probs and those of a scoring pass agree. */
export interface SamplerAgreement {
  /** Groups that were scored both ways. */
  groups: number;
  /** Absolute difference of a response's log-prob, in nats: mean and largest. */
  meanDifference: number;
  maxDifference: number;
  /** The same per token, mean. */
  meanPerToken: number;
  /** Mean Kendall's tau-b of the two rewards within a group; null where no group has two different rewards. */
  tau: number | null;
}

/** Evenly spaced groups. */
export function comparedGroups<G>(groups: readonly G[]): G[] {
  const count = Math.min(COMPARED_GROUPS, groups.length);
  return Array.from({ length: count }, (_, i) => groups[Math.floor((i * groups.length) / count)]!);
}

/**
 * The sampler's log-probs as a scoring pass would give them. Equal responses to one prompt get those of the first, so
 * that they tie; an empty response has log-prob 0.
 */
export function samplerLogprobs(groups: readonly Group[]): GroupLogprobs[] {
  return groups.map(({ id, responses }) => {
    const first = new Map<string, number>();
    const logprobs = responses.map(({ ids, samplerLogprob }) => {
      if (samplerLogprob === undefined) {
        throw new CreamError(
          'MISSING_SCORES',
          `group ${id}: a response has no samplerLogprob, which scoring compares with; sample again`,
        );
      }
      const key = ids.join();
      const logprob = first.get(key) ?? samplerLogprob;
      first.set(key, logprob);
      return logprob;
    });
    return { id, logprobs };
  });
}

/** The two readings of the log-probs of the same responses, joined by id: `scored` may be some of the groups. */
export interface Readings {
  sampler: readonly GroupLogprobs[];
  scored: readonly GroupLogprobs[];
}

/** Compares the sampler's log-probs with `scored`. `rewardsOf` gives the rewards that a group is ranked by. */
export function samplerAgreement(
  groups: readonly Group[],
  { sampler, scored }: Readings,
  rewardsOf: (logprobs: readonly number[], id: string) => readonly number[],
): SamplerAgreement {
  const own = new Map(sampler.map(({ id, logprobs }) => [id, logprobs] as const));
  const responses = new Map(groups.map((group) => [group.id, group.responses] as const));
  const differences: number[] = [];
  const perToken: number[] = [];
  const taus: number[] = [];
  for (const { id, logprobs } of scored) {
    const sampled = own.get(id)!;
    logprobs.forEach((logprob, i) => {
      const difference = Math.abs(logprob - sampled[i]!);
      differences.push(difference);
      const tokens = responses.get(id)![i]!.ids.length;
      if (tokens > 0) perToken.push(difference / tokens);
    });
    const tau = kendallTau(rewardsOf(sampled, id), rewardsOf(logprobs, id));
    if (!Number.isNaN(tau)) taus.push(tau);
  }
  const mean = (values: readonly number[]) =>
    values.length === 0 ? 0 : values.reduce((sum, value) => sum + value, 0) / values.length;
  return {
    groups: scored.length,
    meanDifference: mean(differences),
    maxDifference: differences.reduce((most, difference) => Math.max(most, difference), 0),
    meanPerToken: mean(perToken),
    tau: taus.length === 0 ? null : mean(taus),
  };
}

/** How the rankings disagree, where they do by more than rounding; undefined when they do not. */
export function samplerDoubt({ tau, groups }: SamplerAgreement): string | undefined {
  if (tau === null || tau >= LEAST_TAU) return undefined;
  return (
    `the sampler's log-probs rank responses otherwise than a scoring pass (tau ${tau.toFixed(3)} on ${groups} ` +
    `groups, at least ${LEAST_TAU} is wanted)`
  );
}
