import type { Accuracy, NoPairReason, UndefinedConsistency } from '../types.js';

// What a run found out: summary.json of the run folder, the last event, and the result of runCream().

/** Accuracy of one model on one held-out task. Only what was measured is there. */
export interface TaskSummary {
  name: string;
  greedy?: Accuracy;
  /** Mean over `samples` responses per problem at the configured temperature. */
  sampled?: Accuracy;
}

/** How far the policy and the previous policy agreed on one iteration's responses. */
export interface ConsistencySummary {
  /** Mean C over the groups that have one; null when none has. */
  mean: number | null;
  /** Bootstrap 95 % interval of the mean (seeded); null when fewer than two groups have a C. */
  interval: [number, number] | null;
  /** Mean tau (rho with `spearman`, 0 or 1 with `topOrder`). */
  tau: number | null;
  /** Standard deviation of tau in one group under random rankings; null where it is not known in closed form. */
  nullTauDeviation: number | null;
  /** C under random rankings, mean -+ one standard deviation of a single group. */
  nullBand: [number, number] | null;
  /** Groups with a C. */
  groups: number;
  undefinedGroups: Partial<Record<UndefinedConsistency, number>>;
  /** Groups whose C is below 1/2: with weight `sample` these train on flipped labels. */
  belowHalf: number;
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
  pairs: number;
  /** prompts = pairs + the sum of these, exactly. */
  droppedGroups: Partial<Record<NoPairReason, number>>;
  /** Mean weight C that the loss used; null without pairs. */
  meanWeight: number | null;
  /** Share of correct-incorrect response pairs that the policy's reward orders right; null without labels. */
  rankingAccuracy: number | null;
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
  /** The iteration whose training made this model; absent for M0 and M1. */
  iteration?: number;
}

export interface RunSummary {
  directory: string;
  /** Folder of the final policy. */
  model: string;
  seed: number;
  models: ModelSummary[];
  iterations: IterationSummary[];
  warnings: { code: string; message: string }[];
  /** Seconds of work, over all processes that took part. */
  seconds: number;
}
