import { defineCommand } from '../command.js';
import {
  ADAPTER_OPTION,
  CHAT_OPTIONS,
  PREFIX_OPTION,
  READ_AT_OPTION,
  MODEL_OPTIONS,
  choice,
  flag,
  integer,
  path,
  text,
} from '../options.js';

export const rankingCommand = defineCommand({
  name: 'ranking',
  describe: 'ranking accuracy of a reward: how often it puts a right response above a wrong one',
  options: {
    input: path('labelled pairs or groups: JSON lines or Parquet; - is standard input', {
      alias: 'i',
      required: true,
    }),
    reward: choice(
      'what ranks: the DPO reward of model against reference; the lower of that and of the previous policy; the ' +
        'log-likelihood per token, or its sum; a reward model (a sequence classifier); a function of your own',
      ['implicit', 'worst-of', 'likelihood', 'likelihood-sum', 'reward-model', 'module'],
      { default: 'implicit' },
    ),
    model: path('model folder of the policy, or of the reward model', { alias: 'm' }),
    reference: path('model folder of M0, for implicit and worst-of'),
    previous: path('model folder of the policy before, for worst-of'),
    module: path('JavaScript module that exports the reward function, as reward.module of a run'),
    lengthNormalize: flag('implicit and worst-of per token'),
    extract: choice('how rows with a question are worded', ['auto', 'choice', 'number', 'exact'], {
      default: 'auto',
    }),
    ...CHAT_OPTIONS,
    ...PREFIX_OPTION,
    ...READ_AT_OPTION,
    limit: integer('use only the first rows', { min: 1 }),
    maxTokensPerBatch: integer('tokens in one forward pass', { min: 1, defaultText: '16384' }),
    name: text('name of the data', { defaultText: "the file's" }),
    output: path('file for the rewards of every row (JSON lines)', { alias: 'o' }),
    json: flag('the result as one JSON object on standard output'),
    ...ADAPTER_OPTION,
    ...MODEL_OPTIONS,
  },
  examples: [
    ['ranking -i reward-bench.parquet -m ./m2 --reference ./m0', "RewardBench's sections and score"],
    ['ranking -i solutions.jsonl -m ./m2 --reward likelihood', 'groups with {responses, correct}'],
  ],
  notes:
    'Rows are {prompt, chosen, rejected, subset?} or {prompt or question, responses, correct}. A tie counts half. ' +
    'docs/evaluation.md tells what the numbers mean.',
  async run(values, context) {
    const { ranking } = await import('../ranking.js');
    await ranking(values, context);
    return 0;
  },
});
