import {
  ADAPTER_OPTION,
  CHAT_OPTIONS,
  PREFIX_OPTION,
  MODEL_OPTIONS,
  type Options,
  choice,
  flag,
  integer,
  number,
  path,
} from '../options.js';

/** Options that SFT and preference training share; their defaults are those of the config schema. */
export function trainingOptions(defaults: { epochs: string; learningRate: string }) {
  return {
    model: path('folder of the model to start from', { alias: 'm', required: true }),
    input: path('training data: JSON lines; - is standard input', { alias: 'i', required: true }),
    output: path('folder for the trained model', { alias: 'o', required: true }),
    force: flag('replace the output folder if it exists'),
    epochs: integer('passes over the data', { min: 1, defaultText: defaults.epochs }),
    learningRate: number('peak learning rate', { above: 0, defaultText: defaults.learningRate }),
    batchSize: integer('examples per optimizer step', { min: 1, defaultText: '32' }),
    schedule: choice('learning rate after the warm-up', ['cosine', 'linear', 'constant'], {
      defaultText: 'cosine',
    }),
    warmupRatio: number('share of the steps with rising learning rate', {
      min: 0,
      max: 1,
      defaultText: '0.1',
    }),
    weightDecay: number('decoupled weight decay', { min: 0, defaultText: '0.01' }),
    maxGradNorm: number('gradients are clipped to this norm; 0 is off', { min: 0, defaultText: '1' }),
    maxTokensPerBatch: integer('tokens in one micro-batch, a bound on memory', {
      min: 1,
      defaultText: '8192',
    }),
    maxLength: integer('longer examples are left out, and counted', {
      min: 2,
      defaultText: "2048 or the model's context",
    }),
    seed: integer('decides the order of the examples', { min: 0, default: 0 }),
    ...CHAT_OPTIONS,
    ...PREFIX_OPTION,
    metrics: path('file for the metrics of every step (JSON lines)'),
    json: flag('the result as one JSON object on standard output'),
    loraRank: integer('train a new LoRA adapter of this rank on every matrix, not the weights', {
      min: 1,
      max: 65_536,
    }),
    loraAlpha: number('the adapter adds alpha / rank times B A', { above: 0, defaultText: 'twice the rank' }),
    ...ADAPTER_OPTION,
    ...MODEL_OPTIONS,
  } as const satisfies Options;
}
