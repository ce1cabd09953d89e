import { resolve } from 'node:path';
import { z } from 'zod';
import { type ConfigIssue, issuesOf } from './config-issues.js';
import { LORA_MODULES } from './data/adapter.js';
import { CreamError } from './errors.js';
import { METHOD_NAMES, METHODS, REWARD_SOURCES, WEIGHTS, withMethod } from './methods.js';

// The settings of a run, defined once: types, defaults (the paper's), checks, editor schema and reference table
// all come from this schema. Nothing else in the package knows a default.

const count = z.int().min(1);
const positive = z.number().positive();
const notNegative = z.number().min(0);
const fraction = z.number().min(0).max(1);
const decay = z.number().min(0).lt(1);
const path = z.string().min(1);
const autoOrCount = z.union([z.literal('auto'), z.int().min(1)], {
  error: 'must be auto or a whole number >= 1',
});

/** A group of settings; leaving it out is the same as leaving out each of its settings. */
const section = <Shape extends z.core.$ZodLooseShape>(description: string, shape: Shape) =>
  z
    .strictObject(shape)
    .prefault({} as never)
    .describe(description);

const trainingOptions = (defaults: { epochs: number; learningRate: number }) => ({
  epochs: count.default(defaults.epochs).describe('Passes over the data.'),
  learningRate: positive.default(defaults.learningRate).describe('Peak learning rate.'),
  batchSize: count.default(32).describe('Examples per optimizer step.'),
  schedule: z
    .enum(['cosine', 'linear', 'constant'])
    .default('cosine')
    .describe('Learning rate after the warm-up.'),
  warmupRatio: fraction
    .default(0.1)
    .describe('Share of the steps in which the learning rate rises linearly.'),
  minLearningRateRatio: fraction
    .default(0)
    .describe('Where cosine and linear end, as a share of the peak learning rate.'),
  weightDecay: notNegative.default(0.01).describe('Decoupled weight decay of AdamW.'),
  maxGradNorm: notNegative.default(1).describe('Gradients are clipped to this norm; 0 = no clipping.'),
  beta1: decay.default(0.9).describe('AdamW: decay of the first moment.'),
  beta2: decay.default(0.999).describe('AdamW: decay of the second moment.'),
  maxTokensPerBatch: count
    .default(8192)
    .describe('Memory bound: a batch is split into micro-batches of at most so many tokens.'),
  checkpointEverySteps: count
    .default(50)
    .describe('Steps between checkpoints from which a run can continue.'),
});

/** How the answer of a response is read; see lib/data/answers.ts. */
const extract = z
  .union([z.enum(['auto', 'choice', 'number', 'exact']), z.strictObject({ pattern: path })], {
    error: 'must be auto, choice, number, exact or {pattern: a regular expression}',
  })
  .default('auto');

export const configSchema = z.strictObject({
  model: path.describe('Folder of the base model M0, in Hugging Face layout.'),
  output: path.default('cream-run').describe('Run folder: records, checkpoints, metrics and the summary.'),
  seed: z.int().min(0).default(0).describe('All randomness of a run follows from this number.'),
  device: z
    .string()
    .regex(/^(auto|cpu|cuda(:\d{1,3})?)$/, { error: 'must be auto, cpu, cuda or cuda:N' })
    .default('auto')
    .describe('Where the engine computes: auto, cpu, cuda or cuda:N.'),
  dtype: z
    .enum(['auto', 'float32', 'bfloat16'])
    .default('auto')
    .describe("Working precision; auto is the checkpoint's own (float16 becomes bfloat16)."),
  threads: autoOrCount
    .default('auto')
    .describe('CPU threads of the engine; part of what makes a run repeatable.'),
  iterations: z.int().min(0).default(2).describe('T, the number of preference iterations: M1 -> M(T+1).'),
  method: z
    .enum(METHOD_NAMES)
    .optional()
    .describe(
      `A name for reward.source and consistency.weight together: ${METHOD_NAMES.join(', ')}. Left out: cream's, or what those settings say.`,
    ),
  beta: positive.default(0.1).describe('beta of the implicit reward and of the preference loss.'),
  maxLength: autoOrCount
    .default('auto')
    .describe(
      "Limit of prompt + response in tokens; auto is 2048 or the model's context, whichever is less.",
    ),

  lora: z
    .strictObject({
      rank: count.max(65_536).default(16).describe('Columns of the two factors.'),
      alpha: positive.default(32).describe('The adapter adds alpha / rank times B A to a weight.'),
      dropout: z
        .number()
        .min(0)
        .lt(1)
        .default(0)
        .describe("Share of the adapter's inputs dropped in training."),
      targetModules: z
        .union([z.literal('all'), z.array(z.enum(LORA_MODULES)).min(1)], {
          error: `must be all or a list of ${LORA_MODULES.join(', ')}`,
        })
        .default('all')
        .describe(`Which matrices get an adapter: all, or some of ${LORA_MODULES.join(', ')}.`),
      rankStabilized: z
        .boolean()
        .default(false)
        .describe('rsLoRA: alpha / sqrt(rank) in place of alpha / rank.'),
    })
    .optional()
    .describe(
      'Train low-rank adapters (LoRA) in place of all weights: one base in memory, adapters as policy and previous policy. Leave it out for full fine-tuning.',
    ),

  data: section('Input files: JSON lines. Relative paths are relative to this file.', {
    sft: path
      .optional()
      .describe('Seed data {prompt, completion} or {messages}: M0 -> M1. Without it M1 is M0.'),
    prompts: path.optional().describe('Prompts {prompt} or {messages} for the preference iterations.'),
    evaluation: z
      .array(
        z.strictObject({
          name: z
            .string()
            .regex(/^[\w.-]{1,64}$/, { error: 'must be letters, digits, "_", "-" or "."' })
            .describe('Name of the task in tables.'),
          path: path.describe('Task records {question, choices|answer, label}.'),
          extract: extract.describe('How the answer is read from a response.'),
        }),
      )
      .default([])
      .describe('Held-out tasks on which every model M0, M1, ... is measured.'),
    chat: z
      .union([z.literal('auto'), z.boolean()], { error: 'must be auto, true or false' })
      .default('auto')
      .describe("Put prompts into the model's chat template: auto does so when the model has one."),
    extract: extract.describe('How the answer is read from responses to labelled prompts (reports only).'),
  }),

  sft: section(
    'Supervised fine-tuning M0 -> M1 on data.sft.',
    trainingOptions({ epochs: 5, learningRate: 5e-6 }),
  ),

  sampling: section('Responses of the policy to the prompts of an iteration.', {
    n: z.int().min(2).default(5).describe('N, responses per prompt; consistency needs two.'),
    temperature: positive.default(0.8).describe('Sampling temperature.'),
    topP: z.number().positive().max(1).default(0.95).describe('Nucleus sampling; 1 = off.'),
    topK: z.int().min(0).default(0).describe('Keep the k likeliest tokens; 0 = off.'),
    maxNewTokens: count.default(768).describe('Length limit of a response.'),
    promptsPerIteration: autoOrCount
      .default('auto')
      .describe('Prompts per iteration, a fresh slice each; auto splits them evenly.'),
    chunkSize: count.default(32).describe('Prompts per chunk: an interrupted run loses at most one chunk.'),
  }),

  score: section('Log-probs of the responses under the policy, the previous policy and the base model.', {
    maxTokensPerBatch: count.default(16384).describe('Memory bound of a forward pass, in tokens.'),
    lengthNormalize: z.boolean().default(false).describe('Divide rewards by the length of the response.'),
    previousReward: z
      .enum(['auto', 'implicit', 'likelihood', 'anchor'])
      .default('auto')
      .describe(
        "How the previous policy ranks. implicit: its DPO reward. likelihood: its log-likelihood per token. auto: implicit, but likelihood where the previous policy is M0 (whose DPO reward is 0). anchor: M0's log-likelihood per token in every iteration.",
      ),
  }),

  reward: section('By what the best and the worst response of a group are chosen.', {
    source: z
      .enum(REWARD_SOURCES)
      .default('implicit')
      .describe(
        "implicit: the policy's DPO reward against M0. likelihood: its log-likelihood per token. worst-of: the lower of the policy's and the previous policy's DPO reward. verifier: 1 for an answer that agrees with the prompt's label, else 0. module: a function of your own.",
      ),
    module: path
      .optional()
      .describe(
        'With source: module. A JavaScript module whose default export takes groups {id, prompt, responses: [{text, ids, finishReason}], label?} and returns, or promises, a list of numbers per group. It runs with all rights of the process.',
      ),
  }),

  consistency: section('Agreement of the two rankings, and the weight that it gives to a pair.', {
    metric: z
      .enum(['kendall', 'spearman', 'topOrder'])
      .default('kendall')
      .describe("Kendall's tau-b, Spearman's rho, or agreement on both the best and the worst response."),
    weight: z
      .enum(WEIGHTS)
      .default('dataset')
      .describe(
        "C of a pair: the slice's mean (CREAM), the group's own, 1 (SRLM, plain DPO), or a constant.",
      ),
    constant: fraction.optional().describe('C of every pair with weight: constant.'),
    rule: z
      .enum(['linear', 'theorem', 'floor'])
      .default('linear')
      .describe('From tau to C: (tau+1)/2, (3-tau)/(4-2 tau), or max(1/2, (tau+1)/2).'),
    minConsistency: fraction.default(0).describe('Groups whose C is lower make no pair; 0 = keep all.'),
    history: z
      .enum(['previous', 'report', 'all'])
      .default('previous')
      .describe(
        'Policies whose ranking is compared: the previous one; all: tau is the mean over M(t-1), ..., M1; report: these taus are reported, the weight comes from the previous one. One scoring pass more for each.',
      ),
    final: z
      .boolean()
      .default(false)
      .describe(
        "Also rank the last iteration's responses by the final policy, and report its agreement with the policy before: M3 against M2 in the paper. One scoring pass more; cream compare always does it.",
      ),
  }),

  pairing: section('Which two responses of a group become its pair.', {
    ties: z
      .enum(['first', 'drop', 'margin'])
      .default('first')
      .describe(
        'Different responses share the best or worst reward: take the first sampled, make no pair (drop); margin: no pair unless the rewards differ by more than pairing.margin.',
      ),
    margin: notNegative.optional().describe('Least gap of rewards with ties: margin.'),
    lengthBand: notNegative
      .lt(0.5)
      .default(0)
      .describe(
        "rho of Meta-Rewarding's length control: chosen is the shortest response in the top rho of the reward's range, rejected the longest in the bottom rho; 0 = off.",
      ),
    rejectedFrom: z
      .enum(['policy', 'base'])
      .default('policy')
      .describe(
        "base: M0 samples too, and its worst response is rejected where it is worse than all of the policy's (Temporal Self-Rewarding).",
      ),
  }),

  train: section('Preference training M_t -> M_(t+1).', {
    ...trainingOptions({ epochs: 1, learningRate: 1e-6 }),
    loss: z
      .enum(['sigmoid', 'hinge', 'ipo', 'sigmoid-norm'])
      .default('sigmoid')
      .describe("Preference loss; sigmoid is the paper's."),
    sftCoefficient: notNegative
      .default(0)
      .describe('Adds so much of the negative log-likelihood per token of the chosen response.'),
    lengthTerm: notNegative
      .default(0)
      .describe('alpha of R-DPO: u + alpha (|chosen| - |rejected|) in place of u; 0 = off.'),
    maxChosenDrop: positive
      .optional()
      .describe(
        "Ends the training early when the chosen responses' mean log-prob has fallen by more than so many nats from the policy's own, three steps in a row: a sign of collapse.",
      ),
    maxMargin: positive
      .optional()
      .describe(
        'Ends the training early when rewards/margins is above this, three steps in a row: saturated.',
      ),
    agreementCoefficient: notNegative
      .default(0)
      .describe(
        "Adds so much of the symmetric KL divergence between the judge's and the implicit reward's preference probability of a pair; pairs need judgeMargin.",
      ),
    agreementEntropy: notNegative
      .default(0)
      .describe("Adds so much of the entropy of the implicit reward's preference probability."),
  }),

  evaluation: section('Measurement of M0, M1, ... on data.evaluation.', {
    maxNewTokens: count.default(512).describe('Length limit of an answer.'),
    samples: z
      .int()
      .min(0)
      .default(0)
      .describe('Sampled answers per problem besides the greedy one; 0 = none.'),
    temperature: positive.default(1).describe('Temperature of sampled answers.'),
    topP: z.number().positive().max(1).default(1).describe('Nucleus of sampled answers.'),
    limit: count.optional().describe('Use only the first problems of each task.'),
  }),

  report: section(
    'What is written beside the records for people and other tools; decides nothing of the run.',
    {
      html: z
        .boolean()
        .default(true)
        .describe('Write report.html into the run folder after every stage and at the end.'),
      tensorboard: z
        .boolean()
        .default(true)
        .describe('Write TensorBoard event files into tensorboard/ of the run folder.'),
      tracker: z
        .enum(['none', 'mlflow'])
        .default('none')
        .describe(
          'Send settings and metrics to a tracking server as the run goes. mlflow: by its REST interface.',
        ),
      trackerUrl: z
        .url({ protocol: /^https?$/, error: 'must be a http:// or https:// address' })
        .optional()
        .describe('Address of the tracking server; left out, MLFLOW_TRACKING_URI of the environment.'),
      experiment: z
        .string()
        .min(1)
        .max(200)
        .default('cream')
        .describe('Experiment on the tracking server; it is made when it is not there.'),
    },
  ),
});

/** A run's settings as a user writes them: everything but `model` may be left out. */
export type CreamConfigInput = z.input<typeof configSchema>;
/** Complete settings: defaults filled in, paths absolute. */
export type CreamConfig = z.output<typeof configSchema>;
export type TrainingOptions = CreamConfig['sft'];

const DEFAULTS = configSchema.parse({ model: 'model' });

/** Combinations that the types allow but that cannot work, and settings that would have no effect. */
export function configConflicts(config: CreamConfig): ConfigIssue[] {
  const issues: ConfigIssue[] = [];
  const report = (where: string, message: string) => issues.push({ path: where.split('.'), message });
  const { consistency, data, pairing, sampling, sft, train, evaluation } = config;

  if (config.iterations > 0 && data.prompts === undefined) {
    report('data.prompts', 'is missing: the preference iterations need prompts (or set iterations: 0)');
  }
  if (config.method !== undefined) {
    const { source, weight } = METHODS[config.method];
    const differs = (where: string, actual: string, expected: string) => {
      if (actual !== expected)
        report(where, `is ${actual}, but method: ${config.method} means ${expected}; remove one of the two`);
    };
    differs('reward.source', config.reward.source, source);
    differs('consistency.weight', consistency.weight, weight);
  }
  const { reward } = config;
  if (reward.source === 'module' && reward.module === undefined) {
    report('reward.module', 'is missing: source: module needs the path of a JavaScript module');
  }
  if (reward.source === 'worst-of' && config.score.previousReward === 'anchor') {
    report(
      'reward.source',
      'is worst-of, which needs the previous policy; score.previousReward: anchor leaves it out',
    );
  }
  if (reward.source !== 'module' && reward.module !== undefined) {
    report('reward.module', `has no effect with source: ${reward.source}; set source: module or remove it`);
  }
  if (consistency.weight === 'constant' && consistency.constant === undefined) {
    report('consistency.constant', 'is missing: weight: constant needs it');
  }
  if (consistency.weight !== 'constant' && consistency.constant !== undefined) {
    report(
      'consistency.constant',
      `has no effect with weight: ${consistency.weight}; set weight: constant or remove it`,
    );
  }
  if (consistency.metric === 'topOrder' && consistency.rule !== 'linear') {
    report('consistency.rule', 'has no effect with metric: topOrder, whose C is 0 or 1; remove it');
  }
  if (consistency.history !== 'previous' && config.score.previousReward === 'anchor') {
    report(
      'consistency.history',
      `must be previous with score.previousReward: anchor, which compares with M0 alone`,
    );
  }
  if (consistency.final && config.iterations === 0) {
    report('consistency.final', 'has no effect with iterations: 0; remove it');
  }
  if (pairing.ties === 'margin' && pairing.margin === undefined) {
    report('pairing.margin', 'is missing: ties: margin needs it');
  }
  if (pairing.ties !== 'margin' && pairing.margin !== undefined) {
    report('pairing.margin', `has no effect with ties: ${pairing.ties}; set ties: margin or remove it`);
  }
  if (reward.source === 'worst-of' && pairing.rejectedFrom === 'base') {
    report(
      'pairing.rejectedFrom',
      "must not be base with reward.source: worst-of, which M0's responses do not have",
    );
  }
  if (pairing.lengthBand > 0 && pairing.rejectedFrom === 'base') {
    report('pairing.lengthBand', 'cannot go with rejectedFrom: base, both choose the rejected response');
  }
  if (pairing.lengthBand > 0 && pairing.ties === 'drop') {
    report('pairing.ties', 'must not be drop with lengthBand, which decides ties by length; remove one');
  }
  if (train.lengthTerm > 0 && train.loss !== 'sigmoid' && train.loss !== 'sigmoid-norm') {
    report('train.lengthTerm', `has no effect with loss: ${train.loss}; use sigmoid or sigmoid-norm`);
  }
  for (const key of ['agreementCoefficient', 'agreementEntropy'] as const) {
    if (train[key] === 0) continue;
    report(
      `train.${key}`,
      'needs pairs with a judgeMargin, which the stages of a run do not make; give judgeRewards to cream pair, and its pairs to cream train',
    );
  }
  for (const [name, options] of [
    ['sft', sft],
    ['train', train],
  ] as const) {
    if (options.schedule === 'constant' && options.minLearningRateRatio !== 0) {
      report(`${name}.minLearningRateRatio`, 'has no effect with schedule: constant; remove it');
    }
  }
  if (config.score.previousReward === 'implicit' && config.iterations > 0) {
    report(
      'score.previousReward',
      'must not be implicit: at iteration 1 the previous policy is M0, whose DPO reward is 0 for everything; use auto',
    );
  }
  if (config.maxLength !== 'auto' && sampling.maxNewTokens >= config.maxLength) {
    report(
      'sampling.maxNewTokens',
      `must be less than maxLength (${config.maxLength}), got ${sampling.maxNewTokens}`,
    );
  }
  if (evaluation.samples === 0) {
    for (const key of ['temperature', 'topP'] as const) {
      if (evaluation[key] !== DEFAULTS.evaluation[key]) {
        report(`evaluation.${key}`, 'has no effect with evaluation.samples: 0; set samples or remove it');
      }
    }
  }
  const withoutEffect = (group: 'sft' | 'evaluation', because: string) => {
    for (const [key, value] of Object.entries(config[group])) {
      if (value !== (DEFAULTS[group] as Record<string, unknown>)[key]) {
        report(`${group}.${key}`, `has no effect without ${because}; set that or remove this`);
      }
    }
  };
  const { report: reporting } = config;
  if (reporting.tracker === 'none') {
    for (const key of ['trackerUrl', 'experiment'] as const) {
      if (reporting[key] !== DEFAULTS.report[key]) {
        report(`report.${key}`, 'has no effect with tracker: none; set tracker: mlflow or remove it');
      }
    }
  }
  if (reporting.trackerUrl !== undefined && /\/\/[^/?#]*@/.test(reporting.trackerUrl)) {
    report(
      'report.trackerUrl',
      'must not hold a name and password, which the run would record; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD',
    );
  }
  if (data.sft === undefined) withoutEffect('sft', 'data.sft');
  if (data.evaluation.length === 0) withoutEffect('evaluation', 'data.evaluation');

  const names = data.evaluation.map((task) => task.name);
  names.forEach((name, index) => {
    if (names.indexOf(name) !== index) report(`data.evaluation.${index}.name`, `is used twice: ${name}`);
  });
  return issues;
}

/** All that is wrong with a settings object, or the complete settings. Paths stay as they are. */
export function checkConfig(input: unknown): { config: CreamConfig } | { issues: ConfigIssue[] } {
  const complete = withMethod(input);
  const parsed = configSchema.safeParse(complete);
  if (!parsed.success) return { issues: issuesOf(parsed.error, configSchema, complete) };
  const issues = configConflicts(parsed.data);
  return issues.length > 0 ? { issues } : { config: parsed.data };
}

/** Settings given by a program. Throws INVALID_CONFIG with everything that is wrong, not only the first. */
export function validateConfig(input: unknown): CreamConfig {
  const checked = checkConfig(input);
  if ('config' in checked) return checked.config;
  throw new CreamError(
    'INVALID_CONFIG',
    checked.issues.map((issue) => `${issue.path.join('.')} ${issue.message}`.trim()).join('\n'),
  );
}

/** Settings with absolute paths; `base` gives the directory that a setting's relative path starts from. */
export function absoluteConfig(config: CreamConfig, base: (setting: string) => string): CreamConfig {
  const { data, reward } = config;
  return {
    ...config,
    ...(reward.module === undefined
      ? {}
      : { reward: { ...reward, module: resolve(base('reward.module'), reward.module) } }),
    model: resolve(base('model'), config.model),
    output: resolve(base('output'), config.output),
    data: {
      ...data,
      ...(data.sft === undefined ? {} : { sft: resolve(base('data.sft'), data.sft) }),
      ...(data.prompts === undefined ? {} : { prompts: resolve(base('data.prompts'), data.prompts) }),
      evaluation: data.evaluation.map((task) => ({
        ...task,
        path: resolve(base('data.evaluation'), task.path),
      })),
    },
  };
}

/** JSON schema of a config file, for editors. */
export function configJsonSchema(): Record<string, unknown> {
  return z.toJSONSchema(configSchema, { io: 'input', target: 'draft-7' });
}
