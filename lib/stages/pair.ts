import { CreamError } from '../errors.js';
import type { NoPairReason, PreferencePair, RankedGroup } from '../types.js';

export interface PairOptions {
  weight: 'dataset' | 'sample' | 'one' | 'constant';
  constant?: number | undefined;
  minConsistency: number;
}

export interface Pairs {
  pairs: PreferencePair[];
  /** groups = pairs + dropped, exactly. */
  dropped: { id: string; reason: NoPairReason }[];
  /** Mean C over the groups that have one; null when none has. */
  meanConsistency: number | null;
}

/** Index of the best and worst reward; among equals the first, so that the choice is repeatable. */
function bestAndWorst(rewards: readonly number[]): [number, number] {
  let best = 0;
  let worst = 0;
  rewards.forEach((reward, i) => {
    if (reward > rewards[best]!) best = i;
    if (reward < rewards[worst]!) worst = i;
  });
  return [best, worst];
}

const sameIds = (a: readonly number[], b: readonly number[]) =>
  a.length === b.length && a.every((id, index) => id === b[index]);

/**
 * Best and worst response of each group become a pair that carries the weight C of the loss. A group that makes
 * none is listed with its reason.
 */
export function pair(groups: readonly RankedGroup[], options: PairOptions): Pairs {
  const defined = groups.flatMap((group) => (group.consistency === null ? [] : [group.consistency]));
  const meanConsistency =
    defined.length === 0 ? null : defined.reduce((sum, c) => sum + c, 0) / defined.length;
  const weightOf = (own: number): number => {
    switch (options.weight) {
      case 'dataset':
        return meanConsistency!;
      case 'sample':
        return own;
      case 'one':
        return 1;
      case 'constant':
        if (options.constant === undefined) {
          throw new CreamError('INVALID_ARGUMENT', 'weight "constant" needs a constant in [0, 1]');
        }
        return options.constant;
    }
  };

  const pairs: PreferencePair[] = [];
  const dropped: Pairs['dropped'] = [];
  for (const group of groups) {
    const { id, responses, rewards, consistency, logprobs } = group;
    const drop = (reason: NoPairReason) => dropped.push({ id, reason });
    if (responses.some((response) => response.ids.length === 0)) {
      drop('empty-response'); // its reward per token does not exist, so neither does the ranking
      continue;
    }
    if (consistency === null) {
      drop(group.undefinedBecause ?? 'not-finite');
      continue;
    }
    const [best, worst] = bestAndWorst(rewards);
    const chosen = responses[best]!;
    const rejected = responses[worst]!;
    if (rewards[best] === rewards[worst]) drop('tied');
    else if (sameIds(chosen.ids, rejected.ids)) drop('identical');
    else if (consistency < options.minConsistency) drop('below-min-consistency');
    else {
      const referenceChosenLogprob = logprobs[best];
      const referenceRejectedLogprob = logprobs[worst];
      if (!Number.isFinite(referenceChosenLogprob) || !Number.isFinite(referenceRejectedLogprob)) {
        throw new CreamError(
          'MISSING_SCORES',
          `prompt ${id} has rewards but no finite log-probs of the policy`,
        );
      }
      pairs.push({
        id,
        prompt: group.prompt,
        promptIds: group.promptIds,
        chosen: chosen.text,
        chosenIds: chosen.ids,
        rejected: rejected.text,
        rejectedIds: rejected.ids,
        chosenReward: rewards[best]!,
        rejectedReward: rewards[worst]!,
        consistency,
        ...(group.tau === null ? {} : { tau: group.tau }),
        weight: weightOf(consistency),
        referenceChosenLogprob: referenceChosenLogprob!,
        referenceRejectedLogprob: referenceRejectedLogprob!,
      });
    }
  }
  return { pairs, dropped, meanConsistency };
}
