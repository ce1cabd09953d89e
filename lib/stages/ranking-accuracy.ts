import { wilsonInterval } from '../accuracy.js';
import type { LabelledRow } from '../data/labelled-groups.js';
import { rewardBenchScore, type RewardBenchScore } from '../data/reward-bench.js';
import type { Exchange, ExchangeInput, ExchangeOptions } from '../data/exchange-encoder.js';
import { templateInputsOf } from '../data/messages.js';
import { CreamError } from '../errors.js';
import type { Group } from '../types.js';

// Ranking accuracy of a reward: of two responses to one prompt, one right and one wrong, how often is the right one's
// reward higher?

/** A prompt with its responses as token ids, and which of them are right. */
export interface LabelledGroup extends Group {
  correct: boolean[];
  subset?: string;
}

/** What encoding needs of a tokenizer: `Tokenizer` of lib/data/tokenizer.ts has it. */
export interface GroupTokenizer {
  exchanges(inputs: readonly ExchangeInput[], options: ExchangeOptions): Promise<Exchange[]>;
  checkIds(ids: Iterable<number>, what: string): void;
}

/** Token ids of all rows; responses given as text end with the stop token. Rows that do not fit are left out and counted. */
export async function encodeLabelled(
  rows: readonly LabelledRow[],
  tokenizer: GroupTokenizer,
  { maxLength, ...options }: ExchangeOptions & { maxLength: number },
): Promise<{ groups: LabelledGroup[]; tooLong: number }> {
  const inputs = rows.map(({ id, prompt, responses, ...row }) => ({
    id,
    prompt,
    responses: responses.flatMap(({ ids, text, messages }) => (ids === undefined ? [messages ?? text] : [])),
    ...templateInputsOf(row),
  }));
  const exchanges = await tokenizer.exchanges(inputs, options);
  const all = rows.map((row, i): LabelledGroup => {
    const { promptIds, responses: texts, leftOut } = exchanges[i]!;
    const hasIds = row.responses.some(({ ids }) => ids !== undefined);
    if (hasIds && leftOut.length > 0) {
      throw new CreamError(
        'INVALID_DATA',
        `prompt ${row.id}: the chat template writes the prompt otherwise before a response, so text cannot stand beside ids; give all as text or all as ids`,
      );
    }
    return labelledGroup(row, promptIds, texts, tokenizer);
  });
  const groups = all.filter(({ promptIds: { length }, responses }) =>
    responses.every(({ ids }) => length + ids.length <= maxLength),
  );
  if (groups.length > 0) return { groups, tooLong: all.length - groups.length };
  throw new CreamError(
    'INVALID_DATA',
    `none of ${all.length} prompts fits with its responses into ${maxLength} tokens`,
  );
}

/** A row with its tokens: `texts` are those of the responses that have no ids. */
export function labelledGroup(
  { responses, ...row }: LabelledRow,
  promptIds: number[],
  texts: readonly number[][],
  tokenizer: Pick<GroupTokenizer, 'checkIds'>,
): LabelledGroup {
  const rest = texts.values();
  return {
    ...row,
    promptIds,
    responses: responses.map(({ ids, ...response }) => {
      if (ids !== undefined) tokenizer.checkIds(ids, `prompt ${row.id}`);
      return { ...response, ids: ids ?? rest.next().value ?? [], finishReason: 'stop' };
    }),
  };
}

/** implicit: beta times the log-prob ratio of policy and reference. worst-of: the lower of the policy's and the previous policy's. */
export const RANKING_REWARDS = ['implicit', 'worst-of', 'likelihood', 'likelihood-sum'] as const;
export type RankingReward = (typeof RANKING_REWARDS)[number];

/** One model's log-probs; index i belongs to group i. */
type Pass = readonly { logprobs: readonly number[] }[];

/** Rewards of every response; NaN where a reward per token has no token. */
export function rankingRewards(
  groups: readonly Pick<Group, 'responses'>[],
  {
    policy,
    reference,
    previous,
  }: { policy: Pass; reference?: Pass | undefined; previous?: Pass | undefined },
  {
    reward,
    beta,
    lengthNormalize = false,
  }: { reward: RankingReward; beta: number; lengthNormalize?: boolean },
): number[][] {
  return groups.map(({ responses }, g) =>
    responses.map(({ ids }, i) => {
      const perToken = (value: number) => (ids.length === 0 ? Number.NaN : value / ids.length);
      const own = policy[g]!.logprobs[i]!;
      if (reward === 'likelihood-sum') return own;
      if (reward === 'likelihood') return perToken(own);
      const ratio = (pass: Pass | undefined) => {
        if (pass === undefined || reference === undefined) {
          const needed = reward === 'implicit' ? 'the reference' : 'the reference and the previous policy';
          throw new CreamError('MISSING_SCORES', `reward ${reward} needs the log-probs of ${needed} too`);
        }
        const value = beta * (pass[g]!.logprobs[i]! - reference[g]!.logprobs[i]!);
        return lengthNormalize ? perToken(value) : value;
      };
      return reward === 'implicit' ? ratio(policy) : Math.min(ratio(policy), ratio(previous));
    }),
  );
}

/** Over (right, wrong) pairs of responses to one prompt. */
export interface RankingScore {
  /** Share of pairs that the reward orders right; a tie counts half. Null without pairs. */
  accuracy: number | null;
  /** Wilson's 95 % interval with the effective number of pairs: those of one prompt resemble each other. */
  interval: [number, number] | null;
  pairs: number;
  ties: number;
  /** Prompts that have a right and a wrong response. */
  groups: number;
  /** Share of these whose highest reward is a right response's; of n equal highest ones each counts 1/n. */
  best: number | null;
  /** What a reward that knows nothing would have in place of `best`. */
  bestByChance: number | null;
}

export interface RankingReport extends RankingScore {
  /** Prompts whose responses are all right or all wrong: they say nothing of a ranking. */
  withoutPairs: number;
  /** Pairs left out because a reward is not a number. */
  unranked: number;
  /** By the rows' subset, where they have one. */
  subsets?: Record<string, RankingScore>;
  rewardBench?: RewardBenchScore;
}

/** What one prompt adds. */
interface GroupCounts {
  right: number;
  pairs: number;
  ties: number;
  unranked: number;
  best: number;
  chance: number;
}

function countsOf(rewards: readonly number[], correct: readonly boolean[]): GroupCounts {
  const counts = { right: 0, pairs: 0, ties: 0, unranked: 0, best: 0, chance: 0 };
  rewards.forEach((good, i) => {
    if (!correct[i]) return;
    rewards.forEach((bad, j) => {
      if (correct[j]) return;
      if (Number.isNaN(good) || Number.isNaN(bad)) {
        counts.unranked += 1;
        return;
      }
      counts.pairs += 1;
      counts.right += good > bad ? 1 : good === bad ? 0.5 : 0;
      counts.ties += good === bad ? 1 : 0;
    });
  });
  const known = rewards.flatMap((reward, i) =>
    Number.isNaN(reward) ? [] : [{ reward, isRight: correct[i]! }],
  );
  const share = (some: readonly { isRight: boolean }[]) =>
    some.length === 0 ? 0 : some.filter(({ isRight }) => isRight).length / some.length;
  const top = known.reduce((highest, { reward }) => Math.max(highest, reward), -Infinity);
  counts.best = share(known.filter(({ reward }) => reward === top));
  counts.chance = share(known);
  return counts;
}

const sumOf = (all: readonly GroupCounts[], key: keyof GroupCounts) =>
  all.reduce((sum, counts) => sum + counts[key], 0);

function scoreOf(all: readonly GroupCounts[]): RankingScore {
  const some = all.filter(({ pairs }) => pairs > 0);
  const groups = some.length;
  const pairs = sumOf(some, 'pairs');
  const ties = sumOf(some, 'ties');
  if (pairs === 0) {
    return { accuracy: null, interval: null, pairs, ties, groups, best: null, bestByChance: null };
  }
  const accuracy = sumOf(some, 'right') / pairs;
  // Variance of a ratio over clusters; where it says nothing (0, 1, one prompt) a prompt counts as one pair.
  const squares = some.reduce((sum, one) => sum + (one.right - accuracy * one.pairs) ** 2, 0);
  const variance = groups < 2 ? 0 : (squares * groups) / (groups - 1) / pairs ** 2;
  const effective = variance === 0 ? groups : Math.min(pairs, (accuracy * (1 - accuracy)) / variance);
  return {
    accuracy,
    interval: wilsonInterval(accuracy * effective, effective),
    pairs,
    ties,
    groups,
    best: sumOf(some, 'best') / groups,
    bestByChance: sumOf(some, 'chance') / groups,
  };
}

/** How well rewards, one list per group, order right responses over wrong ones. Throws INVALID_DATA without a pair. */
export function rankingReport(
  groups: readonly Pick<LabelledGroup, 'id' | 'correct' | 'subset'>[],
  rewards: readonly (readonly number[])[],
): RankingReport {
  const counts = groups.map(({ id, correct }, g) => {
    const own = rewards[g];
    if (own?.length !== correct.length) {
      throw new CreamError(
        'MISSING_SCORES',
        `prompt ${id} has ${correct.length} labels and ${own?.length ?? 0} rewards`,
      );
    }
    return countsOf(own, correct);
  });
  const unranked = sumOf(counts, 'unranked');
  const withoutPairs = counts.filter(({ pairs, unranked: left }) => pairs + left === 0).length;
  if (withoutPairs === counts.length) {
    throw new CreamError(
      'INVALID_DATA',
      `none of ${groups.length} prompts has a right and a wrong response: there is nothing to rank`,
    );
  }
  const report: RankingReport = { ...scoreOf(counts), withoutPairs, unranked };
  const names = [...new Set(groups.flatMap(({ subset }) => subset ?? []))];
  if (names.length === 0) return report;
  const bySubset = names.map((name) => {
    const own = counts.filter((_, g) => groups[g]!.subset === name);
    return [name, scoreOf(own)] as const;
  });
  const accuracies = bySubset.flatMap(([name, { accuracy }]) =>
    accuracy === null ? [] : [[name, accuracy] as const],
  );
  const rewardBench = rewardBenchScore(new Map(accuracies));
  return {
    ...report,
    subsets: Object.fromEntries(bySubset),
    ...(rewardBench === undefined ? {} : { rewardBench }),
  };
}
