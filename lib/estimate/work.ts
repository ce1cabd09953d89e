import type { CreamConfig } from '../config.js';
import { scoringNeeds } from '../scoring-needs.js';
import type { EngineKind } from './sizes.js';

// What a run has to compute, counted in tokens. Prompts are computed once per group; the last token of a response
// needs no row of its own.

export interface Lengths {
  /** Mean tokens of a prompt. */
  prompt: number;
  /** Mean tokens of a response. */
  response: number;
}

export interface Workload {
  sft?: { examples: number; lengths: Lengths };
  /** Prompts per iteration, and their lengths. */
  prompts: number;
  lengths: Lengths;
  evaluation: { problems: number; lengths: Lengths };
  /** Parameters of the reward model, in those of the policy. */
  rewardModel?: number;
}

export interface StageWork {
  stage: string;
  /** In words, for a table. */
  what: string;
  /** Rows through a training step. */
  trained: number;
  /** Rows through a scoring pass. */
  scored: number;
  /** Tokens sampled one after another. */
  generated: number;
}

const groupRows = ({ prompt, response }: Lengths, responses: number): number =>
  prompt + responses * Math.max(0, response - 1);

/**
 * Scoring passes of iteration t: the policy, the base, and the previous policy where it is a third model; those of
 * earlier policies, of the final one, and the policy's and the base's over M0's responses; as far as the settings ask
 * for them.
 */
export function scoringPasses(iteration: number, config: CreamConfig, engine: EngineKind = 'cpu'): number {
  const { consistency, iterations, pairing, score } = config;
  const needs = scoringNeeds(config);
  const isThird = needs.previous && iteration > 1 && score.previousReward !== 'anchor';
  // The few groups that are compared with the sampler's log-probs are not counted.
  const source = score.policyFrom === 'auto' && engine === 'gpu' ? 'generation' : score.policyFrom;
  const always = Number(source !== 'generation') + Number(needs.base) + Number(isThird);
  const ofBase = pairing.rejectedFrom === 'base' ? 1 + Number(scoringNeeds(config, 'base').base) : 0;
  const earlier = consistency.history === 'previous' ? 0 : Math.max(0, iteration - 2);
  const final = consistency.final && iteration === iterations ? 1 : 0;
  return always + earlier + final + ofBase;
}

/** The reward model's pass, and the judgements; part of the score stage of a run. */
function rewardStages(
  { sampling, reward, ...config }: CreamConfig,
  work: Workload,
  groups: number,
): StageWork[] {
  const none = { trained: 0, scored: 0, generated: 0 };
  const stages: StageWork[] = [];
  if (work.rewardModel !== undefined) {
    const scored = work.rewardModel * groups * groupRows(work.lengths, sampling.n);
    stages.push({ stage: 'reward model', what: `${groups} groups`, ...none, scored });
  }
  if (scoringNeeds({ sampling, reward, ...config }).judge) {
    const count = groups * sampling.n * reward.judge.samples;
    const generated = count * reward.judge.maxNewTokens;
    stages.push({ stage: 'judge', what: `${count} judgements`, ...none, generated });
  }
  return stages;
}

/** Models that are measured on the held-out tasks. */
const measured = (config: CreamConfig) =>
  config.data.evaluation.length === 0 ? 0 : config.iterations + (config.data.sft === undefined ? 1 : 2);

/** The stages of a whole run, in the order in which they are first done. */
export function stagesOf(config: CreamConfig, work: Workload, engine: EngineKind = 'cpu'): StageWork[] {
  const none = { trained: 0, scored: 0, generated: 0 };
  const stages: StageWork[] = [];
  const { iterations, sampling, train } = config;
  if (work.sft !== undefined) {
    const { examples, lengths } = work.sft;
    const trained = examples * config.sft.epochs * groupRows(lengths, 1);
    stages.push({ stage: 'sft', what: `${examples} examples x ${config.sft.epochs}`, ...none, trained });
  }
  if (iterations > 0) {
    const passes = Array.from({ length: iterations }, (_, i) => scoringPasses(i + 1, config, engine));
    const allPasses = passes.reduce((sum, count) => sum + count, 0);
    const groups = iterations * work.prompts;
    const authors = config.pairing.rejectedFrom === 'base' ? 2 : 1;
    stages.push(
      {
        stage: 'sample',
        what: `${groups} prompts x ${sampling.n}${authors === 2 ? ', by the policy and by M0' : ''}`,
        ...none,
        generated: authors * groups * sampling.n * work.lengths.response,
      },
      {
        stage: 'score',
        what: `${allPasses} passes of ${work.prompts} groups`,
        ...none,
        scored: allPasses * work.prompts * groupRows(work.lengths, sampling.n),
      },
      ...rewardStages(config, work, authors * groups),
      {
        stage: 'train',
        what: `at most ${groups} pairs x ${train.epochs}`,
        ...none,
        trained: groups * train.epochs * groupRows(work.lengths, 2),
      },
    );
  }
  const answers = work.evaluation.problems * (1 + config.evaluation.samples) * measured(config);
  if (answers > 0) {
    const generated = answers * work.evaluation.lengths.response;
    stages.push({ stage: 'evaluate', what: `${answers} answers`, ...none, generated });
  }
  return stages;
}
