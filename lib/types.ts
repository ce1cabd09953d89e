// The records that flow between stages. Each is one line of a JSONL file in the run folder; a stage command
// reads and writes the same. Fields that a stage does not know pass through unchanged.

/** One part of a content that is a list. */
export interface TextPart {
  type: 'text';
  text: string;
}

/** null and a content that is not there are for messages that say something in another field, such as tool_calls. */
export type MessageContent = string | readonly TextPart[] | null;

/** A message as the chat template sees it: tool_calls, reasoning_content, name and every other field reach it. */
export interface Message {
  role: string;
  content?: MessageContent;
  [field: string]: unknown;
}

/** Text, or a conversation that ends before the assistant's turn. */
export type PromptInput = string | readonly Message[];

/** Text, or the messages of a response that has more than text: thoughts in a field, tool calls, several turns. */
export type ResponseInput = string | readonly Message[];

/** What a row gives its chat template beside the messages, under the names that transformers and TRL use. */
export interface TemplateInputs {
  tools?: readonly unknown[];
  documents?: readonly unknown[];
  /** Further variables of the template; they come before those of the settings. */
  chat_template_kwargs?: Readonly<Record<string, unknown>>;
}

export type FinishReason = 'stop' | 'length';

/** One response to a prompt: the sampled ids themselves ("token in, token out") and their text. */
export interface Response {
  /** Token ids, the stop token included when the model emitted it. */
  ids: number[];
  /** The ids decoded, without special tokens. For people; never tokenised again. */
  text: string;
  finishReason: FinishReason;
  /** The response where it is more than text: thoughts in a field, tool calls. */
  messages?: readonly Message[];
  /** Sum of the ids' log-probs as the sampler saw them (temperature 1, no truncation), in nats. */
  samplerLogprob?: number;
}

/** One prompt with its N sampled responses. */
export interface Group extends TemplateInputs {
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
  /** By what pairs are made, where that is not `rewards` (settings reward.source). */
  pairRewards?: number[];
  /** The same responses as earlier policies rank them, latest first; with consistency.history all or report. */
  history?: EarlierRewards[];
  /** Mean score that the judge gave each response; the agreement filter and its loss need it. */
  judgeRewards?: number[];
}

/** How an earlier policy M_model ranks a group's responses. */
export interface EarlierRewards {
  model: number;
  logprobs: number[];
  rewards: number[];
}

/** Why a group has no consistency. */
export type UndefinedConsistency =
  | 'fewer-than-two'
  | 'policy-constant'
  | 'previous-constant'
  | 'not-finite'
  | 'not-measured';

export interface RankedGroup extends ScoredGroup {
  /** Rank correlation of the two reward lists in [-1, 1] (0 or 1 for topOrder); null when undefined. */
  tau: number | null;
  /** C in [0, 1]; null when undefined. */
  consistency: number | null;
  undefinedBecause?: UndefinedConsistency;
  /** Rank correlation with each earlier policy of `history`; null where it does not exist. */
  historyTau?: { model: number; tau: number | null }[];
}

/** A preference pair. `consistency` is the group's own C, `weight` the C that the loss uses. */
export interface PreferencePair extends TemplateInputs {
  id: string;
  prompt: PromptInput;
  promptIds: number[];
  chosen: string;
  chosenIds: number[];
  rejected: string;
  rejectedIds: number[];
  chosenReward: number;
  rejectedReward: number;
  /** null where the group has none and its weight does not depend on it. */
  consistency: number | null;
  /** The group's own rank correlation; absent in pairs that were not ranked here. */
  tau?: number;
  weight: number;
  /** Sequence log-probs under the reference of the training loss, theta_t itself: the score stage's numbers. */
  referenceChosenLogprob: number;
  referenceRejectedLogprob: number;
  /** Who wrote the rejected response; absent where it is the policy. */
  rejectedFrom?: 'base';
  /** Of the agreement term, where a judge scored: log-probs under M_0, and by how much the judge prefers the chosen one. */
  baseChosenLogprob?: number;
  baseRejectedLogprob?: number;
  judgeMargin?: number;
}

/** Why a group made no pair. */
export type NoPairReason =
  | UndefinedConsistency
  | 'tied'
  | 'identical'
  | 'empty-response'
  | 'below-min-consistency'
  | 'tied-extreme'
  | 'within-margin'
  | 'not-judged'
  | 'judge-tied'
  | 'rewards-disagree';

/** What the choice of the pairs had to decide; each counts pairs. */
export interface PairChoices {
  /** Different responses shared the best reward. */
  tiedBest: number;
  /** Different responses shared the worst reward. */
  tiedWorst: number;
  /** The rejected response is one of M0's. */
  rejectedFromBase: number;
  /** The length band took another response than the best or the worst. */
  movedByLength: number;
}

/** A held-out problem: free answer, or multiple choice when `choices` is given. */
export interface TaskRecord {
  id: string;
  question: string;
  choices?: Record<string, string>;
  /** The right choice's letter, or the right answer. */
  label: string;
}

/** Sequence log-probs of one group under one model; index i belongs to responses[i]. */
export interface GroupLogprobs {
  id: string;
  logprobs: number[];
}

/** Accuracy with its Wilson 95 % interval. */
export interface Accuracy {
  correct: number;
  total: number;
  accuracy: number;
  interval: [number, number];
}

/** A result that comes out of turn, with the place of what it belongs to. */
export interface Placed<Result> {
  index: number;
  result: Result;
}
