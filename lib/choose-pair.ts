import type { NoPairReason, Response, ScoredGroup } from './types.js';

// Which response of a group is chosen and which rejected: best and worst by default, and the options that change it.

export interface ChoiceOptions {
  /** Different responses share the best or the worst reward: no pair, or the first sampled of them. */
  ties?: 'drop' | 'first' | 'margin' | undefined;
  /** With ties margin: a pair needs a gap of rewards above this. */
  margin?: number | undefined;
  /** rho: the shortest response of the top band is chosen, the longest of the bottom band rejected; 0 = off. */
  lengthBand?: number | undefined;
  /** `none`, or only pairs that the judge orders as the reward does. */
  agreement?: 'none' | 'judge' | undefined;
}

export interface Candidate {
  response: Response;
  reward: number;
  /** Under the policy. */
  logprob: number | undefined;
  baseLogprob: number | undefined;
  judge: number | undefined;
  isFromBase: boolean;
}

export interface Choice {
  chosen: Candidate;
  rejected: Candidate;
  /** Different responses shared the best (worst) reward. */
  isTiedBest: boolean;
  isTiedWorst: boolean;
}

const sameIds = (a: Candidate, b: Candidate) =>
  a.response.ids.length === b.response.ids.length &&
  a.response.ids.every((id, index) => id === b.response.ids[index]);

export function candidatesOf(group: ScoredGroup, isFromBase: boolean): Candidate[] {
  return group.responses.map((response, i) => ({
    response,
    reward: (group.pairRewards ?? group.rewards)?.[i] ?? Number.NaN,
    logprob: group.logprobs[i],
    baseLogprob: group.baseLogprobs?.[i],
    judge: group.judgeRewards?.[i],
    isFromBase,
  }));
}

/** The first candidate that no other comes before. */
function first(candidates: readonly Candidate[], before: (a: Candidate, b: Candidate) => number): Candidate {
  return candidates.reduce((best, candidate) => (before(candidate, best) < 0 ? candidate : best));
}

const byReward = (a: Candidate, b: Candidate) => a.reward - b.reward;
const byLength = (a: Candidate, b: Candidate) => a.response.ids.length - b.response.ids.length;

/**
 * Chosen and rejected of one group of at least two responses with finite rewards, or why there are none. `base` are
 * M0's responses to the same prompt: the worst of them is rejected when it is worse than all of the policy's.
 */
export function choosePair(
  own: readonly Candidate[],
  base: readonly Candidate[],
  options: ChoiceOptions,
): Choice | NoPairReason {
  const worstOwn = first(own, byReward);
  const worse = base.filter(
    ({ reward, response }) => response.ids.length > 0 && Number.isFinite(reward) && reward < worstOwn.reward,
  );
  const pool = worse.length > 0 ? worse : own;
  let chosen = first(own, (a, b) => -byReward(a, b));
  let rejected = first(pool, byReward);
  const shares = (side: Candidate, others: readonly Candidate[]) =>
    others.some((other) => other.reward === side.reward && !sameIds(other, side));
  const [isTiedBest, isTiedWorst] = [shares(chosen, own), shares(rejected, pool)];

  if (chosen.reward === rejected.reward) return 'tied';
  if (options.ties === 'drop' && (isTiedBest || isTiedWorst)) return 'tied-extreme';
  const rho = options.lengthBand ?? 0;
  if (rho > 0) {
    const [low, high] = [rejected.reward, chosen.reward];
    const band = rho * (high - low);
    const top = own.filter(({ reward }) => reward >= high - band);
    const bottom = own.filter(({ reward }) => reward <= low + band);
    chosen = first(top, (a, b) => byLength(a, b) || -byReward(a, b));
    rejected = first(bottom, (a, b) => -byLength(a, b) || byReward(a, b));
  }
  if (sameIds(chosen, rejected)) return 'identical';
  if (options.ties === 'margin' && chosen.reward - rejected.reward <= (options.margin ?? 0)) {
    return 'within-margin';
  }
  if (options.agreement === 'judge') {
    const gap = (chosen.judge ?? Number.NaN) - (rejected.judge ?? Number.NaN);
    if (!Number.isFinite(gap)) return 'not-judged';
    if (gap === 0) return 'judge-tied';
    if (gap < 0) return 'rewards-disagree';
  }
  return { chosen, rejected, isTiedBest, isTiedWorst };
}
