// The records that flow between stages. Each is one line of a JSONL file in the run folder; a stage command
// reads and writes the same. Fields that a stage does not know pass through unchanged.

export interface Message {
  role: string;
  content: string;
}

/** Text, a conversation that ends before the assistant's turn, or token ids. */
export type PromptInput = string | readonly Message[];

export type FinishReason = 'stop' | 'length';

/** One response to a prompt: the sampled ids themselves ("token in, token out") and their text. */
export interface Response {
  /** Token ids, the stop token included when the model emitted it. */
  ids: number[];
  /** The ids decoded, without special tokens. For people; never tokenised again. */
  text: string;
  finishReason: FinishReason;
  /** Sum of the ids' log-probs as the sampler saw them (temperature 1, no truncation), in nats. */
  samplerLogprob?: number;
}

/** One prompt with its N sampled responses. */
export interface Group {
  id: string;
  prompt: PromptInput;
  promptIds: number[];
  responses: Response[];
  /** The task's answer where the prompt has one; for reports and the oracle, never for CREAM itself. */
  label?: string;
}

/** Sequence log-probs (nats, float32 softmax) of a group's responses; index i belongs to responses[i]. */
export interface ScoredGroup extends Group {
  /** Under the policy, theta_t. */
  logprobs: number[];
  /** Tokens per response. */
  numTokens: number[];
  /** Under the base model, theta_0. */
  baseLogprobs?: number[];
  /** Under the previous policy, theta_{t-1}. */
  previousLogprobs?: number[];
  /** beta (logprobs - baseLogprobs), the implicit DPO reward of the policy. */
  rewards?: number[];
  /** The reward by which the previous policy ranks. */
  previousRewards?: number[];
}

/** Why a group has no consistency. */
export type UndefinedConsistency = 'fewer-than-two' | 'policy-constant' | 'previous-constant' | 'not-finite';

export interface RankedGroup extends ScoredGroup {
  rewards: number[];
  previousRewards: number[];
  /** Rank correlation of the two reward lists in [-1, 1] (0 or 1 for topOrder); null when undefined. */
  tau: number | null;
  /** C in [0, 1]; null when undefined. */
  consistency: number | null;
  undefinedBecause?: UndefinedConsistency;
}

/** A preference pair. `consistency` is the group's own C, `weight` the C that the loss uses. */
export interface PreferencePair {
  id: string;
  prompt: PromptInput;
  promptIds: number[];
  chosen: string;
  chosenIds: number[];
  rejected: string;
  rejectedIds: number[];
  chosenReward: number;
  rejectedReward: number;
  consistency: number;
  /** The group's own rank correlation; absent in pairs that were not ranked here. */
  tau?: number;
  weight: number;
  /** Sequence log-probs under the reference of the training loss, theta_t itself: the score stage's numbers. */
  referenceChosenLogprob: number;
  referenceRejectedLogprob: number;
}

/** Why a group made no pair. */
export type NoPairReason =
  | UndefinedConsistency
  | 'tied'
  | 'identical'
  | 'empty-response'
  | 'below-min-consistency';

/** A held-out problem: free answer, or multiple choice when `choices` is given. */
export interface TaskRecord {
  id: string;
  question: string;
  choices?: Record<string, string>;
  /** The right choice's letter, or the right answer. */
  label: string;
}

/** Accuracy with its Wilson 95 % interval. */
export interface Accuracy {
  correct: number;
  total: number;
  accuracy: number;
  interval: [number, number];
}
