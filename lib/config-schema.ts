import { z } from 'zod';
import { LORA_MODULES } from './data/adapter.js';
import { TASK_NAMES } from './data/task-definitions.js';
import { METHOD_NAMES, REWARD_SOURCES, WEIGHTS } from './methods.js';

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
  maxTokensPerBatch: autoOrCount
    .default(8192)
    .describe(
      'Memory bound: a batch is split into micro-batches of at most so many tokens. auto: what fits into the free memory when the training begins. Where a micro-batch does not fit, the bound is halved.',
    ),
  recompute: z
    .union([z.enum(['selective', 'full', 'none']), count], {
      error: 'must be selective, full, none or a number of layers',
    })
    .default('selective')
    .describe(
      'What the backward computes again to save memory: the norms (selective), all but the input of each layer (full: a third more work), the norms and the gate and up projections of so many layers (a number), or nothing. The same results to the bit.',
    ),
  momentsDtype: z
    .enum(['float32', 'bfloat16'])
    .default('float32')
    .describe(
      "How AdamW's moments are kept; bfloat16 takes half of their memory and rounds them at random, right on average.",
    ),
  gradientsDtype: z
    .enum(['auto', 'float32', 'bfloat16'])
    .default('auto')
    .describe(
      'How the gradients of matrices are summed over micro-batches. bfloat16: half of the memory, on a GPU, for all weights of a bfloat16 model; auto: only there and only where float32 does not fit.',
    ),
  learningRateFactors: section('Learning rates of parts of the model, as factors of learningRate.', {
    embeddings: notNegative.default(1).describe('Of the input embeddings, and of a head tied to them.'),
    head: notNegative.default(1).describe('Of an output head of its own.'),
    norms: notNegative.default(1).describe('Of norms and biases.'),
    layerDecay: notNegative
      .default(1)
      .describe(
        'Once for every layer above: the last layer learns at the full rate, the embeddings at this to the power of the number of layers.',
      ),
  }),
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
    .regex(/^(auto|cpu|cuda(:\d{1,3})?|emulated)$/, { error: 'must be auto, cpu, cuda or cuda:N' })
    .default('auto')
    .describe('Where the engine computes: auto, cpu, cuda or cuda:N.'),
  dtype: z
    .enum(['auto', 'float32', 'bfloat16'])
    .default('auto')
    .describe("Working precision; auto is the checkpoint's own (float16 becomes bfloat16)."),
  deterministic: z
    .boolean()
    .default(false)
    .describe(
      'On a GPU, sum the gradients of attention in a fixed order, somewhat slower, so that a run can be repeated to the bit. On the CPU it always can.',
    ),
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

  chatTemplate: z
    .record(z.string().regex(/^[A-Za-z_]\w*$/, { error: 'must be a name of a variable' }), z.unknown())
    .default({})
    .describe(
      "Variables of the model's chat template, as {enable_thinking: false}. A row's chat_template_kwargs come before them.",
    ),

  data: section('Input files: JSON lines. Relative paths are relative to this file.', {
    sft: path
      .optional()
      .describe('Seed data {prompt, completion} or {messages}: M0 -> M1. Without it M1 is M0.'),
    prompts: path.optional().describe('Prompts {prompt} or {messages} for the preference iterations.'),
    evaluation: z
      .array(
        z.strictObject({
          task: z
            .enum(TASK_NAMES)
            .optional()
            .describe(
              `A task of the paper: ${TASK_NAMES.join(', ')}. Checks the file, and words the options as lm-evaluation-harness does.`,
            ),
          name: z
            .string()
            .regex(/^[\w.-]{0,64}$/, { error: 'must be letters, digits, "_", "-" or "."' })
            .default('')
            .describe("Name of the task in tables; task's where that is given."),
          path: path.describe(
            'Task records {question, choices|answer, label}, or as published; JSON lines or Parquet.',
          ),
          scoring: z
            .enum(['generate', 'options', 'both', 'harness'])
            .default('generate')
            .describe(
              "generate: the model writes answers. options: the likelihood of each option (acc, acc_norm). both: both. harness: lm-evaluation-harness's numbers, item by item.",
            ),
          extract: extract.describe('How the answer is read from a response.'),
          maxNewTokens: count
            .optional()
            .describe(
              'Length limit of an answer; evaluation.maxNewTokens, with scoring: harness 256, where it is left out.',
            ),
          stop: z
            .array(z.string().min(1))
            .default([])
            .describe(
              'Texts before which a written answer ends, such as "Question:" for a base model that goes on with the next problem.',
            ),
          fewShot: z
            .strictObject({
              path: path.optional().describe('Problems with their answers: the training split.'),
              n: z
                .int()
                .min(0)
                .optional()
                .describe("Examples before every question; the harness's number where it is left out."),
              sampler: z
                .enum(['random', 'first'])
                .default('random')
                .describe('random: drawn anew for every problem. first: always the first ones.'),
              seed: z.int().min(0).default(1234).describe("Of the draws; the harness's is 1234."),
            })
            .optional()
            .describe('Examples before every question, with scoring: harness.'),
        }),
      )
      .default([])
      .describe('Held-out tasks on which every model M0, M1, ... is measured.'),
    chat: z
      .union([z.literal('auto'), z.boolean()], { error: 'must be auto, true or false' })
      .default('auto')
      .describe("Put prompts into the model's chat template: auto does so when the model has one."),
    loss: z
      .enum(['all', 'last', 'template'])
      .default('all')
      .describe(
        'What is learnt of a conversation {messages} in data.sft: all turns of the assistant, the last one, or what the chat template marks as generated. Of {prompt, completion} it is the completion.',
      ),
    prefixMismatch: z
      .enum(['part', 'error'])
      .default('part')
      .describe(
        'Where the chat template writes a prompt otherwise when a response follows. part: the response begins where both part, as in TRL, with a warning. error: the row is refused.',
      ),
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
    minP: z
      .number()
      .min(0)
      .max(1)
      .default(0)
      .describe('Leave out tokens less likely than this times the likeliest; 0 = off.'),
    repetitionPenalty: positive
      .default(1)
      .describe(
        "Divide the logits of tokens that occurred, as transformers does; 1 = the policy's own samples.",
      ),
    noRepeatNgramSize: z
      .int()
      .min(0)
      .default(0)
      .describe('Let no so many tokens in a row occur twice; 0 = off.'),
    maxNewTokens: count.default(768).describe('Length limit of a response.'),
    promptsPerIteration: autoOrCount
      .default('auto')
      .describe('Prompts per iteration, a fresh slice each; auto splits them evenly.'),
    chunkSize: count
      .default(32)
      .describe(
        'Prompts whose results are committed together. Sampling, judging and answering are one stream over all prompts, ' +
          'whatever the number: it changes no response and no speed. Scoring takes so many prompts at a time.',
      ),
  }),

  score: section('Log-probs of the responses under the policy, the previous policy and the base model.', {
    maxTokensPerBatch: count.default(16384).describe('Memory bound of a forward pass, in tokens.'),
    lengthNormalize: z.boolean().default(false).describe('Divide rewards by the length of the response.'),
    policyFrom: z
      .enum(['auto', 'scoring', 'generation'])
      .default('auto')
      .describe(
        "Where the policy's log-probs come from. scoring: a pass of their own. generation: the sampler's (of temperature 1 and untruncated, however it samples), one pass less; they differ by rounding, which is measured on 32 groups of every iteration. auto: on a GPU generation, with a pass of its own in an iteration where those groups rank otherwise (tau below 0.9); on the CPU scoring.",
      ),
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
        "implicit: the policy's DPO reward against M0. likelihood: its log-likelihood per token. worst-of: the lower of the policy's and the previous policy's DPO reward. judge: the points that the policy gives as a judge. verifier: 1 for an answer that agrees with the prompt's label, else 0. model: a reward model. module: a function of your own.",
      ),
    module: path
      .optional()
      .describe(
        'With source: module. A JavaScript module whose default export takes groups {id, prompt, responses: [{text, ids, finishReason}], label?} and returns, or promises, a list of numbers per group. It runs with all rights of the process.',
      ),
    model: path
      .optional()
      .describe(
        'With source: model. Folder of a reward model: a sequence classifier of one label (Llama, Mistral, Qwen2 or Qwen3) with its tokenizer.',
      ),
    readAt: z
      .enum(['conversation-end', 'turn-end'])
      .default('conversation-end')
      .describe(
        "With source: model. The token at which the reward model's logit is read: the last that its chat template writes, as in TRL's RewardTrainer, or the one that ends the turn.",
      ),
    judge: section(
      'The policy as a judge: with source: judge, pairing.agreement: judge or the agreement terms of train.',
      {
        samples: count.default(3).describe('k, judgements per response, whose points are averaged.'),
        minReadable: count
          .default(1)
          .describe('A response with fewer readable judgements has no reward, and its group makes no pair.'),
        template: path
          .optional()
          .describe(
            'Text file in place of the additive prompt of 0 to 5 points. It holds {{prompt}} and {{response}} and asks for a last line "Score: N".',
          ),
        maxNewTokens: count
          .default(256)
          .describe('Length limit of a judgement; one that is cut is unreadable.'),
        temperature: positive.default(0.7).describe('Sampling temperature of judgements.'),
        topP: z.number().positive().max(1).default(0.9).describe('Nucleus of judgements; 1 = off.'),
      },
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
    measure: z
      .boolean()
      .default(true)
      .describe(
        'false: leave out the scoring passes that nothing but the measurement of consistency needs, where the weight is one or constant. Then the run says nothing of consistency; cream compare always measures it.',
      ),
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
    agreement: z
      .enum(['none', 'judge'])
      .default('none')
      .describe('judge: only pairs whose chosen response has more points by the policy as a judge.'),
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
        "Adds so much of the symmetric KL divergence between the judge's and the implicit reward's preference probability of a pair (Self-Consistent Internal Rewards); the policy is asked as a judge.",
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

/** Every setting at its default. */
export const DEFAULTS = configSchema.parse({ model: 'model' });
