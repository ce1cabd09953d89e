import { CreamError } from '../errors.js';
import { kendallTau, spearman } from '../kendall-tau.js';
import type { RankedGroup, ScoredGroup, UndefinedConsistency } from '../types.js';

export interface RankOptions {
  metric: 'kendall' | 'spearman' | 'topOrder';
  rule: 'linear' | 'theorem' | 'floor';
  /** all: tau is the mean over every earlier policy of a group's `history`. report: these are computed, C is not changed. */
  history?: 'previous' | 'report' | 'all' | undefined;
}

/** From tau in [-1, 1] to C in [0, 1]; `theorem` is the paper's closed form with lambda = (1 - tau) / 2. */
export function consistencyOf(tau: number, rule: RankOptions['rule']): number {
  const linear = (tau + 1) / 2;
  if (rule === 'theorem') return (3 - tau) / (4 - 2 * tau);
  return rule === 'floor' ? Math.max(0.5, linear) : linear;
}

const extremes = (rewards: readonly number[], extreme: number) =>
  rewards.map((reward) => reward === extreme).join();

/**
 * 1 when both lists have the same best and the same worst responses, else 0. Ties: all responses that share the
 * best (worst) reward are the best (worst), and the two sets must be equal. The order of sampling plays no part.
 */
export function topOrder(a: readonly number[], b: readonly number[]): 0 | 1 {
  const sameBest = extremes(a, Math.max(...a)) === extremes(b, Math.max(...b));
  const sameWorst = extremes(a, Math.min(...a)) === extremes(b, Math.min(...b));
  return sameBest && sameWorst ? 1 : 0;
}

function undefinedBecause(
  policy: readonly number[],
  previous: readonly number[],
): UndefinedConsistency | undefined {
  if (policy.length < 2) return 'fewer-than-two';
  if (![...policy, ...previous].every(Number.isFinite)) return 'not-finite';
  if (policy.every((reward) => reward === policy[0])) return 'policy-constant';
  if (previous.every((reward) => reward === previous[0])) return 'previous-constant';
  return undefined;
}

function agreement(policy: readonly number[], other: readonly number[], { metric }: RankOptions): number {
  if (metric === 'topOrder') return topOrder(policy, other);
  return (metric === 'kendall' ? kendallTau : spearman)(policy, other);
}

/** Groups whose consistency is not asked for (consistency.measure: false): none has one, and each says why. */
export function unranked(groups: readonly ScoredGroup[]): RankedGroup[] {
  return groups.map((group) => ({
    ...group,
    tau: null,
    consistency: null,
    undefinedBecause: 'not-measured',
  }));
}

/**
 * For each prompt: how far do the policy and the previous policy agree on the order of its responses?
 * C = 1 is the same order, 0 the reversed one. A group for which the question has no answer gets null and the
 * reason, never a number.
 */
export function rank(groups: readonly ScoredGroup[], options: RankOptions): RankedGroup[] {
  return groups.map((group): RankedGroup => {
    const { rewards, previousRewards } = group;
    for (const [name, list] of [
      ['rewards', rewards],
      ['previousRewards', previousRewards],
    ] as const) {
      if (list === undefined) {
        throw new CreamError(
          'MISSING_SCORES',
          `prompt ${group.id} has no ${name}; score it with a base and a previous model`,
        );
      }
      if (list.length !== group.responses.length) {
        throw new CreamError(
          'MISSING_SCORES',
          `prompt ${group.id} has ${group.responses.length} responses but ${list.length} ${name}`,
        );
      }
    }
    const policy = rewards!;
    const previous = previousRewards!;
    const reason = undefinedBecause(policy, previous);
    const history =
      options.history === undefined || options.history === 'previous' ? undefined : group.history;
    const historyTau = history?.map(({ model, rewards: earlier }) => ({
      model,
      tau: undefinedBecause(policy, earlier) === undefined ? agreement(policy, earlier, options) : null,
    }));
    const ranked = {
      ...group,
      rewards: policy,
      previousRewards: previous,
      ...(historyTau === undefined ? {} : { historyTau }),
    };
    if (reason !== undefined) return { ...ranked, tau: null, consistency: null, undefinedBecause: reason };
    const counted = options.history === 'all' ? (historyTau ?? []).flatMap(({ tau }) => tau ?? []) : [];
    const taus = [agreement(policy, previous, options), ...counted];
    const tau = taus.reduce((sum, value) => sum + value, 0) / taus.length;
    const consistency = options.metric === 'topOrder' ? tau : consistencyOf(tau, options.rule);
    return { ...ranked, tau, consistency };
  });
}
