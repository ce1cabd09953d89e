import type { MeanEstimate } from '../statistics.js';
import type { SamplerAgreement } from '../stages/policy-from-generation.js';
import type { Accuracy, NoPairReason, PairChoices, RankedGroup, UndefinedConsistency } from '../types.js';
import { bootstrapInterval } from './random.js';
import type { RewardNoise } from './reward-noise.js';

// What a run found out: summary.json of the run folder, the last event, and the result of runCream().

/** Accuracy of one model on one held-out task. Only what was measured is there. */
export interface TaskSummary {
  name: string;
  greedy?: Accuracy & AnswerFaults;
  /** Mean over `samples` responses per problem at the configured temperature. */
  sampled?: Accuracy & AnswerFaults;
  /** By likelihood of the options, as lm-evaluation-harness names them: see lib/stages/evaluate-options.ts. */
  acc?: Accuracy;
  acc_norm?: Accuracy;
  /** lm-evaluation-harness's exact_match by its two filters: see lib/stages/evaluate-harness.ts. */
  strict_match?: Accuracy;
  flexible_extract?: Accuracy;
}

/** The ways in which a task is measured, in the order of tables. */
export const ACCURACY_KINDS = [
  'greedy',
  'sampled',
  'acc',
  'acc_norm',
  'strict_match',
  'flexible_extract',
] as const;
/** Those of them that are lm-evaluation-harness's. */
export const HARNESS_KINDS = ACCURACY_KINDS.slice(2) as readonly Exclude<
  AccuracyKind,
  'greedy' | 'sampled'
>[];
export type AccuracyKind = (typeof ACCURACY_KINDS)[number];

export type TaskMeans = Partial<Record<AccuracyKind, MeanEstimate>>;

/** Answers in which none could be read (they count as wrong), and answers cut by the length limit. */
export interface AnswerFaults {
  unparsable: number;
  truncated: number;
}

/** How far the policy and the previous policy agreed on one iteration's responses. */
export interface ConsistencySummary {
  /** Mean C over the groups that have one; null when none has. */
  mean: number | null;
  /** Bootstrap 95 % interval of the mean (seeded); null when fewer than two groups have a C. */
  interval: [number, number] | null;
  /** Mean tau (rho with `spearman`, 0 or 1 with `topOrder`). */
  tau: number | null;
  /** Standard deviation of one group's tau under random rankings without ties; null if N varies. */
  nullTauDeviation: number | null;
  /** C of one group under random rankings: at the mean of tau -+ one standard deviation. */
  nullBand: [number, number] | null;
  /** Groups with a C. */
  groups: number;
  undefinedGroups: Partial<Record<UndefinedConsistency, number>>;
  /** Groups whose C is below 1/2: with weight `sample` these train on flipped labels. */
  belowHalf: number;
}

/** How far the policy agreed with one policy before the previous one. */
export interface EarlierAgreement {
  model: string;
  /** Mean tau over the groups that have one; null when none has. */
  tau: number | null;
  groups: number;
}

/** One iteration t: M_t -> M_{t+1}. */
export interface IterationSummary {
  iteration: number;
  prompts: number;
  responses: number;
  /** Responses cut by the length limit. */
  truncatedResponses: number;
  emptyResponses: number;
  meanResponseTokens: number;
  consistency: ConsistencySummary;
  /** Spread and rounding of the rewards that the policy ranks by; absent where it ranks by none. */
  rewardNoise?: RewardNoise;
  /** Where the policy's log-probs of its responses come from: a scoring pass, or the sampler. */
  policyFrom?: 'scoring' | 'generation';
  /** How the two agree, on the groups that have both. */
  sampler?: SamplerAgreement;
  pairs: number;
  /** prompts = pairs + the sum of these, exactly. */
  droppedGroups: Partial<Record<NoPairReason, number>>;
  /** Mean weight C that the loss used; null without pairs. */
  meanWeight: number | null;
  choices?: PairChoices;
  /** With consistency.history report or all: the policies before the previous one, latest first. */
  history?: EarlierAgreement[];
  /** Share of (correct, incorrect) responses to one prompt that the policy's reward orders right; null without labels. */
  rankingAccuracy: number | null;
  /** Correlation of the policy's reward with correctness among the responses to one prompt; null without labels. */
  rewardCorrelation?: number | null;
  /** Share of sampled responses that are correct; null without labels. */
  sampleAccuracy: number | null;
  /** Training metrics of the last optimizer step, names as in TRL. */
  metrics: Record<string, number>;
  /** Seconds per stage. */
  seconds: Record<string, number>;
}

/** One row of the table M0 .. Mn. */
export interface ModelSummary {
  /** "M0", "M1", ... */
  model: string;
  /** Checkpoint folder: the base model's, sft/model, iteration-t/policy. */
  directory: string;
  tasks: TaskSummary[];
  /** Mean over the tasks that are measured in this way, each counting alike; of two or more tasks. */
  mean?: TaskMeans;
  /** The iteration whose training made this model; absent for M0 and M1. */
  iteration?: number;
}

/** How the final policy ranks the last iteration's responses. */
export interface FinalRanking {
  /** With the policy that wrote them. */
  consistency: ConsistencySummary;
  /** As in {@link IterationSummary}. */
  rankingAccuracy: number | null;
}

export interface RunSummary {
  directory: string;
  /** Folder of the final policy. */
  model: string;
  seed: number;
  models: ModelSummary[];
  iterations: IterationSummary[];
  /** With consistency.final: the final policy against the one before, on the last iteration's responses. */
  final?: FinalRanking;
  warnings: { code: string; message: string }[];
  /** Seconds of work, over all processes that took part. */
  seconds: number;
}

type Metric = 'kendall' | 'spearman' | 'topOrder';

/**
 * Mean and standard deviation of one group's tau when both rankings of n responses are random and without ties.
 * Kendall: sqrt(2 (2n + 5) / (9 n (n - 1))), 0.408 at n = 5. topOrder (0 or 1): agreement by chance 1 / (n (n - 1)).
 */
export function nullTau(metric: Metric, n: number): { mean: number; deviation: number } | null {
  if (n < 2) return null;
  if (metric === 'kendall') return { mean: 0, deviation: Math.sqrt((2 * (2 * n + 5)) / (9 * n * (n - 1))) };
  if (metric === 'spearman') return { mean: 0, deviation: 1 / Math.sqrt(n - 1) };
  const chance = 1 / (n * (n - 1));
  return { mean: chance, deviation: Math.sqrt(chance * (1 - chance)) };
}

/** Counts by value. */
export function tally<Key extends string>(keys: Iterable<Key>): Partial<Record<Key, number>> {
  const counts = new Map<Key, number>();
  for (const key of keys) counts.set(key, (counts.get(key) ?? 0) + 1);
  return Object.fromEntries(counts) as Partial<Record<Key, number>>;
}

const mean = (values: readonly number[]) =>
  values.length === 0 ? null : values.reduce((sum, value) => sum + value, 0) / values.length;

/** What the ranks of one iteration say. `toC` maps tau to C by the configured rule. */
export function summarizeConsistency(
  groups: readonly RankedGroup[],
  options: { metric: Metric; toC: (tau: number) => number; seed: number; stream: string },
): ConsistencySummary {
  const values = groups.flatMap((group) => (group.consistency === null ? [] : [group.consistency]));
  const sizes = new Set(groups.map((group) => group.responses.length));
  const chance = sizes.size === 1 ? nullTau(options.metric, [...sizes][0]!) : null;
  const toC = options.metric === 'topOrder' ? (tau: number) => tau : options.toC;
  const band = (tau: number) => toC(Math.min(1, Math.max(options.metric === 'topOrder' ? 0 : -1, tau)));
  return {
    mean: mean(values),
    interval: bootstrapInterval(values, options.seed, options.stream),
    tau: mean(groups.flatMap((group) => (group.tau === null ? [] : [group.tau]))),
    nullTauDeviation: chance?.deviation ?? null,
    nullBand: chance && [band(chance.mean - chance.deviation), band(chance.mean + chance.deviation)],
    groups: values.length,
    undefinedGroups: tally(groups.flatMap((group) => group.undefinedBecause ?? [])),
    belowHalf: values.filter((value) => value < 0.5).length,
  };
}

/** Mean agreement with each earlier policy of the groups' history, latest first. */
export function summarizeHistory(groups: readonly RankedGroup[]): EarlierAgreement[] {
  const models = new Set(groups.flatMap(({ historyTau }) => (historyTau ?? []).map(({ model }) => model)));
  return [...models]
    .toSorted((a, b) => b - a)
    .map((model) => {
      const taus = groups.flatMap(
        ({ historyTau }) => historyTau?.find((earlier) => earlier.model === model)?.tau ?? [],
      );
      return { model: `M${model}`, tau: mean(taus), groups: taus.length };
    });
}

/**
 * Share of (correct, incorrect) pairs of responses to one prompt that the reward orders right, over all groups;
 * ties count half. Null when no group has both kinds. `correct` maps a group's id to one flag per response.
 */
export function rankingAccuracy(
  groups: readonly { id: string; rewards?: readonly number[] }[],
  correct: ReadonlyMap<string, readonly boolean[]>,
): number | null {
  let right = 0;
  let total = 0;
  for (const { id, rewards } of groups) {
    const flags = correct.get(id);
    if (flags === undefined || rewards === undefined || !rewards.every(Number.isFinite)) continue;
    rewards.forEach((good, i) => {
      if (!flags[i]) return;
      rewards.forEach((bad, j) => {
        if (flags[j]) return;
        right += good > bad ? 1 : good === bad ? 0.5 : 0;
        total++;
      });
    });
  }
  return total === 0 ? null : right / total;
}

/**
 * Pearson correlation of the reward with correctness (0 or 1) within groups: both are taken from their group's mean,
 * so that neither hard prompts nor the reward's level play a part. Null when no group has both kinds.
 */
export function rewardCorrelation(
  groups: readonly { id: string; rewards?: readonly number[] }[],
  correct: ReadonlyMap<string, readonly boolean[]>,
): number | null {
  let product = 0;
  let rewardSquares = 0;
  let correctSquares = 0;
  for (const { id, rewards } of groups) {
    const flags = correct.get(id);
    if (flags === undefined || rewards === undefined || !rewards.every(Number.isFinite)) continue;
    const right = flags.filter(Boolean).length / flags.length;
    const level = mean(rewards);
    if (level === null || right === 0 || right === 1) continue;
    rewards.forEach((reward, i) => {
      const isRight = Number(flags[i]) - right;
      product += (reward - level) * isRight;
      rewardSquares += (reward - level) ** 2;
      correctSquares += isRight ** 2;
    });
  }
  return rewardSquares === 0 ? null : product / Math.sqrt(rewardSquares * correctSquares);
}
