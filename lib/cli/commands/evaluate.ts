import { defineCommand } from '../command.js';
import {
  ADAPTER_OPTION,
  CHAT_OPTIONS,
  MODEL_OPTIONS,
  choice,
  flag,
  integer,
  number,
  path,
  seed,
  text,
  texts,
} from '../options.js';

export const evaluateCommand = defineCommand({
  name: 'evaluate',
  describe: 'accuracy of a model on held-out problems, with a 95 % interval',
  options: {
    model: path('model folder', { alias: 'm', required: true }),
    task: path(
      'file of problems {question, choices|answer, label}, JSON lines or Parquet; - is standard input; ' +
        "NAME=FILE for the paper's tasks as published: arc-easy, arc-challenge, openbookqa, siqa, gsm8k",
      { alias: 'i', required: true },
    ),
    output: path('file for every answer and its verdict (JSON lines)', { alias: 'o' }),
    name: text('name of the task', { defaultText: "the file's" }),
    scoring: choice(
      "generate: answers are written; options: the likelihood of each option (acc, acc_norm); both; harness: lm-evaluation-harness's numbers for a task by name",
      ['generate', 'options', 'both', 'harness'],
      { default: 'generate' },
    ),
    shots: integer('with harness: examples before every question', {
      min: 0,
      defaultText: "the harness's: 5 for gsm8k, else 0",
    }),
    examples: path('with harness: file of the examples, the training split'),
    sampler: choice('with harness: random: examples drawn anew for every problem; first: the first ones', [
      'random',
      'first',
    ]),
    examplesSeed: integer("of the draws of examples; the harness's is 1234", { min: 0, defaultText: '1234' }),
    extract: choice('how the answer is read', ['auto', 'choice', 'number', 'exact'], { default: 'auto' }),
    maxNewTokens: integer('length limit of an answer', {
      min: 1,
      defaultText: '512, or what the context leaves; 256 with harness',
    }),
    stop: texts('an answer ends before this text, or before the first of a JSON list of texts'),
    samples: integer('sampled answers per problem besides the greedy one', { min: 0, default: 0 }),
    temperature: number('of the sampled answers', { above: 0, defaultText: '1' }),
    topP: number('of the sampled answers', { above: 0, max: 1, defaultText: '1' }),
    limit: integer('use only the first problems', { min: 1 }),
    seed: seed(),
    ...CHAT_OPTIONS,
    json: flag('the result as one JSON object on standard output'),
    ...ADAPTER_OPTION,
    ...MODEL_OPTIONS,
  },
  examples: [
    ['evaluate -m ./model --task gsm8k.test.jsonl', 'greedy accuracy'],
    [
      'evaluate -m ./model --task arc-easy=test-00000-of-00001.parquet --scoring options',
      'acc and acc_norm as lm-evaluation-harness',
    ],
    [
      'evaluate -m ./model --task gsm8k=test.jsonl --scoring harness --examples train.jsonl',
      'its 5-shot exact_match',
    ],
  ],
  async run(values, context) {
    const { evaluateTask } = await import('../evaluate.js');
    await evaluateTask(values, context);
    return 0;
  },
});
