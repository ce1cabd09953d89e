import { candidatesOf, type Choice, type ChoiceOptions, choosePair } from '../choose-pair.js';
import { templateInputsOf } from '../data/messages.js';
import { CreamError } from '../errors.js';
import type { NoPairReason, PairChoices, PreferencePair, RankedGroup, ScoredGroup } from '../types.js';

export interface PairOptions extends ChoiceOptions {
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
  /** What the choice of the pairs had to decide; each counts pairs. */
  choices: PairChoices;
}

const isFixed = (weight: PairOptions['weight']) => weight === 'one' || weight === 'constant';

/**
 * Best and worst response of each group become a pair that carries the weight C of the loss. A group that makes
 * none is listed with its reason. `base` holds M0's responses to the same prompts, scored by the same reward: the
 * rejected response is the worst of them where it is worse than the policy's worst (Temporal Self-Rewarding).
 */
export function pair(
  groups: readonly RankedGroup[],
  options: PairOptions,
  base?: readonly ScoredGroup[],
): Pairs {
  const { lengthBand = 0, ties, margin } = options;
  if (!(lengthBand >= 0 && lengthBand < 0.5)) {
    throw new CreamError('INVALID_ARGUMENT', `lengthBand must be in [0, 0.5), got ${lengthBand}`);
  }
  if (lengthBand > 0 && base !== undefined) {
    throw new CreamError('INVALID_ARGUMENT', 'lengthBand and base responses both choose the rejected one');
  }
  if (ties === 'margin' && margin === undefined) {
    throw new CreamError('INVALID_ARGUMENT', 'ties "margin" needs a margin');
  }
  const defined = groups.flatMap((group) => (group.consistency === null ? [] : [group.consistency]));
  const meanConsistency =
    defined.length === 0 ? null : defined.reduce((sum, c) => sum + c, 0) / defined.length;
  const baseById = base && new Map(base.map((group) => [group.id, group]));

  const pairs: PreferencePair[] = [];
  const dropped: Pairs['dropped'] = [];
  const choices: PairChoices = { tiedBest: 0, tiedWorst: 0, rejectedFromBase: 0, movedByLength: 0 };
  for (const group of groups) {
    const { id, responses, consistency } = group;
    const rewards = group.pairRewards ?? group.rewards;
    if (rewards === undefined) {
      throw new CreamError('MISSING_SCORES', `prompt ${id} has no rewards; score it with a base model`);
    }
    const drop = (reason: NoPairReason) => dropped.push({ id, reason });
    if (responses.some((response) => response.ids.length === 0)) {
      drop('empty-response'); // its reward per token does not exist, so neither does the ranking
      continue;
    }
    // The agreement of two policies says nothing of a reward that is neither's, unless it is asked for as the weight.
    const needsConsistency =
      (group.pairRewards === undefined && group.undefinedBecause !== 'not-measured') ||
      options.minConsistency > 0 ||
      !isFixed(options.weight);
    if (!rewards.every(Number.isFinite)) {
      const isJudges = rewards.every((reward, i) => Object.is(reward, group.judgeRewards?.[i]));
      drop(isJudges ? 'not-judged' : 'not-finite');
      continue;
    }
    if (consistency === null && needsConsistency) {
      drop(group.undefinedBecause ?? 'not-finite');
      continue;
    }
    const choice = choosePair(candidatesOf(group, false), baseCandidates(group, baseById), options);
    if (typeof choice === 'string') drop(choice);
    else if (consistency !== null && consistency < options.minConsistency) drop('below-min-consistency');
    else {
      const { chosen, rejected } = choice;
      choices.tiedBest += Number(choice.isTiedBest);
      choices.tiedWorst += Number(choice.isTiedWorst);
      choices.rejectedFromBase += Number(rejected.isFromBase);
      const isMoved = chosen.reward < Math.max(...rewards) || rejected.reward > Math.min(...rewards);
      choices.movedByLength += Number(isMoved);
      pairs.push(toPair(group, choice, consistency, weightOf(consistency, meanConsistency!, options)));
    }
  }
  return { pairs, dropped, meanConsistency, choices };
}

function weightOf(own: number | null, mean: number, { weight, constant }: PairOptions): number {
  switch (weight) {
    case 'dataset':
      return mean;
    case 'sample':
      return own!;
    case 'one':
      return 1;
    case 'constant':
      if (constant !== undefined) return constant;
      throw new CreamError('INVALID_ARGUMENT', 'weight "constant" needs a constant in [0, 1]');
  }
}

function baseCandidates({ id }: RankedGroup, baseById: ReadonlyMap<string, ScoredGroup> | undefined) {
  if (baseById === undefined) return [];
  const group = baseById.get(id);
  if (group !== undefined && (group.pairRewards ?? group.rewards)?.length === group.responses.length) {
    return candidatesOf(group, true);
  }
  throw new CreamError('MISSING_SCORES', `prompt ${id} has no scored responses of the base model`);
}

function toPair(
  group: RankedGroup,
  { chosen, rejected }: Choice,
  consistency: number | null,
  weight: number,
): PreferencePair {
  if (!Number.isFinite(chosen.logprob) || !Number.isFinite(rejected.logprob)) {
    throw new CreamError(
      'MISSING_SCORES',
      `prompt ${group.id} has rewards but no finite log-probs of the policy`,
    );
  }
  return {
    id: group.id,
    prompt: group.prompt,
    promptIds: group.promptIds,
    ...templateInputsOf(group),
    chosen: chosen.response.text,
    chosenIds: chosen.response.ids,
    rejected: rejected.response.text,
    rejectedIds: rejected.response.ids,
    chosenReward: chosen.reward,
    rejectedReward: rejected.reward,
    consistency,
    ...(group.tau === null ? {} : { tau: group.tau }),
    weight,
    referenceChosenLogprob: chosen.logprob!,
    referenceRejectedLogprob: rejected.logprob!,
    ...(rejected.isFromBase ? { rejectedFrom: 'base' } : {}),
    ...(chosen.judge === undefined || rejected.judge === undefined
      ? {}
      : { judgeMargin: chosen.judge - rejected.judge }),
    ...(chosen.judge === undefined || chosen.baseLogprob === undefined || rejected.baseLogprob === undefined
      ? {}
      : { baseChosenLogprob: chosen.baseLogprob, baseRejectedLogprob: rejected.baseLogprob }),
  };
}
