// The public API.

export { Tokenizer } from './data/tokenizer.js';
export { gradeResponse } from './data/answers.js';
export { loadLabelledGroups, type LabelledRow } from './data/labelled-groups.js';
export { rewardBenchScore, type RewardBenchScore } from './data/reward-bench.js';
export { loadPairs, loadPrompts, loadSft, loadTask } from './data/datasets.js';
export {
  absoluteConfig,
  configJsonSchema,
  configSchema,
  validateConfig,
  type CreamConfig,
  type CreamConfigInput,
} from './config.js';
export { configReference, renderConfig, settings } from './config-docs.js';
export { loadConfig, parseConfig } from './config-file.js';
export { CreamError, EXIT_CODES, isCreamError, type ErrorCode } from './errors.js';
export { averageRanks, kendallTau, spearman } from './kendall-tau.js';
export { Model, Trainer } from './native/model.js';
export { mergeCheckpoint, type MergedCheckpoint, type MergeOptions } from './native/merge.js';
export {
  type CompareEvent,
  type CompareOptions,
  type CompareRun,
  compareRuns,
  type MemberEvent,
} from './compare/compare.js';
export type { Contestant } from './compare/plan.js';
export type { AccuracyCell, AccuracyRow, Comparison, ConsistencyRow, RunOutcome } from './compare/results.js';
export type * from './run/events.js';
export { type CreamRun, runCream, type RunCreamOptions } from './run/host.js';
export type * from './run/summary.js';
export {
  nullTau,
  rankingAccuracy,
  rewardCorrelation,
  summarizeConsistency,
  summarizeHistory,
} from './run/summary.js';
export { pair, type PairOptions, type Pairs } from './stages/pair.js';
export { consistencyOf, rank, type RankOptions, topOrder } from './stages/rank.js';
export { RewardModel, type RewardsOptions } from './native/reward-model.js';
export { METHODS, type MethodName, type RewardSource } from './methods.js';
export { type MeanEstimate, studentMean, studentT95 } from './statistics.js';
export { type RewardFunction, type RewardOptions, withPairRewards } from './stages/reward.js';
export {
  encodeLabelled,
  type LabelledGroup,
  type RankingReport,
  type RankingReward,
  type RankingScore,
  rankingReport,
  rankingRewards,
} from './stages/ranking-accuracy.js';
export { evaluate, type EvaluateOptions, type Evaluation } from './stages/evaluate.js';
export { evaluateOptions, type OptionsEvaluation, type OptionsRequest } from './stages/evaluate-options.js';
export { sample, type SampleOptions, type TokenizedPrompt } from './stages/sample.js';
export { judgePrompt, readScore } from './data/judge-prompt.js';
export { judge, type JudgedGroup, type JudgeOptions } from './stages/judge.js';
export { earlierJudges, judgesOf, score, withRewards } from './stages/score.js';
export { choosePair, type Candidate, type Choice, type ChoiceOptions } from './choose-pair.js';
export { sft } from './stages/sft.js';
export { encodeSftExamples, type SftExample, type TrainedTurns } from './data/sft-examples.js';
export { TextNotices } from './data/text-notices.js';
export { train } from './stages/train.js';
export { LORA_MODULES, type LoraModule, type LoraOptions } from './data/adapter.js';
export { writeReport } from './report/write-report.js';
export type * from './types.js';
